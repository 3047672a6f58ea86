//! Messages on their way from whoever sends to the writer.
//!
//! Tokio's channel would do but for its memory: it holds blocks of 32 messages, several after a
//! burst, for connections that are idle most of their lives. This one holds nothing when empty.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, TryAcquireError};

use crate::budget::Queued;

/// Bounded, with any number of senders and one receiver, the writer.
#[derive(Debug)]
pub(crate) struct Queue {
    /// Locked to push or take some messages, never across an await, hence a std mutex.
    inner: Mutex<Inner>,
    /// One permit per message that may wait.
    room: Semaphore,
    /// Told after each push.
    pushed: Notify,
    /// Told when messages were taken, and when they were written.
    eased: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    messages: VecDeque<Queued>,
    /// Nothing is taken any more.
    closed: bool,
}

/// Why a message was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Closed,
}

/// A place for one message, taken and not filled.
pub(crate) struct Place<'a> {
    queue: &'a Queue,
    permit: SemaphorePermit<'a>,
}

impl Queue {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            inner: Mutex::default(),
            room: Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS)),
            pushed: Notify::new(),
            eased: Notify::new(),
        }
    }

    pub(crate) fn try_place(&self) -> Result<Place<'_>, Refusal> {
        match self.room.try_acquire() {
            Ok(permit) => Ok(Place { queue: self, permit }),
            Err(TryAcquireError::NoPermits) => Err(Refusal::Full),
            Err(TryAcquireError::Closed) => Err(Refusal::Closed),
        }
    }

    /// Waits for a place. Cancel safe.
    pub(crate) async fn place(&self) -> Result<Place<'_>, Refusal> {
        let permit = self.room.acquire().await.map_err(|_| Refusal::Closed)?;
        Ok(Place { queue: self, permit })
    }

    /// Waits for a message. Only the writer does. Cancel safe.
    pub(crate) async fn next(&self) -> Queued {
        loop {
            if let Some(message) = self.inner().messages.pop_front() {
                self.room.add_permits(1);
                return message;
            }
            // A push between the look and this has left a permit.
            self.pushed.notified().await;
        }
    }

    /// Moves what waits to `batch`, until that has `max_bytes` or more.
    pub(crate) fn gather(&self, batch: &mut Vec<Queued>, max_bytes: usize) {
        let mut bytes: usize = batch.iter().map(|queued| queued.line.len()).sum();
        let before = batch.len();
        let mut inner = self.inner();
        while bytes < max_bytes
            && let Some(message) = inner.messages.pop_front()
        {
            bytes += message.line.len();
            batch.push(message);
        }
        if inner.messages.is_empty() {
            // Made anew when something waits again: one allocation, beside a system call to write it.
            inner.messages = VecDeque::new();
        }
        drop(inner);
        self.room.add_permits(batch.len() - before);
        self.ease();
    }

    /// Places that are free.
    pub(crate) fn room(&self) -> usize {
        self.room.available_permits()
    }

    /// Less is waiting, or in the hands of the writer.
    pub(crate) fn ease(&self) {
        self.eased.notify_waiters();
    }

    /// To be enabled before one looks at what it waits for.
    pub(crate) fn eased(&self) -> Notified<'_> {
        self.eased.notified()
    }

    pub(crate) fn len(&self) -> usize {
        self.inner().messages.len()
    }

    /// Takes nothing more; what is inside can still be taken out.
    pub(crate) fn close(&self) {
        self.inner().closed = true;
        self.room.close();
    }

    /// Empties it, for good if it is closed.
    pub(crate) fn clear(&self) {
        let dropped = std::mem::take(&mut self.inner().messages);
        self.room.add_permits(dropped.len());
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    pub(crate) fn fill(self, message: Queued) -> Result<(), Refusal> {
        let mut inner = self.queue.inner();
        if inner.closed {
            return Err(Refusal::Closed);
        }
        inner.messages.push_back(message);
        drop(inner);
        self.permit.forget();
        self.queue.pushed.notify_one();
        Ok(())
    }
}
