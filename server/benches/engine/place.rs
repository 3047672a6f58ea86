//! Where a server runs: a fresh database that waits for the disk, and a directory for the rest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crawlwire_persistence::testing::TestDatabase;
use crawlwire_server::Server;
use crawlwire_server::config::{Config, Inputs};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

/// Jobs that one crawler holds at a time at most, as configured by default.
pub(crate) const SLOTS: usize = 5;

/// Crawlers at most.
pub(crate) const CRAWLERS_MAX: usize = 64;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }

    /// A place with nothing in it; none where there is no PostgreSQL.
    pub(crate) async fn place(self) -> Option<Place> {
        let database = match self {
            Self::Sqlite => TestDatabase::sqlite(),
            Self::Postgres => TestDatabase::postgres_durable().await?,
        };
        Some(Place(database))
    }
}

pub(crate) struct Place(pub(crate) TestDatabase);

impl Place {
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.dir().join("s")
    }

    /// A server as an operator would have it in production, with other values of some environment variables.
    pub(crate) async fn start(&self, more: &[(&str, &str)]) -> Server {
        let inputs = Inputs {
            flags: self.flags(),
            env: env(more),
            ..Inputs::default()
        };
        let (config, _warnings) = Config::resolve(inputs).expect("a configuration");
        Server::builder(config).start().await.expect("a server")
    }

    /// The command line of such a server.
    pub(crate) fn flags(&self) -> BTreeMap<&'static str, String> {
        let dir = |name: &str| self.0.dir().join(name).display().to_string();
        BTreeMap::from([
            ("--profile", "production".to_owned()),
            ("--socket", dir("s")),
            ("--data-dir", dir("data")),
            ("--http", "127.0.0.1:0".to_owned()),
            ("--database-url", self.0.config().url),
        ])
    }

    /// How the database promises that a commit is on the disk.
    pub(crate) async fn settings(&self) -> String {
        let pool = self.beside().await;
        if pool.get_database_backend() == DbBackend::Sqlite {
            let version = ask(&pool, "SELECT sqlite_version()").await;
            return format!(
                "{version}, journal_mode=WAL, synchronous=FULL (every connection of the store asks for it)"
            );
        }
        let mut told = ask(&pool, "SHOW server_version").await;
        for name in ["fsync", "synchronous_commit", "full_page_writes", "wal_sync_method"] {
            let value = ask(&pool, &format!("SHOW {name}")).await;
            told.push_str(&format!(", {name}={value}"));
        }
        told
    }

    /// A table for commits of one row.
    pub(crate) async fn bare(&self) -> Bare {
        let pool = self.beside().await;
        let table = "CREATE TABLE bare (at BIGINT NOT NULL)";
        pool.execute_unprepared(table).await.expect("a table");
        Bare(pool)
    }

    /// A connection beside the server; on SQLite to another file on the same disk, so that the server does not lose what
    /// it has in memory of its own.
    async fn beside(&self) -> DatabaseConnection {
        if self.0.config().url.starts_with("postgres") {
            return self.0.pool().await;
        }
        let url = format!("sqlite://{}?mode=rwc", self.0.dir().join("bare.db").display());
        let mut options = sea_orm::ConnectOptions::new(url);
        options.max_connections(1);
        let pool = sea_orm::Database::connect(options).await.expect("a file");
        for setup in ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"] {
            pool.execute_unprepared(setup).await.expect("a setting");
        }
        pool
    }
}

/// The environment of such a server, with other values of some variables.
pub(crate) fn env(more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let limits = [CRAWLERS_MAX.to_string(), SLOTS.to_string()];
    let names = ["SOCKET_MAX_CONNECTIONS", "SOCKET_MAX_CONCURRENT_JOBS"];
    let of_all = names.into_iter().zip(limits.iter().map(String::as_str));
    let env = of_all.chain(more.iter().copied());
    env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The least that a durable change costs here.
pub(crate) struct Bare(DatabaseConnection);

impl Bare {
    /// One row in a transaction of its own.
    pub(crate) async fn commit(&self) {
        let insert = "INSERT INTO bare VALUES (1)";
        self.0.execute_unprepared(insert).await.expect("a row");
    }
}

/// The text that a query of one value answers.
pub(crate) async fn ask(pool: &DatabaseConnection, text: &str) -> String {
    let question = Statement::from_string(pool.get_database_backend(), text);
    let row = pool.query_one_raw(question).await.expect("an answer");
    let row = row.expect("one row");
    row.try_get_by_index(0).expect("a text")
}

/// What the figures depend on beside the database.
pub(crate) fn tell_machine() {
    let profile = if cfg!(debug_assertions) {
        "debug (figures mean nothing)"
    } else {
        "release"
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (kind, options) = file_system(&std::env::temp_dir());
    println!("profile {profile}, {cores} cores, databases on {kind} ({options})");
    if kind == "tmpfs" {
        println!("  that is memory: nothing here is durable, name a disk with TMPDIR");
    }
}

/// Kind and options of the file system that a path is on.
fn file_system(path: &Path) -> (String, String) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let around = fields.filter(|fields| fields.len() > 3 && path.starts_with(fields[1]));
    // The innermost; of several in one place, the one that covers the others.
    let found = around.max_by_key(|fields| fields[1].len());
    found.map_or_else(
        || ("an unknown file system".to_owned(), String::new()),
        |fields| (fields[2].to_owned(), fields[3].to_owned()),
    )
}
