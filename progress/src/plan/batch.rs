//! Decides a batch, operation by operation, over the rows in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{AccountCounts, ChangedJob, LoadedJob, NewArea, NewEvent, Plan, Snapshot};
use crate::admit::Gate;
use crate::ids::{AccountKey, Fence, JobKey, SessionKey, Timestamp};
use crate::job::{Arrow, Job, State};
use crate::lifecycle::{Event, Lease, Refusal, apply};
use crate::policy::{Guard, Policy};
use crate::store::{Ending, Fact, Holder, NewSession, Op, Outcome, WATCHED_FOR, WATCHES_MAX, Watch};
use crate::track::Tracker;

/// Sessions are remembered this long after they ended, for people who look at last night.
const FORGET_SESSIONS_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Decides a batch. `chance` gives numbers in `[0, 1)`; `fallback` is the time when the snapshot has none.
pub fn plan(
    snapshot: Snapshot,
    ops: Vec<Op>,
    policy: &Policy,
    now: Timestamp,
    chance: &mut dyn FnMut() -> f64,
) -> Plan {
    let now = snapshot.now.unwrap_or(now);
    let mut keys = snapshot.keys.clone();
    keys.reverse();
    let mut batch = Batch {
        snapshot,
        policy,
        now,
        chance,
        keys,
        touched: BTreeMap::new(),
        stirred: BTreeSet::new(),
        opened: BTreeMap::new(),
        areas: BTreeMap::new(),
        counted: BTreeSet::new(),
        plan: Plan::default(),
    };
    for op in ops {
        let outcome = batch.carry_out(op);
        batch.plan.outcomes.push(outcome);
    }
    batch.finish()
}

/// What a batch did to one job.
pub(super) struct Touched {
    before: (State, Fence),
    arrows: Vec<Arrow>,
    session: Option<Arc<str>>,
    result: Option<String>,
    error: Option<String>,
}

pub(super) struct Batch<'a> {
    pub(super) snapshot: Snapshot,
    pub(super) policy: &'a Policy,
    pub(super) now: Timestamp,
    chance: &'a mut dyn FnMut() -> f64,
    keys: Vec<i64>,
    pub(super) touched: BTreeMap<JobKey, Touched>,
    /// Sessions that changed.
    pub(super) stirred: BTreeSet<SessionKey>,
    /// Sessions that were opened, with what the last connection of each said of itself; new ones are marked.
    pub(super) opened: BTreeMap<SessionKey, (NewSession, bool)>,
    /// Places that were found, by what makes them the same (host, kind, entity), for each account; the newest words stay.
    pub(super) areas: BTreeMap<(String, &'static str, String), BTreeMap<AccountKey, NewArea>>,
    /// Roots of trees whose sum or milestone changed.
    pub(super) counted: BTreeSet<JobKey>,
    pub(super) plan: Plan,
}

