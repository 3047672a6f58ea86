//! How many jobs accounts have, in parts: each server counts in its own.

use sea_orm::entity::prelude::*;

/// A row of `account_counts`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "account_counts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub account_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub shard: i32,
    /// Jobs that have not ended.
    pub open: i64,
    /// Jobs that sessions hold.
    pub held: i64,
}

/// Joins are written where they are needed.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
