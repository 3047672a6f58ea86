//! A store in memory: the same plans over maps, for tests and simulations. Nothing survives it.
//!
//! Every operation is its own batch and commits at once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crawlwire_protocol::AccessToken;

use crate::ids::{AccountKey, CredentialKey, JobKey, SessionKey, Timestamp};
use crate::job::{Job, State};
use crate::plan::{Credential, LoadedJob, Needs, NewEvent, NewJobRow, Plan, Session, Snapshot, plan};
use crate::policy::Policy;
use crate::store::{BoxFuture, Committed, JobFilter, Op, Outcome, Paging, SWEEP_MAX, Store, StoreError, Ticket};
use crate::view::{ErrorView, EventView, JobSpec, JobView, Page, ProgressView, ReadyJob, SessionView, StateCounts};

/// Tells the time. The store has no clock of its own.
pub type Clock = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// See the module.
pub struct MemoryStore {
    policy: Policy,
    clock: Clock,
    tables: Mutex<Tables>,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter
            .debug_struct("MemoryStore")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

struct JobRow {
    loaded: LoadedJob,
    web_app_job_id: String,
    spec: JobSpec,
    identity: String,
    due: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
    result: Option<String>,
    error: Option<String>,
}

struct SessionRow {
    session: Session,
    server: String,
    opened_at: Timestamp,
}

#[derive(Default)]
struct Tables {
    last_key: i64,
    /// State of the generator behind `chance`; fixed start, so that runs repeat.
    chance: u64,
    jobs: BTreeMap<JobKey, JobRow>,
    events: Vec<(JobKey, EventView)>,
    sessions: BTreeMap<SessionKey, SessionRow>,
    accounts: BTreeMap<String, AccountKey>,
    credentials: BTreeMap<(AccountKey, String), (Credential, AccessToken)>,
    progress: BTreeMap<JobKey, ProgressView>,
    errors: Vec<ErrorView>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(policy: Policy, clock: Clock) -> Self {
        Self {
            policy,
            clock,
            tables: Mutex::default(),
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries one operation out.
    pub fn apply(&self, op: Op) -> Outcome {
        let now = (self.clock)();
        let mut tables = self.tables();
        let ops = vec![op];
        let snapshot = tables.load(&ops, now, &self.policy);
        let mut seed = tables.chance;
        let plan = plan(snapshot, ops, &self.policy, now, &mut || chance(&mut seed));
        tables.chance = seed;
        tables.write(plan, now).unwrap_or(Outcome::Done)
    }

    /// Every job as it is kept, for checks that a view does not allow.
    pub fn rows(&self) -> Vec<Job> {
        self.tables().jobs.values().map(|row| row.loaded.job.clone()).collect()
    }
}

/// A step of SplitMix64, as a number in `[0, 1)`.
fn chance(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bits = *seed;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

impl Tables {
    fn load(&mut self, ops: &[Op], now: Timestamp, policy: &Policy) -> Snapshot {
        let needs = Needs::of(ops);
        let first = self.last_key + 1;
        self.last_key += i64::try_from(needs.keys).unwrap_or(0);
        let mut jobs: BTreeMap<JobKey, LoadedJob> = self
            .jobs
            .values()
            .filter(|row| needs.jobs.contains(&row.loaded.job.key) || needs.public_ids.contains(&row.loaded.public_id))
            .map(|row| (row.loaded.job.key, row.loaded.clone()))
            .collect();
        if needs.sweep {
            let due = self
                .jobs
                .values()
                .filter(|row| self.time_demands(row, now, policy))
                .take(SWEEP_MAX);
            jobs.extend(due.map(|row| (row.loaded.job.key, row.loaded.clone())));
        }
        let roots: Vec<_> = needs
            .parents
            .iter()
            .filter_map(|key| Some(jobs.get(key)?.lineage.root))
            .collect();
        for root in roots {
            if let Some(row) = self.jobs.get(&root) {
                jobs.entry(root).or_insert_with(|| row.loaded.clone());
            }
        }
        let holders = jobs.values().filter_map(|loaded| loaded.job.session);
        let sessions = needs.sessions.iter().copied().chain(holders);
        let sessions = sessions
            .filter_map(|key| Some((key, self.sessions.get(&key)?.session.clone())))
            .collect();
        Snapshot {
            now: Some(now),
            keys: (first..=self.last_key).collect(),
            jobs,
            sessions,
            accounts: self.accounts.clone(),
            credentials: self.credentials_by_name(),
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
        }
    }

    fn credentials_by_name(&self) -> BTreeMap<(String, String), Credential> {
        let mut by_name = BTreeMap::new();
        for ((account, host), (credential, _)) in &self.credentials {
            for (name, key) in &self.accounts {
                if key == account {
                    by_name.insert((name.clone(), host.clone()), *credential);
                }
            }
        }
        by_name
    }

    fn time_demands(&self, row: &JobRow, now: Timestamp, policy: &Policy) -> bool {
        let job = &row.loaded.job;
        let past = |moment: Option<Timestamp>| moment.is_some_and(|moment| moment <= now);
        let lease = job
            .session
            .map(|key| self.sessions.get(&key).map(|row| row.session.lease_expires_at));
        let expired = lease.is_some_and(|lease| lease.is_none_or(|until| until <= now));
        let unaccepted =
            job.state == State::Assigned && past(job.assigned_at.map(|at| at.after(policy.accept_timeout)));
        past(job.run_at) || past(job.deadline) || expired || unaccepted
    }

    fn write(&mut self, plan: Plan, now: Timestamp) -> Option<Outcome> {
        for recovery in plan.recoveries {
            for row in self.sessions.values_mut() {
                row.session.connected &= recovery.connected || row.server != recovery.server;
                row.session.lease_expires_at = row.session.lease_expires_at.max(recovery.lease_until);
            }
            for row in self.jobs.values_mut() {
                let job = &mut row.loaded.job;
                job.assigned_at = job.assigned_at.map(|at| at.max(now));
                job.deadline = job.deadline.map(|deadline| deadline.max(recovery.lease_until));
            }
        }
        self.accounts
            .extend(plan.new_accounts.into_iter().map(|(key, name)| (name, key)));
        for write in plan.credentials {
            let credential = Credential {
                key: write.key,
                version: write.version,
            };
            self.credentials
                .insert((write.account, write.host), (credential, write.token));
        }
        for (key, new, lease_expires_at) in plan.new_sessions {
            let session = Session {
                key,
                name: new.name,
                identity: new.identity,
                connected: true,
                lease_expires_at,
            };
            self.sessions.insert(
                key,
                SessionRow {
                    session,
                    server: new.server,
                    opened_at: now,
                },
            );
        }
        for session in plan.sessions {
            if let Some(row) = self.sessions.get_mut(&session.key) {
                row.session = session;
            }
        }
        for new in plan.new_jobs {
            self.jobs.insert(new.job.key, new_row(new, now));
        }
        for changed in plan.changed {
            if let Some(row) = self.jobs.get_mut(&changed.job.key) {
                row.loaded.job = changed.job;
                row.loaded.children = changed.children;
                row.loaded.tree_jobs = changed.tree_jobs;
                row.result = changed.result.or(row.result.take());
                row.error = changed.error.or(row.error.take());
                row.updated_at = now;
            }
        }
        for event in plan.events {
            self.add_event(event, now);
        }
        for (job, progress) in plan.progress {
            let newer = |old: &ProgressView| (progress.attempt, progress.n) > (old.attempt, old.n);
            if self.progress.get(&job).is_none_or(newer) {
                self.progress.insert(job, progress);
            }
        }
        for error in plan.errors {
            let id = self.errors.len() as i64 + 1;
            self.errors.push(ErrorView {
                id,
                at: error.at,
                category: error.category.to_owned(),
                severity: error.severity.to_owned(),
                code: error.code,
                job: error.job,
                connection: error.connection,
                message: error.message,
            });
        }
        if let Some(before) = plan.forget_sessions_before {
            let held: Vec<_> = self.jobs.values().filter_map(|row| row.loaded.job.session).collect();
            self.sessions.retain(|key, row| {
                row.session.connected || row.session.lease_expires_at >= before || held.contains(key)
            });
        }
        plan.outcomes.into_iter().next()
    }

    fn add_event(&mut self, event: NewEvent, at: Timestamp) {
        let view = EventView {
            id: self.events.len() as i64 + 1,
            at,
            arrows: event.arrows.iter().map(|arrow| arrow.as_str().to_owned()).collect(),
            state: event.state,
            fence: event.fence,
            attempt: event.attempt,
            session: event.session.map(|name| name.to_string()),
        };
        self.events.push((event.job, view));
    }

    fn view(&self, row: &JobRow) -> JobView {
        let loaded = &row.loaded;
        let public_id = |key: JobKey| self.jobs.get(&key).map(|row| row.loaded.public_id.clone());
        let account = self.accounts.iter().find(|(_, key)| **key == loaded.lineage.account);
        let session = loaded.job.session.and_then(|key| self.sessions.get(&key));
        JobView {
            key: loaded.job.key,
            public_id: loaded.public_id.clone(),
            web_app_job_id: row.web_app_job_id.clone(),
            account_id: account.map(|(name, _)| name.clone()).unwrap_or_default(),
            parent_id: loaded.lineage.parent.and_then(public_id),
            root_id: public_id(loaded.lineage.root).unwrap_or_default(),
            depth: loaded.lineage.depth,
            spec: row.spec.clone(),
            credential: loaded.lineage.credential,
            state: loaded.job.state,
            pause_reason: loaded.job.pause_reason,
            fence: loaded.job.fence,
            session: session.map(|row| row.session.name.to_string()),
            attempt: loaded.job.attempt,
            failures: loaded.job.failures,
            children: loaded.children,
            resume: loaded.job.resume,
            run_at: loaded.job.run_at,
            created_at: row.created_at,
            started_at: loaded.job.started_at,
            finished_at: loaded.job.finished_at,
            updated_at: row.updated_at,
            result: row.result.clone(),
            error: row.error.clone(),
        }
    }
}

fn new_row(new: NewJobRow, now: Timestamp) -> JobRow {
    JobRow {
        loaded: LoadedJob {
            job: new.job,
            public_id: new.public_id,
            host: new.spec.host.clone(),
            provider: new.spec.provider.clone(),
            user_id: new.spec.user_id.clone(),
            lineage: new.lineage,
            children: 0,
            tree_jobs: 0,
        },
        web_app_job_id: new.web_app_job_id,
        spec: new.spec,
        identity: new.identity,
        due: new.due,
        created_at: now,
        updated_at: now,
        result: None,
        error: None,
    }
}

/// Cuts one page out of items that are in order, by their row.
fn page<T>(items: impl Iterator<Item = T>, row: impl Fn(&T) -> i64, limit: usize) -> Page<T> {
    let mut items: Vec<_> = items.take(limit.saturating_add(1)).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(row) } else { None };
    Page { items, next }
}

impl Store for MemoryStore {
    #[expect(clippy::async_yields_async, reason = "the ticket is the caller's to await")]
    fn enqueue(&self, op: Op) -> BoxFuture<'_, Ticket> {
        Box::pin(async move {
            let outcome = self.apply(op);
            Box::pin(async move { Ok(Committed::after_commit(outcome)) }) as Ticket
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn job<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<JobView>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let found = tables
                .jobs
                .values()
                .find(|row| row.loaded.public_id == id || row.web_app_job_id == id);
            Ok(found.map(|row| tables.view(row)))
        })
    }

    fn jobs(&self, filter: JobFilter, paging: Paging) -> BoxFuture<'_, Result<Page<JobView>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let views = tables
                .jobs
                .values()
                .rev()
                .map(|row| (row.loaded.lineage.parent, tables.view(row)));
            let fits = |parent: Option<JobKey>, view: &JobView| {
                (filter.states.is_empty() || filter.states.contains(&view.state))
                    && filter
                        .account_id
                        .as_ref()
                        .is_none_or(|account| *account == view.account_id)
                    && (filter.parent.is_none() || filter.parent == parent)
                    && paging.after.is_none_or(|after| view.key.0 < after)
            };
            let views = views.filter(|(parent, view)| fits(*parent, view)).map(|(_, view)| view);
            Ok(page(views, |view| view.key.0, paging.limit))
        })
    }

    fn counts(&self) -> BoxFuture<'_, Result<StateCounts, StoreError>> {
        Box::pin(async move {
            let mut counts = StateCounts::new();
            for row in self.tables().jobs.values() {
                *counts.entry(row.loaded.job.state).or_default() += 1;
            }
            Ok(counts)
        })
    }

    fn events(&self, job: JobKey, paging: Paging) -> BoxFuture<'_, Result<Page<EventView>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let events = tables
                .events
                .iter()
                .filter(|(of, event)| *of == job && paging.after.is_none_or(|after| event.id > after));
            Ok(page(
                events.map(|(_, event)| event.clone()),
                |event| event.id,
                paging.limit,
            ))
        })
    }

    fn progress(&self, job: JobKey) -> BoxFuture<'_, Result<Option<ProgressView>, StoreError>> {
        Box::pin(async move { Ok(self.tables().progress.get(&job).cloned()) })
    }

    fn ready(&self, limit: usize) -> BoxFuture<'_, Result<Vec<ReadyJob>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let mut queued: Vec<_> = tables
                .jobs
                .values()
                .filter(|row| row.loaded.job.state == State::Queued)
                .collect();
            queued.sort_by_key(|row| (row.due, row.loaded.job.key));
            let ready = queued.into_iter().take(limit).map(|row| ReadyJob {
                key: row.loaded.job.key,
                public_id: row.loaded.public_id.clone(),
                spec: row.spec.clone(),
                credential: row.loaded.lineage.credential,
                resume: row.loaded.job.resume,
            });
            Ok(ready.collect())
        })
    }

    fn token(&self, credential: CredentialKey) -> BoxFuture<'_, Result<Option<(AccessToken, i64)>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let found = tables.credentials.values().find(|(known, _)| known.key == credential);
            Ok(found.map(|(known, token)| (token.clone(), known.version)))
        })
    }

    fn sessions(&self, limit: usize) -> BoxFuture<'_, Result<Vec<SessionView>, StoreError>> {
        Box::pin(async move {
            let now = (self.clock)();
            let tables = self.tables();
            let alive = tables
                .sessions
                .values()
                .rev()
                .filter(|row| row.session.connected || row.session.lease_expires_at > now);
            let views = alive.take(limit).map(
                |SessionRow {
                     session,
                     server,
                     opened_at,
                 }| SessionView {
                    key: session.key,
                    name: session.name.to_string(),
                    identity: session.identity.clone(),
                    server: server.clone(),
                    connected: session.connected,
                    opened_at: *opened_at,
                    lease_expires_at: session.lease_expires_at,
                },
            );
            Ok(views.collect())
        })
    }

    fn errors(&self, paging: Paging) -> BoxFuture<'_, Result<Page<ErrorView>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let newest = tables
                .errors
                .iter()
                .rev()
                .filter(|error| paging.after.is_none_or(|after| error.id < after));
            Ok(page(newest.cloned(), |error| error.id, paging.limit))
        })
    }
}
