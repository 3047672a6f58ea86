//! Everything of a client that outlives a connection, and the rules that change it. No I/O happens here: the task hands
//! lines in, and takes lines out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crawlwire_protocol::message::{HeldLease, JobAssignment, JobProgress};
use crawlwire_protocol::{CrawlerMessage, Dialect, FenceNo, JobId, WireTime};
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::{Closed, RefreshError, Refusal};
use super::held::{Answer, Cell, Held, Refresh, StopReason};
use super::live::Live;
use super::options::{ClientOptions, SLOTS_MAX};
use super::outbox::{Entry, Kind, Outbox, Room, Waiter};
use super::words::{self, End};

/// Jobs held at once, whatever the server sends: as many as can be asked for.
pub(super) const HELD_MAX: usize = SLOTS_MAX as usize;

/// Time to say the last words after the deadline of a shutdown.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(2);

/// Everything that outlives a connection.
#[derive(Debug)]
pub(super) struct State {
    pub(super) options: Arc<ClientOptions>,
    /// The dialect of the latest connection; `None` before the first.
    pub(super) dialect: Option<Dialect>,
    /// Whether a server has welcomed this instance.
    pub(super) is_known: bool,
    /// The number of the next lasting message.
    pub(super) next_seq: u64,
    /// The highest settled number.
    pub(super) settled: u64,
    pub(super) outbox: Outbox,
    pub(super) held: BTreeMap<JobId, Held>,
    /// Jobs the author has not taken yet, oldest first.
    untaken: VecDeque<JobId>,
    /// Jobs the author holds.
    in_hands: usize,
    leases: u64,
    pub(super) flights: u64,
    slots: u16,
    /// While connected.
    pub(super) live: Option<Live>,
    /// No dialling before this time: the server said so.
    pub(super) not_before: Option<Instant>,
    /// What the last attempt to connect met.
    pub(super) trouble: Option<String>,
    pub(super) stopping: Option<Stopping>,
    pub(super) closed: Option<Closed>,
    /// The task that waits in `Jobs`, woken when there may be a job for it.
    waker: Option<Waker>,
    pub(super) last_activity: WireTime,
    pub(super) counters: Counters,
    /// Lasting messages left without an answer at the end.
    pub(super) unsettled: usize,
}

/// A shutdown under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopping {
    pub(super) deadline: Instant,
    /// The deadline has passed, and jobs that had not ended were given back.
    pub(super) is_over: bool,
}

/// Numbers for people.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters {
    pub(super) connections: u64,
    pub(super) acked: u64,
    pub(super) refused: u64,
    pub(super) resent: u64,
    pub(super) lost_jobs: u64,
    pub(super) given_back: u64,
    pub(super) session_id: Option<String>,
}

/// A job as it is handed to the author.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) id: JobId,
    pub(super) lease: u64,
    pub(super) cell: Arc<Cell>,
    pub(super) assignment: Box<JobAssignment>,
}

/// What `Jobs` finds.
#[derive(Debug)]
pub(super) enum Next {
    Job(Taken),
    Wait,
    End,
}

impl State {
    pub(super) fn new(options: Arc<ClientOptions>) -> Self {
        Self {
            slots: options.slots,
            options,
            dialect: None,
            is_known: false,
            next_seq: 1,
            settled: 0,
            outbox: Outbox::default(),
            held: BTreeMap::new(),
            untaken: VecDeque::new(),
            in_hands: 0,
            leases: 0,
            flights: 0,
            live: None,
            not_before: None,
            trouble: None,
            stopping: None,
            closed: None,
            waker: None,
            last_activity: WireTime::now(),
            counters: Counters::default(),
            unsettled: 0,
        }
    }

    /// The dialect in which things are said now. Without a connection, that of the last one.
    pub(super) fn dialect(&self) -> Dialect {
        self.dialect.unwrap_or(Dialect::Session)
    }

    /// Bytes of the longest line that the server takes.
    pub(super) fn line_bytes_max(&self) -> usize {
        let live = self.live.as_ref().map(|live| live.message_bytes_max);
        live.unwrap_or(crawlwire_protocol::limits::LINE_BYTES_MAX_DEFAULT)
    }

    /// The held job, if this holding of it has not ended.
    pub(super) fn running(&mut self, id: &JobId, lease: u64) -> Option<&mut Held> {
        self.held.get_mut(id).filter(|held| held.lease == lease && !held.ended)
    }

    // ---- jobs come -------------------------------------------------------------------------------------------------

