//! One held connection: what the writer, and opening, run their statements on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::sqlx::{self, ConnectOptions, Connection as _, PgConnection, SqliteConnection};
use sea_orm::{DbBackend, QueryResult};
use tokio::time::Instant;
use tracing::log::LevelFilter;

use crate::config::{DatabaseConfig, Location};
use crate::error::Trouble;
use crate::sql::Sql;

/// A statement slower than this is worth a warning.
const SLOW: Duration = Duration::from_secs(1);

/// How long the writer waits for a lock at one go: operations that are in no hurry are given again, and the others are not
/// held up. Nothing can end such a wait before its time.
const LOCK_WAIT: Duration = Duration::from_millis(500);

/// Settings of PostgreSQL for statements that all go by key: a plan that scans is wrong whatever the estimates say.
pub(crate) const BY_KEY: [(&str, &str); 4] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// How long a transaction of the writer may do nothing. Between two statements it only thinks; so one that is idle for
/// longer belongs to a server that is stopped or cut off, and its locks keep all others waiting.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// Instructions of SQLite's machine between two looks at the clock: about a tenth of a millisecond.
const INSTRUCTIONS: i32 = 10_000;

/// SQLite options of every connection. `patience` is how long it waits for a lock that another program holds, such as a
/// backup or a shell.
pub(crate) fn sqlite_options(options: &SqliteConnectOptions, patience: Duration) -> SqliteConnectOptions {
    options
        .clone()
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(patience)
        .log_statements(LevelFilter::Debug)
        .log_slow_statements(LevelFilter::Warn, SLOW)
}

/// PostgreSQL options of every connection, with more settings of the server for this one.
pub(crate) fn postgres_options(
    options: &PgConnectOptions,
    statement_timeout: Duration,
    more: &[(&str, &str)],
) -> PgConnectOptions {
    let timeout = statement_timeout.as_millis().to_string();
    options
        .clone()
        .application_name("crawlwire")
        .options([("statement_timeout", timeout.as_str()), ("synchronous_commit", "on")])
        .options(more.iter().copied())
        .log_statements(LevelFilter::Debug)
        .log_slow_statements(LevelFilter::Warn, SLOW)
}

/// When SQLite has to give up. It is looked at by the thread that runs the statement, because giving up waiting for that
/// thread would not stop it.
#[derive(Debug, Clone)]
struct Deadline {
    base: Instant,
    /// Milliseconds after `base`; `u64::MAX` for never.
    at: Arc<AtomicU64>,
}

impl Deadline {
    fn never() -> Self {
        Self {
            base: Instant::now(),
            at: Arc::new(AtomicU64::new(u64::MAX)),
        }
    }

    fn set(&self, after: Option<Duration>) {
        let at = after.map_or(u64::MAX, |after| millis(self.base.elapsed() + after));
        self.at.store(at, Ordering::Relaxed);
    }

