//! One transaction over a batch: on the held connection, tried again while others are in its way, and followed up when
//! its connection is lost in the middle of the commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crawlwire_progress::plan::{Needs, plan};
use crawlwire_progress::retry::chance;
use crawlwire_progress::store::Op;
use crawlwire_progress::{Outcome, Timestamp};
use sea_orm::DbBackend;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::config::{DatabaseConfig, Location};
use crate::connection::{Cells, Connection};
use crate::error::Trouble;
use crate::seal::Seal;
use crate::wake::Wake;
use crate::{load, save, sql};

/// Tries of one batch when other transactions are in its way.
const TRIES: u32 = 6;

/// Before the second try; doubles, with jitter.
const RETRY_DELAY: Duration = Duration::from_millis(5);

/// Between two attempts to reach the database, at first and at most; doubles.
pub(crate) const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long a commit whose answer was lost may stay in doubt.
const DOUBT: Duration = Duration::from_secs(10);

/// What the writer did so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) operations: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) statements: Arc<AtomicU64>,
    /// Operations that wait for the database to come back.
    pub(crate) held: AtomicUsize,
}

/// See the module.
pub(crate) struct Transactions {
    config: DatabaseConfig,
    location: Location,
    seal: Arc<Seal>,
    counters: Arc<Counters>,
    /// None while the database is away.
    connection: Option<Connection>,
    /// When to try again to connect, and how long to wait after that.
    reconnect: (Instant, Duration),
    /// SQLite only: the greatest key given out.
    last_key: i64,
    /// Whether fresh keys are given out here, and not by another process that has the same SQLite file open.
    gives_keys: bool,
    /// SQLite only: the machine's clock may be set back, ours goes on from where it was.
    last_now: (Timestamp, Instant),
    /// Of the generator behind retry delays.
    seed: u64,
    /// Where this server counts jobs.
    shard: u8,
    /// Other servers that wait for news; PostgreSQL only.
    wake: Option<Wake>,
}

/// A transaction that is about to commit.
struct Pending {
    /// Its name, where it has one.
    name: Option<String>,
    outcomes: Vec<Outcome>,
    /// Whether other servers may want to know.
    is_news: bool,
}

impl Transactions {
    pub(crate) async fn new(
        (config, location): (DatabaseConfig, Location),
        seal: Arc<Seal>,
        counters: Arc<Counters>,
        woken: Arc<Notify>,
    ) -> Result<Self, Trouble> {
        let mut connection = Connection::open(&location, &config, counters.statements.clone()).await?;
        let wake = match &location {
            Location::Sqlite { .. } => None,
            Location::Postgres(options) => Some(Wake::start(options, &config, woken)),
        };
        let mut last_key = 0;
        if connection.backend() == DbBackend::Sqlite {
            let rows = connection.fetch_text(sql::LAST_KEY, None).await?;
            last_key = rows.first().map_or(Ok(0), |row| Cells::of(row).next())?;
        }
        let shard = shard(&config.server);
        Ok(Self {
            config,
            location,
            seal,
            counters,
            connection: Some(connection),
            reconnect: (Instant::now(), BACKOFF.0),
            last_key,
            gives_keys: true,
            last_now: (Timestamp(0), Instant::now()),
            seed: getrandom::u64().unwrap_or_default(),
            shard,
            wake,
        })
    }

    /// Leaves it to another process to give out keys.
    pub(crate) fn without_keys(self) -> Self {
        Self {
            gives_keys: false,
            ..self
        }
    }

    /// Closes the connections.
    pub(crate) async fn close(self) {
        if let Some(wake) = self.wake {
            wake.end().await;
        }
        if let Some(connection) = self.connection {
            connection.close().await;
        }
    }

    /// One transaction, tried again while others are in its way.
    ///
    /// # Cancel safety
    /// Dropped before it resolves on PostgreSQL, its connection is closed and nothing took effect, unless it was just
    /// committing. On SQLite the statement at hand is run to its end all the same.
    pub(crate) async fn commit(&mut self, ops: &[Op]) -> Result<Vec<Outcome>, Trouble> {
        let until = Instant::now() + self.config.transaction_timeout;
        let mut tried = 1;
        loop {
            match self.attempt(ops).await {
                // Whoever inserted the key has committed, or we would still wait; so the next try finds it, and at
                // worst meets one more.
                Err(Trouble::Duplicate(_)) if self.has_rivals() && tried <= 2 => {}
                Err(Trouble::Again(_)) if self.has_rivals() && tried < TRIES && Instant::now() < until => {
                    let delay = RETRY_DELAY * 2_u32.pow(tried - 1);
                    sleep(delay.mul_f64(0.5 + chance(&mut self.seed))).await;
                }
                done => return done,
            }
            self.counters.retries.fetch_add(1, Ordering::Relaxed);
            tried += 1;
        }
    }

