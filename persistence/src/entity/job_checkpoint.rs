//! How far jobs got.

use sea_orm::entity::prelude::*;

/// A row of `job_checkpoints`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "job_checkpoints")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub job_id: i64,
    /// The attempt that said so.
    pub attempt: i32,
    /// A JSON object, the crawler's own.
    pub cursor: String,
    pub updated_at: i64,
}

/// Joins are written where they are needed.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
