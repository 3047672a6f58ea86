//! Rows a plan changes.

mod progress;
mod watches;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crawlwire_progress::admit::{ClosedGate, Gate};
use crawlwire_progress::job::{JobLimits, Tree};
use crawlwire_progress::plan::{ChangedJob, GRANTS_MAX, NewArea, NewEvent, NewJobRow, Opening, Plan, Session};
use crawlwire_progress::{Arrow, Job, JobKey, State, Timestamp};
use serde::Serialize;
use serde_json::json;

use crate::connection::Connection;
use crate::error::Trouble;
use crate::seal::Seal;
use crate::sql::{self, Sql};

/// Writes a plan, in the order it asks for, with at most one statement for each kind of row.
pub(crate) async fn plan(
    connection: &mut Connection,
    plan: &Plan,
    now: Timestamp,
    seal: &Seal,
    shard: u8,
) -> Result<(), Trouble> {
    let mut rows = Rows { connection };
    recoveries(&mut rows, plan, now).await?;
    openings(&mut rows, &plan.openings).await?;
    rows.all(sql::CLOSE_GATES, plan.closings.iter().map(closing)).await?;
    let accounts = plan.new_accounts.iter();
    rows.all(
        sql::INSERT_ACCOUNTS,
        accounts.map(|(id, name)| json!({"id": id, "name": name, "created_at": now})),
    )
    .await?;
    credentials(&mut rows, plan, now, seal).await?;
    sessions(&mut rows, plan, now).await?;
    rows.all(sql::INSERT_JOBS, plan.new_jobs.iter().map(|new| new_job(new, now)))
        .await?;
    rows.all(sql::UPDATE_JOBS, plan.changed.iter().map(|job| changed_job(job, now)))
        .await?;
    rows.all(sql::INSERT_EVENTS, plan.events.iter().map(|new| event(new, now)))
        .await?;
    progress::write(&mut rows, plan, now).await?;
    checkpoints(&mut rows, plan, now).await?;
    tokens(&mut rows, plan, now).await?;
    errors(&mut rows, plan).await?;
    areas(&mut rows, &plan.areas, now).await?;
    let audits = plan.audits.iter().map(
        |audit| json!({"at": now, "by": audit.by, "act": audit.act, "target": audit.target, "detail": audit.detail}),
    );
    rows.all(sql::INSERT_AUDIT, audits).await?;
    let deleted = deleted(plan);
    let gone = deleted
        .iter()
        .map(|(id, state)| json!({"id": id, "status": state.as_str()}));
    rows.all(sql::DELETE_JOBS, gone).await?;
    if !plan.deleted_errors.is_empty() {
        rows.one(sql::DELETE_ERRORS, &json!({"ids": plan.deleted_errors}))
            .await?;
    }
    if let Some(before) = plan.forget_sessions_before {
        rows.one(sql::FORGET_SESSIONS, &json!({"before": before})).await?;
    }
    watches::write(&mut rows, plan, now).await?;
    // Last, because servers whose names fall on one shard wait for each other from here on.
    let accounts = plan
        .account_changes
        .iter()
        .filter(|(_, change)| change.open != 0 || change.held != 0);
    let accounts = accounts.map(
        |(account, change)| json!({"account_id": account, "shard": shard, "open": change.open, "held": change.held}),
    );
    rows.all(sql::COUNT_ACCOUNTS, accounts).await?;
    rows.all(sql::COUNT, counts(plan, &deleted, shard)).await
}

/// Whether a dispatcher elsewhere may find something new after this.
pub(crate) fn is_news(plan: &Plan) -> bool {
    let gates = plan.openings.len() + plan.closings.len();
    gates + plan.new_jobs.len() + plan.changed.len() + plan.deleted.len() + plan.recoveries.len() > 0
}

/// Jobs that go, each once: two operations of a batch may have chosen the same.
fn deleted(plan: &Plan) -> BTreeMap<JobKey, State> {
    plan.deleted.iter().copied().collect()
}

