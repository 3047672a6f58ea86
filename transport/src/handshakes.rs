//! TLS handshakes beside the accepting, so that one who stalls holds up nobody.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::history::Refused;
use crate::peer::{Peer, TcpPeer};
use crate::state::CloseReason;
use crate::stream::Stream;
use crate::tls::{TlsServer, subject};

/// Handshakes at a time. One takes a round trip and a millisecond of work, so this is a thousand a
/// second at least; what each needs is some 30 KiB. One more, and the oldest is given up: honest
/// peers are through long before they are the oldest, those who stall are not.
const HANDSHAKES_MAX: usize = 64;

type Outcome = Result<(Stream, Peer), Refused>;

/// Those under way. Dropped, it ends them all.
pub(crate) struct Handshakes {
    acceptor: TlsAcceptor,
    timeout: Duration,
    tasks: JoinSet<Outcome>,
    /// Oldest first; dropping one gives its handshake up.
    leases: VecDeque<oneshot::Sender<()>>,
}

impl Handshakes {
    pub(crate) fn new(tls: &TlsServer, timeout: Duration) -> Self {
        Self {
            acceptor: tls.acceptor(),
            timeout,
            tasks: JoinSet::new(),
            leases: VecDeque::new(),
        }
    }

    pub(crate) fn begin(&mut self, stream: TcpStream, address: SocketAddr) {
        self.leases.retain(|lease| !lease.is_closed());
        if self.leases.len() >= HANDSHAKES_MAX {
            self.leases.pop_front();
        }
        let (lease, crowded_out) = oneshot::channel();
        self.leases.push_back(lease);
        let (acceptor, limit) = (self.acceptor.clone(), self.timeout);
        self.tasks.spawn(async move {
            let shake = timeout(limit, acceptor.accept(stream));
            let why = tokio::select! {
                biased;
                shaken = shake => match shaken {
                    Ok(Ok(stream)) => return Ok(secured(stream.into(), address)),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => format!("the handshake took longer than {} ms", limit.as_millis()),
                },
                _ = crowded_out => "too many handshakes at a time, and this was the oldest".to_owned(),
            };
            let peer = Peer::Tcp(TcpPeer::plain(address));
            Err(Refused::new(peer, CloseReason::TlsFailed, why))
        });
    }

    /// The next one that has ended either way; never when none is under way. Cancel safe.
    pub(crate) async fn next(&mut self) -> Outcome {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(outcome)) => return outcome,
                Some(Err(error)) => tracing::error!(%error, "a TLS handshake panicked"),
                None => std::future::pending().await,
            }
        }
    }
}

fn secured(stream: TlsStream<TcpStream>, address: SocketAddr) -> (Stream, Peer) {
    let shown = stream.get_ref().1.peer_certificates();
    let peer = TcpPeer {
        address,
        tls: true,
        subject: shown.and_then(<[_]>::first).and_then(subject),
    };
    (Stream::Tls(Box::new(stream)), Peer::Tcp(peer))
}

impl fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshakes")
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}
