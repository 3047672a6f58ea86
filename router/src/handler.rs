//! What handles messages. The built-in handlers have priority 0; one of your own with more runs first, and its success
//! ends the matter.

use std::time::Duration;

use crawlwire_progress::store::BoxFuture;
use crawlwire_protocol::message::BrokenRule;
use crawlwire_protocol::{
    Category, CrawlerMessage, Decoded, Envelope, JobId, Marks, Message, Seq, Severity, WebAppMessage,
};
use serde_json::Value;

use crate::code;
use crate::context::Context;
use crate::peer::Closing;

/// A message that came in.
pub type Inbound = Decoded<CrawlerMessage>;

/// A message, and what stands for the line that it came in.
#[derive(Debug, Clone)]
pub struct Received {
    /// The message.
    pub message: Inbound,
    /// See [`fingerprint`](crawlwire_protocol::fingerprint). Only numbered messages of the session dialect need one.
    pub fingerprint: Option<i64>,
}

impl From<Inbound> for Received {
    fn from(message: Inbound) -> Self {
        Self {
            message,
            fingerprint: None,
        }
    }
}

/// Why a line had no effect, as the peer of a session is told and as it is logged. Nothing in it may quote the line.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// A stable name.
    pub code: &'static str,
    /// Which part of the system.
    pub category: Category,
    /// How bad.
    pub severity: Severity,
    /// A sentence for people.
    pub message: String,
    /// Places and rules, for a line that broke some.
    pub violations: Vec<BrokenRule>,
}

impl Refused {
    /// Without places.
    pub fn new(code: &'static str, (category, severity): (Category, Severity), message: impl Into<String>) -> Self {
        Self {
            code,
            category,
            severity,
            message: message.into(),
            violations: Vec::new(),
        }
    }
}

/// The job a message names.
pub fn job_id(message: &Inbound) -> Option<&JobId> {
    match message {
        Decoded::Known(envelope) => envelope.job_id.as_ref(),
        Decoded::Custom(custom) => custom.job_id.as_ref(),
    }
}

/// The marks of a message.
pub(crate) fn marks(message: &Inbound) -> Marks {
    match message {
        Decoded::Known(envelope) => envelope.marks,
        Decoded::Custom(custom) => custom.marks,
    }
}

/// The number that a message uses up: that of a lasting one, or of one of a type that we do not know, which may be
/// lasting for its sender. On others a number means nothing.
pub(crate) fn seq(message: &Inbound) -> Option<Seq> {
    match message {
        Decoded::Known(envelope) if !CrawlerMessage::lasting(envelope.message.kind()) => None,
        other => marks(other).seq,
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
    /// What a peer of the session dialect is told when it had no effect. None says that a handler refused it, and no more.
    pub refused: Option<Box<Refused>>,
    /// Whether the connection ends after the answer, and why.
    pub close: Option<Closing>,
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

    /// It had none, for a reason that has a name.
    pub fn refused(code: &'static str, kind: (Category, Severity), message: impl Into<String>) -> Self {
        Refused::new(code, kind, message).into()
    }

    /// The same, and trying again may help after a time.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self {
            should_retry: true,
            retry_after: Some(wait),
            ..self
        }
    }

    /// The stable name of the reason why it had no effect, if it had none.
    pub(crate) fn code(&self) -> Option<&'static str> {
        let named = self.refused.as_ref().map_or(code::REFUSED, |refused| refused.code);
        (!self.success).then_some(named)
    }

    /// It had its effect, and the peer gets an answer.
    pub fn reply(envelope: Envelope<WebAppMessage>) -> Self {
        Self {
            reply: Some(envelope),
            ..Self::done()
        }
    }
}

impl From<Refused> for Processed {
    fn from(refused: Refused) -> Self {
        Self {
            refused: Some(Box::new(refused.clone())),
            ..Self::failed(refused.message)
        }
    }
}

/// What became of a line, to be [concluded](crate::Router::conclude) in the order of the lines.
#[derive(Debug)]
pub struct Answered {
    pub(crate) type_name: String,
    pub(crate) job: Option<JobId>,
    pub(crate) seq: Option<u64>,
    pub(crate) processed: Processed,
    /// Whether the line was no message, so that no middleware saw it.
    pub(crate) invalid: bool,
    /// Whether the number was settled before.
    pub(crate) repeated: bool,
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
