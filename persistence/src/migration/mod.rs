//! The schema, step by step. Each step has its way back.

mod m0001_lives;

use sea_orm::sea_query::{DynIden, IntoIden};
use sea_orm_migration::{MigrationTrait, MigratorTrait};

/// Every step, oldest first.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m0001_lives::Migration)]
    }

    /// Not SeaORM's own name, so that a database may be shared with a web app that uses SeaORM too.
    fn migration_table_name() -> DynIden {
        "crawlwire_migrations".into_iden()
    }
}