struct Rows<'a> {
    connection: &'a mut Connection,
}

impl Rows<'_> {
    /// Writes rows that all have to be written: one that is not was changed by somebody else since it was loaded.
    async fn all<T: Serialize>(&mut self, sql: Sql, rows: impl Iterator<Item = T>) -> Result<(), Trouble> {
        let (sent, written) = self.some(sql, rows).await?;
        if written == sent {
            Ok(())
        } else {
            Err(Trouble::Again(format!("{written} of {sent} rows were as expected")))
        }
    }

    /// Writes rows that may be left out by the statement's own condition.
    async fn some<T: Serialize>(&mut self, sql: Sql, rows: impl Iterator<Item = T>) -> Result<(u64, u64), Trouble> {
        let rows: Vec<T> = rows.collect();
        if rows.is_empty() {
            return Ok((0, 0));
        }
        Ok((rows.len() as u64, self.one(sql, &rows).await?))
    }

    async fn one(&mut self, sql: Sql, parameter: &impl Serialize) -> Result<u64, Trouble> {
        let parameter = serde_json::to_string(parameter).map_err(|error| Trouble::Refused(error.to_string()))?;
        self.connection.execute(sql, Some(parameter)).await
    }
}

/// Jobs before sessions, as everybody locks them.
async fn recoveries(rows: &mut Rows<'_>, plan: &Plan, now: Timestamp) -> Result<(), Trouble> {
    let Some(until) = plan.recoveries.iter().map(|recovery| recovery.lease_until).max() else {
        return Ok(());
    };
    let gone = plan.recoveries.iter().filter(|recovery| !recovery.connected);
    let gone: Vec<_> = gone.map(|recovery| &recovery.server).collect();
    rows.one(sql::RECOVER_JOBS, &json!({"now": now, "gone": gone, "until": until}))
        .await?;
    rows.one(
        sql::RECOVER_SESSIONS,
        &json!({"gone": gone, "until": until, "grants": GRANTS_MAX}),
    )
    .await?;
    Ok(())
}

/// Every gate that was closed for a while has to be there still, or its jobs get their time twice.
async fn openings(rows: &mut Rows<'_>, openings: &[Opening]) -> Result<(), Trouble> {
    let mut openings: Vec<_> = openings.iter().collect();
    openings.sort_by(|one, other| one.gate.gate.cmp(&other.gate.gate));
    // One that opens in the moment in which it was closed may never have been written.
    let (fresh, stood): (Vec<_>, Vec<_>) = openings.into_iter().partition(|opening| opening.closed_for.is_zero());
    rows.some(sql::OPEN_GATES, fresh.iter().map(|opening| closing(&opening.gate)))
        .await?;
    rows.all(sql::OPEN_GATES, stood.iter().map(|opening| closing(&opening.gate)))
        .await?;
    let stopped = stood.iter().filter(|opening| opening.gate.gate.stops_deadlines());
    let moved = stopped.map(|opening| {
        let (account, host) = place(&opening.gate);
        json!({"account_id": account, "host": host, "moved": millis(opening.closed_for)})
    });
    rows.some(sql::MOVE_DEADLINES, moved).await?;
    Ok(())
}

fn closing(closed: &ClosedGate) -> serde_json::Value {
    let (account, host) = place(closed);
    json!({
        "kind": closed.gate.kind(), "account_id": account, "host": host, "closed_at": closed.closed_at,
        "until": closed.until, "reason": closed.reason, "by": closed.by,
    })
}

/// The account's row, 0 for none, and the host, empty for none.
fn place(closed: &ClosedGate) -> (i64, &str) {
    let host = match &closed.gate {
        Gate::Queue => "",
        Gate::Host(host) | Gate::Credentials { host, .. } => host,
    };
    (closed.account.map_or(0, |account| account.0), host)
}

