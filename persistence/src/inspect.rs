//! A look at a database from outside, for whoever wants to know whether a server could work with it. Changes nothing.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::sqlx::{self, AssertSqlSafe, ConnectOptions, Connection};
use sea_orm_migration::MigratorTrait;

use crate::config::{DatabaseConfig, Location, redacted};
use crate::connection::postgres_options;
use crate::error::{OpenError, Trouble};
use crate::migration::{Migrator, TABLE};
use crate::open::{POSTGRES_MIN, beside};

/// How long a look may take: somebody waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspection {
    /// There is no SQLite file yet.
    Missing {
        /// Whether a server would make it.
        creates: bool,
    },
    /// The SQLite file cannot be looked into without changing something: changes wait beside it that a server takes over.
    Unfinished,
    /// A SQLite file.
    Sqlite {
        /// The schema.
        schema: Schema,
        /// How changes are kept: `wal` once a server has opened it.
        journal_mode: String,
    },
    /// A PostgreSQL database.
    Postgres(Postgres),
}

/// What was found on PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// The schema.
    pub schema: Schema,
    /// The server's version, as it writes it.
    pub version: String,
    /// Whether that is new enough.
    pub is_supported: bool,
    /// Whether the user may make tables, and read and write those that are there.
    pub is_permitted: bool,
    /// The clock of the database ahead of ours, in milliseconds.
    pub clock_ahead_ms: i64,
}

/// How the schema stands to what this version wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// The newest step there is; none in an empty database.
    pub version: Option<String>,
    /// Steps that a start would take.
    pub pending: usize,
    /// Steps that this version does not know: the database belongs to a newer one.
    pub unknown: Vec<String>,
}

impl Schema {
    fn of(applied: &[String]) -> Self {
        let known: Vec<_> = Migrator::migrations()
            .iter()
            .map(|step| step.name().to_owned())
            .collect();
        Self {
            version: applied.last().cloned(),
            pending: known.iter().filter(|step| !applied.contains(step)).count(),
            unknown: applied.iter().filter(|step| !known.contains(step)).cloned().collect(),
        }
    }
}

/// Where a database in a file is; none for PostgreSQL.
///
/// # Errors
/// When the URL is not understood.
pub fn file(config: &DatabaseConfig) -> Result<Option<std::path::PathBuf>, OpenError> {
    Ok(match Location::parse(&config.url)? {
        Location::Sqlite { options, .. } => Some(options.get_filename().to_owned()),
        Location::Postgres(_) => None,
    })
}

/// Looks at a database without changing it.
///
/// # Errors
/// When it cannot be reached or read; none shows a password.
pub async fn inspect(config: &DatabaseConfig) -> Result<Inspection, OpenError> {
    let failed = |error: Trouble| OpenError::Connect {
        url: redacted(&config.url),
        reason: error.to_string(),
    };
    let looking = async {
        match Location::parse(&config.url)? {
            Location::Sqlite { options, create } => {
                sqlite(&options, create).await.map_err(|error| failed(error.into()))
            }
            Location::Postgres(options) => postgres(&options).await.map_err(|error| failed(error.into())),
        }
    };
    let looked = tokio::time::timeout(PATIENCE, looking).await;
    looked.unwrap_or_else(|_| {
        Err(OpenError::Connect {
            url: redacted(&config.url),
            reason: format!("no answer within {} s", PATIENCE.as_secs()),
        })
    })
}

async fn sqlite(options: &SqliteConnectOptions, creates: bool) -> Result<Inspection, sqlx::Error> {
    let path = options.get_filename();
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    if !is_there(path) {
        return Ok(Inspection::Missing { creates });
    }
    let (log, index) = (is_there(&beside(path, "-wal")), is_there(&beside(path, "-shm")));
    if log && !index {
        return Ok(Inspection::Unfinished);
    }
    // Without a log nobody has it open: then it is read as it lies there, or SQLite would make files beside it.
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .immutable(!log);
    let mut connection = options.busy_timeout(PATIENCE / 2).connect().await?;
    let journal_mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut connection)
        .await?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = ?")
        .bind(TABLE)
        .fetch_one(&mut connection)
        .await?;
    let applied = match tables {
        0 => Vec::new(),
        _ => {
            let steps = sqlx::query_scalar(AssertSqlSafe(format!("SELECT version FROM {TABLE} ORDER BY version")));
            steps.fetch_all(&mut connection).await?
        }
    };
    connection.close().await?;
    Ok(Inspection::Sqlite {
        schema: Schema::of(&applied),
        journal_mode,
    })
}

async fn postgres(options: &PgConnectOptions) -> Result<Inspection, sqlx::Error> {
    let options = postgres_options(options, PATIENCE, &[("default_transaction_read_only", "on")]);
    let mut connection = options.connect().await?;
    let number: String = sqlx::query_scalar("SHOW server_version_num")
        .fetch_one(&mut connection)
        .await?;
    let version: String = sqlx::query_scalar("SHOW server_version")
        .fetch_one(&mut connection)
        .await?;
    let before = now_ms();
    let theirs: i64 = sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
        .fetch_one(&mut connection)
        .await?;
    let ours = before + (now_ms() - before) / 2;
    let table: Option<String> = sqlx::query_scalar("SELECT to_regclass($1)::text")
        .bind(TABLE)
        .fetch_one(&mut connection)
        .await?;
    let applied = match table {
        None => Vec::new(),
        Some(_) => {
            let steps = sqlx::query_scalar(AssertSqlSafe(format!("SELECT version FROM {TABLE} ORDER BY version")));
            steps.fetch_all(&mut connection).await?
        }
    };
    let is_permitted: bool = sqlx::query_scalar(
        "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AND coalesce((SELECT \
         bool_and(has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE')) FROM pg_class c WHERE c.relkind = 'r' \
         AND c.relnamespace = current_schema()::regnamespace), true)",
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    Ok(Inspection::Postgres(Postgres {
        schema: Schema::of(&applied),
        version,
        is_supported: number.parse::<i32>().is_ok_and(|number| number >= POSTGRES_MIN),
        is_permitted,
        clock_ahead_ms: theirs - ours,
    }))
}

fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
