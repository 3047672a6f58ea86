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
    /// A JSON array of words that its crawler must have.
    pub labels: String,
    /// A JSON array of words.
    pub tags: String,
    /// A JSON object.
    pub metadata: Option<String>,
    /// How long one attempt may run, instead of the server's number.
    pub timeout_ms: Option<i64>,
    pub retry_attempts: Option<i64>,
    pub retry_delay_ms: Option<i64>,
    pub status: String,
    pub pause_reason: Option<String>,
    pub fence: i64,
    pub session_id: Option<i64>,
    pub attempt: i32,
    pub failures: i32,
    pub misses: i32,
    /// Jobs that the same crawlers can run, for the same account.
    pub lane: i64,
    /// The place in the lane, smallest first.
    pub due: i64,
    pub run_at: Option<i64>,
    pub assigned_at: Option<i64>,
    pub started_at: Option<i64>,
    pub deadline: Option<i64>,
    pub finished_at: Option<i64>,
    pub resume: bool,
    /// What somebody wishes of it, and until when its session may confirm.
    pub want: Option<String>,
    pub want_deadline: Option<i64>,
    pub children: i64,
    /// Jobs below it; counted at roots only.
    pub tree_jobs: i64,
    /// Children whose own tree is open, and those whose tree is over and not well.
    pub open_children: i64,
    pub failed_children: i64,
    /// Where it and everything below it is.
    pub tree_status: String,
    pub settled_at: Option<i64>,
    pub result: Option<String>,
    pub error: Option<String>,
    pub created_at: i64,
    pub updated_at: i64,
    /// Items it was expected to be when it was made; 0 if nobody could say.
    pub weight: i64,
    /// What those of its tree weigh that weigh something, and how many they are; counted at roots only.
    pub tree_weight: i64,
    pub tree_weighed: i64,
}

/// Joins are written where they are needed.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
