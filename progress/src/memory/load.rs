//! The rows that a batch needs.

use std::collections::{BTreeMap, BTreeSet};

use crawlwire_protocol::AccessToken;

use super::tables::{JobRow, Tables};
use crate::ids::{AccountKey, JobKey, Timestamp};
use crate::job::{PauseReason, State, TreeStatus};
use crate::plan::{
    AccountCounts, Credential, KeptReport, LoadedJob, Needs, Selected, Selection, Snapshot, Tokens, TreeProgress,
};
use crate::policy::Policy;
use crate::store::{RedriveFilter, SELECTED_MAX, SWEEP_MAX};
use crate::sums::Sum;

impl Tables {
    pub(super) fn load(&self, needs: &Needs, now: Timestamp, policy: &Policy) -> Snapshot {
        let selected: BTreeMap<_, _> = needs
            .selections
            .iter()
            .map(|it| (it.clone(), self.select(it)))
            .collect();
        let jobs = self.needed(needs, &selected, now, policy);
        let jobs: BTreeMap<_, _> = jobs
            .into_iter()
            .filter_map(|key| Some((key, self.jobs.get(&key)?.loaded.clone())))
            .collect();
        let holders = jobs.values().filter_map(|loaded| loaded.job.session);
        let instances: BTreeMap<_, _> = self
            .sessions
            .iter()
            .filter_map(|(key, row)| Some((row.instance.as_ref()?.id.clone(), *key)))
            .filter(|(instance, _)| needs.instances.contains(instance))
            .collect();
        let named = needs.sessions.iter().chain(instances.values()).copied();
        let sessions = named.chain(holders);
        let old = |before| {
            self.errors
                .iter()
                .filter(move |error| error.at < before)
                .map(|error| error.id)
        };
        Snapshot {
            now: Some(now),
            keys: (self.last_key + 1..).take(needs.keys).collect(),
            sessions: sessions
                .filter_map(|key| Some((key, self.sessions.get(&key)?.session.clone())))
                .collect(),
            leases: instances.values().map(|key| (*key, self.leases_of(*key))).collect(),
            instances,
            tokens_by_name: self
                .tokens
                .values()
                .map(|token| (token.name.clone(), (token.key, token.revoked_at.is_some())))
                .collect(),
            last_token: self.tokens.last_key_value().map_or(0, |(key, _)| key.0),
            accounts: self.accounts.clone(),
            credentials: self
                .credentials_by_name()
                .map(|(place, (credential, _))| (place, credential))
                .collect(),
            tokens: Tokens(
                self.credentials_by_name()
                    .map(|(place, (_, token))| (place, token))
                    .collect(),
            ),
            once: self.submitted_once(),
            web_app_job_ids: self
                .jobs
                .values()
                .map(|row| (row.web_app_job_id.clone(), row.loaded.public_id.clone()))
                .collect(),
            identities: self.jobs.values().map(|row| row.identity.clone()).collect(),
            backlog: self
                .jobs
                .values()
                .filter(|row| row.loaded.job.state.is_backlog())
                .count() as u64,
            selected,
            gates: if needs.gates { self.gates.clone() } else { Vec::new() },
            account_counts: if needs.account_counts || needs.account_shares {
                self.account_counts()
            } else {
                BTreeMap::new()
            },
            old_errors: needs
                .errors_before
                .into_iter()
                .flat_map(old)
                .take(SELECTED_MAX)
                .collect(),
            reports: needs
                .reports
                .iter()
                .filter_map(|key| Some((*key, self.kept_report(*key)?)))
                .collect(),
            trees: self.trees_of(needs, &jobs),
            jobs,
        }
    }

    fn submitted_once(&self) -> BTreeMap<String, (i64, String)> {
        let kept = |row: &JobRow| {
            let once = row.once.as_ref()?;
            Some((once.key.clone(), (once.fingerprint, row.loaded.public_id.clone())))
        };
        self.jobs.values().filter_map(kept).collect()
    }

    fn kept_report(&self, key: JobKey) -> Option<KeptReport> {
        let report = self.progress.get(&key)?;
        Some(KeptReport {
            attempt: report.attempt,
            n: report.n,
            updated_at: report.updated_at,
            sum: Some(Sum::of(report.work(), self.jobs.get(&key)?.loaded.weight)),
        })
    }

    fn trees_of(&self, needs: &Needs, jobs: &BTreeMap<JobKey, LoadedJob>) -> BTreeMap<JobKey, TreeProgress> {
        let reporting = needs.reports.iter().filter_map(|key| jobs.get(key));
        let settling = jobs.values().filter(|_| needs.settles);
        let roots: BTreeSet<_> = reporting.chain(settling).map(|loaded| loaded.lineage.root).collect();
        let kept = |root: JobKey| {
            let row = self.jobs.get(&root)?;
            let tree = self.trees.get(&root).map(|(tree, _)| *tree).unwrap_or_default();
            let size = row.loaded.tree.size();
            Some((root, TreeProgress { size, ..tree }))
        };
        roots.into_iter().filter_map(kept).collect()
    }