    fn is_past(&self) -> bool {
        millis(self.base.elapsed()) > self.at.load(Ordering::Relaxed)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Lets a SQLite connection give up this long from now.
pub(crate) async fn limit_time(connection: &mut SqliteConnection, timeout: Duration) -> Result<(), sqlx::Error> {
    let deadline = Deadline::never();
    deadline.set(Some(timeout));
    let mut handle = connection.lock_handle().await?;
    handle.set_progress_handler(INSTRUCTIONS, move || !deadline.is_past());
    Ok(())
}

enum Kind {
    Sqlite(SqliteConnection, Deadline),
    Postgres(Box<PgConnection>),
}

/// See the module.
pub(crate) struct Connection {
    kind: Kind,
    statements: Arc<AtomicU64>,
}

impl Connection {
    /// Connects. `statements` counts what is run.
    pub(crate) async fn open(
        location: &Location,
        config: &DatabaseConfig,
        statements: Arc<AtomicU64>,
    ) -> Result<Self, Trouble> {
        let kind = match location {
            Location::Sqlite { options, .. } => {
                let patience = config.transaction_timeout.min(LOCK_WAIT);
                let mut connection = sqlite_options(options, patience).connect().await?;
                let deadline = Deadline::never();
                let watched = deadline.clone();
                let mut handle = connection.lock_handle().await?;
                handle.set_progress_handler(INSTRUCTIONS, move || !watched.is_past());
                drop(handle);
                Kind::Sqlite(connection, deadline)
            }
            Location::Postgres(options) => {
                let idle = config.transaction_timeout.min(IDLE_MAX).as_millis().to_string();
                let mut settings = BY_KEY.to_vec();
                settings.push(("idle_in_transaction_session_timeout", idle.as_str()));
                let options = postgres_options(options, config.query_timeout, &settings);
                let connecting = tokio::time::timeout(config.query_timeout, options.connect()).await;
                let connection =
                    connecting.map_err(|_| Trouble::Lost("no connection within the query timeout".to_owned()))??;
                Kind::Postgres(Box::new(connection))
            }
        };
        Ok(Self { kind, statements })
    }

    pub(crate) fn backend(&self) -> DbBackend {
        match self.kind {
            Kind::Sqlite(..) => DbBackend::Sqlite,
            Kind::Postgres(_) => DbBackend::Postgres,
        }
    }

    /// Lets SQLite give up this long from now, or never. PostgreSQL has its own timeouts.
    pub(crate) fn limit(&self, after: Option<Duration>) {
        if let Kind::Sqlite(_, deadline) = &self.kind {
            deadline.set(after);
        }
    }

    /// Runs a statement; how many rows it changed.
    pub(crate) async fn execute(&mut self, sql: Sql, parameter: Option<String>) -> Result<u64, Trouble> {
        let text = sql.text(self.backend());
        self.statements.fetch_add(1, Ordering::Relaxed);
        Ok(match &mut self.kind {
            Kind::Sqlite(connection, _) => {
                let query = match parameter {
                    Some(json) => sqlx::query(text).bind(json),
                    None => sqlx::query(text),
                };
                query.execute(connection).await?.rows_affected()
            }
            Kind::Postgres(connection) => {
                let query = match parameter {
                    Some(json) => sqlx::query(text).bind(json),
                    None => sqlx::query(text),
                };
                query.execute(connection.as_mut()).await?.rows_affected()
            }
        })
    }

    /// Runs a query; its rows.
    pub(crate) async fn fetch(&mut self, sql: Sql, parameter: Option<String>) -> Result<Vec<QueryResult>, Trouble> {
        self.fetch_text(sql.text(self.backend()), parameter).await
    }

    /// Runs a query that only this backend knows; its rows.
    pub(crate) async fn fetch_text(
        &mut self,
        text: &'static str,
        parameter: Option<String>,
    ) -> Result<Vec<QueryResult>, Trouble> {
        self.statements.fetch_add(1, Ordering::Relaxed);
        Ok(match &mut self.kind {
            Kind::Sqlite(connection, _) => {
                let query = match parameter {
                    Some(json) => sqlx::query(text).bind(json),
                    None => sqlx::query(text),
                };
                let rows = query.fetch_all(connection).await?;
                rows.into_iter().map(QueryResult::from).collect()
            }
            Kind::Postgres(connection) => {
                let query = match parameter {
                    Some(json) => sqlx::query(text).bind(json),
                    None => sqlx::query(text),
                };
                let rows = query.fetch_all(connection.as_mut()).await?;
                rows.into_iter().map(QueryResult::from).collect()
            }
        })
    }

    /// Runs a text as it is, outside the cache of statements.
    #[cfg(feature = "testing")]
    pub(crate) async fn fetch_raw(&mut self, text: String) -> Result<Vec<QueryResult>, sqlx::Error> {
        let text = sqlx::raw_sql(sqlx::AssertSqlSafe(text));
        Ok(match &mut self.kind {
            Kind::Sqlite(connection, _) => {
                let rows = text.fetch_all(connection).await?;
                rows.into_iter().map(QueryResult::from).collect()
            }
            Kind::Postgres(connection) => {
                let rows = text.fetch_all(connection.as_mut()).await?;
                rows.into_iter().map(QueryResult::from).collect()
            }
        })
    }

    /// Says goodbye; SQLite moves what is in its log into the database first.
    pub(crate) async fn close(self) {
        self.limit(None);
        let closed = match self.kind {
            Kind::Sqlite(mut connection, _) => {
                let moved = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
                    .execute(&mut connection)
                    .await;
                moved.and(connection.close().await)
            }
            Kind::Postgres(connection) => connection.close().await,
        };
        if let Err(error) = closed {
            tracing::warn!(%error, "the writer's connection did not close well");
        }
    }
}

/// Reads the columns of a row in order.
pub(crate) struct Cells<'a> {
    row: &'a QueryResult,
    next: usize,
}

impl<'a> Cells<'a> {
    pub(crate) fn of(row: &'a QueryResult) -> Self {
        Self { row, next: 0 }
    }

    /// The next column.
    pub(crate) fn next<T: sea_orm::TryGetable>(&mut self) -> Result<T, Trouble> {
        let cell = self.row.try_get_by_index(self.next)?;
        self.next += 1;
        Ok(cell)
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::testing::TestDatabase;

    #[tokio::test]
    async fn sqlite_gives_up_in_time_and_goes_on() {
        const ENDLESS: &str = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n";
        let database = TestDatabase::sqlite();
        let config = database.config();
        crate::Database::open(config.clone()).await.unwrap().close().await;
        let location = Location::parse(&config.url).unwrap();
        let mut connection = Connection::open(&location, &config, Arc::default()).await.unwrap();
        connection.limit(Some(Duration::from_millis(50)));
        let interrupted = connection.fetch_text(ENDLESS, None).await.map(|rows| rows.len());
        assert_eq!(interrupted, Err(Trouble::Busy("the time limit was reached".to_owned())));
        connection.limit(None);
        let rows = connection.fetch_text("SELECT 7", None).await.unwrap();
        assert_eq!(Cells::of(&rows[0]).next::<i64>(), Ok(7));
        connection.close().await;
    }

    async fn settings(database: &TestDatabase, texts: &[&'static str]) -> Vec<String> {
        let config = database.config();
        crate::Database::open(config.clone()).await.unwrap().close().await;
        let location = Location::parse(&config.url).unwrap();
        let mut connection = Connection::open(&location, &config, Arc::default()).await.unwrap();
        let mut found = Vec::new();
        for text in texts {
            let rows = connection.fetch_text(text, None).await.unwrap();
            let mut cells = Cells::of(&rows[0]);
            found.push(match cells.next::<String>() {
                Ok(text) => text,
                Err(_) => cells.next::<i64>().unwrap().to_string(),
            });
        }
        connection.close().await;
        found
    }

    #[tokio::test]
    async fn commits_are_durable() {
        let sqlite = ["PRAGMA journal_mode", "PRAGMA synchronous", "PRAGMA foreign_keys"];
        // 2 is FULL.
        assert_eq!(settings(&TestDatabase::sqlite(), &sqlite).await, ["wal", "2", "1"]);
        let Some(database) = TestDatabase::postgres().await else {
            return;
        };
        let postgres = [
            "SHOW synchronous_commit",
            "SHOW application_name",
            "SHOW statement_timeout",
            "SHOW idle_in_transaction_session_timeout",
        ];
        assert_eq!(settings(&database, &postgres).await, ["on", "crawlwire", "30s", "5s"]);
    }
}
