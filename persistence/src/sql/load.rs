//! What the writer runs to choose and load what a batch needs.

use super::Sql;

/// What [`load`](crate::load) reads of a job, in the order in which it reads it.
macro_rules! loaded_columns {
    () => {
        "id, public_id, host, provider, user_id, job_type, labels, parent_id, root_id, depth, generation, account_id, \
         credential_id, children, tree_jobs, open_children, failed_children, tree_status, settled_at, tree_weight, \
         tree_weighed, weight, status, \
         pause_reason, fence, session_id, attempt, failures, misses, run_at, assigned_at, started_at, deadline, \
         finished_at, resume, want, want_deadline, priority, due, timeout_ms, retry_attempts, retry_delay_ms"
    };
}

/// Keys of jobs that time has something to say about, held ones first. Looks at held and delayed jobs only, and leaves
/// out those whose deadline stands still behind a closed gate: however many, they do not keep others from their turn.
pub(crate) const CHOOSE_DUE: Sql = Sql {
    sqlite: "SELECT id FROM (SELECT j.id FROM jobs AS j INDEXED BY idx_jobs_session \
         LEFT JOIN sessions AS s ON s.id = j.session_id WHERE j.session_id IS NOT NULL AND \
         (coalesce(s.lease_expires_at, 0) <= $1->>'now' OR j.want_deadline <= $1->>'now' \
         OR (j.status = 'assigned' AND j.assigned_at <= $1->>'accepted') \
         OR (j.deadline <= $1->>'now' AND NOT EXISTS (SELECT 1 FROM gates AS g WHERE g.kind IN ('host', 'credentials') \
         AND g.account_id IN (0, j.account_id) AND g.host = j.host AND g.closed_at < j.deadline \
         AND (g.until IS NULL OR g.until > $1->>'now')))) LIMIT $1->>'limit') \
         UNION ALL SELECT id FROM (SELECT id FROM jobs INDEXED BY idx_jobs_delayed \
         WHERE status = 'delayed' AND run_at <= $1->>'now' ORDER BY run_at LIMIT $1->>'limit') \
         LIMIT $1->>'limit'",
    postgres: "(SELECT j.id FROM jobs AS j \
         LEFT JOIN sessions AS s ON s.id = j.session_id WHERE j.session_id IS NOT NULL AND \
         (coalesce(s.lease_expires_at, 0) <= ($1::json->>'now')::bigint \
         OR j.want_deadline <= ($1::json->>'now')::bigint \
         OR (j.status = 'assigned' AND j.assigned_at <= ($1::json->>'accepted')::bigint) \
         OR (j.deadline <= ($1::json->>'now')::bigint AND NOT EXISTS (SELECT 1 FROM gates AS g \
         WHERE g.kind IN ('host', 'credentials') AND g.account_id IN (0, j.account_id) AND g.host = j.host \
         AND g.closed_at < j.deadline AND (g.until IS NULL OR g.until > ($1::json->>'now')::bigint)))) \
         LIMIT ($1::json->>'limit')::bigint) \
         UNION ALL (SELECT id FROM jobs \
         WHERE status = 'delayed' AND run_at <= ($1::json->>'now')::bigint ORDER BY run_at \
         LIMIT ($1::json->>'limit')::bigint) LIMIT ($1::json->>'limit')::bigint",
};

/// Jobs below each root, behind a key, by rising key.
pub(crate) const CHOOSE_BELOW: Sql = Sql {
    sqlite: "SELECT r.value->>'root', r.value->>'after', jobs.id, jobs.status \
             FROM json_each($1, '$.trees') AS r CROSS JOIN jobs ON jobs.id IN (\
             SELECT id FROM jobs INDEXED BY idx_jobs_tree WHERE root_id = r.value->>'root' AND parent_id IS NOT NULL \
             AND id > r.value->>'after' ORDER BY id LIMIT $1->>'limit') ORDER BY 1, 2, 3",
    postgres: "SELECT r.root, r.after, j.id, j.status \
               FROM json_to_recordset($1::json->'trees') AS r (root bigint, after bigint) CROSS JOIN LATERAL (\
               SELECT id, status FROM jobs WHERE root_id = r.root AND parent_id IS NOT NULL AND id > r.after \
               ORDER BY root_id, id LIMIT ($1::json->>'limit')::bigint) AS j ORDER BY 1, 2, 3",
};

