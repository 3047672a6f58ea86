//! The text of the writer's statements.
//!
//! Each is constant, so that it is prepared once, and takes one parameter: JSON, however many rows it speaks of. Each
//! goes to `jobs` by key: a planner that would rather scan is the classic trap, and a test asks it for its plans.

use sea_orm::DbBackend;

/// A statement in both dialects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sql {
    sqlite: &'static str,
    postgres: &'static str,
}

impl Sql {
    const fn same(text: &'static str) -> Self {
        Self {
            sqlite: text,
            postgres: text,
        }
    }

    pub(crate) const fn text(self, backend: DbBackend) -> &'static str {
        match backend {
            DbBackend::Sqlite => self.sqlite,
            _ => self.postgres,
        }
    }
}

/// The values of a JSON array inside the parameter, as a subquery of one column.
macro_rules! values {
    (sqlite $path:literal $type:literal) => {
        concat!("(SELECT value FROM json_each($1, '$.", $path, "'))")
    };
    (postgres $path:literal $type:literal) => {
        concat!(
            "ANY (ARRAY (SELECT value::",
            $type,
            " FROM json_array_elements_text($1::json->'",
            $path,
            "') AS value))"
        )
    };
}

/// The parameter as rows: a JSON array of objects.
macro_rules! rows {
    (sqlite, $first:ident $first_type:literal $(, $column:ident $type:literal)*) => {
        concat!(
            "(SELECT value->>'", stringify!($first), "' AS ", stringify!($first),
            $(", value->>'", stringify!($column), "' AS ", stringify!($column),)*
            " FROM json_each($1)) AS r"
        )
    };
    (postgres, $first:ident $first_type:literal $(, $column:ident $type:literal)*) => {
        concat!(
            "json_to_recordset($1::json) AS r (", stringify!($first), " ", $first_type,
            $(", ", stringify!($column), " ", $type,)* ")"
        )
    };
}

/// Inserts the rows of the parameter. `WHERE true` keeps SQLite from reading `ON CONFLICT` as a join.
macro_rules! insert {
    ($table:literal, $tail:literal, $first:ident $first_type:literal $(, $column:ident $type:literal)*) => {
        Sql {
            sqlite: insert!(@ sqlite, $table, $tail, $first $first_type $(, $column $type)*),
            postgres: insert!(@ postgres, $table, $tail, $first $first_type $(, $column $type)*),
        }
    };
    (@ $backend:ident, $table:literal, $tail:literal, $first:ident $first_type:literal $(, $column:ident $type:literal)*) => {
        concat!(
            "INSERT INTO ", $table, " (", stringify!($first) $(, ", ", stringify!($column))*, ") SELECT ",
            stringify!($first) $(, ", ", stringify!($column))*, " FROM ",
            rows!($backend, $first $first_type $(, $column $type)*), " WHERE true ", $tail
        )
    };
}

/// Updates rows by the key `id`, if `guard` holds. `same` columns are set to what the parameter says.
macro_rules! update {
    ($table:literal, $guard:literal, $extra:literal, [$($other:ident $other_type:literal),*],
     $first:ident $first_type:literal $(, $column:ident $type:literal)*) => {
        Sql {
            sqlite: update!(@ sqlite, $table, $guard, $extra, [$($other $other_type),*], $first $first_type $(, $column $type)*),
            postgres: update!(@ postgres, $table, $guard, $extra, [$($other $other_type),*], $first $first_type $(, $column $type)*),
        }
    };
    (@ $backend:ident, $table:literal, $guard:literal, $extra:literal, [$($other:ident $other_type:literal),*],
     $first:ident $first_type:literal $(, $column:ident $type:literal)*) => {
        concat!(
            "UPDATE ", $table, " SET ", stringify!($first), " = r.", stringify!($first),
            $(", ", stringify!($column), " = r.", stringify!($column),)*
            $extra, " FROM ", rows!($backend, id "bigint" $(, $other $other_type)*, $first $first_type $(, $column $type)*),
            " WHERE ", $table, ".id = r.id", $guard
        )
    };
}

