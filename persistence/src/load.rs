//! Rows a batch needs, locked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crawlwire_progress::admit::{ClosedGate, Gate};
use crawlwire_progress::job::{JobLimits, Tree};
use crawlwire_progress::plan::{
    AccountCounts, Credential, KeptReport, LoadedJob, Needs, Selection, Session, Snapshot, TreeProgress,
};
use crawlwire_progress::store::{Op, OwnLease, RefusedNumbers, SELECTED_MAX};
use crawlwire_progress::sums::Sum;
use crawlwire_progress::view::Lineage;
use crawlwire_progress::weight::{Size, Weighed};
use crawlwire_progress::{
    AccountKey, CredentialKey, Epoch, Fence, Job, JobKey, PauseReason, SessionKey, State, Timestamp, TokenKey,
    TreeStatus, Want,
};
use crawlwire_protocol::message::JobType;
use sea_orm::{DbBackend, QueryResult};
use serde_json::json;

use crate::alive;
use crate::choose::{Chosen, choose};
use crate::config::DatabaseConfig;
use crate::connection::{Cells, Connection};
use crate::error::Trouble;
use crate::seal::Seal;
use crate::sql::{self, Sql};

/// Loads and locks what these operations speak of. `keys` are fresh ones, as many as needed.
pub(crate) async fn snapshot(
    connection: &mut Connection,
    ops: &[Op],
    needs: &Needs,
    config: &DatabaseConfig,
    seal: &Seal,
    (now, keys): (Timestamp, Vec<i64>),
) -> Result<Snapshot, Trouble> {
    let policy = &config.policy;
    let mut snapshot = Snapshot {
        now: Some(now),
        keys,
        ..Snapshot::default()
    };
    let chosen = choose(connection, needs, policy, now).await?;
    load_jobs(connection, needs, chosen, &mut snapshot).await?;
    load_sums(connection, needs, &mut snapshot).await?;
    load_sessions(connection, needs, &mut snapshot).await?;
    if needs.takeovers && connection.backend() == DbBackend::Postgres {
        alive::note_orphans(connection, &config.server, &mut snapshot).await?;
    }
    load_accounts(connection, needs, seal, &mut snapshot).await?;
    load_tokens(connection, needs, &mut snapshot).await?;
    if !needs.web_app_job_ids.is_empty() {
        let names = json!({"names": needs.web_app_job_ids});
        for row in fetch(connection, sql::LOAD_NAMES, &names).await? {
            let mut cells = Cells::of(&row);
            snapshot.web_app_job_ids.insert(cells.next()?, cells.next()?);
        }
    }
    if !needs.once.is_empty() {
        for row in fetch(connection, sql::LOAD_ONCE, &json!({"keys": needs.once})).await? {
            let mut cells = Cells::of(&row);
            let key = cells.next()?;
            snapshot.once.insert(key, (cells.next()?, cells.next()?));
        }
    }
    let identities = snapshot.identities(ops);
    if !identities.is_empty() {
        let identities = json!({"identities": identities});
        for row in fetch(connection, sql::LOAD_IDENTITIES, &identities).await? {
            snapshot.identities.insert(Cells::of(&row).next()?);
        }
    }
    if needs.gates {
        for row in connection.fetch(sql::LOAD_GATES, None).await? {
            snapshot.gates.push(gate(&row)?);
        }
    }
    let shares = needs.account_shares && policy.account_held_max.is_some();
    if needs.account_counts || shares {
        load_account_counts(connection, shares, &mut snapshot).await?;
    }
    if let Some(before) = needs.errors_before {
        let old = json!({"before": before, "limit": SELECTED_MAX});
        for row in fetch(connection, sql::LOAD_OLD_ERRORS, &old).await? {
            snapshot.old_errors.push(Cells::of(&row).next()?);
        }
    }
    if needs.backlog {
        let rows = connection.fetch(sql::LOAD_BACKLOG, None).await?;
        let waiting: i64 = rows.first().map_or(Ok(0), |row| Cells::of(row).next())?;
        snapshot.backlog = u64::try_from(waiting).unwrap_or(0);
    }
    Ok(snapshot)
}

pub(crate) async fn fetch(
    connection: &mut Connection,
    sql: Sql,
    parameter: &serde_json::Value,
) -> Result<Vec<QueryResult>, Trouble> {
    connection.fetch(sql, Some(parameter.to_string())).await
}

