//! What the writer runs to write what a plan changes.

use super::Sql;

/// Sessions, after a server or the database was away: connections of the servers in `gone` are lost, and every lease lasts
/// until `until` at least, unless that was granted so often in a row without a sign of life. On SQLite there is one server, so every session is its own, whatever it was called before.
pub(crate) const RECOVER_SESSIONS: Sql = Sql {
    sqlite: "UPDATE sessions SET \
             connected = connected AND json_array_length($1, '$.gone') = 0, \
             lease_expires_at = CASE WHEN grants < $1->>'grants' THEN max(lease_expires_at, $1->>'until') \
             ELSE lease_expires_at END, grants = min(grants + 1, $1->>'grants')",
    postgres: concat!(
        "UPDATE sessions SET connected = connected AND NOT server = ",
        values!(postgres "gone" "text"),
        ", lease_expires_at = CASE WHEN grants < ($1::json->>'grants')::integer \
         THEN greatest(lease_expires_at, ($1::json->>'until')::bigint) ELSE lease_expires_at END, \
         grants = least(grants + 1, ($1::json->>'grants')::integer) \
         WHERE id = ANY (ARRAY (SELECT id FROM sessions ORDER BY id FOR NO KEY UPDATE))"
    ),
};

/// Jobs held by sessions of the servers in `gone`, or by anybody if there are none: no deadline passes before `until`, and
/// the accept time begins at `now`. The greatest of nothing and something is nothing on SQLite, and something on PostgreSQL.
pub(crate) const RECOVER_JOBS: Sql = Sql {
    sqlite: "UPDATE jobs INDEXED BY idx_jobs_session SET \
             assigned_at = max(assigned_at, $1->>'now'), deadline = max(deadline, $1->>'until'), \
             want_deadline = max(want_deadline, $1->>'until') \
             WHERE session_id IS NOT NULL",
    postgres: concat!(
        "UPDATE jobs SET assigned_at = greatest(assigned_at, ($1::json->>'now')::bigint), \
               deadline = CASE WHEN deadline IS NOT NULL THEN greatest(deadline, ($1::json->>'until')::bigint) END, \
               want_deadline = CASE WHEN want_deadline IS NOT NULL \
               THEN greatest(want_deadline, ($1::json->>'until')::bigint) END \
               WHERE id = ANY (ARRAY (SELECT id FROM jobs WHERE session_id IS NOT NULL \
               AND (json_array_length($1::json->'gone') = 0 OR session_id = ANY (ARRAY (\
               SELECT id FROM sessions WHERE server = ",
        values!(postgres "gone" "text"),
        "))) ORDER BY id FOR NO KEY UPDATE))"
    ),
};

/// Gates that are still closed as they were found: if somebody else opened one, its jobs have their time already.
pub(crate) const OPEN_GATES: Sql = Sql {
    sqlite: "DELETE FROM gates WHERE (kind, account_id, host, closed_at) IN (\
             SELECT value->>'kind', value->>'account_id', value->>'host', value->>'closed_at' FROM json_each($1))",
    postgres: concat!(
        "DELETE FROM gates USING ",
        rows!(postgres, kind "text", account_id "bigint", host "text", closed_at "bigint"),
        " WHERE gates.kind = r.kind AND gates.account_id = r.account_id AND gates.host = r.host \
         AND gates.closed_at = r.closed_at"
    ),
};

/// Deadlines that stood still move by the time that a gate was closed. 0 stands for every account.
pub(crate) const MOVE_DEADLINES: Sql = Sql {
    sqlite: "UPDATE jobs INDEXED BY idx_jobs_session SET deadline = deadline + (\
             SELECT sum(value->>'moved') FROM json_each($1) \
             WHERE value->>'host' = jobs.host AND value->>'account_id' IN (0, jobs.account_id)) \
             WHERE session_id IS NOT NULL AND deadline IS NOT NULL AND EXISTS (SELECT 1 FROM json_each($1) \
             WHERE value->>'host' = jobs.host AND value->>'account_id' IN (0, jobs.account_id))",
    postgres: concat!(
        "UPDATE jobs SET deadline = deadline + (SELECT sum(r.moved)::bigint FROM ",
        rows!(postgres, account_id "bigint", host "text", moved "bigint"),
        " WHERE r.host = jobs.host AND r.account_id IN (0, jobs.account_id)) \
         WHERE id = ANY (ARRAY (SELECT id FROM jobs AS j WHERE session_id IS NOT NULL AND deadline IS NOT NULL \
         AND EXISTS (SELECT 1 FROM ",
        rows!(postgres, account_id "bigint", host "text"),
        " WHERE r.host = j.host AND r.account_id IN (0, j.account_id)) ORDER BY id FOR NO KEY UPDATE OF j))"
    ),
};

