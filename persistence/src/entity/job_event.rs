//! The history of jobs: one row for each job and batch, in the transaction that changed the job.

use sea_orm::entity::prelude::*;

/// A row of `job_events`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "job_events")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub job_id: i64,
    pub at: i64,
    /// Names of the arrows, in order, joined by commas.
    pub arrows: String,
    pub status: String,
    pub fence: i64,
    pub attempt: i32,
    /// Name of the session that took them, or lost the job.
    pub session: Option<String>,
}

/// Joins are written where they are needed.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
