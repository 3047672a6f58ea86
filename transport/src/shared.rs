//! What the handle, the reader and the writer of one connection share.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::budget::Account;
use crate::codec::CodecStats;
use crate::events::PoolEvent;
use crate::info::{ConnectionId, ConnectionInfo, Output, Recent, Traffic};
use crate::limits::Limits;
use crate::peer::Peer;
use crate::pool::Pool;
use crate::queue::Queue;
use crate::state::{CloseReason, ConnectionState, Ending, Phase, derive};

pub(crate) struct Shared {
    pub(crate) id: ConnectionId,
    pub(crate) peer: Peer,
    pub(crate) limits: Arc<Limits>,
    connected_at: SystemTime,
    opened: Instant,
    /// Written by whoever closes first; watched by reader, writer and everyone in `closed()`.
    /// Locked to look or to change it, never across an await, hence a std mutex. A watch would do but for its waiters: it
    /// wakes them in no order, and a simulation is to take the same course again.
    phase: Mutex<Phase>,
    /// Told whenever the phase has changed.
    moved: Notify,
    /// To the writer. At most `Limits::max_queued_messages`; full means `SendError::Full`.
    pub(crate) queue: Queue,
    /// Bytes in `queue` and being written.
    pub(crate) account: Arc<Account>,
    /// Written after everything in `queue`. Set by whoever closes first, taken by the writer.
    last_words: Mutex<Option<Bytes>>,
    /// Complete lines handed out: apart from `facts`, since there are many more of them than reads.
    pub(crate) received: AtomicU64,
    /// Locked for a few assignments at a time and never across an await, hence a std mutex.
    facts: Mutex<Facts>,
    /// Whose member it is. They hold each other until the writer has ended.
    pool: OnceLock<Pool>,
}

pub(crate) struct Facts {
    crawler_id: Option<Arc<str>>,
    /// In no order. A map would take ten times as much for the one or two that there are.
    metadata: Vec<(String, String)>,
    pub(crate) traffic: Traffic,
    pub(crate) input: CodecStats,
    pub(crate) last_activity: Option<Instant>,
    last_valid: Option<Instant>,
    last_heartbeat: Option<Instant>,
    last_error: Option<(Instant, &'static str)>,
    recent: Recent,
    pub(crate) write_since: Option<Instant>,
    pub(crate) last_write: Option<(Instant, Duration)>,
    closed_at: Option<Instant>,
    /// The state last told to the pool's subscribers.
    published: ConnectionState,
}

impl Shared {
    pub(crate) fn new(id: ConnectionId, peer: Peer, limits: Arc<Limits>) -> Arc<Self> {
        let now = Instant::now();
        let queue = Queue::new(limits.max_queued_messages);
        let account = Account::new(limits.max_queued_bytes, limits.budget.clone());
        let shared = Arc::new(Self {
            id,
            peer,
            limits,
            connected_at: SystemTime::now(),
            opened: now,
            phase: Mutex::new(Phase::Connecting),
            moved: Notify::new(),
            queue,
            account: Arc::new(account),
            last_words: Mutex::default(),
            received: AtomicU64::new(0),
            facts: Mutex::new(Facts {
                crawler_id: None,
                metadata: Vec::new(),
                traffic: Traffic::default(),
                input: CodecStats::default(),
                last_activity: None,
                last_valid: None,
                last_heartbeat: None,
                last_error: None,
                recent: Recent::new(now),
                write_since: None,
                last_write: None,
                closed_at: None,
                published: ConnectionState::Connecting,
            }),
            pool: OnceLock::new(),
        });
        shared.limits.budget.join(&shared);
        shared
    }

    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the phase, and tells whoever waits if that says so.
    fn change(&self, change: impl FnOnce(&mut Phase) -> bool) {
        if change(&mut self.phase.lock().unwrap_or_else(PoisonError::into_inner)) {
            self.moved.notify_waiters();
        }
    }

    /// Waits for a phase. Cancel safe.
    async fn reached<T>(&self, look: impl Fn(Phase) -> Option<T>) -> T {
        loop {
            let mut moved = pin!(self.moved.notified());
            moved.as_mut().enable();
            if let Some(seen) = look(self.phase()) {
                return seen;
            }
            moved.await;
        }
    }

    /// Resolves once closing has begun. Cancel safe.
    pub(crate) async fn ending(&self) -> Ending {
        self.reached(Phase::ending).await
    }

    /// Resolves once nothing will be written any more. Cancel safe.
    pub(crate) async fn ended(&self) -> Ending {
        let ended = |phase| match phase {
            Phase::Closed(ending) => Some(ending),
            _ => None,
        };
        self.reached(ended).await
    }

    /// From here on the pool is told of changes and of the end.
    pub(crate) fn attach(&self, pool: &Pool) {
        // A second pool would be a mistake of ours; the first one keeps being told.
        let _ = self.pool.set(pool.clone());
        self.refresh();
        // It may have ended before, and then nobody else says so.
        self.leave_if_closed();
    }

    fn leave_if_closed(&self) {
        if let Phase::Closed(ending) = self.phase()
            && let Some(pool) = self.pool.get()
        {
            pool.remove(self.info(), ending.reason);
        }
    }

    pub(crate) fn opened(&self) {
        self.change(|phase| {
            let connecting = *phase == Phase::Connecting;
            if connecting {
                *phase = Phase::Open;
            }
            connecting
        });
        self.refresh();
    }

