//! The port, over a database.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crawlwire_progress::admit::ClosedGate;
use crawlwire_progress::live::AggregateProgress;
use crawlwire_progress::store::{BoxFuture, ErrorFilter, JobFilter, Op, Paging, ReadyQuery, Ticket, Watch};
use crawlwire_progress::sums::{Totals, TreeView};
use crawlwire_progress::track::{History, Tracker};
use crawlwire_progress::view::{
    AccountView, AreaView, AuditView, CrawlerToken, CredentialView, ErrorView, EventView, Feed, FeedCursor,
    HeardElsewhere, HeldJob, JobView, Page, ReadyJob, SessionView, StateCounts,
};
use crawlwire_progress::weight::TypeHistory;
use crawlwire_progress::{AccountKey, CredentialKey, JobKey, SessionKey, Store, StoreError, Timestamp, TokenKey};
use crawlwire_protocol::AccessToken;
use crawlwire_protocol::message::JobType;
use sea_orm::{DatabaseConnection, DbBackend};
use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::Clock;
use crate::error::Trouble;
use crate::feed::Horizon;
use crate::pools::Pools;
use crate::read;
use crate::seal::Seal;
use crate::transaction::{Counters, machine_clock};
use crate::writer::Request;

/// How long the answer to a ping is waited for: whoever asks wants to know now.
const PING: Duration = Duration::from_secs(2);

/// What the writer did since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterStatistics {
    /// Operations that took effect, or were refused by a rule.
    pub operations: u64,
    /// Transactions committed.
    pub batches: u64,
    /// Transactions tried again because others were in their way.
    pub retries: u64,
    /// Statements run, `BEGIN` and `COMMIT` among them.
    pub statements: u64,
    /// Operations waiting, those that wait for the database to come back among them.
    pub waiting: usize,
}

/// A [`Store`] over SQLite or PostgreSQL. Made by [`Database::open`](crate::Database::open).
///
/// Dropping it lets the writer finish what it has, without anybody waiting for it; [`close`](Self::close) waits.
pub struct SqlStore {
    requests: mpsc::Sender<Request>,
    /// Whether operations wait for the database to come back.
    away: watch::Receiver<bool>,
    /// Told when another server has committed something.
    woken: Arc<Notify>,
    readers: Pools,
    horizon: Horizon,
    seal: Arc<Seal>,
    clock: Option<Clock>,
    counters: Arc<Counters>,
    closing: CancellationToken,
    /// Taken by whoever closes.
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for SqlStore {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter
            .debug_struct("SqlStore")
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}

impl SqlStore {
    pub(crate) fn new(
        (requests, away, woken): (mpsc::Sender<Request>, watch::Receiver<bool>, Arc<Notify>),
        readers: Pools,
        seal: Arc<Seal>,
        clock: Option<Clock>,
        counters: Arc<Counters>,
        (closing, writer): (CancellationToken, JoinHandle<()>),
    ) -> Self {
        Self {
            requests,
            away,
            woken,
            readers,
            horizon: Horizon::default(),
            seal,
            clock,
            counters,
            closing,
            writer: Mutex::new(Some(writer)),
        }
    }

    /// Takes no more operations, carries out those it has, and closes the database. A second call does nothing more.
    ///
    /// If the database is away, it is tried for one more second; what still waits then is answered
    /// [`StoreError::Closed`].
    ///
    /// # Cancel safety
    /// Dropped before it resolves, the store closes all the same.
    pub async fn close(&self) {
        self.closing.cancel();
        let mut writer = self.writer.lock().await;
        if let Some(task) = writer.as_mut()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the writer did not end well");
        }
        writer.take();
    }

    /// What the writer did so far, for metrics.
    pub fn statistics(&self) -> WriterStatistics {
        let Counters {
            operations,
            batches,
            retries,
            statements,
            held,
        } = self.counters.as_ref();
        WriterStatistics {
            operations: operations.load(Ordering::Relaxed),
            batches: batches.load(Ordering::Relaxed),
            retries: retries.load(Ordering::Relaxed),
            statements: statements.load(Ordering::Relaxed),
            waiting: self.requests.max_capacity() - self.requests.capacity() + held.load(Ordering::Relaxed),
        }
    }

    /// The pool that queries run on; read only.
    pub fn database(&self) -> &DatabaseConnection {
        &self.readers.all
    }

