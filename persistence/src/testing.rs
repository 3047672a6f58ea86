//! Databases for tests: fresh ones, and a throw-away PostgreSQL cluster to have them in.
//!
//! `TEST_DATABASE_URL` names a cluster to use instead. Where neither is possible, tests on PostgreSQL say that they skip;
//! `CRAWLWIRE_REQUIRE_POSTGRES=1` makes that a failure.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crawlwire_progress::Timestamp;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::sqlx::sqlite::SqlitePoolOptions;
use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Executor};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, sqlx};
use tempfile::TempDir;

use crate::DatabaseConfig;
use crate::config::{Clock, KEY_FILE_NAME, Location};
use crate::connection::Connection;
use crate::{read, sql};

/// A clock that stands still until it is moved.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl Default for ManualClock {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(1_700_000_000_000)))
    }
}

impl ManualClock {
    /// The time.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).expect("a test does not last that long");
        self.0.fetch_add(by, Ordering::SeqCst);
    }

    /// For [`DatabaseConfig::clock`].
    pub fn as_clock(&self) -> Clock {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

/// An empty database of its own, with a directory for its key. Gone when dropped.
#[derive(Debug)]
pub struct TestDatabase {
    dir: TempDir,
    url: String,
    /// Where to say that the database may go; none for SQLite and for the throw-away cluster, which goes as a whole.
    drop_from: Option<(PgConnectOptions, String)>,
    /// Its own cluster, if it has one.
    cluster: Option<Mutex<Cluster>>,
}

impl TestDatabase {
    /// A SQLite file.
    pub fn sqlite() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let url = format!("sqlite://{}?mode=rwc", dir.path().join("data/crawlwire.db").display());
        Self {
            dir,
            url,
            drop_from: None,
            cluster: None,
        }
    }

    /// A PostgreSQL database; none where there is no PostgreSQL, which is then said loudly.
    ///
    /// # Panics
    /// When there is none and `CRAWLWIRE_REQUIRE_POSTGRES` is set.
    pub async fn postgres() -> Option<Self> {
        match CLUSTER.get_or_init(Cluster::find) {
            Ok(cluster) => Some(Self::in_cluster(cluster).await),
            Err(reason) => Self::skipped(reason),
        }
    }

    /// A PostgreSQL database in a throw-away cluster of its own, which can be [stopped](Self::stop), whatever
    /// `TEST_DATABASE_URL` says.
    ///
    /// # Panics
    /// As [`postgres`](Self::postgres).
    pub async fn postgres_alone() -> Option<Self> {
        Self::in_own_cluster(false).await
    }

    /// As [`postgres_alone`](Self::postgres_alone), in a cluster that writes to the disk before it says so, as one that is
    /// used does; the others do not wait for the disk. For measurements.
    ///
    /// # Panics
    /// As [`postgres`](Self::postgres).
    pub async fn postgres_durable() -> Option<Self> {
        Self::in_own_cluster(true).await
    }

    async fn in_own_cluster(durable: bool) -> Option<Self> {
        match Cluster::start(durable) {
            Ok(cluster) => {
                let mut database = Self::in_cluster(&cluster).await;
                database.cluster = Some(Mutex::new(cluster));
                Some(database)
            }
            Err(reason) => Self::skipped(&reason),
        }
    }

    async fn in_cluster(cluster: &Cluster) -> Self {
        let name = format!("crawlwire_{}", uuid::Uuid::now_v7().simple());
        let mut connection = cluster.admin.connect().await.expect("the cluster answers");
        connection
            .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await
            .expect("a fresh database");
        connection.close().await.expect("the connection closes");
        let url = cluster.admin.clone().database(&name).to_url_lossy().to_string();
        let drop_from = cluster.server.is_none().then(|| (cluster.admin.clone(), name));
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self {
            dir,
            url,
            drop_from,
            cluster: None,
        }
    }

    fn skipped(reason: &str) -> Option<Self> {
        let required = std::env::var("CRAWLWIRE_REQUIRE_POSTGRES").is_ok_and(|value| value == "1");
        assert!(!required, "PostgreSQL is required: {reason}");
        tracing::error!(reason, "skipped, no PostgreSQL");
        #[expect(
            clippy::print_stderr,
            reason = "a test that does not run must not look like one that did"
        )]
        {
            eprintln!("SKIPPED, NO POSTGRESQL: {reason}");
        }
        None
    }

    /// Stops its cluster, cutting all connections.
    ///
    /// # Panics
    /// When it has none of its own.
    pub fn stop(&self) {
        self.tell("stop");
    }

    /// Starts its cluster again; returns when it answers.
    ///
    /// # Panics
    /// When it has none of its own.
    pub fn start(&self) {
        self.tell("start");
    }

    fn tell(&self, order: &str) {
        let cluster = self.cluster.as_ref().expect("a cluster of its own");
        let mut cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
        cluster.tell(order).expect("the cluster obeys");
    }

    /// A configuration for it, with the defaults.
    pub fn config(&self) -> DatabaseConfig {
        DatabaseConfig::new(&self.url, self.dir.path().join(KEY_FILE_NAME))
    }

    /// Its directory, for the key and whatever else a test keeps.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// One connection to it, past the store.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn pool(&self) -> DatabaseConnection {
        match Location::parse(&self.url).expect("our own URL") {
            Location::Sqlite { options, .. } => {
                let pool = SqlitePoolOptions::new().max_connections(1).connect_with(*options).await;
                pool.expect("the database answers").into()
            }
            Location::Postgres(options) => {
                let pool = PgPoolOptions::new().max_connections(1).connect_with(*options).await;
                pool.expect("the database answers").into()
            }
        }
    }

    /// Runs a statement past the store, as an operator with a shell would; how many rows it changed.
    ///
    /// # Errors
    /// What the database says.
    pub async fn execute(&self, text: &str) -> Result<u64, String> {
        let pool = self.pool().await;
        let changed = pool.execute_unprepared(text).await;
        pool.close().await.map_err(|error| error.to_string())?;
        changed
            .map(|changed| changed.rows_affected())
            .map_err(|error| error.to_string())
    }

    /// How the planner would run each of the writer's statements that touches `jobs`, with a parameter of this many
    /// rows, and each query over `jobs`: name and plan.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn plans(&self, size: i64) -> Vec<(String, String)> {
        let location = Location::parse(&self.url).expect("our own URL");
        let mut connection = Connection::open(&location, &self.config(), Arc::default())
            .await
            .expect("the database answers");
        let mut plans = Vec::new();
        for (name, sql, parameter) in sql::hot(size) {
            let text = sql.text(connection.backend());
            let lines = match connection.backend() {
                DbBackend::Sqlite => connection.explain(format!("EXPLAIN QUERY PLAN {text}"), 3).await,
                _ => {
                    // As it is run: prepared, and planned once for all parameters.
                    for setup in [
                        "SET plan_cache_mode = force_generic_plan".to_owned(),
                        "DEALLOCATE ALL".to_owned(),
                        format!("PREPARE hot (text) AS {text}"),
                    ] {
                        connection
                            .explain(setup, 0)
                            .await
                            .expect("a statement that can be prepared");
                    }
                    connection
                        .explain(format!("EXPLAIN EXECUTE hot ('{parameter}')"), 0)
                        .await
                }
            };
            plans.push((name.to_owned(), lines.expect("a plan").join("\n")));
        }
        if connection.backend() == DbBackend::Postgres {
            // Queries run under the planner's own settings.
            connection.explain("RESET ALL".to_owned(), 0).await.expect("settings");
        }
        for (name, text) in read::hot(connection.backend()) {
            let (explain, column) = match connection.backend() {
                DbBackend::Sqlite => ("EXPLAIN QUERY PLAN", 3),
                _ => ("EXPLAIN", 0),
            };
            let lines = connection.explain(format!("{explain} {text}"), column).await;
            plans.push((name, lines.expect("a plan").join("\n")));
        }
        connection.close().await;
        plans
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Some((admin, name)) = self.drop_from.take() else {
            return;
        };
        // The runtime of the test may be the one that is being dropped.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut connection = admin.connect().await.map_err(std::io::Error::other)?;
                let text = AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
                connection.execute(text).await.map_err(std::io::Error::other)
            })
        });
        if !matches!(dropping.join(), Ok(Ok(_))) {
            tracing::warn!("a test database could not be dropped");
        }
    }
}

