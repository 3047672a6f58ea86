//! The port: operations go down, committed facts come up.
//!
//! A [`Store`] takes operations in the order they are given and commits what has arrived together, in one transaction,
//! as [`plan`](crate::plan) says. Each operation's future resolves when its transaction is durable. An operation that
//! cannot be carried out is answered with a [`Rejection`] and costs only itself.

mod filter;
mod new;
mod op;
mod outcome;
mod refused;

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::time::Duration;

use crawlwire_protocol::AccessToken;
use crawlwire_protocol::error::{Category, Classify, Severity};
use crawlwire_protocol::message::JobType;

use crate::admit::ClosedGate;
use crate::ids::{AccountKey, CredentialKey, JobKey, SessionKey, Timestamp, TokenKey};
use crate::live::AggregateProgress;
use crate::sums::{Totals, TreeView};
use crate::track::{History, Tracker};
use crate::view::{
    AccountView, AreaView, AuditView, CrawlerToken, CredentialView, ErrorView, EventView, Feed, FeedCursor,
    HeardElsewhere, HeldJob, JobView, Page, ReadyJob, SessionView, StateCounts,
};
use crate::weight::TypeHistory;

pub use self::filter::{ErrorFilter, JobFilter, LOOKED_AT_MAX, SEARCH_CHARS_MAX};
pub use self::new::{Found, NewCredential, NewJob, Once};
pub use self::op::{
    Act, Ending, GATES_MAX, Holder, NewInstance, NewSession, Op, PROGRESS_ROWS_MAX, RedriveFilter, SELECTED_MAX,
    SWEEP_MAX, WATCHED_FOR, WATCHES_MAX, Watch,
};
pub use self::outcome::{Fact, Opened, Outcome, OwnLease, Rejection, Said};
pub use self::refused::{RefusedNumbers, UNTOLD_MAX};

/// Tokens a list shows at most: more than anybody looks through.
pub const TOKENS_MAX: usize = 1000;

/// Attempts of a job whose history is kept: more than anybody compares.
pub const HISTORIES_MAX: i32 = 32;

/// A future of the port. Boxed, because the port is used behind `dyn`; one allocation per operation.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What becomes of an operation that was given to the writer.
pub type Ticket = BoxFuture<'static, Result<Committed<Outcome>, StoreError>>;

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

/// Where a list goes on, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paging {
    /// Rows a page has at most.
    pub limit: usize,
    /// The [`Page::next`] of the page before.
    pub after: Option<i64>,
}

