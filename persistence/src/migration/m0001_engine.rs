//! Accounts, credentials, sessions, jobs and what is kept about them, gates, places, and who did what.

use sea_orm::{ConnectionTrait, DbBackend, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait};

use super::translate;

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0001_engine"
    }
}

/// One text for both databases. Words in braces differ, see [`translate`].
///
/// The partial indexes spell `OR` where `IN` would be shorter, because SQLite finds `status = 'failed'` in an `OR` but
/// not in an `IN`. A session is not a foreign key of jobs: a held job whose session is gone counts as expired. Nor is an
/// account one of gates, since most gates name none. A parent cannot go before its children.
const UP: &[&str] = &[
    "CREATE TABLE accounts (
        id {key},
        name TEXT NOT NULL UNIQUE,
        created_at {int} NOT NULL
    ){strict}",
    "CREATE TABLE credentials (
        id {key},
        account_id {int} NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
        host TEXT NOT NULL,
        version {int} NOT NULL CHECK (version > 0),
        sealed_token TEXT NOT NULL,
        updated_at {int} NOT NULL,
        UNIQUE (account_id, host)
    ){strict}",
    "CREATE TABLE sessions (
        id {key},
        name TEXT NOT NULL,
        identity TEXT,
        server TEXT NOT NULL,
        connected {bool} NOT NULL,
        capabilities TEXT NOT NULL,
        confirms {bool} NOT NULL,
        grants INTEGER NOT NULL DEFAULT 0,
        opened_at {int} NOT NULL,
        lease_expires_at {int} NOT NULL
    ){strict}",
    "CREATE TABLE jobs (
        id {key},
        public_id TEXT NOT NULL UNIQUE,
        web_app_job_id TEXT NOT NULL UNIQUE,
        identity TEXT NOT NULL UNIQUE,
        account_id {int} NOT NULL REFERENCES accounts (id),
        credential_id {int} REFERENCES credentials (id),
        parent_id {int} REFERENCES jobs (id),
        root_id {int} NOT NULL,
        depth INTEGER NOT NULL,
        generation TEXT NOT NULL,
        job_type TEXT NOT NULL,
        command TEXT NOT NULL,
        host TEXT NOT NULL,
        entity_id TEXT,
        namespace_path TEXT,
        entity_name TEXT,
        priority {real} NOT NULL,
        provider TEXT,
        user_id TEXT,
        created_by_user_id TEXT,
        labels TEXT NOT NULL,
        tags TEXT NOT NULL,
        metadata TEXT,
        timeout_ms {int},
        retry_attempts {int},
        retry_delay_ms {int},
        status TEXT NOT NULL,
        pause_reason TEXT,
        fence {int} NOT NULL,
        session_id {int},
        attempt INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        misses INTEGER NOT NULL,
        lane {int} NOT NULL,
        due {int} NOT NULL,
        run_at {int},
        assigned_at {int},
        started_at {int},
        deadline {int},
        finished_at {int},
        resume {bool} NOT NULL,
        want TEXT,
        want_deadline {int},
        children {int} NOT NULL,
        tree_jobs {int} NOT NULL,
        open_children {int} NOT NULL,
        failed_children {int} NOT NULL,
        tree_status TEXT NOT NULL,
        settled_at {int},
        result TEXT,
        error TEXT,
        created_at {int} NOT NULL,
        updated_at {int} NOT NULL,
        CONSTRAINT jobs_key_is_real CHECK (id > 0),
        CONSTRAINT jobs_status_is_known CHECK (status IN
            ('delayed', 'queued', 'assigned', 'running', 'paused', 'completed', 'failed', 'cancelled')),
        CONSTRAINT jobs_pause_reason_is_known CHECK (pause_reason IN ('operator', 'quarantined')),
        CONSTRAINT jobs_session_when_leased CHECK
            ((session_id IS NOT NULL) = (status IN ('assigned', 'running'))),
        CONSTRAINT jobs_assigned_at_when_leased CHECK
            ((assigned_at IS NOT NULL) = (status IN ('assigned', 'running'))),
        CONSTRAINT jobs_deadline_when_running CHECK ((deadline IS NOT NULL) = (status = 'running')),
        CONSTRAINT jobs_finished_at_when_terminal CHECK
            ((finished_at IS NOT NULL) = (status IN ('completed', 'failed', 'cancelled'))),
        CONSTRAINT jobs_run_at_when_delayed CHECK (run_at IS NOT NULL OR status <> 'delayed'),
        CONSTRAINT jobs_run_at_while_waiting CHECK (run_at IS NULL OR status IN ('delayed', 'paused')),
        CONSTRAINT jobs_want_is_known CHECK (want IN ('cancel', 'pause')),
        CONSTRAINT jobs_want_when_leased CHECK (want IS NULL OR status IN ('assigned', 'running')),
        CONSTRAINT jobs_want_has_a_deadline CHECK ((want IS NULL) = (want_deadline IS NULL)),
        CONSTRAINT jobs_reason_when_paused CHECK ((pause_reason IS NOT NULL) = (status = 'paused')),
        CONSTRAINT jobs_no_failure_without_attempt CHECK (failures <= attempt),
        CONSTRAINT jobs_root_has_no_parent CHECK ((parent_id IS NULL) = (depth = 0)),
        CONSTRAINT jobs_tree_status_is_known CHECK (tree_status IN ('open', 'completed', 'failed', 'cancelled')),
        CONSTRAINT jobs_settled_at_when_settled CHECK ((settled_at IS NULL) = (tree_status = 'open')),
        CONSTRAINT jobs_tree_open_while_something_is CHECK ((tree_status = 'open') =
            (open_children > 0 OR status IN ('delayed', 'queued', 'assigned', 'running', 'paused'))),
        CONSTRAINT jobs_tree_completed_when_all_did CHECK ((tree_status = 'completed') =
            (status = 'completed' AND open_children = 0 AND failed_children = 0)),
        CONSTRAINT jobs_children_are_counted CHECK (open_children + failed_children <= children),
        CONSTRAINT jobs_counts_do_not_fall_below_zero CHECK
            (fence >= 0 AND failures >= 0 AND misses >= 0 AND depth >= 0 AND children >= 0 AND tree_jobs >= 0
            AND open_children >= 0 AND failed_children >= 0)
    ){strict}",
    // Which job is next, in each lane.
    "CREATE INDEX idx_jobs_socket_status ON jobs (lane, due, id) WHERE status = 'queued'",
    // Whose time came.
    "CREATE INDEX idx_jobs_delayed ON jobs (run_at) WHERE status = 'delayed'",
    // What sessions hold: the sweep looks at these only.
    "CREATE INDEX idx_jobs_session ON jobs (session_id) WHERE session_id IS NOT NULL",
    // What is below a submitted job, and which trees are over.
    "CREATE INDEX idx_jobs_tree ON jobs (root_id, id) WHERE parent_id IS NOT NULL",
    "CREATE INDEX idx_jobs_settled ON jobs (settled_at, id) WHERE parent_id IS NULL AND settled_at IS NOT NULL",
    // Lists, newest first. What moves is kept apart from what rests, so that moving stays cheap.
    "CREATE INDEX idx_jobs_parent ON jobs (parent_id, id) WHERE parent_id IS NOT NULL",
    "CREATE INDEX idx_jobs_account_active ON jobs (account_id, status, id)
        WHERE status = 'delayed' OR status = 'queued' OR status = 'assigned' OR status = 'running'",
    "CREATE INDEX idx_jobs_account_status ON jobs (account_id, status, id)
        WHERE status = 'paused' OR status = 'completed' OR status = 'failed' OR status = 'cancelled'",
    "CREATE INDEX idx_jobs_status ON jobs (status, id)
        WHERE status = 'paused' OR status = 'completed' OR status = 'failed' OR status = 'cancelled'",
    // How many jobs are in each status is the sum over the shards; each server writes to one, so that servers on one
    // database do not wait for each other.
    "CREATE TABLE job_counts (
        shard INTEGER NOT NULL,
        status TEXT NOT NULL,
        jobs {int} NOT NULL,
        PRIMARY KEY (shard, status)
    ){strict}",
    // The same for accounts: jobs that have not ended, and jobs that sessions hold.
    "CREATE TABLE account_counts (
        account_id {int} NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
        shard INTEGER NOT NULL,
        open {int} NOT NULL,
        held {int} NOT NULL,
        PRIMARY KEY (account_id, shard)
    ){strict}",
    // Closed ones only. 0 is no account, and '' no host.
    "CREATE TABLE gates (
        kind TEXT NOT NULL,
        account_id {int} NOT NULL,
        host TEXT NOT NULL,
        closed_at {int} NOT NULL,
        until {int},
        reason TEXT,
        by TEXT NOT NULL,
        PRIMARY KEY (kind, account_id, host),
        CONSTRAINT gates_are_known CHECK ((kind = 'queue' AND account_id = 0 AND host = '')
            OR (kind = 'host' AND account_id = 0 AND host <> '')
            OR (kind = 'credentials' AND account_id > 0 AND host <> ''))
    ){strict}",
    "CREATE TABLE job_events (
        id {serial},
        job_id {int} NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
        at {int} NOT NULL,
        arrows TEXT NOT NULL,
        status TEXT NOT NULL,
        fence {int} NOT NULL,
        attempt INTEGER NOT NULL,
        session TEXT
    ){strict}",
    "CREATE INDEX idx_job_events_job ON job_events (job_id, id)",
    "CREATE TABLE job_progress (
        job_id {key} REFERENCES jobs (id) ON DELETE CASCADE,
        attempt INTEGER NOT NULL,
        n {int} NOT NULL,
        overall_completion {real} NOT NULL,
        time_elapsed {real} NOT NULL,
        estimated_time_remaining {real},
        entities TEXT NOT NULL,
        updated_at {int} NOT NULL
    ){strict}",
    "CREATE TABLE areas (
        id {serial},
        host TEXT NOT NULL,
        kind TEXT NOT NULL,
        entity_id TEXT NOT NULL,
        path TEXT NOT NULL,
        name TEXT NOT NULL,
        created_at {int} NOT NULL,
        updated_at {int} NOT NULL,
        UNIQUE (host, kind, entity_id)
    ){strict}",
    "CREATE TABLE account_areas (
        account_id {int} NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
        area_id {int} NOT NULL REFERENCES areas (id) ON DELETE CASCADE,
        since {int} NOT NULL,
        PRIMARY KEY (account_id, area_id)
    ){strict}",
    "CREATE TABLE audit (
        id {serial},
        at {int} NOT NULL,
        by TEXT NOT NULL,
        act TEXT NOT NULL,
        target TEXT NOT NULL,
        detail TEXT
    ){strict}",
    "CREATE TABLE errors (
        id {serial},
        at {int} NOT NULL,
        category TEXT NOT NULL,
        severity TEXT NOT NULL,
        code TEXT NOT NULL,
        job TEXT,
        connection TEXT,
        message TEXT NOT NULL
    ){strict}",
];

const DOWN: &[&str] = &[
    "DROP TABLE errors",
    "DROP TABLE audit",
    "DROP TABLE account_areas",
    "DROP TABLE areas",
    "DROP TABLE job_progress",
    "DROP TABLE job_events",
    "DROP TABLE gates",
    "DROP TABLE account_counts",
    "DROP TABLE job_counts",
    "DROP TABLE jobs",
    "DROP TABLE sessions",
    "DROP TABLE credentials",
    "DROP TABLE accounts",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All or nothing on SQLite too.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let database = manager.get_connection();
        let backend = manager.get_database_backend();
        for statement in UP {
            database.execute_unprepared(&translate(statement, backend)).await?;
        }
        if backend == DbBackend::Postgres {
            // Keys of accounts, credentials, sessions and jobs; SQLite's one writer counts by itself.
            database.execute_unprepared("CREATE SEQUENCE crawlwire_ids").await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let database = manager.get_connection();
        for statement in DOWN {
            database.execute_unprepared(statement).await?;
        }
        if manager.get_database_backend() == DbBackend::Postgres {
            database.execute_unprepared("DROP SEQUENCE crawlwire_ids").await?;
        }
        Ok(())
    }
}
