//! Queries over how far jobs and trees are.

use crawlwire_progress::JobKey;
use crawlwire_progress::Timestamp;
use crawlwire_progress::live::AggregateProgress;
use crawlwire_progress::store::HISTORIES_MAX;
use crawlwire_progress::sums::{SCOPES_MAX, ScopeSum, Sum, Totals, TreeView};
use crawlwire_progress::track::{History, Kept, Said, Tracker};
use sea_orm::{ColumnTrait, DatabaseConnection, EntityTrait, QueryFilter, QueryOrder, QueryResult, QuerySelect};
use serde_json::json;

use super::{fetch, unreadable};
use crate::connection::Cells;
use crate::entity::{job_history, job_progress, tree_progress};
use crate::error::Trouble;
use crate::load::count;
use crate::sql;

pub(crate) async fn progress(database: &DatabaseConnection, job: JobKey) -> Result<Option<Tracker>, Trouble> {
    let Some(row) = job_progress::Entity::find_by_id(job.0).one(database).await? else {
        return Ok(None);
    };
    let history = job_history::Entity::find_by_id((job.0, row.attempt))
        .one(database)
        .await?;
    let updated_at = Timestamp(row.updated_at);
    let kept = row.kept.as_deref();
    let kept = kept.map_or_else(|| Ok(Kept::new(updated_at)), serde_json::from_str);
    Ok(Some(Tracker {
        attempt: row.attempt,
        n: row.n,
        said: Said {
            overall_completion: row.overall_completion,
            time_elapsed: row.time_elapsed,
            estimated_time_remaining: row.estimated_time_remaining,
        },
        entities: serde_json::from_str(&row.entities).map_err(|_| unreadable("job_progress.entities"))?,
        updated_at,
        history: history.map_or_else(|| Ok(History::default()), |row| points(&row.points))?,
        kept: kept.map_err(|_| unreadable("job_progress.kept"))?,
    }))
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
        jobs: count(cells.next()?),
        sum: Sum {
            jobs_reported: count(cells.next()?),
            done: count(cells.next()?),
            expected: count(cells.next()?),
            open_jobs: count(cells.next()?),
        },
    })
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
