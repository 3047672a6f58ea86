//! Peers that became known, connected or not. Their leases hold their jobs.

use sea_orm::entity::prelude::*;

/// A row of `sessions`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "sessions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub name: String,
    /// Who the peer process is, where that is known.
    pub identity: Option<String>,
    /// The server that holds or held the connection.
    pub server: String,
    pub connected: bool,
    /// A JSON object.
    pub capabilities: String,
    /// Whether it can be asked to end or pause a job.
    pub confirms: bool,
    /// How often in a row it was granted a lease without having been heard.
    pub grants: i32,
    pub opened_at: i64,
    pub lease_expires_at: i64,
}

/// Joins are written where they are needed.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
