//! One connection: a handle to send with, a reader of lines, and a writer that owns the sending
//! half. Works over any stream.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};

use crate::budget::Queued;
use crate::info::{ConnectionId, ConnectionInfo};
use crate::limits::Limits;
use crate::peer::Peer;
use crate::pool::Pool;
use crate::queue::{Place, Refusal};
use crate::reader::LineReader;
use crate::shared::Shared;
use crate::state::{CloseReason, ConnectionState};
use crate::writer::Writer;

/// The three parts of an open connection. Each goes its own way: the handle to whoever sends, the
/// reader to the task that serves the peer, the writer to a task of its own.
#[derive(Debug)]
pub struct Connection<S> {
    /// To send, close and look.
    pub handle: ConnectionHandle,
    /// To receive.
    pub reader: LineReader<S>,
    /// To be driven with [`Writer::run`]; nothing is sent before that.
    pub writer: Writer<S>,
}

impl<S: AsyncRead + AsyncWrite> Connection<S> {
    /// Makes a connection of a stream. Whoever opens many with the same limits shares them.
    pub fn open(stream: S, peer: Peer, id: ConnectionId, limits: impl Into<Arc<Limits>>) -> Self {
        let (read, write) = tokio::io::split(stream);
        let shared = Shared::new(id, peer, limits.into());
        Self {
            reader: LineReader::new(read, Arc::clone(&shared)),
            writer: Writer::new(write, Arc::clone(&shared)),
            handle: ConnectionHandle { shared },
        }
    }
}

impl Connection<DuplexStream> {
    /// Two connections joined in memory, with ids 1 and 2: for tests, without a socket. A side
    /// takes up to 64 KiB that its peer has not read, like a socket's own buffer.
    pub fn pair(limits: Limits) -> (Self, Self) {
        let (left, right) = tokio::io::duplex(64 * 1024);
        let limits = Arc::new(limits);
        let open = |stream, id| Self::open(stream, Peer::Memory, ConnectionId(id), Arc::clone(&limits));
        (open(left, 1), open(right, 2))
    }
}

/// Why a message was not taken for sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The queue is full, and stayed so for the whole timeout if there was one. The peer reads
    /// too slowly; the connection stands.
    #[error("the connection's send queue is full")]
    Full,
    /// The connection is closing or closed.
    #[error("the connection is closed")]
    Closed,
    /// No such connection. Only from look-ups in a [`Pool`].
    #[error("no such connection")]
    NotFound,
}

impl From<Refusal> for SendError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full => Self::Full,
            Refusal::Closed => Self::Closed,
        }
    }
}

/// A cheap, cloneable handle to one connection.
#[derive(Debug, Clone)]
pub struct ConnectionHandle {
    shared: Arc<Shared>,
}

impl ConnectionHandle {
    /// Which connection.
    pub fn id(&self) -> ConnectionId {
        self.shared.id
    }

    /// Who is at the other end, as the system says.
    pub fn peer(&self) -> &Peer {
        &self.shared.peer
    }

    /// Queues one message without waiting.
    ///
    /// `line` is a whole line **with** its trailing newline and no newline inside; it is written
    /// as it is. Taken means queued, not delivered. Messages queued by one task keep their order.
    ///
    /// # Errors
    /// [`SendError::Full`] if it does not fit in the queue now, [`SendError::Closed`] once closing
    /// has begun.
    pub fn try_send(&self, line: Bytes) -> Result<(), SendError> {
        let sent = self.try_queue(line);
        if sent == Err(SendError::Full) {
            self.shared.facts().traffic.sends_refused += 1;
        }
        sent
    }

    /// Queues one message, waiting up to `timeout` for room (connection management, line 33).
    /// Otherwise as [`ConnectionHandle::try_send`], which may overtake a call that waits.
    ///
    /// # Errors
    /// [`SendError::Full`] if there was no room in time, [`SendError::Closed`] once closing has
    /// begun, also while waiting.
    ///
    /// # Cancel safety
    /// A call dropped before it returns has queued nothing.
    pub async fn send(&self, line: Bytes, timeout: Duration) -> Result<(), SendError> {
        match self.try_queue(line.clone()) {
            Err(SendError::Full) => {}
            settled => return settled,
        }
        tokio::select! {
            biased;
            _ = self.shared.ending() => Err(SendError::Closed),
            sent = self.queue_when_room(line) => sent,
            () = tokio::time::sleep(timeout) => {
                self.shared.facts().traffic.sends_refused += 1;
                Err(SendError::Full)
            }
        }
    }

    /// Whether more than half of what may wait to be written does, of messages or of bytes. Who answers what it reads should
    /// not read on then: sooner or later there is no room for an answer.
    pub fn is_behind(&self) -> bool {
        let Shared {
            limits, account, queue, ..
        } = &*self.shared;
        let behind =
            queue.room() < limits.max_queued_messages / 2 || account.queued_bytes() > account.max_queued_bytes / 2;
        behind && self.close_reason().is_none()
    }

