//! From what there is to say to the lines of a connection.

use crawlwire_protocol::message::{
    ApiLimited, Goodbye, JobRequest, JobType, Ping, Pong, SystemStatus, TokenRefreshRequest,
};
use crawlwire_protocol::{Count, CrawlerMessage, Dialect, JobId, List, Marks, Whole, Words};
use tokio::time::Instant;

use super::held::Held;
use super::link::Output;
use super::live::Live;
use super::options::WhenStopping;
use super::state::{LAST_WORDS, State, Stopping};
use super::words;

impl State {
    /// Adds what has to be said to a connection's buffer, until it is full.
    pub(super) fn fill(&mut self, output: &mut Output, now: Instant) {
        let Some(mut live) = self.live.take() else { return };
        if !live.goodbye_said {
            self.say_about_connection(&mut live, output, now);
            self.say_about_jobs(&mut live, output, now);
            self.say_lasting(&mut live, output, now);
            self.say_goodbye(&mut live, output, now);
        }
        self.live = Some(live);
    }

    fn say_about_connection(&mut self, live: &mut Live, output: &mut Output, now: Instant) {
        if live.dialect == Dialect::Session {
            if let Some(nonce) = live.pong.take() {
                push(output, None, Marks::default(), CrawlerMessage::Pong(Pong { nonce }));
            }
            if live.slots_told != self.slots() {
                live.slots_told = self.slots();
                let slots = Whole::clamped(self.slots().into());
                push(
                    output,
                    None,
                    Marks::default(),
                    CrawlerMessage::JobRequest(JobRequest { slots }),
                );
            }
            if live.ping_due().is_some_and(|due| due <= now) {
                live.pinged = Some(now);
                push(
                    output,
                    None,
                    Marks::default(),
                    CrawlerMessage::Ping(Ping { nonce: None }),
                );
            }
        }
        // One that has to wait behind a full buffer is of no use.
        if live.next_heartbeat <= now && !output.is_full() {
            live.next_heartbeat = now + live.heartbeat_interval;
            let leases = (live.dialect == Dialect::Session).then(|| List::cut(self.leases()));
            let message = words::heartbeat(self.held.len(), self.status(), &self.last_activity, leases);
            push(output, None, Marks::default(), message);
        }
    }

    fn status(&self) -> SystemStatus {
        let discovers = |held: &Held| held.job_type == JobType::DiscoverNamespaces;
        if self.held.is_empty() {
            SystemStatus::Idle
        } else if self.held.values().any(discovers) {
            SystemStatus::Discovering
        } else {
            SystemStatus::Crawling
        }
    }

    /// What is not lasting: token refreshes, limits, progress.
    fn say_about_jobs(&mut self, live: &mut Live, output: &mut Output, now: Instant) {
        for (id, held) in &mut self.held {
            if output.is_full() {
                return;
            }
            if held.ended {
                continue;
            }
            say_refresh(id, held, live, output);
            say_limited(id, held, live, output, now);
            if held
                .progress_due(live.progress_interval, now)
                .is_some_and(|due| due <= now)
            {
                say_progress(id, held, live, output, now);
            }
        }
    }

    /// Lasting lines in their order, as many as may be on their way at once.
    fn say_lasting(&mut self, live: &mut Live, output: &mut Output, now: Instant) {
        if live.resume_at.is_some_and(|at| at > now) {
            return;
        }
        live.resume_at = None;
        while !output.is_full() && self.outbox.in_flight() < live.in_flight_max {
            let (in_flight, bytes) = (self.outbox.in_flight(), self.outbox.bytes_in_flight());
            let Some(entry) = self.outbox.next_unsent() else { return };
            if in_flight > 0 && bytes + entry.line.len() > live.in_flight_bytes_max {
                return;
            }
            if let Some(progress) = entry.progress.take()
                && let Some(held) = self.held.get_mut(&entry.job)
                && held.lease == entry.lease
            {
                held.progress = Some(*progress);
                say_progress(&entry.job, held, live, output, now);
            }
            let ends_at = live.push(output, &entry.line);
            self.counters.resent += u64::from(entry.sent > 0);
            self.outbox.sent(ends_at);
            live.waiting_since.get_or_insert(now);
        }
    }

    fn say_goodbye(&mut self, live: &mut Live, output: &mut Output, now: Instant) {
        let Some(stopping) = self.stopping else { return };
        if !self.is_idle() && now < stopping.last_moment() {
            return;
        }
        live.goodbye_said = true;
        if live.dialect == Dialect::Session {
            let reason = Some(Words::cut("shutdown"));
            push(
                output,
                None,
                Marks::default(),
                CrawlerMessage::Goodbye(Goodbye { reason }),
            );
        }
    }

    /// What was written is settled where nobody acknowledges.
    pub(super) fn written(&mut self, written: u64) {
        if self.live.as_ref().is_none_or(|live| live.dialect == Dialect::Session) {
            return;
        }
        while let Some(entry) = self.outbox.settle_written(written) {
            self.settle_one(entry, Ok(()));
        }
    }

