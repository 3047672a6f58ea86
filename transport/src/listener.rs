//! Binds and accepts, over both kinds of socket.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream, lookup_host};
use tokio::sync::Mutex;

use crate::endpoint::Endpoint;
use crate::handshakes::Handshakes;
use crate::history::Refused;
use crate::keepalive::{Keepalive, prepare};
use crate::peer::{Peer, PeerAllow, TcpPeer, UnixPeer};
use crate::socket_file::SocketFile;
use crate::state::CloseReason;
use crate::stream::Stream;
use crate::tls::TlsServer;

/// How to listen.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// Mode of a Unix socket file. Default 0600: only the server's own user (deployment guide,
    /// line 544). 0660 together with `group` lets others in.
    pub mode: u32,
    /// Group id given to a Unix socket file and to directories made for it. Default: unchanged.
    pub group: Option<u32>,
    /// Connections the system holds before they are accepted; it may lower this. Default 511
    /// (API reference, line 304). At least 1.
    pub backlog: u32,
    /// Who may connect to a Unix socket. Default: whoever the file's mode lets in.
    pub allowed: Option<PeerAllow>,
    /// TLS on TCP. Default: none, and then only loopback addresses can be listened on.
    pub tls: Option<TlsServer>,
    /// How long a TLS handshake may take. Default 10 s: some round trips around the world and a
    /// busy peer.
    pub handshake_timeout: Duration,
    /// Probes of silent TCP connections. Default: [`Keepalive::default`].
    pub keepalive: Option<Keepalive>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            mode: 0o600,
            group: None,
            backlog: 511,
            allowed: None,
            tls: None,
            handshake_timeout: Duration::from_secs(10),
            keepalive: Some(Keepalive::default()),
        }
    }
}

/// Why an endpoint cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("{address} is in use: {found}; stop the other server or choose another address")]
    AddressInUse {
        /// The path or address.
        address: String,
        /// How that showed.
        found: &'static str,
    },
    /// Something other than a socket is in the way. It is never deleted.
    #[error("{} exists and is not a socket; move it away or choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The place of the lock file is taken by something that is not a plain file.
    #[error("{} exists and is not a plain file, so it cannot be the lock file; remove it", path.display())]
    NotALockFile {
        /// The path of the lock file.
        path: PathBuf,
    },
    /// A socket path longer than the system takes.
    #[error("the socket path {} has {len} bytes and the system takes at most {max}; choose a shorter one", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        len: usize,
        /// The longest possible.
        max: usize,
    },
    /// A TCP address others could reach. Without TLS, tokens would cross the network in the clear.
    #[error("{host} means {address}, which is not a loopback address; without TLS, TCP is for this machine only")]
    NotLoopback {
        /// The host as configured.
        host: String,
        /// The address it stands for.
        address: SocketAddr,
    },
    /// A host name without an address.
    #[error("{0} has no address")]
    NoAddress(String),
    /// The system refused.
    #[error("could not {action} {address}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        address: String,
        /// What the system says.
        source: io::Error,
    },
}

/// A listening socket. Dropping it stops listening; a Unix socket file is deleted if it is still
/// the one this listener made.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    allowed: Option<PeerAllow>,
    keepalive: Option<Keepalive>,
    /// With TLS only. Locked while waiting for the next connection.
    handshakes: Option<Mutex<Handshakes>>,
    accept_errors: AtomicU64,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener, SocketAddr),
}

