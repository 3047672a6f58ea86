//! The port: operations go down, committed facts come up.
//!
//! A [`Store`] takes operations in the order they are given and commits what has arrived together, in one transaction,
//! as [`plan`](crate::plan) says. Each operation's future resolves when its transaction is durable. An operation that
//! cannot be carried out is answered with a [`Refusal`] and costs only itself.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crawlwire_protocol::AccessToken;
use crawlwire_protocol::error::{Category, Classify, Severity};
use crawlwire_protocol::message::DiscoveredJob;

use crate::discovery::Verdict;
use crate::ids::{CredentialKey, Fence, JobKey, SessionKey, Timestamp};
use crate::job::{Arrow, State};
use crate::lifecycle::{Lease, Refusal};
use crate::view::{
    ErrorRow, ErrorView, EventView, JobSpec, JobView, Page, ProgressView, ReadyJob, SessionView, StateCounts,
};

/// A future of the port. Boxed, because the port is used behind `dyn`; one allocation per operation.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What becomes of an operation that was given to the writer.
pub type Ticket = BoxFuture<'static, Result<Committed<Outcome>, StoreError>>;

/// A job to be created.
#[derive(Clone)]
pub struct NewJob {
    /// Its name outside, made by the caller (a UUIDv7).
    pub public_id: String,
    /// The web app's own name for it.
    pub web_app_job_id: Option<String>,
    /// The account's name; created when unknown.
    pub account_id: String,
    /// What it is about.
    pub spec: JobSpec,
    /// A token for this account and host; replaces an earlier one.
    pub access_token: Option<AccessToken>,
    /// Whether the first assignment already asks to go on.
    pub resume: bool,
}

impl std::fmt::Debug for NewJob {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter
            .debug_struct("NewJob")
            .field("public_id", &self.public_id)
            .finish_non_exhaustive()
    }
}

/// Who speaks for a lease, with the name that history keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The session.
    pub session: SessionKey,
    /// Its name.
    pub name: Arc<str>,
    /// The fence it was given.
    pub fence: Fence,
}

impl Holder {
    /// Without the name.
    pub fn lease(&self) -> Lease {
        Lease {
            session: self.session,
            fence: self.fence,
        }
    }
}

/// A session to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// `legacy-<connection>` for a base crawler.
    pub name: Arc<str>,
    /// Who the peer is: the same text means the same process. None over TCP.
    pub identity: Option<String>,
    /// The server that holds the connection.
    pub server: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// Well.
    Completed {
        /// What the crawler said, as JSON text.
        result: String,
    },
    /// Badly.
    Failed {
        /// What the crawler said, as JSON text.
        error: String,
        /// Whether another attempt may help.
        recoverable: bool,
    },
}

/// One operation. Those of one caller are carried out in the order they were given.
#[derive(Debug, Clone)]
pub enum Op {
    /// Create a job. → [`Outcome::Submitted`]
    Submit(Box<NewJob>),
    /// Give a queued job to a session. → [`Outcome::Moved`]
    Claim {
        /// The job.
        job: JobKey,
        /// The session.
        session: SessionKey,
        /// The session's name.
        name: Arc<str>,
    },
    /// The session began. → [`Outcome::Moved`]
    Start {
        /// The job.
        job: JobKey,
        /// Who says so.
        holder: Holder,
    },
    /// The session ended the job. → [`Outcome::Moved`]
    Finish {
        /// The job.
        job: JobKey,
        /// Who says so.
        holder: Holder,
        /// How.
        ending: Ending,
        /// The last counts, if the message had any.
        progress: Option<ProgressView>,
    },
    /// The assignment could not be delivered. → [`Outcome::Moved`]
    Release {
        /// The job.
        job: JobKey,
        /// Who had it.
        holder: Holder,
    },
    /// A connection names a job that an earlier connection of the same process held. → [`Outcome::Moved`]
    Adopt {
        /// The job's public id.
        public_id: String,
        /// The session that takes it over.
        session: SessionKey,
    },
    /// Children of a job that somebody holds. → [`Outcome::Discovered`]
    Discover {
        /// The parent.
        parent: JobKey,
        /// Who says so.
        holder: Holder,
        /// Found items, each with the public id it gets if it becomes a job.
        items: Vec<(String, DiscoveredJob)>,
    },
    /// How far jobs are: at most 500 of them, the newest report of each. → [`Outcome::Done`]; reports of a lease that
    /// is over are dropped.
    Progress(Vec<(JobKey, Lease, ProgressView)>),
    /// A peer became known. → [`Outcome::SessionOpened`]
    OpenSession(NewSession),
    /// These sessions gave a sign of life. → [`Outcome::Done`]
    Renew(Vec<SessionKey>),
    /// A session's connection is gone. → [`Outcome::Done`]
    Disconnect(SessionKey),
    /// A server starts, or its database came back: its sessions of before have no connection, and every session gets
    /// one full lease. Until then no deadline passes, and what was assigned has its whole accept time again: nobody
    /// could say anything in the meantime. → [`Outcome::Done`]
    Recover {
        /// The server.
        server: String,
        /// Whether connections survived (the database was away, not the server).
        connected: bool,
    },
    /// Do what time demands: expire leases, end attempts past their deadline, take back assignments that were never
    /// started, promote delayed jobs. At most [`SWEEP_MAX`] jobs at a time. → [`Outcome::Swept`]
    Sweep,
    /// Log errors. → [`Outcome::Done`]
    RecordErrors(Vec<ErrorRow>),
}

