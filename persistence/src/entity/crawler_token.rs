//! Tokens that crawlers may show.

use sea_orm::entity::prelude::*;

/// A row of `crawler_tokens`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "crawler_tokens")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// For people.
    #[sea_orm(unique)]
    pub name: String,
    /// What its bearers may do.
    pub role: String,
    /// SHA-256 of the token, in hexadecimal.
    pub hash: String,
    pub created_at: i64,
    pub revoked_at: Option<i64>,
    /// Roughly.
    pub last_used_at: Option<i64>,
}

/// Joins are written where they are needed.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
