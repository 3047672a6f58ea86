//! Jobs: what they are about, and where they are in their lives.

use sea_orm::entity::prelude::*;

/// A row of `jobs`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "jobs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    #[sea_orm(unique)]
    pub public_id: String,
    #[sea_orm(unique)]
    pub web_app_job_id: String,
    /// Unique over all jobs, finished ones too.
    #[sea_orm(unique)]
    pub identity: String,
    pub account_id: i64,
    pub credential_id: Option<i64>,
    pub parent_id: Option<i64>,
    pub root_id: i64,
    pub depth: i32,
    pub generation: String,
    pub job_type: String,
    /// The crawl command that the web app knows the type by.
    pub command: String,
    pub host: String,
    pub entity_id: Option<String>,
    pub namespace_path: Option<String>,
    pub entity_name: Option<String>,
    pub priority: f64,
    pub provider: Option<String>,
    pub user_id: Option<String>,
    pub created_by_user_id: Option<String>,
    /// A JSON array of words.
    pub tags: String,
    /// A JSON object.
    pub metadata: Option<String>,
    pub status: String,
    pub pause_reason: Option<String>,
    pub fence: i64,
    pub session_id: Option<i64>,
    pub attempt: i32,
    pub failures: i32,
    pub misses: i32,
    /// The place in the queue, smallest first.
    pub due: i64,
    pub run_at: Option<i64>,
    pub assigned_at: Option<i64>,
    pub started_at: Option<i64>,
    pub deadline: Option<i64>,
    pub finished_at: Option<i64>,
    pub resume: bool,
    pub children: i64,
    /// Jobs below it; counted at roots only.
    pub tree_jobs: i64,
    pub result: Option<String>,
    pub error: Option<String>,
    pub created_at: i64,
    pub updated_at: i64,
}

/// Joins are written where they are needed.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
