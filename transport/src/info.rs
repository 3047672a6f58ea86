//! What is known about a connection: a snapshot, taken under one short lock.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::codec::CodecStats;
use crate::peer::Peer;
use crate::state::{CloseReason, ConnectionState};

/// Names a connection within one server process; numbers are never reused and rise with time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conn-{}", self.0)
    }
}

/// Counters of one connection, or the sum over several (connection management, line 36).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Complete lines handed out.
    pub messages_received: u64,
    /// Messages wholly written.
    pub messages_sent: u64,
    /// Bytes read from the stream.
    pub bytes_received: u64,
    /// Bytes of the messages in `messages_sent`.
    pub bytes_sent: u64,
    /// Lines that could not be accepted: noted by the layer above, lines too long included.
    pub errors: u64,
    /// Messages not taken because the queue was full.
    pub sends_refused: u64,
    /// Messages taken and then given up because the connection ended first.
    pub messages_undelivered: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.messages_received += other.messages_received;
        self.messages_sent += other.messages_sent;
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
        self.errors += other.errors;
        self.sends_refused += other.sends_refused;
        self.messages_undelivered += other.messages_undelivered;
    }
}

/// Valid messages and errors of the last one to two minutes: a rate over a whole life would hide
/// what a long-lived connection is doing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recent {
    bucket_start: Instant,
    current: Counts,
    previous: Counts,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    valid: u64,
    errors: u64,
}

impl Recent {
    const BUCKET: Duration = Duration::from_secs(60);

    pub(crate) fn new(now: Instant) -> Self {
        Self {
            bucket_start: now,
            current: Counts::default(),
            previous: Counts::default(),
        }
    }

    pub(crate) fn note(&mut self, now: Instant, is_error: bool) {
        *self = self.rolled(now);
        if is_error {
            self.current.errors += 1;
        } else {
            self.current.valid += 1;
        }
    }

    /// Valid messages and errors, in this order, as of `now`.
    pub fn counts(&self, now: Instant) -> (u64, u64) {
        let at = self.rolled(now);
        (
            at.current.valid + at.previous.valid,
            at.current.errors + at.previous.errors,
        )
    }

    fn rolled(self, now: Instant) -> Self {
        let age = now.saturating_duration_since(self.bucket_start);
        if age < Self::BUCKET {
            return self;
        }
        let adjacent = age < Self::BUCKET * 2;
        Self {
            bucket_start: if adjacent {
                self.bucket_start + Self::BUCKET
            } else {
                now
            },
            current: Counts::default(),
            previous: if adjacent { self.current } else { Counts::default() },
        }
    }
}

/// What waits to be written and how writing goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Output {
    /// Messages waiting in the queue, not counting those being written.
    pub queued_messages: usize,
    /// Bytes waiting or being written. A message above the whole budget counts as the budget.
    pub queued_bytes: usize,
    /// The budget of `queued_bytes`.
    pub max_queued_bytes: usize,
    /// When the write now under way began.
    pub write_since: Option<Instant>,
    /// When the last finished write ended, and how long it took.
    pub last_write: Option<(Instant, Duration)>,
}

/// A snapshot of one connection.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// Which connection.
    pub id: ConnectionId,
    /// Who is at the other end, as the system says.
    pub peer: Peer,
    /// Derived at `as_of`.
    pub state: ConnectionState,
    /// Set once closing has begun.
    pub close_reason: Option<CloseReason>,
    /// The crawler's name, once the layer above has set it.
    pub crawler_id: Option<Arc<str>>,
    /// Facts set by the layer above.
    pub metadata: BTreeMap<String, String>,
    /// When the connection was opened, by the wall clock.
    pub connected_at: SystemTime,
    /// When the connection was opened, by the clock the other instants use.
    pub opened: Instant,
    /// When this snapshot was taken; for a closed connection, when it closed.
    pub as_of: Instant,
    /// The last time bytes were received or a write finished.
    pub last_activity: Option<Instant>,
    /// The last valid message of any type.
    pub last_valid: Option<Instant>,
    /// The last heartbeat.
    pub last_heartbeat: Option<Instant>,
    /// The code of the last error.
    pub last_error: Option<&'static str>,
    /// Counters.
    pub traffic: Traffic,
    /// What the codec has seen, as of the last read.
    pub input: CodecStats,
    /// Valid messages and errors of the last minutes.
    pub recent: Recent,
    /// The sending side.
    pub output: Output,
}

impl ConnectionInfo {
    /// How long the connection has been, or was, open.
    pub fn uptime(&self) -> Duration {
        self.as_of.saturating_duration_since(self.opened)
    }

    /// An instant of this snapshot as wall-clock time, for showing and storing. Follows the wall
    /// clock as it was when the connection was opened.
    pub fn wall_clock(&self, at: Instant) -> SystemTime {
        self.connected_at + at.saturating_duration_since(self.opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_counts_fade_within_two_minutes() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut recent = Recent::new(start);
        recent.note(at(0), false);
        recent.note(at(59), true);
        assert_eq!(recent.counts(at(59)), (1, 1));
        assert_eq!(recent.counts(at(119)), (1, 1));
        assert_eq!(recent.counts(at(120)), (0, 0));
        recent.note(at(61), true);
        assert_eq!(recent.counts(at(61)), (1, 2));
        recent.note(at(500), false);
        assert_eq!(recent.counts(at(559)), (1, 0));
    }
}
