//! A job's life, told once more and as plainly as possible: the reference that the engine is held against. It shares words
//! with the engine (states, arrows, refusals), and none of its decisions.

use std::collections::BTreeMap;

use crawlwire_progress::job::JobLimits;
use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::{Arrow, PauseReason, State, TreeStatus, Want};

use crate::machine::step::{JobNo, SessionNo};

/// The numbers that decide, in milliseconds where they are times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) lease: i64,
    pub(crate) grace: i64,
    pub(crate) accept: i64,
    pub(crate) job_timeout: i64,
    pub(crate) want_timeout: i64,
    pub(crate) retries: i32,
    pub(crate) retry_delay: i64,
    pub(crate) retry_delay_max: i64,
    pub(crate) misses_max: i32,
    pub(crate) queued_max: usize,
    pub(crate) depth_max: u32,
    pub(crate) children_max: usize,
    pub(crate) tree_max: usize,
    pub(crate) account_max: usize,
    pub(crate) held_max: usize,
}

/// A moment that is known, or known to lie between two: what chance decides, the model does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

impl Moment {
    pub(crate) fn at(moment: i64) -> Self {
        Self {
            from: moment,
            to: moment,
        }
    }

    /// Whether it has come; none when nobody can say.
    pub(crate) fn has_come(self, now: i64) -> Option<bool> {
        if now >= self.to {
            Some(true)
        } else if now < self.from {
            Some(false)
        } else {
            None
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Job {
    // What never changes.
    pub(crate) no: JobNo,
    pub(crate) parent: Option<JobNo>,
    pub(crate) root: JobNo,
    pub(crate) depth: u32,
    pub(crate) account: u8,
    pub(crate) host: u8,
    pub(crate) entity: u8,
    pub(crate) theirs: Option<u8>,
    pub(crate) token: bool,
    pub(crate) limits: JobLimits,
    pub(crate) created_at: i64,
    /// From when its waiting counts.
    pub(crate) entered: i64,
    // What arrows change.
    pub(crate) state: State,
    pub(crate) pause: Option<PauseReason>,
    pub(crate) fence: i64,
    pub(crate) session: Option<SessionNo>,
    pub(crate) attempt: i32,
    pub(crate) failures: i32,
    pub(crate) misses: i32,
    pub(crate) run_at: Option<Moment>,
    pub(crate) assigned_at: Option<i64>,
    pub(crate) started_at: Option<i64>,
    pub(crate) deadline: Option<i64>,
    pub(crate) finished_at: Option<i64>,
    pub(crate) resume: bool,
    pub(crate) want: Option<(Want, i64)>,
    pub(crate) priority: f64,
    // What is remembered of it.
    /// Whose words stand as its error: `crawler`, or the arrow that ended the attempt.
    pub(crate) error: Option<&'static str>,
    pub(crate) has_result: bool,
    /// The number of the newest report of each attempt.
    pub(crate) reports: BTreeMap<i32, i64>,
    /// The highest milestone of the tree, at its root.
    pub(crate) reached: u8,
    /// How far it got, as was last said.
    pub(crate) checkpoint: Option<u8>,
    pub(crate) tree_status: TreeStatus,
    pub(crate) settled_at: Option<i64>,
    /// Every lease there was.
    pub(crate) leases: Vec<(SessionNo, i64)>,
    pub(crate) history: Vec<Arrow>,
}

type Taken = Result<Arrow, Refusal>;

impl Job {
    pub(crate) fn ended(&self) -> bool {
        matches!(self.state, State::Completed | State::Failed | State::Cancelled)
    }

    pub(crate) fn is_held(&self) -> bool {
        matches!(self.state, State::Assigned | State::Running)
    }

    fn held_by(&self, lease: (SessionNo, i64)) -> Result<(), Refusal> {
        if self.is_held() && self.session == Some(lease.0) && self.fence == lease.1 {
            Ok(())
        } else {
            Err(Refusal::Stale)
        }
    }

    pub(crate) fn claim(&mut self, session: SessionNo, now: i64) -> Taken {
        match self.state {
            State::Queued => {
                self.state = State::Assigned;
                self.fence += 1;
                self.session = Some(session);
                self.assigned_at = Some(now);
                self.leases.push((session, self.fence));
                Ok(Arrow::Claim)
            }
            _ => Err(Refusal::NotQueued),
        }
    }

    pub(crate) fn start(&mut self, lease: (SessionNo, i64), rules: &Rules, now: i64) -> Taken {
        self.held_by(lease)?;
        match self.state {
            State::Assigned => {
                self.begin(rules, now);
                Ok(Arrow::Start)
            }
            _ => Err(Refusal::AlreadyStarted),
        }
    }

    fn begin(&mut self, rules: &Rules, now: i64) {
        let timeout = self.limits.timeout.map_or(rules.job_timeout, ms);
        self.state = State::Running;
        self.attempt += 1;
        self.misses = 0;
        self.deadline = Some(now + timeout);
        if self.started_at.is_none() {
            self.started_at = Some(now);
        }
    }

    /// An end implies the start.
    fn begin_late(&mut self, rules: &Rules, now: i64) {
        if self.state == State::Assigned {
            self.begin(rules, now);
            self.history.push(Arrow::Start);
        }
    }

    /// Wins over whatever is wished.
    pub(crate) fn complete(&mut self, lease: (SessionNo, i64), rules: &Rules, now: i64) -> Taken {
        self.held_by(lease)?;
        self.begin_late(rules, now);
        self.end(State::Completed, now);
        self.has_result = true;
        Ok(Arrow::Finish)
    }

    /// `free`: behind a closed gate of its credentials, where failing is not its fault.
    pub(crate) fn fail(
        &mut self,
        lease: (SessionNo, i64),
        (recoverable, free): (bool, bool),
        rules: &Rules,
        now: i64,
    ) -> Taken {
        self.held_by(lease)?;
        self.begin_late(rules, now);
        if free {
            self.put_off(rules, now);
        } else {
            self.failures += 1;
            if recoverable {
                self.put_off_or_fail(rules, now);
            } else {
                self.end(State::Failed, now);
            }
        }
        self.error = Some("crawler");
        Ok(Arrow::Finish)
    }

    pub(crate) fn release(&mut self, lease: (SessionNo, i64), rules: &Rules, now: i64) -> Taken {
        self.held_by(lease)?;
        match self.state {
            State::Assigned => {
                self.miss(rules, now);
                Ok(Arrow::Release)
            }
            _ => Err(Refusal::Stale),
        }
    }

    pub(crate) fn confirm(&mut self, lease: (SessionNo, i64), now: i64) -> Taken {
        self.held_by(lease)?;
        match self.want {
            Some((want, _)) => {
                self.grant(want, now);
                Ok(Arrow::Confirm)
            }
            None => self.give_back(lease, now),
        }
    }

    /// Nobody's fault.
    pub(crate) fn give_back(&mut self, lease: (SessionNo, i64), now: i64) -> Taken {
        self.held_by(lease)?;
        self.fence += 1;
        if self.state == State::Running {
            self.resume = true;
        }
        match self.want {
            Some((want, _)) => self.grant(want, now),
            None => self.queue(),
        }
        Ok(Arrow::Return)
    }

    pub(crate) fn keep(&mut self, lease: (SessionNo, i64), cursor: u8) -> Result<(), Refusal> {
        self.held_by(lease)?;
        self.checkpoint = Some(cursor);
        Ok(())
    }

    pub(crate) fn adopt(&mut self, session: SessionNo) -> Taken {
        self.session = Some(session);
        self.leases.push((session, self.fence));
        Ok(Arrow::Adopt)
    }

    /// Its session's lease ran out.
    pub(crate) fn expire(&mut self, rules: &Rules, now: i64) -> Taken {
        if self.state == State::Assigned {
            self.miss(rules, now);
            return Ok(Arrow::Expire);
        }
        self.fence += 1;
        self.failures += 1;
        self.error = Some("expire");
        if self.is_hopeless(rules) {
            self.end(State::Failed, now);
        } else if let Some((want, _)) = self.want {
            self.grant(want, now);
        } else {
            self.resume = true;
            self.queue();
        }
        Ok(Arrow::Expire)
    }

    pub(crate) fn run_too_long(&mut self, rules: &Rules, now: i64) -> Taken {
        self.fence += 1;
        self.failures += 1;
        self.put_off_or_fail(rules, now);
        self.error = Some("deadline");
        Ok(Arrow::Deadline)
    }

    pub(crate) fn promote(&mut self) -> Taken {
        self.queue();
        Ok(Arrow::Promote)
    }

    /// `until` is when a session that can confirm has had its time.
    pub(crate) fn wish(&mut self, want: Want, until: i64, now: i64) -> Taken {
        match (self.state, want) {
            (State::Cancelled, Want::Cancel) | (State::Paused, Want::Pause) => Err(Refusal::AlreadySo),
            (State::Completed | State::Failed | State::Cancelled, _) => Err(Refusal::Ended),
            (State::Assigned | State::Running, _) => match (self.want, want) {
                (Some((Want::Cancel, _)), Want::Pause) => Err(Refusal::Cancelling),
                (Some((Want::Cancel, _)), Want::Cancel) | (Some((Want::Pause, _)), Want::Pause) => {
                    Err(Refusal::AlreadySo)
                }
                (_, Want::Cancel) => {
                    self.want = Some((want, until));
                    Ok(Arrow::WantCancel)
                }
                (_, Want::Pause) => {
                    self.want = Some((want, until));
                    Ok(Arrow::WantPause)
                }
            },
            (State::Delayed | State::Queued | State::Paused, Want::Cancel) => {
                self.grant(want, now);
                Ok(Arrow::Cancel)
            }
            (State::Delayed | State::Queued, Want::Pause) => {
                self.grant(want, now);
                Ok(Arrow::Pause)
            }
        }
    }

    pub(crate) fn force(&mut self, now: i64) -> Taken {
        let (want, _) = self.want.ok_or(Refusal::NotWanted)?;
        self.fence += 1;
        self.grant(want, now);
        Ok(Arrow::Force)
    }

    /// `due`: whether the time before which it may not run has come.
    pub(crate) fn resume(&mut self, due: bool) -> Taken {
        match (self.want, self.pause) {
            (Some((Want::Pause, _)), _) => self.want = None,
            (_, Some(PauseReason::Operator)) if due => self.queue(),
            (_, Some(PauseReason::Operator)) => {
                self.state = State::Delayed;
                self.pause = None;
            }
            _ => return Err(Refusal::NotPaused),
        }
        Ok(Arrow::Resume)
    }

    pub(crate) fn retry(&mut self) -> Taken {
        match self.state {
            State::Failed | State::Cancelled => {
                self.begin_anew();
                Ok(Arrow::Retry)
            }
            _ => Err(Refusal::NotRetryable),
        }
    }

    pub(crate) fn redrive(&mut self) -> Taken {
        match (self.state, self.pause) {
            (State::Failed, _) | (_, Some(PauseReason::Quarantined)) => {
                self.begin_anew();
                Ok(Arrow::Redrive)
            }
            _ => Err(Refusal::NotRedrivable),
        }
    }

    pub(crate) fn set_priority(&mut self, priority: f64) -> Taken {
        if self.ended() {
            return Err(Refusal::Ended);
        }
        if self.priority == priority {
            return Err(Refusal::AlreadySo);
        }
        self.priority = priority;
        Ok(Arrow::SetPriority)
    }

    /// Its place in the queue, smallest first: a point of priority is worth a minute of waiting.
    pub(crate) fn due(&self) -> i64 {
        self.entered - (self.priority * 60_000.0) as i64
    }

    fn miss(&mut self, rules: &Rules, now: i64) {
        self.fence += 1;
        self.misses += 1;
        match self.want {
            Some((want, _)) => self.grant(want, now),
            None if self.misses >= rules.misses_max => {
                self.leave();
                self.state = State::Paused;
                self.pause = Some(PauseReason::Quarantined);
            }
            None => self.queue(),
        }
    }

    fn is_hopeless(&self, rules: &Rules) -> bool {
        let retries = self
            .limits
            .retry_attempts
            .map_or(rules.retries, |retries| retries as i32);
        self.failures > retries
    }

    fn put_off_or_fail(&mut self, rules: &Rules, now: i64) {
        if self.is_hopeless(rules) {
            self.end(State::Failed, now);
        } else {
            self.put_off(rules, now);
        }
    }

    /// Somewhere between at once and the whole delay, which doubles with each failure.
    fn put_off(&mut self, rules: &Rules, now: i64) {
        self.resume = true;
        if let Some((want, _)) = self.want {
            self.grant(want, now);
            return;
        }
        let first = self.limits.retry_delay.map_or(rules.retry_delay, ms);
        let mut delay = first;
        for _ in 1..self.failures {
            delay *= 2;
        }
        let to = now + delay.min(rules.retry_delay_max.max(first));
        self.leave();
        self.state = State::Delayed;
        self.run_at = Some(Moment { from: now, to });
    }

    fn grant(&mut self, want: Want, now: i64) {
        match want {
            Want::Cancel => self.end(State::Cancelled, now),
            Want::Pause => {
                self.leave();
                self.state = State::Paused;
                self.pause = Some(PauseReason::Operator);
                self.resume |= self.attempt > 0;
            }
        }
    }

    fn begin_anew(&mut self) {
        self.failures = 0;
        self.misses = 0;
        self.finished_at = None;
        self.resume |= self.attempt > 0;
        self.queue();
    }

    fn queue(&mut self) {
        self.leave();
        self.state = State::Queued;
        self.pause = None;
        self.run_at = None;
    }

    fn end(&mut self, state: State, now: i64) {
        self.leave();
        self.state = state;
        self.pause = None;
        self.run_at = None;
        self.finished_at = Some(now);
    }

    fn leave(&mut self) {
        self.session = None;
        self.assigned_at = None;
        self.deadline = None;
        self.want = None;
    }
}

fn ms(duration: std::time::Duration) -> i64 {
    duration.as_millis() as i64
}
