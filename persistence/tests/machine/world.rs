//! Everything around the single job, in the model: sessions, gates, trees, budgets, time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::{Arrow, State, TreeStatus};

use crate::machine::coverage::{Label, labels};
use crate::machine::model::{Job, Moment, Rules};
use crate::machine::step::{Answer, Asked, Door, Fact, Item, JobNo, SessionNo, Step, Submission, Transition};

/// When tests begin.
const START: i64 = 1_700_000_000_000;

#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) identity: Option<u8>,
    pub(crate) confirms: bool,
    pub(crate) server: u8,
    pub(crate) connected: bool,
    pub(crate) lease: i64,
    /// Leases granted since it was last heard.
    pub(crate) grants: u8,
    /// Who may come back to it.
    pub(crate) instance: Option<u8>,
    pub(crate) epoch: i64,
    /// The last settled number, and what came with it.
    pub(crate) high_water: (i64, i64),
    /// Of the last 64 settled numbers, those that were refused.
    pub(crate) refused: Vec<(i64, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) since: i64,
    pub(crate) until: Option<i64>,
}

impl Closed {
    pub(crate) fn is_shut(self, now: i64) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// The reference state.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) rules: Rules,
    /// Whose connections sessions are.
    pub(crate) servers: u8,
    pub(crate) now: i64,
    pub(crate) jobs: BTreeMap<JobNo, Arc<Job>>,
    pub(crate) sessions: BTreeMap<SessionNo, Session>,
    pub(crate) doors: BTreeMap<Door, Closed>,
    pub(crate) accounts: BTreeSet<u8>,
    /// Accounts and hosts for which there is a token.
    pub(crate) tokens: BTreeSet<(u8, u8)>,
    /// What was done to what, in order.
    pub(crate) audit: Arc<Vec<(&'static str, Target)>>,
    /// Numbers given so far.
    pub(crate) numbers: u32,
    /// Whether something was asked that only chance can answer, or the way that operations shared transactions.
    pub(crate) unsure: bool,
    /// Whether the last transition has one operation.
    pub(crate) alone: bool,
    /// The last transition, as it was given, with what became of it.
    pub(crate) last: Vec<(Asked, Answer)>,
    /// How often each thing happened in this case.
    pub(crate) taken: Arc<BTreeMap<Label, u32>>,
}

/// To what something was done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    Job(JobNo),
    Door(Door),
    /// Jobs of one account, or of all.
    Jobs(Option<u8>),
}

pub(crate) type Done = Result<Answer, Refusal>;

impl World {
    pub(crate) fn new(rules: Rules, servers: u8) -> Self {
        Self {
            rules,
            servers,
            now: START,
            jobs: BTreeMap::new(),
            sessions: BTreeMap::new(),
            doors: BTreeMap::new(),
            accounts: BTreeSet::new(),
            tokens: BTreeSet::new(),
            audit: Arc::default(),
            numbers: 0,
            unsure: false,
            alone: true,
            last: Vec::new(),
            taken: Arc::default(),
        }
    }

    pub(crate) fn apply(&mut self, transition: &Transition) {
        self.now += transition.wait;
        self.last.clear();
        self.alone = transition.steps.len() == 1;
        for step in &transition.steps {
            self.carry_out(step);
        }
    }

    pub(crate) fn carry_out(&mut self, step: &Step) {
        let mut asked = self.ask(step);
        let answer = self.respond(&mut asked);
        let taken = Arc::make_mut(&mut self.taken);
        for label in labels(&asked.step, &answer) {
            *taken.entry(label).or_default() += 1;
        }
        self.last.push((asked, answer));
    }

    /// What would come of a step, given now.
    pub(crate) fn outlook(&self, step: &Step) -> Answer {
        let mut world = self.clone();
        world.respond(&mut self.ask(step))
    }

