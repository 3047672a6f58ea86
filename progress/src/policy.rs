//! The numbers that decide, from the configuration.

use std::time::Duration;

use crate::track::Milestones;

/// Every limit and time span that arrows and batches depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// How long a session keeps its jobs without a sign of life; equals the heartbeat timeout.
    pub lease: Duration,
    /// What is left of a lease when its connection is lost.
    pub reattach_grace: Duration,
    /// How long an assignment may wait for its start.
    pub accept_timeout: Duration,
    /// How long one attempt may run.
    pub job_timeout: Duration,
    /// Failures that are tried again.
    pub retry_attempts: u32,
    /// Before the first retry; doubles each time.
    pub retry_delay: Duration,
    /// Retries never wait longer.
    pub retry_delay_max: Duration,
    /// Misses in a row after which a job is quarantined.
    pub misses_max: i32,
    /// Jobs that may wait before submissions are refused. Never holds back what a crawl discovers.
    pub queued_jobs_max: u64,
    /// Levels of children below a submitted job.
    pub tree_depth_max: u32,
    /// Children of one job.
    pub children_max: u64,
    /// Jobs below one submitted job.
    pub tree_jobs_max: u64,
    /// Jobs of one account that have not ended; holds back discovered ones, item by item.
    pub account_jobs_max: u64,
    /// Jobs of one account that may be held at a time; any number when none.
    pub account_held_max: Option<u64>,
    /// How long a session that can confirm has for it.
    pub want_timeout: Duration,
    /// What jobs, their counters and trees are told to have passed.
    pub milestones: Milestones,
    /// A guard that is left out, to show that tests notice.
    #[cfg(feature = "testing")]
    pub without: Option<Guard>,
}

/// Guards that tests must miss when they are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Whoever speaks for a lease names its fence.
    Fence,
    /// A lease is looked at once more, with the row at hand, before it is ended by time.
    Expiry,
    /// What the crawl has already is not created again.
    ChildIdentity,
    /// A finish wins over a wanted cancel or pause.
    FinishOverWant,
    /// A report that is not newer than the one that is kept does not count.
    NewerReport,
    /// What a report added to its tree is taken away when the next one of the attempt counts.
    ReportBefore,
    /// What an attempt added to its tree is taken away when the next one reports.
    AttemptBefore,
}

impl Policy {
    /// Whether a guard stands. It always does but in tests of the tests.
    pub(crate) fn has(&self, guard: Guard) -> bool {
        #[cfg(feature = "testing")]
        return self.without != Some(guard);
        #[cfg(not(feature = "testing"))]
        {
            let _ = guard;
            true
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(90),
            reattach_grace: Duration::from_secs(5),
            accept_timeout: Duration::from_secs(30),
            job_timeout: Duration::from_secs(3600),
            retry_attempts: 3,
            retry_delay: Duration::from_secs(5),
            retry_delay_max: Duration::from_secs(3600),
            misses_max: 20,
            queued_jobs_max: 100_000,
            tree_depth_max: 20,
            children_max: 100_000,
            tree_jobs_max: 1_000_000,
            account_jobs_max: 1_000_000,
            account_held_max: None,
            want_timeout: Duration::from_secs(30),
            milestones: Milestones::default(),
            #[cfg(feature = "testing")]
            without: None,
        }
    }
}
