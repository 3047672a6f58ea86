//! Three clocks of a job that somebody holds, and what they say together: that a crawler is there does not mean that its
//! work goes on.

use std::time::Duration;

use crate::ids::Timestamp;
use crate::job::named;

named! {
    /// What a job that is held looks like from outside.
    Activity {
        /// Its crawler speaks of it, and its work goes on.
        Running = "running",
        /// Its crawler is there and has not spoken of it for a while.
        Quiet = "quiet",
        /// Its crawler is there, and nothing of the work was done for long.
        Stalled = "stalled",
        /// Something keeps it waiting, and it is nobody's fault: a closed gate.
        Waiting = "waiting",
        /// Its crawler has not been heard for longer than it may be silent.
        Lost = "lost",
    }
}

/// From when on silence means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Without a word about the job, it is [`Quiet`](Activity::Quiet).
    pub quiet_after: Duration,
    /// Without a step forward, it is [`Stalled`](Activity::Stalled).
    pub stalled_after: Duration,
    /// Without a byte from the crawler, it is [`Lost`](Activity::Lost): the lease.
    pub lost_after: Duration,
}

/// When something was heard last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// Anything at all from whoever holds the job. None when another server hears it, or nobody does.
    pub link_at: Option<Timestamp>,
    /// A message that names the job.
    pub worker_at: Timestamp,
    /// A step forward: a counter rose, or a checkpoint was kept.
    pub work_at: Timestamp,
}

impl Clocks {
    /// What they say together. `waits`: something known keeps the job waiting.
    pub fn activity(&self, now: Timestamp, waits: bool, thresholds: Thresholds) -> Activity {
        if self.link_at.is_some_and(|at| now.since(at) >= thresholds.lost_after) {
            Activity::Lost
        } else if waits {
            Activity::Waiting
        } else if now.since(self.work_at) >= thresholds.stalled_after {
            Activity::Stalled
        } else if now.since(self.worker_at) >= thresholds.quiet_after {
            Activity::Quiet
        } else {
            Activity::Running
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        quiet_after: Duration::from_secs(60),
        stalled_after: Duration::from_secs(300),
        lost_after: Duration::from_secs(30),
    };

    #[test]
    fn the_worst_that_is_true_is_said() {
        // Seconds since each clock, and whether a gate is closed.
        let activity = |link: Option<i64>, worker: i64, work: i64, waits: bool| {
            let now = Timestamp(1_000_000);
            let ago = |seconds: i64| Timestamp(now.0 - seconds * 1000);
            let clocks = Clocks {
                link_at: link.map(ago),
                worker_at: ago(worker),
                work_at: ago(work),
            };
            clocks.activity(now, waits, THRESHOLDS)
        };
        assert_eq!(activity(Some(0), 0, 0, false), Activity::Running);
        assert_eq!(activity(Some(29), 59, 299, false), Activity::Running);
        assert_eq!(activity(Some(0), 60, 60, false), Activity::Quiet);
        assert_eq!(
            activity(Some(0), 0, 300, false),
            Activity::Stalled,
            "it speaks and does nothing"
        );
        assert_eq!(activity(Some(0), 400, 400, false), Activity::Stalled);
        assert_eq!(activity(Some(0), 400, 400, true), Activity::Waiting);
        assert_eq!(activity(Some(30), 400, 400, true), Activity::Lost);
        assert_eq!(
            activity(None, 0, 0, false),
            Activity::Running,
            "another server hears it"
        );
        assert_eq!(
            activity(Some(-5), -5, -5, false),
            Activity::Running,
            "a clock that stepped back"
        );
    }
}
