//! One crawler's connection: the only place that knows both lines and the router.
//!
//! | module | holds |
//! |---|---|
//! | lines | lines in: their dialect, what is in flight, what was refused |
//! | out | lines out, and why the router closes |
//! | packed | lines in compressed form, both ways |

mod lines;
mod out;
mod packed;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crawlwire_router::{Origin, Router};
use crawlwire_transport::{
    CloseReason, Connection, ConnectionHandle, ConnectionId, Limits, LineReader, Peer, Permit, Pool,
};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::lines::Serving;
use self::out::Out;
use self::packed::Packing;
use crate::app::CLOSE_GRACE;
use crate::config::Config;
use crate::parts;

/// Messages of one connection that wait for their commit. Enough to fill a batch of the writer, and few enough that a
/// crowd of connections cannot fill the memory.
pub(crate) const IN_FLIGHT_MAX: u32 = 64;

/// When the server stops, a connection is read for no longer than this, however much it says.
pub(crate) const DRAIN_MAX: Duration = Duration::from_millis(1000);

/// Under this name the pool knows the dialect of a connection, once it is decided.
pub(crate) const DIALECT: &str = "dialect";

/// What connections share.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) router: Router,
    pub(crate) pool: Pool,
    pub(crate) limits: Arc<Limits>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) packing: Arc<Packing>,
    pub(crate) tasks: TaskTracker,
    /// The server stops: finish what is in flight.
    pub(crate) drain: CancellationToken,
}

/// What every connection has to keep to.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Invalid lines after which it is closed.
    pub(crate) invalid_max: u32,
    /// Bytes of lines that wait for their commit, beside [`IN_FLIGHT_MAX`].
    pub(crate) in_flight_bytes_max: usize,
    /// Bytes of one line, also when it came in compressed form.
    pub(crate) line_bytes_max: usize,
    /// A peer that never says anything shall not keep its place.
    pub(crate) first_line_timeout: Duration,
    /// Silence at the beginning after which a peer is taken for one of the base protocol.
    pub(crate) hello_timeout: Duration,
    /// Whether everybody on TCP has to show a token.
    pub(crate) tokens_on_tcp: bool,
}

/// The pool's name for a connection that the router knows by number.
pub(crate) fn connection_id(number: u64) -> ConnectionId {
    ConnectionId(number)
}

/// Names this run of this machine, since process numbers and start times come again on another, and after a reboot.
static BOOT: LazyLock<String> = LazyLock::new(|| {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
});

/// Who is at the other end: the same text for every connection of one process. None when the system cannot tell.
fn identity(peer: &Peer) -> Option<String> {
    match peer {
        Peer::Unix(unix) => Some(format!(
            "unix:{}:{}:{}:{}",
            *BOOT, unix.uid, unix.pid?, unix.process_start?
        )),
        Peer::Tcp(_) | Peer::Memory => None,
    }
}

impl Service {
    /// What connections share when this is how the server is configured.
    pub(crate) fn new(config: &Config, router: Router, pool: Pool) -> Self {
        Self {
            router,
            pool,
            limits: Arc::new(parts::limits(config)),
            rules: Arc::new(parts::rules(config)),
            packing: Arc::default(),
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
        }
    }

    /// Serves one connection until it ends, in tasks of its own.
    pub(crate) fn spawn<S>(&self, stream: S, peer: Peer, permit: Permit)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let origin = self.origin(&peer);
        let Connection { handle, reader, writer } = Connection::open(stream, peer, permit.id(), self.limits.clone());
        self.pool.add(permit, handle.clone());
        self.tasks.spawn(writer.run());
        let (service, mut reader) = (self.clone(), reader);
        // Lent, since what an async function takes over is in its future twice.
        self.tasks
            .spawn(async move { service.serve(&handle, &mut reader, origin).await });
    }

    /// What the router is to think of who connects this way.
    fn origin(&self, peer: &Peer) -> Origin {
        match peer {
            Peer::Unix(unix) => Origin::Unix {
                uid: unix.uid,
                gid: unix.gid,
            },
            // What does not leave the machine needs no encryption.
            Peer::Tcp(tcp) if self.rules.tokens_on_tcp => Origin::Tcp {
                tls: tcp.tls || tcp.address.ip().to_canonical().is_loopback(),
            },
            Peer::Tcp(_) => Origin::TcpLoopback,
            Peer::Memory => Origin::Memory,
        }
    }

    async fn serve<S: AsyncRead>(&self, handle: &ConnectionHandle, reader: &mut LineReader<S>, origin: Origin) {
        let out = Arc::new(Out::new(handle.clone(), self.packing.clone()));
        let peer = crawlwire_router::Peer::from(handle.id().0, identity(handle.peer()), origin, out.clone());
        tracing::debug!(connection = peer.connection, peer = %handle.peer(), "connected");
        let mut serving = Serving::new(peer.clone(), handle.clone(), out, self);
        let served = AssertUnwindSafe(serving.until_closed(reader, &self.drain))
            .catch_unwind()
            .await;
        let reason = served.unwrap_or_else(|_| {
            tracing::error!(peer = peer.name(), "serving a connection panicked");
            CloseReason::InternalError
        });
        Box::pin(self.part(&mut serving, &peer, handle, reason)).await;
        // The first reason counts, and ours may have come second.
        let why = handle.close_reason().unwrap_or(reason).as_str();
        let connection = peer.connection;
        match reason {
            CloseReason::PeerClosed | CloseReason::Goodbye | CloseReason::ServerShutdown => {
                tracing::debug!(connection, reason = why, "disconnected");
            }
            _ => tracing::info!(connection, reason = why, "disconnected"),
        }
    }

    /// What is still to be done for a connection that ends.
    async fn part(
        &self,
        serving: &mut Serving,
        peer: &Arc<crawlwire_router::Peer>,
        handle: &ConnectionHandle,
        reason: CloseReason,
    ) {
        // What was taken has its effect, whether or not the peer is still there.
        serving.settle().await;
        // Whoever closed before us has said what there was to say.
        if reason != CloseReason::PeerClosed && handle.close_reason().is_none() {
            let worth_a_try = !matches!(reason, CloseReason::TooManyErrors | CloseReason::WrongProtocol);
            self.router.goodbye(peer, reason.as_str(), worth_a_try).await;
        }
        match reason {
            CloseReason::ServerShutdown => handle.close_within(reason, CLOSE_GRACE),
            _ => handle.close(reason),
        }
        self.router.disconnected(peer).await;
    }
}