impl Listener {
    /// Binds and listens.
    ///
    /// A missing parent directory of a Unix socket is made with mode 0750. A stale socket file is
    /// replaced. Files are touched with short blocking calls: meant for start-up.
    ///
    /// # Errors
    /// See [`BindError`].
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing listening; a lock file or directories may remain.
    pub async fn bind(endpoint: &Endpoint, options: &ListenOptions) -> Result<Self, BindError> {
        let socket = match endpoint {
            Endpoint::Unix(path) => {
                let (listener, file) = SocketFile::bind(path, options).await?;
                Socket::Unix(listener, file)
            }
            Endpoint::Tcp { host, port } => {
                let address = address_of(host, *port, options.tls.is_some()).await?;
                let (listener, local) = bind_tcp(address, options.backlog).map_err(|e| tcp_error(address, e))?;
                Socket::Tcp(listener, local)
            }
        };
        let tls = options.tls.as_ref().filter(|_| matches!(socket, Socket::Tcp(..)));
        Ok(Self {
            socket,
            allowed: options.allowed.clone(),
            keepalive: options.keepalive,
            handshakes: tls.map(|tls| Mutex::new(Handshakes::new(tls, options.handshake_timeout))),
            accept_errors: AtomicU64::new(0),
        })
    }

    /// Where it listens: an absolute path, or an address with the port the system chose.
    pub fn local_addr(&self) -> Endpoint {
        match &self.socket {
            Socket::Unix(_, file) => Endpoint::Unix(file.path().to_owned()),
            Socket::Tcp(_, local) => Endpoint::Tcp {
                host: local.ip().to_string(),
                port: local.port(),
            },
        }
    }

    /// The next connection; whoever is not let in is logged and passed over. Otherwise as
    /// [`Listener::next`].
    ///
    /// # Cancel safety
    /// A dropped call loses no connection.
    pub async fn accept(&self) -> (Stream, Peer) {
        loop {
            match self.next().await {
                Ok(accepted) => return accepted,
                Err(refused) => tracing::info!(%refused, "connection refused"),
            }
        }
    }

    /// The next connection, or who was not let in and why; call it again either way.
    ///
    /// An error of the system, such as too many open files, is logged and counted, and after a
    /// pause of 10 ms that doubles up to 1 s the next try is made. TLS handshakes are made beside
    /// each other, at most 64 at a time: with one more, the oldest is given up. They go on while
    /// nobody waits here.
    ///
    /// # Errors
    /// [`Refused`], which is for [`Pool::note_refused`](crate::Pool::note_refused) and a log.
    ///
    /// # Cancel safety
    /// A dropped call loses no connection.
    pub async fn next(&self) -> Result<(Stream, Peer), Refused> {
        match (&self.socket, &self.handshakes) {
            (Socket::Unix(listener, _), _) => {
                let accept = || accept_unix(listener);
                let (stream, peer) = accept_with_backoff(&self.accept_errors, accept).await;
                self.admit(stream, peer)
            }
            (Socket::Tcp(listener, _), None) => {
                let (stream, address) = self.accept_tcp(listener).await;
                Ok((Stream::Tcp(stream), Peer::Tcp(TcpPeer::plain(address))))
            }
            (Socket::Tcp(listener, _), Some(handshakes)) => {
                let mut handshakes = handshakes.lock().await;
                loop {
                    tokio::select! {
                        done = handshakes.next() => return done,
                        (stream, address) = self.accept_tcp(listener) => handshakes.begin(stream, address),
                    }
                }
            }
        }
    }

    fn admit(&self, stream: UnixStream, peer: UnixPeer) -> Result<(Stream, Peer), Refused> {
        match &self.allowed {
            Some(allowed) if !allowed.admits(&peer) => {
                let detail = format!("neither user {} nor group {} is allowed", peer.uid, peer.gid);
                Err(Refused::new(Peer::Unix(peer), CloseReason::PeerNotAllowed, detail))
            }
            _ => Ok((Stream::Unix(stream), Peer::Unix(peer))),
        }
    }

    async fn accept_tcp(&self, listener: &TcpListener) -> (TcpStream, SocketAddr) {
        accept_with_backoff(&self.accept_errors, || async {
            // No await after the one that takes the connection, or a dropped call could lose it.
            let (stream, address) = listener.accept().await?;
            prepare(&stream, self.keepalive).map_err(gone)?;
            Ok((stream, address))
        })
        .await
    }

    /// How often accepting has failed so far.
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }
}

async fn accept_unix(listener: &UnixListener) -> io::Result<(UnixStream, UnixPeer)> {
    // No await after the one that takes the connection, or a dropped call could lose it.
    let (stream, _) = listener.accept().await?;
    let peer = UnixPeer::of(&stream).map_err(gone)?;
    Ok((stream, peer))
}

