//! What the database really holds, read past the server.

use std::collections::BTreeMap;

use crawlwire_persistence::testing::TestDatabase;
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, FromQueryResult, IsolationLevel, Statement, TransactionTrait,
};

use crate::support::TestServer;
use crate::support::server::block_on;

/// A row of `jobs`, as far as its rules concern us.
#[derive(Clone, Default, FromQueryResult)]
pub(crate) struct JobRow {
    pub(crate) id: i64,
    pub(crate) public_id: String,
    pub(crate) web_app_job_id: String,
    pub(crate) identity: String,
    pub(crate) parent_id: Option<i64>,
    pub(crate) root_id: i64,
    pub(crate) generation: String,
    pub(crate) host: String,
    pub(crate) job_type: String,
    pub(crate) entity_id: Option<String>,
    pub(crate) status: String,
    pub(crate) pause_reason: Option<String>,
    pub(crate) fence: i64,
    pub(crate) session_id: Option<i64>,
    pub(crate) attempt: i32,
    pub(crate) run_at: Option<i64>,
    pub(crate) assigned_at: Option<i64>,
    pub(crate) deadline: Option<i64>,
    pub(crate) children: i64,
    pub(crate) tree_jobs: i64,
}

const JOBS: &str = "SELECT id, public_id, web_app_job_id, identity, parent_id, root_id, generation, host, job_type, \
    entity_id, status, pause_reason, fence, session_id, attempt, run_at, assigned_at, deadline, children, tree_jobs \
    FROM jobs ORDER BY id";

impl JobRow {
    pub(crate) fn is_leased(&self) -> bool {
        matches!(self.status.as_str(), "assigned" | "running")
    }

    /// Whether nothing will happen to it by itself: it has ended, or was put aside because nobody ever began it.
    pub(crate) fn is_at_rest(&self) -> bool {
        let quarantined = self.pause_reason.as_deref() == Some("quarantined");
        quarantined || matches!(self.status.as_str(), "completed" | "failed" | "cancelled")
    }

    /// Whether the web application put it aside.
    pub(crate) fn is_held_back(&self) -> bool {
        self.pause_reason.as_deref() == Some("operator")
    }
}

/// A row of `job_events`.
#[derive(Clone, Debug, FromQueryResult)]
pub(crate) struct EventRow {
    pub(crate) job_id: i64,
    pub(crate) at: i64,
    pub(crate) arrows: String,
    pub(crate) status: String,
    pub(crate) fence: i64,
    pub(crate) attempt: i32,
    pub(crate) session: Option<String>,
}

const EVENTS: &str = "SELECT job_id, at, arrows, status, fence, attempt, session FROM job_events ORDER BY id";

/// A row of `sessions`.
#[derive(Clone, FromQueryResult)]
pub(crate) struct SessionRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) lease_expires_at: i64,
}

const SESSIONS: &str = "SELECT id, name, lease_expires_at FROM sessions";

#[derive(FromQueryResult)]
struct Count {
    status: String,
    jobs: i64,
}

const COUNTS: &str = "SELECT status, CAST(SUM(jobs) AS BIGINT) AS jobs FROM job_counts GROUP BY status";

/// All of it at one moment.
#[derive(Clone, Default)]
pub(crate) struct Tables {
    pub(crate) jobs: Vec<JobRow>,
    /// In the order they were written.
    pub(crate) events: Vec<EventRow>,
    pub(crate) sessions: Vec<SessionRow>,
    /// How many jobs the server believes to be in each status.
    pub(crate) counts: BTreeMap<String, i64>,
}

impl Tables {
    /// Whether the server runs or not.
    pub(crate) fn of(server: &TestServer) -> Self {
        block_on(Self::read(server.database()))
    }

    async fn read(database: &TestDatabase) -> Self {
        let pool = database.pool().await;
        // SQLite reads one moment anyway, and knows no such word.
        let isolation = (pool.get_database_backend() == DbBackend::Postgres).then_some(IsolationLevel::RepeatableRead);
        let moment = pool.begin_with_config(isolation, None).await.expect("a transaction");
        let counts: Vec<Count> = rows(&moment, COUNTS).await;
        let tables = Self {
            jobs: rows(&moment, JOBS).await,
            events: rows(&moment, EVENTS).await,
            sessions: rows(&moment, SESSIONS).await,
            counts: counts.into_iter().map(|count| (count.status, count.jobs)).collect(),
        };
        moment.rollback().await.expect("the end of a look");
        pool.close().await.expect("the connection closes");
        tables
    }

    pub(crate) fn with_status<'a>(&'a self, status: &'a str) -> impl Iterator<Item = &'a JobRow> {
        self.jobs.iter().filter(move |job| job.status == status)
    }

    /// How many jobs are in each status.
    pub(crate) fn by_status(&self) -> BTreeMap<&str, usize> {
        let mut jobs = BTreeMap::new();
        for job in &self.jobs {
            *jobs.entry(job.status.as_str()).or_default() += 1;
        }
        jobs
    }

    /// How often an arrow was taken.
    pub(crate) fn arrows(&self, arrow: &str) -> usize {
        let taken = self.events.iter().flat_map(|event| event.arrows.split(','));
        taken.filter(|taken| *taken == arrow).count()
    }
}

async fn rows<T: FromQueryResult>(moment: &DatabaseTransaction, query: &str) -> Vec<T> {
    let statement = Statement::from_string(moment.get_database_backend(), query);
    T::find_by_statement(statement).all(moment).await.expect("rows")
}