    pub(crate) fn respond(&mut self, asked: &mut Asked) -> Answer {
        let answer = self
            .answer(asked)
            .unwrap_or_else(|refusal| Answer::Refused(refusal.as_str()));
        if !matches!(answer, Answer::Refused(_) | Answer::Done) {
            self.settle();
        }
        answer
    }

    fn answer(&mut self, asked: &mut Asked) -> Done {
        if matches!(asked.step, Step::Said { .. }) {
            return Ok(Answer::Said(self.said(asked)));
        }
        let (now, rules, lease) = (self.now, self.rules, asked.lease);
        match &asked.step {
            Step::Submit(new) => self.submit(new),
            Step::Claim { job, session, .. } => self.claim(*job, *session, asked.epochs[0]),
            Step::Start(job, _) => self.moved(*job, |job| job.start(lease, &rules, now)),
            Step::Complete(job, _, report) => {
                let mut fact = self.arrow(*job, |job| job.complete(lease, &rules, now))?;
                if let Some(n) = report {
                    self.report(*job, *n);
                }
                self.settle();
                fact.passed = self.pass_milestones(*job);
                Ok(Answer::Moved(fact))
            }
            Step::Fail { job, recoverable, .. } => {
                let free = self
                    .jobs
                    .get(job)
                    .is_some_and(|job| self.is_shut(job, |door| matches!(door, Door::Credentials { .. })));
                self.moved(*job, |job| job.fail(lease, (*recoverable, free), &rules, now))
            }
            Step::Release(job, _) => self.moved(*job, |job| job.release(lease, &rules, now)),
            Step::Confirm(job, _) => self.moved(*job, |job| job.confirm(lease, now)),
            Step::Return(job, _) => self.moved(*job, |job| job.give_back(lease, now)),
            Step::Checkpoint(job, _, cursor) => {
                let job = self.job_mut(*job).ok_or(Refusal::NotFound)?;
                job.keep(lease, *cursor).map(|()| Answer::Done)
            }
            Step::Adopt { job, session } => self.adopt(*job, *session),
            Step::Discover(job, _, items) => self.discover(*job, lease, items),
            Step::Report(job, _, n) => Ok(match self.runs_under(*job, lease) {
                Ok(_) => {
                    self.report(*job, *n);
                    Answer::Reported(Vec::new(), self.pass_milestones(*job))
                }
                Err(_) => Answer::Reported(vec![*job], Vec::new()),
            }),
            Step::Act(job, act) => self.act(*job, *act),
            Step::CancelTree(root) => {
                let answer = self.cancel_tree(*root)?;
                self.chose();
                Ok(answer)
            }
            Step::Redrive {
                quarantined,
                failed,
                account,
            } => {
                self.chose();
                Ok(self.redrive((*quarantined, *failed), *account))
            }
            Step::Delete(root) => self.delete(*root),
            Step::CloseGate(door, span) => self.close(*door, span.map(|span| now + span)),
            Step::OpenGate(door) => {
                if self.open(*door) {
                    self.record("open_gate", Target::Door(*door));
                }
                Ok(Answer::Done)
            }
            Step::Prune(age) => {
                self.chose();
                Ok(self.prune(now - age))
            }
            Step::Sweep => Ok(self.sweep()),
            _ => Ok(self.sessions(asked)),
        }
    }

    /// Takes an arrow.
    pub(crate) fn arrow(
        &mut self,
        no: JobNo,
        take: impl FnOnce(&mut Job) -> Result<Arrow, Refusal>,
    ) -> Result<Fact, Refusal> {
        let job = self.job_mut(no).ok_or(Refusal::NotFound)?;
        let (from, before) = (job.state, job.session);
        let arrow = take(job)?;
        job.history.push(arrow);
        Ok(Fact {
            job: no,
            arrow,
            from: Some(from),
            state: job.state,
            fence: job.fence,
            attempt: job.attempt,
            session: job.session.or(before),
            at: self.now,
            passed: Vec::new(),
        })
    }