/// A new connection that cannot even be asked about is one that ended already.
fn gone(error: io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, error)
}

const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

async fn accept_with_backoff<T, F: Future<Output = io::Result<T>>>(
    errors: &AtomicU64,
    mut accept: impl FnMut() -> F,
) -> T {
    let mut pause = BACKOFF_MIN;
    loop {
        let error = match accept().await {
            Ok(accepted) => return accepted,
            Err(error) => error,
        };
        errors.fetch_add(1, Ordering::Relaxed);
        // These concern one peer that left early; pausing for them would let it slow down others.
        let one_peer = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
        );
        if one_peer {
            tracing::debug!(%error, "a connection ended before it was accepted");
            // Also when the system has a whole row of them, other tasks get their turn.
            tokio::task::yield_now().await;
            continue;
        }
        tracing::warn!(%error, pause_ms = pause.as_millis(), "could not accept a connection");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}

/// The address to bind. Without TLS, every address the host stands for must be a loopback one.
async fn address_of(host: &str, port: u16, tls: bool) -> Result<SocketAddr, BindError> {
    let resolved = lookup_host((host, port)).await;
    let addresses: Vec<SocketAddr> = resolved
        .map_err(|source| BindError::Io {
            action: "resolve",
            address: host.to_owned(),
            source,
        })?
        .collect();
    if !tls && let Some(address) = addresses.iter().find(|a| !a.ip().is_loopback()) {
        return Err(BindError::NotLoopback {
            host: host.to_owned(),
            address: *address,
        });
    }
    // IPv4 first, as most clients try it for "localhost" when IPv6 does not answer.
    let v4 = addresses.iter().find(|a| a.is_ipv4());
    v4.or(addresses.first())
        .copied()
        .ok_or_else(|| BindError::NoAddress(host.to_owned()))
}

fn bind_tcp(address: SocketAddr, backlog: u32) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait for the old connections' TIME_WAIT to pass.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(backlog.max(1))?;
    let local = listener.local_addr()?;
    Ok((listener, local))
}

fn tcp_error(address: SocketAddr, source: io::Error) -> BindError {
    let address = address.to_string();
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::AddressInUse {
            address,
            found: "another process listens there",
        },
        _ => BindError::Io {
            action: "listen on",
            address,
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::Instant;

    use super::*;

    /// Accepts from a script of errors; `None` is a connection.
    async fn run(script: Vec<Option<i32>>) -> (Duration, u64) {
        let errors = AtomicU64::new(0);
        let started = Instant::now();
        let script = RefCell::new(script.into_iter());
        accept_with_backoff(&errors, || {
            let next = script.borrow_mut().next().expect("script goes on");
            async move { next.map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code))) }
        })
        .await;
        (started.elapsed(), errors.into_inner())
    }

    const EMFILE: i32 = 24;

    #[tokio::test(start_paused = true)]
    async fn the_pause_doubles_from_10_ms_to_1_s() {
        let (elapsed, errors) = run(vec![Some(EMFILE), Some(EMFILE), Some(EMFILE), None]).await;
        assert_eq!((elapsed, errors), (Duration::from_millis(10 + 20 + 40), 3));
        let mut script = vec![Some(EMFILE); 9];
        script.push(None);
        let (elapsed, _) = run(script).await;
        let want = 10 + 20 + 40 + 80 + 160 + 320 + 640 + 1000 + 1000;
        assert_eq!(elapsed, Duration::from_millis(want));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_left_costs_no_pause() {
        let aborted = io::ErrorKind::ConnectionAborted;
        let errors = AtomicU64::new(0);
        let left = RefCell::new(100);
        let started = Instant::now();
        accept_with_backoff(&errors, || {
            *left.borrow_mut() -= 1;
            let done = *left.borrow() == 0;
            async move { if done { Ok(()) } else { Err(aborted.into()) } }
        })
        .await;
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert_eq!(errors.into_inner(), 99);
    }
}
