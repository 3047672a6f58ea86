//! From a configuration to a running store: find, lock, create, migrate, check the key, start the writer.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crawlwire_progress::CredentialKey;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, EntityTrait, TransactionTrait, sqlx};
use sea_orm_migration::MigratorTrait;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{DatabaseConfig, Location, redacted};
use crate::connection::{postgres_options, sqlite_options};
use crate::entity::credential;
use crate::error::{OpenError, Trouble};
use crate::migration::{Migrator, UNRELEASED};
use crate::pools::Pools;
use crate::seal::Seal;
use crate::store::SqlStore;
use crate::transaction::{Counters, Transactions};
use crate::writer::{Inbox, QUEUE, Writer};

/// How long a server waits for others that migrate.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(300);

/// Our number among advisory locks: the bytes of `crawlwir`.
const MIGRATION_LOCK: i64 = i64::from_be_bytes(*b"crawlwir");

/// The oldest PostgreSQL we test with, as `server_version_num` writes it (deployment guide, line 26).
pub(crate) const POSTGRES_MIN: i32 = 140_000;

/// Keeps a SQLite file for this process. Held as long as the writer lives.
#[derive(Debug)]
pub(crate) struct FileLock(#[expect(dead_code, reason = "held, not read")] File);

/// Opens stores.
#[derive(Debug, Clone, Copy)]
pub struct Database;

impl Database {
    /// Connects, locks the file (SQLite), brings the schema up to date, and starts the writer.
    ///
    /// # Errors
    /// See [`OpenError`]; none of them shows a password.
    pub async fn open(config: DatabaseConfig) -> Result<Arc<SqlStore>, OpenError> {
        let location = Location::parse(&config.url)?;
        let mut lock = None;
        match &location {
            Location::Sqlite { options, create } => {
                lock = Some(prepare_file(options.get_filename(), *create)?);
                migrate_sqlite(options, &config).await?;
            }
            Location::Postgres(options) => migrate_postgres(options, &config).await?,
        }
        start(config, location, Keys::Ours(lock)).await
    }

    /// Opens the store as [`open`](Self::open) does; but if another process has the SQLite file open, beside it, for a
    /// command that is given while the server runs. Then the schema must be up to date, and operations that need a fresh
    /// key are refused, because the other process counts those: whatever creates a job or opens a session.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open_beside(config: DatabaseConfig) -> Result<Arc<SqlStore>, OpenError> {
        match Self::open(config.clone()).await {
            Err(OpenError::InUse { .. }) => {}
            opened => return opened,
        }
        let location = Location::parse(&config.url)?;
        if let Location::Sqlite { options, .. } = &location {
            check_schema(options, &config).await?;
        }
        start(config, location, Keys::Theirs).await
    }
}

/// Who gives fresh keys on SQLite.
enum Keys {
    /// This process; the file is kept for it.
    Ours(Option<FileLock>),
    /// Another one.
    Theirs,
}

async fn start(config: DatabaseConfig, location: Location, keys: Keys) -> Result<Arc<SqlStore>, OpenError> {
    let readers = match &location {
        Location::Sqlite { options, .. } => Pools::sqlite(options, &config).await,
        Location::Postgres(options) => Pools::postgres(options, &config).await,
    };
    let failed = |trouble: Trouble| OpenError::Connect {
        url: redacted(&config.url),
        reason: trouble.to_string(),
    };
    let readers = readers.map_err(|error| failed(error.into()))?;
    let seal = Arc::new(check_key(&readers.all, &config).await?);
    let counters = Arc::new(Counters::default());
    let place = (config.clone(), location);
    let woken = Arc::new(Notify::new());
    let transactions = Transactions::new(place, seal.clone(), counters.clone(), woken.clone()).await;
    let transactions = transactions.map_err(failed)?;
    let (transactions, lock) = match keys {
        Keys::Ours(lock) => (transactions, lock),
        Keys::Theirs => (transactions.without_keys(), None),
    };
    let (away, told) = watch::channel(false);
    let writer = Writer {
        transactions,
        counters: counters.clone(),
        readers: readers.clone(),
        query_timeout: config.query_timeout,
        lock,
        away,
    };
    let closing = CancellationToken::new();
    let (requests, queue) = mpsc::channel(QUEUE);
    let task = tokio::spawn(writer.run(Inbox::new(queue, closing.clone())));
    tracing::info!(url = redacted(&config.url), "database opened");
    Ok(Arc::new(SqlStore::new(
        (requests, told, woken),
        readers,
        seal,
        config.clock,
        counters,
        (closing, task),
    )))
}