impl Batch<'_> {
    pub(super) fn carry_out(&mut self, op: Op) -> Outcome {
        match op {
            Op::Submit(job) => self.submit(*job),
            Op::SubmitAll(jobs) => self.submit_all(jobs),
            Op::Claim { job, session, name } => self.claim(job, session, name),
            Op::Start { job, holder } => self.moved(job, Event::Start(holder.lease()), Some(holder)),
            Op::Finish {
                job,
                holder,
                ending,
                progress,
            } => self.end(job, holder, ending, progress),
            Op::Release { job, holder } => self.moved(job, Event::Release(holder.lease()), Some(holder)),
            Op::Adopt { public_id, session } => self.adopt(&public_id, session),
            Op::Discover { parent, holder, items } => self.discover(parent, &holder, items),
            Op::Progress(reports) => self.progress(reports),
            Op::OpenSession(session) => self.open_session(session),
            Op::Renew(sessions) => self.renew(&sessions),
            Op::Disconnect(session) => self.disconnect(session),
            Op::Said {
                session,
                seq,
                fingerprint,
                ops,
                refused,
            } => self.said(session, (seq, fingerprint), (ops, refused)),
            Op::Checkpoint { job, holder, cursor } => self.checkpoint(job, &holder, cursor),
            Op::Return { job, holder } => self.moved(job, Event::Return(holder.lease()), Some(holder)),
            Op::Recover { server, connected } => self.recover(server, connected),
            Op::Sweep => self.sweep(),
            Op::RecordErrors(errors) => {
                self.plan.errors.extend(errors);
                Outcome::Done
            }
            Op::Record {
                by,
                act,
                target,
                detail,
            } => {
                self.audit(by, act, target, detail);
                Outcome::Done
            }
            Op::Confirm { job, holder } => self.moved(job, Event::Confirm(holder.lease()), Some(holder)),
            Op::Act { job, act, by } => self.act(job, act, by),
            Op::ActAll { jobs, act, target, by } => self.act_all(&jobs, act, target, by),
            Op::CancelTree { root, after, by } => self.cancel_tree(root, after, by),
            Op::Redrive { filter, after, by } => self.redrive(filter, after, by),
            Op::Delete { root, by } => self.delete(root, by),
            Op::CloseGate {
                gate,
                until,
                reason,
                by,
            } => self.close_gate(gate, until, reason, by),
            Op::OpenGate { gate, by } => self.open_gate(&gate, by),
            Op::KeepCredential { new, by } => self.keep_credential(new, by),
            Op::CreateToken { name, role, hash, by } => self.create_token((name, role, hash), by),
            Op::RevokeToken { name, by } => self.revoke_token(name, by),
            Op::TokenUsed(token) => {
                self.plan.used_tokens.insert(token);
                Outcome::Done
            }
            Op::Watch { server, watches } => self.watch(&server, watches),
            Op::Prune { jobs_before, .. } => self.prune(jobs_before),
        }
    }

    fn watch(&mut self, server: &str, watches: Vec<Watch>) -> Outcome {
        let all = watches.len() > WATCHES_MAX;
        for watch in watches {
            let job = watch.job.filter(|_| !all).unwrap_or_default();
            let until = self.now.after(watch.lasts.min(WATCHED_FOR));
            let lease = self.plan.watches.entry((server.to_owned(), job)).or_insert(until);
            *lease = until.max(*lease);
        }
        Outcome::Done
    }

    /// Takes an arrow and marks it. All arrows go through here.
    pub(super) fn take(&mut self, key: JobKey, event: Event, name: Option<Arc<str>>) -> Result<Fact, Refusal> {
        let chance = (self.chance)();
        let loaded = self.snapshot.jobs.get_mut(&key).ok_or(Refusal::NotFound)?;
        let before = (loaded.job.state, loaded.job.fence);
        let (holder, failures) = (loaded.job.session, loaded.job.failures);
        let arrow = apply(&mut loaded.job, event, self.policy, self.now, chance)?;
        let touched = touch(&mut self.touched, key, before);
        if before.0 == State::Assigned && arrow == Arrow::Finish {
            touched.arrows.push(Arrow::Start);
        }
        touched.arrows.push(arrow);
        if loaded.job.failures > failures && arrow != Arrow::Finish {
            touched.error = Some(cause(arrow));
        }
        let name = name.or_else(|| Some(self.snapshot.sessions.get(&holder?)?.name.clone()));
        touched.session = name.or_else(|| touched.session.take());
        let after = loaded.job.state;
        self.plan.backlog_change += i64::from(after.is_backlog()) - i64::from(before.0.is_backlog());
        let fact = fact(loaded, arrow, Some(before.0), loaded.job.session.or(holder), self.now);
        let account = loaded.lineage.account;
        self.count(account, Some(before.0), Some(after));
        if before.0.is_terminal() != after.is_terminal() {
            self.settle(key);
        }
        Ok(fact)
    }

    /// Counts a job of an account that was in one state and is in another; in none before it is created.
    pub(super) fn count(&mut self, account: AccountKey, before: Option<State>, after: Option<State>) {
        let open = |state: Option<State>| i64::from(state.is_some_and(|state| !state.is_terminal()));
        let held = |state: Option<State>| i64::from(state.is_some_and(State::is_leased));
        let change = AccountCounts {
            open: open(after) - open(before),
            held: held(after) - held(before),
        };
        if change == AccountCounts::default() {
            return;
        }
        for counts in [
            self.snapshot.account_counts.entry(account).or_default(),
            self.plan.account_changes.entry(account).or_default(),
        ] {
            counts.open += change.open;
            counts.held += change.held;
        }
    }

    fn moved(&mut self, key: JobKey, event: Event, holder: Option<Holder>) -> Outcome {
        let name = holder.map(|holder| holder.name);
        self.take(key, event, name)
            .map_or_else(|refusal| Outcome::Refused(refusal.into()), Outcome::Moved)
    }

    /// What stands before a queued job whatever crawlers there are.
    pub(super) fn barred(&self, loaded: &LoadedJob) -> Option<Refusal> {
        if loaded.job.state != State::Queued {
            return None;
        }
        let account = loaded.lineage.account;
        if self.gate_before(account, &loaded.host, |_| true) {
            return Some(Refusal::GateClosed);
        }
        let held = self
            .snapshot
            .account_counts
            .get(&account)
            .map_or(0, |counts| counts.held);
        let full = |limit: u64| u64::try_from(held).unwrap_or(0) >= limit;
        self.policy
            .account_held_max
            .is_some_and(full)
            .then_some(Refusal::AccountShare)
    }

    /// Whether a gate of some kind is closed before the jobs of an account on a host.
    fn gate_before(&self, account: AccountKey, host: &str, kind: impl Fn(&Gate) -> bool) -> bool {
        let mut gates = self.snapshot.gates.iter();
        gates.any(|closed| kind(&closed.gate) && closed.bars(account, host, self.now))
    }

    fn end(&mut self, key: JobKey, holder: Holder, ending: Ending, progress: Option<Arc<Tracker>>) -> Outcome {
        let lease = holder.lease();
        let event = match &ending {
            Ending::Completed { .. } => Event::Complete(lease),
            Ending::Failed { recoverable, .. } => Event::Fail {
                lease,
                recoverable: *recoverable,
                free: self.has_bad_credentials(key),
            },
        };
        let mut fact = match self.take(key, event, Some(holder.name)) {
            Ok(fact) => fact,
            Err(refusal) => return Outcome::Refused(refusal.into()),
        };
        if let Some(touched) = self.touched.get_mut(&key) {
            match ending {
                Ending::Completed { result } => touched.result = Some(result),
                Ending::Failed { error, .. } => touched.error = Some(error),
            }
        }
        if let Some(progress) = progress {
            self.keep_report(key, progress, true);
        }
        fact.passed = self.pass_milestones(key);
        Outcome::Moved(fact)
    }

    fn has_bad_credentials(&self, key: JobKey) -> bool {
        let credentials = |gate: &Gate| matches!(gate, Gate::Credentials { .. });
        let job = self.snapshot.jobs.get(&key);
        job.is_some_and(|loaded| self.gate_before(loaded.lineage.account, &loaded.host, credentials))
    }

    fn adopt(&mut self, public_id: &str, session: SessionKey) -> Outcome {
        let found = self.snapshot.jobs.values().find(|loaded| loaded.public_id == public_id);
        let Some(loaded) = found else {
            return Outcome::Refused(Refusal::NotFound.into());
        };
        let Some(holder) = loaded.job.session else {
            return Outcome::Refused(Refusal::Stale.into());
        };
        let key = loaded.job.key;
        if holder != session
            && let Err(refusal) = self.same_crawler(holder, session)
        {
            return Outcome::Refused(refusal.into());
        }
        let name = self.snapshot.sessions.get(&session).map(|session| session.name.clone());
        self.take(key, Event::Adopt(session), name)
            .map_or_else(|refusal| Outcome::Refused(refusal.into()), Outcome::Moved)
    }

    /// Whether `new` is the process that `old` was, the connection of `old` is gone, and its lease is not over.
    fn same_crawler(&self, old: SessionKey, new: SessionKey) -> Result<(), Refusal> {
        let sessions = &self.snapshot.sessions;
        let (Some(old), Some(new)) = (sessions.get(&old), sessions.get(&new)) else {
            return Err(Refusal::HeldByAnother);
        };
        let known = old.identity.is_some() && old.identity == new.identity;
        if !known || !new.connected || self.now >= old.lease_expires_at {
            Err(Refusal::HeldByAnother)
        } else if old.connected {
            Err(Refusal::StillConnected)
        } else {
            Ok(())
        }
    }

    /// Reports of jobs that are not running under this lease are late, and dropped.
    fn progress(&mut self, reports: Vec<(JobKey, Lease, Arc<Tracker>)>) -> Outcome {
        let (mut stale, mut reported) = (Vec::new(), BTreeMap::new());
        for (key, lease, report) in reports {
            let running = |loaded: &&LoadedJob| runs_under(&loaded.job, lease, self.policy);
            if let Some(loaded) = self.snapshot.jobs.get(&key).filter(running) {
                reported.insert(loaded.lineage.root, key);
                self.keep_report(key, report, false);
            } else {
                stale.push(key);
            }
        }
        let passed = reported.into_values().flat_map(|job| self.pass_milestones(job));
        Outcome::Progressed {
            passed: passed.collect(),
            stale,
        }
    }

    /// Gates first, because deadlines behind them stand still.
    fn sweep(&mut self) -> Outcome {
        self.open_due_gates();
        let keys: Vec<_> = self.snapshot.jobs.keys().copied().collect();
        let demanded: Vec<_> = keys
            .into_iter()
            .filter_map(|key| Some((key, self.demand(key)?)))
            .collect();
        let facts = demanded
            .into_iter()
            .filter_map(|(key, event)| self.take(key, event, None).ok())
            .collect();
        self.plan.forget_sessions_before =
            Some(Timestamp(self.now.0.saturating_sub(
                i64::try_from(FORGET_SESSIONS_AFTER.as_millis()).unwrap_or(i64::MAX),
            )));
        Outcome::Swept(facts)
    }

    /// What time demands of a job, leases first.
    fn demand(&self, key: JobKey) -> Option<Event> {
        let loaded = self.snapshot.jobs.get(&key)?;
        let job = &loaded.job;
        let past = |moment: Option<Timestamp>| moment.is_some_and(|moment| moment <= self.now);
        if job.state == State::Delayed {
            return past(job.run_at).then_some(Event::Promote);
        }
        let session = job.session?;
        let lease = self.snapshot.sessions.get(&session);
        let expired = lease.is_none_or(|session| session.lease_expires_at <= self.now);
        let accept_by = job.assigned_at.map(|at| at.after(self.policy.accept_timeout));
        if expired || !self.policy.has(Guard::Expiry) {
            Some(Event::Expire(session))
        } else if past(job.want_deadline) {
            Some(Event::Force)
        } else if past(job.deadline) && !self.stands_still(loaded) {
            Some(Event::Deadline)
        } else if job.state == State::Assigned && past(accept_by) {
            let fence = job.fence;
            Some(Event::Release(Lease { session, fence }))
        } else {
            None
        }
    }

    fn stands_still(&self, loaded: &LoadedJob) -> bool {
        let (account, host) = (loaded.lineage.account, &loaded.host);
        let stops = |deadline| {
            let mut gates = self.snapshot.gates.iter();
            gates.any(|closed| closed.stops(deadline, account, host, self.now))
        };
        loaded.job.deadline.is_some_and(stops)
    }

    /// Needs::of counted generously, so running out is a defect of a store; a key below every real one then makes the
    /// insert fail on its constraint instead of overwriting something.
    pub(super) fn fresh_key(&mut self) -> i64 {
        debug_assert!(!self.keys.is_empty(), "the snapshot has fewer keys than Needs::keys");
        self.keys.pop().unwrap_or(-1)
    }

    fn finish(mut self) -> Plan {
        for (key, touched) in std::mem::take(&mut self.touched) {
            let Some(loaded) = self.snapshot.jobs.get(&key) else {
                continue;
            };
            let job = &loaded.job;
            if !touched.arrows.is_empty() {
                self.plan.events.push(NewEvent {
                    job: key,
                    arrows: touched.arrows,
                    state: job.state,
                    fence: job.fence,
                    attempt: job.attempt,
                    session: touched.session,
                });
            }
            self.plan.changed.push(ChangedJob {
                before: touched.before,
                job: job.clone(),
                tree: loaded.tree,
                result: touched.result,
                error: touched.error,
            });
        }
        self.write_sessions();
        self.write_trees();
        self.plan.areas = self.areas.into_values().flat_map(BTreeMap::into_values).collect();
        self.plan
            .account_changes
            .retain(|_, change| *change != AccountCounts::default());
        self.plan
    }
}

