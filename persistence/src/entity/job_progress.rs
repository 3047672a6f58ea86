//! The newest report about each job.

use sea_orm::entity::prelude::*;

/// A row of `job_progress`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "job_progress")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub job_id: i64,
    pub attempt: i32,
    pub n: i64,
    pub overall_completion: f64,
    pub time_elapsed: f64,
    pub estimated_time_remaining: Option<f64>,
    /// Counters, as JSON.
    pub entities: String,
    pub updated_at: i64,
    /// Ours; like all that follows, none in rows of earlier releases.
    pub completion: Option<f64>,
    /// Items that are processed, as they count in the tree.
    pub done: Option<i64>,
    /// Items there will be, as they count in the tree.
    pub expected: Option<i64>,
    /// Whether more may come than anybody can say.
    pub open_totals: Option<bool>,
    /// The rest of a tracker, as JSON.
    pub kept: Option<String>,
}

/// Joins are written where they are needed.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