/// Each root with the jobs below it, by falling key, and so the root last.
pub(crate) const CHOOSE_TREES: Sql = Sql {
    sqlite: "SELECT r.value->>'root', jobs.id, jobs.status \
             FROM json_each($1, '$.trees') AS r CROSS JOIN jobs ON jobs.id IN (SELECT id FROM (\
             SELECT id FROM jobs INDEXED BY idx_jobs_tree WHERE root_id = r.value->>'root' AND parent_id IS NOT NULL \
             ORDER BY id DESC LIMIT $1->>'limit') UNION ALL SELECT r.value->>'root') ORDER BY 1, 2 DESC",
    postgres: "SELECT r.root, j.id, j.status \
               FROM json_to_recordset($1::json->'trees') AS r (root bigint) CROSS JOIN LATERAL (\
               (SELECT id, status FROM jobs WHERE root_id = r.root AND parent_id IS NOT NULL \
               ORDER BY root_id DESC, id DESC LIMIT ($1::json->>'limit')::bigint) \
               UNION ALL SELECT id, status FROM jobs WHERE id = r.root) AS j ORDER BY 1, 2 DESC",
};

/// Some of the paused or failed jobs, of one account or of all, behind a key, by rising key.
macro_rules! redrivable {
    (sqlite $index:literal $status:literal $wanted:literal $of:literal) => {
        concat!(
            "SELECT * FROM (SELECT id, status, pause_reason FROM jobs INDEXED BY ",
            $index,
            " WHERE $1->>'",
            $wanted,
            "' AND ",
            $of,
            " AND status = '",
            $status,
            "' AND id > $1->>'after' ORDER BY id LIMIT $1->>'limit')"
        )
    };
    (postgres $status:literal $wanted:literal $of:literal) => {
        concat!(
            "(SELECT id, status, pause_reason FROM jobs WHERE ($1::json->>'",
            $wanted,
            "')::boolean AND ",
            $of,
            " AND status = '",
            $status,
            "' AND id > ($1::json->>'after')::bigint ",
            "ORDER BY status, id LIMIT ($1::json->>'limit')::bigint)"
        )
    };
}

/// Jobs that may be given another chance, by rising key; all of those that are looked at.
pub(crate) const CHOOSE_REDRIVABLE: Sql = Sql {
    sqlite: concat!(
        "SELECT id, status, pause_reason FROM (",
        redrivable!(sqlite "idx_jobs_status" "paused" "quarantined" "$1->>'account' IS NULL"),
        " UNION ALL ",
        redrivable!(sqlite "idx_jobs_status" "failed" "failed" "$1->>'account' IS NULL"),
        " UNION ALL ",
        redrivable!(sqlite "idx_jobs_account_status" "paused" "quarantined"
            "account_id = (SELECT id FROM accounts WHERE name = $1->>'account')"),
        " UNION ALL ",
        redrivable!(sqlite "idx_jobs_account_status" "failed" "failed"
            "account_id = (SELECT id FROM accounts WHERE name = $1->>'account')"),
        ") ORDER BY id LIMIT $1->>'limit'"
    ),
    postgres: concat!(
        redrivable!(postgres "paused" "quarantined" "($1::json->>'account') IS NULL"),
        " UNION ALL ",
        redrivable!(postgres "failed" "failed" "($1::json->>'account') IS NULL"),
        " UNION ALL ",
        redrivable!(postgres "paused" "quarantined"
            "account_id = (SELECT id FROM accounts WHERE name = ($1::json->>'account'))"),
        " UNION ALL ",
        redrivable!(postgres "failed" "failed"
            "account_id = (SELECT id FROM accounts WHERE name = ($1::json->>'account'))"),
        " ORDER BY id LIMIT ($1::json->>'limit')::bigint"
    ),
};

