//! What became of the connections of a pool, and of those that never were let in.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::info::{ConnectionId, ConnectionInfo, Traffic};
use crate::peer::Peer;
use crate::state::CloseReason;

/// Closed connections remembered for looking at. Enough to see a pattern after all crawlers of a
/// large server went at once, and some 30 KiB.
const CLOSES: usize = 128;

/// Refusals remembered for looking at. They have a list of their own, so that a stranger who keeps
/// knocking does not wash away what became of the crawlers.
const REFUSALS: usize = 32;

/// A connection that has closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedRecord {
    /// Which.
    pub id: ConnectionId,
    /// When it left the pool.
    pub at: SystemTime,
    /// Why.
    pub reason: CloseReason,
    /// Its crawler, if it had said who it is.
    pub crawler_id: Option<Arc<str>>,
    /// Its other end, as the system said.
    pub peer: Peer,
    /// How long it was open.
    pub lived: Duration,
    /// Bytes and messages both ways over its whole life.
    pub traffic: Traffic,
}

impl ClosedRecord {
    /// Of a connection that has just closed.
    pub(crate) fn of(info: &ConnectionInfo, reason: CloseReason) -> Self {
        Self {
            id: info.id,
            at: SystemTime::now(),
            reason,
            crawler_id: info.crawler_id.clone(),
            peer: info.peer.clone(),
            lived: info.uptime(),
            traffic: info.traffic,
        }
    }
}

/// Somebody who came and was not let in. Whoever accepts goes on with the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// When.
    pub at: SystemTime,
    /// Who, as the system says.
    pub peer: Peer,
    /// Why: [`CloseReason::PeerNotAllowed`] or [`CloseReason::TlsFailed`].
    pub reason: CloseReason,
    /// The cause in words, for a log.
    pub detail: String,
}

impl Refused {
    pub(crate) fn new(peer: Peer, reason: CloseReason, detail: String) -> Self {
        Self {
            at: SystemTime::now(),
            peer,
            reason,
            detail,
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} refused as {}: {}", self.peer, self.reason, self.detail)
    }
}

/// Figures of a pool (API reference, lines 134 to 139; connection management, line 27).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolStats {
    /// Connections that may exist.
    pub limit: usize,
    /// Connections that exist: the sum of the four below.
    pub total: usize,
    /// In state `active`.
    pub active: usize,
    /// In state `connecting`, `connected` or `idle`.
    pub idle: usize,
    /// In state `error`.
    pub error: usize,
    /// In state `closing`, or closed and about to leave.
    pub closing: usize,
    /// Ever taken in.
    pub accepted: u64,
    /// Refused because of the limit ([`CloseReason::ConnectionLimit`]).
    pub refused: u64,
    /// Ever closed, by reason; reasons that never occurred are absent.
    pub closed: BTreeMap<CloseReason, u64>,
    /// Never let in, by reason, as told to [`Pool::note_refused`](crate::Pool::note_refused); not
    /// part of `refused`.
    pub refused_by_reason: BTreeMap<CloseReason, u64>,
    /// Counters over all connections, past ones included, so that they only rise.
    pub traffic: Traffic,
    /// The last closes, oldest first, at most 128.
    pub recent_closes: Vec<ClosedRecord>,
    /// The last of those who were never let in, oldest first, at most 32.
    pub recent_refusals: Vec<Refused>,
}

/// How [`Pool::close_all`](crate::Pool::close_all) went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CloseSummary {
    /// Closed with everything queued written.
    pub flushed: usize,
    /// Closed with messages left over, or not closed in time.
    pub cut: usize,
}

/// The memory of a pool: counts for ever, details of the last ones.
#[derive(Debug, Default)]
pub(crate) struct History {
    closed: BTreeMap<CloseReason, u64>,
    refused: BTreeMap<CloseReason, u64>,
    /// Sum over the connections that have left.
    past_traffic: Traffic,
    /// Newest last, at most `CLOSES`.
    recent_closes: VecDeque<ClosedRecord>,
    /// Newest last, at most `REFUSALS`.
    recent_refusals: VecDeque<Refused>,
}

impl History {
    pub(crate) fn closed(&mut self, record: ClosedRecord) {
        *self.closed.entry(record.reason).or_default() += 1;
        self.past_traffic += record.traffic;
        push(&mut self.recent_closes, record, CLOSES);
    }

    pub(crate) fn refused(&mut self, refused: Refused) {
        *self.refused.entry(refused.reason).or_default() += 1;
        push(&mut self.recent_refusals, refused, REFUSALS);
    }

    pub(crate) fn past_traffic(&self) -> Traffic {
        self.past_traffic
    }

    pub(crate) fn closed_by_reason(&self) -> BTreeMap<CloseReason, u64> {
        self.closed.clone()
    }

    pub(crate) fn refused_by_reason(&self) -> BTreeMap<CloseReason, u64> {
        self.refused.clone()
    }

    pub(crate) fn recent_closes(&self) -> Vec<ClosedRecord> {
        self.recent_closes.iter().cloned().collect()
    }

    pub(crate) fn recent_refusals(&self) -> Vec<Refused> {
        self.recent_refusals.iter().cloned().collect()
    }
}

fn push<T>(list: &mut VecDeque<T>, item: T, max: usize) {
    if list.len() == max {
        list.pop_front();
    }
    list.push_back(item);
}
