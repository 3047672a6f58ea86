//! Whatever crawlers say, and however late, lives stay sound. Three sessions at a time, forged fences, a clock that jumps.

mod support;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crawlwire_progress::store::{Ending, Holder, NewSession, Op, Outcome};
use crawlwire_progress::view::EventView;
use crawlwire_progress::{Arrow, Fence, Job, JobKey, Policy, SessionKey, State, Store};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use support::*;

/// Who speaks of a job: the one that may, one that could earlier, or a liar.
#[derive(Debug, Clone)]
enum Who {
    Holder { job: usize },
    Earlier { index: usize },
    Liar { job: usize, session: usize, fence: i64 },
}

#[derive(Debug, Clone)]
enum Says {
    Start,
    Complete,
    Fail { recoverable: bool },
    Release,
    Discover { entities: Vec<u8> },
    Report { n: i64 },
}

#[derive(Debug, Clone)]
enum Step {
    Wait { millis: u64 },
    Submit { name: Option<u8> },
    Open { slot: usize, process: Option<u8> },
    Renew { slot: usize },
    Disconnect { slot: usize },
    Claim { job: usize, slot: usize },
    Adopt { job: usize, slot: usize },
    Say { who: Who, what: Says },
    Recover { connected: bool },
    Sweep,
}

const SLOTS: usize = 3;

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        6 => (0..8_usize).prop_map(|job| Who::Holder { job }),
        2 => (0..40_usize).prop_map(|index| Who::Earlier { index }),
        1 => (0..8_usize, 0..SLOTS, 0..6_i64).prop_map(|(job, session, fence)| Who::Liar { job, session, fence }),
    ]
}

