//! Queries over how far jobs and trees are.

use std::collections::BTreeMap;

use crawlwire_progress::JobKey;
use crawlwire_progress::Timestamp;
use crawlwire_progress::live::AggregateProgress;
use crawlwire_progress::store::HISTORIES_MAX;
use crawlwire_progress::sums::{SCOPES_MAX, ScopeSum, Sum, Totals, TreeView};
use crawlwire_progress::track::{History, Kept, Said, Tracker};
use crawlwire_progress::weight::{HISTORY_JOBS_MAX, Size, TypeHistory, Weighed};
use crawlwire_protocol::message::JobType;
use sea_orm::{
    ColumnTrait, DatabaseConnection, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QueryResult, QuerySelect,
};
use serde_json::json;

use super::{fetch, statement, unreadable};
use crate::connection::Cells;
use crate::entity::{job_history, job_progress, tree_progress};
use crate::error::Trouble;
use crate::load::{count, job_type, weighed};
use crate::sql;

pub(crate) async fn progress(database: &DatabaseConnection, job: JobKey) -> Result<Option<Tracker>, Trouble> {
    let Some(row) = job_progress::Entity::find_by_id(job.0).one(database).await? else {
        return Ok(None);
    };
    let history = job_history::Entity::find_by_id((job.0, row.attempt))
        .one(database)
        .await?;
    let history = history.map_or_else(|| Ok(History::default()), |row| points(&row.points))?;
    tracker(row, history).map(Some)
}

pub(super) fn tracker(row: job_progress::Model, history: History) -> Result<Tracker, Trouble> {
    let updated_at = Timestamp(row.updated_at);
    let kept = row.kept.as_deref();
    let kept = kept.map_or_else(|| Ok(Kept::new(updated_at)), serde_json::from_str);
    Ok(Tracker {
        attempt: row.attempt,
        n: row.n,
        said: Said {
            overall_completion: row.overall_completion,
            time_elapsed: row.time_elapsed,
            estimated_time_remaining: row.estimated_time_remaining,
        },
        entities: serde_json::from_str(&row.entities).map_err(|_| unreadable("job_progress.entities"))?,
        updated_at,
        history,
        kept: kept.map_err(|_| unreadable("job_progress.kept"))?,
    })
}

/// A row that cannot be read is left out: the others are asked for, too.
pub(crate) async fn trackers(
    database: &DatabaseConnection,
    jobs: Vec<JobKey>,
) -> Result<BTreeMap<JobKey, Tracker>, Trouble> {
    if jobs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let text = sql::REPORTS.text(database.get_database_backend());
    let asked = json!({"jobs": jobs}).to_string();
    let rows = job_progress::Model::find_by_statement(statement(database, text, [asked.into()]));
    let rows = rows.all(database).await?.into_iter();
    let read = |row: job_progress::Model| {
        let job = JobKey(row.job_id);
        let read = tracker(row, History::default());
        let kept = read.inspect_err(|error| tracing::error!(job = job.0, %error, "stored progress not read"));
        Some((job, kept.ok()?))
    };
    Ok(rows.filter_map(read).collect())
}

pub(crate) async fn histories(database: &DatabaseConnection, job: JobKey) -> Result<Vec<(i32, History)>, Trouble> {
    let mut rows = job_history::Entity::find()
        .filter(job_history::Column::JobId.eq(job.0))
        .order_by_desc(job_history::Column::Attempt)
        .limit(u64::from(HISTORIES_MAX.unsigned_abs()))
        .all(database)
        .await?;
    rows.reverse();
    rows.into_iter()
        .map(|row| Ok((row.attempt, points(&row.points)?)))
        .collect()
}

fn points(text: &str) -> Result<History, Trouble> {
    serde_json::from_str(text).map_err(|_| unreadable("job_history.points"))
}

pub(crate) async fn tree_progress(database: &DatabaseConnection, root: JobKey) -> Result<Option<TreeView>, Trouble> {
    let row = tree_progress::Entity::find_by_id(root.0).one(database).await?;
    // One that is there to be locked, and nothing else, says nothing.
    Ok(row.filter(|row| row.jobs_reported > 0).map(|row| TreeView {
        sum: Sum {
            jobs_reported: count(row.jobs_reported),
            done: count(row.done),
            expected: count(row.expected),
            open_jobs: count(row.open_jobs),
            weighed: Weighed {
                jobs: count(row.weighed_reported),
                items: count(row.weight_reported),
            },
        },
        reached: u8::try_from(row.reached).unwrap_or(0),
        updated_at: Timestamp(row.updated_at),
    }))
}

/// One statement, so that the parts fit the whole.
pub(crate) async fn totals(database: &DatabaseConnection) -> Result<Totals, Trouble> {
    let mut totals = Totals::default();
    for row in fetch(database, sql::TOTALS, Some(json!({"limit": SCOPES_MAX}))).await? {
        let mut cells = Cells::of(&row);
        let (kind, name): (String, Option<String>) = (cells.next()?, cells.next()?);
        let scope = scope(&mut cells)?;
        match kind.as_str() {
            "fleet" => totals.fleet = scope,
            "account" => totals.accounts.push((name.unwrap_or_default(), scope)),
            _ => totals.hosts.push((name.unwrap_or_default(), scope)),
        }
    }
    Ok(totals)
}

fn scope(cells: &mut Cells<'_>) -> Result<ScopeSum, Trouble> {
    Ok(ScopeSum {
        trees: count(cells.next()?),
        size: Size {
            jobs: count(cells.next()?),
            weighed: weighed(cells)?,
        },
        sum: Sum {
            jobs_reported: count(cells.next()?),
            done: count(cells.next()?),
            expected: count(cells.next()?),
            open_jobs: count(cells.next()?),
            weighed: weighed(cells)?,
        },
    })
}

/// What the newest jobs were that ended well, by their types.
pub(crate) async fn type_history(database: &DatabaseConnection) -> Result<BTreeMap<JobType, TypeHistory>, Trouble> {
    let mut history = BTreeMap::new();
    for row in fetch(database, sql::TYPE_HISTORY, Some(json!({"limit": HISTORY_JOBS_MAX}))).await? {
        let mut cells = Cells::of(&row);
        let of_type = job_type(&cells.next::<String>()?)?;
        let (jobs, items) = (count(cells.next()?), count(cells.next()?));
        history.insert(of_type, TypeHistory { jobs, items });
    }
    Ok(history)
}

pub(crate) async fn running(database: &DatabaseConnection) -> Result<Option<AggregateProgress>, Trouble> {
    let rows = fetch(database, sql::RUNNING, None).await?;
    let of = |row: &QueryResult| {
        let mut cells = Cells::of(row);
        let (jobs, said): (i64, f64) = (cells.next()?, cells.next()?);
        Ok(AggregateProgress::of(usize::try_from(jobs).unwrap_or(0), said))
    };
    rows.first().map_or(Ok(None), of)
}