/// Makes sure that directory and file are there and nobody else's, and locks them.
fn prepare_file(path: &Path, create: bool) -> Result<FileLock, OpenError> {
    let failed = |path: &Path, source: io::Error| OpenError::File {
        path: path.to_owned(),
        source,
    };
    if create && let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|error| failed(dir, error))?;
    }
    if !create {
        fs::metadata(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => OpenError::Missing { path: path.to_owned() },
            _ => failed(path, error),
        })?;
    }
    let lock_path = beside(path, ".lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock_path)
        .map_err(|error| failed(&lock_path, error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(failed(&lock_path, error)),
    }
    if create {
        // SQLite gives its log the mode of the database.
        let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        made.map_err(|error| failed(path, error))?;
    }
    Ok(FileLock(lock))
}

pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// One connection, for what is done before the store is there.
async fn sqlite_alone(
    options: &SqliteConnectOptions,
    config: &DatabaseConfig,
) -> Result<DatabaseConnection, OpenError> {
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(sqlite_options(options, config.transaction_timeout))
        .await
        .map_err(|error| connect_error(config, error))?;
    Ok(DatabaseConnection::from(pool))
}

async fn migrate_sqlite(options: &SqliteConnectOptions, config: &DatabaseConfig) -> Result<(), OpenError> {
    let database = sqlite_alone(options, config).await?;
    let migrated = Migrator::up(&database, None).await;
    let closed = database.close().await;
    migrated.and(closed).map_err(|error| migrate_error(config, error))
}

/// For whoever may not change the schema, because another process works with it.
async fn check_schema(options: &SqliteConnectOptions, config: &DatabaseConfig) -> Result<(), OpenError> {
    let database = sqlite_alone(options, config).await?;
    let pending = Migrator::get_pending_migrations(&database).await;
    let closed = database.close().await;
    let pending = pending.and_then(|pending| closed.map(|()| pending));
    match pending.map_err(|error| migrate_error(config, error))? {
        pending if pending.is_empty() => Ok(()),
        _ => Err(OpenError::Migrate {
            url: redacted(&config.url),
            reason: "it is in use by an older version; let this one start it once".to_owned(),
        }),
    }
}

/// Under a lock, since several servers may start at once, and in one transaction.
async fn migrate_postgres(options: &PgConnectOptions, config: &DatabaseConfig) -> Result<(), OpenError> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(config.query_timeout)
        .connect_with(postgres_options(options, MIGRATION_TIMEOUT, &[]))
        .await
        .map_err(|error| connect_error(config, error))?;
    let version: String = sqlx::query_scalar("SHOW server_version_num")
        .fetch_one(&pool)
        .await
        .map_err(|error| connect_error(config, error))?;
    if version.parse::<i32>().is_ok_and(|version| version < POSTGRES_MIN) {
        return Err(OpenError::Connect {
            url: redacted(&config.url),
            reason: format!("PostgreSQL 14 or newer is needed, this is {version}"),
        });
    }
    let database = DatabaseConnection::from(pool);
    let migrated = locked_migration(&database).await;
    let closed = database.close().await;
    migrated.and(closed).map_err(|error| migrate_error(config, error))
}

async fn locked_migration(database: &DatabaseConnection) -> Result<(), DbErr> {
    let transaction = database.begin().await?;
    transaction
        .execute_unprepared(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        .await?;
    Migrator::up(&transaction, None).await?;
    transaction.commit().await
}

/// The seal, if it opens what is in the database. A key is created only where nothing is sealed yet.
async fn check_key(database: &DatabaseConnection, config: &DatabaseConfig) -> Result<Seal, OpenError> {
    let sealed = credential::Entity::find().one(database).await;
    let sealed = sealed.map_err(|error| connect_error(config, Trouble::from(error)))?;
    let seal = Seal::from_file(&config.key_file, sealed.is_none())?;
    if let Some(row) = sealed {
        let opened = seal.unseal(CredentialKey(row.id), row.version, &row.sealed_token);
        opened.map_err(|error| OpenError::Key {
            path: config.key_file.clone(),
            reason: error.to_string(),
        })?;
    }
    Ok(seal)
}

fn connect_error(config: &DatabaseConfig, error: impl Into<Trouble>) -> OpenError {
    OpenError::Connect {
        url: redacted(&config.url),
        reason: error.into().to_string(),
    }
}

fn migrate_error(config: &DatabaseConfig, error: DbErr) -> OpenError {
    let mut reason = error.to_string();
    // The migrator names the step that it does not know.
    if reason.contains(&format!("'{UNRELEASED}'")) {
        "this database was made by an unreleased version; start with a new one".clone_into(&mut reason);
    }
    OpenError::Migrate {
        url: redacted(&config.url),
        reason,
    }
}
