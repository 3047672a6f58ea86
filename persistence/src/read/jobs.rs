//! Queries over jobs.

use std::collections::BTreeMap;

use crawlwire_progress::job::Tree;
use crawlwire_progress::store::{JobFilter, LOOKED_AT_MAX, Paging, ReadyQuery};
use crawlwire_progress::view::{HeldJob, JobSpec, JobView, Page, ReadyJob, StateCounts};
use crawlwire_progress::weight::Weighed;
use crawlwire_progress::{AccountKey, CredentialKey, Fence, JobKey, PauseReason, SessionKey, Timestamp, Want};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, DbBackend, EntityTrait, FromQueryResult, QueryFilter, Value,
};
use serde_json::json;

use super::listing::Listing;
use super::{before, bound, fetch, moment, one_more, page, page_down_to, statement};
use crate::connection::Cells;
use crate::entity::{account, job};
use crate::error::Trouble;
use crate::load::{count, job_type, limits, state, tree_status, words};
use crate::sql;

/// A job with the names of what it points to.
#[derive(FromQueryResult)]
struct NamedJob {
    #[sea_orm(nested)]
    job: job::Model,
    account_name: Option<String>,
    parent_public_id: Option<String>,
    root_public_id: Option<String>,
    session_name: Option<String>,
}

/// Selects [`NamedJob`]s. All joins are outer ones, so that SQLite begins with the jobs that are asked for.
pub(super) const NAMED_JOBS: &str = "SELECT jobs.*, accounts.name AS account_name, parents.public_id AS parent_public_id, \
     roots.public_id AS root_public_id, sessions.name AS session_name FROM jobs \
     LEFT JOIN accounts ON accounts.id = jobs.account_id LEFT JOIN jobs AS parents ON parents.id = jobs.parent_id \
     LEFT JOIN jobs AS roots ON roots.id = jobs.root_id LEFT JOIN sessions ON sessions.id = jobs.session_id";

pub(crate) async fn job(database: &DatabaseConnection, id: &str) -> Result<Option<JobView>, Trouble> {
    // A public id goes before the web app's name of another job.
    let text = format!(
        "{NAMED_JOBS} WHERE jobs.id = coalesce((SELECT id FROM jobs WHERE public_id = $1), \
         (SELECT id FROM jobs WHERE web_app_job_id = $1))"
    );
    let found = NamedJob::find_by_statement(statement(database, text, [id.into()]))
        .one(database)
        .await?;
    found.map(view).transpose()
}

pub(crate) async fn views(
    database: &DatabaseConnection,
    jobs: Vec<JobKey>,
) -> Result<BTreeMap<JobKey, JobView>, Trouble> {
    if jobs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let these = sql::THESE_JOBS.text(database.get_database_backend());
    let text = format!("{NAMED_JOBS} WHERE jobs.id {these}");
    let asked = json!({"jobs": jobs}).to_string();
    let rows = NamedJob::find_by_statement(statement(database, text, [asked.into()]));
    let views = rows.all(database).await?.into_iter().map(view);
    views.map(|view| view.map(|view| (view.key, view))).collect()
}

pub(crate) async fn jobs(
    database: &DatabaseConnection,
    filter: JobFilter,
    paging: Paging,
) -> Result<Page<JobView>, Trouble> {
    let mut account = None;
    if let Some(name) = &filter.account_id {
        // Looked up first, so that the planner sees whose jobs are asked for.
        let found = account::Entity::find().filter(account::Column::Name.eq(name));
        match found.one(database).await? {
            Some(found) => account = Some(AccountKey(found.id)),
            None => {
                return Ok(Page {
                    items: Vec::new(),
                    next: None,
                });
            }
        }
    }
    let backend = database.get_database_backend();
    let listing = Listing::of_jobs(backend, &filter, account);
    let bound = bound(database, &listing, paging).await?;
    let (chosen, values) = listing.page(backend, before(paging), bound, one_more(paging));
    let views = named(database, format!("{NAMED_JOBS} {chosen}"), values).await?;
    Ok(page_down_to(views, |view| view.key.0, paging, bound))
}