    fn moved(&mut self, no: JobNo, take: impl FnOnce(&mut Job) -> Result<Arrow, Refusal>) -> Done {
        self.arrow(no, take).map(Answer::Moved)
    }

    /// Many rows are chosen by a condition when a transaction begins, before the operations that share it. Which those
    /// are, nobody can say; so a choice has to be alone.
    pub(crate) fn chose(&mut self) {
        self.unsure |= !self.alone;
    }

    pub(crate) fn record(&mut self, act: &'static str, target: Target) {
        Arc::make_mut(&mut self.audit).push((act, target));
    }

    pub(crate) fn job_mut(&mut self, no: JobNo) -> Option<&mut Job> {
        self.jobs.get_mut(&no).map(Arc::make_mut)
    }

    fn submit(&mut self, new: &Submission) -> Done {
        self.numbers = self.numbers.max(new.job + 1);
        let waiting = |job: &&Arc<Job>| matches!(job.state, State::Delayed | State::Queued);
        if self.jobs.values().filter(waiting).count() >= self.rules.queued_max {
            return Ok(Answer::Refused("queue_full"));
        }
        if let Some(taken) = self
            .jobs
            .values()
            .find(|job| new.theirs.is_some() && job.theirs == new.theirs)
        {
            return Ok(Answer::NameTaken(taken.no));
        }
        self.accounts.insert(new.account);
        if new.token {
            self.tokens.insert((new.account, new.host));
            let (account, host) = (new.account, new.host);
            let door = Door::Credentials { account, host };
            if self.open(door) {
                self.record("open_gate", Target::Door(door));
            }
        }
        let run_at = new
            .delay
            .map(|delay| self.now + delay)
            .filter(|run_at| self.now < *run_at);
        let state = if run_at.is_some() {
            State::Delayed
        } else {
            State::Queued
        };
        let job = Job {
            theirs: new.theirs,
            token: self.tokens.contains(&(new.account, new.host)),
            resume: new.resume,
            limits: new.limits,
            state,
            run_at: run_at.map(Moment::at),
            entered: run_at.unwrap_or(self.now),
            ..self.blank(new.job, new.account, new.host, new.priority)
        };
        self.jobs.insert(
            new.job,
            Arc::new(Job {
                history: vec![Arrow::Submit],
                ..job
            }),
        );
        Ok(Answer::Submitted(new.job, state))
    }

    fn blank(&self, no: JobNo, account: u8, host: u8, priority: f64) -> Job {
        Job {
            no,
            parent: None,
            root: no,
            depth: 0,
            account,
            host,
            entity: 0,
            theirs: None,
            token: false,
            limits: crawlwire_progress::job::JobLimits::default(),
            created_at: self.now,
            entered: self.now,
            state: State::Queued,
            pause: None,
            fence: 0,
            session: None,
            attempt: 0,
            failures: 0,
            misses: 0,
            run_at: None,
            assigned_at: None,
            started_at: None,
            deadline: None,
            finished_at: None,
            resume: false,
            want: None,
            priority,
            error: None,
            has_result: false,
            reports: std::collections::BTreeMap::new(),
            reached: 0,
            checkpoint: None,
            tree_status: TreeStatus::Open,
            settled_at: None,
            leases: Vec::new(),
            history: Vec::new(),
        }
    }

    fn claim(&mut self, no: JobNo, session: SessionNo, epoch: i64) -> Done {
        let now = self.now;
        let speaks = self.sessions.get(&session).filter(|session| session.epoch == epoch);
        if !speaks.is_some_and(|session| session.connected && now < session.lease) {
            return Err(Refusal::Stale);
        }
        let job = self.jobs.get(&no).ok_or(Refusal::NotFound)?;
        if job.state == State::Queued {
            if self.is_shut(job, |_| true) {
                return Err(Refusal::GateClosed);
            }
            let held = |other: &&Arc<Job>| other.account == job.account && other.is_held();
            if self.jobs.values().filter(held).count() >= self.rules.held_max {
                return Err(Refusal::AccountShare);
            }
        }
        self.moved(no, |job| job.claim(session, now))
    }

