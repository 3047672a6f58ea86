//! Servers on one PostgreSQL wake each other up after a commit, so that none has to wait for its next look.
//!
//! A wake-up is an empty `NOTIFY`: a hint that there is something new, never the news itself, which are rows. It goes its
//! own way, because a notification inside a transaction makes all servers commit one after the other. One that is lost
//! costs only time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sea_orm::sqlx::{self, ConnectOptions, Connection as _, PgConnection};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::alive;
use crate::config::DatabaseConfig;
use crate::connection::postgres_options;
use crate::transaction::BACKOFF;

/// Between two wake-ups of ours: twenty in a second. What happens meanwhile is one more.
const PAUSE: Duration = Duration::from_millis(50);

/// How long the end of a task is waited for; then it is cut off.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long a silence may be before the connection is tried.
const SILENCE: Duration = Duration::from_secs(30);

/// The name that all servers on a database listen to.
const CHANNEL: &str = "crawlwire";

/// Wakes the other servers, and is woken by them. Ends when it is dropped, or better with [`end`](Self::end).
#[derive(Debug)]
pub(crate) struct Wake {
    changed: watch::Sender<()>,
    ended: DropGuard,
    tasks: [JoinHandle<()>; 2],
}

impl Wake {
    /// Starts both tasks. `woken` is told when another server has committed something.
    pub(crate) fn start(options: &PgConnectOptions, config: &DatabaseConfig, woken: Arc<Notify>) -> Self {
        let options = postgres_options(options, config.query_timeout, &[]);
        let (changed, changes) = watch::channel(());
        let ended = CancellationToken::new();
        let ours = Arc::new(AtomicU32::new(0));
        let caller = Caller {
            options: options.clone(),
            patience: config.query_timeout,
            ours: ours.clone(),
            connection: None,
        };
        let listener = Listener {
            options,
            patience: config.query_timeout,
            ours,
            woken,
            server: config.server.clone(),
        };
        let calling = tokio::spawn(caller.run(changes, ended.clone()));
        let until = ended.clone();
        let listening = tokio::spawn(async move {
            tokio::select! {
                () = until.cancelled() => {}
                () = listener.run() => {}
            }
        });
        Self {
            changed,
            ended: ended.drop_guard(),
            tasks: [calling, listening],
        }
    }

    /// Wakes the others, soon. Never waits.
    pub(crate) fn others(&self) {
        self.changed.send_replace(());
    }

    /// Ends both tasks; what was to be said is said first, if the database answers.
    pub(crate) async fn end(self) {
        let Self { changed, ended, tasks } = self;
        drop(changed);
        drop(ended);
        for mut task in tasks {
            if timeout(LAST_WORDS, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

struct Caller {
    options: PgConnectOptions,
    patience: Duration,
    /// The process that serves us: its notifications are our own.
    ours: Arc<AtomicU32>,
    connection: Option<PgConnection>,
}

impl Caller {
    async fn run(mut self, mut changes: watch::Receiver<()>, ended: CancellationToken) {
        while changes.changed().await.is_ok() {
            let mut delay = BACKOFF.0;
            while let Err(error) = self.call().await {
                tracing::debug!(%error, "the other servers could not be woken");
                self.connection = None;
                tokio::select! {
                    () = ended.cancelled() => return,
                    () = sleep(delay) => delay = (delay * 2).min(BACKOFF.1),
                }
            }
            tokio::select! {
                () = ended.cancelled() => {}
                () = sleep(PAUSE) => {}
            }
        }
        if let Some(connection) = self.connection {
            // It is closed either way.
            let _ = connection.close().await;
        }
    }

    async fn call(&mut self) -> Result<(), sqlx::Error> {
        let patience = self.patience;
        let calling = async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => {
                    let mut connection = self.options.connect().await?;
                    let process: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
                        .fetch_one(&mut connection)
                        .await?;
                    self.ours.store(process.unsigned_abs(), Ordering::Release);
                    connection
                }
            };
            sqlx::query("NOTIFY crawlwire").execute(&mut connection).await?;
            self.connection = Some(connection);
            Ok(())
        };
        timeout(patience, calling)
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }
}

struct Listener {
    options: PgConnectOptions,
    patience: Duration,
    ours: Arc<AtomicU32>,
    woken: Arc<Notify>,
    /// Its name, under which it is known to live.
    server: String,
}

impl Listener {
    /// Listens for good.
    async fn run(self) {
        let mut delay = BACKOFF.0;
        loop {
            match timeout(self.patience, self.connect()).await {
                Ok(Ok(mut listener)) => {
                    delay = BACKOFF.0;
                    // Whatever was said while nobody listened.
                    self.woken.notify_one();
                    self.hear(&mut listener).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "other servers are not heard"),
                Err(_) => tracing::debug!("other servers are not heard"),
            }
            sleep(delay).await;
            delay = (delay * 2).min(BACKOFF.1);
        }
    }

    async fn connect(&self) -> Result<PgListener, sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_with(self.options.clone())
            .await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        // It would connect again by itself, and without a pause.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        alive::hold(&mut listener, &self.server).await?;
        Ok(listener)
    }

    /// Hears until the connection is lost.
    async fn hear(&self, listener: &mut PgListener) {
        loop {
            match timeout(SILENCE, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    if notification.process_id() != self.ours.load(Ordering::Acquire) {
                        self.woken.notify_one();
                    }
                }
                Ok(_) => return,
                // Nobody tells a listener that the network is gone, so it asks.
                Err(_) => match timeout(self.patience, listener.listen(CHANNEL)).await {
                    Ok(Ok(())) => {}
                    _ => return,
                },
            }
        }
    }
}