/// Submitted jobs whose trees were over before a moment, the oldest first. Locked here, so that two servers that tidy up
/// do not choose the same.
pub(crate) const CHOOSE_SETTLED: Sql = Sql {
    sqlite: "SELECT id, status, children, tree_jobs FROM jobs INDEXED BY idx_jobs_settled \
             WHERE parent_id IS NULL AND settled_at IS NOT NULL AND settled_at < $1->>'before' \
             ORDER BY settled_at, id LIMIT $1->>'limit'",
    postgres: "SELECT id, status, children, tree_jobs FROM jobs \
               WHERE parent_id IS NULL AND settled_at IS NOT NULL AND settled_at < ($1::json->>'before')::bigint \
               ORDER BY settled_at, id LIMIT ($1::json->>'limit')::bigint FOR UPDATE SKIP LOCKED",
};

/// Jobs by key and by public id, and the ancestors of families; locked in the order of their keys.
pub(crate) const LOAD_JOBS: Sql = Sql {
    sqlite: concat!(
        "WITH RECURSIVE family (id, parent_id) AS (SELECT id, parent_id FROM jobs WHERE id IN ",
        values!(sqlite "families" "bigint"),
        " UNION SELECT id, parent_id FROM jobs WHERE public_id IN ",
        values!(sqlite "public_ids" "text"),
        " UNION SELECT jobs.id, jobs.parent_id FROM family CROSS JOIN jobs ON jobs.id = family.parent_id) SELECT ",
        loaded_columns!(),
        " FROM jobs WHERE id IN (SELECT value FROM json_each($1, '$.jobs') UNION SELECT id FROM family) ORDER BY id"
    ),
    postgres: concat!(
        "SELECT ",
        loaded_columns!(),
        " FROM jobs WHERE id = ANY (ARRAY (WITH RECURSIVE family (id, parent_id) AS (\
         (SELECT id, parent_id FROM jobs WHERE id = ",
        values!(postgres "families" "bigint"),
        " UNION SELECT id, parent_id FROM jobs WHERE public_id = ",
        values!(postgres "public_ids" "text"),
        ") UNION SELECT up.id, up.parent_id FROM family JOIN jobs AS up ON up.id = family.parent_id) \
         SELECT value::bigint FROM json_array_elements_text($1::json->'jobs') AS value \
         UNION SELECT id FROM family)) ORDER BY id FOR NO KEY UPDATE"
    ),
};

/// What [`load`](crate::load) reads of a session, in the order in which it reads it.
macro_rules! session_columns {
    () => {
        "id, name, identity, connected, lease_expires_at, confirms, grants, epoch, high_water, high_water_fingerprint, \
         principal, refused, instance_id"
    };
}

/// Sessions by key and by instance; locked, so that a lease cannot be renewed while it is found to be over, and nothing can
/// be given to a session, or taken from it, while it is opened again.
pub(crate) const LOAD_SESSIONS: Sql = Sql {
    sqlite: concat!(
        "SELECT ",
        session_columns!(),
        " FROM sessions WHERE id IN (SELECT value FROM json_each($1, '$.ids') UNION \
         SELECT id FROM sessions INDEXED BY idx_sessions_instance WHERE instance_id IS NOT NULL AND instance_id IN ",
        values!(sqlite "instances" "text"),
        ") ORDER BY id"
    ),
    postgres: concat!(
        "SELECT ",
        session_columns!(),
        " FROM sessions WHERE id = ANY (ARRAY (\
         SELECT value::bigint FROM json_array_elements_text($1::json->'ids') AS value UNION \
         SELECT id FROM sessions WHERE instance_id IS NOT NULL AND instance_id = ",
        values!(postgres "instances" "text"),
        ")) ORDER BY id FOR NO KEY UPDATE"
    ),
};

