//! What goes wrong with databases, in our kinds.

use std::path::PathBuf;

use crawlwire_progress::StoreError;
use sea_orm::sqlx::error::{DatabaseError, ErrorKind};
use sea_orm::{DbErr, RuntimeErr, sqlx};

/// Why a database could not be opened. Never shows a password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is not understood.
    #[error("database URL {url}: {reason}")]
    Url {
        /// Without password.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A file or directory could not be made or read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no such database, and the URL does not say that it may be made.
    #[error("{path}: there is no such file; add ?mode=rwc to its URL for it to be made")]
    Missing {
        /// The database file.
        path: PathBuf,
    },
    /// Another process has the SQLite file open.
    #[error("{path} is in use by another process; SQLite serves one server, several need PostgreSQL")]
    InUse {
        /// The database file.
        path: PathBuf,
    },
    /// The database could not be reached, or refused us.
    #[error("cannot open {url}: {reason}")]
    Connect {
        /// Without password.
        url: String,
        /// What the driver says.
        reason: String,
    },
    /// The schema could not be brought up to date.
    #[error("cannot migrate {url}: {reason}")]
    Migrate {
        /// Without password.
        url: String,
        /// What the database says.
        reason: String,
    },
    /// The key file is not a key.
    #[error("{path}: {reason}")]
    Key {
        /// The key file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Why a batch did not take effect, by what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// Another transaction was in the way: plan it again.
    #[error("{0}")]
    Again(String),
    /// Somebody else inserted the same key: plan it again, and if it stays, the operation itself is wrong.
    #[error("{0}")]
    Duplicate(String),
    /// The database does not take these values.
    #[error("{0}")]
    Refused(String),
    /// Too slow, out of space, locked for too long: the connection is good, the batch is not done.
    #[error("{0}")]
    Busy(String),
    /// The connection is not good any more.
    #[error("{0}")]
    Lost(String),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(cause) => of_database(cause.as_ref()),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Lost(error.to_string()),
            sqlx::Error::PoolTimedOut => Self::Busy("no connection became free in time".to_owned()),
            _ => Self::Refused(error.to_string()),
        }
    }
}

impl From<DbErr> for Trouble {
    fn from(error: DbErr) -> Self {
        match &error {
            DbErr::Conn(RuntimeErr::SqlxError(cause))
            | DbErr::Exec(RuntimeErr::SqlxError(cause))
            | DbErr::Query(RuntimeErr::SqlxError(cause)) => match cause.as_ref() {
                sqlx::Error::Database(cause) => of_database(cause.as_ref()),
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolClosed
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::WorkerCrashed => Self::Lost(cause.to_string()),
                _ => Self::Refused(cause.to_string()),
            },
            DbErr::ConnectionAcquire(_) => Self::Busy("no connection became free in time".to_owned()),
            _ => Self::Refused(error.to_string()),
        }
    }
}

fn of_database(error: &dyn DatabaseError) -> Trouble {
    // The message only: the detail of PostgreSQL quotes values.
    let text = error.message().to_owned();
    let code = error.code().unwrap_or_default().into_owned();
    if matches!(error.kind(), ErrorKind::UniqueViolation) {
        return Trouble::Duplicate(text);
    }
    if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
        of_postgres(&code, text)
    } else {
        of_sqlite(&code, text)
    }
}

/// By SQLSTATE: PostgreSQL documentation, appendix "PostgreSQL Error Codes".
fn of_postgres(code: &str, text: String) -> Trouble {
    match code {
        // serialization_failure, deadlock_detected, lock_not_available
        "40001" | "40P01" | "55P03" => Trouble::Again(text),
        // query_canceled, by statement_timeout
        "57014" => Trouble::Busy(text),
        // admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped, idle and transaction timeouts, read only
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03" | "25P04" | "25006" => Trouble::Lost(text),
        _ => match code.get(..2).unwrap_or_default() {
            // connection exceptions
            "08" => Trouble::Lost(text),
            // insufficient resources, system errors; an internal error is none of these, because what it is about may
            // never go through, and would hold up whatever waits behind it
            "53" | "58" => Trouble::Busy(text),
            _ => Trouble::Refused(text),
        },
    }
}

/// By result code: <https://sqlite.org/rescode.html>. The low byte is the primary code.
fn of_sqlite(code: &str, text: String) -> Trouble {
    match code.parse::<u32>().unwrap_or(0) & 0xff {
        // SQLITE_BUSY and SQLITE_LOCKED
        5 | 6 => Trouble::Again(text),
        // SQLITE_INTERRUPT, by our own deadline
        9 => Trouble::Busy("the time limit was reached".to_owned()),
        // SQLITE_NOMEM, SQLITE_READONLY, SQLITE_IOERR, SQLITE_FULL
        7 | 8 | 10 | 13 => Trouble::Busy(text),
        // SQLITE_CORRUPT, SQLITE_CANTOPEN, SQLITE_NOTADB
        11 | 14 | 26 => Trouble::Lost(text),
        _ => Trouble::Refused(text),
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Again(text) | Trouble::Busy(text) | Trouble::Lost(text) => Self::Unavailable(text),
            Trouble::Duplicate(text) | Trouble::Refused(text) => Self::Broken(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_follows_from_the_code() {
        let text = String::new;
        assert!(matches!(of_postgres("40P01", text()), Trouble::Again(_)));
        assert!(matches!(of_postgres("57P01", text()), Trouble::Lost(_)));
        assert!(matches!(of_postgres("08006", text()), Trouble::Lost(_)));
        assert!(matches!(of_postgres("53100", text()), Trouble::Busy(_)));
        assert!(matches!(of_postgres("23514", text()), Trouble::Refused(_)));
        assert!(matches!(of_postgres("XX000", text()), Trouble::Refused(_)));
        assert!(matches!(of_sqlite("517", text()), Trouble::Again(_)));
        assert!(matches!(of_sqlite("9", text()), Trouble::Busy(_)));
        assert!(matches!(of_sqlite("13", text()), Trouble::Busy(_)));
        assert!(matches!(of_sqlite("275", text()), Trouble::Refused(_)));
    }
}