    /// The server gives a job.
    pub(super) fn assign(&mut self, fence: Option<FenceNo>, assignment: JobAssignment) {
        let Some(id) = JobId::new(assignment.job_id.clone()) else {
            return tracing::warn!("an assignment without a job id");
        };
        if let Some(held) = self.held.get_mut(&id) {
            if held.fence == fence {
                // Sent again. To a server of the base protocol, which forgot that we have it, progress names the job.
                held.progress_is_new = held.progress.is_some();
                return;
            }
            if held.fence > fence {
                return;
            }
            self.lose(&id);
        }
        let is_welcome = self.stopping.is_none() && self.slots > 0 && self.held.len() < HELD_MAX;
        self.leases += 1;
        self.held.insert(id.clone(), Held::new(self.leases, fence, assignment));
        if is_welcome {
            self.untaken.push_back(id);
            self.wake();
        } else {
            self.give_back(&id, "no free slot");
        }
    }

    /// What the author may take now.
    pub(super) fn take(&mut self, waker: &Waker) -> Next {
        if self.closed.is_some() || self.stopping.is_some() {
            return Next::End;
        }
        if self.in_hands < usize::from(self.slots)
            && let Some(id) = self.untaken.pop_front()
            && let Some(held) = self.held.get_mut(&id)
            && let Some(assignment) = held.untaken.take()
        {
            let (lease, cell, message) = (held.lease, Arc::clone(&held.cell), words::started(held));
            self.in_hands += 1;
            self.last_activity = WireTime::now();
            self.say(&id, Kind::Report, message, None, None);
            return Next::Job(Taken {
                id,
                lease,
                cell,
                assignment,
            });
        }
        self.waker = Some(waker.clone());
        Next::Wait
    }

    /// Wakes whoever waits in `Jobs`.
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The author has let go of a job object.
    pub(super) fn let_go(&mut self) {
        self.in_hands -= 1;
        self.wake();
    }

    pub(super) fn slots(&self) -> u16 {
        self.slots
    }

    /// From now on up to this many jobs at a time. Jobs that nobody has taken, and nobody now will, are given back.
    pub(super) fn set_slots(&mut self, slots: u16) {
        self.slots = slots;
        let keep = usize::from(slots).saturating_sub(self.in_hands);
        for id in self.untaken.split_off(keep.min(self.untaken.len())) {
            self.give_back(&id, "fewer slots");
        }
        self.wake();
    }

    // ---- jobs go ---------------------------------------------------------------------------------------------------

    /// Gives back a job that has not ended.
    pub(super) fn give_back(&mut self, id: &JobId, reason: &'static str) {
        self.counters.given_back += 1;
        if self.dialect() == Dialect::Base && self.held.get(id).is_some_and(|held| held.untaken.is_some()) {
            // Not started in time, it goes back to the queue of a base server by itself, without a failure.
            self.untaken.retain(|untaken| untaken != id);
            self.held.remove(id);
            return;
        }
        self.end(id, End::Returned(reason), None, None);
    }

    /// Says the end of a job. Its newest progress goes before it.
    pub(super) fn end(&mut self, id: &JobId, end: End, waiter: Option<Waiter>, room: Option<Room>) {
        let dialect = self.dialect();
        let Some(held) = self.held.get_mut(id) else { return };
        let (kind, message) = words::end(end, held, dialect);
        let progress = held.progress.clone().filter(|_| held.progress_is_new);
        held.progress_is_new = false;
        held.ended = true;
        if held.untaken.take().is_some() {
            self.untaken.retain(|untaken| untaken != id);
        }
        self.last_activity = WireTime::now();
        self.queue(id, kind, message, waiter, room, progress.map(Box::new));
    }

    /// The job is not ours any more.
    pub(super) fn lose(&mut self, id: &JobId) {
        let Some(mut held) = self.held.remove(id) else { return };
        self.counters.lost_jobs += 1;
        self.untaken.retain(|untaken| untaken != id);
        held.cell.stop(StopReason::Lost);
        if let Some(refresh) = held.refresh.take() {
            refresh.answer(Err(RefreshError::Lost));
        }
    }

    // ---- things are said -------------------------------------------------------------------------------------------

    /// Says something lasting about a held job.
    pub(super) fn say(
        &mut self,
        id: &JobId,
        kind: Kind,
        message: CrawlerMessage,
        waiter: Option<Waiter>,
        room: Option<Room>,
    ) {
        self.last_activity = WireTime::now();
        self.queue(id, kind, message, waiter, room, None);
    }

