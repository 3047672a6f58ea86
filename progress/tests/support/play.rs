//! A play of three sessions, of people and of time: whatever they say, and however late. Forged fences, a clock that
//! jumps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crawlwire_progress::store::{Act, Holder, NewSession, Op, Outcome, RedriveFilter};
use crawlwire_progress::{Arrow, Fence, Job, JobKey, Policy, SessionKey, State, Store, Timestamp};
use proptest::prelude::*;

use super::life::Life;
use super::step::{Many, SLOTS, Says, Step, Who};
use super::*;

/// Small numbers, so that every limit is met.
pub(crate) fn tight() -> Policy {
    Policy {
        accept_timeout: Duration::from_secs(30),
        job_timeout: Duration::from_secs(45),
        want_timeout: Duration::from_secs(20),
        retry_attempts: 2,
        misses_max: 3,
        queued_jobs_max: 5,
        tree_depth_max: 2,
        children_max: 2,
        tree_jobs_max: 3,
        account_jobs_max: 8,
        account_held_max: Some(4),
        ..Policy::default()
    }
}

pub(crate) struct Play {
    pub(crate) world: World,
    sessions: BTreeMap<SessionKey, Arc<str>>,
    slots: [SessionKey; SLOTS],
    /// Keeps names apart.
    serial: usize,
    /// Every lease that was ever given.
    given: Vec<(JobKey, Holder)>,
}