    /// Whether others write too. On SQLite nobody does, and a lock that is held has been waited for long enough.
    pub(crate) fn has_rivals(&self) -> bool {
        matches!(self.location, Location::Postgres(_))
    }

    async fn attempt(&mut self, ops: &[Op]) -> Result<Vec<Outcome>, Trouble> {
        let mut connection = self.connect().await?;
        let limit = self.config.transaction_timeout;
        connection.limit(Some(limit));
        let mut pending = None;
        let backend = connection.backend();
        let running = self.transaction(&mut connection, ops, &mut pending);
        let done = match backend {
            // It gives up by itself, and could not be made to by no longer waiting.
            DbBackend::Sqlite => running.await,
            _ => timeout(limit, running)
                .await
                .unwrap_or_else(|_| Err(Trouble::Lost("the transaction timeout was reached".to_owned()))),
        };
        connection.limit(None);
        match (done, pending) {
            (Ok(()), Some(pending)) => {
                self.connection = Some(connection);
                self.counters.batches.fetch_add(1, Ordering::Relaxed);
                self.counters.operations.fetch_add(ops.len() as u64, Ordering::Relaxed);
                self.wake_others(pending.is_news);
                Ok(pending.outcomes)
            }
            (Ok(()), None) => Err(Trouble::Refused("nothing was planned".to_owned())),
            (
                Err(Trouble::Lost(text)),
                Some(Pending {
                    name: Some(transaction),
                    outcomes,
                    is_news,
                }),
            ) => {
                drop(connection);
                tracing::warn!(error = text, "the connection was lost during a commit");
                let resolved = self.resolve(transaction, outcomes).await;
                self.wake_others(is_news);
                resolved
            }
            (Err(lost @ Trouble::Lost(_)), _) => Err(lost),
            (Err(trouble), _) => {
                // SQLite has rolled back by itself after some errors, and then this one fails.
                let rolled_back = connection.execute(sql::ROLLBACK, None).await;
                if !matches!(rolled_back, Err(Trouble::Lost(_))) {
                    self.connection = Some(connection);
                }
                Err(trouble)
            }
        }
    }

    async fn transaction(
        &mut self,
        connection: &mut Connection,
        ops: &[Op],
        pending: &mut Option<Pending>,
    ) -> Result<(), Trouble> {
        let needs = Needs::of(ops);
        if needs.keys > 0 && !self.gives_keys {
            return Err(Trouble::Refused("another process has this database open".to_owned()));
        }
        connection.execute(sql::BEGIN, None).await?;
        let (now, keys, transaction) = self.clock_and_keys(connection, needs.keys).await?;
        let snapshot = load::snapshot(connection, ops, &needs, &self.config, &self.seal, (now, keys)).await?;
        let policy = &self.config.policy;
        let seed = &mut self.seed;
        let plan = plan(snapshot, ops.to_vec(), policy, now, &mut || chance(seed));
        save::plan(connection, &plan, now, &self.seal, self.shard).await?;
        *pending = Some(Pending {
            name: transaction,
            is_news: save::is_news(&plan),
            outcomes: plan.outcomes,
        });
        connection.execute(sql::COMMIT, None).await?;
        Ok(())
    }

    fn wake_others(&self, is_news: bool) {
        if let Some(wake) = self.wake.as_ref().filter(|_| is_news) {
            wake.others();
        }
    }

    /// The time, fresh keys, and on PostgreSQL the name of the transaction.
    async fn clock_and_keys(
        &mut self,
        connection: &mut Connection,
        count: usize,
    ) -> Result<(Timestamp, Vec<i64>, Option<String>), Trouble> {
        let told = self.config.clock.as_ref().map(|clock| clock());
        match connection.backend() {
            DbBackend::Sqlite => {
                let now = self.sqlite_now(told);
                let first = self.last_key + 1;
                self.last_key += i64::try_from(count).unwrap_or(0);
                Ok((now, (first..=self.last_key).collect(), None))
            }
            _ => {
                let rows = connection
                    .fetch_text(sql::CLOCK_AND_KEYS, Some(count.to_string()))
                    .await?;
                let row = rows.first().ok_or_else(|| Trouble::Refused("no clock".to_owned()))?;
                let mut cells = Cells::of(row);
                let now = Timestamp(cells.next()?);
                let transaction = cells.next()?;
                let keys: String = cells.next()?;
                let keys = keys.split(',').filter_map(|key| key.parse().ok()).collect();
                Ok((told.unwrap_or(now), keys, Some(transaction)))
            }
        }
    }

