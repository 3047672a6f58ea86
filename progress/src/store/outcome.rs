//! What became of what a store was asked to do.

use std::sync::Arc;

use super::RefusedNumbers;
use crate::discovery::Verdict;
use crate::ids::{CredentialKey, Fence, JobKey, SessionKey, SessionRef, Timestamp, TokenKey};
use crate::job::{Arrow, State, Want};
use crate::lifecycle::Refusal;
use crate::sums::TreeMilestone;
use crate::view::JobView;

/// What became of an operation.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The job exists.
    Submitted(Box<JobView>),
    /// The job existed: it was submitted before under the same key.
    Repeated {
        /// Its name outside.
        public_id: String,
    },
    /// What became of each of many submissions, in order.
    SubmittedAll(Vec<Self>),
    /// The arrow was taken.
    Moved(Fact),
    /// What became of each item, in order; an accepted one with the fact of its creation.
    Discovered(Vec<(Verdict, Option<Fact>)>),
    /// The session exists.
    SessionOpened(Opened),
    /// What became of what a session said.
    Said(Said),
    /// The token may be shown from now on.
    TokenCreated(TokenKey),
    /// What time demanded.
    Swept(Vec<Fact>),
    /// The arrows that were taken, and where an operation over many jobs goes on; none at its end.
    Acted {
        /// In order.
        facts: Vec<Fact>,
        /// The last job that was looked at.
        next: Option<JobKey>,
    },
    /// Rows are gone.
    Deleted {
        /// How many.
        jobs: usize,
        /// Whether the operation has to be repeated.
        more: bool,
    },
    /// Old rows are gone.
    Pruned {
        /// How many jobs.
        jobs: usize,
        /// How many errors.
        errors: usize,
        /// Whether there are more.
        more: bool,
    },
    /// The leases last longer, but for sessions that the store holds for disconnected or does not know, and for those
    /// that another connection speaks for by now.
    Renewed {
        /// Those.
        lost: Vec<SessionRef>,
    },
    /// The reports are kept, but for those of leases that are over.
    Progressed {
        /// The jobs of those.
        stale: Vec<JobKey>,
        /// Milestones that trees passed by them.
        passed: Vec<TreeMilestone>,
    },
    /// Done, nothing to say.
    Done,
    /// No effect, and why.
    Refused(Rejection),
}

impl Outcome {
    /// Why it counts for nothing to a session that asked for it, by a stable name. What was so already does count.
    pub fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Refused(Rejection::Job(Refusal::AlreadyStarted)) => None,
            Self::Refused(Rejection::Job(refusal)) => Some(refusal.as_str()),
            Self::Refused(_) => Some("refused"),
            _ => None,
        }
    }
}

/// Why an operation had no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A guard did not hold.
    #[error(transparent)]
    Job(#[from] Refusal),
    /// Too many jobs wait already.
    #[error("the queue is full: {limit} jobs wait")]
    QueueFull {
        /// `max_queued_jobs`.
        limit: u64,
    },
    /// Too many gates are closed already.
    #[error("too many gates are closed: {limit}")]
    TooManyGates {
        /// [`GATES_MAX`](super::GATES_MAX).
        limit: usize,
    },
    /// There is no such account.
    #[error("there is no such account")]
    NoSuchAccount,
    /// No token is kept for the account on the host.
    #[error("there is no token for the account on this host")]
    NoSuchCredential,
    /// The web app used this name before.
    #[error("the web_app_job_id is taken by job {public_id}")]
    NameTaken {
        /// The job that has it.
        public_id: String,
    },
    /// Something else was submitted under this key.
    #[error("the key was used for another submission")]
    KeyReused,
    /// The instance belongs to somebody else.
    #[error("the instance belongs to another crawler")]
    InstanceTaken,
    /// There is or was a token of this name.
    #[error("there is, or was, a token of this name")]
    TokenNameTaken,
    /// There is no such token.
    #[error("there is no token of this name")]
    NoSuchToken,
}

/// A session that was opened, or opened again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its row, and which of its connections this is.
    pub session: SessionRef,
    /// Its name.
    pub name: Arc<str>,
    /// The last number that is settled; 0 when none is.
    pub high_water: i64,
    /// The fingerprint that came with that number.
    pub fingerprint: i64,
    /// Which of the last numbers were refused.
    pub refused: RefusedNumbers,
    /// The jobs that the session holds, by their rows.
    pub leases: Vec<OwnLease>,
}

/// A job that a session holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnLease {
    /// Its row.
    pub key: JobKey,
    /// Its name outside.
    pub public_id: String,
    /// The lease.
    pub fence: Fence,
    /// How often it was started.
    pub attempt: i32,
    /// Assigned or running.
    pub state: State,
    /// What somebody wishes of it.
    pub want: Option<Want>,
    /// The token to work with.
    pub credential: Option<CredentialKey>,
}

/// What became of what a session said under a number.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// It was carried out, and the number is settled: what became of each operation, in order.
    Applied(Vec<Outcome>),
    /// The number was settled before; no effect.
    Repeated {
        /// Whether it is the last settled number, and came with another fingerprint then.
        conflict: bool,
        /// Why it had no effect when it was settled, if it had none and that is still known.
        refused: Option<String>,
    },
    /// A number before it is missing; no effect.
    Gap {
        /// The last settled number.
        high_water: i64,
    },
    /// Another connection speaks for the session by now, or the session is forgotten; no effect.
    Replaced,
}

/// An arrow that was taken, as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The job.
    pub job: JobKey,
    /// Its name outside.
    pub public_id: String,
    /// The arrow.
    pub arrow: Arrow,
    /// The state before; none for a new job.
    pub from: Option<State>,
    /// The state after.
    pub state: State,
    /// The fence after.
    pub fence: Fence,
    /// The attempt after.
    pub attempt: i32,
    /// Who took the arrow, or lost the job by it.
    pub session: Option<SessionKey>,
    /// When.
    pub at: Timestamp,
    /// Milestones that its tree passed by it; only when it ended.
    pub passed: Vec<TreeMilestone>,
}
