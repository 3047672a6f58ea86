//! All connections of a server: who is there, how many may be, and what became of the others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::connection::{ConnectionHandle, SendError};
use crate::events::PoolEvent;
use crate::health::{Health, HealthReport, HealthThresholds, assess};
use crate::history::{CloseSummary, ClosedRecord, History, PoolStats, Refused};
use crate::info::{ConnectionId, ConnectionInfo};
use crate::state::{CloseReason, ConnectionState};

/// Events a subscriber may lag behind before it loses the oldest: several for each of some hundred
/// connections that all go at once. A subscriber is told how many it lost.
const EVENTS: usize = 1024;

/// How much longer than the grace [`Pool::close_all`] waits for writers to notice that it is over.
const CLOSE_MARGIN: Duration = Duration::from_millis(250);

/// The connections of a server. Cheap to clone; clones are the same pool.
#[derive(Debug, Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    slots: Arc<Slots>,
    /// Locked for map operations only, never across an await, hence a std mutex. A connection's
    /// own lock is never taken inside it.
    members: Mutex<Members>,
    events: broadcast::Sender<PoolEvent>,
}

/// Counted apart from the map, so that a permit can be given back under any lock.
#[derive(Debug)]
struct Slots {
    /// Permits that may exist. Lowering it closes nobody.
    limit: AtomicUsize,
    in_use: AtomicUsize,
    next_id: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Members {
    connections: HashMap<ConnectionId, Member>,
    /// Set by `close_all`: whoever is added later is closed at once.
    closing: Option<CloseReason>,
    accepted: u64,
    history: History,
}

#[derive(Debug)]
struct Member {
    handle: ConnectionHandle,
    health: Health,
    /// Frees the place when the member is removed.
    _permit: Permit,
}

/// The right to have one more connection. Dropping it gives the place back.
#[derive(Debug)]
pub struct Permit {
    slots: Arc<Slots>,
    id: ConnectionId,
}

impl Permit {
    /// The id for the connection this permit is for.
    pub fn id(&self) -> ConnectionId {
        self.id
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.slots.in_use.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The pool is full, or takes nobody any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the limit of {limit} connections is reached")]
pub struct AtLimit {
    /// The limit now; 0 once the pool is closing.
    pub limit: usize,
}

/// What became of a message for each connection it was meant for.
pub type Outcomes = Vec<(ConnectionId, Result<(), SendError>)>;

impl Pool {
    /// A pool of at most `limit` connections (API reference, line 308, `maxConnections`).
    pub fn new(limit: usize) -> Self {
        Self::starting_at(limit, 1)
    }

    /// The same, with the number of the first connection: for a server whose numbers must not come again after a
    /// restart.
    pub fn starting_at(limit: usize, first: u64) -> Self {
        Self {
            inner: Arc::new(Inner {
                slots: Arc::new(Slots {
                    limit: AtomicUsize::new(limit),
                    in_use: AtomicUsize::new(0),
                    next_id: AtomicU64::new(first),
                    refused: AtomicU64::new(0),
                }),
                members: Mutex::default(),
                events: broadcast::Sender::new(EVENTS),
            }),
        }
    }

    /// Changes the limit for connections to come; those that exist stay. No effect once the pool
    /// is closing.
    pub fn set_limit(&self, limit: usize) {
        let members = self.members();
        if members.closing.is_none() {
            self.inner.slots.limit.store(limit, Ordering::Release);
        }
    }

    /// Takes a place for one connection, before anything is spent on it.
    ///
    /// # Errors
    /// [`AtLimit`] when there is none; counted as refused.
    pub fn reserve(&self) -> Result<Permit, AtLimit> {
        let slots = &self.inner.slots;
        let limit = slots.limit.load(Ordering::Acquire);
        let taken = slots
            .in_use
            .try_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < limit).then_some(n + 1));
        if taken.is_err() {
            slots.refused.fetch_add(1, Ordering::Relaxed);
            return Err(AtLimit { limit });
        }
        Ok(Permit {
            slots: Arc::clone(slots),
            id: ConnectionId(slots.next_id.fetch_add(1, Ordering::Relaxed)),
        })
    }