impl Op {
    /// Whether the operation waits in its place while the database is away. It does when it carries what a crawler
    /// said or is told once: a crawler of the base protocol cannot be asked to say it again, and its operations must not
    /// overtake each other.
    pub fn is_patient(&self) -> bool {
        match self {
            Self::Start { .. }
            | Self::Finish { .. }
            | Self::Release { .. }
            | Self::Adopt { .. }
            | Self::Discover { .. }
            | Self::OpenSession(_)
            | Self::Disconnect(_) => true,
            // Repeated by whoever gives them: the web app, or the next round of a timer.
            Self::Submit(_)
            | Self::Claim { .. }
            | Self::Progress(_)
            | Self::Renew(_)
            | Self::Recover { .. }
            | Self::Sweep
            | Self::RecordErrors(_) => false,
        }
    }
}

/// Jobs one sweep moves at most, so that it never holds the writer for long; the next sweep goes on.
pub const SWEEP_MAX: usize = 500;

/// Rows one progress statement carries at most.
pub const PROGRESS_ROWS_MAX: usize = 500;

/// What became of an operation.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The job exists.
    Submitted(Box<JobView>),
    /// The arrow was taken.
    Moved(Fact),
    /// What became of each item, in order; an accepted one with the fact of its creation.
    Discovered(Vec<(Verdict, Option<Fact>)>),
    /// The session exists.
    SessionOpened(SessionKey),
    /// What time demanded.
    Swept(Vec<Fact>),
    /// Done, nothing to say.
    Done,
    /// No effect, and why.
    Refused(Rejection),
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
    /// The web app used this name before.
    #[error("the web_app_job_id is taken by job {public_id}")]
    NameTaken {
        /// The job that has it.
        public_id: String,
    },
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
}

/// Something that is durable by now. Only stores make one, after their commit; only what is wrapped may be published.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed<T>(T);

impl<T> Committed<T> {
    /// For stores, after the commit.
    pub fn after_commit(value: T) -> Self {
        Self(value)
    }

    /// The thing itself.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Committed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Why a store could not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database is away, locked or too slow. Nothing of the operation took effect, unless the connection was lost
    /// in the middle of the commit and stayed lost: then nobody can say.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The database refused this operation; trying it again will not help.
    #[error("the database refused the operation: {0}")]
    Broken(String),
    /// The store is shut down.
    #[error("the store is closed")]
    Closed,
}

impl Classify for StoreError {
    fn category(&self) -> Category {
        Category::Database
    }

    fn severity(&self) -> Severity {
        match self {
            Self::Unavailable(_) => Severity::High,
            Self::Broken(_) => Severity::Critical,
            Self::Closed => Severity::Low,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "database_unavailable",
            Self::Broken(_) => "database_refused",
            Self::Closed => "store_closed",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        matches!(self, Self::Unavailable(_)).then_some(Duration::from_secs(1))
    }
}

/// Which jobs a list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// In one of these states; any when empty.
    pub states: Vec<State>,
    /// Of this account, by name.
    pub account_id: Option<String>,
    /// Children of this job.
    pub parent: Option<JobKey>,
}

/// Where a list goes on, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paging {
    /// Rows a page has at most.
    pub limit: usize,
    /// The [`Page::next`] of the page before.
    pub after: Option<i64>,
}

/// Keeps lives. Implemented over SQLite and PostgreSQL in `crawlwire-persistence`, and in memory in
/// [`memory`](crate::memory).
pub trait Store: Send + Sync {
    /// Gives one operation to the writer, waiting while its queue is full. The place in the order is taken when this
    /// resolves; the ticket resolves when the operation is durable, or had no effect.
    ///
    /// While the database is away, an operation that somebody cannot be asked to repeat ([`Op::is_patient`]) waits in
    /// its place; the others are answered with [`StoreError::Unavailable`].
    ///
    /// # Cancel safety
    /// Dropped before it resolves, the operation was not given. Dropping the ticket does not take it back.
    fn enqueue(&self, op: Op) -> BoxFuture<'_, Ticket>;

    /// [`enqueue`](Self::enqueue), and then waits for the commit.
    fn commit(&self, op: Op) -> BoxFuture<'_, Result<Committed<Outcome>, StoreError>> {
        Box::pin(async move { self.enqueue(op).await.await })
    }

    /// Whether the database answers.
    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// A job by its public id, or by the web app's name for it.
    fn job<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<JobView>, StoreError>>;

    /// Jobs, newest first.
    fn jobs(&self, filter: JobFilter, paging: Paging) -> BoxFuture<'_, Result<Page<JobView>, StoreError>>;

    /// How many jobs are in each state.
    fn counts(&self) -> BoxFuture<'_, Result<StateCounts, StoreError>>;

    /// The history of a job, oldest first.
    fn events(&self, job: JobKey, paging: Paging) -> BoxFuture<'_, Result<Page<EventView>, StoreError>>;

    /// The last stored report about a job.
    fn progress(&self, job: JobKey) -> BoxFuture<'_, Result<Option<ProgressView>, StoreError>>;

    /// Queued jobs, best first.
    fn ready(&self, limit: usize) -> BoxFuture<'_, Result<Vec<ReadyJob>, StoreError>>;

    /// A credential's token and version.
    fn token(&self, credential: CredentialKey) -> BoxFuture<'_, Result<Option<(AccessToken, i64)>, StoreError>>;

    /// Sessions that are connected or hold a lease, newest first.
    fn sessions(&self, limit: usize) -> BoxFuture<'_, Result<Vec<SessionView>, StoreError>>;

    /// Logged errors, newest first.
    fn errors(&self, paging: Paging) -> BoxFuture<'_, Result<Page<ErrorView>, StoreError>>;
}