    /// Named jobs, chosen ones, those that time has something to say about, and ancestors where needed.
    fn needed(
        &self,
        needs: &Needs,
        selected: &BTreeMap<Selection, Selected>,
        now: Timestamp,
        policy: &Policy,
    ) -> BTreeSet<JobKey> {
        let mut families = needs.families.clone();
        let by_id = self
            .jobs
            .values()
            .filter(|row| needs.public_ids.contains(&row.loaded.public_id));
        families.extend(by_id.map(|row| row.loaded.job.key));
        if needs.sweep {
            let due = self.jobs.values().filter(|row| self.time_demands(row, now, policy));
            families.extend(due.map(|row| row.loaded.job.key).take(SWEEP_MAX));
        }
        for (selection, found) in selected {
            match selection {
                Selection::Below { .. } | Selection::Redrivable { .. } => {
                    families.extend(found.jobs.iter().map(|(key, _)| *key));
                }
                Selection::Tree { root } => {
                    families.insert(*root);
                }
                Selection::Settled { .. } => {}
            }
        }
        let mut all = needs.jobs.clone();
        for key in families {
            let mut next = Some(key);
            while let Some(key) = next {
                all.insert(key);
                next = self.jobs.get(&key).and_then(|row| row.loaded.lineage.parent);
            }
        }
        all
    }

    fn time_demands(&self, row: &JobRow, now: Timestamp, policy: &Policy) -> bool {
        let job = &row.loaded.job;
        let past = |moment: Option<Timestamp>| moment.is_some_and(|moment| moment <= now);
        let lease = job
            .session
            .map(|key| self.sessions.get(&key).map(|row| row.session.lease_expires_at));
        let expired = lease.is_some_and(|lease| lease.is_none_or(|until| until <= now));
        let assigned = job.state == State::Assigned;
        let unaccepted = assigned && past(job.assigned_at.map(|at| at.after(policy.accept_timeout)));
        let due = job.state == State::Delayed && past(job.run_at);
        let (account, host) = (row.loaded.lineage.account, &row.loaded.host);
        let stops = |deadline| self.gates.iter().any(|gate| gate.stops(deadline, account, host, now));
        let over = past(job.deadline) && !job.deadline.is_some_and(stops);
        due || over || past(job.want_deadline) || expired || unaccepted
    }

    fn select(&self, selection: &Selection) -> Selected {
        match selection {
            Selection::Below { root, after } => self.window(
                *after,
                |row| row.loaded.lineage.root == *root,
                |row| !row.loaded.job.state.is_terminal(),
            ),
            Selection::Redrivable { filter, after } => {
                let account = filter.account_id.as_ref().map(|name| self.accounts.get(name).copied());
                let looked_at = |row: &JobRow| matches!(row.loaded.job.state, State::Paused | State::Failed);
                self.window(*after, looked_at, |row| {
                    account.is_none_or(|account| account == Some(row.loaded.lineage.account)) && redrivable(row, filter)
                })
            }
            Selection::Tree { root } => {
                let mut jobs = self.tree(*root);
                let more = jobs.len() > SELECTED_MAX;
                jobs.truncate(SELECTED_MAX);
                let next = jobs.last().map(|(key, _)| *key).filter(|_| more);
                Selected { jobs, next }
            }
            Selection::Settled { before } => self.settled(*before),
        }
    }

    fn window(&self, after: JobKey, looked_at: impl Fn(&JobRow) -> bool, meant: impl Fn(&JobRow) -> bool) -> Selected {
        let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let rows = self.jobs.range(behind).map(|(_, row)| row);
        let rows: Vec<_> = rows.filter(|row| looked_at(row)).take(SELECTED_MAX).collect();
        let next = rows.last().filter(|_| rows.len() == SELECTED_MAX);
        Selected {
            next: next.map(|row| row.loaded.job.key),
            jobs: rows.into_iter().filter(|row| meant(row)).map(named).collect(),
        }
    }

    /// By falling key, the root last.
    fn tree(&self, root: JobKey) -> Vec<(JobKey, State)> {
        let members = self.jobs.values().rev().filter(|row| row.loaded.lineage.root == root);
        members.map(named).collect()
    }

    fn settled(&self, before: Timestamp) -> Selected {
        let old = |row: &&JobRow| {
            row.loaded.lineage.parent.is_none() && row.loaded.tree.settled_at.is_some_and(|at| at < before)
        };
        let mut roots: Vec<_> = self.jobs.values().filter(old).collect();
        roots.sort_by_key(|row| (row.loaded.tree.settled_at, row.loaded.job.key));
        let mut found = Selected::default();
        for row in roots {
            debug_assert!(row.loaded.tree.status != TreeStatus::Open);
            for member in self.tree(row.loaded.job.key) {
                if found.jobs.len() == SELECTED_MAX {
                    found.next = Some(row.loaded.job.key);
                    return found;
                }
                found.jobs.push(member);
            }
        }
        found
    }

    fn account_counts(&self) -> BTreeMap<AccountKey, AccountCounts> {
        let mut all = BTreeMap::<AccountKey, AccountCounts>::new();
        for row in self.jobs.values() {
            let counts = all.entry(row.loaded.lineage.account).or_default();
            counts.open += i64::from(!row.loaded.job.state.is_terminal());
            counts.held += i64::from(row.loaded.job.state.is_leased());
        }
        all
    }

    fn credentials_by_name(&self) -> impl Iterator<Item = ((String, String), (Credential, AccessToken))> {
        self.credentials
            .iter()
            .filter_map(move |((account, host), (credential, token))| {
                let (name, _) = self.accounts.iter().find(|(_, key)| *key == account)?;
                Some(((name.clone(), host.clone()), (*credential, token.clone())))
            })
    }
}

fn named(row: &JobRow) -> (JobKey, State) {
    (row.loaded.job.key, row.loaded.job.state)
}

fn redrivable(row: &JobRow, filter: &RedriveFilter) -> bool {
    let job = &row.loaded.job;
    (filter.failed && job.state == State::Failed)
        || (filter.quarantined && job.pause_reason == Some(PauseReason::Quarantined))
}
