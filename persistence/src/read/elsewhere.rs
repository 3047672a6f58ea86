//! Queries over what other servers do.

use std::collections::BTreeSet;
use std::time::Duration;

use crawlwire_progress::store::{WATCHES_MAX, Watch};
use crawlwire_progress::track::History;
use crawlwire_progress::view::{EventView, FeedItem, HeardElsewhere};
use crawlwire_progress::{Fence, JobKey, Timestamp};
use sea_orm::{ConnectionTrait, DatabaseConnection, FromQueryResult, QueryResult};
use serde_json::json;

use super::progress::tracker;
use super::{fetch, statement, unreadable};
use crate::connection::Cells;
use crate::entity::job_progress;
use crate::error::Trouble;
use crate::load::{job_type, state};
use crate::sql;

/// By the clock of the database, unless another time is told.
pub(crate) async fn watched_elsewhere(
    database: &DatabaseConnection,
    server: &str,
    now: Option<Timestamp>,
) -> Result<Vec<Watch>, Trouble> {
    let asked = json!({"server": server, "now": now, "limit": WATCHES_MAX + 1});
    let rows = fetch(database, sql::WATCHED_ELSEWHERE, Some(asked)).await?;
    let watch = |row| {
        let mut cells = Cells::of(row);
        let (job, lasts): (String, i64) = (cells.next()?, cells.next()?);
        Ok(Watch {
            job: Some(job).filter(|job| !job.is_empty()),
            lasts: Duration::from_millis(u64::try_from(lasts).unwrap_or(0)),
        })
    };
    rows.iter().map(watch).collect()
}

/// The last key of an event that was drawn. PostgreSQL only.
pub(crate) async fn last_event_drawn(database: &DatabaseConnection) -> Result<i64, Trouble> {
    number(database, sql::LAST_EVENT_DRAWN).await
}

/// The last key of an event that is there. SQLite only.
pub(crate) async fn last_event(database: &DatabaseConnection) -> Result<i64, Trouble> {
    number(database, sql::LAST_EVENT).await
}

async fn number(database: &DatabaseConnection, text: &str) -> Result<i64, Trouble> {
    let row = database.query_one_raw(statement(database, text, [])).await?;
    let row = row.ok_or_else(|| unreadable("the last event"))?;
    Cells::of(&row).next()
}

/// Open transactions that may have drawn keys of events. PostgreSQL only.
pub(crate) async fn event_writers(database: &DatabaseConnection) -> Result<BTreeSet<String>, Trouble> {
    let rows = database
        .query_all_raw(statement(database, sql::EVENT_WRITERS, []))
        .await?;
    rows.iter().map(|row| Cells::of(row).next()).collect()
}

/// Events behind a key, and not behind another one.
pub(crate) async fn feed(
    database: &DatabaseConnection,
    (after, until): (i64, i64),
    limit: usize,
) -> Result<Vec<FeedItem>, Trouble> {
    let asked = json!({"after": after, "until": until, "limit": limit});
    let rows = fetch(database, sql::FEED, Some(asked)).await?;
    rows.iter().map(feed_item).collect()
}

fn feed_item(row: &QueryResult) -> Result<FeedItem, Trouble> {
    let mut cells = Cells::of(row);
    Ok(FeedItem {
        job: JobKey(cells.next()?),
        public_id: cells.next()?,
        root: JobKey(cells.next()?),
        root_id: cells.next()?,
        account_id: cells.next()?,
        job_type: job_type(&cells.next::<String>()?)?,
        event: EventView {
            id: cells.next()?,
            at: Timestamp(cells.next()?),
            arrows: cells.next::<String>()?.split(',').map(str::to_owned).collect(),
            state: state(&cells.next::<String>()?)?,
            fence: Fence(cells.next()?),
            attempt: cells.next()?,
            session: cells.next()?,
        },
    })
}

/// A report with the names of its job and of the top of its tree.
#[derive(FromQueryResult)]
struct Heard {
    #[sea_orm(nested)]
    report: job_progress::Model,
    public_id: String,
    root_id: String,
}

/// A row that cannot be read is left out: the others are asked for, too.
pub(crate) async fn progress_elsewhere(
    database: &DatabaseConnection,
    server: &str,
    (at, job): (Timestamp, JobKey),
    limit: usize,
) -> Result<Vec<HeardElsewhere>, Trouble> {
    let asked = json!({"server": server, "at": at, "job": job, "limit": limit}).to_string();
    let text = sql::PROGRESS_ELSEWHERE.text(database.get_database_backend());
    let rows = Heard::find_by_statement(statement(database, text, [asked.into()]));
    let rows = rows.all(database).await?.into_iter();
    let read = |heard: Heard| {
        let job = JobKey(heard.report.job_id);
        let read = tracker(heard.report, History::default());
        let kept = read.inspect_err(|error| tracing::error!(job = job.0, %error, "stored progress not read"));
        Some(HeardElsewhere {
            job,
            public_id: heard.public_id,
            root_id: heard.root_id,
            tracker: kept.ok()?,
        })
    };
    Ok(rows.filter_map(read).collect())
}
