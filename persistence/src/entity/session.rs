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
    /// Which of its connections is the last.
    pub epoch: i64,
    /// The last number under which it said something that is settled, and what came with that.
    pub high_water: i64,
    pub high_water_fingerprint: i64,
    /// Set for one run of a crawler, which keeps its session; the next two with it.
    #[sea_orm(unique)]
    pub instance_id: Option<String>,
    /// The crawler's name.
    pub crawler_id: Option<String>,
    /// Who it proved to be.
    pub principal: Option<String>,
    /// Of its last numbers, those that were refused: a JSON array of pairs. None when there are none.
    pub refused: Option<String>,
}

/// Joins are written where they are needed.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