    fn queue(
        &mut self,
        id: &JobId,
        kind: Kind,
        message: CrawlerMessage,
        waiter: Option<Waiter>,
        room: Option<Room>,
        progress: Option<Box<JobProgress>>,
    ) {
        let Some(held) = self.held.get(id) else { return };
        let lease = held.lease;
        let seq = (self.dialect() == Dialect::Session).then_some(self.next_seq);
        let fence = held.fence.filter(|_| seq.is_some());
        let Some(line) = words::line(Some(id), words::marks(fence, seq, None), message) else {
            return;
        };
        self.next_seq += u64::from(seq.is_some());
        self.outbox.push(Entry {
            seq,
            line: line.into(),
            kind,
            job: id.clone(),
            lease,
            progress,
            waiter,
            _room: room,
            sent: 0,
            ends_at: 0,
        });
    }

    /// All numbers up to this one are settled, and well.
    pub(super) fn settle(&mut self, seq: u64, now: Instant) {
        while let Some(entry) = self.outbox.settle_up_to(seq) {
            self.settle_one(entry, Ok(()));
        }
        if seq > self.settled {
            self.settled = seq;
            if let Some(live) = &mut self.live {
                live.settled(seq, now);
            }
        }
    }

    /// One line is settled, and what that means for its job.
    pub(super) fn settle_one(&mut self, entry: Entry, outcome: Result<(), Refusal>) {
        let Entry { job, lease, kind, .. } = &entry;
        let held = self.held.get_mut(job).filter(|held| held.lease == *lease);
        match (&outcome, held) {
            (Ok(()), Some(_)) if kind.is_end() => {
                self.held.remove(job);
            }
            (Err(refusal), Some(_)) if refusal.means_lost() => self.lose(job),
            (Err(refusal), Some(held)) if kind.is_end() => {
                // The server still waits for an end that it can take.
                let again = !std::mem::replace(&mut held.end_refused, true);
                let message = words::failed(held, "end_refused", &refusal.code);
                if again {
                    self.say(job, Kind::End, message, None, None);
                } else {
                    self.lose(job);
                }
            }
            _ => {}
        }
        match &outcome {
            Ok(()) => self.counters.acked += 1,
            Err(refusal) => {
                self.counters.refused += 1;
                tracing::warn!(job = %entry.job, code = %refusal.code, "the server refused a message");
            }
        }
        if let Some(waiter) = entry.waiter {
            // Nobody may be waiting any more.
            let _ = waiter.send(outcome);
        }
    }

    /// Asks for a new token, or joins whoever asked already. The answer comes by the receiver.
    pub(super) fn refresh(
        &mut self,
        id: &JobId,
        lease: u64,
        expired: bool,
        details: Option<String>,
    ) -> Option<(u64, watch::Receiver<Answer>)> {
        self.flights += 1;
        let flight = self.flights;
        let held = self.running(id, lease)?;
        let refresh = held.refresh.get_or_insert_with(|| Refresh {
            flight,
            expired,
            details,
            asked: None,
            answer: watch::Sender::new(None),
        });
        Some((refresh.flight, refresh.answer.subscribe()))
    }

    /// Nobody waits for this refresh any longer.
    pub(super) fn forget_refresh(&mut self, id: &JobId, lease: u64, flight: u64) {
        if let Some(held) = self.running(id, lease) {
            held.refresh.take_if(|refresh| refresh.flight == flight);
        }
    }

    /// Jobs whose end is not settled, as far as the server can know of them.
    pub(super) fn leases(&self) -> Vec<HeldLease> {
        let lease = |(id, held): (&JobId, &Held)| {
            let (job_id, fence) = (id.clone(), held.fence?);
            Some(HeldLease { job_id, fence })
        };
        self.held.iter().filter_map(lease).take(HELD_MAX).collect()
    }

    /// The client has ended. Nothing more is said, and nobody waits in vain.
    pub(super) fn close(&mut self, closed: Closed) {
        let reason = match closed {
            Closed::Shutdown => StopReason::Shutdown,
            _ => StopReason::Lost,
        };
        for held in std::mem::take(&mut self.held).into_values() {
            held.cell.stop(reason);
            if let Some(refresh) = held.refresh {
                refresh.answer(Err(RefreshError::Closed(closed.clone())));
            }
        }
        self.untaken.clear();
        self.unsettled = self.outbox.drain().len();
        self.live = None;
        self.closed = Some(closed);
        self.wake();
    }

    /// Whether there is nothing in hand and nothing to say.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.outbox.is_empty()
    }
}