    /// Begins closing. The first call wins, with its reason and its last words; later ones have no
    /// effect.
    pub(crate) fn begin_close(&self, reason: CloseReason, grace: Duration, last_words: Option<Bytes>) {
        let now = Instant::now();
        // An absurd grace must not overflow the clock: a day is for ever here.
        let until = now + grace.min(Duration::from_secs(24 * 60 * 60));
        self.change(|phase| {
            let first = phase.ending().is_none();
            if first {
                *self.last_words() = last_words;
                *phase = Phase::Closing(Ending { reason, until });
            }
            first
        });
        self.refresh();
    }

    /// What is to be said last; nobody is given it twice.
    pub(crate) fn take_last_words(&self) -> Option<Bytes> {
        self.last_words().take()
    }

    fn last_words(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.last_words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer has ended, leaving `undelivered` messages behind.
    pub(crate) fn closed(&self, undelivered: u64) {
        self.begin_close(CloseReason::InternalError, Duration::ZERO, None);
        {
            let mut facts = self.facts();
            facts.traffic.messages_undelivered += undelivered;
            facts.closed_at = Some(Instant::now());
        }
        self.change(|phase| {
            if let Phase::Closing(ending) = *phase {
                *phase = Phase::Closed(ending);
            }
            true
        });
        self.refresh();
        self.leave_if_closed();
    }

    pub(crate) fn note_valid(&self, is_heartbeat: bool) {
        let now = Instant::now();
        let mut facts = self.facts();
        facts.last_valid = Some(now);
        if is_heartbeat {
            facts.last_heartbeat = Some(now);
        }
        facts.recent.note(now, false);
        self.publish(&mut facts, now);
    }

    pub(crate) fn note_error(&self, code: &'static str) {
        let now = Instant::now();
        let mut facts = self.facts();
        facts.last_error = Some((now, code));
        facts.recent.note(now, true);
        facts.traffic.errors += 1;
        self.emit(PoolEvent::Error { id: self.id, code });
        self.publish(&mut facts, now);
    }

    pub(crate) fn set_crawler_id(&self, crawler_id: &str) {
        self.facts().crawler_id = Some(crawler_id.into());
    }

    pub(crate) fn crawler_id(&self) -> Option<Arc<str>> {
        self.facts().crawler_id.clone()
    }

    pub(crate) fn set_metadata(&self, key: &str, value: &str) -> bool {
        if key.len() > METADATA_KEY_BYTES || value.len() > METADATA_VALUE_BYTES {
            return false;
        }
        let metadata = &mut self.facts().metadata;
        if let Some((_, known)) = metadata.iter_mut().find(|(known, _)| known == key) {
            value.clone_into(known);
            return true;
        }
        let room = metadata.len() < METADATA_ENTRIES;
        if room {
            metadata.reserve_exact(1);
            metadata.push((key.to_owned(), value.to_owned()));
        }
        room
    }

    /// Derives the state anew and tells subscribers if it changed.
    pub(crate) fn refresh(&self) {
        let now = Instant::now();
        self.publish(&mut self.facts(), now);
    }

    pub(crate) fn info(&self) -> ConnectionInfo {
        let facts = self.facts();
        let phase = self.phase();
        let now = facts.closed_at.unwrap_or_else(Instant::now);
        ConnectionInfo {
            id: self.id,
            peer: self.peer.clone(),
            state: self.state(&facts, phase, now),
            close_reason: phase.ending().map(|e| e.reason),
            crawler_id: facts.crawler_id.clone(),
            metadata: facts.metadata.iter().cloned().collect(),
            connected_at: self.connected_at,
            opened: self.opened,
            as_of: now,
            last_activity: facts.last_activity,
            last_valid: facts.last_valid,
            last_heartbeat: facts.last_heartbeat,
            last_error: facts.last_error.map(|(_, code)| code),
            traffic: Traffic {
                messages_received: self.received.load(Ordering::Relaxed),
                ..facts.traffic
            },
            input: facts.input,
            recent: facts.recent,
            output: Output {
                queued_messages: self.queue.len(),
                queued_bytes: self.account.queued_bytes(),
                max_queued_bytes: self.account.max_queued_bytes,
                write_since: facts.write_since,
                last_write: facts.last_write,
            },
        }
    }

    fn state(&self, facts: &Facts, phase: Phase, now: Instant) -> ConnectionState {
        derive(
            phase,
            facts.last_valid,
            facts.last_error.map(|(at, _)| at),
            self.limits.heartbeat_interval,
            now,
        )
    }

    /// Under the lock of `facts`, so that subscribers see changes in their order.
    fn publish(&self, facts: &mut Facts, now: Instant) {
        let to = self.state(facts, self.phase(), now);
        let from = std::mem::replace(&mut facts.published, to);
        if from != to {
            self.emit(PoolEvent::StateChanged { id: self.id, from, to });
        }
    }

    fn emit(&self, event: PoolEvent) {
        if let Some(pool) = self.pool.get() {
            pool.emit(event);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.limits.budget.leave(self);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

/// Metadata may come from a peer's greeting, so it is bounded: at most some 5 KiB a connection.
pub(crate) const METADATA_ENTRIES: usize = 16;
pub(crate) const METADATA_KEY_BYTES: usize = 64;
pub(crate) const METADATA_VALUE_BYTES: usize = 256;
