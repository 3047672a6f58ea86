//! Where the database is, and limits of time.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crawlwire_progress::{Policy, Timestamp};
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::SqliteConnectOptions;

use crate::error::OpenError;

/// The file that holds the master key, unless configured otherwise; it belongs into the data directory.
pub const KEY_FILE_NAME: &str = "crawlwire.key";

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What [`Database::open`](crate::Database::open) needs to know.
#[derive(Clone)]
pub struct DatabaseConfig {
    /// `sqlite://path?mode=rwc`, a plain path (created when missing), or `postgres://…` with whatever libpq calls
    /// connection parameters.
    pub url: String,
    /// Connections for queries, at least 1. The writer has its own beside them.
    pub pool_size: u32,
    /// How long one query may take, and how long one may wait for a connection.
    pub query_timeout: Duration,
    /// How long one transaction of the writer may take.
    pub transaction_timeout: Duration,
    /// The master key that tokens are sealed with: 32 bytes, created when missing. Servers that share a database need
    /// the same one.
    pub key_file: PathBuf,
    /// The name of this server, the same after a restart.
    pub server: String,
    /// The numbers that decide.
    pub policy: Policy,
    /// Instead of the database's own clock, for tests.
    pub clock: Option<Clock>,
}

impl DatabaseConfig {
    /// With the defaults: 10 connections, 30 s for a query and for a transaction, server `crawlwire`.
    pub fn new(url: impl Into<String>, key_file: impl Into<PathBuf>) -> Self {
        Self {
            url: url.into(),
            pool_size: 10,
            query_timeout: Duration::from_secs(30),
            transaction_timeout: Duration::from_secs(30),
            key_file: key_file.into(),
            server: "crawlwire".to_owned(),
            policy: Policy::default(),
            clock: None,
        }
    }
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter
            .debug_struct("DatabaseConfig")
            .field("url", &redacted(&self.url))
            .field("pool_size", &self.pool_size)
            .field("query_timeout", &self.query_timeout)
            .field("transaction_timeout", &self.transaction_timeout)
            .field("key_file", &self.key_file)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// A URL for people: without password, and without parameters, which may carry one.
pub fn redacted(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = bare.split_once("://") else {
        return bare.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((login, place)) => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{place}")
        }
        None => bare.to_owned(),
    }
}

/// A URL, understood.
#[derive(Clone)]
pub(crate) enum Location {
    Sqlite {
        options: Box<SqliteConnectOptions>,
        create: bool,
    },
    Postgres(Box<PgConnectOptions>),
}

impl Location {
    pub(crate) fn parse(url: &str) -> Result<Self, OpenError> {
        let wrong = |reason: &str| OpenError::Url {
            url: redacted(url),
            reason: reason.to_owned(),
        };
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            // The error of the parser may quote a part of the URL, and so the password.
            let options = PgConnectOptions::from_str(url).map_err(|_| wrong("it is not a valid PostgreSQL URL"))?;
            return Ok(Self::Postgres(Box::new(options)));
        }
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Err(wrong("a database in memory would not keep anything; name a file"));
        }
        if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url)
                .map_err(|_| wrong("write sqlite://path, sqlite://path?mode=rw or sqlite://path?mode=rwc"))?;
            if url.contains("mode=ro") || url.contains("immutable=") {
                return Err(wrong("the database has to be writable"));
            }
            let create = url.contains("mode=rwc");
            return Self::sqlite(options, create).ok_or_else(|| wrong("it names no file"));
        }
        if url.contains("://") {
            return Err(wrong("only sqlite:// and postgres:// are known"));
        }
        Self::sqlite(SqliteConnectOptions::new().filename(url), true).ok_or_else(|| wrong("it names no file"))
    }

    fn sqlite(options: SqliteConnectOptions, create: bool) -> Option<Self> {
        let named = options.get_filename() != Path::new("");
        let options = Box::new(options);
        named.then_some(Self::Sqlite { options, create })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            ("postgres://me:s3cret@host/db", "postgres://me:***@host/db"),
            ("postgres://me:p@ss@host/db?x=1", "postgres://me:***@host/db"),
            ("postgres://host/db?password=s3cret", "postgres://host/db"),
            ("sqlite://data/x.db?mode=rwc", "sqlite://data/x.db"),
            ("data/x.db", "data/x.db"),
        ] {
            assert_eq!(redacted(url), shown);
        }
        let config = DatabaseConfig::new("postgres://me:s3cret@host/db", "key");
        assert!(!format!("{config:?}").contains("s3cret"));
        let error = Location::parse("postgres://me:s3cret@host:port/db").err().unwrap();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[test]
    fn urls() {
        let path = |url: &str| match Location::parse(url) {
            Ok(Location::Sqlite { options, create }) => Some((options.get_filename().to_owned(), create)),
            _ => None,
        };
        assert_eq!(path("data/x.db"), Some(("data/x.db".into(), true)));
        assert_eq!(path("sqlite:///data/x.db?mode=rwc"), Some(("/data/x.db".into(), true)));
        assert_eq!(path("sqlite://x.db"), Some(("x.db".into(), false)));
        for wrong in [
            "",
            "sqlite::memory:",
            "mysql://x/y",
            "sqlite://x.db?mode=ro",
            "sqlite://",
        ] {
            assert!(Location::parse(wrong).is_err(), "{wrong} was accepted");
        }
    }
}