/// What sessions hold that are opened again. Not locked: whoever changes it locks the session too.
pub(crate) const LOAD_LEASES: Sql = Sql {
    sqlite: concat!(
        "SELECT session_id, id, public_id, fence, attempt, status, want, credential_id \
         FROM jobs INDEXED BY idx_jobs_session WHERE session_id IS NOT NULL AND session_id IN ",
        values!(sqlite "sessions" "bigint"),
        " ORDER BY id"
    ),
    postgres: concat!(
        "SELECT session_id, id, public_id, fence, attempt, status, want, credential_id \
         FROM jobs WHERE session_id IS NOT NULL AND session_id = ",
        values!(postgres "sessions" "bigint"),
        " ORDER BY id"
    ),
};

/// Stored reports, as far as sums depend on them.
pub(crate) const LOAD_REPORTS: Sql = Sql {
    sqlite: concat!(
        "SELECT job_id, attempt, n, updated_at, done, expected, open_totals FROM job_progress WHERE job_id IN ",
        values!(sqlite "jobs" "bigint")
    ),
    postgres: concat!(
        "SELECT job_id, attempt, n, updated_at, done, expected, open_totals FROM job_progress WHERE job_id = ",
        values!(postgres "jobs" "bigint")
    ),
};

/// Stored reports, whole.
pub(crate) const REPORTS: Sql = Sql {
    sqlite: concat!(
        "SELECT * FROM job_progress WHERE job_id IN ",
        values!(sqlite "jobs" "bigint")
    ),
    postgres: concat!(
        "SELECT * FROM job_progress WHERE job_id = ",
        values!(postgres "jobs" "bigint")
    ),
};

/// Makes sure that trees are there to be locked. PostgreSQL only. Before any of them is locked, and in the order of keys:
/// so two servers that come with the first reports of the same trees wait for each other and do not lock each other out.
pub(crate) const BEGIN_TREES: &str = "INSERT INTO tree_progress (root_id, jobs_reported, done, expected, open_jobs, reached, is_open, updated_at) \
     SELECT id, 0, 0, 0, 0, 0, false, 0 FROM (SELECT value::bigint AS id \
     FROM json_array_elements_text($1::json->'begin') AS value) AS r \
     WHERE NOT EXISTS (SELECT 1 FROM tree_progress WHERE root_id = id) ORDER BY id ON CONFLICT DO NOTHING";

/// What trees add up to, by their roots; locked in the order of keys. On SQLite, where one writes, those of which nothing is
/// kept have the number of their jobs all the same.
pub(crate) const LOAD_TREES: Sql = Sql {
    sqlite: concat!(
        "SELECT j.id, coalesce(t.jobs_reported, 0), coalesce(t.done, 0), coalesce(t.expected, 0), \
         coalesce(t.open_jobs, 0), coalesce(t.weight_reported, 0), coalesce(t.weighed_reported, 0), \
         coalesce(t.reached, 0), coalesce(t.is_open, 0), j.tree_jobs, j.tree_weight, j.tree_weighed \
         FROM jobs AS j LEFT JOIN tree_progress AS t ON t.root_id = j.id WHERE j.id IN ",
        values!(sqlite "roots" "bigint")
    ),
    postgres: concat!(
        "SELECT t.root_id, t.jobs_reported, t.done, t.expected, t.open_jobs, t.weight_reported, t.weighed_reported, \
         t.reached, t.is_open, j.tree_jobs, j.tree_weight, j.tree_weighed \
         FROM tree_progress AS t JOIN jobs AS j ON j.id = t.root_id WHERE t.root_id = ",
        values!(postgres "roots" "bigint"),
        " ORDER BY t.root_id FOR NO KEY UPDATE OF t"
    ),
};

