//! What handles messages. The built-in handlers have priority 0; one of your own with more runs first, and its success
//! ends the matter.

use std::time::Duration;

use crawlwire_progress::store::BoxFuture;
use crawlwire_protocol::{CrawlerMessage, Decoded, Envelope, JobId, WebAppMessage};
use serde_json::Value;

use crate::context::Context;

/// A message that came in.
pub type Inbound = Decoded<CrawlerMessage>;

/// The job a message names.
pub fn job_id(message: &Inbound) -> Option<&JobId> {
    match message {
        Decoded::Known(envelope) => envelope.job_id.as_ref(),
        Decoded::Custom(custom) => custom.job_id.as_ref(),
    }
}

/// What became of a message (API reference, lines 180 to 190 and 918 to 926).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Processed {
    /// Whether it had the effect it asked for.
    pub success: bool,
    /// Anything the handler wants to tell middleware.
    pub data: Option<Value>,
    /// Why not.
    pub error: Option<String>,
    /// Whether trying again may help.
    pub should_retry: bool,
    /// And no sooner than after this long.
    pub retry_after: Option<Duration>,
    /// What to answer the peer.
    pub reply: Option<Envelope<WebAppMessage>>,
}

impl Processed {
    /// It had its effect.
    pub fn done() -> Self {
        Self {
            success: true,
            ..Self::default()
        }
    }

    /// It had none.
    pub fn failed(error: impl Into<String>) -> Self {
        Self {
            error: Some(error.into()),
            ..Self::default()
        }
    }

    /// It had its effect, and the peer gets an answer.
    pub fn reply(envelope: Envelope<WebAppMessage>) -> Self {
        Self {
            reply: Some(envelope),
            ..Self::done()
        }
    }
}

/// How far a handler is when it returns.
#[expect(
    clippy::large_enum_variant,
    reason = "moved once per message; a box would cost an allocation each"
)]
pub enum Handled {
    /// At the end.
    Done(Processed),
    /// It gave something to the store; the rest follows the commit.
    Pending(BoxFuture<'static, Processed>),
}

impl std::fmt::Debug for Handled {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Done(processed) => formatter.debug_tuple("Done").field(processed).finish(),
            Self::Pending(_) => formatter.write_str("Pending"),
        }
    }
}

/// Handles messages of the types it is registered for.
///
/// Messages of one connection are handled in order: `handle` is awaited before the next message is looked at, so it
/// should hand long work to [`Handled::Pending`]. A panic costs one message.
pub trait Handler: Send + Sync {
    /// Whether this one is for it. May look at the body.
    fn can_handle(&self, message: &Inbound) -> bool {
        let _ = message;
        true
    }

    /// Higher is asked first. The built-in handlers have 0.
    fn priority(&self) -> i32 {
        0
    }

    /// Handles one message.
    fn handle<'a>(&'a self, context: &'a Context, message: &'a Inbound) -> BoxFuture<'a, Handled>;
}