/// What [`load`](crate::load) reads of a job, in the order in which it reads it.
macro_rules! loaded_columns {
    () => {
        "id, public_id, host, provider, user_id, parent_id, root_id, depth, generation, account_id, credential_id, \
         children, tree_jobs, status, pause_reason, fence, session_id, attempt, failures, misses, run_at, assigned_at, \
         started_at, deadline, finished_at, resume"
    };
}

pub(crate) const BEGIN: Sql = Sql {
    // At once, because a transaction that reads first and then wants to write fails without waiting.
    sqlite: "BEGIN IMMEDIATE",
    postgres: "BEGIN ISOLATION LEVEL READ COMMITTED",
};
pub(crate) const COMMIT: Sql = Sql::same("COMMIT");
pub(crate) const ROLLBACK: Sql = Sql::same("ROLLBACK");

/// The time, the name of the transaction, and as many fresh keys as the parameter says. PostgreSQL only.
pub(crate) const CLOCK_AND_KEYS: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint, \
     pg_current_xact_id()::text, \
     coalesce((SELECT string_agg(nextval('crawlwire_ids')::text, ',') FROM generate_series(1, $1::bigint)), '')";

/// Whether a transaction was committed. PostgreSQL only.
pub(crate) const TRANSACTION_STATUS: &str = "SELECT pg_xact_status($1::xid8)";

/// The greatest key in use. SQLite only.
pub(crate) const LAST_KEY: &str = "SELECT max(coalesce((SELECT max(id) FROM jobs), 0), \
     coalesce((SELECT max(id) FROM sessions), 0), coalesce((SELECT max(id) FROM accounts), 0), \
     coalesce((SELECT max(id) FROM credentials), 0))";

/// Jobs by key, by public id, and roots of jobs; locked in the order of their keys.
pub(crate) const LOAD_JOBS: Sql = Sql {
    sqlite: concat!(
        "SELECT ",
        loaded_columns!(),
        " FROM jobs WHERE id IN (SELECT value FROM json_each($1, '$.jobs') \
         UNION SELECT id FROM jobs WHERE public_id IN ",
        values!(sqlite "public_ids" "text"),
        " UNION SELECT root_id FROM jobs WHERE id IN ",
        values!(sqlite "parents" "bigint"),
        ") ORDER BY id"
    ),
    postgres: concat!(
        "SELECT ",
        loaded_columns!(),
        " FROM jobs WHERE id = ANY (ARRAY (SELECT value::bigint FROM json_array_elements_text($1::json->'jobs') AS value \
         UNION SELECT id FROM jobs WHERE public_id = ",
        values!(postgres "public_ids" "text"),
        " UNION SELECT root_id FROM jobs WHERE id = ",
        values!(postgres "parents" "bigint"),
        ")) ORDER BY id FOR NO KEY UPDATE"
    ),
};