/// Each place once, in the same order everywhere, so that two servers that find the same do not lock each other out.
async fn areas(rows: &mut Rows<'_>, areas: &BTreeSet<NewArea>, now: Timestamp) -> Result<(), Trouble> {
    let places: BTreeMap<_, _> = areas
        .iter()
        .map(|area| ((&area.host, area.kind, &area.entity_id), area))
        .collect();
    let places = places.into_values().map(|area| {
        json!({
            "host": area.host, "kind": area.kind, "entity_id": area.entity_id, "path": area.path, "name": area.name,
            "created_at": now, "updated_at": now,
        })
    });
    rows.some(sql::WRITE_AREAS, places).await?;
    let seen: BTreeMap<_, _> = areas
        .iter()
        .map(|area| ((area.account, &area.host, area.kind, &area.entity_id), area))
        .collect();
    let seen = seen.into_values().map(|area| {
        json!({
            "account_id": area.account, "host": area.host, "kind": area.kind, "entity_id": area.entity_id, "since": now,
        })
    });
    rows.some(sql::WRITE_ACCOUNT_AREAS, seen).await?;
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

async fn credentials(rows: &mut Rows<'_>, plan: &Plan, now: Timestamp, seal: &Seal) -> Result<(), Trouble> {
    let mut sealed = Vec::with_capacity(plan.credentials.len());
    for write in &plan.credentials {
        let token = seal.seal(write.key, write.version, &write.token);
        let token = token.map_err(|error| Trouble::Busy(error.to_string()))?;
        sealed.push(json!({
            "id": write.key, "account_id": write.account, "host": write.host, "version": write.version,
            "sealed_token": token, "updated_at": now,
        }));
    }
    rows.all(sql::WRITE_CREDENTIALS, sealed.into_iter()).await
}

async fn sessions(rows: &mut Rows<'_>, plan: &Plan, now: Timestamp) -> Result<(), Trouble> {
    let refused = |it: &Session| (!it.refused.is_empty()).then(|| json!(it.refused).to_string());
    let new = plan.new_sessions.iter().map(|(session, new)| {
        let instance = new.instance.as_ref();
        json!({
            "id": session.key, "name": *session.name, "identity": session.identity, "server": new.server,
            "connected": session.connected, "capabilities": json!(new.capabilities).to_string(),
            "confirms": session.confirms, "opened_at": now, "lease_expires_at": session.lease_expires_at,
            "epoch": session.epoch, "high_water": session.high_water, "high_water_fingerprint": session.fingerprint,
            "instance_id": instance.map(|it| &it.id), "crawler_id": instance.map(|it| &it.crawler_id),
            "principal": instance.map(|it| &it.principal), "refused": refused(session),
        })
    });
    rows.all(sql::INSERT_SESSIONS, new).await?;
    let reopened = plan.reopened.iter().map(|(id, new)| {
        json!({
            "id": id, "name": *new.name, "identity": new.identity, "server": new.server,
            "capabilities": json!(new.capabilities).to_string(), "confirms": new.confirms,
            "crawler_id": new.instance.as_ref().map(|it| &it.crawler_id),
        })
    });
    rows.all(sql::REOPEN_SESSIONS, reopened).await?;
    let known = plan.sessions.iter().map(|session| {
        json!({
            "id": session.key, "connected": session.connected, "lease_expires_at": session.lease_expires_at,
            "grants": session.grants, "epoch": session.epoch, "high_water": session.high_water,
            "high_water_fingerprint": session.fingerprint, "refused": refused(session),
        })
    });
    rows.all(sql::UPDATE_SESSIONS, known).await
}

async fn checkpoints(rows: &mut Rows<'_>, plan: &Plan, now: Timestamp) -> Result<(), Trouble> {
    let kept = plan
        .checkpoints
        .iter()
        .map(|(job, kept)| json!({"job_id": job, "attempt": kept.attempt, "cursor": kept.cursor, "updated_at": now}));
    rows.all(sql::WRITE_CHECKPOINTS, kept).await
}

async fn tokens(rows: &mut Rows<'_>, plan: &Plan, now: Timestamp) -> Result<(), Trouble> {
    let new = plan
        .new_tokens
        .iter()
        .map(|new| json!({"id": new.key, "name": new.name, "role": new.role, "hash": new.hash, "created_at": now}));
    rows.all(sql::INSERT_TOKENS, new).await?;
    let revoked = plan.revoked_tokens.iter();
    rows.some(
        sql::REVOKE_TOKENS,
        revoked.map(|id| json!({"id": id, "revoked_at": now})),
    )
    .await?;
    let used = plan.used_tokens.iter();
    rows.some(sql::USE_TOKENS, used.map(|id| json!({"id": id, "last_used_at": now})))
        .await?;
    Ok(())
}

/// A job to insert; the names are those of the columns.
#[derive(Serialize)]
struct NewJob<'a> {
    id: JobKey,
    public_id: &'a str,
    web_app_job_id: &'a str,
    identity: &'a str,
    account_id: i64,
    credential_id: Option<i64>,
    parent_id: Option<JobKey>,
    root_id: JobKey,
    depth: i32,
    generation: &'a str,
    job_type: &'a str,
    command: &'a str,
    host: &'a str,
    entity_id: Option<&'a str>,
    namespace_path: Option<&'a str>,
    entity_name: Option<&'a str>,
    provider: Option<&'a str>,
    user_id: Option<&'a str>,
    created_by_user_id: Option<&'a str>,
    labels: String,
    tags: String,
    metadata: Option<&'a str>,
    timeout_ms: Option<i64>,
    retry_attempts: Option<u32>,
    retry_delay_ms: Option<i64>,
    lane: i64,
    weight: u64,
    once_key: Option<&'a str>,
    once_fingerprint: Option<i64>,
    created_at: Timestamp,
    #[serde(flatten)]
    moving: Moving,
}