/// Locks and loads all jobs at once.
async fn load_jobs(
    connection: &mut Connection,
    needs: &Needs,
    chosen: Chosen,
    snapshot: &mut Snapshot,
) -> Result<(), Trouble> {
    let families: BTreeSet<JobKey> = needs.families.union(&chosen.families).copied().collect();
    if !(needs.jobs.is_empty() && needs.public_ids.is_empty() && families.is_empty()) {
        let keys = json!({"jobs": needs.jobs, "public_ids": needs.public_ids, "families": families});
        for row in fetch(connection, sql::LOAD_JOBS, &keys).await? {
            let loaded = job(&row)?;
            snapshot.jobs.insert(loaded.job.key, loaded);
        }
    }
    snapshot.selected = chosen.selected;
    for (selection, found) in &mut snapshot.selected {
        if matches!(selection, Selection::Below { .. } | Selection::Redrivable { .. }) {
            // Chosen before they were locked, and so in another state by now, or gone.
            found.jobs.retain_mut(|(key, state)| {
                let loaded = snapshot.jobs.get(key);
                *state = loaded.map_or(*state, |loaded| loaded.job.state);
                loaded.is_some()
            });
        }
    }
    Ok(())
}

/// Stored reports, and what trees add up to. After the jobs, which whoever writes a report locks first.
async fn load_sums(connection: &mut Connection, needs: &Needs, snapshot: &mut Snapshot) -> Result<(), Trouble> {
    let jobs = &snapshot.jobs;
    let reporting: BTreeMap<_, _> = needs
        .reports
        .iter()
        .filter_map(|key| Some((*key, jobs.get(key)?.lineage.root)))
        .collect();
    let settling = jobs
        .values()
        .filter(|loaded| needs.settles && loaded.lineage.parent.is_none());
    let settling = settling.map(|loaded| loaded.job.key);
    let roots: BTreeSet<JobKey> = reporting.values().copied().chain(settling).collect();
    if !reporting.is_empty() {
        let keys: Vec<_> = reporting.keys().collect();
        for row in fetch(connection, sql::LOAD_REPORTS, &json!({"jobs": keys})).await? {
            let mut cells = Cells::of(&row);
            let job = JobKey(cells.next()?);
            let weight = jobs.get(&job).map_or(0, |loaded| loaded.weight);
            snapshot.reports.insert(job, kept_report(&mut cells, weight)?);
        }
        if connection.backend() == DbBackend::Postgres {
            let begin: BTreeSet<_> = reporting.values().collect();
            let begin = json!({"begin": begin}).to_string();
            connection.fetch_text(sql::BEGIN_TREES, Some(begin)).await?;
        }
    }
    if roots.is_empty() {
        return Ok(());
    }
    for row in fetch(connection, sql::LOAD_TREES, &json!({"roots": roots})).await? {
        let mut cells = Cells::of(&row);
        let root = JobKey(cells.next()?);
        let tree = TreeProgress {
            sum: Sum {
                jobs_reported: count(cells.next()?),
                done: count(cells.next()?),
                expected: count(cells.next()?),
                open_jobs: count(cells.next()?),
                weighed: weighed(&mut cells)?,
            },
            reached: u8::try_from(cells.next::<i32>()?).unwrap_or(0),
            is_open: cells.next()?,
            size: Size {
                jobs: count(cells.next()?).saturating_add(1),
                weighed: weighed(&mut cells)?,
            },
        };
        snapshot.trees.insert(root, tree);
    }
    Ok(())
}

/// The rest of a row of [`sql::LOAD_REPORTS`], of a job with a weight.
fn kept_report(cells: &mut Cells<'_>, weight: u64) -> Result<KeptReport, Trouble> {
    let (attempt, n, updated_at) = (cells.next()?, cells.next()?, Timestamp(cells.next()?));
    let (done, expected): (Option<i64>, Option<i64>) = (cells.next()?, cells.next()?);
    let open: Option<bool> = cells.next()?;
    Ok(KeptReport {
        attempt,
        n,
        updated_at,
        sum: done.zip(expected).zip(open).map(|((done, expected), open)| Sum {
            jobs_reported: 1,
            done: count(done),
            expected: count(expected),
            open_jobs: u64::from(open),
            weighed: Weighed::of(weight),
        }),
    })
}

/// What jobs weigh, and how many do.
pub(crate) fn weighed(cells: &mut Cells<'_>) -> Result<Weighed, Trouble> {
    Ok(Weighed {
        items: count(cells.next()?),
        jobs: count(cells.next()?),
    })
}

/// A count as it is kept; none is below zero.
pub(crate) fn count(kept: i64) -> u64 {
    u64::try_from(kept).unwrap_or(0)
}

