//! A tracker, the state of its job and the time together: what a person sees.

use super::clock::{Activity, Clocks, Thresholds};
use super::eta::{self, NoEstimate, Range, Remaining};
use super::issue::IssueKind;
use super::total::TotalKind;
use super::tracker::{Phase, Tracker};
use crate::ids::Timestamp;
use crate::job::State;

/// The rest of the job, as a tracker does not know it.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Where the job is in its life.
    pub state: State,
    /// How often it was started.
    pub attempt: i32,
    /// How often an attempt went wrong.
    pub failures: i32,
    /// When anything was last heard of its holder, if that is known here.
    pub link_at: Option<Timestamp>,
    /// Whether something known keeps it waiting.
    pub waits: bool,
}

/// What a person sees of a job at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Where the work is.
    pub phase: Phase,
    /// What it looks like from outside; none unless somebody works on the job.
    pub activity: Option<Activity>,
    /// Our completion, 0 to 1.
    pub completion: f64,
    /// Whether more work may come than anybody can say.
    pub discovering: bool,
    /// When it will end, or why nobody can say.
    pub eta: Result<Range, NoEstimate>,
    /// When what was heard last.
    pub clocks: Clocks,
    /// Share of the attempts that went wrong, 0 to 1.
    pub error_rate: f64,
    /// Share of the attempts that were not the first, 0 to 1.
    pub retry_rate: f64,
    /// Whether so many attempts went wrong that somebody should look.
    pub high_error_rate: Option<IssueKind>,
}

impl Phase {
    /// Where the work of a job is that is in this state; `work` says where that of a running one is.
    pub fn of(state: State, work: impl FnOnce() -> Self) -> Self {
        match state {
            State::Completed => Self::Completed,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
            State::Paused => Self::Paused,
            State::Delayed | State::Queued | State::Assigned => Self::Initializing,
            State::Running => work(),
        }
    }
}

impl Tracker {
    /// What a person sees at this moment.
    pub fn snapshot(&self, facts: Facts, now: Timestamp, thresholds: Thresholds) -> Snapshot {
        let clocks = Clocks {
            link_at: facts.link_at,
            worker_at: self.worker_at(),
            work_at: self.work_at(),
        };
        let runs = facts.state == State::Running;
        let activity = runs.then(|| clocks.activity(now, facts.waits, thresholds));
        let phase = Phase::of(facts.state, || self.phase());
        let share = |part: i32| f64::from(part.max(0)) / f64::from(facts.attempt.max(1));
        let error_rate = share(facts.failures).min(1.0);
        Snapshot {
            phase,
            activity,
            completion: self.completion(),
            discovering: !facts.state.is_terminal() && self.total().kind.is_open(),
            eta: self.eta(facts.state, activity, now),
            clocks,
            error_rate,
            retry_rate: share(facts.attempt - 1),
            high_error_rate: (facts.attempt >= 2 && error_rate >= 0.5).then_some(IssueKind::HighErrorRate),
        }
    }

    fn eta(&self, state: State, activity: Option<Activity>, now: Timestamp) -> Result<Range, NoEstimate> {
        match state {
            State::Completed | State::Failed | State::Cancelled => return Err(NoEstimate::Finished),
            State::Paused => return Err(NoEstimate::Paused),
            State::Delayed | State::Queued | State::Assigned => return Err(NoEstimate::NotStarted),
            State::Running => {}
        }
        match activity {
            Some(Activity::Waiting) => return Err(NoEstimate::Waiting),
            Some(Activity::Stalled | Activity::Lost) => return Err(NoEstimate::Stalled),
            _ => {}
        }
        let (Some(pace), false) = (self.pace(), self.entities.is_empty()) else {
            return Err(NoEstimate::TooEarly);
        };
        if self.total().kind.is_open() {
            return Err(NoEstimate::TotalOpen);
        }
        eta::estimate(pace, self.worked(now), self.remaining())
    }

    /// What remains to be done of the totals as they look now.
    fn remaining(&self) -> Remaining {
        self.entities.iter().fold(Remaining::known(0), |sum, entity| {
            let total = entity.total();
            let left = total.items.saturating_sub(entity.done());
            sum.and(match total.kind {
                TotalKind::Known => Remaining::known(left),
                _ => Remaining::estimated(left),
            })
        })
    }
}