/// Which queued jobs are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyQuery {
    /// Lanes greater than this one; all when none.
    pub after_lane: Option<i64>,
    /// So many lanes, in their order.
    pub lanes: usize,
    /// So many jobs of each.
    pub per_lane: usize,
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

    /// Resolves when another server that shares the database has committed something since this was last called: a hint to
    /// look, without any news in it. Never resolves where there are no others. Cancel safe.
    fn woken(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// Whether other servers may share the database. Where none can, nothing is written for them or asked of them.
    fn is_shared(&self) -> bool {
        false
    }

    /// At what somebody looks through servers other than this one, and for how long from now on that counts: all jobs
    /// first, if they are watched, then by public id. At most one more than [`WATCHES_MAX`].
    fn watched_elsewhere<'a>(&'a self, _server: &'a str) -> BoxFuture<'a, Result<Vec<Watch>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Whether the database answers.
    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The time by the clock that all moments in the store are told by.
    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StoreError>>;

    /// A job by its public id, or by the web app's name for it.
    fn job<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<JobView>, StoreError>>;

    /// Jobs by their rows; those that are gone are left out.
    fn views(&self, jobs: Vec<JobKey>) -> BoxFuture<'_, Result<BTreeMap<JobKey, JobView>, StoreError>>;

    /// Jobs, newest first. Where nothing leads to what the filter means but a look at each job, [`LOOKED_AT_MAX`] of them
    /// are looked at for one page, and so a page may be short, or empty, and others follow all the same.
    fn jobs(&self, filter: JobFilter, paging: Paging) -> BoxFuture<'_, Result<Page<JobView>, StoreError>>;

    /// A job and those below it, on all levels, oldest first: a parent before its children. Pages may be short, as those of
    /// [`jobs`](Self::jobs), unless the job is a submitted one.
    fn tree(&self, top: JobKey, paging: Paging) -> BoxFuture<'_, Result<Page<JobView>, StoreError>>;

    /// How many jobs are in each state.
    fn counts(&self) -> BoxFuture<'_, Result<StateCounts, StoreError>>;

    /// When the oldest of the queued jobs was created.
    fn oldest_queued(&self) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>>;

    /// The history of a job, oldest first.
    fn events(&self, job: JobKey, paging: Paging) -> BoxFuture<'_, Result<Page<EventView>, StoreError>>;

    /// The present end of what happens to jobs: what is committed from here on comes behind it in the [`feed`](Self::feed).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], too, when a transaction stays open for so long that nobody can say what is in front of it.
    fn feed_end(&self) -> BoxFuture<'_, Result<FeedCursor, StoreError>>;

    /// What happened to all jobs behind a place, through whichever server: at most `limit` items. Nothing is left out or told
    /// twice by whoever goes on at [`Feed::next`]; a place outlasts restarts. Of a job that was deleted since nothing is
    /// told. What is committed while another transaction is open may wait for that one, and then for one more call.
    fn feed(&self, after: FeedCursor, limit: usize) -> BoxFuture<'_, Result<Feed, StoreError>>;

    /// Stored reports about jobs that run in sessions of servers other than this one, heard after a moment; or of that
    /// moment, by jobs with greater keys. Those heard longest ago first, at most `limit`.
    ///
    /// Moments are those of the clocks of the servers that heard them, and reports are stored a little later. So whoever
    /// follows them begins some seconds before the last one again, and knows by number and attempt what is new.
    fn progress_elsewhere<'a>(
        &'a self,
        server: &'a str,
        after: (Timestamp, JobKey),
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<HeardElsewhere>, StoreError>>;

    /// The last stored report about a job.
    fn progress(&self, job: JobKey) -> BoxFuture<'_, Result<Option<Tracker>, StoreError>>;

    /// The same of many jobs at once, but for the course of the attempts; those of which nothing was reported are left out.
    fn trackers(&self, jobs: Vec<JobKey>) -> BoxFuture<'_, Result<BTreeMap<JobKey, Tracker>, StoreError>>;

    /// How the attempts of a job went: the newest [`HISTORIES_MAX`] of which anything was reported, the oldest first.
    fn histories(&self, job: JobKey) -> BoxFuture<'_, Result<Vec<(i32, History)>, StoreError>>;

    /// What the reports of a tree add up to, by its root. None before the first one.
    fn tree_progress(&self, root: JobKey) -> BoxFuture<'_, Result<Option<TreeView>, StoreError>>;

    /// What the trees add up to that are not over and of which something was reported.
    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>>;

    /// What the newest [`HISTORY_JOBS_MAX`](crate::weight::HISTORY_JOBS_MAX) jobs were that ended well, by their types. Of
    /// those whose counts are not kept nothing is told.
    fn type_history(&self) -> BoxFuture<'_, Result<BTreeMap<JobType, TypeHistory>, StoreError>>;

    /// The running jobs that have reported, all together, as their crawlers see it; none when there are none.
    fn running(&self) -> BoxFuture<'_, Result<Option<AggregateProgress>, StoreError>>;

    /// Queued jobs of some lanes, the best of each first.
    fn ready(&self, query: ReadyQuery) -> BoxFuture<'_, Result<Vec<ReadyJob>, StoreError>>;

    /// The closed gates, widest first.
    fn gates(&self) -> BoxFuture<'_, Result<Vec<ClosedGate>, StoreError>>;

    /// How many jobs of these accounts are held by sessions, of all servers. An account without any may be left out.
    fn held_by_account(
        &self,
        accounts: Vec<AccountKey>,
    ) -> BoxFuture<'_, Result<BTreeMap<AccountKey, u64>, StoreError>>;

    /// The jobs that these sessions hold.
    fn held(&self, sessions: Vec<SessionKey>) -> BoxFuture<'_, Result<Vec<HeldJob>, StoreError>>;

    /// A credential's token and version.
    fn token(&self, credential: CredentialKey) -> BoxFuture<'_, Result<Option<(AccessToken, i64)>, StoreError>>;

    /// How far a job got, as an attempt last said: JSON text of an object.
    fn checkpoint(&self, job: JobKey) -> BoxFuture<'_, Result<Option<String>, StoreError>>;

    /// The tokens that crawlers may show, revoked ones among them, newest first; at most [`TOKENS_MAX`].
    fn crawler_tokens(&self) -> BoxFuture<'_, Result<Vec<CrawlerToken>, StoreError>>;

    /// A token that crawlers may show, revoked or not.
    fn crawler_token(&self, token: TokenKey) -> BoxFuture<'_, Result<Option<CrawlerToken>, StoreError>>;

    /// Accounts, newest first.
    fn accounts(&self, paging: Paging) -> BoxFuture<'_, Result<Page<AccountView>, StoreError>>;

    /// An account by its name.
    fn account<'a>(&'a self, account_id: &'a str) -> BoxFuture<'a, Result<Option<AccountView>, StoreError>>;

    /// What is kept of an account's tokens, never the tokens, newest first.
    fn credentials(
        &self,
        account: AccountKey,
        paging: Paging,
    ) -> BoxFuture<'_, Result<Page<CredentialView>, StoreError>>;

    /// Sessions that are connected or hold a lease, newest first.
    fn sessions(&self, limit: usize) -> BoxFuture<'_, Result<Vec<SessionView>, StoreError>>;

    /// What was done by whom, newest first.
    fn audit(&self, paging: Paging) -> BoxFuture<'_, Result<Page<AuditView>, StoreError>>;

    /// The places that an account may see, by its name, newest first.
    fn areas<'a>(&'a self, account_id: &'a str, paging: Paging) -> BoxFuture<'a, Result<Page<AreaView>, StoreError>>;

    /// Logged errors, newest first. Pages may be short, as those of [`jobs`](Self::jobs).
    fn errors(&self, filter: ErrorFilter, paging: Paging) -> BoxFuture<'_, Result<Page<ErrorView>, StoreError>>;
}