/// The columns that arrows change.
#[derive(Serialize)]
struct Moving {
    status: &'static str,
    pause_reason: Option<&'static str>,
    fence: i64,
    session_id: Option<i64>,
    attempt: i32,
    failures: i32,
    misses: i32,
    run_at: Option<Timestamp>,
    assigned_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    deadline: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    resume: bool,
    want: Option<&'static str>,
    want_deadline: Option<Timestamp>,
    priority: f64,
    due: i64,
    children: i64,
    tree_jobs: i64,
    tree_weight: u64,
    tree_weighed: u64,
    open_children: i64,
    failed_children: i64,
    tree_status: &'static str,
    settled_at: Option<Timestamp>,
    updated_at: Timestamp,
}

fn moving(job: &Job, tree: &Tree, now: Timestamp) -> Moving {
    Moving {
        status: job.state.as_str(),
        pause_reason: job.pause_reason.map(|reason| reason.as_str()),
        fence: job.fence.0,
        session_id: job.session.map(|session| session.0),
        attempt: job.attempt,
        failures: job.failures,
        misses: job.misses,
        run_at: job.run_at,
        assigned_at: job.assigned_at,
        started_at: job.started_at,
        deadline: job.deadline,
        finished_at: job.finished_at,
        resume: job.resume,
        want: job.want.map(|want| want.as_str()),
        want_deadline: job.want_deadline,
        priority: job.priority,
        due: job.due,
        children: tree.children,
        tree_jobs: tree.jobs,
        tree_weight: tree.weighed.items,
        tree_weighed: tree.weighed.jobs,
        open_children: tree.open_children,
        failed_children: tree.failed_children,
        tree_status: tree.status.as_str(),
        settled_at: tree.settled_at,
        updated_at: now,
    }
}