    /// Takes a connection in. It leaves by itself when it has closed.
    ///
    /// The handle must have the permit's id.
    pub fn add(&self, permit: Permit, handle: ConnectionHandle) {
        let id = handle.id();
        debug_assert_eq!(id, permit.id, "a connection is added with its own permit");
        let member = Member {
            handle: handle.clone(),
            health: Health::Healthy,
            _permit: permit,
        };
        let closing = {
            let mut members = self.members();
            members.connections.insert(id, member);
            members.accepted += 1;
            // Under the lock, so that nobody hears of a removal first.
            self.emit(PoolEvent::Added {
                id,
                peer: handle.peer().clone(),
            });
            members.closing
        };
        handle.attach(self);
        if let Some(reason) = closing {
            handle.close(reason);
        }
    }

    /// A connection has closed; told once or twice, by itself and by [`Pool::close_all`].
    pub(crate) fn remove(&self, info: ConnectionInfo, reason: CloseReason) {
        let id = info.id;
        let removed = {
            let mut members = self.members();
            let removed = members.connections.remove(&id);
            if removed.is_some() {
                members.history.closed(ClosedRecord::of(&info, reason));
            }
            removed
        };
        if removed.is_some() {
            self.emit(PoolEvent::Removed {
                id,
                reason,
                crawler_id: info.crawler_id,
            });
        }
    }

    /// The connection with this id, if it has not left.
    pub fn get(&self, id: ConnectionId) -> Option<ConnectionHandle> {
        let members = self.members();
        members.connections.get(&id).map(|m| m.handle.clone())
    }

    /// The newest open connection of a crawler; if none is open, the newest at all, so that the
    /// two answers of API reference lines 101 and 102 can be told apart. Looks at each connection.
    pub fn find_crawler(&self, crawler_id: &str) -> Option<ConnectionHandle> {
        self.handles()
            .into_iter()
            .filter(|h| h.crawler_id().as_deref() == Some(crawler_id))
            .max_by_key(|h| (h.close_reason().is_none(), h.id()))
    }

    /// Those whose snapshot satisfies `keep`, in the order they came (connection management,
    /// line 26).
    pub fn filter(&self, keep: impl Fn(&ConnectionInfo) -> bool) -> Vec<ConnectionHandle> {
        let mut handles = self.handles();
        handles.retain(|handle| keep(&handle.info()));
        handles
    }

    /// A snapshot of each connection, in the order they came.
    pub fn infos(&self) -> Vec<ConnectionInfo> {
        self.handles().iter().map(ConnectionHandle::info).collect()
    }

    /// Sends one message to one connection, waiting up to `timeout` for room.
    ///
    /// # Errors
    /// [`SendError`]; `NotFound` if it has left the pool.
    ///
    /// # Cancel safety
    /// A call dropped before it returns has queued nothing.
    pub async fn send(&self, id: ConnectionId, line: Bytes, timeout: Duration) -> Result<(), SendError> {
        let handle = self.get(id).ok_or(SendError::NotFound)?;
        handle.send(line, timeout).await
    }

    /// Sends one message to a crawler (API reference, line 78), as [`Pool::find_crawler`] finds it.
    ///
    /// # Errors
    /// [`SendError`]: `NotFound` if the crawler has no connection, `Closed` if none is open.
    ///
    /// # Cancel safety
    /// A call dropped before it returns has queued nothing.
    pub async fn send_to_crawler(&self, crawler_id: &str, line: Bytes, timeout: Duration) -> Result<(), SendError> {
        let handle = self.find_crawler(crawler_id).ok_or(SendError::NotFound)?;
        handle.send(line, timeout).await
    }

    /// Sends one message to several connections at once, sharing its bytes. Each has up to
    /// `timeout` for room, at the same time, so the slow do not delay the others. One outcome per
    /// id, in the order given.
    ///
    /// # Cancel safety
    /// Not cancel safe: a dropped call may have reached some.
    pub async fn send_to(&self, ids: &[ConnectionId], line: Bytes, timeout: Duration) -> Outcomes {
        join_all(ids.iter().map(|&id| {
            let line = line.clone();
            async move { (id, self.send(id, line, timeout).await) }
        }))
        .await
    }

    /// Sends one message to every open connection (API reference, line 104), otherwise as
    /// [`Pool::send_to`].
    ///
    /// # Cancel safety
    /// Not cancel safe: a dropped call may have reached some.
    pub async fn broadcast(&self, line: Bytes, timeout: Duration) -> Outcomes {
        let open = self.handles().into_iter().filter(|h| h.close_reason().is_none());
        join_all(open.map(|handle| {
            let line = line.clone();
            async move { (handle.id(), handle.send(line, timeout).await) }
        }))
        .await
    }