    /// Waits until the connection [is not behind](ConnectionHandle::is_behind), or is closing. Cancel safe.
    pub async fn caught_up(&self) {
        let caught_up = async {
            loop {
                let mut eased = pin!(self.shared.queue.eased());
                eased.as_mut().enable();
                if !self.is_behind() {
                    return;
                }
                eased.await;
            }
        };
        tokio::select! {
            biased;
            _ = self.shared.ending() => {}
            () = caught_up => {}
        }
    }

    fn try_queue(&self, line: Bytes) -> Result<(), SendError> {
        debug_assert!(line.ends_with(b"\n"), "a message is a line with its newline");
        // The writer closes the queue only when it notices; what is said last is really last.
        if self.close_reason().is_some() {
            return Err(SendError::Closed);
        }
        let account = &self.shared.account;
        let room = account.room.try_acquire_many(account.cost(&line));
        // It is never closed, so this can only mean that there is too little left.
        let room = room.map_err(|_| SendError::Full)?;
        let place = self.shared.queue.try_place()?;
        room.forget();
        self.put(line, place)
    }

    async fn queue_when_room(&self, line: Bytes) -> Result<(), SendError> {
        let account = &self.shared.account;
        let room = account.room.acquire_many(account.cost(&line)).await;
        let room = room.map_err(|_| SendError::Closed)?;
        let place = self.shared.queue.place().await?;
        room.forget();
        self.put(line, place)
    }

    /// Charges the common budget and queues; the connection's own room has been taken.
    fn put(&self, line: Bytes, place: Place<'_>) -> Result<(), SendError> {
        let queued = Queued::new(line, &self.shared);
        // That may have made this connection the one that has to go.
        if self.close_reason() == Some(CloseReason::OverBudget) {
            return Err(SendError::Closed);
        }
        Ok(place.fill(queued)?)
    }

    /// Closes in good order: takes nothing more, writes what is queued for at most
    /// `Limits::close_grace`, then ends the stream. Returns at once; the first reason wins.
    pub fn close(&self, reason: CloseReason) {
        self.close_within(reason, self.shared.limits.close_grace);
    }

    /// As [`ConnectionHandle::close`] with another grace. With zero, only what the stream takes
    /// without waiting is still written.
    pub fn close_within(&self, reason: CloseReason, grace: Duration) {
        self.shared.begin_close(reason, grace, None);
    }

    /// As [`ConnectionHandle::close_within`], with a message that is written after everything that
    /// is queued, so that it is really the last one: a goodbye. It needs no room in the queue.
    /// Dropped if the connection is closing already.
    ///
    /// `last_words` is a whole line with its newline, as for [`ConnectionHandle::try_send`].
    pub fn close_saying(&self, last_words: Bytes, reason: CloseReason, grace: Duration) {
        debug_assert!(last_words.ends_with(b"\n"), "a message is a line with its newline");
        self.shared.begin_close(reason, grace, Some(last_words));
    }

    /// Waits until the connection is closed, that is until nothing will be written any more.
    /// The reader may still hand out what a vanished peer had sent before. Cancel safe.
    pub async fn closed(&self) -> CloseReason {
        self.shared.ended().await.reason
    }

    /// Why the connection is closing or closed, if it is.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.shared.phase().ending().map(|ending| ending.reason)
    }

    /// A snapshot of everything known.
    pub fn info(&self) -> ConnectionInfo {
        self.shared.info()
    }

    /// The state now.
    pub fn state(&self) -> ConnectionState {
        self.info().state
    }

    /// Names the crawler at the other end, as the layer above has established it
    /// (API reference, line 218). Setting it again replaces it.
    pub fn set_crawler_id(&self, crawler_id: &str) {
        self.shared.set_crawler_id(crawler_id);
    }

    /// The crawler's name, if set.
    pub fn crawler_id(&self) -> Option<Arc<str>> {
        self.shared.crawler_id()
    }

    /// Keeps a fact about the connection for display. At most 16 entries, keys up to 64 bytes,
    /// values up to 256 bytes; returns whether it was kept.
    pub fn set_metadata(&self, key: &str, value: &str) -> bool {
        self.shared.set_metadata(key, value)
    }

    /// Told by the layer above for every message it accepted: moves state and health.
    pub fn note_valid_message(&self, is_heartbeat: bool) {
        self.shared.note_valid(is_heartbeat);
    }

    /// Told by the layer above for every line it could not accept, lines too long included.
    /// `code` is the error's stable name.
    pub fn note_error(&self, code: &'static str) {
        self.shared.note_error(code);
    }

    pub(crate) fn attach(&self, pool: &Pool) {
        self.shared.attach(pool);
    }

    pub(crate) fn refresh(&self) {
        self.shared.refresh();
    }
}