fn new_job(new: &NewJobRow, now: Timestamp) -> NewJob<'_> {
    let spec = &new.spec;
    let JobLimits {
        timeout,
        retry_attempts,
        retry_delay,
    } = new.job.limits;
    NewJob {
        id: new.job.key,
        public_id: &new.public_id,
        web_app_job_id: &new.web_app_job_id,
        identity: &new.identity,
        account_id: new.lineage.account.0,
        credential_id: new.lineage.credential.map(|credential| credential.0),
        parent_id: new.lineage.parent,
        root_id: new.lineage.root,
        depth: new.lineage.depth,
        generation: &new.lineage.generation,
        job_type: spec.job_type.as_str(),
        command: spec.job_type.command(),
        host: &spec.host,
        entity_id: spec.entity_id.as_deref(),
        namespace_path: spec.namespace_path.as_deref(),
        entity_name: spec.entity_name.as_deref(),
        provider: spec.provider.as_deref(),
        user_id: spec.user_id.as_deref(),
        created_by_user_id: spec.created_by_user_id.as_deref(),
        labels: json!(spec.labels).to_string(),
        tags: json!(spec.tags).to_string(),
        metadata: spec.metadata.as_deref(),
        timeout_ms: timeout.map(millis),
        retry_attempts,
        retry_delay_ms: retry_delay.map(millis),
        lane: new.lane,
        weight: new.weight,
        once_key: new.once.as_ref().map(|once| once.key.as_str()),
        once_fingerprint: new.once.as_ref().map(|once| once.fingerprint),
        created_at: now,
        moving: moving(&new.job, &new.tree(), now),
    }
}

#[derive(Serialize)]
struct Changed<'a> {
    id: JobKey,
    status_before: &'static str,
    fence_before: i64,
    result: Option<&'a str>,
    error: Option<&'a str>,
    #[serde(flatten)]
    moving: Moving,
}

fn changed_job(changed: &ChangedJob, now: Timestamp) -> Changed<'_> {
    Changed {
        id: changed.job.key,
        status_before: changed.before.0.as_str(),
        fence_before: changed.before.1.0,
        result: changed.result.as_deref(),
        error: changed.error.as_deref(),
        moving: moving(&changed.job, &changed.tree, now),
    }
}

#[derive(Serialize)]
struct Event<'a> {
    job_id: JobKey,
    at: Timestamp,
    arrows: String,
    status: &'static str,
    fence: i64,
    attempt: i32,
    session: Option<&'a str>,
}

fn event(new: &NewEvent, now: Timestamp) -> Event<'_> {
    let arrows: Vec<_> = new.arrows.iter().copied().map(Arrow::as_str).collect();
    Event {
        job_id: new.job,
        at: now,
        arrows: arrows.join(","),
        status: new.state.as_str(),
        fence: new.fence.0,
        attempt: new.attempt,
        session: new.session.as_deref(),
    }
}

async fn errors(rows: &mut Rows<'_>, plan: &Plan) -> Result<(), Trouble> {
    let errors = plan.errors.iter().map(|error| {
        json!({
            "at": error.at, "category": error.category, "severity": error.severity, "code": error.code,
            "job": error.job, "connection": error.connection, "message": error.message,
        })
    });
    rows.all(sql::INSERT_ERRORS, errors).await
}

/// How the number of jobs in each status changes.
fn counts(plan: &Plan, deleted: &BTreeMap<JobKey, State>, shard: u8) -> impl Iterator<Item = serde_json::Value> {
    let mut changes = BTreeMap::<State, i64>::new();
    for new in &plan.new_jobs {
        *changes.entry(new.job.state).or_default() += 1;
    }
    for changed in &plan.changed {
        *changes.entry(changed.before.0).or_default() -= 1;
        *changes.entry(changed.job.state).or_default() += 1;
    }
    for state in deleted.values() {
        *changes.entry(*state).or_default() -= 1;
    }
    changes
        .into_iter()
        .filter(|(_, change)| *change != 0)
        .map(move |(state, change)| json!({"shard": shard, "status": state.as_str(), "jobs": change}))
}
