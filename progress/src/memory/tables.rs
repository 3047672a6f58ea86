//! The tables.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use crawlwire_protocol::AccessToken;

use crate::admit::{Capabilities, ClosedGate};
use crate::ids::{AccountKey, JobKey, SessionKey, Timestamp, TokenKey};
use crate::plan::{Credential, LoadedJob, NewCheckpoint, NewJobRow, Session, TreeProgress, all_jobs};
use crate::store::{NewInstance, OwnLease};
use crate::sums::{SCOPES_MAX, ScopeSum, Totals};
use crate::track::{History, Tracker};
use crate::view::{
    AreaView, AuditView, CrawlerToken, ErrorView, EventView, InstanceView, JobSpec, JobView, ReadyJob, SessionView,
};

pub(super) struct JobRow {
    pub(super) loaded: LoadedJob,
    pub(super) web_app_job_id: String,
    pub(super) spec: JobSpec,
    pub(super) identity: String,
    pub(super) lane: i64,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) result: Option<String>,
    pub(super) error: Option<String>,
}

impl JobRow {
    pub(super) fn new(new: NewJobRow, now: Timestamp) -> Self {
        Self {
            loaded: LoadedJob {
                job: new.job,
                public_id: new.public_id,
                host: new.spec.host.clone(),
                provider: new.spec.provider.clone(),
                user_id: new.spec.user_id.clone(),
                job_type: new.spec.job_type,
                labels: new.spec.labels.clone(),
                lineage: new.lineage,
                tree: crate::job::Tree::NEW,
            },
            web_app_job_id: new.web_app_job_id,
            spec: new.spec,
            identity: new.identity,
            lane: new.lane,
            created_at: now,
            updated_at: now,
            result: None,
            error: None,
        }
    }

    /// What it is about, with the priority as it is now.
    fn spec(&self) -> JobSpec {
        JobSpec {
            priority: self.loaded.job.priority,
            ..self.spec.clone()
        }
    }

    pub(super) fn ready(&self) -> ReadyJob {
        let LoadedJob { job, lineage, .. } = &self.loaded;
        ReadyJob {
            key: job.key,
            public_id: self.loaded.public_id.clone(),
            spec: self.spec(),
            account: lineage.account,
            lane: self.lane,
            due: job.due,
            credential: lineage.credential,
            resume: job.resume,
        }
    }
}

pub(super) struct SessionRow {
    pub(super) session: Session,
    pub(super) server: String,
    pub(super) opened_at: Timestamp,
    pub(super) capabilities: Capabilities,
    pub(super) instance: Option<NewInstance>,
}

#[derive(Default)]
pub(super) struct Tables {
    /// The greatest key that a row ever had. What a batch does not use of its fresh keys is not used up, so the keys do
    /// not tell how operations were put into batches.
    pub(super) last_key: i64,
    /// State of the generator behind `chance`; fixed start, so that runs repeat.
    pub(super) chance: u64,
    pub(super) jobs: BTreeMap<JobKey, JobRow>,
    pub(super) events: Vec<(JobKey, EventView)>,
    pub(super) sessions: BTreeMap<SessionKey, SessionRow>,
    pub(super) accounts: BTreeMap<String, AccountKey>,
    pub(super) credentials: BTreeMap<(AccountKey, String), (Credential, AccessToken)>,
    pub(super) progress: BTreeMap<JobKey, Arc<Tracker>>,
    pub(super) histories: BTreeMap<(JobKey, i32), History>,
    /// What trees add up to, and since when.
    pub(super) trees: BTreeMap<JobKey, (TreeProgress, Timestamp)>,
    pub(super) checkpoints: BTreeMap<JobKey, NewCheckpoint>,
    pub(super) tokens: BTreeMap<TokenKey, CrawlerToken>,
    pub(super) errors: Vec<ErrorView>,
    pub(super) gates: Vec<ClosedGate>,
    pub(super) audit: Vec<AuditView>,
    /// Places by host, kind and entity.
    pub(super) areas: BTreeMap<(String, &'static str, String), AreaView>,
    /// Since when an account may see a place.
    pub(super) account_areas: BTreeMap<(AccountKey, i64), Timestamp>,
}

impl Tables {
    pub(super) fn held_by(&self, session: SessionKey) -> usize {
        let held = |row: &&JobRow| row.loaded.job.session == Some(session);
        self.jobs.values().filter(held).count()
    }

