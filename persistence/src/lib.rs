//! Keeps lives in SQLite or PostgreSQL: the port [`Store`](crawlwire_progress::Store) over entities, migrations, one
//! writer, and sealed tokens. Decides nothing: what to write is said by [`plan`](crawlwire_progress::plan).
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | where the database is, limits of time |
//! | `open` | connect, lock, migrate, start the writer: [`Database::open`] |
//! | [`store`] | [`SqlStore`]: operations to the writer, queries to the pool |
//! | [`inspect`] | a look from outside that changes nothing |
//! | `writer` | the one writer: batches, answers, what waits while the database is away |
//! | `transaction` | one batch, one transaction: retries, reconnects, commits in doubt |
//! | `choose`, `load`, `save` | jobs a batch means, rows it needs, rows its plan changes: a constant number of statements |
//! | `sql`, `connection` | the text of those statements, and the connection they run on |
//! | `read`, `feed` | queries; what happened to all jobs, in an order in which nothing comes later |
//! | `wake`, `alive` | servers on one PostgreSQL wake each other up, and know which of them live |
//! | [`entity`], [`migration`] | the rows, and how the schema came to be |
//! | [`seal`] | tokens at rest |
//! | `testing` (feature `testing`) | a throw-away PostgreSQL, fresh databases |

mod alive;
mod choose;
pub mod config;
mod connection;
pub mod entity;
pub mod error;
mod feed;
pub mod inspect;
mod load;
pub mod migration;
mod open;
mod pools;
mod read;
mod save;
pub mod seal;
mod sql;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod transaction;
mod wake;
mod writer;

pub use config::DatabaseConfig;
pub use error::OpenError;
pub use open::Database;
pub use store::SqlStore;