impl Play {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            world: World::new(policy),
            sessions: BTreeMap::new(),
            slots: [SessionKey(0); SLOTS],
            serial: 0,
            given: Vec::new(),
        }
    }

    /// What there is before the first step: a session in each slot, and as many jobs.
    pub(crate) fn opening(&mut self) -> Vec<Op> {
        let submit = Step::Submit {
            name: None,
            other: false,
            token: false,
            run_in: None,
        };
        let open = |slot| Step::Open {
            process: Some(0),
            confirms: slot > 0,
        };
        (0..SLOTS)
            .flat_map(|slot| [self.ops(&open(slot)).pop().unwrap(), self.ops(&submit).remove(0)])
            .collect()
    }

    /// The newest of a few jobs, or none that there is.
    fn job(&self, index: usize) -> JobKey {
        let rows = self.world.store.rows();
        rows.get(index % rows.len().max(1)).map_or(JobKey(-1), |row| row.key)
    }

    fn name_of(&self, session: SessionKey) -> Arc<str> {
        self.sessions.get(&session).cloned().unwrap_or_else(|| "nobody".into())
    }

    fn serial(&mut self) -> usize {
        self.serial += 1;
        self.serial
    }

    /// The job somebody speaks of, and the lease he claims to have.
    fn speaker(&self, who: &Who) -> Option<(JobKey, Holder)> {
        match *who {
            Who::Holder { job } => {
                let rows = self.world.store.rows();
                let leased: Vec<_> = rows.iter().filter(|row| row.session.is_some()).collect();
                let row = leased.get(job % leased.len().max(1))?;
                let session = row.session?;
                let (name, fence) = (self.name_of(session), row.fence);
                Some((row.key, Holder { session, name, fence }))
            }
            Who::Earlier { index } => self.given.get(index % self.given.len().max(1)).cloned(),
            Who::Liar { job, session, fence } => {
                let session = self.slots[session];
                let (name, fence) = (self.name_of(session), Fence(fence));
                Some((self.job(job), Holder { session, name, fence }))
            }
        }
    }

    /// What a step comes to here and now; time passes at once.
    pub(crate) fn ops(&mut self, step: &Step) -> Vec<Op> {
        let op = match step {
            Step::Wait { millis } => {
                self.world.later(Duration::from_millis(*millis));
                return Vec::new();
            }
            Step::Open { process, confirms } => {
                let serial = self.serial();
                let process = process.map(|process| format!("process-{process}"));
                let new = NewSession {
                    confirms: *confirms,
                    ..new_session(&format!("session-{serial}"), process.as_deref())
                };
                return vec![disconnect(self.slots[self.next_slot()]), Op::OpenSession(new)];
            }
            Step::Submit {
                name,
                other,
                token,
                run_in,
            } => {
                let id = format!("job-{}", self.serial());
                let mut new = if *token { with_token(&id, &id) } else { new_job(&id) };
                new.web_app_job_id = name.map(|name| format!("web-{name}"));
                new.account_id = if *other { "other" } else { "acme" }.to_owned();
                new.run_at = run_in.map(|millis| self.world.now().after(Duration::from_millis(millis)));
                Op::Submit(Box::new(new))
            }
            Step::Renew { slot } => renew(&[self.slots[*slot]]),
            Step::Disconnect { slot } => disconnect(self.slots[*slot]),
            Step::Claim { job, slot } => Op::Claim {
                job: self.job(*job),
                session: first(self.slots[*slot]),
                name: self.name_of(self.slots[*slot]),
            },
            Step::Adopt { job, slot } => {
                let key = self.job(*job);
                let view = self.world.views().into_iter().find(|view| view.key == key);
                adopt(
                    view.as_ref().map_or("nobody", |view| &view.public_id),
                    self.slots[*slot],
                )
            }
            Step::Recover { connected } => recover(*connected),
            Step::Sweep => Op::Sweep,
            Step::Act { job, act } => act_by(self.job(*job), *act),
            Step::Close { gate, millis } => {
                let until = millis.map(|millis| self.world.now().after(Duration::from_millis(millis)));
                close_gate(gate.clone(), until)
            }
            Step::Unlock { gate } => Op::OpenGate {
                gate: gate.clone(),
                by: BY.to_owned(),
            },
            Step::Many(many) => self.many(many),
            Step::Say { who, what } => match self.speaker(who) {
                Some((job, holder)) => line(what, job, &holder, self.serial()),
                None => return Vec::new(),
            },
        };
        vec![op]
    }

    fn many(&self, many: &Many) -> Op {
        let by = BY.to_owned();
        match many {
            Many::CancelTree { job } => {
                let (root, after) = (self.job(*job), None);
                Op::CancelTree { root, after, by }
            }
            Many::Redrive { other } => {
                let filter = RedriveFilter {
                    quarantined: true,
                    failed: true,
                    account_id: other.then(|| "other".to_owned()),
                };
                Op::Redrive {
                    filter,
                    after: None,
                    by,
                }
            }
            Many::Delete { job } => Op::Delete {
                root: self.job(*job),
                by,
            },
            Many::Prune { age } => {
                let before = Timestamp(self.world.now().0 - *age as i64);
                Op::Prune {
                    jobs_before: before,
                    errors_before: before,
                }
            }
        }
    }

    fn next_slot(&self) -> usize {
        self.sessions.len() % SLOTS
    }

    /// Remembers who was given what.
    pub(crate) fn learn(&mut self, op: &Op, outcome: &Outcome) {
        match (op, outcome) {
            (Op::OpenSession(new), Outcome::SessionOpened(opened)) => {
                let key = opened.session.key;
                self.slots[self.next_slot()] = key;
                self.sessions.insert(key, new.name.clone());
            }
            (_, Outcome::Moved(fact)) if matches!(fact.arrow, Arrow::Claim | Arrow::Adopt) => {
                let session = fact.session.expect("somebody has it");
                let (name, fence) = (self.name_of(session), fact.fence);
                self.given.push((fact.job, Holder { session, name, fence }));
            }
            _ => {}
        }
    }

    /// Takes a step alone and looks closely at what it did.
    pub(crate) fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        for op in self.ops(step) {
            self.watched(op)?;
        }
        Ok(())
    }

    pub(crate) fn watched(&mut self, op: Op) -> Result<(), TestCaseError> {
        let before = rows(&self.world);
        let leases = leases(&self.world);
        let outcome = self.world.store.apply(op.clone());
        self.learn(&op, &outcome);
        let after = rows(&self.world);
        for (key, row) in &after {
            prop_assert_eq!(row.check(), Ok(()), "{:?}", row);
            let Some(before) = before.get(key) else { continue };
            prop_assert!(row.fence >= before.fence, "a fence fell: {:?} {:?}", before, row);
            let again = matches!(
                op,
                Op::Act {
                    act: Act::Retry | Act::Redrive,
                    ..
                } | Op::Redrive { .. }
            );
            prop_assert!(
                !before.state.is_terminal() || row == before || again,
                "a finished job changed: {:?}",
                row
            );
        }
        if matches!(outcome, Outcome::Refused(_)) {
            prop_assert_eq!(&after, &before, "a refusal changed something");
        }
        if let Some((job, holder)) = lease_named(&op) {
            let good = before
                .get(&job)
                .is_some_and(|row| row.session == Some(holder.session) && row.fence == holder.fence);
            prop_assert!(
                good || matches!(outcome, Outcome::Refused(_)),
                "{:?} had an effect: {:?}",
                op,
                outcome
            );
        }
        if let (
            Op::Finish {
                ending: Ending::Completed { .. },
                ..
            },
            Outcome::Moved(fact),
        ) = (&op, &outcome)
        {
            prop_assert_eq!(fact.state, State::Completed, "a finish wins");
        }
        if let Outcome::Swept(facts) = &outcome {
            in_due_time(facts, &before, &leases, &self.world)?;
        }
        Ok(())
    }

    /// At the end all lives are told by their events, and everything fits together.
    pub(crate) fn end(&self) -> Result<BTreeSet<Arrow>, TestCaseError> {
        let mut taken = BTreeSet::new();
        let rows = rows(&self.world);
        for view in self.world.views() {
            let row = &rows[&view.key];
            let life = Life::replay(&self.world.events(view.key), &mut taken)?;
            prop_assert_eq!(
                (life.state, life.fence, life.attempt),
                (row.state, row.fence, row.attempt)
            );
            prop_assert_eq!(life.holder, view.session);
            prop_assert!(view.depth <= 2 && view.tree.children <= 2 && view.tree.jobs <= 3);
        }
        ledger::sound(&self.world)?;
        Ok(taken)
    }
}

