//! Why a line is not a message.

use crate::error::{Category, Classify, Severity};

/// Why a line is not a message. It names a place and a kind, never what stood there: a line may hold a token.
///
/// All violations with their JSON pointers come from `explain` (feature `explain`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at column {column}")]
pub struct DecodeError {
    /// What is wrong.
    pub kind: DecodeErrorKind,
    /// Where reading stopped, roughly: the byte's number in the line, counted from 1; 0 when no place can be named.
    pub column: usize,
}

/// The kinds of [`DecodeError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DecodeErrorKind {
    /// The bytes are not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// More than [`NESTING_MAX`](crate::limits::NESTING_MAX) levels.
    #[error("nested too deeply")]
    TooDeep,
    /// The text is not JSON.
    #[error("not JSON")]
    NotJson,
    /// The JSON breaks a rule of the protocol.
    #[error("not a valid message")]
    Invalid,
}

impl Classify for DecodeError {
    fn category(&self) -> Category {
        match self.kind {
            DecodeErrorKind::Invalid => Category::MessageValidation,
            _ => Category::MessageParsing,
        }
    }

    fn severity(&self) -> Severity {
        Severity::Low
    }

    fn code(&self) -> &'static str {
        match self.kind {
            DecodeErrorKind::NotUtf8 => "not_utf8",
            DecodeErrorKind::TooDeep => "nested_too_deeply",
            DecodeErrorKind::NotJson => "not_json",
            DecodeErrorKind::Invalid => "invalid_message",
        }
    }
}
