//! The way out: through the middleware, in the dialect of the peer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crawlwire_protocol::message::{Draining, ServerGoodbye, Shutdown};
use crawlwire_protocol::{Category, Envelope, Marks, Message, Millis, Name, Severity, WebAppMessage, Words, encode};
use futures_util::FutureExt;

use crate::middleware::{Middleware, Verdict};
use crate::peer::{Closing, Peer, SendError};
use crate::router::Router;
use crate::shared::{Shared, chance};

/// Before a peer that was cut off comes back, so that it does not do so in a loop; at most twice this, and less where it
/// would lose its jobs meanwhile.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// However soon it loses them.
const RECONNECT_MIN: Duration = Duration::from_millis(100);

impl Router {
    /// Sends one message to a peer, through the middleware. A peer of the base dialect is sent no type, and no part of one,
    /// that is not of that dialect.
    ///
    /// # Errors
    /// When the connection's queue is full or the connection is gone, or the message was withheld.
    pub async fn send(&self, peer: &Arc<Peer>, message: Envelope<WebAppMessage>) -> Result<(), SendError> {
        send(&self.shared, peer, message).await
    }

    /// Tells a peer of the session dialect, with the last line it gets, why its connection ends; others are told nothing.
    /// `reason` is the stable name of a reason. Whoever calls closes the connection.
    pub async fn goodbye(&self, peer: &Arc<Peer>, reason: &str, reconnect: bool) {
        goodbye(&self.shared, peer, reason, reconnect).await;
    }

    /// Gives out no more jobs, and tells every peer that the server is about to stop: crawlers of the session dialect when
    /// to come back, each at another time, and those of the base dialect that it shuts down. Their connections are to be
    /// closed within `deadline`. Says how many were told.
    pub async fn drain(&self, deadline: Duration, reason: &str) -> usize {
        self.stop_dispatching();
        let mut told = 0;
        for peer in self.peers() {
            let message = if peer.speaks_session() {
                self.draining(deadline, reason)
            } else {
                WebAppMessage::Shutdown(Shutdown {
                    graceful: true,
                    timeout_seconds: deadline.as_secs_f64(),
                    reason: Some(reason.to_owned()),
                })
            };
            told += usize::from(self.send(&peer, Envelope::now(message)).await.is_ok());
        }
        told
    }

    pub(crate) fn draining(&self, deadline: Duration, reason: &str) -> WebAppMessage {
        let latest = half_grace(&self.shared);
        let earliest = deadline.min(latest / 2);
        WebAppMessage::Draining(Draining {
            reason: Some(Words::cut(reason)),
            reconnect_after_ms: Millis::from(earliest + (latest - earliest).mul_f64(chance())),
            deadline_ms: Millis::from(deadline),
        })
    }
}

/// Whoever is told to come back within it keeps its jobs, even if other servers share the database: the other half is for
/// the way, and for a server that is slow to answer.
fn half_grace(shared: &Shared) -> Duration {
    shared.config.policy.reattach_grace / 2
}

/// Sends one message through the chain of middleware.
pub(crate) async fn send(
    shared: &Shared,
    peer: &Arc<Peer>,
    mut message: Envelope<WebAppMessage>,
) -> Result<(), SendError> {
    let chain = shared.chain();
    let type_name = message.message.kind().as_str();
    for middleware in chain.iter() {
        match guarded(&**middleware, async { middleware.before_send(peer, message).await }).await {
            Some(Verdict::Pass(passed)) => message = passed,
            Some(Verdict::Drop | Verdict::Fail(_)) | None => return Err(SendError::Withheld),
            Some(Verdict::Refuse(reason)) => {
                refused(shared, peer, &reason);
                return Err(SendError::Withheld);
            }
        }
    }
    let sent = hand_over(peer, message);
    for middleware in chain.iter().rev() {
        guarded(&**middleware, async {
            middleware.after_send(peer, type_name, sent.is_ok()).await
        })
        .await;
    }
    sent
}

/// The one place where lines leave: what a dialect does not know stays here.
fn hand_over(peer: &Peer, mut message: Envelope<WebAppMessage>) -> Result<(), SendError> {
    let kind = message.message.kind();
    if !peer.speaks_session() {
        if WebAppMessage::is_extension(kind) {
            tracing::debug!(peer = peer.name(), kind = kind.as_str(), "not of the peer's dialect");
            return Err(SendError::Withheld);
        }
        message.marks = Marks::default();
        if let WebAppMessage::JobAssignment(assignment) = &mut message.message {
            (assignment.checkpoint, assignment.counts, assignment.attempt) = (None, None, None);
        }
    }
    match encode(&message) {
        Ok(line) => peer.outbound().try_send(Bytes::from(line)),
        Err(error) => {
            tracing::error!(%error, kind = kind.as_str(), "message cannot be written");
            Err(SendError::Closed)
        }
    }
}

async fn goodbye(shared: &Shared, peer: &Arc<Peer>, reason: &str, reconnect: bool) {
    if !peer.speaks_session() || !peer.parts() {
        return;
    }
    let earliest = RECONNECT_AFTER.min(half_grace(shared) / 2).max(RECONNECT_MIN);
    let goodbye = WebAppMessage::Goodbye(ServerGoodbye {
        reason: Name::cut(reason),
        reconnect,
        reconnect_after_ms: reconnect.then(|| Millis::from(earliest.mul_f64(1.0 + chance()))),
    });
    if let Err(error) = send(shared, peer, Envelope::now(goodbye)).await {
        tracing::debug!(peer = peer.name(), %error, "goodbye not sent");
    }
}

/// Says goodbye and ends the connection.
pub(crate) async fn part(shared: &Shared, peer: &Arc<Peer>, why: Closing) {
    tracing::info!(peer = peer.name(), reason = why.as_str(), "connection is to end");
    goodbye(shared, peer, why.as_str(), why.reconnect()).await;
    peer.outbound().close(why);
}

pub(crate) fn refused(shared: &Shared, peer: &Peer, reason: &str) {
    let kind = (Category::Authentication, Severity::Low);
    shared.log_error(peer, kind, "refused_by_middleware", None, reason);
}

/// Calls a hook; None when it panicked, in the call itself or in its future.
pub(crate) async fn guarded<T>(middleware: &dyn Middleware, hook: impl Future<Output = T>) -> Option<T> {
    let outcome = AssertUnwindSafe(hook).catch_unwind().await;
    outcome
        .inspect_err(|_| tracing::error!(middleware = middleware.name(), "middleware panicked"))
        .ok()
}
