//! The connections that queries run on. They only read.

use sea_orm::DatabaseConnection;
use sea_orm::sqlx;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use crate::DatabaseConfig;
use crate::connection::{BY_KEY, limit_time, postgres_options, sqlite_options};

/// Connections for the questions that the dispatcher asks again and again. It asks one after the other, or two together.
const HOT: u32 = 2;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Pools {
    /// For everything that people and programs ask.
    pub(crate) all: DatabaseConnection,
    /// For what the dispatcher asks. The same on SQLite.
    pub(crate) hot: DatabaseConnection,
}

impl Pools {
    pub(crate) async fn sqlite(options: &SqliteConnectOptions, config: &DatabaseConfig) -> Result<Self, sqlx::Error> {
        let timeout = config.query_timeout;
        let pool = SqlitePoolOptions::new()
            .max_connections(config.pool_size.max(1))
            .acquire_timeout(timeout)
            .test_before_acquire(false)
            .after_connect(move |connection, _| Box::pin(limit_time(connection, timeout)))
            .before_acquire(move |connection, _| {
                Box::pin(async move {
                    limit_time(connection, timeout).await?;
                    Ok(true)
                })
            })
            .connect_with(sqlite_options(options, timeout).pragma("query_only", "ON"))
            .await?;
        let all = DatabaseConnection::from(pool);
        let hot = all.clone();
        Ok(Self { all, hot })
    }

    pub(crate) async fn postgres(options: &PgConnectOptions, config: &DatabaseConfig) -> Result<Self, sqlx::Error> {
        // Plans for the values at hand: limits and filters of lists differ too much for one plan.
        let settings = [
            ("plan_cache_mode", "force_custom_plan"),
            ("default_transaction_read_only", "on"),
        ];
        let all = PgPoolOptions::new()
            .max_connections(config.pool_size.max(1))
            .acquire_timeout(config.query_timeout)
            .connect_with(postgres_options(options, config.query_timeout, &settings));
        // The look at the queue is always the same, and to plan it takes longer than to answer it.
        let mut settings = BY_KEY.to_vec();
        settings.extend([
            ("plan_cache_mode", "force_generic_plan"),
            ("default_transaction_read_only", "on"),
        ]);
        let hot = PgPoolOptions::new()
            .max_connections(HOT)
            .acquire_timeout(config.query_timeout)
            // A connection that is gone is found out by the question; the dispatcher asks again.
            .test_before_acquire(false)
            .connect_with(postgres_options(options, config.query_timeout, &settings));
        let (all, hot) = tokio::try_join!(all, hot)?;
        Ok(Self {
            all: all.into(),
            hot: hot.into(),
        })
    }

    /// Closes both, though the other could not be.
    pub(crate) async fn close(&self) -> Result<(), sea_orm::DbErr> {
        let (all, hot) = tokio::join!(self.all.close_by_ref(), self.hot.close_by_ref());
        all.and(hot)
    }
}
