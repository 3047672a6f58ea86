//! What every message passes, in and out.

use crawlwire_progress::store::BoxFuture;
use crawlwire_protocol::{Envelope, WebAppMessage};

use crate::handler::{Inbound, Processed};
use crate::peer::Peer;

/// What a hook that comes before decides.
#[derive(Debug, Clone)]
pub enum Verdict<T> {
    /// Go on with this, changed or not.
    Pass(T),
    /// Forget it quietly.
    Drop,
    /// Refuse it, with a reason for the log and the error list. The reason must not quote the message.
    Refuse(String),
    /// The same, with what the peer is told: a stable name, whether to try again and when, whether the connection ends.
    /// A message that is to be tried again uses up no number.
    Fail(Box<Processed>),
}

/// Four hooks around messages. Higher priority is further out: it comes first on the way in and last on the way back.
///
/// A panic in a hook costs one message.
pub trait Middleware: Send + Sync {
    /// For logs.
    fn name(&self) -> &str;

    /// Higher comes first; the API reference's authentication example has 1000 (line 207).
    fn priority(&self) -> i32 {
        0
    }

    /// Before the handlers see a message; may change, drop or refuse it.
    fn before_process<'a>(&'a self, peer: &'a Peer, message: Inbound) -> BoxFuture<'a, Verdict<Inbound>> {
        let _ = peer;
        Box::pin(std::future::ready(Verdict::Pass(message)))
    }

    /// After a message was processed, and committed if it had an effect.
    fn after_process<'a>(&'a self, peer: &'a Peer, type_name: &'a str, processed: &'a Processed) -> BoxFuture<'a, ()> {
        let _ = (peer, type_name, processed);
        Box::pin(std::future::ready(()))
    }

    /// Before a message goes out; may change, drop or refuse it.
    fn before_send<'a>(
        &'a self,
        peer: &'a Peer,
        message: Envelope<WebAppMessage>,
    ) -> BoxFuture<'a, Verdict<Envelope<WebAppMessage>>> {
        let _ = peer;
        Box::pin(std::future::ready(Verdict::Pass(message)))
    }

    /// After a message was handed to the connection, or could not be.
    fn after_send<'a>(&'a self, peer: &'a Peer, type_name: &'a str, sent: bool) -> BoxFuture<'a, ()> {
        let _ = (peer, type_name, sent);
        Box::pin(std::future::ready(()))
    }
}
