//! Every limit of a connection, with its unit and the reason for its default.

use std::time::Duration;

use crate::budget::Budget;

/// Limits of one connection. Fixed when the connection is opened.
///
/// What one connection can hold is bounded by `max_line_bytes + read_buffer_bytes` for input (twice
/// that while the buffer grows) and `max_queued_bytes` plus one message for output. That times a
/// pool's limit is a lot, so what many connections hold at once is bounded again, far lower, by the
/// [`Budget`] they share. An idle connection holds no buffer at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest accepted line in bytes, without its line ending. Default 1 MiB (API reference,
    /// line 313, `maxMessageSize`). At least 1.
    pub max_line_bytes: usize,
    /// Bytes asked of the socket per read while lines flow. Default 16 KiB: about fifty ordinary
    /// messages per system call; more gains nothing that can be measured. An idle connection
    /// keeps none of it. At least 1.
    pub read_buffer_bytes: usize,
    /// Messages that may wait to be written. Default 1,024: a second of acknowledgements at the
    /// default rate limit of 1,000 in a burst, so that only a peer that stopped reading fills it.
    /// At least 1.
    pub max_queued_messages: usize,
    /// Bytes that may wait to be written. Default 4 MiB: four messages of the largest size. One
    /// message above the whole budget still passes when nothing else waits, so that a budget
    /// below the message size cannot block a connection for ever. 1 to 2^32-1.
    pub max_queued_bytes: usize,
    /// How long a line may take from its first byte to its newline. Default 30 s (API reference,
    /// line 309, `connectionTimeout`). It does not bound idleness: between lines time is free.
    /// Who is late is closed as `first_line_timeout` or `partial_line_timeout`.
    pub partial_line_timeout: Duration,
    /// How long the peer may take to accept one write. Default 30 s, as `connectionTimeout` again:
    /// a crawler that is busy for some seconds is not slow. Who is late is closed as
    /// `slow_consumer`.
    pub write_timeout: Duration,
    /// How long an orderly close waits for queued messages to be written. Default 2 s: enough for
    /// a live peer, short enough that a restart is not held up by a dead one.
    pub close_grace: Duration,
    /// A connection counts as active while its last valid message is at most this old.
    /// Default 30 s (API reference, line 317, `heartbeatInterval`).
    pub heartbeat_interval: Duration,
    /// The memory this connection shares with others: clones are one budget. Default: one without
    /// bounds.
    pub budget: Budget,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_line_bytes: 1024 * 1024,
            read_buffer_bytes: 16 * 1024,
            max_queued_messages: 1024,
            max_queued_bytes: 4 * 1024 * 1024,
            partial_line_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            close_grace: Duration::from_secs(2),
            heartbeat_interval: Duration::from_secs(30),
            budget: Budget::default(),
        }
    }
}
