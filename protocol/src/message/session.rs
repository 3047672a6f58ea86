//! What is said in a session about the session itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Slots;
use crate::limits::{RETRY_AFTER_MS_MAX, VIOLATIONS_MAX};
use crate::{Category, Count, List, Millis, Name, Seq, Severity, Text, Whole, Words, present};

/// From now on give me up to this many jobs at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobRequest {
    /// How many; 0 for none.
    pub slots: Slots,
}

/// The host of a job limits requests: no job of its account and host starts for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ApiLimited {
    /// For how long, in milliseconds; at most a day.
    pub retry_after_ms: Whole<0, RETRY_AFTER_MS_MAX>,
    /// Requests that the host allows in its window.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Count"))]
    pub limit: Option<Count>,
    /// Requests left in it.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Count"))]
    pub remaining: Option<Count>,
}

/// The crawler leaves in good order; jobs it still holds go back to the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Goodbye {
    /// Why, for people.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Words"))]
    pub reason: Option<Words>,
}

/// The last line before the server closes the connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServerGoodbye {
    /// Why: the stable name of a close reason.
    pub reason: Name,
    /// Whether it makes sense to come back.
    pub reconnect: bool,
    /// No sooner than after this long.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Millis"))]
    pub reconnect_after_ms: Option<Millis>,
}

/// The server is about to stop: no new jobs; come back later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Draining {
    /// Why, for people.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Words"))]
    pub reason: Option<Words>,
    /// When to come back, counted from now; each crawler is told another time.
    pub reconnect_after_ms: Millis,
    /// When the connection is closed at the latest, counted from now.
    pub deadline_ms: Millis,
}

/// How often to report.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self")]
pub struct ReportPolicy {
    /// The shortest time between two `job_progress` of one job.
    pub progress_interval_ms: Millis,
}

/// This lasting message and all before it are durable and settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ack {
    /// The highest settled number.
    pub seq: Seq,
}

/// A message was refused.
///
/// Final and with a number, it settles that number and all before it: never send it again. Retryable and with a number,
/// the number is still free: wait, then send it and all after it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ErrorReply {
    /// The number of the refused message, when it was a lasting one.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Seq"))]
    pub seq: Option<Seq>,
    /// A stable name for programs.
    pub code: Name,
    /// One of the twelve categories.
    pub category: Name,
    /// One of the four severities.
    pub severity: Name,
    /// A sentence for people.
    pub message: Words,
    /// The broken rules, when the message was not valid.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "List<BrokenRule, VIOLATIONS_MAX>"))]
    pub violations: Option<List<BrokenRule, VIOLATIONS_MAX>>,
    /// Whether sending it again may help.
    pub retryable: bool,
    /// No sooner than after this long.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Millis"))]
    pub retry_after_ms: Option<Millis>,
}

impl ErrorReply {
    /// A final refusal without a number.
    pub fn new(code: &str, category: Category, severity: Severity, message: impl Into<String>) -> Self {
        Self {
            seq: None,
            code: Name::cut(code),
            category: Name::cut(category.as_str()),
            severity: Name::cut(severity.as_str()),
            message: Words::cut(message),
            violations: None,
            retryable: false,
            retry_after_ms: None,
        }
    }
}

/// A rule that a refused message breaks. It names the place and the rule, never what stood there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self")]
pub struct BrokenRule {
    /// A JSON pointer (RFC 6901) to the place, cut to 1,000 characters.
    pub path: Words,
    /// The rule, in words.
    pub message: Words,
}

#[cfg(feature = "explain")]
impl From<crate::explain::Violation> for BrokenRule {
    fn from(violation: crate::explain::Violation) -> Self {
        Self {
            path: Words::cut(violation.path),
            message: Words::cut(violation.message),
        }
    }
}

/// What a ping and its pong share.
pub type Nonce = Text<0, 64>;

/// Are you there?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ping {
    /// Comes back in the pong.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Nonce"))]
    pub nonce: Option<Nonce>,
}

/// I am.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pong {
    /// What the ping had.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Nonce"))]
    pub nonce: Option<Nonce>,
}

/// The encoding that [`Compressed::encoding`] names.
pub const ZSTD: &str = "zstd";

/// Another line, made smaller. That line is what counts, and it is not `compressed` itself.
///
/// It may hold a token, so its `Debug` leaves the frame out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Compressed {
    /// How: `zstd`.
    pub encoding: Name,
    /// Bytes of the plain line without its newline.
    pub size: Count,
    /// The compressed line in base64 (RFC 4648, section 4).
    pub frame: String,
}

impl fmt::Debug for Compressed {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter
            .debug_struct("Compressed")
            .field("encoding", &self.encoding)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