fn says() -> impl Strategy<Value = Says> {
    prop_oneof![
        4 => Just(Says::Start),
        1 => Just(Says::Complete),
        2 => prop::bool::weighted(0.9).prop_map(|recoverable| Says::Fail { recoverable }),
        1 => Just(Says::Release),
        2 => prop::collection::vec(0..5_u8, 1..4).prop_map(|entities| Says::Discover { entities }),
        2 => (1..20_i64).prop_map(|n| Says::Report { n }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let slot = || 0..SLOTS;
    prop_oneof![
        4 => (0..40_000_u64).prop_map(|millis| Step::Wait { millis }),
        2 => prop::option::weighted(0.3, 0..4_u8).prop_map(|name| Step::Submit { name }),
        2 => (slot(), prop::option::weighted(0.8, 0..2_u8)).prop_map(|(slot, process)| Step::Open { slot, process }),
        4 => slot().prop_map(|slot| Step::Renew { slot }),
        1 => slot().prop_map(|slot| Step::Disconnect { slot }),
        8 => (0..8_usize, slot()).prop_map(|(job, slot)| Step::Claim { job, slot }),
        2 => (0..8_usize, slot()).prop_map(|(job, slot)| Step::Adopt { job, slot }),
        12 => (who(), says()).prop_map(|(who, what)| Step::Say { who, what }),
        1 => prop::bool::weighted(0.9).prop_map(|connected| Step::Recover { connected }),
        3 => Just(Step::Sweep),
    ]
}

fn policy() -> Policy {
    Policy {
        accept_timeout: Duration::from_secs(30),
        job_timeout: Duration::from_secs(45),
        retry_attempts: 2,
        misses_max: 3,
        queued_jobs_max: 5,
        tree_depth_max: 2,
        children_max: 2,
        tree_jobs_max: 3,
        ..Policy::default()
    }
}

struct Play {
    world: World,
    sessions: BTreeMap<SessionKey, Arc<str>>,
    slots: Vec<SessionKey>,
    jobs: Vec<JobKey>,
    /// Every lease that was ever given.
    given: Vec<(JobKey, Holder)>,
    before: BTreeMap<JobKey, Job>,
}

impl Play {
    fn new() -> Self {
        let mut play = Self {
            world: World::new(policy()),
            sessions: BTreeMap::new(),
            slots: Vec::new(),
            jobs: Vec::new(),
            given: Vec::new(),
            before: BTreeMap::new(),
        };
        for slot in 0..SLOTS {
            play.open(slot, Some(0));
            play.take(Op::Submit(Box::new(new_job(&format!("job-{slot}")))));
        }
        play
    }

    fn open(&mut self, slot: usize, process: Option<u8>) {
        let name: Arc<str> = format!("session-{}", self.sessions.len()).into();
        let op = Op::OpenSession(NewSession {
            name: name.clone(),
            identity: process.map(|process| format!("process-{process}")),
            server: SERVER.to_owned(),
        });
        let Outcome::SessionOpened(key) = self.world.store.apply(op) else {
            panic!("no session")
        };
        self.sessions.insert(key, name);
        if slot < self.slots.len() {
            self.slots[slot] = key;
        } else {
            self.slots.push(key);
        }
    }

    fn job(&self, index: usize) -> JobKey {
        self.jobs[index % self.jobs.len()]
    }

    /// The job somebody speaks of, and the lease he claims to have.
    fn speaker(&self, who: &Who) -> Option<(JobKey, Holder)> {
        match *who {
            Who::Holder { job } => {
                let rows = self.world.store.rows();
                let leased: Vec<_> = rows.iter().filter(|row| row.session.is_some()).collect();
                let row = leased.get(job % leased.len().max(1))?;
                let session = row.session?;
                let name = self.sessions[&session].clone();
                Some((
                    row.key,
                    Holder {
                        session,
                        name,
                        fence: row.fence,
                    },
                ))
            }
            Who::Earlier { index } => self.given.get(index % self.given.len().max(1)).cloned(),
            Who::Liar { job, session, fence } => {
                let session = self.slots[session];
                let name = self.sessions[&session].clone();
                let fence = Fence(fence);
                Some((self.job(job), Holder { session, name, fence }))
            }
        }
    }

    fn op(&mut self, step: &Step) -> Option<Op> {
        Some(match step {
            Step::Wait { millis } => {
                self.world.later(Duration::from_millis(*millis));
                return None;
            }
            Step::Open { slot, process } => {
                self.world.store.apply(Op::Disconnect(self.slots[*slot]));
                self.open(*slot, *process);
                return None;
            }
            Step::Submit { name } => {
                let id = format!("job-{}", self.jobs.len());
                let name = name.map_or_else(|| id.clone(), |name| format!("web-{name}"));
                Op::Submit(Box::new(named(&id, &name)))
            }
            Step::Renew { slot } => Op::Renew(vec![self.slots[*slot]]),
            Step::Disconnect { slot } => Op::Disconnect(self.slots[*slot]),
            Step::Claim { job, slot } => Op::Claim {
                job: self.job(*job),
                session: self.slots[*slot],
                name: self.sessions[&self.slots[*slot]].clone(),
            },
            Step::Adopt { job, slot } => adopt(&self.world.view(self.job(*job)).public_id, self.slots[*slot]),
            Step::Recover { connected } => recover(*connected),
            Step::Sweep => Op::Sweep,
            Step::Say { who, what } => {
                let (job, holder) = self.speaker(who)?;
                match what {
                    Says::Start => start(job, &holder),
                    Says::Complete => complete(job, &holder),
                    Says::Fail { recoverable } => fail(job, &holder, *recoverable),
                    Says::Release => release(job, &holder),
                    Says::Report { n } => report(job, holder.lease(), *n),
                    Says::Discover { entities } => {
                        let entities: Vec<_> = entities.iter().map(u8::to_string).collect();
                        discover(
                            job,
                            &holder,
                            groups(&entities.iter().map(String::as_str).collect::<Vec<_>>()),
                        )
                    }
                }
            }
        })
    }

    fn take(&mut self, op: Op) -> Outcome {
        let outcome = self.world.store.apply(op.clone());
        match &outcome {
            Outcome::Submitted(view) => self.jobs.push(view.key),
            Outcome::Discovered(verdicts) => {
                let facts = verdicts.iter().filter_map(|(_, fact)| fact.as_ref());
                self.jobs.extend(facts.map(|fact| fact.job));
            }
            Outcome::Moved(fact) if matches!(fact.arrow, Arrow::Claim | Arrow::Adopt) => {
                let session = fact.session.expect("somebody has it");
                let name = self.sessions[&session].clone();
                let fence = fact.fence;
                self.given.push((fact.job, Holder { session, name, fence }));
            }
            _ => {}
        }
        outcome
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let Some(op) = self.op(step) else { return Ok(()) };
        self.before = rows(&self.world);
        let outcome = self.take(op.clone());
        let after = rows(&self.world);
        for (key, row) in &after {
            prop_assert_eq!(row.check(), Ok(()), "{:?}", row);
            let Some(before) = self.before.get(key) else { continue };
            prop_assert!(row.fence >= before.fence, "a fence fell: {:?} {:?}", before, row);
            prop_assert!(
                !before.state.is_terminal() || row == before,
                "a finished job changed: {:?}",
                row
            );
        }
        if matches!(outcome, Outcome::Refused(_)) {
            prop_assert_eq!(&after, &self.before, "a refusal changed something");
        }
        if let Some((job, holder)) = lease_named(&op) {
            let row = &self.before[&job];
            let good = row.session == Some(holder.session) && row.fence == holder.fence;
            prop_assert!(
                good || matches!(outcome, Outcome::Refused(_)),
                "{:?} had an effect: {:?}",
                op,
                outcome
            );
        }
        Ok(())
    }

    fn end(&self) -> Result<BTreeSet<Arrow>, TestCaseError> {
        let mut taken = BTreeSet::new();
        let mut identities = BTreeSet::new();
        for (key, row) in rows(&self.world) {
            let view = self.world.view(key);
            let life = Life::replay(&self.world.events(key), &mut taken)?;
            prop_assert_eq!(
                (life.state, life.fence, life.attempt),
                (row.state, row.fence, row.attempt)
            );
            prop_assert_eq!(life.holder, view.session);
            if view.depth > 0 {
                let of = (view.root_id, view.spec.host, view.spec.job_type, view.spec.entity_id);
                prop_assert!(identities.insert(of), "a child exists twice");
            }
            prop_assert!(view.depth <= 2 && view.children <= 2);
        }
        let counts = ready(self.world.store.counts()).unwrap();
        let mut recounted = BTreeMap::new();
        for row in rows(&self.world).values() {
            *recounted.entry(row.state).or_insert(0) += 1;
        }
        prop_assert_eq!(counts, recounted);
        Ok(taken)
    }
}

fn rows(world: &World) -> BTreeMap<JobKey, Job> {
    world.store.rows().into_iter().map(|row| (row.key, row)).collect()
}

fn lease_named(op: &Op) -> Option<(JobKey, &Holder)> {
    match op {
        Op::Start { job, holder } | Op::Release { job, holder } => Some((*job, holder)),
        Op::Finish {
            job,
            holder,
            ending: Ending::Completed { .. } | Ending::Failed { .. },
            ..
        } => Some((*job, holder)),
        Op::Discover { parent, holder, .. } => Some((*parent, holder)),
        _ => None,
    }
}

/// A life told by its events alone.
struct Life {
    state: State,
    fence: Fence,
    attempt: i32,
    holder: Option<String>,
}

impl Life {
    fn replay(events: &[EventView], taken: &mut BTreeSet<Arrow>) -> Result<Self, TestCaseError> {
        let mut life = Self {
            state: State::Queued,
            fence: Fence(0),
            attempt: 0,
            holder: None,
        };
        for (index, event) in events.iter().enumerate() {
            for name in &event.arrows {
                let arrow = Arrow::named(name).expect("a known arrow");
                taken.insert(arrow);
                prop_assert_eq!(
                    index == 0,
                    matches!(arrow, Arrow::Submit | Arrow::Discover),
                    "created once"
                );
                life.take(arrow, event)?;
            }
            prop_assert_eq!(
                (life.state, life.fence, life.attempt),
                (event.state, event.fence, event.attempt)
            );
        }
        Ok(life)
    }

    fn take(&mut self, arrow: Arrow, event: &EventView) -> Result<(), TestCaseError> {
        use State::{Assigned, Cancelled, Completed, Delayed, Failed, Paused, Queued, Running};
        let from = self.state;
        let to: &[State] = match (arrow, from) {
            (Arrow::Submit | Arrow::Discover, Queued) | (Arrow::Promote, Delayed) => &[Queued],
            (Arrow::Claim, Queued) | (Arrow::Adopt, Assigned) => &[Assigned],
            (Arrow::Start, Assigned) | (Arrow::Adopt, Running) => &[Running],
            (Arrow::Finish, Running) => &[Completed, Failed, Delayed],
            (Arrow::Expire | Arrow::Release, Assigned) => &[Queued, Paused],
            (Arrow::Expire, Running) => &[Queued, Failed],
            (Arrow::Deadline, Running) => &[Delayed, Failed],
            (_, Delayed | Queued | Assigned | Running | Paused | Completed | Failed | Cancelled) => &[],
        };
        // Of two arrows in one event only the start comes first.
        let state = if arrow == Arrow::Start { Running } else { event.state };
        prop_assert!(to.contains(&state), "{arrow} from {from} to {state}");
        let gave = matches!(arrow, Arrow::Claim | Arrow::Adopt);
        let lost = matches!(arrow, Arrow::Expire | Arrow::Release | Arrow::Deadline);
        if from.is_leased() && !gave {
            prop_assert_eq!(&self.holder, &event.session, "two holders under one fence");
        }
        self.state = state;
        self.attempt += i32::from(arrow == Arrow::Start);
        if lost || arrow == Arrow::Claim {
            self.fence = self.fence.next();
        }
        if gave {
            self.holder.clone_from(&event.session);
        } else if !state.is_leased() {
            self.holder = None;
        }
        Ok(())
    }
}

#[test]
fn lives_stay_sound_and_every_arrow_is_met() {
    let met = RefCell::new(BTreeSet::new());
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    let steps = prop::collection::vec(step(), 1..160);
    let outcome = runner.run(&steps, |steps| {
        let mut play = Play::new();
        for step in &steps {
            play.step(step)?;
        }
        met.borrow_mut().extend(play.end()?);
        Ok(())
    });
    if let Err(failed) = outcome {
        panic!("{failed}");
    }
    let all: BTreeSet<_> = Arrow::ALL.iter().copied().collect();
    assert_eq!(*met.borrow(), all, "the steps are too tame");
}