pub(crate) const CLOSE_GATES: Sql = insert!(
    "gates",
    "ON CONFLICT (kind, account_id, host) DO UPDATE SET closed_at = excluded.closed_at, until = excluded.until, \
     reason = excluded.reason, by = excluded.by",
    kind "text", account_id "bigint", host "text", closed_at "bigint", until "bigint", reason "text", by "text"
);

pub(crate) const INSERT_ACCOUNTS: Sql = insert!("accounts", "", id "bigint", name "text", created_at "bigint");

/// A row of this account and host with another key is somebody else's, and a conflict; a newer token stays.
pub(crate) const WRITE_CREDENTIALS: Sql = insert!(
    "credentials",
    "ON CONFLICT (id) DO UPDATE SET version = excluded.version, sealed_token = excluded.sealed_token, \
     updated_at = excluded.updated_at WHERE credentials.version < excluded.version",
    id "bigint", account_id "bigint", host "text", version "bigint", sealed_token "text", updated_at "bigint"
);

pub(crate) const INSERT_SESSIONS: Sql = insert!(
    "sessions", "", id "bigint", name "text", identity "text", server "text", connected "boolean",
    capabilities "text", confirms "boolean", opened_at "bigint", lease_expires_at "bigint", epoch "bigint",
    high_water "bigint", high_water_fingerprint "bigint", instance_id "text", crawler_id "text", principal "text",
    refused "text"
);

/// What a later connection says of itself.
pub(crate) const REOPEN_SESSIONS: Sql = update!("sessions", "", "", [], name "text", identity "text", server "text",
    capabilities "text", confirms "boolean", crawler_id "text");

pub(crate) const UPDATE_SESSIONS: Sql = update!("sessions", "", "", [], connected "boolean", lease_expires_at "bigint",
    grants "integer", epoch "bigint", high_water "bigint", high_water_fingerprint "bigint", refused "text");

pub(crate) const INSERT_JOBS: Sql = insert!(
    "jobs", "", id "bigint", public_id "text", web_app_job_id "text", identity "text", account_id "bigint",
    credential_id "bigint", parent_id "bigint", root_id "bigint", depth "integer", generation "text", job_type "text",
    command "text", host "text", entity_id "text", namespace_path "text", entity_name "text",
    priority "double precision", provider "text", user_id "text", created_by_user_id "text", labels "text",
    tags "text", metadata "text", timeout_ms "bigint", retry_attempts "bigint", retry_delay_ms "bigint", status "text",
    pause_reason "text", fence "bigint", session_id "bigint", attempt "integer", failures "integer", misses "integer",
    lane "bigint", due "bigint", run_at "bigint", assigned_at "bigint", started_at "bigint", deadline "bigint",
    finished_at "bigint", resume "boolean", want "text", want_deadline "bigint", children "bigint", tree_jobs "bigint",
    open_children "bigint", failed_children "bigint", tree_status "text", settled_at "bigint", created_at "bigint",
    updated_at "bigint", weight "bigint", tree_weight "bigint", tree_weighed "bigint", once_key "text",
    once_fingerprint "bigint"
);

/// The guard: each row must still be as it was loaded.
pub(crate) const UPDATE_JOBS: Sql = update!(
    "jobs",
    " AND jobs.status = r.status_before AND jobs.fence = r.fence_before",
    ", result = coalesce(r.result, jobs.result), error = coalesce(r.error, jobs.error)",
    [status_before "text", fence_before "bigint", result "text", error "text"],
    status "text", pause_reason "text", fence "bigint", session_id "bigint", attempt "integer", failures "integer",
    misses "integer", run_at "bigint", assigned_at "bigint", started_at "bigint", deadline "bigint",
    finished_at "bigint", resume "boolean", want "text", want_deadline "bigint", priority "double precision",
    due "bigint", children "bigint", tree_jobs "bigint", open_children "bigint", failed_children "bigint",
    tree_status "text", settled_at "bigint", updated_at "bigint", tree_weight "bigint", tree_weighed "bigint"
);

