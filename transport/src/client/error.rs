//! What can go wrong for a crawler, by what it was doing.

use std::io;

use super::instance::InstanceError;

/// Why a client could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// An option is out of its range.
    #[error("{option}: {problem}")]
    BadOption {
        /// Which one.
        option: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The file of the instance cannot be used.
    #[error("the instance file: {0}")]
    Instance(#[from] InstanceError),
    /// There is a token, and the connection could be read by others: it is sent over TLS or a Unix socket only.
    #[error("a token is sent over TLS or a Unix socket only")]
    TokenNeedsPrivacy,
    /// The server does not want this crawler.
    #[error("the server refused: {0}")]
    Refused(Refusal),
    /// Nobody answered within `connect_timeout`; this is what the last attempt met.
    #[error("no server: {0}")]
    Unreachable(io::Error),
}

/// What the server said against something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// The stable name of the error, such as `stale` or `invalid_token`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(code: &str, message: &str) -> Self {
        Self {
            code: code.to_owned(),
            message: message.to_owned(),
        }
    }

    /// Whether it says that the job is not this crawler's.
    pub(super) fn means_lost(&self) -> bool {
        matches!(self.code.as_str(), "stale" | "not_held" | "not_found")
    }
}

/// Why a client ended. There will be no more jobs and nothing more is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// It was told to, or everybody had dropped it.
    #[error("the client was shut down")]
    Shutdown,
    /// Another connection with the same instance id took its place.
    #[error("another crawler with the same instance id took over")]
    Replaced,
    /// The server does not want this crawler any more, for example because its token was revoked.
    #[error("the server refused: {0}")]
    Refused(Refusal),
    /// A new instance had to be begun, and could not be written down.
    #[error("the instance file: {0}")]
    Instance(String),
    /// The client's own task ended, with the runtime it lived on or by a defect.
    #[error("the client's task is gone")]
    Gone,
}

impl Closed {
    /// By a goodbye after which nobody is to come back.
    pub(super) fn by_goodbye(reason: &str) -> Self {
        match reason {
            "replaced" => Self::Replaced,
            _ => Self::Refused(Refusal::new(reason, "the server ended the session")),
        }
    }
}

/// Why something said about a job has no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The job is not this crawler's any more: its lease is over, or the server gave it to somebody else.
    #[error("the job is not this crawler's any more")]
    Lost,
    /// The server refused it for another reason.
    #[error("the server refused: {0}")]
    Refused(Refusal),
    /// It does not fit in one message.
    #[error("{bytes} bytes are more than a message may have ({limit})")]
    TooLarge {
        /// How many bytes the line would have.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// It cannot be written as JSON, or is no object where one is needed.
    #[error("it cannot be written: {0}")]
    NotWritable(String),
    /// The client has ended.
    #[error("{0}")]
    Closed(#[from] Closed),
}

impl From<Refusal> for ReportError {
    fn from(refusal: Refusal) -> Self {
        if refusal.means_lost() {
            Self::Lost
        } else {
            Self::Refused(refusal)
        }
    }
}

/// Why there is no new token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// The server has none: fail the job.
    #[error("there is no new token")]
    Refused,
    /// No answer within `request_timeout`.
    #[error("no answer in time")]
    TimedOut,
    /// The job is not this crawler's any more.
    #[error("the job is not this crawler's any more")]
    Lost,
    /// The client has ended.
    #[error("{0}")]
    Closed(#[from] Closed),
}

/// What a checkpoint is that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the checkpoint cannot be read: {0}")]
pub struct CheckpointError(#[from] pub(super) serde_json::Error);
