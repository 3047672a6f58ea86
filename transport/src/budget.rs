//! The memory that all connections of a server share.
//!
//! What a connection may hold by itself is in [`Limits`](crate::Limits). A thousand connections at
//! their limits would still be gigabytes, so a server gives all of them one [`Budget`] besides. It
//! has two parts that never wait for each other: lines that came in and are not processed yet, and
//! messages that wait to be written. If they were one, a flood of input would leave no room for the
//! answers that make it smaller.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::shared::Shared;
use crate::state::CloseReason;

/// Bytes that all connections together may hold. Cheap to clone; clones are the same budget.
///
/// **Input.** A line handed out by [`LineReader::recv_counted`](crate::LineReader::recv_counted)
/// counts until its [`InFlight`] is dropped. When the part is used up, reading waits, in the order
/// of asking: the peers feel it, and nobody is closed.
///
/// **Output.** A message counts from being queued until it is written. When one does not fit, the
/// open connection that has most queued is closed as [`CloseReason::OverBudget`], which is the one
/// at hand only if that has most. So whoever reads its messages is not harmed by those who do not.
/// What the closed one held is being freed while the message at hand is queued already: for that
/// moment the part may be exceeded by what is about to be freed.
///
/// A [`Budget::default`] has no bounds and costs nothing.
#[derive(Clone, Default)]
pub struct Budget {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    /// One permit per byte of lines in flight.
    input: Arc<Semaphore>,
    input_max: usize,
    output_max: usize,
    /// Bytes queued for output by all connections.
    queued: AtomicUsize,
    /// By the address of what they point to. Locked for map operations only; no strong reference
    /// is dropped inside, since its drop would lock again.
    members: Mutex<HashMap<usize, Weak<Shared>>>,
    /// Held while one is chosen to be closed, so that a single lack of room closes a single one.
    choosing: Mutex<()>,
    closed: AtomicU64,
}

/// How much of a [`Budget`] is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetUsage {
    /// Bytes of lines handed out and not processed yet. A line above the whole part counts as the
    /// part.
    pub input_bytes: usize,
    /// The bound of `input_bytes`.
    pub input_bytes_max: usize,
    /// Bytes waiting to be written or being written.
    pub output_bytes: usize,
    /// The bound of `output_bytes`.
    pub output_bytes_max: usize,
    /// Connections ever closed to make room.
    pub closed: u64,
}

/// The share of a line in the budget: hold it until the line has been processed. Dropping it gives
/// the bytes back.
#[derive(Debug, Default)]
#[must_use = "dropped at once, the line does not count as in flight"]
pub struct InFlight {
    _share: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of `input_bytes` for lines in flight and `output_bytes` for messages that wait.
    /// Both are brought into 1 to 2^32-1. Sensible are at least some messages of the largest size.
    pub fn new(input_bytes: usize, output_bytes: usize) -> Self {
        // Semaphores count in u32 per acquisition.
        let input_max = input_bytes.clamp(1, u32::MAX as usize);
        Self {
            inner: Some(Arc::new(Inner {
                input: Arc::new(Semaphore::new(input_max)),
                input_max,
                output_max: output_bytes.clamp(1, u32::MAX as usize),
                queued: AtomicUsize::new(0),
                members: Mutex::default(),
                choosing: Mutex::default(),
                closed: AtomicU64::new(0),
            })),
        }
    }

    /// How much is used now; `None` for a budget without bounds, which does not count.
    pub fn usage(&self) -> Option<BudgetUsage> {
        self.inner.as_deref().map(|inner| BudgetUsage {
            input_bytes: inner.input_max - inner.input.available_permits(),
            input_bytes_max: inner.input_max,
            output_bytes: inner.queued.load(Ordering::Relaxed),
            output_bytes_max: inner.output_max,
            closed: inner.closed.load(Ordering::Relaxed),
        })
    }

    /// Lets a line of this many bytes be in flight if there is room and nobody waits for it.
    pub(crate) fn try_admit(&self, bytes: usize) -> Option<InFlight> {
        let Some(inner) = self.inner.as_deref() else {
            return Some(InFlight::default());
        };
        let share = Arc::clone(&inner.input).try_acquire_many_owned(inner.cost(bytes));
        share.ok().map(|share| InFlight { _share: Some(share) })
    }

    /// Waits until a line of this many bytes may be in flight. Cancel safe; the place in the queue
    /// is lost.
    pub(crate) async fn admit(&self, bytes: usize) -> InFlight {
        let Some(inner) = self.inner.as_deref() else {
            return InFlight::default();
        };
        let share = Arc::clone(&inner.input).acquire_many_owned(inner.cost(bytes)).await;
        // It is never closed, so there is a share.
        InFlight { _share: share.ok() }
    }

