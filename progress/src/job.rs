//! States, arrows, and the part of a job that arrows change.

use std::fmt;

use crate::ids::{Fence, JobKey, SessionKey, Timestamp};

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

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}

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
        /// It ran longer than it may: → delayed for a retry, or failed.
        Deadline = "deadline",
    }
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
    /// When it may run; set exactly when delayed.
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
                self.run_at.is_some() == (self.state == State::Delayed),
                "run_at exactly when delayed",
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
