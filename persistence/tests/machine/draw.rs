//! Draws transitions: valid ones and invalid ones, more often those that this case has seldom seen.

use std::collections::BTreeSet;
use std::time::Duration;

use crawlwire_progress::job::JobLimits;
use crawlwire_progress::store::Act;
use crawlwire_progress::{PauseReason, State, Want};
use proptest::prelude::Rng;
use proptest::strategy::{NewTree, Strategy};
use proptest::test_runner::{TestRng, TestRunner};

use crate::machine::coverage::{Label, labels, required};
use crate::machine::model::Job;
use crate::machine::smaller::Smaller;
use crate::machine::step::{Answer, Door, Item, JobNo, NOBODY, SessionNo, Speaker, Step, Submission, Transition};
use crate::machine::world::World;

/// Jobs, and living sessions, there are at most at a time, so that histories cross.
const JOBS: usize = 22;
const SESSIONS: usize = 4;

/// Operations given together at most.
const TOGETHER: u32 = 22;

/// Candidates for one step; the one that is taken does what was done least.
const CANDIDATES: u32 = 10;

/// The transitions that are possible in a world.
#[derive(Debug)]
pub(crate) struct Next(pub(crate) World);

impl Strategy for Next {
    type Tree = Smaller;
    type Value = Transition;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        let mut draw = Draw {
            world: &self.0,
            rng: runner.rng(),
            required: required().collect(),
            is_odd: false,
        };
        let mut transition = draw.transition();
        while !is_decided(&self.0, &transition) {
            transition = draw.transition();
        }
        Ok(Smaller::new(transition))
    }
}

/// Whether the model knows what comes of a transition, whatever chance decides.
pub(crate) fn is_decided(world: &World, transition: &Transition) -> bool {
    let mut after = world.clone();
    after.apply(transition);
    !after.unsure
}

pub(crate) struct Draw<'a> {
    pub(crate) world: &'a World,
    rng: &'a mut TestRng,
    required: BTreeSet<Label>,
    /// Whether what makes no sense is wanted as well.
    is_odd: bool,
}

/// `number` of `of` times.
macro_rules! chance {
    ($draw:expr, $number:literal of $of:literal) => {
        $draw.below($of) < $number
    };
}