fn line(what: &Says, job: JobKey, holder: &Holder, serial: usize) -> Op {
    match what {
        Says::Start => start(job, holder),
        Says::Complete => complete(job, holder),
        Says::Fail { recoverable } => fail(job, holder, *recoverable),
        Says::Release => release(job, holder),
        Says::Confirm => confirm(job, holder),
        Says::Return => give_back(job, holder),
        Says::Checkpoint { page } => checkpoint(job, holder, &page.to_string()),
        Says::Report { n } => report(job, holder.lease(), *n),
        Says::Discover { entities } => {
            let entities: Vec<_> = entities.iter().map(u8::to_string).collect();
            let mut items = groups(&entities.iter().map(String::as_str).collect::<Vec<_>>());
            for (_, item) in &mut items {
                // Places move now and then.
                item.namespace_path = format!("{}/{}", serial % 3, item.entity_id);
            }
            discover(job, holder, items)
        }
    }
}

/// What time did to jobs, it may do.
fn in_due_time(
    facts: &[Fact],
    before: &BTreeMap<JobKey, Job>,
    leases: &BTreeMap<SessionKey, Timestamp>,
    world: &World,
) -> Result<(), TestCaseError> {
    let now = world.now();
    for fact in facts {
        let row = &before[&fact.job];
        let since = match fact.arrow {
            Arrow::Expire => row.session.and_then(|session| leases.get(&session).copied()),
            Arrow::Deadline => row.deadline,
            Arrow::Force => row.want_deadline,
            Arrow::Promote => row.run_at,
            Arrow::Release => row.assigned_at.map(|at| at.after(world.policy.accept_timeout)),
            arrow => return Err(TestCaseError::fail(format!("time does not {arrow}"))),
        };
        prop_assert!(since.is_none_or(|since| since <= now), "too early: {:?}", fact);
    }
    Ok(())
}

fn rows(world: &World) -> BTreeMap<JobKey, Job> {
    world.store.rows().into_iter().map(|row| (row.key, row)).collect()
}

/// The leases of the sessions that are connected or have one.
fn leases(world: &World) -> BTreeMap<SessionKey, Timestamp> {
    let sessions = ready(world.store.sessions(1000)).unwrap();
    sessions
        .into_iter()
        .map(|view| (view.key, view.lease_expires_at))
        .collect()
}

fn lease_named(op: &Op) -> Option<(JobKey, &Holder)> {
    match op {
        Op::Start { job, holder }
        | Op::Release { job, holder }
        | Op::Confirm { job, holder }
        | Op::Return { job, holder }
        | Op::Checkpoint { job, holder, .. }
        | Op::Finish { job, holder, .. } => Some((*job, holder)),
        Op::Discover { parent, holder, .. } => Some((*parent, holder)),
        _ => None,
    }
}