/// One for each process that runs tests.
static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();

#[derive(Debug)]
struct Cluster {
    admin: PgConnectOptions,
    /// A shell that holds the cluster and ends it when its input closes, and so when this process ends, however it ends.
    server: Option<(Child, BufReader<ChildStdout>)>,
}

/// Makes a cluster below `$1` with the programs of `$2`, starts and stops it as it is told, says `ready` each time, and
/// tidies up when its input closes. The cluster waits for the disk if `$3` is `on`.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
start() {
    "$2/pg_ctl" -D "$1/data" -l "$1/log" -w -o "-k '$1' -c listen_addresses= -c fsync=$3 -c full_page_writes=$3 \
        -c max_connections=200 -c shared_buffers=64MB" start
}
stop() {
    "$2/pg_ctl" -D "$1/data" -w -m immediate stop
}
"$2/initdb" -D "$1/data" -U postgres -A trust -E UTF8 --no-sync >"$1/start" 2>&1
while read -r order; do
    "$order" "$1" "$2" "$3" >>"$1/start" 2>&1 && echo ready || echo failed
done
stop "$1" "$2" >/dev/null 2>&1
rm -rf "$1"
"#;

impl Cluster {
    fn find() -> Result<Self, String> {
        match std::env::var("TEST_DATABASE_URL") {
            Ok(url) => match Location::parse(&url) {
                Ok(Location::Postgres(admin)) => Ok(Self {
                    admin: *admin,
                    server: None,
                }),
                Ok(Location::Sqlite { .. }) => Err("TEST_DATABASE_URL is not a PostgreSQL URL".to_owned()),
                Err(error) => Err(error.to_string()),
            },
            Err(_) => Self::start(false),
        }
    }

