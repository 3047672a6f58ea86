//! The schema, step by step. Each step has its way back.

mod m0001_engine;
mod m0002_sessions;
mod m0003_refusals;
mod m0004_progress;
mod m0005_watches;
mod m0006_weights;
mod m0008_idempotency;
mod m0009_errors_of_jobs;

use sea_orm::sea_query::{DynIden, IntoIden};
use sea_orm::{ConnectionTrait, DbBackend, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager, async_trait};

/// A step of versions that were never released. What they kept has no way into ours.
pub(crate) const UNRELEASED: &str = "m0001_lives";

/// Where the steps that were taken are kept.
pub(crate) const TABLE: &str = "crawlwire_migrations";

/// Every step, oldest first.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_engine::Migration),
            Box::new(m0002_sessions::STEP),
            Box::new(m0003_refusals::STEP),
            Box::new(m0004_progress::STEP),
            Box::new(m0005_watches::STEP),
            Box::new(m0006_weights::STEP),
            Box::new(m0008_idempotency::STEP),
            Box::new(m0009_errors_of_jobs::STEP),
        ]
    }

    /// Not SeaORM's own name, so that a database may be shared with a web app that uses SeaORM too.
    fn migration_table_name() -> DynIden {
        TABLE.into_iden()
    }
}

/// A step that is nothing but statements, forwards and back.
struct Step {
    name: &'static str,
    up: &'static [&'static str],
    down: &'static [&'static str],
}

impl MigrationName for Step {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Step {
    /// All or nothing on SQLite too.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, self.up).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, self.down).await
    }
}

async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    let database = manager.get_connection();
    let backend = manager.get_database_backend();
    for statement in statements {
        database.execute_unprepared(&translate(statement, backend)).await?;
    }
    Ok(())
}

/// A statement for one of the databases, from a text for both. Words in braces differ.
fn translate(text: &str, backend: DbBackend) -> String {
    let words = match backend {
        DbBackend::Sqlite => [
            ("{key}", "INTEGER PRIMARY KEY"),
            ("{serial}", "INTEGER PRIMARY KEY AUTOINCREMENT"),
            ("{int}", "INTEGER"),
            ("{bool}", "INTEGER"),
            ("{real}", "REAL"),
            ("{strict}", " STRICT"),
        ],
        _ => [
            ("{key}", "BIGINT PRIMARY KEY"),
            ("{serial}", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
            ("{int}", "BIGINT"),
            ("{bool}", "BOOLEAN"),
            ("{real}", "DOUBLE PRECISION"),
            ("{strict}", ""),
        ],
    };
    words
        .iter()
        .fold(text.to_owned(), |text, (word, meaning)| text.replace(word, meaning))
}
