//! What the handles, the jobs and the task of one client share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crawlwire_protocol::JobId;
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::time::Instant;

use super::error::{Closed, Refusal, ReportError};
use super::held::Cell;
use super::options::ClientOptions;
use super::outbox::Room;
use super::state::State;

/// The shared part of a client.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Arc<ClientOptions>,
    /// Locked for one step at a time and never across an await, hence a std mutex.
    state: Mutex<State>,
    /// Told to the task: there is something to say, or to stop for.
    changed: Notify,
    /// Set once, when the client has ended.
    closed: watch::Sender<Option<Closed>>,
    /// Told when jobs may have ended, for whoever waits for that.
    idle: Notify,
    /// One permit per message that may wait in the outbox, and one per byte.
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    bytes_max: usize,
    /// Handles and job streams. At 0 the client shuts down.
    users: AtomicUsize,
}

impl Shared {
    pub(super) fn new(options: ClientOptions) -> Arc<Self> {
        let options = Arc::new(options);
        Arc::new(Self {
            state: Mutex::new(State::new(Arc::clone(&options))),
            changed: Notify::new(),
            closed: watch::Sender::new(None),
            idle: Notify::new(),
            messages: Arc::new(Semaphore::new(options.outbox_messages.min(Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(options.outbox_bytes)),
            bytes_max: options.outbox_bytes,
            users: AtomicUsize::new(0),
            options,
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the task to look.
    pub(super) fn changed(&self) {
        self.changed.notify_one();
    }

    /// Resolves when the task should look. Cancel safe.
    pub(super) async fn wait_for_change(&self) {
        self.changed.notified().await;
    }

    pub(super) fn told_idle(&self) {
        self.idle.notify_waiters();
    }

    /// Waits until no job is in hand and nothing is left to say. Cancel safe.
    pub(super) async fn idle(&self) {
        loop {
            let told = self.idle.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            {
                let state = self.state();
                if state.is_idle() || state.closed.is_some() {
                    return;
                }
            }
            told.await;
        }
    }

    /// Why the client has ended, if it has.
    pub(super) fn closed_now(&self) -> Option<Closed> {
        self.closed.borrow().clone()
    }

    /// Waits until the client has ended. Cancel safe.
    pub(super) async fn closed(&self) -> Closed {
        let mut closed = self.closed.subscribe();
        match closed.wait_for(Option::is_some).await {
            Ok(closed) => closed.clone().unwrap_or(Closed::Gone),
            // The sender lives as long as `self`.
            Err(_) => Closed::Gone,
        }
    }

    /// The client has ended: whoever waits for anything is told. The first reason wins.
    pub(super) fn close(&self, closed: Closed) {
        {
            let mut state = self.state();
            if state.closed.is_some() {
                return;
            }
            // Set before the waiters of the outbox are dropped: that is how they learn of it.
            self.closed.send_replace(Some(closed.clone()));
            state.close(closed);
        }
        self.messages.close();
        self.bytes.close();
        self.told_idle();
    }

    /// Room for one message in the outbox. Waits while it is full; cancel safe.
    pub(super) async fn room(&self, bytes: usize, cell: &Cell) -> Result<Room, ReportError> {
        // A message above the whole budget passes when nothing else waits.
        let bytes = u32::try_from(bytes.min(self.bytes_max)).unwrap_or(u32::MAX);
        let room = async {
            let message = Arc::clone(&self.messages).acquire_owned().await.ok()?;
            let bytes = Arc::clone(&self.bytes).acquire_many_owned(bytes).await.ok()?;
            Some(Room {
                _message: message,
                _bytes: bytes,
            })
        };
        tokio::select! {
            biased;
            () = cell.lost() => Err(ReportError::Lost),
            room = room => room.ok_or_else(|| self.gone()),
        }
    }

    /// Waits until the server has settled a line. Cancel safe: the line is kept all the same.
    pub(super) async fn settled(&self, line: oneshot::Receiver<Result<(), Refusal>>) -> Result<(), ReportError> {
        match line.await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(self.gone()),
        }
    }

    pub(super) fn gone(&self) -> ReportError {
        ReportError::Closed(self.closed_now().unwrap_or(Closed::Gone))
    }

    /// Why nothing can be said about a job.
    pub(super) fn unsayable(&self, cell: &Cell) -> ReportError {
        if cell.is_lost() && self.closed_now().is_none() {
            ReportError::Lost
        } else if self.closed_now().is_some() {
            self.gone()
        } else {
            // It was given back at the deadline of the shutdown.
            ReportError::Closed(Closed::Shutdown)
        }
    }

    /// A job object is gone without an end.
    pub(super) fn dropped(&self, id: &JobId, lease: u64) {
        use super::words::End;
        {
            let mut state = self.state();
            state.let_go();
            if state.running(id, lease).is_some() {
                if std::thread::panicking() {
                    state.end(id, End::Panicked, None, None);
                } else {
                    state.give_back(id, "dropped");
                }
            }
        }
        self.changed();
    }
}

/// A handle or a job stream: the client lives as long as there is one.
#[derive(Debug)]
pub(super) struct User(Arc<Shared>);

impl User {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.users.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }

    /// The shared part, for those that do not keep the client alive.
    pub(super) fn clone_shared(&self) -> Arc<Shared> {
        Arc::clone(&self.0)
    }
}

impl std::ops::Deref for User {
    type Target = Arc<Shared>;

    fn deref(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Clone for User {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.0))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // Only the last one looks at the state, after all others are done with it.
        if self.0.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            let deadline = Instant::now() + self.0.options.shutdown_deadline.min(super::LONGEST_WAIT);
            self.0.state().stop(deadline);
            self.0.changed();
        }
    }
}