    /// When something has to be done although nothing happens.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let stopping = self.stopping.map(Stopping::next_step);
        let Some(live) = &self.live else { return stopping };
        let progress = self
            .held
            .values()
            .filter_map(|held| held.progress_due(live.progress_interval, now))
            .min();
        let stall = live.waiting_since.filter(|_| self.outbox.in_flight() > 0);
        [
            stopping,
            Some(live.next_heartbeat),
            self.base_given_up_at(),
            live.ping_due(),
            live.silent_at(),
            progress,
            live.resume_at.filter(|_| self.outbox.has_unsent()),
            stall
                .filter(|_| live.dialect == Dialect::Session)
                .map(|since| since + self.options.request_timeout),
            live.leave_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// When a base connection is given up on which nothing was heard and nothing is under way.
    pub(super) fn base_given_up_at(&self) -> Option<Instant> {
        let live = self.live.as_ref().filter(|live| live.dialect == Dialect::Base)?;
        self.is_idle()
            .then_some(live.heard + self.options.base_patience.min(super::LONGEST_WAIT))
    }

    /// Begins to stop, or stops sooner than it would.
    pub(super) fn stop(&mut self, deadline: Instant) {
        let is_first = self.stopping.is_none();
        let stopping = self.stopping.get_or_insert(Stopping {
            deadline,
            is_over: false,
        });
        stopping.deadline = stopping.deadline.min(deadline);
        if is_first {
            self.set_slots(0);
            if self.options.when_stopping == WhenStopping::StopJobs {
                self.stop_jobs();
            }
        }
    }

    fn stop_jobs(&self) {
        for held in self.held.values().filter(|held| held.is_running()) {
            held.cell.stop(super::held::StopReason::Shutdown);
        }
    }

    /// At the deadline, jobs that have not ended are given back.
    pub(super) fn step_stopping(&mut self, now: Instant) {
        let Some(stopping) = self.stopping.as_mut().filter(|it| !it.is_over && it.deadline <= now) else {
            return;
        };
        stopping.is_over = true;
        self.stop_jobs();
        let running: Vec<JobId> = (self.held.iter())
            .filter(|(_, held)| held.is_running())
            .map(|(id, _)| id.clone())
            .collect();
        for id in running {
            self.give_back(&id, "shutdown");
        }
    }
}

impl Stopping {
    /// When the client ends, whatever is left.
    pub(super) fn last_moment(self) -> Instant {
        self.deadline + LAST_WORDS
    }

    /// When time alone changes something.
    pub(super) fn next_step(self) -> Instant {
        if self.is_over {
            self.last_moment()
        } else {
            self.deadline
        }
    }
}

fn push(output: &mut Output, job: Option<&JobId>, marks: Marks, message: CrawlerMessage) {
    if let Some(line) = words::line(job, marks, message) {
        output.push(&line);
    }
}

fn say_refresh(id: &JobId, held: &mut Held, live: &mut Live, output: &mut Output) {
    let Some(refresh) = held.refresh.as_mut().filter(|refresh| refresh.asked.is_none()) else {
        return;
    };
    live.refreshes += 1;
    refresh.asked = Some(live.refreshes);
    let marks = match live.dialect {
        Dialect::Session => words::marks(held.fence, None, Some(live.refreshes)),
        Dialect::Base => Marks::default(),
    };
    let message = CrawlerMessage::TokenRefreshRequest(TokenRefreshRequest {
        current_token_expired: refresh.expired,
        last_successful_request: None,
        error_details: refresh.details.clone(),
    });
    push(output, Some(id), marks, message);
}

fn say_limited(id: &JobId, held: &mut Held, live: &Live, output: &mut Output, now: Instant) {
    let Some(limited) = held.limited.take() else { return };
    if live.dialect == Dialect::Base || limited.until <= now {
        return;
    }
    let count = |number: u64| Count::try_from(number).ok();
    let wait = u64::try_from((limited.until - now).as_millis()).unwrap_or(u64::MAX);
    let message = CrawlerMessage::ApiLimited(ApiLimited {
        retry_after_ms: Whole::clamped(wait),
        limit: limited.limit.and_then(count),
        remaining: limited.remaining.and_then(count),
    });
    push(output, Some(id), words::marks(held.fence, None, None), message);
}

fn say_progress(id: &JobId, held: &mut Held, live: &Live, output: &mut Output, now: Instant) {
    let Some(progress) = held.progress.clone() else { return };
    held.progress_is_new = false;
    held.progress_said = Some(now);
    held.n += 1;
    let marks = match live.dialect {
        Dialect::Session => words::marks(held.fence, None, Some(held.n)),
        Dialect::Base => Marks::default(),
    };
    push(output, Some(id), marks, CrawlerMessage::JobProgress(progress));
}