/// Jobs that time has something to say about, held ones first. Looks at held and delayed jobs only.
pub(crate) const LOAD_DUE: Sql = Sql {
    sqlite: concat!(
        "SELECT ",
        loaded_columns!(),
        " FROM jobs WHERE id IN (SELECT id FROM (SELECT j.id FROM jobs AS j INDEXED BY idx_jobs_session \
         LEFT JOIN sessions AS s ON s.id = j.session_id WHERE j.session_id IS NOT NULL AND \
         (coalesce(s.lease_expires_at, 0) <= $1->>'now' OR j.deadline <= $1->>'now' \
         OR (j.status = 'assigned' AND j.assigned_at <= $1->>'accepted')) LIMIT $1->>'limit') \
         UNION ALL SELECT id FROM (SELECT id FROM jobs INDEXED BY idx_jobs_delayed \
         WHERE status = 'delayed' AND run_at <= $1->>'now' ORDER BY run_at LIMIT $1->>'limit') \
         LIMIT $1->>'limit') ORDER BY id"
    ),
    postgres: concat!(
        "SELECT ",
        loaded_columns!(),
        " FROM jobs WHERE id = ANY (ARRAY ((SELECT j.id FROM jobs AS j \
         LEFT JOIN sessions AS s ON s.id = j.session_id WHERE j.session_id IS NOT NULL AND \
         (coalesce(s.lease_expires_at, 0) <= ($1::json->>'now')::bigint OR j.deadline <= ($1::json->>'now')::bigint \
         OR (j.status = 'assigned' AND j.assigned_at <= ($1::json->>'accepted')::bigint)) \
         LIMIT ($1::json->>'limit')::bigint) \
         UNION ALL (SELECT id FROM jobs \
         WHERE status = 'delayed' AND run_at <= ($1::json->>'now')::bigint ORDER BY run_at \
         LIMIT ($1::json->>'limit')::bigint) LIMIT ($1::json->>'limit')::bigint)) \
         ORDER BY id FOR NO KEY UPDATE SKIP LOCKED"
    ),
};

/// Sessions by key; locked, so that a lease cannot be renewed while it is found to be over.
pub(crate) const LOAD_SESSIONS: Sql = Sql {
    sqlite: concat!(
        "SELECT id, name, identity, connected, lease_expires_at FROM sessions WHERE id IN ",
        values!(sqlite "ids" "bigint"),
        " ORDER BY id"
    ),
    postgres: concat!(
        "SELECT id, name, identity, connected, lease_expires_at FROM sessions WHERE id = ",
        values!(postgres "ids" "bigint"),
        " ORDER BY id FOR NO KEY UPDATE"
    ),
};

/// Accounts by name, each with its credential for a host, if there is one.
pub(crate) const LOAD_ACCOUNTS: Sql = Sql {
    sqlite: concat!(
        "SELECT a.name, a.id, r.host, c.id, c.version FROM ",
        rows!(sqlite, account "text", host "text"),
        " CROSS JOIN accounts AS a ON a.name = r.account \
         LEFT JOIN credentials AS c ON c.account_id = a.id AND c.host = r.host"
    ),
    postgres: concat!(
        "SELECT a.name, a.id, r.host, c.id, c.version FROM ",
        rows!(postgres, account "text", host "text"),
        " JOIN accounts AS a ON a.name = r.account \
         LEFT JOIN credentials AS c ON c.account_id = a.id AND c.host = r.host"
    ),
};

pub(crate) const LOAD_NAMES: Sql = Sql {
    sqlite: concat!(
        "SELECT web_app_job_id, public_id FROM jobs WHERE web_app_job_id IN ",
        values!(sqlite "names" "text")
    ),
    postgres: concat!(
        "SELECT web_app_job_id, public_id FROM jobs WHERE web_app_job_id = ",
        values!(postgres "names" "text")
    ),
};

pub(crate) const LOAD_IDENTITIES: Sql = Sql {
    sqlite: concat!(
        "SELECT identity FROM jobs WHERE identity IN ",
        values!(sqlite "identities" "text")
    ),
    postgres: concat!(
        "SELECT identity FROM jobs WHERE identity = ",
        values!(postgres "identities" "text")
    ),
};

pub(crate) const LOAD_BACKLOG: Sql =
    Sql::same("SELECT CAST(coalesce(sum(jobs), 0) AS bigint) FROM job_counts WHERE status IN ('delayed', 'queued')");

