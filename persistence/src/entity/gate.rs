//! Gates that are closed.

use sea_orm::entity::prelude::*;

/// A row of `gates`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "gates")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: String,
    /// 0 for none.
    #[sea_orm(primary_key, auto_increment = false)]
    pub account_id: i64,
    /// Empty for none.
    #[sea_orm(primary_key, auto_increment = false)]
    pub host: String,
    pub closed_at: i64,
    /// When it opens by itself.
    pub until: Option<i64>,
    pub reason: Option<String>,
    pub by: String,
}

/// Joins are written where they are needed.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
