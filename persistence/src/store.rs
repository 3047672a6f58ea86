//! The port, over a database.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crawlwire_progress::store::{BoxFuture, JobFilter, Op, Paging, Ticket};
use crawlwire_progress::view::{ErrorView, EventView, JobView, Page, ProgressView, ReadyJob, SessionView, StateCounts};
use crawlwire_progress::{CredentialKey, JobKey, Store, StoreError, Timestamp};
use crawlwire_protocol::AccessToken;
use sea_orm::DatabaseConnection;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Clock;
use crate::error::Trouble;
use crate::read;
use crate::seal::Seal;
use crate::writer::{Counters, Request, machine_clock};

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
    /// Operations waiting.
    pub waiting: usize,
}

/// A [`Store`] over SQLite or PostgreSQL. Made by [`Database::open`](crate::Database::open).
///
/// Dropping it lets the writer finish what it has, without anybody waiting for it; [`close`](Self::close) waits.
pub struct SqlStore {
    requests: mpsc::Sender<Request>,
    database: DatabaseConnection,
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
        requests: mpsc::Sender<Request>,
        database: DatabaseConnection,
        seal: Arc<Seal>,
        clock: Option<Clock>,
        counters: Arc<Counters>,
        (closing, writer): (CancellationToken, JoinHandle<()>),
    ) -> Self {
        Self {
            requests,
            database,
            seal,
            clock,
            counters,
            closing,
            writer: Mutex::new(Some(writer)),
        }
    }

    /// Takes no more operations, carries out those it has, and closes the database. A second call does nothing more.
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
        } = self.counters.as_ref();
        WriterStatistics {
            operations: operations.load(Ordering::Relaxed),
            batches: batches.load(Ordering::Relaxed),
            retries: retries.load(Ordering::Relaxed),
            statements: statements.load(Ordering::Relaxed),
            waiting: self.requests.max_capacity() - self.requests.capacity(),
        }
    }

    /// The pool that queries run on; read only.
    pub fn database(&self) -> &DatabaseConnection {
        &self.database
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

    fn now(&self) -> Timestamp {
        self.clock.as_ref().map_or_else(machine_clock, |clock| clock())
    }
}

impl Store for SqlStore {
    #[expect(clippy::async_yields_async, reason = "the ticket is the caller's to await")]
    fn enqueue(&self, op: Op) -> BoxFuture<'_, Ticket> {
        Box::pin(async move {
            let (answer, ticket) = oneshot::channel();
            // When the writer is gone, the answer is dropped with the request, and the ticket says so.
            let _ = self.requests.send(Request { op, answer }).await;
            Box::pin(async move { ticket.await.unwrap_or(Err(StoreError::Closed)) }) as Ticket
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.query(read::ping(&self.database))
    }

    fn job<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<JobView>, StoreError>> {
        self.query(read::job(&self.database, id))
    }

    fn jobs(&self, filter: JobFilter, paging: Paging) -> BoxFuture<'_, Result<Page<JobView>, StoreError>> {
        self.query(read::jobs(&self.database, filter, paging))
    }

    fn counts(&self) -> BoxFuture<'_, Result<StateCounts, StoreError>> {
        self.query(read::counts(&self.database))
    }

    fn events(&self, job: JobKey, paging: Paging) -> BoxFuture<'_, Result<Page<EventView>, StoreError>> {
        self.query(read::events(&self.database, job, paging))
    }

    fn progress(&self, job: JobKey) -> BoxFuture<'_, Result<Option<ProgressView>, StoreError>> {
        self.query(read::progress(&self.database, job))
    }

    fn ready(&self, limit: usize) -> BoxFuture<'_, Result<Vec<ReadyJob>, StoreError>> {
        self.query(read::ready(&self.database, limit))
    }

    fn token(&self, credential: CredentialKey) -> BoxFuture<'_, Result<Option<(AccessToken, i64)>, StoreError>> {
        self.query(read::token(&self.database, &self.seal, credential))
    }

    fn sessions(&self, limit: usize) -> BoxFuture<'_, Result<Vec<SessionView>, StoreError>> {
        let now = self.now();
        self.query(read::sessions(&self.database, now, limit))
    }

    fn errors(&self, paging: Paging) -> BoxFuture<'_, Result<Page<ErrorView>, StoreError>> {
        self.query(read::errors(&self.database, paging))
    }
}
