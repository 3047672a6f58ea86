//! Rows on a sheet of paper: a snapshot made by hand, and a plan written back onto it.

use std::collections::{BTreeMap, BTreeSet};

use crawlwire_progress::lifecycle::Lease;
use crawlwire_progress::plan::{Credential, LoadedJob, NewJobRow, Plan, Session, Snapshot, plan};
use crawlwire_progress::store::{Op, Outcome};
use crawlwire_progress::view::{Lineage, ProgressView};
use crawlwire_progress::{AccountKey, Job, JobKey, Policy, SessionKey, Timestamp};

use super::name_of;

pub(crate) const NOW: Timestamp = Timestamp(1_000_000);

/// The rows that a store would load, all of them.
pub(crate) struct Sheet {
    pub(crate) policy: Policy,
    pub(crate) now: Timestamp,
    pub(crate) jobs: BTreeMap<JobKey, LoadedJob>,
    pub(crate) sessions: BTreeMap<SessionKey, Session>,
    pub(crate) progress: BTreeMap<JobKey, ProgressView>,
    /// By account name and host; the account's name stands for its row.
    pub(crate) credentials: BTreeMap<(String, String), Credential>,
    pub(crate) accounts: BTreeMap<String, AccountKey>,
    pub(crate) names: BTreeMap<String, String>,
    pub(crate) identities: BTreeSet<String>,
    pub(crate) backlog: u64,
    next_key: i64,
}

impl Sheet {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy,
            now: NOW,
            jobs: BTreeMap::new(),
            sessions: BTreeMap::new(),
            progress: BTreeMap::new(),
            credentials: BTreeMap::new(),
            accounts: BTreeMap::from([("acme".to_owned(), AccountKey(1))]),
            names: BTreeMap::new(),
            identities: BTreeSet::new(),
            backlog: 0,
            next_key: 1_000,
        }
    }

    /// A queued job without a parent.
    pub(crate) fn job(&mut self, key: i64) -> JobKey {
        let key = JobKey(key);
        let job = Job::queued(key, false);
        let lineage = Lineage {
            parent: None,
            root: key,
            depth: 0,
            generation: format!("job-{key}"),
            account: AccountKey(1),
            credential: None,
        };
        let loaded = LoadedJob {
            job,
            public_id: format!("job-{key}"),
            host: "gitlab.example".to_owned(),
            provider: None,
            user_id: None,
            lineage,
            children: 0,
            tree_jobs: 0,
        };
        self.jobs.insert(key, loaded);
        self.backlog += 1;
        key
    }

    /// A session with a connection and a full lease.
    pub(crate) fn session(&mut self, key: i64, identity: Option<&str>) -> SessionKey {
        let key = SessionKey(key);
        let session = Session {
            key,
            name: name_of(key),
            identity: identity.map(str::to_owned),
            connected: true,
            lease_expires_at: self.now.after(self.policy.lease),
        };
        self.sessions.insert(key, session);
        key
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            now: Some(self.now),
            keys: (self.next_key..self.next_key + 1_000).collect(),
            jobs: self.jobs.clone(),
            sessions: self.sessions.clone(),
            accounts: self.accounts.clone(),
            credentials: self.credentials.clone(),
            web_app_job_ids: self.names.clone(),
            identities: self.identities.clone(),
            backlog: self.backlog,
        }
    }

    /// What these operations would do, in one batch. Nothing is written.
    pub(crate) fn plan(&self, ops: Vec<Op>) -> Plan {
        plan(self.snapshot(), ops, &self.policy, self.now, &mut || 0.5)
    }

    /// Carries operations out in one batch.
    pub(crate) fn batch(&mut self, ops: Vec<Op>) -> Vec<Outcome> {
        let plan = self.plan(ops);
        self.write(plan)
    }

    fn write(&mut self, plan: Plan) -> Vec<Outcome> {
        for recovery in &plan.recoveries {
            for session in self.sessions.values_mut() {
                // Every session here belongs to the one server there is.
                session.connected &= recovery.connected;
                session.lease_expires_at = session.lease_expires_at.max(recovery.lease_until);
            }
        }
        for (account, name) in plan.new_accounts {
            self.used(account.0);
            self.accounts.insert(name, account);
        }
        for write in plan.credentials {
            self.used(write.key.0);
            let account = self.accounts.iter().find(|(_, key)| **key == write.account);
            let place = (account.unwrap().0.clone(), write.host);
            let credential = Credential {
                key: write.key,
                version: write.version,
            };
            self.credentials.insert(place, credential);
        }
        for (key, new, lease_expires_at) in plan.new_sessions {
            self.used(key.0);
            let session = Session {
                key,
                name: new.name,
                identity: new.identity,
                connected: true,
                lease_expires_at,
            };
            self.sessions.insert(key, session);
        }
        for session in plan.sessions {
            self.sessions.insert(session.key, session);
        }
        for new in plan.new_jobs {
            self.used(new.job.key.0);
            self.identities.insert(new.identity.clone());
            self.names.insert(new.web_app_job_id.clone(), new.public_id.clone());
            self.jobs.insert(new.job.key, loaded(new));
        }
        for changed in plan.changed {
            let row = self.jobs.get_mut(&changed.job.key).unwrap();
            assert_eq!((row.job.state, row.job.fence), changed.before);
            row.job = changed.job;
            row.children = changed.children;
            row.tree_jobs = changed.tree_jobs;
        }
        for (job, report) in plan.progress {
            let kept = self.progress.entry(job).or_insert_with(|| report.clone());
            if (report.attempt, report.n) > (kept.attempt, kept.n) {
                *kept = report;
            }
        }
        self.backlog = self.backlog.checked_add_signed(plan.backlog_change).unwrap();
        plan.outcomes
    }

    fn used(&mut self, key: i64) {
        self.next_key = self.next_key.max(key + 1);
    }

    pub(crate) fn lease(&self, job: JobKey) -> Lease {
        let job = &self.jobs[&job].job;
        Lease {
            session: job.session.unwrap(),
            fence: job.fence,
        }
    }

    pub(crate) fn backlog_recounted(&self) -> u64 {
        self.jobs.values().filter(|row| row.job.state.is_backlog()).count() as u64
    }
}

fn loaded(new: NewJobRow) -> LoadedJob {
    LoadedJob {
        job: new.job,
        public_id: new.public_id,
        host: new.spec.host,
        provider: new.spec.provider,
        user_id: new.spec.user_id,
        lineage: new.lineage,
        children: 0,
        tree_jobs: 0,
    }
}
