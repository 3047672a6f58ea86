//! The text of statements.
//!
//! Each is constant, so that it is prepared once, and takes one parameter: JSON, however many rows it speaks of. Each
//! goes to `jobs` by key: a planner that would rather scan is the classic trap, and a test asks it for its plans.
//!
//! `load` holds those that read what a batch needs, `save` those that write what a plan changes, `elsewhere` what servers ask
//! about each other.

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

/// The parameter as rows: a JSON array of objects. On SQLite `json_each` would write every object out as text, to be parsed
/// again for each of its columns; `jsonb_each` hands it on as it is.
macro_rules! rows {
    (sqlite, $first:ident $first_type:literal $(, $column:ident $type:literal)*) => {
        concat!(
            "(SELECT value->>'", stringify!($first), "' AS ", stringify!($first),
            $(", value->>'", stringify!($column), "' AS ", stringify!($column),)*
            " FROM jsonb_each($1)) AS r"
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

mod elsewhere;
mod load;
mod save;

pub(crate) use self::elsewhere::*;
pub(crate) use self::load::*;
pub(crate) use self::save::*;

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

/// Statements that touch `jobs` for many operations at once, with a parameter of `size` rows; for the test that asks
/// the planner about them.
#[cfg(feature = "testing")]
pub(crate) fn hot(size: i64) -> Vec<(&'static str, Sql, String)> {
    use serde_json::json;

    let ids: Vec<i64> = (1..=size).collect();
    let names: Vec<String> = ids.iter().map(|id| format!("none-{id}")).collect();
    let rows: Vec<_> = ids
        .iter()
        .map(|id| json!({"id": id, "status": "completed", "status_before": "queued", "fence_before": 0, "job_id": id}))
        .collect();
    let rows = json!(rows).to_string();
    let trees: Vec<_> = ids.iter().map(|id| json!({"root": id, "after": id})).collect();
    let trees = json!({"trees": trees, "limit": size}).to_string();
    let redrivable = |account: Option<&str>| {
        json!({"quarantined": true, "failed": true, "account": account, "after": 0, "limit": size}).to_string()
    };
    let openings: Vec<_> = ids
        .iter()
        .map(|id| json!({"account_id": id, "host": "x", "moved": 1}))
        .collect();
    vec![
        (
            "load jobs",
            LOAD_JOBS,
            json!({"jobs": ids, "public_ids": names, "families": ids}).to_string(),
        ),
        (
            "choose due",
            CHOOSE_DUE,
            json!({"now": 0, "accepted": 0, "limit": size}).to_string(),
        ),
        ("choose below", CHOOSE_BELOW, trees.clone()),
        ("choose trees", CHOOSE_TREES, trees),
        ("choose redrivable", CHOOSE_REDRIVABLE, redrivable(None)),
        (
            "choose redrivable of account",
            CHOOSE_REDRIVABLE,
            redrivable(Some("acme")),
        ),
        (
            "choose settled",
            CHOOSE_SETTLED,
            json!({"before": 0, "limit": size}).to_string(),
        ),
        ("load names", LOAD_NAMES, json!({"names": names}).to_string()),
        ("load once", LOAD_ONCE, json!({"keys": names}).to_string()),
        (
            "load identities",
            LOAD_IDENTITIES,
            json!({"identities": names}).to_string(),
        ),
        (
            "recover jobs",
            RECOVER_JOBS,
            json!({"now": 0, "until": 0, "gone": ["none"]}).to_string(),
        ),
        ("move deadlines", MOVE_DEADLINES, json!(openings).to_string()),
        ("update jobs", UPDATE_JOBS, rows.clone()),
        ("insert jobs", INSERT_JOBS, rows.clone()),
        ("delete jobs", DELETE_JOBS, rows.clone()),
        (
            "load sessions",
            LOAD_SESSIONS,
            json!({"ids": ids, "instances": names}).to_string(),
        ),
        ("load leases", LOAD_LEASES, json!({"sessions": ids}).to_string()),
        ("reopen sessions", REOPEN_SESSIONS, rows.clone()),
        ("update sessions", UPDATE_SESSIONS, rows.clone()),
        ("write checkpoints", WRITE_CHECKPOINTS, rows.clone()),
        ("insert events", INSERT_EVENTS, rows.clone()),
        ("write progress", WRITE_PROGRESS, rows.clone()),
        ("write history", WRITE_HISTORY, rows.clone()),
        ("thin history", THIN_HISTORY, rows.clone()),
        ("write trees", WRITE_TREES, rows),
        ("load reports", LOAD_REPORTS, json!({"jobs": ids}).to_string()),
        ("load trees", LOAD_TREES, json!({"roots": ids}).to_string()),
        ("forget sessions", FORGET_SESSIONS, json!({"before": 0}).to_string()),
    ]
}
