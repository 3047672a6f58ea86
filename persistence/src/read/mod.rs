//! Queries, on the pool.

mod accounts;
mod elsewhere;
mod jobs;
mod listing;
#[cfg(feature = "testing")]
mod plans;
mod progress;
mod records;

use crawlwire_progress::Timestamp;
use crawlwire_progress::store::Paging;
use crawlwire_progress::view::Page;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, QueryResult, Statement, Value};

pub(crate) use self::accounts::*;
pub(crate) use self::elsewhere::*;
pub(crate) use self::jobs::*;
use self::listing::Listing;
#[cfg(feature = "testing")]
pub(crate) use self::plans::hot;
pub(crate) use self::progress::*;
pub(crate) use self::records::*;
use crate::connection::Cells;
use crate::error::Trouble;
use crate::sql::Sql;
use crate::transaction::machine_clock;

pub(crate) async fn ping(database: &DatabaseConnection) -> Result<(), Trouble> {
    database
        .query_one_raw(statement(database, "SELECT 1 FROM job_counts LIMIT 1", []))
        .await?;
    Ok(())
}

/// The time: of the database, which all servers on it share; of this machine, where there is one.
pub(crate) async fn now(database: &DatabaseConnection) -> Result<Timestamp, Trouble> {
    if database.get_database_backend() == DbBackend::Sqlite {
        return Ok(machine_clock());
    }
    let text = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let row = database.query_one_raw(statement(database, text, [])).await?;
    let row = row.ok_or_else(|| unreadable("the clock"))?;
    Ok(Timestamp(Cells::of(&row).next()?))
}

/// The rows of a constant statement, whose parameter is JSON.
async fn fetch(
    database: &DatabaseConnection,
    sql: Sql,
    parameter: Option<serde_json::Value>,
) -> Result<Vec<QueryResult>, Trouble> {
    let text = sql.text(database.get_database_backend());
    let values = parameter.map(|parameter| parameter.to_string().into());
    Ok(database.query_all_raw(statement(database, text, values)).await?)
}

fn statement(
    database: &DatabaseConnection,
    text: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Statement {
    Statement::from_sql_and_values(database.get_database_backend(), text, values)
}

fn before(paging: Paging) -> i64 {
    paging.after.unwrap_or(i64::MAX)
}

/// One row more than asked for says whether there is another page.
fn one_more(paging: Paging) -> i64 {
    i64::try_from(paging.limit).unwrap_or(i64::MAX).saturating_add(1)
}

fn page<T>(mut items: Vec<T>, row: impl Fn(&T) -> i64, paging: Paging) -> Page<T> {
    let more = items.len() > paging.limit;
    items.truncate(paging.limit);
    let next = if more { items.last().map(row) } else { None };
    Page { items, next }
}

/// The same of a list that was looked at down to a key only, or in a rising list up to it.
fn page_down_to<T>(items: Vec<T>, row: impl Fn(&T) -> i64, paging: Paging, bound: Option<i64>) -> Page<T> {
    let page = page(items, row, paging);
    Page {
        next: page.next.or(bound),
        ..page
    }
}

/// The key down to which a page of a listing looks; none when it looks at all there is.
async fn bound(database: &DatabaseConnection, listing: &Listing, paging: Paging) -> Result<Option<i64>, Trouble> {
    let Some((text, values)) = listing.bound(before(paging)) else {
        return Ok(None);
    };
    let row = database.query_one_raw(statement(database, text, values)).await?;
    row.map_or(Ok(None), |row| Cells::of(&row).next())
}

fn unreadable(what: &str) -> Trouble {
    Trouble::Refused(format!("{what} cannot be read"))
}

fn moment(millis: Option<i64>) -> Option<Timestamp> {
    millis.map(Timestamp)
}
