//! Queries, on the pool.

use crawlwire_progress::store::{JobFilter, Paging};
use crawlwire_progress::view::{
    ErrorView, EventView, JobSpec, JobView, Page, ProgressView, ReadyJob, SessionView, StateCounts,
};
use crawlwire_progress::{CredentialKey, Fence, JobKey, PauseReason, SessionKey, State, Timestamp};
use crawlwire_protocol::AccessToken;
use crawlwire_protocol::message::JobType;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseConnection, DbBackend, EntityTrait, FromQueryResult, QueryFilter,
    QueryOrder, QuerySelect, Statement, Value,
};

use crate::entity::{account, credential, error_report, job, job_event, job_progress, session};
use crate::error::Trouble;
use crate::load::state;
use crate::seal::Seal;

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

/// The dispatcher's question.
const READY: &str = "SELECT * FROM jobs WHERE status = 'queued' ORDER BY due, id LIMIT $1";

pub(crate) async fn ping(database: &DatabaseConnection) -> Result<(), Trouble> {
    database
        .query_one_raw(statement(database, "SELECT 1 FROM job_counts LIMIT 1", []))
        .await?;
    Ok(())
}

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

pub(crate) async fn events(
    database: &DatabaseConnection,
    job: JobKey,
    paging: Paging,
) -> Result<Page<EventView>, Trouble> {
    let rows = job_event::Entity::find()
        .filter(job_event::Column::JobId.eq(job.0))
        .filter(job_event::Column::Id.gt(paging.after.unwrap_or(0)))
        .order_by_asc(job_event::Column::Id)
        .limit(one_more(paging).unsigned_abs())
        .all(database)
        .await?;
    let views = rows
        .into_iter()
        .map(|row| {
            Ok(EventView {
                id: row.id,
                at: Timestamp(row.at),
                arrows: row.arrows.split(',').map(str::to_owned).collect(),
                state: state(&row.status)?,
                fence: Fence(row.fence),
                attempt: row.attempt,
                session: row.session,
            })
        })
        .collect::<Result<Vec<_>, Trouble>>()?;
    Ok(page(views, |view| view.id, paging))
}

pub(crate) async fn progress(database: &DatabaseConnection, job: JobKey) -> Result<Option<ProgressView>, Trouble> {
    let found = job_progress::Entity::find_by_id(job.0).one(database).await?;
    found
        .map(|row| {
            Ok(ProgressView {
                attempt: row.attempt,
                n: row.n,
                overall_completion: row.overall_completion,
                time_elapsed: row.time_elapsed,
                estimated_time_remaining: row.estimated_time_remaining,
                entities: serde_json::from_str(&row.entities).map_err(|_| unreadable("job_progress.entities"))?,
                updated_at: Timestamp(row.updated_at),
            })
        })
        .transpose()
}

pub(crate) async fn ready(database: &DatabaseConnection, limit: usize) -> Result<Vec<ReadyJob>, Trouble> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = job::Model::find_by_statement(statement(database, READY, [limit.into()]))
        .all(database)
        .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ReadyJob {
                key: JobKey(row.id),
                public_id: row.public_id.clone(),
                credential: row.credential_id.map(CredentialKey),
                resume: row.resume,
                spec: spec(row)?,
            })
        })
        .collect()
}

pub(crate) async fn token(
    database: &DatabaseConnection,
    seal: &Seal,
    key: CredentialKey,
) -> Result<Option<(AccessToken, i64)>, Trouble> {
    let Some(row) = credential::Entity::find_by_id(key.0).one(database).await? else {
        return Ok(None);
    };
    let token = seal.unseal(key, row.version, &row.sealed_token);
    let token = token.map_err(|error| Trouble::Refused(error.to_string()))?;
    Ok(Some((token, row.version)))
}

pub(crate) async fn sessions(
    database: &DatabaseConnection,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<SessionView>, Trouble> {
    let alive = Condition::any()
        .add(session::Column::Connected.eq(true))
        .add(session::Column::LeaseExpiresAt.gt(now.0));
    let rows = session::Entity::find()
        .filter(alive)
        .order_by_desc(session::Column::Id)
        .limit(limit as u64)
        .all(database)
        .await?;
    let views = rows.into_iter().map(|row| SessionView {
        key: SessionKey(row.id),
        name: row.name,
        identity: row.identity,
        server: row.server,
        connected: row.connected,
        opened_at: Timestamp(row.opened_at),
        lease_expires_at: Timestamp(row.lease_expires_at),
    });
    Ok(views.collect())
}

pub(crate) async fn errors(database: &DatabaseConnection, paging: Paging) -> Result<Page<ErrorView>, Trouble> {
    let rows = error_report::Entity::find()
        .filter(error_report::Column::Id.lt(before(paging)))
        .order_by_desc(error_report::Column::Id)
        .limit(one_more(paging).unsigned_abs())
        .all(database)
        .await?;
    let views = rows.into_iter().map(|row| ErrorView {
        id: row.id,
        at: Timestamp(row.at),
        category: row.category,
        severity: row.severity,
        code: row.code,
        job: row.job,
        connection: row.connection,
        message: row.message,
    });
    Ok(page(views.collect(), |view| view.id, paging))
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

fn unreadable(what: &str) -> Trouble {
    Trouble::Refused(format!("{what} cannot be read"))
}

fn view(named: NamedJob) -> Result<JobView, Trouble> {
    let row = named.job;
    Ok(JobView {
        key: JobKey(row.id),
        public_id: row.public_id.clone(),
        web_app_job_id: row.web_app_job_id.clone(),
        account_id: named.account_name.unwrap_or_default(),
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
        children: row.children,
        resume: row.resume,
        run_at: row.run_at.map(Timestamp),
        created_at: Timestamp(row.created_at),
        started_at: row.started_at.map(Timestamp),
        finished_at: row.finished_at.map(Timestamp),
        updated_at: Timestamp(row.updated_at),
        result: row.result.clone(),
        error: row.error.clone(),
        spec: spec(row)?,
    })
}

fn spec(row: job::Model) -> Result<JobSpec, Trouble> {
    Ok(JobSpec {
        job_type: JobType::named(&row.job_type).ok_or_else(|| unreadable("jobs.job_type"))?,
        host: row.host,
        entity_id: row.entity_id,
        namespace_path: row.namespace_path,
        entity_name: row.entity_name,
        priority: row.priority,
        provider: row.provider,
        user_id: row.user_id,
        created_by_user_id: row.created_by_user_id,
        tags: serde_json::from_str(&row.tags).map_err(|_| unreadable("jobs.tags"))?,
        metadata: row.metadata,
    })
}

/// Queries over `jobs`, with values in the place of parameters; for the test that asks the planner about them. The first
/// account has the key 2, after the first job.
#[cfg(feature = "testing")]
pub(crate) fn hot(backend: DbBackend) -> Vec<(String, String)> {
    let mut texts = vec![("ready".to_owned(), READY.replace("$1", "100"))];
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
