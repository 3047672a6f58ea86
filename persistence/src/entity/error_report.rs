//! The error log.

use sea_orm::entity::prelude::*;

/// A row of `errors`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "errors")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub at: i64,
    pub category: String,
    pub severity: String,
    pub code: String,
    pub job: Option<String>,
    pub connection: Option<String>,
    pub message: String,
}

/// Joins are written where they are needed.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