/// Tokens by name.
pub(crate) const LOAD_TOKENS: Sql = Sql {
    sqlite: concat!(
        "SELECT name, id, revoked_at FROM crawler_tokens WHERE name IN ",
        values!(sqlite "names" "text")
    ),
    postgres: concat!(
        "SELECT name, id, revoked_at FROM crawler_tokens WHERE name = ",
        values!(postgres "names" "text")
    ),
};

/// The greatest key of a token. Whoever takes the next one at the same time as somebody else is told by the database.
pub(crate) const LAST_TOKEN: Sql = Sql::same("SELECT coalesce(max(id), 0) FROM crawler_tokens");

/// Accounts by name, each with its credential for a host, if there is one.
pub(crate) const LOAD_ACCOUNTS: Sql = Sql {
    sqlite: concat!(
        "SELECT a.name, a.id, r.host, c.id, c.version, c.sealed_token FROM ",
        rows!(sqlite, account "text", host "text"),
        " CROSS JOIN accounts AS a ON a.name = r.account \
         LEFT JOIN credentials AS c ON c.account_id = a.id AND c.host = r.host"
    ),
    postgres: concat!(
        "SELECT a.name, a.id, r.host, c.id, c.version, c.sealed_token FROM ",
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

pub(crate) const LOAD_ONCE: Sql = Sql {
    sqlite: concat!(
        "SELECT once_key, once_fingerprint, public_id FROM jobs WHERE once_key IN ",
        values!(sqlite "keys" "text")
    ),
    postgres: concat!(
        "SELECT once_key, once_fingerprint, public_id FROM jobs WHERE once_key = ",
        values!(postgres "keys" "text")
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

/// After the key of a job: that it is one of some.
pub(crate) const THESE_JOBS: Sql = Sql {
    sqlite: concat!("IN ", values!(sqlite "jobs" "bigint")),
    postgres: concat!("= ", values!(postgres "jobs" "bigint")),
};

/// The closed gates. They are few.
pub(crate) const LOAD_GATES: Sql = Sql::same(
    "SELECT g.kind, g.account_id, a.name, g.host, g.closed_at, g.until, g.reason, g.by FROM gates AS g \
     LEFT JOIN accounts AS a ON a.id = g.account_id ORDER BY g.kind, g.account_id, g.host",
);

/// Locks accounts in the order of their keys. PostgreSQL only: SQLite has one writer.
pub(crate) const LOCK_ACCOUNTS: &str = concat!(
    "SELECT id FROM accounts WHERE id = ",
    values!(postgres "accounts" "bigint"),
    " ORDER BY id FOR NO KEY UPDATE"
);

/// How many jobs accounts have that have not ended, and that sessions hold.
pub(crate) const LOAD_ACCOUNT_COUNTS: Sql = Sql {
    sqlite: concat!(
        "SELECT account_id, sum(open), sum(held) FROM account_counts WHERE account_id IN ",
        values!(sqlite "accounts" "bigint"),
        " GROUP BY account_id"
    ),
    postgres: concat!(
        "SELECT account_id, sum(open)::bigint, sum(held)::bigint FROM account_counts WHERE account_id = ",
        values!(postgres "accounts" "bigint"),
        " GROUP BY account_id"
    ),
};

/// Errors logged before a moment, of those that were logged first.
pub(crate) const LOAD_OLD_ERRORS: Sql = Sql {
    sqlite: "SELECT id FROM (SELECT id, at FROM errors ORDER BY id LIMIT $1->>'limit') WHERE at < $1->>'before'",
    postgres: "SELECT id FROM (SELECT id, at FROM errors ORDER BY id LIMIT ($1::json->>'limit')::bigint) AS oldest \
               WHERE at < ($1::json->>'before')::bigint",
};

/// What sessions hold, for whoever asks whether it is still so.
pub(crate) const HELD: Sql = Sql {
    sqlite: concat!(
        "SELECT id, public_id, session_id, fence, want FROM jobs INDEXED BY idx_jobs_session \
         WHERE session_id IS NOT NULL AND session_id IN ",
        values!(sqlite "sessions" "bigint"),
        " ORDER BY id"
    ),
    postgres: concat!(
        "SELECT id, public_id, session_id, fence, want FROM jobs WHERE session_id IS NOT NULL AND session_id = ",
        values!(postgres "sessions" "bigint"),
        " ORDER BY id"
    ),
};

/// The best queued jobs of the next lanes. Steps from lane to lane in the index of the queue, so that its cost depends on
/// what is asked for, and not on how many jobs wait or rest.
pub(crate) const READY: Sql = Sql {
    sqlite: "WITH RECURSIVE lanes (lane, number) AS (\
             SELECT (SELECT min(lane) FROM jobs INDEXED BY idx_jobs_socket_status \
             WHERE status = 'queued' AND lane > $1->>'after'), 1 \
             UNION ALL SELECT (SELECT min(jobs.lane) FROM jobs INDEXED BY idx_jobs_socket_status \
             WHERE status = 'queued' AND jobs.lane > lanes.lane), number + 1 \
             FROM lanes WHERE lanes.lane IS NOT NULL AND number < $1->>'lanes') \
             SELECT jobs.id, jobs.public_id, jobs.account_id, jobs.lane, jobs.due, jobs.credential_id, jobs.resume, \
             jobs.job_type, jobs.host, jobs.entity_id, jobs.namespace_path, jobs.entity_name, jobs.priority, \
             jobs.provider, jobs.user_id, jobs.created_by_user_id, jobs.labels, jobs.tags, jobs.metadata \
             FROM lanes CROSS JOIN jobs ON jobs.id IN (\
             SELECT id FROM jobs INDEXED BY idx_jobs_socket_status WHERE status = 'queued' AND lane = lanes.lane \
             ORDER BY due, id LIMIT $1->>'per_lane') WHERE lanes.lane IS NOT NULL \
             ORDER BY jobs.lane, jobs.due, jobs.id",
    postgres: "WITH RECURSIVE lanes (lane, number) AS (\
               SELECT (SELECT min(lane) FROM jobs WHERE status = 'queued' AND lane > ($1::json->>'after')::bigint), 1 \
               UNION ALL SELECT (SELECT min(jobs.lane) FROM jobs WHERE status = 'queued' AND jobs.lane > lanes.lane), \
               number + 1 FROM lanes WHERE lanes.lane IS NOT NULL AND number < ($1::json->>'lanes')::bigint) \
               SELECT best.* FROM lanes CROSS JOIN LATERAL (\
               SELECT id, public_id, account_id, lane, due, credential_id, resume, job_type, host, entity_id, \
               namespace_path, entity_name, priority, provider, user_id, created_by_user_id, labels, tags, metadata \
               FROM jobs WHERE status = 'queued' AND lane = lanes.lane \
               ORDER BY lane, due, id LIMIT ($1::json->>'per_lane')::bigint) AS best \
               ORDER BY best.lane, best.due, best.id",
};

/// What trees add up to: all together, each account's, and each host's. Looks at open trees only, and no sum is too large.
macro_rules! totals {
    ($open:literal, $sum:literal, $end:literal, $limit:literal) => {
        concat!(
            "WITH trees AS MATERIALIZED (SELECT a.name AS account, j.host AS host, j.tree_jobs + 1 AS jobs, \
             j.tree_weight, j.tree_weighed, t.jobs_reported, t.done, t.expected, t.open_jobs, t.weight_reported, \
             t.weighed_reported FROM ",
            $open,
            " LEFT JOIN accounts AS a ON a.id = j.account_id WHERE t.jobs_reported > 0) ",
            totals!(@ "'fleet'", "CAST(NULL AS text)", "HAVING count(*) > 0", $sum, $end),
            " UNION ALL SELECT * FROM (",
            totals!(@ "'account'", "account", "GROUP BY account ORDER BY 4 DESC, 2 LIMIT ", $sum, $end),
            $limit,
            ") AS accounts UNION ALL SELECT * FROM (",
            totals!(@ "'host'", "host", "GROUP BY host ORDER BY 4 DESC, 2 LIMIT ", $sum, $end),
            $limit,
            ") AS hosts"
        )
    };
    (@ $kind:literal, $name:literal, $tail:literal, $sum:literal, $end:literal) => {
        concat!(
            "SELECT ", $kind, " AS kind, ", $name, " AS name, count(*) AS trees, ",
            $sum, "jobs", $end, " AS jobs, ", $sum, "tree_weight", $end, " AS tree_weight, ",
            $sum, "tree_weighed", $end, " AS tree_weighed, ", $sum, "jobs_reported", $end, " AS jobs_reported, ",
            $sum, "done", $end, " AS done, ", $sum, "expected", $end, " AS expected, ",
            $sum, "open_jobs", $end, " AS open_jobs, ", $sum, "weight_reported", $end, " AS weight_reported, ",
            $sum, "weighed_reported", $end, " AS weighed_reported FROM trees ", $tail
        )
    };
}

pub(crate) const TOTALS: Sql = Sql {
    sqlite: totals!(
        "tree_progress AS t INDEXED BY idx_tree_progress_open CROSS JOIN jobs AS j ON j.id = t.root_id AND t.is_open",
        "CAST(min(total(",
        "), 9e18) AS INTEGER)",
        "$1->>'limit'"
    ),
    // An array is looked up by key whatever the planner expects of the trees.
    postgres: totals!(
        "tree_progress AS t JOIN jobs AS j ON j.id = t.root_id AND t.is_open \
         AND j.id = ANY (ARRAY (SELECT root_id FROM tree_progress WHERE is_open))",
        "least(sum(",
        "), 9e18)::bigint",
        "($1::json->>'limit')::bigint"
    ),
};

/// What the newest jobs were that ended well, by their types. Steps back in the index of what rests, so that its cost does
/// not depend on how many jobs there are.
pub(crate) const TYPE_HISTORY: Sql = Sql {
    sqlite: "SELECT newest.job_type, count(*), sum(p.done) FROM (\
             SELECT id, job_type FROM jobs INDEXED BY idx_jobs_status WHERE status = 'completed' \
             ORDER BY id DESC LIMIT $1->>'limit') AS newest \
             CROSS JOIN job_progress AS p ON p.job_id = newest.id AND p.done IS NOT NULL GROUP BY newest.job_type",
    // An array is looked up by key whatever the planner expects of the reports.
    postgres: "WITH newest AS MATERIALIZED (SELECT id, job_type FROM jobs WHERE status = 'completed' \
               ORDER BY status DESC, id DESC LIMIT ($1::json->>'limit')::bigint) \
               SELECT newest.job_type, count(*), sum(p.done)::bigint FROM newest \
               JOIN job_progress AS p ON p.job_id = newest.id AND p.job_id = ANY (ARRAY (SELECT id FROM newest)) \
               WHERE p.done IS NOT NULL GROUP BY newest.job_type",
};

/// How many running jobs have reported in their attempt, and what their crawlers' completions add up to.
pub(crate) const RUNNING: Sql = Sql {
    sqlite: "SELECT count(*), total(p.overall_completion) FROM jobs AS j INDEXED BY idx_jobs_session \
             CROSS JOIN job_progress AS p ON p.job_id = j.id AND p.attempt = j.attempt \
             WHERE j.session_id IS NOT NULL AND j.status = 'running'",
    postgres: "SELECT count(*), coalesce(sum(p.overall_completion), 0) FROM jobs AS j \
               JOIN job_progress AS p ON p.job_id = j.id AND p.attempt = j.attempt \
               WHERE j.session_id IS NOT NULL AND j.status = 'running'",
};
