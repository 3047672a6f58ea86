//! Places that crawls found.

use sea_orm::entity::prelude::*;

/// A row of `areas`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "areas")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub host: String,
    /// `user`, `group`, `project`.
    pub kind: String,
    /// Unique with host and kind.
    pub entity_id: String,
    pub path: String,
    pub name: String,
    pub created_at: i64,
    pub updated_at: i64,
}

/// Joins are written where they are needed.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