    pub(super) fn session_view(&self, row: &SessionRow) -> SessionView {
        let session = &row.session;
        SessionView {
            key: session.key,
            name: session.name.to_string(),
            identity: session.identity.clone(),
            server: row.server.clone(),
            connected: session.connected,
            opened_at: row.opened_at,
            lease_expires_at: session.lease_expires_at,
            capabilities: row.capabilities.clone(),
            held: self.held_by(session.key),
            epoch: session.epoch,
            instance: row.instance.as_ref().map(|instance| InstanceView {
                id: instance.id.clone(),
                crawler_id: instance.crawler_id.clone(),
                principal: instance.principal.clone(),
                high_water: session.high_water,
            }),
        }
    }

    pub(super) fn leases_of(&self, session: SessionKey) -> Vec<OwnLease> {
        let rows = self.jobs.values().map(|row| &row.loaded);
        let own = rows.filter(|loaded| loaded.job.session == Some(session));
        own.map(LoadedJob::lease).collect()
    }

    /// What the trees add up to that are open and have reported.
    pub(super) fn totals(&self) -> Totals {
        let (mut accounts, mut hosts) = (BTreeMap::new(), BTreeMap::new());
        let mut totals = Totals::default();
        for (root, (tree, _)) in &self.trees {
            let Some(row) = self.jobs.get(root).filter(|_| tree.is_open) else {
                continue;
            };
            let one = ScopeSum {
                trees: 1,
                jobs: all_jobs(row.loaded.tree.jobs),
                sum: tree.sum,
            };
            let account = self
                .accounts
                .iter()
                .find(|(_, key)| **key == row.loaded.lineage.account);
            totals.fleet = totals.fleet + one;
            let name = account.map(|(name, _)| name.clone()).unwrap_or_default();
            for (scopes, name) in [(&mut accounts, name), (&mut hosts, row.loaded.host.clone())] {
                let scope: &mut ScopeSum = scopes.entry(name).or_default();
                *scope = *scope + one;
            }
        }
        (totals.accounts, totals.hosts) = (largest(accounts), largest(hosts));
        totals
    }

    pub(super) fn view(&self, row: &JobRow) -> JobView {
        let LoadedJob { job, lineage, .. } = &row.loaded;
        let public_id = |key: JobKey| self.jobs.get(&key).map(|row| row.loaded.public_id.clone());
        let account = self.accounts.iter().find(|(_, key)| **key == lineage.account);
        let session = job.session.and_then(|key| self.sessions.get(&key));
        JobView {
            key: job.key,
            public_id: row.loaded.public_id.clone(),
            web_app_job_id: row.web_app_job_id.clone(),
            account_id: account.map(|(name, _)| name.clone()).unwrap_or_default(),
            account: lineage.account,
            parent_id: lineage.parent.and_then(public_id),
            root_id: public_id(lineage.root).unwrap_or_default(),
            depth: lineage.depth,
            spec: row.spec(),
            credential: lineage.credential,
            state: job.state,
            pause_reason: job.pause_reason,
            fence: job.fence,
            session: session.map(|row| row.session.name.to_string()),
            attempt: job.attempt,
            failures: job.failures,
            misses: job.misses,
            tree: row.loaded.tree,
            resume: job.resume,
            want: job.want.zip(job.want_deadline),
            limits: job.limits,
            run_at: job.run_at,
            assigned_at: job.assigned_at,
            deadline: job.deadline,
            created_at: row.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            updated_at: row.updated_at,
            result: row.result.clone(),
            error: row.error.clone(),
        }
    }
}

fn largest(scopes: BTreeMap<String, ScopeSum>) -> Vec<(String, ScopeSum)> {
    let mut scopes: Vec<_> = scopes.into_iter().collect();
    scopes.sort_by_key(|(_, scope)| Reverse(scope.jobs));
    scopes.truncate(SCOPES_MAX);
    scopes
}
