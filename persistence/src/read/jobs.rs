//! Queries over jobs.

use crawlwire_progress::job::Tree;
use crawlwire_progress::store::{JobFilter, Paging, ReadyQuery};
use crawlwire_progress::view::{HeldJob, JobSpec, JobView, Page, ReadyJob, StateCounts};
use crawlwire_progress::{AccountKey, CredentialKey, Fence, JobKey, PauseReason, SessionKey, State, Timestamp, Want};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, DbBackend, EntityTrait, FromQueryResult, QueryFilter, Value,
};
use serde_json::json;

#[cfg(feature = "testing")]
use super::records::SESSIONS;
use super::{before, fetch, moment, one_more, page, statement};
use crate::connection::Cells;
use crate::entity::{account, job};
use crate::error::Trouble;
use crate::load::{job_type, limits, state, tree_status, words};
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
const NAMED_JOBS: &str = "SELECT jobs.*, accounts.name AS account_name, parents.public_id AS parent_public_id, \
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

pub(crate) async fn jobs(
    database: &DatabaseConnection,
    filter: JobFilter,
    paging: Paging,
) -> Result<Page<JobView>, Trouble> {
    let text = list(database.get_database_backend(), &filter);
    let mut values: Vec<Value> = vec![before(paging).into(), one_more(paging).into()];
    if let Some(name) = &filter.account_id {
        // Looked up first, so that the planner sees whose jobs are asked for.
        let found = account::Entity::find().filter(account::Column::Name.eq(name));
        match found.one(database).await? {
            Some(account) => values.push(account.id.into()),
            None => {
                return Ok(Page {
                    items: Vec::new(),
                    next: None,
                });
            }
        }
    }
    let rows = NamedJob::find_by_statement(statement(database, text, values))
        .all(database)
        .await?;
    let views = rows.into_iter().map(view).collect::<Result<Vec<_>, _>>()?;
    Ok(page(views, |view| view.key.0, paging))
}

/// Selects the jobs that a filter means, newest first.
fn list(backend: DbBackend, filter: &JobFilter) -> String {
    let keys = selection(filter);
    let chosen = match backend {
        DbBackend::Sqlite => format!("IN ({keys})"),
        // An array is looked up by key whatever the planner expects of the selection.
        _ => format!("= ANY (ARRAY ({keys}))"),
    };
    format!("{NAMED_JOBS} WHERE jobs.id {chosen} ORDER BY jobs.id DESC LIMIT $2")
}

/// The keys of the jobs that a filter means, newest first, as SQL: below `$1`, at most `$2`, of the account `$3`.
///
/// Each state is looked up by itself, in the index that holds it (which is found by a literal only), so that a page
/// costs the same however many jobs rest in other states.
fn selection(filter: &JobFilter) -> String {
    let account = match filter.account_id {
        Some(_) => " AND account_id = $3",
        None => "",
    };
    let states = if filter.states.is_empty() {
        State::ALL
    } else {
        &filter.states
    };
    if let Some(parent) = filter.parent {
        let names: Vec<_> = states.iter().map(|state| format!("'{state}'")).collect();
        let names = names.join(", ");
        return format!(
            "SELECT id FROM jobs WHERE parent_id = {parent} AND status IN ({names}){account} \
             AND id < $1 ORDER BY id DESC LIMIT $2"
        );
    }
    if filter.states.is_empty() && account.is_empty() {
        return "SELECT id FROM jobs WHERE id < $1 ORDER BY id DESC LIMIT $2".to_owned();
    }
    let parts: Vec<_> = states.iter().map(|state| in_state(*state, account)).collect();
    parts.join(" UNION ALL ")
}

fn in_state(state: State, account: &str) -> String {
    let held = if state.is_leased() {
        " AND session_id IS NOT NULL"
    } else {
        ""
    };
    // Jobs that move are few, and sorted after they are found; the sign keeps planners from looking for them in the order
    // of the keys, among all that rest.
    let moves = state.is_leased() || state.is_backlog();
    let key = if moves && account.is_empty() { "+id" } else { "id" };
    format!(
        "SELECT id FROM (SELECT id FROM jobs WHERE status = '{state}'{held}{account} \
         AND {key} < $1 ORDER BY {key} DESC LIMIT $2) AS {state}_jobs"
    )
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

/// Queries over `jobs`, with values in the place of parameters; for the test that asks the planner about them. The first
/// account has the key 2, after the first job.
#[cfg(feature = "testing")]
pub(crate) fn hot(backend: DbBackend) -> Vec<(String, String)> {
    let asked = r#"'{"after": 0, "lanes": 100, "per_lane": 10}'"#;
    let held = r#"'{"sessions": [1, 2, 3]}'"#;
    let mut texts = vec![
        ("ready".to_owned(), sql::READY.text(backend).replace("$1", asked)),
        ("held".to_owned(), sql::HELD.text(backend).replace("$1", held)),
        (
            "totals".to_owned(),
            sql::TOTALS.text(backend).replace("$1", r#"'{"limit": 100}'"#),
        ),
        ("running".to_owned(), sql::RUNNING.text(backend).to_owned()),
        ("sessions".to_owned(), SESSIONS.replace("$1", "0").replace("$2", "100")),
    ];
    let parent = Some(JobKey(1));
    let account_id = Some("acme".to_owned());
    let each = State::ALL.iter().map(|state| vec![*state]).chain([Vec::new()]);
    for states in each {
        for account_id in [None, account_id.clone()] {
            for parent in [None, parent] {
                let filter = JobFilter {
                    states: states.clone(),
                    account_id: account_id.clone(),
                    parent,
                };
                let text = list(backend, &filter)
                    .replace("$1", "20000")
                    .replace("$2", "51")
                    .replace("$3", "2");
                texts.push((format!("{filter:?}"), text));
            }
        }
    }
    texts
}
