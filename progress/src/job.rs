//! States, arrows, and the part of a job that arrows change.

use std::time::Duration;

use crate::ids::{Fence, JobKey, SessionKey, Timestamp};
use crate::weight::{Size, Weighed};

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name, in the database and in the API.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }

            /// The value with this name.
            pub fn named(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut ::std::fmt::Formatter) -> ::std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use named;

named! {
    /// Where a job is in its life.
    State {
        /// Its time has not come, or it waits before a retry. The web app sees `queued`.
        Delayed = "delayed",
        /// Ready to be given to a crawler.
        Queued = "queued",
        /// Given to a session that has not begun.
        Assigned = "assigned",
        /// A session works on it.
        Running = "running",
        /// Held back, see [`PauseReason`]. Never has a lease.
        Paused = "paused",
        /// Ended well.
        Completed = "completed",
        /// Ended badly.
        Failed = "failed",
        /// Ended because somebody wished so.
        Cancelled = "cancelled",
    }
}

impl State {
    /// Whether the job has ended for good.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Whether a session holds the job.
    pub const fn is_leased(self) -> bool {
        matches!(self, Self::Assigned | Self::Running)
    }

    /// Whether the job counts against `max_queued_jobs`.
    pub const fn is_backlog(self) -> bool {
        matches!(self, Self::Delayed | Self::Queued)
    }

    /// The status as the web app sees it: seven words, `delayed` shows as `queued`.
    pub const fn web_status(self) -> &'static str {
        match self {
            Self::Delayed => Self::Queued.as_str(),
            other => other.as_str(),
        }
    }

    /// The states that the web app means by a status.
    pub fn with_web_status(status: &str) -> Vec<Self> {
        Self::ALL
            .iter()
            .copied()
            .filter(|state| state.web_status() == status)
            .collect()
    }
}

named! {
    /// Why a job is paused.
    PauseReason {
        /// Somebody wished so.
        Operator = "operator",
        /// It was given out too often without ever starting.
        Quarantined = "quarantined",
    }
}

named! {
    /// The steps of a life. Each leaves its mark in the job's events.
    Arrow {
        /// The web app created the job.
        Submit = "submit",
        /// A parent job found it.
        Discover = "discover",
        /// Its time came: delayed → queued.
        Promote = "promote",
        /// Given to a session: queued → assigned.
        Claim = "claim",
        /// The session began: assigned → running.
        Start = "start",
        /// The session said how it ended: → completed, failed, or delayed for a retry.
        Finish = "finish",
        /// A later connection of the same crawler took it over; no attempt is spent.
        Adopt = "adopt",
        /// The session's lease ran out: → queued or failed.
        Expire = "expire",
        /// Given back without having begun: assigned → queued, or paused after too many misses.
        Release = "release",
        /// Given back by its crawler, which does not go on with it: → queued; or as somebody wished meanwhile.
        Return = "return",
        /// It ran longer than it may: → delayed for a retry, or failed.
        Deadline = "deadline",
        /// Somebody wishes a held job to end. It is the session's turn to confirm.
        WantCancel = "want_cancel",
        /// Somebody wishes a held job to be held back. It is the session's turn to confirm.
        WantPause = "want_pause",
        /// The session did what was wished: → cancelled, paused.
        Confirm = "confirm",
        /// The session did not do in time what was wished, or cannot be asked: → cancelled, paused.
        Force = "force",
        /// Somebody ended a job that nobody held: → cancelled.
        Cancel = "cancel",
        /// Somebody held back a job that nobody held: → paused.
        Pause = "pause",
        /// Somebody let a held back job go on: → queued, delayed; or took back the wish to pause it.
        Resume = "resume",
        /// Somebody gave a failed or cancelled job another chance: → queued.
        Retry = "retry",
        /// Somebody gave a quarantined or failed job another chance, with others like it: → queued.
        Redrive = "redrive",
        /// Somebody changed its place in the queue.
        SetPriority = "set_priority",
    }
}

named! {
    /// What somebody wishes of a job that a session holds.
    Want {
        /// It shall end.
        Cancel = "cancel",
        /// It shall be held back.
        Pause = "pause",
    }
}

named! {
    /// Where a job and everything below it is, see [`Tree`].
    TreeStatus {
        /// Something is still to be done.
        Open = "open",
        /// The job and everything below it ended well.
        Completed = "completed",
        /// All ended; the job, or something below it, badly.
        Failed = "failed",
        /// All ended; the job because somebody wished so.
        Cancelled = "cancelled",
    }
}

/// What a job says of everything below it. A job's own state never waits for its children; this does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    /// Children it has.
    pub children: i64,
    /// Jobs below it, on all levels; counted at roots only.
    pub jobs: i64,
    /// What it and the jobs below it were expected to be when they were made; counted at roots only.
    pub weighed: Weighed,
    /// Children whose own tree is open.
    pub open_children: i64,
    /// Children whose own tree is over, and not well.
    pub failed_children: i64,
    /// Where the job and everything below it is.
    pub status: TreeStatus,
    /// When it was over; set exactly when it is not open.
    pub settled_at: Option<Timestamp>,
}

