//! What has to reach the server: lines kept byte for byte until the server has settled them.

use std::collections::VecDeque;

use bytes::Bytes;
use crawlwire_protocol::JobId;
use crawlwire_protocol::message::JobProgress;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::error::Refusal;

/// Whoever waits for a line to be settled.
pub(super) type Waiter = oneshot::Sender<Result<(), Refusal>>;

/// A line that has to arrive.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its number. Lines for a server of the base protocol have none.
    pub(super) seq: Option<u64>,
    pub(super) line: Bytes,
    pub(super) kind: Kind,
    pub(super) job: JobId,
    /// Which holding of the job it speaks for.
    pub(super) lease: u64,
    /// Progress to be said just before it, so that the last one comes before the end.
    pub(super) progress: Option<Box<JobProgress>>,
    pub(super) waiter: Option<Waiter>,
    /// Its share of the outbox. Lines that must not wait have none.
    pub(super) _room: Option<Room>,
    /// How often it was given to a connection.
    pub(super) sent: u32,
    /// Where in the stream of the connection it ends, once given to it.
    pub(super) ends_at: u64,
}

/// What settling a line means for its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: the job goes on.
    Report,
    /// A report that the base protocol does not know.
    SessionReport,
    /// The job is over for this crawler.
    End,
    /// The same, in words that the base protocol does not know.
    SessionEnd,
}

impl Kind {
    pub(super) fn is_end(self) -> bool {
        matches!(self, Self::End | Self::SessionEnd)
    }
}

/// One message and its bytes, taken out of what the outbox may hold.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) _message: OwnedSemaphorePermit,
    pub(super) _bytes: OwnedSemaphorePermit,
}

/// Lines in the order of their numbers; those before `cursor` were given to the present connection.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    entries: VecDeque<Entry>,
    cursor: usize,
    bytes: usize,
    bytes_in_flight: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.line.len();
        self.entries.push_back(entry);
    }

    /// Whether the end of a job is among the lines up to this number.
    pub(super) fn ends(&self, job: &JobId, seq: u64) -> bool {
        let settled = self.entries.iter().take_while(|entry| entry.seq <= Some(seq));
        settled
            .filter(|entry| entry.kind.is_end())
            .any(|entry| entry.job == *job)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.cursor
    }

    pub(super) fn bytes_in_flight(&self) -> usize {
        self.bytes_in_flight
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.cursor < self.entries.len()
    }

    /// The next line to give to the connection.
    pub(super) fn next_unsent(&mut self) -> Option<&mut Entry> {
        self.entries.get_mut(self.cursor)
    }

    /// The next line was given to the connection, in whose stream it ends at `ends_at`.
    pub(super) fn sent(&mut self, ends_at: u64) {
        if let Some(entry) = self.entries.get_mut(self.cursor) {
            entry.sent += 1;
            entry.ends_at = ends_at;
            self.cursor += 1;
            self.bytes_in_flight += entry.line.len();
        }
    }

    /// Everything will be given to the connection again, from the first line on.
    pub(super) fn rewind(&mut self) {
        self.rewind_to(0);
    }

    /// Gives the line with this number, and all after it, to the connection again. Says how many of those after it had
    /// been given to it: each will be answered once more.
    pub(super) fn go_back_to(&mut self, seq: u64) -> usize {
        let at = self.entries.partition_point(|entry| entry.seq < Some(seq));
        if at >= self.cursor {
            return 0;
        }
        let after = self.cursor - at - 1;
        self.rewind_to(at);
        after
    }

    fn rewind_to(&mut self, at: usize) {
        self.cursor = at;
        self.bytes_in_flight = self.entries.iter().take(at).map(|entry| entry.line.len()).sum();
    }

    /// The lowest number that is not settled.
    pub(super) fn first_seq(&self) -> Option<u64> {
        self.entries.front().and_then(|entry| entry.seq)
    }

    /// Takes out the first line if its number is at most `seq`.
    pub(super) fn settle_up_to(&mut self, seq: u64) -> Option<Entry> {
        let is_settled = self.first_seq().is_some_and(|first| first <= seq);
        if is_settled { self.pop() } else { None }
    }

    /// Takes out the first line if all of it is among the first `written` bytes of the connection.
    pub(super) fn settle_written(&mut self, written: u64) -> Option<Entry> {
        let is_written = self.cursor > 0 && self.entries.front().is_some_and(|first| first.ends_at <= written);
        if is_written { self.pop() } else { None }
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.line.len();
        if self.cursor > 0 {
            self.cursor -= 1;
            self.bytes_in_flight -= entry.line.len();
        }
        Some(entry)
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self) -> VecDeque<Entry> {
        std::mem::take(self).entries
    }

    /// The line with this number.
    pub(super) fn with_seq(&self, seq: u64) -> Option<&Entry> {
        let at = self.entries.partition_point(|entry| entry.seq < Some(seq));
        self.entries.get(at).filter(|entry| entry.seq == Some(seq))
    }
}