/// What stands as the error of an attempt that time ended, in the form that crawlers' errors have.
fn cause(arrow: Arrow) -> String {
    let message = match arrow {
        Arrow::Deadline => "the attempt ran longer than a job may",
        _ => "the crawler was not heard of any more",
    };
    serde_json::json!({ "error_type": arrow.as_str(), "error_message": message, "is_recoverable": true }).to_string()
}

pub(super) fn runs_under(job: &Job, lease: Lease, policy: &Policy) -> bool {
    let fence = job.fence == lease.fence || !policy.has(Guard::Fence);
    job.state == State::Running && job.session == Some(lease.session) && fence
}

pub(super) fn touch(touched: &mut BTreeMap<JobKey, Touched>, key: JobKey, before: (State, Fence)) -> &mut Touched {
    touched.entry(key).or_insert_with(|| Touched {
        before,
        arrows: Vec::new(),
        session: None,
        result: None,
        error: None,
    })
}

fn fact(loaded: &LoadedJob, arrow: Arrow, from: Option<State>, session: Option<SessionKey>, at: Timestamp) -> Fact {
    Fact {
        job: loaded.job.key,
        public_id: loaded.public_id.clone(),
        arrow,
        from,
        state: loaded.job.state,
        fence: loaded.job.fence,
        attempt: loaded.job.attempt,
        session,
        at,
        passed: Vec::new(),
    }
}
