//! A store in memory: the same plans over maps, for tests and simulations. Nothing survives it.
//!
//! An operation is its own batch, unless several are given together, and commits at once.

mod load;
mod tables;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crawlwire_protocol::AccessToken;
use crawlwire_protocol::message::JobType;

use self::tables::Tables;
use crate::admit::ClosedGate;
use crate::ids::{AccountKey, CredentialKey, JobKey, SessionKey, Timestamp, TokenKey};
use crate::job::{Job, State};
use crate::live::AggregateProgress;
use crate::plan::{Needs, Plan, plan};
use crate::policy::Policy;
use crate::retry::chance;
use crate::store::{
    BoxFuture, Committed, ErrorFilter, JobFilter, Op, Outcome, Paging, ReadyQuery, Store, StoreError, TOKENS_MAX,
    Ticket, WATCHES_MAX, Watch,
};
use crate::sums::{Totals, TreeView};
use crate::track::{History, Tracker};
use crate::view::{
    AccountView, AreaView, AuditView, CrawlerToken, CredentialView, ErrorView, EventView, Feed, FeedCursor,
    HeardElsewhere, HeldJob, JobView, Page, ReadyJob, SessionView, StateCounts,
};
use crate::weight::TypeHistory;

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
        self.apply_all(vec![op]).pop().unwrap_or(Outcome::Done)
    }

    /// Carries operations out in one batch; one answer for each, in order.
    pub fn apply_all(&self, ops: Vec<Op>) -> Vec<Outcome> {
        let now = (self.clock)();
        let mut tables = self.tables();
        let (plan, seed) = self.decide(&tables, ops, now);
        tables.chance = seed;
        tables.write(plan, now)
    }

    /// What operations in one batch would write, for checks of plans. Nothing is written.
    pub fn plan_of(&self, ops: Vec<Op>) -> Plan {
        self.decide(&self.tables(), ops, (self.clock)()).0
    }

    fn decide(&self, tables: &Tables, ops: Vec<Op>, now: Timestamp) -> (Plan, u64) {
        let snapshot = tables.load(&Needs::of(&ops), now, &self.policy);
        let mut seed = tables.chance;
        let plan = plan(snapshot, ops, &self.policy, now, &mut || chance(&mut seed));
        (plan, seed)
    }

    /// Every job as it is kept, for checks that a view does not allow.
    pub fn rows(&self) -> Vec<Job> {
        self.tables().jobs.values().map(|row| row.loaded.job.clone()).collect()
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

    /// Several routers may stand over one.
    fn is_shared(&self) -> bool {
        true
    }

    fn watched_elsewhere<'a>(&'a self, server: &'a str) -> BoxFuture<'a, Result<Vec<Watch>, StoreError>> {
        Box::pin(async move {
            let now = (self.clock)();
            let mut watched = BTreeMap::<String, Timestamp>::new();
            for ((by, job), until) in &self.tables().watches {
                if by != server && *until > now {
                    let longest = watched.entry(job.clone()).or_insert(*until);
                    *longest = (*until).max(*longest);
                }
            }
            let watched = watched.into_iter().take(WATCHES_MAX + 1).map(|(job, until)| Watch {
                job: Some(job).filter(|job| !job.is_empty()),
                lasts: until.since(now),
            });
            Ok(watched.collect())
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StoreError>> {
        Box::pin(async move { Ok((self.clock)()) })
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

    fn views(&self, jobs: Vec<JobKey>) -> BoxFuture<'_, Result<BTreeMap<JobKey, JobView>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let found = jobs.iter().filter_map(|job| tables.jobs.get(job));
            Ok(found.map(|row| (row.loaded.job.key, tables.view(row))).collect())
        })
    }

    fn jobs(&self, filter: JobFilter, paging: Paging) -> BoxFuture<'_, Result<Page<JobView>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let newest = tables.jobs.values().rev();
            let newest = newest.filter(|row| paging.after.is_none_or(|after| row.loaded.job.key.0 < after));
            let views = newest.filter_map(|row| {
                let (view, lineage) = (tables.view(row), &row.loaded.lineage);
                filter.fits(&view, lineage.parent, lineage.root).then_some(view)
            });
            Ok(page(views, |view| view.key.0, paging.limit))
        })
    }

    fn tree(&self, top: JobKey, paging: Paging) -> BoxFuture<'_, Result<Page<JobView>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let mut below = BTreeSet::from([top]);
            // A parent comes before its children.
            let rows = tables.jobs.range(top..).map(|(_, row)| row).filter(|row| {
                let key = row.loaded.job.key;
                let parent = row.loaded.lineage.parent;
                key == top || (parent.is_some_and(|parent| below.contains(&parent)) && below.insert(key))
            });
            let rows = rows.filter(|row| paging.after.is_none_or(|after| row.loaded.job.key.0 > after));
            Ok(page(rows.map(|row| tables.view(row)), |view| view.key.0, paging.limit))
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

    fn oldest_queued(&self) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let mut rows = tables.jobs.values();
            let oldest = rows.find(|row| row.loaded.job.state == State::Queued);
            Ok(oldest.map(|row| tables.view(row).created_at))
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

    fn feed_end(&self) -> BoxFuture<'_, Result<FeedCursor, StoreError>> {
        Box::pin(async move { Ok(FeedCursor(self.tables().last_event)) })
    }

    fn feed(&self, after: FeedCursor, limit: usize) -> BoxFuture<'_, Result<Feed, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let behind = tables.events.iter().filter(|(_, event)| event.id > after.0);
            let items: Vec<_> = behind.filter_map(|event| tables.feed_item(event)).take(limit).collect();
            let next = items.last().map_or(after, |item| FeedCursor(item.event.id));
            Ok(Feed { items, next })
        })
    }

    fn progress_elsewhere<'a>(
        &'a self,
        server: &'a str,
        after: (Timestamp, JobKey),
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<HeardElsewhere>, StoreError>> {
        Box::pin(async move {
            let mut heard = self.tables().heard_elsewhere(server, after);
            heard.truncate(limit);
            Ok(heard)
        })
    }

    fn progress(&self, job: JobKey) -> BoxFuture<'_, Result<Option<Tracker>, StoreError>> {
        Box::pin(async move { Ok(self.tables().progress.get(&job).map(|report| Tracker::clone(report))) })
    }

    fn trackers(&self, jobs: Vec<JobKey>) -> BoxFuture<'_, Result<BTreeMap<JobKey, Tracker>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let reports = jobs
                .into_iter()
                .filter_map(|job| Some((job, tables.progress.get(&job)?)));
            let without_course = |report: &Tracker| Tracker {
                history: History::default(),
                ..report.clone()
            };
            Ok(reports.map(|(job, report)| (job, without_course(report))).collect())
        })
    }

    fn histories(&self, job: JobKey) -> BoxFuture<'_, Result<Vec<(i32, History)>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let of_job = tables.histories.range((job, i32::MIN)..=(job, i32::MAX));
            Ok(of_job
                .map(|((_, attempt), history)| (*attempt, history.clone()))
                .collect())
        })
    }

    fn tree_progress(&self, root: JobKey) -> BoxFuture<'_, Result<Option<TreeView>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            Ok(tables.trees.get(&root).map(|(tree, updated_at)| TreeView {
                sum: tree.sum,
                reached: tree.reached,
                updated_at: *updated_at,
            }))
        })
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>> {
        Box::pin(async move { Ok(self.tables().totals()) })
    }

    fn type_history(&self) -> BoxFuture<'_, Result<BTreeMap<JobType, TypeHistory>, StoreError>> {
        Box::pin(async move { Ok(self.tables().type_history()) })
    }

    fn running(&self) -> BoxFuture<'_, Result<Option<AggregateProgress>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let running = tables.jobs.values().map(|row| &row.loaded.job);
            let running = running.filter(|job| job.state == State::Running);
            let said: Vec<_> = running
                .filter_map(|job| {
                    tables
                        .progress
                        .get(&job.key)
                        .filter(|report| report.attempt == job.attempt)
                })
                .map(|report| report.said.overall_completion)
                .collect();
            Ok(AggregateProgress::of(said.len(), said.iter().sum()))
        })
    }

    fn ready(&self, query: ReadyQuery) -> BoxFuture<'_, Result<Vec<ReadyJob>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let mut lanes = BTreeMap::<i64, Vec<ReadyJob>>::new();
            for row in tables.jobs.values().filter(|row| row.loaded.job.state == State::Queued) {
                if query.after_lane.is_none_or(|after| row.lane > after) {
                    lanes.entry(row.lane).or_default().push(row.ready());
                }
            }
            let chosen = lanes.into_values().take(query.lanes).flat_map(|mut lane| {
                lane.sort_by_key(|job| (job.due, job.key));
                lane.truncate(query.per_lane);
                lane
            });
            Ok(chosen.collect())
        })
    }

    fn gates(&self) -> BoxFuture<'_, Result<Vec<ClosedGate>, StoreError>> {
        Box::pin(async move {
            let mut gates = self.tables().gates.clone();
            gates.sort_by(|one, other| one.gate.cmp(&other.gate));
            Ok(gates)
        })
    }

    fn held_by_account(
        &self,
        accounts: Vec<AccountKey>,
    ) -> BoxFuture<'_, Result<BTreeMap<AccountKey, u64>, StoreError>> {
        Box::pin(async move {
            let mut held = BTreeMap::new();
            for row in self.tables().jobs.values() {
                let account = row.loaded.lineage.account;
                if row.loaded.job.state.is_leased() && accounts.contains(&account) {
                    *held.entry(account).or_default() += 1;
                }
            }
            Ok(held)
        })
    }

    fn held(&self, sessions: Vec<SessionKey>) -> BoxFuture<'_, Result<Vec<HeldJob>, StoreError>> {
        Box::pin(async move {
            let sessions: BTreeSet<_> = sessions.into_iter().collect();
            let tables = self.tables();
            let held = tables.jobs.values().filter_map(|row| {
                let job = &row.loaded.job;
                Some(HeldJob {
                    key: job.key,
                    public_id: row.loaded.public_id.clone(),
                    session: job.session.filter(|session| sessions.contains(session))?,
                    fence: job.fence,
                    want: job.want,
                })
            });
            Ok(held.collect())
        })
    }

    fn token(&self, credential: CredentialKey) -> BoxFuture<'_, Result<Option<(AccessToken, i64)>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let found = tables.credentials.values().find(|(known, _)| known.key == credential);
            Ok(found.map(|(known, token)| (token.clone(), known.version)))
        })
    }

    fn checkpoint(&self, job: JobKey) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            Ok(tables.checkpoints.get(&job).map(|kept| kept.cursor.clone()))
        })
    }

    fn crawler_tokens(&self) -> BoxFuture<'_, Result<Vec<CrawlerToken>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            Ok(tables.tokens.values().rev().take(TOKENS_MAX).cloned().collect())
        })
    }

    fn crawler_token(&self, token: TokenKey) -> BoxFuture<'_, Result<Option<CrawlerToken>, StoreError>> {
        Box::pin(async move { Ok(self.tables().tokens.get(&token).cloned()) })
    }

    fn accounts(&self, paging: Paging) -> BoxFuture<'_, Result<Page<AccountView>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let mut accounts: Vec<_> = tables.accounts.iter().collect();
            accounts.sort_by_key(|(_, key)| std::cmp::Reverse(**key));
            accounts.retain(|(_, key)| paging.after.is_none_or(|after| key.0 < after));
            let views = accounts.into_iter().map(|(name, key)| tables.account_view(name, *key));
            Ok(page(views, |view| view.key.0, paging.limit))
        })
    }

    fn account<'a>(&'a self, account_id: &'a str) -> BoxFuture<'a, Result<Option<AccountView>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let found = tables.accounts.get(account_id);
            Ok(found.map(|key| tables.account_view(account_id, *key)))
        })
    }

    fn credentials(
        &self,
        account: AccountKey,
        paging: Paging,
    ) -> BoxFuture<'_, Result<Page<CredentialView>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let own = tables.credentials.iter().filter(|((of, _), _)| *of == account);
            let mut views: Vec<_> = own
                .map(|((_, host), kept)| tables.credential_view(host, kept))
                .collect();
            views.sort_by_key(|view| std::cmp::Reverse(view.key));
            views.retain(|view| paging.after.is_none_or(|after| view.key.0 < after));
            Ok(page(views.into_iter(), |view| view.key.0, paging.limit))
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
            Ok(alive.take(limit).map(|row| tables.session_view(row)).collect())
        })
    }

    fn audit(&self, paging: Paging) -> BoxFuture<'_, Result<Page<AuditView>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let newest = tables.audit.iter().rev();
            let newest = newest.filter(|row| paging.after.is_none_or(|after| row.id < after));
            Ok(page(newest.cloned(), |row| row.id, paging.limit))
        })
    }

    fn areas<'a>(&'a self, account_id: &'a str, paging: Paging) -> BoxFuture<'a, Result<Page<AreaView>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let account = tables.accounts.get(account_id).copied();
            let mut seen: Vec<_> = tables
                .areas
                .values()
                .filter_map(|area| {
                    let since = *tables.account_areas.get(&(account?, area.id))?;
                    Some(AreaView { since, ..area.clone() })
                })
                .filter(|area| paging.after.is_none_or(|after| area.id < after))
                .collect();
            seen.sort_by_key(|area| std::cmp::Reverse(area.id));
            Ok(page(seen.into_iter(), |area| area.id, paging.limit))
        })
    }

    fn errors(&self, filter: ErrorFilter, paging: Paging) -> BoxFuture<'_, Result<Page<ErrorView>, StoreError>> {
        Box::pin(async move {
            let tables = self.tables();
            let newest = tables
                .errors
                .iter()
                .rev()
                .filter(|error| paging.after.is_none_or(|after| error.id < after) && filter.fits(error));
            Ok(page(newest.cloned(), |error| error.id, paging.limit))
        })
    }
}