impl Tree {
    /// Of a job that has just begun.
    pub const NEW: Self = Self {
        children: 0,
        jobs: 0,
        weighed: Weighed::NONE,
        open_children: 0,
        failed_children: 0,
        status: TreeStatus::Open,
        settled_at: None,
    };

    /// How large the tree of a root is, the root among its jobs.
    pub fn size(&self) -> Size {
        Size {
            jobs: u64::try_from(self.jobs).unwrap_or(0).saturating_add(1),
            weighed: self.weighed,
        }
    }

    /// The status that follows from the job's own state and its children.
    pub const fn status_with(&self, state: State) -> TreeStatus {
        match state {
            _ if self.open_children > 0 || !state.is_terminal() => TreeStatus::Open,
            State::Cancelled => TreeStatus::Cancelled,
            State::Completed if self.failed_children == 0 => TreeStatus::Completed,
            _ => TreeStatus::Failed,
        }
    }
}

/// What a job may ask for itself in place of the server's numbers. Children inherit it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobLimits {
    /// How long one attempt may run.
    pub timeout: Option<Duration>,
    /// Failures that are tried again.
    pub retry_attempts: Option<u32>,
    /// Before the first retry.
    pub retry_delay: Option<Duration>,
}

/// The part of a job that arrows change: one row of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its row.
    pub key: JobKey,
    /// Where it is.
    pub state: State,
    /// Set exactly when paused.
    pub pause_reason: Option<PauseReason>,
    /// The current or last lease.
    pub fence: Fence,
    /// Who holds it; set exactly when leased.
    pub session: Option<SessionKey>,
    /// How often it was started.
    pub attempt: i32,
    /// How often an attempt went wrong.
    pub failures: i32,
    /// How often in a row it was given out and never started.
    pub misses: i32,
    /// When it may run; set when delayed, and kept while it is held back.
    pub run_at: Option<Timestamp>,
    /// When it was given out; set exactly when leased.
    pub assigned_at: Option<Timestamp>,
    /// When it first began.
    pub started_at: Option<Timestamp>,
    /// Until when the attempt may run; set exactly when running.
    pub deadline: Option<Timestamp>,
    /// When it ended; set exactly when terminal.
    pub finished_at: Option<Timestamp>,
    /// Whether the next assignment asks the crawler to go on where an earlier attempt stopped.
    pub resume: bool,
    /// What somebody wishes of it; only when leased.
    pub want: Option<Want>,
    /// Until when the session may confirm; set exactly when something is wished.
    pub want_deadline: Option<Timestamp>,
    /// Higher runs first.
    pub priority: f64,
    /// Its place in the queue, see [`priority::due`](crate::priority::due).
    pub due: i64,
    /// Its own numbers. Never change.
    pub limits: JobLimits,
}

impl Job {
    /// A new job, ready to be given out.
    pub fn queued(key: JobKey, resume: bool) -> Self {
        Self {
            key,
            state: State::Queued,
            pause_reason: None,
            fence: Fence(0),
            session: None,
            attempt: 0,
            failures: 0,
            misses: 0,
            run_at: None,
            assigned_at: None,
            started_at: None,
            deadline: None,
            finished_at: None,
            resume,
            want: None,
            want_deadline: None,
            priority: 1.0,
            due: 0,
            limits: JobLimits::default(),
        }
    }

    /// What the states mean, as a check for tests; the database holds the same as constraints.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn check(&self) -> Result<(), &'static str> {
        let rules = [
            (
                self.session.is_some() == self.state.is_leased(),
                "a session exactly when leased",
            ),
            (
                self.assigned_at.is_some() == self.state.is_leased(),
                "assigned_at exactly when leased",
            ),
            (
                self.deadline.is_some() == (self.state == State::Running),
                "a deadline exactly when running",
            ),
            (
                self.finished_at.is_some() == self.state.is_terminal(),
                "finished_at exactly when terminal",
            ),
            (
                self.run_at.is_some() || self.state != State::Delayed,
                "run_at when delayed",
            ),
            (
                self.run_at.is_none() || matches!(self.state, State::Delayed | State::Paused),
                "run_at only when delayed or paused",
            ),
            (self.want.is_none() || self.state.is_leased(), "a wish only when leased"),
            (
                self.want.is_some() == self.want_deadline.is_some(),
                "a wish has a deadline",
            ),
            (
                self.pause_reason.is_some() == (self.state == State::Paused),
                "a reason exactly when paused",
            ),
            (self.failures <= self.attempt, "no failure without an attempt"),
        ];
        rules
            .into_iter()
            .find(|(holds, _)| !holds)
            .map_or(Ok(()), |(_, rule)| Err(rule))
    }
}