/// The guard: each row must still be in the status that was counted.
pub(crate) const DELETE_JOBS: Sql = Sql {
    sqlite: "DELETE FROM jobs WHERE id IN (SELECT jobs.id FROM json_each($1) AS r CROSS JOIN jobs \
             ON jobs.id = r.value->>'id' AND jobs.status = r.value->>'status')",
    postgres: concat!(
        "DELETE FROM jobs USING ",
        rows!(postgres, id "bigint", status "text"),
        " WHERE jobs.id = r.id AND jobs.status = r.status"
    ),
};

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
     updated_at = excluded.updated_at, completion = excluded.completion, done = excluded.done, \
     expected = excluded.expected, open_totals = excluded.open_totals, kept = excluded.kept \
     WHERE (excluded.attempt, excluded.n) > (job_progress.attempt, job_progress.n)",
    job_id "bigint", attempt "integer", n "bigint", overall_completion "double precision",
    time_elapsed "double precision", estimated_time_remaining "double precision", entities "text", updated_at "bigint",
    completion "double precision", done "bigint", expected "bigint", open_totals "boolean", kept "text"
);

/// How attempts went.
pub(crate) const WRITE_HISTORY: Sql = insert!(
    "job_history",
    "ON CONFLICT (job_id, attempt) DO UPDATE SET points = excluded.points",
    job_id "bigint", attempt "integer", points "text"
);

/// Attempts that are so long ago that nobody compares them.
pub(crate) const THIN_HISTORY: Sql = Sql {
    sqlite: "DELETE FROM job_history WHERE (job_id, attempt) IN (\
             SELECT h.job_id, h.attempt FROM json_each($1) AS r CROSS JOIN job_history AS h \
             ON h.job_id = r.value->>'job_id' AND h.attempt <= r.value->>'until')",
    postgres: concat!(
        "DELETE FROM job_history USING ",
        rows!(postgres, job_id "bigint", until "integer"),
        " WHERE job_history.job_id = r.job_id AND job_history.attempt <= r.until"
    ),
};

/// What trees add up to. The rows are locked, or nobody else writes.
pub(crate) const WRITE_TREES: Sql = insert!(
    "tree_progress",
    "ON CONFLICT (root_id) DO UPDATE SET jobs_reported = excluded.jobs_reported, done = excluded.done, \
     expected = excluded.expected, open_jobs = excluded.open_jobs, reached = excluded.reached, \
     is_open = excluded.is_open, updated_at = excluded.updated_at, weight_reported = excluded.weight_reported, \
     weighed_reported = excluded.weighed_reported",
    root_id "bigint", jobs_reported "bigint", done "bigint", expected "bigint", open_jobs "bigint", reached "integer",
    is_open "boolean", updated_at "bigint", weight_reported "bigint", weighed_reported "bigint"
);

pub(crate) const WRITE_CHECKPOINTS: Sql = insert!(
    "job_checkpoints",
    "ON CONFLICT (job_id) DO UPDATE SET attempt = excluded.attempt, cursor = excluded.cursor, \
     updated_at = excluded.updated_at",
    job_id "bigint", attempt "integer", cursor "text", updated_at "bigint"
);

pub(crate) const INSERT_TOKENS: Sql = insert!(
    "crawler_tokens", "", id "bigint", name "text", role "text", hash "text", created_at "bigint"
);

/// The first time stays.
pub(crate) const REVOKE_TOKENS: Sql =
    update!("crawler_tokens", " AND crawler_tokens.revoked_at IS NULL", "", [], revoked_at "bigint");

pub(crate) const USE_TOKENS: Sql = update!("crawler_tokens", "", "", [], last_used_at "bigint");

pub(crate) const INSERT_ERRORS: Sql = insert!(
    "errors", "", at "bigint", category "text", severity "text", code "text", job "text", connection "text",
    message "text"
);

/// Somebody else may have been faster.
pub(crate) const DELETE_ERRORS: Sql = Sql {
    sqlite: concat!("DELETE FROM errors WHERE id IN ", values!(sqlite "ids" "bigint")),
    postgres: concat!("DELETE FROM errors WHERE id = ", values!(postgres "ids" "bigint")),
};