impl Draw<'_> {
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        self.rng.next_u32() % end
    }

    pub(crate) fn one<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.below(of.len() as u32) as usize])
    }

    fn transition(&mut self) -> Transition {
        let wait = self.wait();
        let server = self.below(2) as usize;
        let mut world = self.world.clone();
        world.now += wait;
        if chance!(self, 1 of 5) {
            let steps = vec![self.step(&world, Self::choice)];
            return Transition { wait, server, steps };
        }
        let many = if chance!(self, 1 of 6) {
            1
        } else {
            2 + self.below(TOGETHER - 1)
        };
        let mut steps = Vec::new();
        if wait > 0 && chance!(self, 3 of 4) {
            steps.push(Step::Sweep);
            world.alone = false;
            world.carry_out(&Step::Sweep);
        }
        for _ in 0..many {
            let step = self.step(&world, Self::candidate);
            let mut after = world.clone();
            after.alone = false;
            after.carry_out(&step);
            if !after.unsure {
                world = after;
                steps.push(step);
            }
        }
        Transition { wait, server, steps }
    }

    /// Of some candidates the one that does what this case has done least; as often just any, preferably with an effect.
    fn step(&mut self, world: &World, candidate: fn(&mut Self, &World) -> Step) -> Step {
        self.is_odd = chance!(self, 2 of 3);
        let mut best = candidate(self, world);
        if !self.is_odd {
            for _ in 0..3 {
                if !matches!(world.outlook(&best), Answer::Refused(_)) {
                    break;
                }
                best = candidate(self, world);
            }
            return best;
        }
        let mut rarity = self.rarity(world, &best);
        for _ in 1..CANDIDATES {
            let other = candidate(self, world);
            let rarity_of_other = self.rarity(world, &other);
            if rarity_of_other < rarity {
                (rarity, best) = (rarity_of_other, other);
            }
        }
        best
    }

    /// How often the case has done the rarest thing that the step would do.
    fn rarity(&self, world: &World, step: &Step) -> u32 {
        let labels = labels(step, &world.outlook(step));
        let counted = labels.iter().filter(|label| self.required.contains(label));
        let count = |label| world.taken.get(label).copied().unwrap_or(0);
        counted.map(count).min().unwrap_or(u32::MAX)
    }

    /// A step over many rows. When it has an effect it is alone, see [`World::chose`].
    fn choice(&mut self, world: &World) -> Step {
        match self.below(8) {
            0..2 => Step::Delete(self.job(world, |job| job.parent.is_none() && job.settled_at.is_some())),
            2..4 => Step::Prune([0, 1000, 20_000][self.below(3) as usize]),
            4 => Step::Recover {
                server: self.server(),
                connected: chance!(self, 2 of 3),
            },
            5 => Step::CancelTree(self.job(world, |job| job.parent.is_none() && !job.ended())),
            _ => Step::Redrive {
                quarantined: chance!(self, 1 of 2),
                failed: chance!(self, 1 of 2),
                account: chance!(self, 1 of 2).then(|| self.below(4) as u8),
            },
        }
    }

    /// Any other step. `world` is where the operations before this one lead; only what was there before all of them can
    /// be named.
    fn candidate(&mut self, world: &World) -> Step {
        let fresh = world.numbers;
        let (jobs, alive) = (world.jobs.len(), self.alive(world).len());
        match self.below(118) {
            0..6 if jobs < JOBS => self.submission(fresh),
            6..9 if alive < SESSIONS => self.opening(fresh),
            9..26 if alive == 0 => self.opening(fresh),
            6..26 => Step::Claim {
                job: self.job(world, |job| job.state == State::Queued),
                session: self.session(world),
                behind: self.behind(),
            },
            26..43 => Step::Start(self.job(world, |job| job.state == State::Assigned), self.speaker(world)),
            43 => Step::Complete(
                self.job(world, Job::is_held),
                self.speaker(world),
                chance!(self, 1 of 2).then(|| self.report()),
            ),
            44..47 => Step::Fail {
                job: self.job(world, Job::is_held),
                by: self.speaker(world),
                recoverable: chance!(self, 4 of 5),
            },
            47..50 => Step::Release(self.job(world, |job| job.state == State::Assigned), self.speaker(world)),
            50..53 => Step::Confirm(self.job(world, |job| job.want.is_some()), self.speaker(world)),
            53 => Step::CancelTree(self.job(world, |job| job.parent.is_some())),
            54..57 => self.adoption(world),
            57 => Step::Delete(self.job(world, |job| job.parent.is_some() || !job.ended())),
            58..71 | 109..115 => self.discovery(world, fresh),
            71..73 | 115..118 => Step::Report(
                self.job(world, |job| job.state == State::Running),
                self.speaker(world),
                self.report(),
            ),
            73..77 => self.renewal(world),
            77 => Step::Disconnect(self.session(world), self.behind()),
            78..84 => Step::Sweep,
            84..97 => self.act(world),
            97..100 => self.gate(world),
            100..102 => self.return_of(world),
            102..105 => self.own(world),
            _ => self.speech(world),
        }
    }

    /// The number of a report: often one of a few, so that it is late.
    fn report(&mut self) -> i64 {
        let of = if chance!(self, 1 of 2) { 9 } else { 60 };
        i64::from(self.below(of))
    }

    fn alive(&self, world: &World) -> Vec<SessionNo> {
        let named = self
            .world
            .sessions
            .keys()
            .filter_map(|no| Some((*no, world.sessions.get(no)?)));
        let alive = named.filter(|(_, session)| session.connected && session.lease > world.now);
        alive.map(|(no, _)| no).collect()
    }

    /// A job of the kind that is meant; now and then any, or none.
    fn job(&mut self, world: &World, meant: impl Fn(&Job) -> bool) -> JobNo {
        let named = self
            .world
            .jobs
            .keys()
            .filter_map(|no| world.jobs.get(no))
            .map(AsRef::<Job>::as_ref);
        let (meant, others): (Vec<_>, Vec<_>) = named.map(|job| (job.no, meant(job))).partition(|(_, meant)| *meant);
        let odd = if self.is_odd { 5 } else { 1 };
        match self.below(20) {
            at if at < odd / 2 + 1 => self.below(self.world.numbers + 1).checked_sub(1).unwrap_or(NOBODY),
            at if at < 2 * odd => self.one(&others).map_or(NOBODY, |(no, _)| no),
            _ => {
                let any = self.one(&others);
                // The newer of two, which more often has parents.
                let meant = self.one(&meant).max(self.one(&meant));
                meant.or(any).map_or(NOBODY, |(no, _)| no)
            }
        }
    }

    /// A living one; now and then any, or none.
    fn session(&mut self, world: &World) -> SessionNo {
        let named: Vec<_> = self.world.sessions.keys().copied().collect();
        let any = self.one(&named).unwrap_or(NOBODY);
        let alive = self.alive(world);
        match self.below(12) {
            0 => NOBODY,
            1 => any,
            _ => self.one(&alive).unwrap_or(any),
        }
    }

    fn speaker(&mut self, world: &World) -> Speaker {
        match self.below(10) {
            0 => Speaker::Late(1 + self.below(3) as usize),
            1 => Speaker::Forged([-1, 1, 7][self.below(3) as usize]),
            2 => Speaker::Foreign(self.session(world)),
            _ => Speaker::Holder,
        }
    }

    fn submission(&mut self, job: JobNo) -> Step {
        let span = |ms| Some(Duration::from_millis(ms));
        let delay = [None, None, Some(0), Some(-500), Some(1500), Some(60_000)];
        Step::Submit(Submission {
            job,
            account: self.below(3) as u8,
            host: self.below(2) as u8,
            theirs: chance!(self, 1 of 2).then(|| self.below(6) as u8),
            token: chance!(self, 1 of 3),
            priority: self.priority(),
            delay: delay[self.below(6) as usize],
            resume: chance!(self, 1 of 4),
            limits: JobLimits {
                timeout: [None, span(3_000), span(40_000)][self.below(3) as usize],
                retry_attempts: [None, Some(0), Some(3)][self.below(3) as usize],
                retry_delay: [None, None, span(0), span(950)][self.below(4) as usize],
            },
        })
    }

    /// Few, so that some are the same, and halves, so that they are exact everywhere.
    fn priority(&mut self) -> f64 {
        f64::from(self.below(6)) / 2.0 - 1.0
    }

    fn opening(&mut self, session: SessionNo) -> Step {
        Step::Open {
            session,
            identity: chance!(self, 3 of 4).then(|| self.below(2) as u8),
            confirms: chance!(self, 4 of 5),
            server: self.server(),
            instance: chance!(self, 2 of 3).then(|| self.below(2) as u8),
        }
    }

    /// Of an instance that has a session, mostly by whom it belongs to.
    fn return_of(&mut self, world: &World) -> Step {
        let known = world.sessions.iter();
        let known: Vec<_> = known.filter_map(|(no, it)| Some((*no, it.instance?))).collect();
        let Some((session, owner)) = self.one(&known) else {
            return self.opening(world.numbers);
        };
        let Step::Open {
            identity,
            confirms,
            server,
            ..
        } = self.opening(session)
        else {
            return Step::Sweep;
        };
        let instance = Some(if chance!(self, 1 of 4) { 1 - owner } else { owner });
        Step::Open {
            session,
            identity,
            confirms,
            server,
            instance,
        }
    }

    /// So many connections before the last one: mostly none.
    fn behind(&mut self) -> i64 {
        i64::from(self.below(9) == 0)
    }

    /// What a crawler of the session dialect says of its jobs, besides what all say.
    fn own(&mut self, world: &World) -> Step {
        let job = self.job(world, Job::is_held);
        let by = self.speaker(world);
        match self.below(6) {
            0 => Step::Confirm(self.job(world, |job| job.is_held() && job.want.is_none()), by),
            1 => Step::Return(job, by),
            _ => Step::Checkpoint(job, by, self.below(100) as u8),
        }
    }

    /// Under the next number, or another.
    fn speech(&mut self, world: &World) -> Step {
        let mut steps = Vec::new();
        let mut after = world.clone();
        after.alone = false;
        for _ in 0..self.below(4) {
            let fresh = after.numbers;
            let step = match self.below(10) {
                0..3 => Step::Start(
                    self.job(&after, |job| job.state == State::Assigned),
                    self.speaker(&after),
                ),
                3 => Step::Complete(self.job(&after, Job::is_held), self.speaker(&after), None),
                4 => Step::Fail {
                    job: self.job(&after, Job::is_held),
                    by: self.speaker(&after),
                    recoverable: chance!(self, 4 of 5),
                },
                5..8 => self.discovery(&after, fresh),
                _ => self.own(&after),
            };
            after.carry_out(&step);
            steps.push(step);
        }
        Step::Said {
            session: self.session(world),
            behind: self.behind(),
            ahead: [1, 1, 1, 1, 1, 1, 0, 0, -1, 2][self.below(10) as usize],
            other: chance!(self, 1 of 4),
            steps,
        }
    }

    fn server(&mut self) -> u8 {
        self.below(u32::from(self.world.servers)) as u8
    }

    /// Of a held job, by a session that may be another connection of its holder.
    fn adoption(&mut self, world: &World) -> Step {
        let job = self.job(world, Job::is_held);
        let identity = |no| world.sessions.get(&no).and_then(|session| session.identity);
        let holder = world.jobs.get(&job).and_then(|job| job.session).and_then(identity);
        let known = self.world.sessions.keys().copied();
        let same: Vec<_> = known.filter(|no| holder.is_some() && identity(*no) == holder).collect();
        let session = match self.one(&same) {
            Some(session) if chance!(self, 4 of 5) => session,
            _ => self.session(world),
        };
        Step::Adopt { job, session }
    }

    fn discovery(&mut self, world: &World, fresh: JobNo) -> Step {
        let deep = chance!(self, 3 of 4);
        let job = self.job(world, |job| {
            job.state == State::Running && (!deep || job.depth == world.rules.depth_max)
        });
        let room = if world.jobs.len() < JOBS { 4 } else { 2 };
        let items: Vec<Item> = (0..1 + self.below(room))
            .map(|at| (fresh + at, self.below(9) as u8, self.priority()))
            .collect();
        Step::Discover(job, self.speaker(world), items)
    }

    fn renewal(&mut self, world: &World) -> Step {
        let mut named: Vec<_> = self.world.sessions.keys().copied().collect();
        if chance!(self, 1 of 3) {
            named = vec![self.session(world)];
        } else {
            named.retain(|no| world.sessions.get(no).is_some_and(|session| session.connected));
        }
        Step::Renew(named, self.behind())
    }

    fn act(&mut self, world: &World) -> Step {
        let paused = |job: &Job| job.pause == Some(PauseReason::Operator);
        let (job, act) = match self.below(10) {
            0 => (self.job(world, |job| !job.ended()), Act::Cancel),
            1 => (self.job(world, |job| job.state == State::Cancelled), Act::Cancel),
            2 => (self.job(world, |job| !job.ended()), Act::Pause),
            3..5 => (self.job(world, |job| job.want.is_some()), Act::Pause),
            5 if chance!(self, 1 of 2) => {
                let wished = |job: &Job| matches!(job.want, Some((Want::Pause, _)));
                (self.job(world, wished), Act::Resume)
            }
            5 => (self.job(world, paused), Act::Resume),
            6 => (
                self.job(world, |job| job.state == State::Cancelled || job.state == State::Failed),
                Act::Retry,
            ),
            7 => {
                let quarantined = |job: &Job| job.pause == Some(PauseReason::Quarantined);
                (
                    self.job(world, |job| quarantined(job) || job.state == State::Failed),
                    Act::Redrive,
                )
            }
            8 => (
                self.job(world, Job::is_held),
                [Act::Pause, Act::Cancel][self.below(2) as usize],
            ),
            _ => (self.job(world, |job| !job.ended()), Act::SetPriority(self.priority())),
        };
        Step::Act(job, act)
    }

    /// Opens one rather than closing many.
    fn gate(&mut self, world: &World) -> Step {
        let closed: Vec<_> = world.doors.keys().copied().collect();
        match self.one(&closed) {
            Some(door) if chance!(self, 4 of 5) => Step::OpenGate(door),
            _ => {
                let (account, host) = (self.below(4) as u8, self.below(2) as u8);
                let doors = [Door::Queue, Door::Host(host), Door::Credentials { account, host }];
                let door = doors[[0, 1, 1, 2, 2, 2][self.below(6) as usize]];
                Step::CloseGate(door, chance!(self, 1 of 2).then(|| i64::from(self.below(5000))))
            }
        }
    }
}