    fn start(durable: bool) -> Result<Self, String> {
        let programs = programs().ok_or("initdb and pg_ctl are neither in PATH nor in /usr/lib/postgresql")?;
        let dir = tempfile::Builder::new().prefix("crawlwire-pg-").tempdir();
        let dir = dir.map_err(|error| error.to_string())?.keep();
        let mut command = Command::new("sh");
        command.arg("-c").arg(SCRIPT).arg("sh").arg(&dir).arg(&programs);
        command.arg(if durable { "on" } else { "off" });
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command.current_dir(&dir);
        let root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        if root {
            // PostgreSQL refuses to run as root.
            let (uid, gid) =
                user("postgres").ok_or("PostgreSQL does not run as root, and there is no user postgres")?;
            chown(&dir, Some(uid), Some(gid)).map_err(|error| error.to_string())?;
            command.uid(uid).gid(gid);
        }
        let mut server = command.spawn().map_err(|error| error.to_string())?;
        let output = server.stdout.take().ok_or("the shell has no output")?;
        let admin = PgConnectOptions::new_without_pgpass()
            .socket(&dir)
            .username("postgres")
            .database("postgres");
        let mut cluster = Self {
            admin,
            server: Some((server, BufReader::new(output))),
        };
        cluster.tell("start").map_err(|error| {
            let log = std::fs::read_to_string(dir.join("start")).unwrap_or_default();
            format!("PostgreSQL did not start: {error}: {log}")
        })?;
        Ok(cluster)
    }

    fn tell(&mut self, order: &str) -> std::io::Result<()> {
        let (server, output) = self.server.as_mut().ok_or(std::io::ErrorKind::Unsupported)?;
        let input = server.stdin.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?;
        writeln!(input, "{order}")?;
        let mut said = String::new();
        output.read_line(&mut said)?;
        match said.trim() {
            "ready" => Ok(()),
            said => Err(std::io::Error::other(format!("it said `{said}`"))),
        }
    }
}

/// The directory of the newest installed programs, or of those in `PATH`.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut installed: Vec<_> = versions
        .filter_map(|version| {
            let number: u32 = version.file_name().to_str()?.parse().ok()?;
            Some((number, version.path().join("bin")))
        })
        .collect();
    installed.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = installed.into_iter().rev().map(|(_, dir)| dir);
    candidates
        .chain(std::env::split_paths(&path))
        .find(|dir| ["initdb", "pg_ctl"].iter().all(|program| dir.join(program).is_file()))
}

/// Ids of a user by name.
fn user(name: &str) -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

impl Connection {
    /// Runs a text as it is; one column of its rows.
    async fn explain(&mut self, text: String, column: usize) -> Result<Vec<String>, sqlx::Error> {
        let rows = self.fetch_raw(text).await?;
        rows.iter()
            .map(|row| {
                row.try_get_by_index(column)
                    .map_err(|error| sqlx::Error::Decode(Box::new(error)))
            })
            .collect()
    }
}