pub(crate) const INSERT_AUDIT: Sql = insert!(
    "audit", "", at "bigint", by "text", act "text", target "text", detail "text"
);

/// Places that are new or got another path or name. What is there as it should be is not even locked.
pub(crate) const WRITE_AREAS: Sql = insert!(
    "areas",
    "AND NOT EXISTS (SELECT 1 FROM areas AS a WHERE a.host = r.host AND a.kind = r.kind AND a.entity_id = r.entity_id \
     AND a.path = r.path AND a.name = r.name) \
     ON CONFLICT (host, kind, entity_id) DO UPDATE SET path = excluded.path, name = excluded.name, \
     updated_at = excluded.updated_at",
    host "text", kind "text", entity_id "text", path "text", name "text", created_at "bigint", updated_at "bigint"
);

/// Which account may see which place, unless it is known.
pub(crate) const WRITE_ACCOUNT_AREAS: Sql = Sql {
    sqlite: concat!(
        "INSERT INTO account_areas (account_id, area_id, since) SELECT r.account_id, a.id, r.since FROM ",
        rows!(sqlite, account_id "bigint", host "text", kind "text", entity_id "text", since "bigint"),
        " CROSS JOIN areas AS a ON a.host = r.host AND a.kind = r.kind AND a.entity_id = r.entity_id \
         WHERE true ON CONFLICT DO NOTHING"
    ),
    postgres: concat!(
        "INSERT INTO account_areas (account_id, area_id, since) SELECT r.account_id, a.id, r.since FROM ",
        rows!(postgres, account_id "bigint", host "text", kind "text", entity_id "text", since "bigint"),
        " JOIN areas AS a ON a.host = r.host AND a.kind = r.kind AND a.entity_id = r.entity_id \
         ON CONFLICT DO NOTHING"
    ),
};

/// What is looked at through which server. What a server says last counts.
pub(crate) const WRITE_WATCHES: Sql = insert!(
    "watches", "ON CONFLICT (server, job) DO UPDATE SET until = excluded.until", server "text", job "text", until "bigint"
);

/// Those that are over, of all servers; those that their server is writing anew stay.
pub(crate) const FORGET_WATCHES: Sql = Sql {
    sqlite: "DELETE FROM watches WHERE until <= $1->>'now'",
    postgres: "DELETE FROM watches WHERE (server, job) IN (SELECT server, job FROM watches \
               WHERE until <= ($1::json->>'now')::bigint FOR UPDATE SKIP LOCKED)",
};

/// Looks only at sessions whose lease was over first, so that its cost does not grow with the number of sessions. Those
/// that hold jobs do not keep others from their turn for long: the sweep takes their jobs.
pub(crate) const FORGET_SESSIONS: Sql = Sql {
    sqlite: "DELETE FROM sessions WHERE id IN (SELECT id FROM (SELECT id FROM sessions INDEXED BY idx_sessions_lease \
             WHERE lease_expires_at < $1->>'before' ORDER BY lease_expires_at LIMIT 1000) AS s \
             WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.session_id = s.id))",
    postgres: "DELETE FROM sessions WHERE id = ANY (ARRAY (SELECT s.id FROM sessions AS s \
               WHERE s.id = ANY (ARRAY (SELECT id FROM sessions \
               WHERE lease_expires_at < ($1::json->>'before')::bigint ORDER BY lease_expires_at LIMIT 1000)) \
               AND s.lease_expires_at < ($1::json->>'before')::bigint \
               AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.session_id = s.id) FOR UPDATE OF s SKIP LOCKED))",
};

pub(crate) const COUNT: Sql = insert!(
    "job_counts",
    "ON CONFLICT (shard, status) DO UPDATE SET jobs = job_counts.jobs + excluded.jobs",
    shard "integer", status "text", jobs "bigint"
);

pub(crate) const COUNT_ACCOUNTS: Sql = insert!(
    "account_counts",
    "ON CONFLICT (account_id, shard) DO UPDATE SET open = account_counts.open + excluded.open, \
     held = account_counts.held + excluded.held",
    account_id "bigint", shard "integer", open "bigint", held "bigint"
);
