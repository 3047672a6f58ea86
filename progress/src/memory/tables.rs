//! The tables.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use crawlwire_protocol::AccessToken;
use crawlwire_protocol::message::JobType;

use crate::admit::{Capabilities, ClosedGate};
use crate::ids::{AccountKey, CredentialKey, JobKey, SessionKey, Timestamp, TokenKey};
use crate::job::State;
use crate::plan::{Credential, LoadedJob, NewCheckpoint, NewJobRow, Session, TreeProgress};
use crate::store::{NewInstance, Once, OwnLease};
use crate::sums::{SCOPES_MAX, ScopeSum, Sum, Totals};
use crate::track::{History, Tracker};
use crate::view::{
    AccountView, AreaView, AuditView, CrawlerToken, CredentialView, ErrorView, EventView, FeedItem, HeardElsewhere,
    InstanceView, JobSpec, JobView, ReadyJob, SessionView,
};
use crate::weight::{HISTORY_JOBS_MAX, TypeHistory};

pub(super) struct JobRow {
    pub(super) loaded: LoadedJob,
    pub(super) web_app_job_id: String,
    pub(super) spec: JobSpec,
    pub(super) identity: String,
    pub(super) once: Option<Once>,
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
                tree: new.tree(),
                weight: new.weight,
                job: new.job,
                public_id: new.public_id,
                host: new.spec.host.clone(),
                provider: new.spec.provider.clone(),
                user_id: new.spec.user_id.clone(),
                job_type: new.spec.job_type,
                labels: new.spec.labels.clone(),
                lineage: new.lineage,
            },
            web_app_job_id: new.web_app_job_id,
            spec: new.spec,
            identity: new.identity,
            once: new.once,
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
    /// The greatest key that an event ever had.
    pub(super) last_event: i64,
    pub(super) sessions: BTreeMap<SessionKey, SessionRow>,
    pub(super) accounts: BTreeMap<String, AccountKey>,
    pub(super) credentials: BTreeMap<(AccountKey, String), (Credential, AccessToken)>,
    /// Since when there is an account, and since when a token is the one that is kept.
    pub(super) accounts_since: BTreeMap<AccountKey, Timestamp>,
    pub(super) credentials_since: BTreeMap<CredentialKey, Timestamp>,
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
    /// Until when something is looked at, by server and public id, empty for all jobs.
    pub(super) watches: BTreeMap<(String, String), Timestamp>,
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

    pub(super) fn feed_item(&self, (job, event): &(JobKey, EventView)) -> Option<FeedItem> {
        let LoadedJob {
            public_id,
            lineage,
            job_type,
            ..
        } = &self.jobs.get(job)?.loaded;
        let root = self.jobs.get(&lineage.root)?;
        let account = self.accounts.iter().find(|(_, key)| **key == lineage.account);
        Some(FeedItem {
            job: *job,
            public_id: public_id.clone(),
            root: lineage.root,
            root_id: root.loaded.public_id.clone(),
            account_id: account.map(|(name, _)| name.clone()).unwrap_or_default(),
            job_type: *job_type,
            event: event.clone(),
        })
    }

    pub(super) fn heard_elsewhere(&self, server: &str, after: (Timestamp, JobKey)) -> Vec<HeardElsewhere> {
        let runs_elsewhere = |row: &&JobRow| {
            let holder = row.loaded.job.session.and_then(|key| self.sessions.get(&key));
            row.loaded.job.state == State::Running && holder.is_some_and(|session| session.server != server)
        };
        let running = self.jobs.values().filter(runs_elsewhere);
        let heard = running.filter_map(|row| {
            let job = &row.loaded.job;
            let tracker = self.progress.get(&job.key)?;
            let is_new = tracker.attempt == job.attempt && (tracker.updated_at, job.key) > after;
            let root = self.jobs.get(&row.loaded.lineage.root)?;
            is_new.then(|| HeardElsewhere {
                job: job.key,
                public_id: row.loaded.public_id.clone(),
                root_id: root.loaded.public_id.clone(),
                tracker: Tracker {
                    history: History::default(),
                    ..Tracker::clone(tracker)
                },
            })
        });
        let mut heard: Vec<_> = heard.collect();
        heard.sort_by_key(|heard| (heard.tracker.updated_at, heard.job));
        heard
    }

    pub(super) fn leases_of(&self, session: SessionKey) -> Vec<OwnLease> {
        let rows = self.jobs.values().map(|row| &row.loaded);
        let own = rows.filter(|loaded| loaded.job.session == Some(session));
        own.map(LoadedJob::lease).collect()
    }

    pub(super) fn account_view(&self, name: &str, key: AccountKey) -> AccountView {
        let own = self.jobs.values().map(|row| &row.loaded);
        let states = own
            .filter(|loaded| loaded.lineage.account == key)
            .map(|loaded| loaded.job.state);
        let (mut open_jobs, mut held_jobs) = (0, 0);
        for state in states {
            open_jobs += i64::from(!state.is_terminal());
            held_jobs += i64::from(state.is_leased());
        }
        AccountView {
            key,
            account_id: name.to_owned(),
            created_at: self.accounts_since.get(&key).copied().unwrap_or(Timestamp(0)),
            open_jobs,
            held_jobs,
        }
    }

    pub(super) fn credential_view(&self, host: &str, (known, token): &(Credential, AccessToken)) -> CredentialView {
        CredentialView {
            key: known.key,
            host: host.to_owned(),
            version: known.version,
            updated_at: self.credentials_since.get(&known.key).copied().unwrap_or(Timestamp(0)),
            is_set: Some(!token.is_empty()),
        }
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
                size: row.loaded.tree.size(),
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

    /// What the newest jobs were that ended well, by their types.
    pub(super) fn type_history(&self) -> BTreeMap<JobType, TypeHistory> {
        let well = |row: &&JobRow| row.loaded.job.state == State::Completed;
        let newest = self.jobs.values().rev().filter(well).take(HISTORY_JOBS_MAX);
        let mut history = BTreeMap::<JobType, TypeHistory>::new();
        for LoadedJob {
            job, weight, job_type, ..
        } in newest.map(|row| &row.loaded)
        {
            if let Some(report) = self.progress.get(&job.key) {
                let of_type = history.entry(*job_type).or_default();
                of_type.jobs += 1;
                of_type.items += Sum::of(report.work(), *weight).done;
            }
        }
        history
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
    scopes.sort_by_key(|(_, scope)| Reverse(scope.size.jobs));
    scopes.truncate(SCOPES_MAX);
    scopes
}
