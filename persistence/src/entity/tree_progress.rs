//! What the reports of trees add up to.

use sea_orm::entity::prelude::*;

/// A row of `tree_progress`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tree_progress")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub root_id: i64,
    /// Jobs of the tree that have reported.
    pub jobs_reported: i64,
    /// Items that are processed.
    pub done: i64,
    /// Items there will be.
    pub expected: i64,
    /// Jobs of which more may come than anybody can say.
    pub open_jobs: i64,
    /// The highest milestone, in percent.
    pub reached: i32,
    /// Whether something of the tree is still to be done.
    pub is_open: bool,
    pub updated_at: i64,
    /// What those weigh that have reported and weigh something, and how many they are.
    pub weight_reported: i64,
    pub weighed_reported: i64,
}

/// Joins are written where they are needed.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