/// Sessions, after a server or the database was away: connections of the servers in `gone` are lost, and every lease lasts
/// until `until` at least. On SQLite there is one server, so every session is its own, whatever it was called before.
pub(crate) const RECOVER_SESSIONS: Sql = Sql {
    sqlite: "UPDATE sessions SET \
             connected = connected AND json_array_length($1, '$.gone') = 0, \
             lease_expires_at = max(lease_expires_at, $1->>'until')",
    postgres: concat!(
        "UPDATE sessions SET connected = connected AND NOT server = ",
        values!(postgres "gone" "text"),
        ", lease_expires_at = greatest(lease_expires_at, ($1::json->>'until')::bigint) \
         WHERE id = ANY (ARRAY (SELECT id FROM sessions ORDER BY id FOR NO KEY UPDATE))"
    ),
};

/// Held jobs, after a server or the database was away: no deadline passes before `until`, and the accept time begins at
/// `now`. The greatest of nothing and something is nothing on SQLite, and something on PostgreSQL.
pub(crate) const RECOVER_JOBS: Sql = Sql {
    sqlite: "UPDATE jobs INDEXED BY idx_jobs_session SET \
             assigned_at = max(assigned_at, $1->>'now'), deadline = max(deadline, $1->>'until') \
             WHERE session_id IS NOT NULL",
    postgres: "UPDATE jobs SET assigned_at = greatest(assigned_at, ($1::json->>'now')::bigint), \
               deadline = CASE WHEN deadline IS NOT NULL THEN greatest(deadline, ($1::json->>'until')::bigint) END \
               WHERE id = ANY (ARRAY (SELECT id FROM jobs WHERE session_id IS NOT NULL \
               ORDER BY id FOR NO KEY UPDATE))",
};

pub(crate) const INSERT_ACCOUNTS: Sql = insert!("accounts", "", id "bigint", name "text", created_at "bigint");

/// A row of this account and host with another key is somebody else's, and a conflict; a newer token stays.
pub(crate) const WRITE_CREDENTIALS: Sql = insert!(
    "credentials",
    "ON CONFLICT (id) DO UPDATE SET version = excluded.version, sealed_token = excluded.sealed_token, \
     updated_at = excluded.updated_at WHERE credentials.version < excluded.version",
    id "bigint", account_id "bigint", host "text", version "bigint", sealed_token "text", updated_at "bigint"
);

pub(crate) const INSERT_SESSIONS: Sql = insert!(
    "sessions", "", id "bigint", name "text", identity "text", server "text", connected "boolean", opened_at "bigint",
    lease_expires_at "bigint"
);

pub(crate) const UPDATE_SESSIONS: Sql = update!("sessions", "", "", [], connected "boolean", lease_expires_at "bigint");

pub(crate) const INSERT_JOBS: Sql = insert!(
    "jobs", "", id "bigint", public_id "text", web_app_job_id "text", identity "text", account_id "bigint",
    credential_id "bigint", parent_id "bigint", root_id "bigint", depth "integer", generation "text", job_type "text",
    command "text", host "text", entity_id "text", namespace_path "text", entity_name "text",
    priority "double precision", provider "text", user_id "text", created_by_user_id "text", tags "text",
    metadata "text", status "text", pause_reason "text", fence "bigint", session_id "bigint", attempt "integer",
    failures "integer", misses "integer", due "bigint", run_at "bigint", assigned_at "bigint", started_at "bigint",
    deadline "bigint", finished_at "bigint", resume "boolean", children "bigint", tree_jobs "bigint",
    created_at "bigint", updated_at "bigint"
);

/// The guard: each row must still be as it was loaded.
pub(crate) const UPDATE_JOBS: Sql = update!(
    "jobs",
    " AND jobs.status = r.status_before AND jobs.fence = r.fence_before",
    ", result = coalesce(r.result, jobs.result), error = coalesce(r.error, jobs.error)",
    [status_before "text", fence_before "bigint", result "text", error "text"],
    status "text", pause_reason "text", fence "bigint", session_id "bigint", attempt "integer", failures "integer",
    misses "integer", run_at "bigint", assigned_at "bigint", started_at "bigint", deadline "bigint",
    finished_at "bigint", resume "boolean", children "bigint", tree_jobs "bigint", updated_at "bigint"
);

