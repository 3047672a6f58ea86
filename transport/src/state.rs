//! What a connection is doing, and why it ended: two closed sets of names, and the one function
//! that derives the first from facts and the clock.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// What a connection is doing now. Derived, never set: see `derive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectionState {
    /// The stream exists, its writer does not run yet.
    Connecting,
    /// Open; no valid message so far.
    Connected,
    /// A valid message arrived within the heartbeat interval.
    Active,
    /// The last valid message is older than the heartbeat interval.
    Idle,
    /// The last thing heard was an error, with no valid message since.
    Error,
    /// Closing: queued messages are being written, nothing new is taken.
    Closing,
    /// Nothing will be written any more.
    Closed,
}

impl ConnectionState {
    /// The stable name, in snake case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Error => "error",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }

    /// Whether messages are still taken for sending.
    pub fn is_open(self) -> bool {
        !matches!(self, Self::Closing | Self::Closed)
    }
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! close_reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a connection was closed: a closed set with stable names, for logs, metrics and
        /// the API. The first reason given wins.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum CloseReason { $($(#[$doc])* $variant,)* }

        impl CloseReason {
            /// Every reason, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name, in snake case.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

close_reasons! {
    /// The peer ended the stream or went away.
    PeerClosed = "peer_closed",
    /// The server is stopping.
    ServerShutdown = "server_shutdown",
    /// The peer did not read: a write was not taken within `Limits::write_timeout`.
    SlowConsumer = "slow_consumer",
    /// The first line was started and did not complete within `Limits::partial_line_timeout`, or
    /// nothing was said at all for as long as the layer above waits.
    FirstLineTimeout = "first_line_timeout",
    /// A later line was started and did not complete within `Limits::partial_line_timeout`.
    PartialLineTimeout = "partial_line_timeout",
    /// The peer's greeting was not accepted.
    HelloRefused = "hello_refused",
    /// The peer did not prove who it is.
    NotAuthenticated = "not_authenticated",
    /// What the peer proved itself with has been revoked meanwhile.
    TokenRevoked = "token_revoked",
    /// A newer connection of the same crawler took its place.
    Replaced = "replaced",
    /// The peer said goodbye.
    Goodbye = "goodbye",
    /// A peer without a session used to send heartbeats and fell silent.
    HeartbeatTimeout = "heartbeat_timeout",
    /// A peer with a session said nothing for the whole heartbeat timeout.
    IdleTimeout = "idle_timeout",
    /// The peer is unreachable: a ping was not answered, or the system's own probes were not
    /// ([`Keepalive`](crate::Keepalive)).
    KeepaliveTimeout = "keepalive_timeout",
    /// The peer kept sending what could not be accepted.
    TooManyErrors = "too_many_errors",
    /// The memory for all connections was used up, and this one held the most of it
    /// ([`Budget`](crate::Budget)).
    OverBudget = "over_budget",
    /// The peer speaks another protocol.
    WrongProtocol = "wrong_protocol",
    /// A connection too many.
    ConnectionLimit = "connection_limit",
    /// The user of a Unix socket is not among those allowed ([`PeerAllow`](crate::PeerAllow)).
    PeerNotAllowed = "peer_not_allowed",
    /// The TLS handshake failed, or did not complete in time.
    TlsFailed = "tls_failed",
    /// Reading or writing failed for another cause than the peer going away.
    IoError = "io_error",
    /// Someone asked for it.
    DisconnectedByOperator = "disconnected_by_operator",
    /// The task that served the connection ended without closing it.
    InternalError = "internal_error",
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a connection is in its one-way life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    Open,
    Closing(Ending),
    Closed(Ending),
}

/// Why a connection ends, and until when what is under way may still finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) reason: CloseReason,
    pub(crate) until: Instant,
}

impl Phase {
    /// Set once closing has begun.
    pub(crate) fn ending(self) -> Option<Ending> {
        match self {
            Self::Connecting | Self::Open => None,
            Self::Closing(ending) | Self::Closed(ending) => Some(ending),
        }
    }
}

/// The state of a connection, from facts and the clock.
///
/// `last_valid` and `last_error` are the times of the last valid message and the last error;
/// of two at the same instant the message counts. A message exactly `heartbeat_interval` old is
/// still recent.
pub(crate) fn derive(
    phase: Phase,
    last_valid: Option<Instant>,
    last_error: Option<Instant>,
    heartbeat_interval: Duration,
    now: Instant,
) -> ConnectionState {
    match phase {
        Phase::Closed(_) => return ConnectionState::Closed,
        Phase::Closing(_) => return ConnectionState::Closing,
        Phase::Connecting => return ConnectionState::Connecting,
        Phase::Open => {}
    }
    match (last_valid, last_error) {
        // `None` sorts before every time.
        (valid, Some(error)) if valid < Some(error) => ConnectionState::Error,
        (None, _) => ConnectionState::Connected,
        (Some(valid), _) if now.saturating_duration_since(valid) <= heartbeat_interval => ConnectionState::Active,
        (Some(_), _) => ConnectionState::Idle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[test]
    fn state_follows_facts_and_clock() {
        use ConnectionState as S;
        let start = Instant::now();
        let at = |s: u64| Some(start + Duration::from_secs(s));
        let ending = Ending {
            reason: CloseReason::PeerClosed,
            until: start,
        };
        // phase, last valid, last error, now in seconds, expected
        let cases = [
            (Phase::Connecting, at(0), None, 0, S::Connecting),
            (Phase::Open, None, None, 1000, S::Connected),
            (Phase::Open, at(10), None, 10, S::Active),
            (Phase::Open, at(10), None, 40, S::Active),
            (Phase::Open, at(10), None, 41, S::Idle),
            (Phase::Open, None, at(5), 6, S::Error),
            (Phase::Open, at(4), at(5), 6, S::Error),
            (Phase::Open, at(4), at(5), 600, S::Error),
            (Phase::Open, at(5), at(5), 6, S::Active),
            (Phase::Open, at(6), at(5), 7, S::Active),
            (Phase::Open, at(6), at(5), 37, S::Idle),
            (Phase::Closing(ending), at(6), at(7), 7, S::Closing),
            (Phase::Closed(ending), at(6), None, 7, S::Closed),
        ];
        for (n, (phase, valid, error, now, want)) in cases.into_iter().enumerate() {
            let now = start + Duration::from_secs(now);
            assert_eq!(derive(phase, valid, error, INTERVAL, now), want, "case {n}");
        }
    }

    #[test]
    fn names_are_snake_case_and_unique() {
        let mut names: Vec<_> = CloseReason::ALL.iter().map(|r| r.as_str()).collect();
        assert!(
            names
                .iter()
                .all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CloseReason::ALL.len());
    }
}