    fn adopt(&mut self, no: JobNo, session: SessionNo) -> Done {
        let holder = self.jobs.get(&no).ok_or(Refusal::NotFound)?.session;
        let holder = holder.ok_or(Refusal::Stale)?;
        if holder != session {
            let (Some(old), Some(new)) = (self.sessions.get(&holder), self.sessions.get(&session)) else {
                return Err(Refusal::HeldByAnother);
            };
            if old.identity.is_none() || old.identity != new.identity || !new.connected || old.lease <= self.now {
                return Err(Refusal::HeldByAnother);
            }
            if old.connected {
                return Err(Refusal::StillConnected);
            }
        }
        self.moved(no, |job| job.adopt(session))
    }

    fn runs_under(&self, no: JobNo, lease: (SessionNo, i64)) -> Result<&Job, Refusal> {
        let job = self.jobs.get(&no).ok_or(Refusal::NotFound)?;
        if job.state == State::Running && job.session == Some(lease.0) && job.fence == lease.1 {
            Ok(job)
        } else {
            Err(Refusal::Stale)
        }
    }

    fn discover(&mut self, no: JobNo, lease: (SessionNo, i64), items: &[Item]) -> Done {
        for (child, ..) in items {
            self.numbers = self.numbers.max(*child + 1);
        }
        let parent = self.runs_under(no, lease)?.clone();
        let mut verdicts = Vec::new();
        for (child, entity, priority) in items {
            let count = |meant: &dyn Fn(&Job) -> bool| self.jobs.values().filter(|job| meant(job)).count();
            let same = count(&|job| job.root == parent.root && job.entity == *entity) > 0;
            let below = count(&|job| job.root == parent.root && job.parent.is_some());
            let verdict = if same {
                "duplicate"
            } else if parent
                .want
                .is_some_and(|(want, _)| want == crawlwire_progress::Want::Cancel)
            {
                "refused"
            } else if parent.depth >= self.rules.depth_max {
                "over_budget depth"
            } else if count(&|job| job.parent == Some(no)) >= self.rules.children_max {
                "over_budget children"
            } else if below >= self.rules.tree_max {
                "over_budget tree"
            } else if count(&|job| job.account == parent.account && !job.ended()) >= self.rules.account_max {
                "over_budget account"
            } else {
                "accepted"
            };
            if verdict != "accepted" {
                verdicts.push((verdict, None));
                continue;
            }
            let job = Job {
                parent: Some(no),
                root: parent.root,
                depth: parent.depth + 1,
                entity: *entity,
                token: parent.token,
                limits: parent.limits,
                history: vec![Arrow::Discover],
                ..self.blank(*child, parent.account, parent.host, *priority)
            };
            self.jobs.insert(*child, Arc::new(job));
            let fact = Fact {
                job: *child,
                arrow: Arrow::Discover,
                from: None,
                state: State::Queued,
                fence: 0,
                attempt: 0,
                session: None,
                at: self.now,
                passed: Vec::new(),
            };
            verdicts.push((verdict, Some(fact)));
        }
        Ok(Answer::Discovered(verdicts))
    }

    /// Whether a closed door of some kind is before a job.
    pub(crate) fn is_shut(&self, job: &Job, kind: impl Fn(&Door) -> bool) -> bool {
        let mut doors = self.doors.iter();
        doors.any(|(door, closed)| kind(door) && is_before(*door, job) && closed.is_shut(self.now))
    }

    pub(crate) fn all(&self, meant: impl Fn(&Job) -> bool) -> Vec<JobNo> {
        self.jobs.values().filter(|job| meant(job)).map(|job| job.no).collect()
    }
}

pub(crate) fn is_before(door: Door, job: &Job) -> bool {
    match door {
        Door::Queue => true,
        Door::Host(host) => job.host == host,
        Door::Credentials { account, host } => (job.account, job.host) == (account, host),
    }
}
