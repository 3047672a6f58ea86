//! The schema, step by step. Each step has its way back.

mod m0001_engine;

use sea_orm::sea_query::{DynIden, IntoIden};
use sea_orm_migration::{MigrationTrait, MigratorTrait};

/// A step of versions that were never released. What they kept has no way into ours.
pub(crate) const UNRELEASED: &str = "m0001_lives";

/// Every step, oldest first.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m0001_engine::Migration)]
    }

    /// Not SeaORM's own name, so that a database may be shared with a web app that uses SeaORM too.
    fn migration_table_name() -> DynIden {
        "crawlwire_migrations".into_iden()
    }
}