    /// Never earlier than before, and never standing still.
    fn sqlite_now(&mut self, told: Option<Timestamp>) -> Timestamp {
        let (last, at) = self.last_now;
        let (now, running) = match told {
            Some(now) => (now, last),
            None => (machine_clock(), last.after(at.elapsed())),
        };
        if now >= running {
            self.last_now = (now, Instant::now());
        }
        now.max(running)
    }

    /// The held connection, or a new one if it is time to try.
    async fn connect(&mut self) -> Result<Connection, Trouble> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let (at, delay) = self.reconnect;
        if Instant::now() < at {
            return Err(Trouble::Lost("the database is away".to_owned()));
        }
        match Connection::open(&self.location, &self.config, self.counters.statements.clone()).await {
            Ok(connection) => {
                tracing::info!("connected to the database again");
                self.reconnect = (Instant::now(), BACKOFF.0);
                Ok(connection)
            }
            Err(trouble) => {
                if delay == BACKOFF.0 {
                    tracing::warn!(error = %trouble, "the database is away");
                }
                self.reconnect = (Instant::now() + delay, (delay * 2).min(BACKOFF.1));
                Err(Trouble::Lost(trouble.to_string()))
            }
        }
    }

    /// Finds out whether a transaction was committed whose answer did not arrive.
    async fn resolve(&mut self, transaction: String, outcomes: Vec<Outcome>) -> Result<Vec<Outcome>, Trouble> {
        let until = Instant::now() + DOUBT;
        while Instant::now() < until {
            match self.status_of(&transaction).await {
                Ok(Some(status)) if status == "committed" => return Ok(outcomes),
                Ok(Some(status)) if status == "aborted" => {
                    return Err(Trouble::Again("the transaction was aborted".to_owned()));
                }
                // Still running on the other side, or the database is away: ask again.
                _ => sleep(BACKOFF.0).await,
            }
        }
        Err(Trouble::Lost(
            "the connection was lost during a commit; whether it took effect is not known".to_owned(),
        ))
    }

    async fn status_of(&mut self, transaction: &str) -> Result<Option<String>, Trouble> {
        let mut connection = self.connect().await?;
        let rows = connection
            .fetch_text(sql::TRANSACTION_STATUS, Some(transaction.to_owned()))
            .await?;
        let status = rows.first().map_or(Ok(None), |row| Cells::of(row).next());
        self.connection = Some(connection);
        status
    }
}

/// The machine's clock in milliseconds.
pub(crate) fn machine_clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
}

/// One of sixteen, by the server's name (FNV-1a): enough to keep servers apart, few enough to sum up.
fn shard(server: &str) -> u8 {
    let hash = server.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The low bits are the well mixed ones.
    (hash % 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_differ() {
        let shards: std::collections::BTreeSet<_> = (0..100).map(|n| shard(&format!("server-{n}"))).collect();
        assert!(shards.len() > 8 && shards.iter().all(|shard| *shard < 16));
    }

    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn what_became_of_a_transaction_can_be_found_out() {
        let Some(database) = crate::testing::TestDatabase::postgres().await else {
            return;
        };
        let config = database.config();
        crate::Database::open(config.clone()).await.unwrap().close().await;
        let location = Location::parse(&config.url).unwrap();
        let seal = Arc::new(Seal::new(&[0; 32]));
        let place = (config.clone(), location.clone());
        let mut transactions = Transactions::new(place, seal, Arc::default(), Arc::default())
            .await
            .unwrap();
        for (end, expected) in [(sql::COMMIT, Ok(vec![Outcome::Done])), (sql::ROLLBACK, Err(()))] {
            let mut other = Connection::open(&location, &config, Arc::default()).await.unwrap();
            other.execute(sql::BEGIN, None).await.unwrap();
            let (_, _, transaction) = transactions.clock_and_keys(&mut other, 0).await.unwrap();
            let resolving = transactions.resolve(transaction.unwrap(), vec![Outcome::Done]);
            // It is still open when the question is asked for the first time, or just ended.
            let (resolved, ended) = tokio::join!(resolving, other.execute(end, None));
            ended.unwrap();
            match expected {
                Ok(outcomes) => assert_eq!(resolved, Ok(outcomes)),
                Err(()) => assert!(matches!(resolved, Err(Trouble::Again(_))), "{resolved:?}"),
            }
        }
    }
}