    /// Figures as of now.
    pub fn stats(&self) -> PoolStats {
        let infos = self.infos();
        let count = |pick: fn(ConnectionState) -> bool| infos.iter().filter(|info| pick(info.state)).count();
        use ConnectionState as S;
        let members = self.members();
        let mut traffic = members.history.past_traffic();
        for info in &infos {
            // One that left between the two looks is in the past traffic already.
            if members.connections.contains_key(&info.id) {
                traffic += info.traffic;
            }
        }
        PoolStats {
            limit: self.inner.slots.limit.load(Ordering::Acquire),
            total: infos.len(),
            active: count(|s| s == S::Active),
            idle: count(|s| matches!(s, S::Connecting | S::Connected | S::Idle)),
            error: count(|s| s == S::Error),
            closing: count(|s| !s.is_open()),
            accepted: members.accepted,
            refused: self.inner.slots.refused.load(Ordering::Relaxed),
            closed: members.history.closed_by_reason(),
            refused_by_reason: members.history.refused_by_reason(),
            traffic,
            recent_closes: members.history.recent_closes(),
            recent_refusals: members.history.recent_refusals(),
        }
    }

    /// Counts somebody who was turned away before there was a connection: what
    /// [`Listener::next`](crate::Listener::next) says. Whom [`Pool::reserve`] refuses is counted
    /// by itself.
    pub fn note_refused(&self, refused: Refused) {
        self.members().history.refused(refused);
    }

    /// Events from now on. Bounded: who lags by more than 1,024 loses the oldest and is told so.
    pub fn subscribe(&self) -> broadcast::Receiver<PoolEvent> {
        self.inner.events.subscribe()
    }

    /// Looks after every open connection; call it once per health check interval (API reference,
    /// line 319). Tells subscribers what has changed with time alone, and closes the dead with
    /// [`CloseReason::HeartbeatTimeout`], but for those that `spares` names: their silence is for
    /// somebody else to end. Returns the reports, in the order the connections came.
    pub fn sweep(&self, thresholds: &HealthThresholds, spares: impl Fn(&ConnectionInfo) -> bool) -> Vec<HealthReport> {
        let now = Instant::now();
        let mut reports = Vec::new();
        for handle in self.handles() {
            if handle.close_reason().is_some() {
                continue;
            }
            handle.refresh();
            let info = handle.info();
            let report = assess(&info, thresholds, now);
            self.note_health(&report);
            if report.is_dead && !spares(&info) {
                handle.close(CloseReason::HeartbeatTimeout);
            }
            reports.push(report);
        }
        reports
    }

    fn note_health(&self, report: &HealthReport) {
        let to = report.health;
        let before = {
            let mut members = self.members();
            let member = members.connections.get_mut(&report.id);
            member.map(|member| std::mem::replace(&mut member.health, to))
        };
        if let Some(from) = before
            && from != to
        {
            self.emit(PoolEvent::HealthChanged {
                id: report.id,
                from,
                to,
            });
        }
    }

    /// Closes everybody in good order and takes nobody any more. Returns when all are gone, at the
    /// latest a moment after `grace`. Stop accepting first: a connection added meanwhile, with a
    /// permit from before, is closed at once but not waited for.
    ///
    /// # Cancel safety
    /// A dropped call has begun to close everybody; calling again waits again.
    pub async fn close_all(&self, reason: CloseReason, grace: Duration) -> CloseSummary {
        {
            let mut members = self.members();
            members.closing.get_or_insert(reason);
            self.inner.slots.limit.store(0, Ordering::Release);
        }
        let handles = self.handles();
        for handle in &handles {
            handle.close_within(reason, grace);
        }
        let ends = join_all(handles.iter().map(|handle| async {
            let closed = tokio::time::timeout(grace + CLOSE_MARGIN, handle.closed()).await;
            let Ok(reason) = closed else { return false };
            let info = handle.info();
            let flushed = info.traffic.messages_undelivered == 0;
            self.remove(info, reason);
            flushed
        }))
        .await;
        let flushed = ends.iter().filter(|flushed| **flushed).count();
        CloseSummary {
            flushed,
            cut: ends.len() - flushed,
        }
    }

    /// Everybody, in the order they came.
    fn handles(&self) -> Vec<ConnectionHandle> {
        let mut handles: Vec<_> = {
            let members = self.members();
            members.connections.values().map(|m| m.handle.clone()).collect()
        };
        handles.sort_unstable_by_key(ConnectionHandle::id);
        handles
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        let members = self.inner.members.lock();
        members.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn emit(&self, event: PoolEvent) {
        // An error only says that nobody listens.
        let _ = self.inner.events.send(event);
    }
}