    fn query<'a, T, F>(&'a self, query: F) -> BoxFuture<'a, Result<T, StoreError>>
    where
        F: Future<Output = Result<T, Trouble>> + Send + 'a,
        T: 'a,
    {
        Box::pin(async move {
            if self.closing.is_cancelled() {
                return Err(StoreError::Closed);
            }
            query.await.map_err(StoreError::from)
        })
    }

    /// Resolves when operations wait for the database to come back, or at once if they do.
    async fn is_away(&self) {
        if self.away.clone().wait_for(|away| *away).await.is_err() {
            // The writer is gone, and a request will say so.
            pending::<()>().await;
        }
    }

    fn roughly_now(&self) -> Timestamp {
        self.clock.as_ref().map_or_else(machine_clock, |clock| clock())
    }
}

impl Store for SqlStore {
    #[expect(clippy::async_yields_async, reason = "the ticket is the caller's to await")]
    fn enqueue(&self, op: Op) -> BoxFuture<'_, Ticket> {
        Box::pin(async move {
            let (answer, ticket) = oneshot::channel();
            let hasty = !op.is_patient();
            tokio::select! {
                biased;
                // Not in the queue, which may be full of those that wait.
                () = self.is_away(), if hasty => {
                    let away = StoreError::Unavailable("the database is away".to_owned());
                    return Box::pin(async move { Err(away) }) as Ticket;
                }
                // When the writer is gone, the answer is dropped with the request, and the ticket says so.
                _ = self.requests.send(Request { op, answer }) => {}
            }
            Box::pin(async move { ticket.await.unwrap_or(Err(StoreError::Closed)) }) as Ticket
        })
    }

    fn woken(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.woken.notified())
    }

    /// SQLite serves one server.
    fn is_shared(&self) -> bool {
        self.readers.hot.get_database_backend() == DbBackend::Postgres
    }

    fn watched_elsewhere<'a>(&'a self, server: &'a str) -> BoxFuture<'a, Result<Vec<Watch>, StoreError>> {
        let now = match &self.clock {
            Some(clock) => Some(clock()),
            None => (!self.is_shared()).then(machine_clock),
        };
        self.query(read::watched_elsewhere(&self.readers.hot, server, now))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        let late = |_| Err(Trouble::Busy("no answer in time".to_owned()));
        self.query(async move { timeout(PING, read::ping(&self.readers.all)).await.unwrap_or_else(late) })
    }

    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StoreError>> {
        self.query(async move {
            match &self.clock {
                Some(clock) => Ok(clock()),
                None => read::now(&self.readers.hot).await,
            }
        })
    }

    fn job<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<JobView>, StoreError>> {
        self.query(read::job(&self.readers.all, id))
    }

    fn views(&self, jobs: Vec<JobKey>) -> BoxFuture<'_, Result<BTreeMap<JobKey, JobView>, StoreError>> {
        self.query(read::views(&self.readers.all, jobs))
    }

    fn jobs(&self, filter: JobFilter, paging: Paging) -> BoxFuture<'_, Result<Page<JobView>, StoreError>> {
        self.query(read::jobs(&self.readers.all, filter, paging))
    }

    fn tree(&self, top: JobKey, paging: Paging) -> BoxFuture<'_, Result<Page<JobView>, StoreError>> {
        self.query(read::tree(&self.readers.all, top, paging))
    }

    fn counts(&self) -> BoxFuture<'_, Result<StateCounts, StoreError>> {
        self.query(read::counts(&self.readers.all))
    }

    fn oldest_queued(&self) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        self.query(read::oldest_queued(&self.readers.all))
    }

    fn events(&self, job: JobKey, paging: Paging) -> BoxFuture<'_, Result<Page<EventView>, StoreError>> {
        self.query(read::events(&self.readers.all, job, paging))
    }

    fn feed_end(&self) -> BoxFuture<'_, Result<FeedCursor, StoreError>> {
        self.query(self.horizon.end(&self.readers.hot))
    }

    fn feed(&self, after: FeedCursor, limit: usize) -> BoxFuture<'_, Result<Feed, StoreError>> {
        self.query(self.horizon.feed(&self.readers.hot, after, limit))
    }

    fn progress_elsewhere<'a>(
        &'a self,
        server: &'a str,
        after: (Timestamp, JobKey),
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<HeardElsewhere>, StoreError>> {
        self.query(read::progress_elsewhere(&self.readers.hot, server, after, limit))
    }

    fn progress(&self, job: JobKey) -> BoxFuture<'_, Result<Option<Tracker>, StoreError>> {
        self.query(read::progress(&self.readers.all, job))
    }

    fn trackers(&self, jobs: Vec<JobKey>) -> BoxFuture<'_, Result<BTreeMap<JobKey, Tracker>, StoreError>> {
        self.query(read::trackers(&self.readers.all, jobs))
    }

    fn histories(&self, job: JobKey) -> BoxFuture<'_, Result<Vec<(i32, History)>, StoreError>> {
        self.query(read::histories(&self.readers.all, job))
    }

    fn tree_progress(&self, root: JobKey) -> BoxFuture<'_, Result<Option<TreeView>, StoreError>> {
        self.query(read::tree_progress(&self.readers.all, root))
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>> {
        self.query(read::totals(&self.readers.all))
    }

    fn type_history(&self) -> BoxFuture<'_, Result<BTreeMap<JobType, TypeHistory>, StoreError>> {
        self.query(read::type_history(&self.readers.all))
    }

    fn running(&self) -> BoxFuture<'_, Result<Option<AggregateProgress>, StoreError>> {
        self.query(read::running(&self.readers.all))
    }

    fn ready(&self, query: ReadyQuery) -> BoxFuture<'_, Result<Vec<ReadyJob>, StoreError>> {
        self.query(read::ready(&self.readers.hot, query))
    }

    fn gates(&self) -> BoxFuture<'_, Result<Vec<ClosedGate>, StoreError>> {
        self.query(read::gates(&self.readers.hot))
    }

    fn held_by_account(
        &self,
        accounts: Vec<AccountKey>,
    ) -> BoxFuture<'_, Result<BTreeMap<AccountKey, u64>, StoreError>> {
        self.query(read::held_by_account(&self.readers.hot, accounts))
    }

    fn held(&self, sessions: Vec<SessionKey>) -> BoxFuture<'_, Result<Vec<HeldJob>, StoreError>> {
        self.query(read::held(&self.readers.hot, sessions))
    }

    fn token(&self, credential: CredentialKey) -> BoxFuture<'_, Result<Option<(AccessToken, i64)>, StoreError>> {
        self.query(read::token(&self.readers.hot, &self.seal, credential))
    }

    fn checkpoint(&self, job: JobKey) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        self.query(read::checkpoint(&self.readers.hot, job))
    }

    fn crawler_tokens(&self) -> BoxFuture<'_, Result<Vec<CrawlerToken>, StoreError>> {
        self.query(read::crawler_tokens(&self.readers.all))
    }

    fn crawler_token(&self, token: TokenKey) -> BoxFuture<'_, Result<Option<CrawlerToken>, StoreError>> {
        self.query(read::crawler_token(&self.readers.hot, token))
    }

    fn accounts(&self, paging: Paging) -> BoxFuture<'_, Result<Page<AccountView>, StoreError>> {
        self.query(read::accounts(&self.readers.all, paging))
    }

    fn account<'a>(&'a self, account_id: &'a str) -> BoxFuture<'a, Result<Option<AccountView>, StoreError>> {
        self.query(read::account(&self.readers.all, account_id))
    }

    fn credentials(
        &self,
        account: AccountKey,
        paging: Paging,
    ) -> BoxFuture<'_, Result<Page<CredentialView>, StoreError>> {
        self.query(read::credentials(&self.readers.all, &self.seal, account, paging))
    }

    fn sessions(&self, limit: usize) -> BoxFuture<'_, Result<Vec<SessionView>, StoreError>> {
        let now = self.roughly_now();
        self.query(read::sessions(&self.readers.all, now, limit))
    }

    fn audit(&self, paging: Paging) -> BoxFuture<'_, Result<Page<AuditView>, StoreError>> {
        self.query(read::audit(&self.readers.all, paging))
    }

    fn areas<'a>(&'a self, account_id: &'a str, paging: Paging) -> BoxFuture<'a, Result<Page<AreaView>, StoreError>> {
        self.query(read::areas(&self.readers.all, account_id, paging))
    }

    fn errors(&self, filter: ErrorFilter, paging: Paging) -> BoxFuture<'_, Result<Page<ErrorView>, StoreError>> {
        self.query(read::errors(&self.readers.all, filter, paging))
    }
}