/// With `locked`, servers count one after the other, so that they do not exceed together what an account may hold.
async fn load_account_counts(
    connection: &mut Connection,
    locked: bool,
    snapshot: &mut Snapshot,
) -> Result<(), Trouble> {
    let accounts: BTreeSet<AccountKey> = snapshot.jobs.values().map(|loaded| loaded.lineage.account).collect();
    if accounts.is_empty() {
        return Ok(());
    }
    let accounts = json!({"accounts": accounts});
    if locked && connection.backend() == DbBackend::Postgres {
        connection
            .fetch_text(sql::LOCK_ACCOUNTS, Some(accounts.to_string()))
            .await?;
    }
    for row in fetch(connection, sql::LOAD_ACCOUNT_COUNTS, &accounts).await? {
        let mut cells = Cells::of(&row);
        let account = AccountKey(cells.next()?);
        let (open, held) = (cells.next()?, cells.next()?);
        snapshot.account_counts.insert(account, AccountCounts { open, held });
    }
    Ok(())
}

async fn load_sessions(connection: &mut Connection, needs: &Needs, snapshot: &mut Snapshot) -> Result<(), Trouble> {
    let holders = snapshot.jobs.values().filter_map(|loaded| loaded.job.session);
    let ids: BTreeSet<SessionKey> = needs.sessions.iter().copied().chain(holders).collect();
    if ids.is_empty() && needs.instances.is_empty() {
        return Ok(());
    }
    let named = json!({"ids": ids, "instances": needs.instances});
    for row in fetch(connection, sql::LOAD_SESSIONS, &named).await? {
        let mut cells = Cells::of(&row);
        let session = Session {
            key: SessionKey(cells.next()?),
            name: cells.next::<String>()?.into(),
            identity: cells.next()?,
            connected: cells.next()?,
            lease_expires_at: Timestamp(cells.next()?),
            confirms: cells.next()?,
            grants: cells.next()?,
            epoch: Epoch(cells.next()?),
            high_water: cells.next()?,
            fingerprint: cells.next()?,
            principal: cells.next()?,
            refused: refused(cells.next()?)?,
        };
        let instance: Option<String> = cells.next()?;
        if let Some(instance) = instance.filter(|instance| needs.instances.contains(instance)) {
            snapshot.instances.insert(instance, session.key);
        }
        snapshot.sessions.insert(session.key, session);
    }
    load_leases(connection, snapshot).await
}

fn refused(json: Option<String>) -> Result<RefusedNumbers, Trouble> {
    let Some(json) = json else {
        return Ok(RefusedNumbers::default());
    };
    serde_json::from_str(&json)
        .map_err(|_| Trouble::Refused("the refused numbers of a session cannot be read".to_owned()))
}

/// After the sessions were locked: whoever gives them a job, or takes one from them, locks them too.
async fn load_leases(connection: &mut Connection, snapshot: &mut Snapshot) -> Result<(), Trouble> {
    if snapshot.instances.is_empty() {
        return Ok(());
    }
    let sessions: Vec<_> = snapshot.instances.values().collect();
    for row in fetch(connection, sql::LOAD_LEASES, &json!({"sessions": sessions})).await? {
        let mut cells = Cells::of(&row);
        let session = SessionKey(cells.next()?);
        let lease = OwnLease {
            key: JobKey(cells.next()?),
            public_id: cells.next()?,
            fence: Fence(cells.next()?),
            attempt: cells.next()?,
            state: state(&cells.next::<String>()?)?,
            want: cells.next::<Option<String>>()?.as_deref().and_then(Want::named),
            credential: cells.next::<Option<i64>>()?.map(CredentialKey),
        };
        snapshot.leases.entry(session).or_default().push(lease);
    }
    Ok(())
}

async fn load_tokens(connection: &mut Connection, needs: &Needs, snapshot: &mut Snapshot) -> Result<(), Trouble> {
    if needs.tokens.is_empty() {
        return Ok(());
    }
    for row in fetch(connection, sql::LOAD_TOKENS, &json!({"names": needs.tokens})).await? {
        let mut cells = Cells::of(&row);
        let (name, key): (String, i64) = (cells.next()?, cells.next()?);
        let revoked = cells.next::<Option<i64>>()?.is_some();
        snapshot.tokens_by_name.insert(name, (TokenKey(key), revoked));
    }
    let rows = connection.fetch(sql::LAST_TOKEN, None).await?;
    snapshot.last_token = rows.first().map_or(Ok(0), |row| Cells::of(row).next())?;
    Ok(())
}