    pub(crate) fn join(&self, shared: &Arc<Shared>) {
        if let Some(inner) = &self.inner {
            let member = Arc::downgrade(shared);
            inner.members().insert(member.as_ptr() as usize, member);
        }
    }

    /// Called when `shared` is being dropped.
    pub(crate) fn leave(&self, shared: &Shared) {
        if let Some(inner) = &self.inner {
            inner.members().remove(&(std::ptr::from_ref(shared) as usize));
        }
    }

    fn release(&self, bytes: usize) {
        if let Some(inner) = &self.inner {
            inner.queued.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Inner {
    fn members(&self) -> MutexGuard<'_, HashMap<usize, Weak<Shared>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The permits a line takes, so chosen that they can be had at all.
    fn cost(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.input_max)).unwrap_or(u32::MAX)
    }

    /// More is queued than may be, by a message of `mine`. Closes whoever has most, unless enough
    /// is being freed already. Looks at each connection, which is fine for so rare an event.
    fn make_room(&self, mine: &Shared) {
        let _choosing = self.choosing.lock().unwrap_or_else(PoisonError::into_inner);
        let members: Vec<Arc<Shared>> = self.members().values().filter_map(Weak::upgrade).collect();
        let mut leaving = 0;
        let mut most = (mine, mine.account.queued_bytes());
        for member in &members {
            let queued = member.account.queued_bytes();
            match member.phase().ending() {
                None if queued > most.1 => most = (member, queued),
                Some(ending) if ending.reason == CloseReason::OverBudget => leaving += queued,
                _ => {}
            }
        }
        if self.queued.load(Ordering::Relaxed).saturating_sub(leaving) > self.output_max {
            self.closed.fetch_add(1, Ordering::Relaxed);
            most.0.begin_close(CloseReason::OverBudget, Duration::ZERO, None);
        }
    }
}

impl PartialEq for Budget {
    /// Whether both are the same budget, not whether they are equally large.
    fn eq(&self, other: &Self) -> bool {
        match (&self.inner, &other.inner) {
            (None, None) => true,
            (Some(one), Some(another)) => Arc::ptr_eq(one, another),
            _ => false,
        }
    }
}

impl Eq for Budget {}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.usage() {
            None => f.write_str("Budget(no bounds)"),
            Some(usage) => usage.fmt(f),
        }
    }
}

/// What one connection has queued, against its own bound and against the common one.
#[derive(Debug)]
pub(crate) struct Account {
    /// One permit per byte that may wait.
    pub(crate) room: Semaphore,
    pub(crate) max_queued_bytes: usize,
    budget: Budget,
}

impl Account {
    pub(crate) fn new(max_queued_bytes: usize, budget: Budget) -> Self {
        // Semaphores count in u32 per acquisition; 4 GiB is beyond any sensible bound.
        let max_queued_bytes = max_queued_bytes.clamp(1, u32::MAX as usize);
        Self {
            room: Semaphore::new(max_queued_bytes),
            max_queued_bytes,
            budget,
        }
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.max_queued_bytes - self.room.available_permits()
    }

    /// The permits a message takes, so chosen that they can be had at all.
    pub(crate) fn cost(&self, line: &Bytes) -> u32 {
        u32::try_from(line.len().min(self.max_queued_bytes)).unwrap_or(u32::MAX)
    }
}

/// A message on its way to the writer. Its drop, written or not, gives its bytes back.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) line: Bytes,
    /// None for last words, which are not accounted for: there is one per connection.
    charged: Option<(Arc<Account>, u32)>,
}

impl Queued {
    /// A message whose permits have been taken from the connection's room and forgotten. Over the
    /// common bound it closes some connection, maybe this one.
    pub(crate) fn new(line: Bytes, shared: &Shared) -> Self {
        let account = &shared.account;
        let cost = account.cost(&line);
        if let Some(inner) = &account.budget.inner {
            let before = inner.queued.fetch_add(line.len(), Ordering::Relaxed);
            if before + line.len() > inner.output_max {
                inner.make_room(shared);
            }
        }
        Self {
            charged: Some((Arc::clone(account), cost)),
            line,
        }
    }

    pub(crate) fn last_words(line: Bytes) -> Self {
        Self { line, charged: None }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if let Some((account, cost)) = &self.charged {
            account.room.add_permits(*cost as usize);
            account.budget.release(self.line.len());
        }
    }
}
