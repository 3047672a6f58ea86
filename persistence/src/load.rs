//! Rows a batch needs, locked.

use std::collections::BTreeSet;

use crawlwire_progress::plan::{Credential, LoadedJob, Needs, Session, Snapshot};
use crawlwire_progress::store::{Op, SWEEP_MAX};
use crawlwire_progress::view::Lineage;
use crawlwire_progress::{
    AccountKey, CredentialKey, Fence, Job, JobKey, PauseReason, Policy, SessionKey, State, Timestamp,
};
use sea_orm::QueryResult;
use serde_json::json;

use crate::connection::{Cells, Connection};
use crate::error::Trouble;
use crate::sql::{self, Sql};

/// Loads and locks what these operations speak of. `keys` are fresh ones, as many as needed.
pub(crate) async fn snapshot(
    connection: &mut Connection,
    ops: &[Op],
    needs: &Needs,
    policy: &Policy,
    now: Timestamp,
    keys: Vec<i64>,
) -> Result<Snapshot, Trouble> {
    let mut snapshot = Snapshot {
        now: Some(now),
        keys,
        ..Snapshot::default()
    };
    load_jobs(connection, needs, policy, now, &mut snapshot).await?;
    load_sessions(connection, needs, &mut snapshot).await?;
    load_accounts(connection, needs, &mut snapshot).await?;
    if !needs.web_app_job_ids.is_empty() {
        let names = json!({"names": needs.web_app_job_ids});
        for row in fetch(connection, sql::LOAD_NAMES, &names).await? {
            let mut cells = Cells::of(&row);
            snapshot.web_app_job_ids.insert(cells.next()?, cells.next()?);
        }
    }
    let identities = snapshot.identities(ops);
    if !identities.is_empty() {
        let identities = json!({"identities": identities});
        for row in fetch(connection, sql::LOAD_IDENTITIES, &identities).await? {
            snapshot.identities.insert(Cells::of(&row).next()?);
        }
    }
    if !needs.accounts.is_empty() {
        // Submissions name accounts, and nothing else asks for the backlog.
        let rows = connection.fetch(sql::LOAD_BACKLOG, None).await?;
        let waiting: i64 = rows.first().map_or(Ok(0), |row| Cells::of(row).next())?;
        snapshot.backlog = u64::try_from(waiting).unwrap_or(0);
    }
    Ok(snapshot)
}

async fn fetch(
    connection: &mut Connection,
    sql: Sql,
    parameter: &serde_json::Value,
) -> Result<Vec<QueryResult>, Trouble> {
    connection.fetch(sql, Some(parameter.to_string())).await
}

async fn load_jobs(
    connection: &mut Connection,
    needs: &Needs,
    policy: &Policy,
    now: Timestamp,
    snapshot: &mut Snapshot,
) -> Result<(), Trouble> {
    let named = !(needs.jobs.is_empty() && needs.public_ids.is_empty());
    let mut rows = Vec::new();
    if named {
        let keys = json!({"jobs": needs.jobs, "public_ids": needs.public_ids, "parents": needs.parents});
        rows = fetch(connection, sql::LOAD_JOBS, &keys).await?;
    }
    if needs.sweep {
        let accept = i64::try_from(policy.accept_timeout.as_millis()).unwrap_or(i64::MAX);
        let moments = json!({"now": now, "accepted": now.0.saturating_sub(accept), "limit": SWEEP_MAX});
        rows.extend(fetch(connection, sql::LOAD_DUE, &moments).await?);
    }
    for row in &rows {
        let loaded = job(row)?;
        snapshot.jobs.insert(loaded.job.key, loaded);
    }
    Ok(())
}

async fn load_sessions(connection: &mut Connection, needs: &Needs, snapshot: &mut Snapshot) -> Result<(), Trouble> {
    let holders = snapshot.jobs.values().filter_map(|loaded| loaded.job.session);
    let ids: BTreeSet<SessionKey> = needs.sessions.iter().copied().chain(holders).collect();
    if ids.is_empty() {
        return Ok(());
    }
    for row in fetch(connection, sql::LOAD_SESSIONS, &json!({"ids": ids})).await? {
        let mut cells = Cells::of(&row);
        let session = Session {
            key: SessionKey(cells.next()?),
            name: cells.next::<String>()?.into(),
            identity: cells.next()?,
            connected: cells.next()?,
            lease_expires_at: Timestamp(cells.next()?),
        };
        snapshot.sessions.insert(session.key, session);
    }
    Ok(())
}

async fn load_accounts(connection: &mut Connection, needs: &Needs, snapshot: &mut Snapshot) -> Result<(), Trouble> {
    let pairs = needs.credentials.iter().map(|(account, host)| (account, Some(host)));
    let bare = needs.accounts.iter().map(|account| (account, None));
    let places: Vec<_> = pairs
        .chain(bare)
        .map(|(account, host)| json!({"account": account, "host": host}))
        .collect();
    if places.is_empty() {
        return Ok(());
    }
    for row in fetch(connection, sql::LOAD_ACCOUNTS, &places.into()).await? {
        let mut cells = Cells::of(&row);
        let (name, account): (String, i64) = (cells.next()?, cells.next()?);
        snapshot.accounts.insert(name.clone(), AccountKey(account));
        let (host, key, version): (Option<String>, Option<i64>, Option<i64>) =
            (cells.next()?, cells.next()?, cells.next()?);
        if let (Some(host), Some(key), Some(version)) = (host, key, version) {
            let key = CredentialKey(key);
            snapshot.credentials.insert((name, host), Credential { key, version });
        }
    }
    Ok(())
}

/// A row of [`sql::LOAD_JOBS`], in the order of its columns.
fn job(row: &QueryResult) -> Result<LoadedJob, Trouble> {
    let mut cells = Cells::of(row);
    let key = JobKey(cells.next()?);
    let (public_id, host) = (cells.next()?, cells.next()?);
    let (provider, user_id) = (cells.next()?, cells.next()?);
    let lineage = Lineage {
        parent: cells.next::<Option<i64>>()?.map(JobKey),
        root: JobKey(cells.next()?),
        depth: cells.next()?,
        generation: cells.next()?,
        account: AccountKey(cells.next()?),
        credential: cells.next::<Option<i64>>()?.map(CredentialKey),
    };
    let (children, tree_jobs) = (cells.next()?, cells.next()?);
    let job = Job {
        key,
        state: state(&cells.next::<String>()?)?,
        pause_reason: cells.next::<Option<String>>()?.as_deref().and_then(PauseReason::named),
        fence: Fence(cells.next()?),
        session: cells.next::<Option<i64>>()?.map(SessionKey),
        attempt: cells.next()?,
        failures: cells.next()?,
        misses: cells.next()?,
        run_at: cells.next::<Option<i64>>()?.map(Timestamp),
        assigned_at: cells.next::<Option<i64>>()?.map(Timestamp),
        started_at: cells.next::<Option<i64>>()?.map(Timestamp),
        deadline: cells.next::<Option<i64>>()?.map(Timestamp),
        finished_at: cells.next::<Option<i64>>()?.map(Timestamp),
        resume: cells.next()?,
    };
    Ok(LoadedJob {
        job,
        public_id,
        host,
        provider,
        user_id,
        lineage,
        children,
        tree_jobs,
    })
}

/// A state by its name in the database.
pub(crate) fn state(name: &str) -> Result<State, Trouble> {
    State::named(name).ok_or_else(|| Trouble::Refused(format!("the status `{name}` is not known")))
}