pub(crate) const INSERT_EVENTS: Sql = insert!(
    "job_events", "", job_id "bigint", at "bigint", arrows "text", status "text", fence "bigint", attempt "integer",
    session "text"
);

/// An older report never replaces a newer one.
pub(crate) const WRITE_PROGRESS: Sql = insert!(
    "job_progress",
    "ON CONFLICT (job_id) DO UPDATE SET attempt = excluded.attempt, n = excluded.n, \
     overall_completion = excluded.overall_completion, time_elapsed = excluded.time_elapsed, \
     estimated_time_remaining = excluded.estimated_time_remaining, entities = excluded.entities, \
     updated_at = excluded.updated_at \
     WHERE (excluded.attempt, excluded.n) > (job_progress.attempt, job_progress.n)",
    job_id "bigint", attempt "integer", n "bigint", overall_completion "double precision",
    time_elapsed "double precision", estimated_time_remaining "double precision", entities "text", updated_at "bigint"
);

pub(crate) const INSERT_ERRORS: Sql = insert!(
    "errors", "", at "bigint", category "text", severity "text", code "text", job "text", connection "text",
    message "text"
);

/// Looks at the oldest sessions only, so that its cost does not grow with the number of sessions.
pub(crate) const FORGET_SESSIONS: Sql = Sql {
    sqlite: "DELETE FROM sessions WHERE id IN (SELECT id FROM (SELECT * FROM sessions ORDER BY id LIMIT 1000) AS s \
             WHERE NOT s.connected AND s.lease_expires_at < $1->>'before' \
             AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.session_id = s.id))",
    postgres: "DELETE FROM sessions WHERE id = ANY (ARRAY (SELECT s.id FROM sessions AS s \
               WHERE s.id = ANY (ARRAY (SELECT id FROM sessions ORDER BY id LIMIT 1000)) \
               AND NOT s.connected AND s.lease_expires_at < ($1::json->>'before')::bigint \
               AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.session_id = s.id) FOR UPDATE OF s SKIP LOCKED))",
};

pub(crate) const COUNT: Sql = insert!(
    "job_counts",
    "ON CONFLICT (shard, status) DO UPDATE SET jobs = job_counts.jobs + excluded.jobs",
    shard "integer", status "text", jobs "bigint"
);

/// Statements that touch `jobs` for many operations at once, with a parameter of `size` rows; for the test that asks
/// the planner about them.
#[cfg(feature = "testing")]
pub(crate) fn hot(size: i64) -> Vec<(&'static str, Sql, String)> {
    use serde_json::json;

    let ids: Vec<i64> = (1..=size).collect();
    let names: Vec<String> = ids.iter().map(|id| format!("none-{id}")).collect();
    let rows: Vec<_> = ids
        .iter()
        .map(|id| json!({"id": id, "status_before": "queued", "fence_before": 0, "job_id": id}))
        .collect();
    let rows = json!(rows).to_string();
    vec![
        (
            "load jobs",
            LOAD_JOBS,
            json!({"jobs": ids, "public_ids": names, "parents": ids}).to_string(),
        ),
        (
            "load due",
            LOAD_DUE,
            json!({"now": 0, "accepted": 0, "limit": size}).to_string(),
        ),
        ("load names", LOAD_NAMES, json!({"names": names}).to_string()),
        (
            "load identities",
            LOAD_IDENTITIES,
            json!({"identities": names}).to_string(),
        ),
        ("recover jobs", RECOVER_JOBS, json!({"now": 0, "until": 0}).to_string()),
        ("update jobs", UPDATE_JOBS, rows.clone()),
        ("insert jobs", INSERT_JOBS, rows.clone()),
        ("insert events", INSERT_EVENTS, rows.clone()),
        ("write progress", WRITE_PROGRESS, rows),
        ("forget sessions", FORGET_SESSIONS, json!({"before": 0}).to_string()),
    ]
}