async fn named(
    database: &DatabaseConnection,
    text: String,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<JobView>, Trouble> {
    let rows = NamedJob::find_by_statement(statement(database, text, values));
    rows.all(database).await?.into_iter().map(view).collect()
}

/// A job and those below it, oldest first. Below a submitted job is the whole rest of its tree; of others the rest of the
/// tree is looked at, as far as one page may, for those that have it above them.
pub(crate) async fn tree(database: &DatabaseConnection, top: JobKey, paging: Paging) -> Result<Page<JobView>, Trouble> {
    let after = paging.after.unwrap_or(0);
    let row = database.query_one_raw(statement(
        database,
        format!("SELECT root_id FROM jobs WHERE id = {top}"),
        [],
    ));
    let Some(row) = row.await? else {
        return Ok(page(Vec::new(), |view: &JobView| view.key.0, paging));
    };
    let root = JobKey(row.try_get("", "root_id")?);
    let mut bound = None;
    if root != top {
        let row = database.query_one_raw(statement(database, last_looked_at(root, top.0.max(after)), []));
        bound = row.await?.map(|row| row.try_get("", "id")).transpose()?;
    }
    let chosen = below(
        database.get_database_backend(),
        (root, top),
        (after, bound),
        one_more(paging),
    );
    let views = named(database, format!("{NAMED_JOBS} {chosen}"), []).await?;
    Ok(page_down_to(views, |view| view.key.0, paging, bound))
}

/// Finds the last key that one page of a tree looks at, if there are as many rows behind a key.
pub(super) fn last_looked_at(root: JobKey, after: i64) -> String {
    format!(
        "SELECT id FROM jobs WHERE root_id = {root} AND parent_id IS NOT NULL AND id > {after} ORDER BY root_id, id \
         LIMIT 1 OFFSET {}",
        LOOKED_AT_MAX - 1
    )
}

/// What goes behind a `SELECT` from jobs: a job and those below it behind a key, up to the bound.
pub(super) fn below(
    backend: DbBackend,
    (root, top): (JobKey, JobKey),
    (after, bound): (i64, Option<i64>),
    limit: i64,
) -> String {
    let mut rest = String::new();
    if root != top {
        // Keys rise from parents to children, so the way up ends where the job would have been met.
        rest = format!(
            " AND EXISTS (WITH RECURSIVE up (id, parent_id) AS (SELECT jobs.id, jobs.parent_id UNION ALL \
             SELECT p.id, p.parent_id FROM up JOIN jobs AS p ON p.id = up.parent_id WHERE up.id > {top}) \
             SELECT 1 FROM up WHERE up.id = {top})"
        );
    }
    if let Some(bound) = bound {
        rest = format!(" AND id <= {bound}{rest}");
    }
    let first = after.max(top.0);
    let keys = format!(
        "SELECT id FROM jobs WHERE id = {top} AND id > {after} UNION ALL SELECT id FROM (SELECT id FROM jobs \
         WHERE root_id = {root} AND parent_id IS NOT NULL AND id > {first}{rest} ORDER BY root_id, id LIMIT {limit}) \
         AS below"
    );
    let chosen = match backend {
        DbBackend::Sqlite => format!("IN ({keys})"),
        _ => format!("= ANY (ARRAY ({keys}))"),
    };
    format!("WHERE jobs.id {chosen} ORDER BY jobs.id LIMIT {limit}")
}

pub(crate) async fn counts(database: &DatabaseConnection) -> Result<StateCounts, Trouble> {
    let text = "SELECT status, CAST(sum(jobs) AS bigint) AS jobs FROM job_counts GROUP BY status";
    let mut counts = StateCounts::new();
    for row in database.query_all_raw(statement(database, text, [])).await? {
        let jobs: i64 = row.try_get("", "jobs")?;
        if jobs != 0 {
            counts.insert(state(&row.try_get::<String>("", "status")?)?, jobs);
        }
    }
    Ok(counts)
}

/// Of all queued jobs the one with the least key: found in the index that holds only those, which the sign asks for.
pub(super) const OLDEST_QUEUED: &str =
    "SELECT created_at FROM jobs WHERE id = (SELECT min(+id) FROM jobs WHERE status = 'queued')";

pub(crate) async fn oldest_queued(database: &DatabaseConnection) -> Result<Option<Timestamp>, Trouble> {
    let row = database.query_one_raw(statement(database, OLDEST_QUEUED, [])).await?;
    row.map(|row| Ok(Timestamp(Cells::of(&row).next()?))).transpose()
}

/// Lanes are not negative.
const BEFORE_ALL_LANES: i64 = -1;

pub(crate) async fn ready(database: &DatabaseConnection, query: ReadyQuery) -> Result<Vec<ReadyJob>, Trouble> {
    if query.lanes == 0 || query.per_lane == 0 {
        return Ok(Vec::new());
    }
    let asked = json!({
        "after": query.after_lane.unwrap_or(BEFORE_ALL_LANES), "lanes": query.lanes, "per_lane": query.per_lane,
    });
    let rows = fetch(database, sql::READY, Some(asked)).await?;
    rows.iter()
        .map(|row| {
            let mut cells = Cells::of(row);
            Ok(ReadyJob {
                key: JobKey(cells.next()?),
                public_id: cells.next()?,
                account: AccountKey(cells.next()?),
                lane: cells.next()?,
                due: cells.next()?,
                credential: cells.next::<Option<i64>>()?.map(CredentialKey),
                resume: cells.next()?,
                spec: JobSpec {
                    job_type: job_type(&cells.next::<String>()?)?,
                    host: cells.next()?,
                    entity_id: cells.next()?,
                    namespace_path: cells.next()?,
                    entity_name: cells.next()?,
                    priority: cells.next()?,
                    provider: cells.next()?,
                    user_id: cells.next()?,
                    created_by_user_id: cells.next()?,
                    labels: words("jobs.labels", &cells.next::<String>()?)?,
                    tags: words("jobs.tags", &cells.next::<String>()?)?,
                    metadata: cells.next()?,
                },
            })
        })
        .collect()
}

pub(crate) async fn held(database: &DatabaseConnection, sessions: Vec<SessionKey>) -> Result<Vec<HeldJob>, Trouble> {
    let rows = fetch(database, sql::HELD, Some(json!({"sessions": sessions}))).await?;
    rows.iter()
        .map(|row| {
            let mut cells = Cells::of(row);
            Ok(HeldJob {
                key: JobKey(cells.next()?),
                public_id: cells.next()?,
                session: SessionKey(cells.next()?),
                fence: Fence(cells.next()?),
                want: want(cells.next::<Option<String>>()?.as_deref()),
            })
        })
        .collect()
}

fn view(named: NamedJob) -> Result<JobView, Trouble> {
    let row = named.job;
    Ok(JobView {
        key: JobKey(row.id),
        public_id: row.public_id.clone(),
        web_app_job_id: row.web_app_job_id.clone(),
        account_id: named.account_name.unwrap_or_default(),
        account: AccountKey(row.account_id),
        parent_id: named.parent_public_id,
        root_id: named.root_public_id.unwrap_or_default(),
        depth: row.depth,
        credential: row.credential_id.map(CredentialKey),
        state: state(&row.status)?,
        pause_reason: row.pause_reason.as_deref().and_then(PauseReason::named),
        fence: Fence(row.fence),
        session: named.session_name,
        attempt: row.attempt,
        failures: row.failures,
        misses: row.misses,
        tree: Tree {
            children: row.children,
            jobs: row.tree_jobs,
            weighed: Weighed {
                jobs: count(row.tree_weighed),
                items: count(row.tree_weight),
            },
            open_children: row.open_children,
            failed_children: row.failed_children,
            status: tree_status(&row.tree_status)?,
            settled_at: moment(row.settled_at),
        },
        resume: row.resume,
        want: want(row.want.as_deref()).zip(moment(row.want_deadline)),
        limits: limits(row.timeout_ms, row.retry_attempts, row.retry_delay_ms),
        run_at: moment(row.run_at),
        assigned_at: moment(row.assigned_at),
        deadline: moment(row.deadline),
        created_at: Timestamp(row.created_at),
        started_at: moment(row.started_at),
        finished_at: moment(row.finished_at),
        updated_at: Timestamp(row.updated_at),
        result: row.result.clone(),
        error: row.error.clone(),
        spec: spec(row)?,
    })
}

fn spec(row: job::Model) -> Result<JobSpec, Trouble> {
    Ok(JobSpec {
        job_type: job_type(&row.job_type)?,
        host: row.host,
        entity_id: row.entity_id,
        namespace_path: row.namespace_path,
        entity_name: row.entity_name,
        priority: row.priority,
        provider: row.provider,
        user_id: row.user_id,
        created_by_user_id: row.created_by_user_id,
        labels: words("jobs.labels", &row.labels)?,
        tags: words("jobs.tags", &row.tags)?,
        metadata: row.metadata,
    })
}

fn want(name: Option<&str>) -> Option<Want> {
    name.and_then(Want::named)
}