async fn load_accounts(
    connection: &mut Connection,
    needs: &Needs,
    seal: &Seal,
    snapshot: &mut Snapshot,
) -> Result<(), Trouble> {
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
            let place = (name, host);
            let sealed: Option<String> = cells.next()?;
            // One that another key has sealed is not this one.
            if let Some(Ok(token)) = sealed.map(|sealed| seal.unseal(key, version, &sealed)) {
                snapshot.tokens.0.insert(place.clone(), token);
            }
            snapshot.credentials.insert(place, Credential { key, version });
        }
    }
    Ok(())
}

/// A row of [`sql::LOAD_GATES`], in the order of its columns.
pub(crate) fn gate(row: &QueryResult) -> Result<ClosedGate, Trouble> {
    let mut cells = Cells::of(row);
    let (kind, account): (String, i64) = (cells.next()?, cells.next()?);
    let (account_id, host) = (cells.next::<Option<String>>()?.unwrap_or_default(), cells.next()?);
    let gate = match kind.as_str() {
        "queue" => Gate::Queue,
        "host" => Gate::Host(host),
        "credentials" => Gate::Credentials { account_id, host },
        other => return Err(Trouble::Refused(format!("the gate `{other}` is not known"))),
    };
    Ok(ClosedGate {
        gate,
        account: (account != 0).then_some(AccountKey(account)),
        closed_at: Timestamp(cells.next()?),
        until: cells.next::<Option<i64>>()?.map(Timestamp),
        reason: cells.next()?,
        by: cells.next()?,
    })
}

/// A row of [`sql::LOAD_JOBS`], in the order of its columns.
fn job(row: &QueryResult) -> Result<LoadedJob, Trouble> {
    let mut cells = Cells::of(row);
    let key = JobKey(cells.next()?);
    let (public_id, host) = (cells.next()?, cells.next()?);
    let (provider, user_id) = (cells.next()?, cells.next()?);
    let job_type = job_type(&cells.next::<String>()?)?;
    let labels = words("jobs.labels", &cells.next::<String>()?)?;
    let lineage = Lineage {
        parent: cells.next::<Option<i64>>()?.map(JobKey),
        root: JobKey(cells.next()?),
        depth: cells.next()?,
        generation: cells.next()?,
        account: AccountKey(cells.next()?),
        credential: cells.next::<Option<i64>>()?.map(CredentialKey),
    };
    let tree = Tree {
        children: cells.next()?,
        jobs: cells.next()?,
        open_children: cells.next()?,
        failed_children: cells.next()?,
        status: tree_status(&cells.next::<String>()?)?,
        settled_at: cells.next::<Option<i64>>()?.map(Timestamp),
        weighed: weighed(&mut cells)?,
    };
    let weight = count(cells.next()?);
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
        want: cells.next::<Option<String>>()?.as_deref().and_then(Want::named),
        want_deadline: cells.next::<Option<i64>>()?.map(Timestamp),
        priority: cells.next()?,
        due: cells.next()?,
        limits: limits(cells.next()?, cells.next()?, cells.next()?),
    };
    Ok(LoadedJob {
        job,
        public_id,
        host,
        provider,
        user_id,
        job_type,
        labels,
        lineage,
        tree,
        weight,
    })
}

/// A state by its name in the database.
pub(crate) fn state(name: &str) -> Result<State, Trouble> {
    State::named(name).ok_or_else(|| Trouble::Refused(format!("the status `{name}` is not known")))
}

/// A tree's status by its name in the database.
pub(crate) fn tree_status(name: &str) -> Result<TreeStatus, Trouble> {
    TreeStatus::named(name).ok_or_else(|| Trouble::Refused(format!("the status `{name}` of a tree is not known")))
}

/// A job's type by its name in the database.
pub(crate) fn job_type(name: &str) -> Result<JobType, Trouble> {
    JobType::named(name).ok_or_else(|| Trouble::Refused(format!("the type `{name}` of a job is not known")))
}

/// The words of a JSON array.
pub(crate) fn words(column: &str, json: &str) -> Result<Vec<String>, Trouble> {
    serde_json::from_str(json).map_err(|_| Trouble::Refused(format!("{column} cannot be read")))
}

/// A job's own numbers, as they are kept.
pub(crate) fn limits(timeout_ms: Option<i64>, retry_attempts: Option<i64>, retry_delay_ms: Option<i64>) -> JobLimits {
    let span = |millis: Option<i64>| {
        millis
            .and_then(|millis| u64::try_from(millis).ok())
            .map(Duration::from_millis)
    };
    JobLimits {
        timeout: span(timeout_ms),
        retry_attempts: retry_attempts.and_then(|attempts| u32::try_from(attempts).ok()),
        retry_delay: span(retry_delay_ms),
    }
}
