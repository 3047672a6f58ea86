//! The engine under test: gives it the operations of a transition and holds what it answers and keeps against the model.

use std::collections::{BTreeMap, BTreeSet};

use crawlwire_progress::admit::Capabilities;
use crawlwire_progress::store::{
    Ending, Holder, JobFilter, NewInstance, NewSession, Paging, ReadyQuery, RedriveFilter, Rejection,
    Said as EngineSaid,
};
use crawlwire_progress::{
    Arrow, Epoch, Fact as EngineFact, Fence, JobKey, Op, Outcome, SessionKey, SessionRef, State, Store, Timestamp,
};
use proptest::test_runner::TestCaseError;
use proptest::{prop_assert, prop_assert_eq};

use crate::machine::rows::{
    Row, account_name, cursor, found, gate, job_name, keeps_the_rules, new_job, number, replayed, server_name,
    session_name, target_name, word,
};
use crate::machine::step::{Answer, Asked, Fact, JobNo, Opened, Said, SessionNo, Step};
use crate::machine::sums::{self, percents, progress};
use crate::machine::world::World;

pub(crate) type Checked = Result<(), TestCaseError>;

const ALL: Paging = Paging {
    limit: 10_000,
    after: None,
};

/// Rows from here on were never made; each stands for a number of the test.
const NO_ROW: i64 = 1 << 40;

/// One server: a way to give operations together, and to ask.
pub(crate) trait Server {
    /// So many transitions between two looks at what follows from the rows of jobs.
    const ASKED_EVERY: usize;

    /// Carries out operations that arrive together; an outcome for each, in order, or why it could not be had.
    fn together(&self, ops: Vec<Op>) -> impl Future<Output = Vec<Result<Outcome, String>>>;
    fn store(&self) -> &dyn Store;
}

/// Servers over one database, and which row each number of the test means there.
pub(crate) struct Engine<S> {
    pub(crate) servers: Vec<S>,
    jobs: BTreeMap<JobNo, JobKey>,
    sessions: BTreeMap<SessionNo, SessionKey>,
    /// Transitions so far.
    followed: usize,
}

impl<S: Server> Engine<S> {
    pub(crate) fn new(servers: Vec<S>) -> Self {
        Self {
            servers,
            jobs: BTreeMap::new(),
            sessions: BTreeMap::new(),
            followed: 0,
        }
    }

    /// Does what the model did last, at one of the servers, and compares.
    pub(crate) async fn follow(&mut self, world: &World, server: usize) -> Checked {
        let server = server % self.servers.len();
        let ops: Vec<_> = world.last.iter().map(|(asked, _)| self.op(asked, world)).collect();
        let outcomes = self.servers[server].together(ops).await;
        for ((asked, expected), outcome) in world.last.iter().zip(outcomes) {
            let outcome = outcome.map_err(|error| TestCaseError::fail(format!("{asked:?}: {error}")))?;
            let answer = self.answer(&asked.step, outcome);
            prop_assert_eq!(&answer, expected, "to {:?}", asked);
        }
        let store = self.servers[server].store();
        self.compare(world, store).await?;
        self.followed += 1;
        // What follows from the rows is asked for less often, where asking takes time.
        if self.followed.is_multiple_of(S::ASKED_EVERY) {
            self.compare_queue(world, store).await?;
            self.compare_sessions(world, store).await?;
            sums::compare_totals(world, store).await?;
        }
        Ok(())
    }

    fn key(&self, job: JobNo) -> JobKey {
        self.jobs.get(&job).copied().unwrap_or(JobKey(NO_ROW + i64::from(job)))
    }

    fn job_no(&self, key: JobKey) -> Option<JobNo> {
        let known = self.jobs.iter().find(|(_, it)| **it == key).map(|(no, _)| *no);
        known.or_else(|| u32::try_from(key.0 - NO_ROW).ok())
    }

    fn session(&self, session: SessionNo) -> SessionKey {
        let nobody = SessionKey(NO_ROW + i64::from(session));
        self.sessions.get(&session).copied().unwrap_or(nobody)
    }

    fn reference(&self, session: SessionNo, epoch: i64) -> SessionRef {
        SessionRef {
            key: self.session(session),
            epoch: Epoch(epoch),
        }
    }

    fn op(&self, asked: &Asked, world: &World) -> Op {
        let holder = Holder {
            session: self.session(asked.lease.0),
            name: session_name(asked.lease.0),
            fence: Fence(asked.lease.1),
        };
        let at = |span: &Option<i64>| span.map(|span| Timestamp(world.now + span));
        let by = "somebody".to_owned();
        match &asked.step {
            Step::Submit(new) => Op::Submit(Box::new(new_job(new, at(&new.delay)))),
            Step::Open {
                session,
                identity,
                confirms,
                server,
                instance,
            } => Op::OpenSession(NewSession {
                name: session_name(*session),
                identity: identity.map(|identity| format!("process {identity}")),
                server: server_name(*server),
                capabilities: Capabilities::any(3),
                confirms: *confirms,
                instance: instance.map(|principal| NewInstance {
                    id: format!("instance {session}"),
                    crawler_id: format!("crawler {session}"),
                    principal: format!("principal {principal}"),
                }),
            }),
            Step::Claim { job, session, .. } => Op::Claim {
                job: self.key(*job),
                session: self.reference(*session, asked.epochs[0]),
                name: session_name(*session),
            },
            Step::Start(job, _) => Op::Start {
                job: self.key(*job),
                holder,
            },
            Step::Complete(job, _, report) => Op::Finish {
                job: self.key(*job),
                holder,
                ending: Ending::Completed {
                    result: r#"{"found":3}"#.to_owned(),
                },
                progress: report.map(progress),
            },
            Step::Fail { job, recoverable, .. } => Op::Finish {
                job: self.key(*job),
                holder,
                ending: Ending::Failed {
                    error: r#"{"error_type":"crawler"}"#.to_owned(),
                    recoverable: *recoverable,
                },
                progress: None,
            },
            Step::Release(job, _) => Op::Release {
                job: self.key(*job),
                holder,
            },
            Step::Confirm(job, _) => Op::Confirm {
                job: self.key(*job),
                holder,
            },
            Step::Adopt { job, session } => Op::Adopt {
                public_id: job_name(*job),
                session: self.session(*session),
            },
            Step::Discover(job, _, items) => Op::Discover {
                parent: self.key(*job),
                holder,
                items: items.iter().map(found).collect(),
            },
            Step::Report(job, _, n) => Op::Progress(vec![(self.key(*job), holder.lease(), progress(*n))]),
            Step::Renew(sessions, _) => {
                let named = sessions.iter().zip(&asked.epochs);
                Op::Renew(named.map(|(session, epoch)| self.reference(*session, *epoch)).collect())
            }
            Step::Disconnect(session, _) => Op::Disconnect(self.reference(*session, asked.epochs[0])),
            Step::Said { session, .. } => Op::Said {
                session: self.reference(*session, asked.epochs[0]),
                seq: asked.said.0,
                fingerprint: asked.said.1,
                ops: asked.inner.iter().map(|inner| self.op(inner, world)).collect(),
                refused: None,
            },
            Step::Return(job, _) => Op::Return {
                job: self.key(*job),
                holder,
            },
            Step::Checkpoint(job, _, page) => Op::Checkpoint {
                job: self.key(*job),
                holder,
                cursor: cursor(*page),
            },
            Step::Recover { server, connected } => Op::Recover {
                server: server_name(*server),
                connected: *connected,
            },
            Step::Sweep => Op::Sweep,
            Step::Act(job, act) => Op::Act {
                job: self.key(*job),
                act: *act,
                by,
            },
            Step::CancelTree(root) => Op::CancelTree {
                root: self.key(*root),
                after: None,
                by,
            },
            Step::Redrive {
                quarantined,
                failed,
                account,
            } => Op::Redrive {
                filter: RedriveFilter {
                    quarantined: *quarantined,
                    failed: *failed,
                    account_id: account.map(account_name),
                },
                after: None,
                by,
            },
            Step::Delete(root) => Op::Delete {
                root: self.key(*root),
                by,
            },
            Step::CloseGate(door, span) => Op::CloseGate {
                gate: gate(*door),
                until: at(span),
                reason: Some("why not".to_owned()),
                by,
            },
            Step::OpenGate(door) => Op::OpenGate { gate: gate(*door), by },
            Step::Prune(age) => Op::Prune {
                jobs_before: Timestamp(world.now - age),
                errors_before: Timestamp(0),
            },
        }
    }

    /// An outcome in the words of the test; remembers new keys.
    fn answer(&mut self, step: &Step, outcome: Outcome) -> Answer {
        match outcome {
            Outcome::Submitted(view) => {
                let no = number(&view.public_id);
                self.jobs.insert(no, view.key);
                Answer::Submitted(no, view.state)
            }
            Outcome::SessionOpened(opened) => {
                if let Step::Open { session, .. } = step {
                    self.sessions.insert(*session, opened.session.key);
                }
                let refused = opened.refused.iter().map(|(seq, code)| (seq, code.to_owned()));
                let refused = refused.collect();
                let leases = opened.leases.into_iter();
                let shown = leases.map(|it| (number(&it.public_id), it.fence.0, it.attempt, it.state, it.want));
                Answer::Opened(Opened {
                    epoch: opened.session.epoch.0,
                    high_water: opened.high_water,
                    fingerprint: opened.fingerprint,
                    refused,
                    leases: shown.collect(),
                })
            }
            Outcome::Said(said) => Answer::Said(self.said(step, said)),
            Outcome::Moved(fact) => Answer::Moved(self.fact(&fact)),
            Outcome::Swept(facts) | Outcome::Acted { facts, next: None } => {
                let mut facts: Vec<_> = facts.iter().map(|fact| self.fact(fact)).collect();
                facts.sort_by_key(|fact| fact.job);
                Answer::Facts(facts)
            }
            Outcome::Discovered(verdicts) => {
                let mut answers = Vec::new();
                for (verdict, fact) in verdicts {
                    if let Some(fact) = &fact {
                        self.jobs.insert(number(&fact.public_id), fact.job);
                    }
                    answers.push((word(verdict), fact.map(|fact| self.fact(&fact))));
                }
                Answer::Discovered(answers)
            }
            Outcome::Renewed { lost } => {
                Answer::Renewed(lost.iter().filter_map(|lost| self.session_no(lost.key)).collect())
            }
            Outcome::Progressed { stale, passed } => {
                let stale = stale.into_iter().filter_map(|key| self.job_no(key));
                Answer::Reported(stale.collect(), percents(&passed))
            }
            Outcome::Deleted { jobs, more: false } | Outcome::Pruned { jobs, more: false, .. } => Answer::Gone(jobs),
            Outcome::Done => Answer::Done,
            Outcome::Refused(Rejection::Job(refusal)) => Answer::Refused(refusal.as_str()),
            Outcome::Refused(Rejection::QueueFull { .. }) => Answer::Refused("queue_full"),
            Outcome::Refused(Rejection::InstanceTaken) => Answer::Refused("instance_taken"),
            Outcome::Refused(Rejection::NoSuchAccount) => Answer::Refused("no_such_account"),
            Outcome::Refused(Rejection::NameTaken { public_id }) => Answer::NameTaken(number(&public_id)),
            other => panic!("nothing here is that large: {other:?}"),
        }
    }

    fn said(&mut self, step: &Step, said: EngineSaid) -> Said {
        match (said, step) {
            (EngineSaid::Applied(outcomes), Step::Said { steps, .. }) => {
                let answers = steps
                    .iter()
                    .zip(outcomes)
                    .map(|(step, outcome)| self.answer(step, outcome));
                Said::Applied(answers.collect())
            }
            (EngineSaid::Repeated { conflict, refused }, _) => Said::Repeated { conflict, refused },
            (EngineSaid::Gap { high_water }, _) => Said::Gap(high_water),
            (EngineSaid::Replaced, _) => Said::Replaced,
            (said, step) => panic!("{said:?} to {step:?}"),
        }
    }

    fn session_no(&self, key: SessionKey) -> Option<SessionNo> {
        let known = self.sessions.iter().find(|(_, it)| **it == key).map(|(no, _)| *no);
        known.or_else(|| u32::try_from(key.0 - NO_ROW).ok())
    }

    fn fact(&self, fact: &EngineFact) -> Fact {
        Fact {
            job: number(&fact.public_id),
            arrow: fact.arrow,
            from: fact.from,
            state: fact.state,
            fence: fact.fence.0,
            attempt: fact.attempt,
            session: fact.session.and_then(|key| self.session_no(key)),
            at: fact.at.0,
            passed: percents(&fact.passed),
        }
    }

    /// Holds everything that is kept against the model.
    async fn compare(&self, world: &World, store: &dyn Store) -> Checked {
        let views = store.jobs(JobFilter::default(), ALL).await.map_err(broken)?.items;
        let mut seen = BTreeSet::new();
        for view in &views {
            let no = number(&view.public_id);
            seen.insert(no);
            let Some(job) = world.jobs.get(&no) else {
                return Err(TestCaseError::fail(format!("{} should be gone", view.public_id)));
            };
            prop_assert_eq!(Row::of_view(view), Row::of_job(job, world), "job {}", no);
            keeps_the_rules(view)?;
            match (view.run_at, job.run_at) {
                (None, None) => {}
                (Some(at), Some(span)) if span.from <= at.0 && at.0 <= span.to => {}
                (at, span) => return Err(TestCaseError::fail(format!("job {no} runs at {at:?}, not in {span:?}"))),
            }
        }
        prop_assert_eq!(&seen, &world.jobs.keys().copied().collect());

        let mut counts = BTreeMap::<State, i64>::new();
        world
            .jobs
            .values()
            .for_each(|job| *counts.entry(job.state).or_default() += 1);
        let mut kept = store.counts().await.map_err(broken)?;
        kept.retain(|_, count| *count != 0);
        prop_assert_eq!(kept, counts);
        sums::compare_trees(world, |root| self.key(root), store).await
    }

    /// What is queued, in the order in which it is given out, and what holds it back.
    async fn compare_queue(&self, world: &World, store: &dyn Store) -> Checked {
        let doors = store.gates().await.map_err(broken)?;
        let doors: BTreeSet<_> = doors.into_iter().map(|it| (it.gate, it.closed_at, it.until)).collect();
        let closed = world
            .doors
            .iter()
            .map(|(door, it)| (gate(*door), Timestamp(it.since), it.until.map(Timestamp)));
        prop_assert_eq!(doors, closed.collect());
        let query = ReadyQuery {
            after_lane: None,
            lanes: 1000,
            per_lane: 1000,
        };
        let ready = store.ready(query).await.map_err(broken)?;
        for pair in ready.windows(2) {
            prop_assert!((pair[0].lane, pair[0].due) <= (pair[1].lane, pair[1].due), "{:?}", pair);
        }
        let seen: BTreeMap<_, _> = ready
            .into_iter()
            .map(|it| (number(&it.public_id), (it.due, it.spec.priority.to_bits())))
            .collect();
        let queued = world.jobs.values().filter(|job| job.state == State::Queued);
        let queued = queued.map(|job| (job.no, (job.due(), job.priority.to_bits())));
        prop_assert_eq!(seen, queued.collect());
        Ok(())
    }

    async fn compare_sessions(&self, world: &World, store: &dyn Store) -> Checked {
        let views = store.sessions(1000).await.map_err(broken)?;
        let seen: BTreeMap<_, _> = views
            .into_iter()
            .map(|it| {
                (
                    it.name,
                    (
                        (it.identity, it.server, it.connected, it.lease_expires_at.0, it.held),
                        (
                            it.epoch.0,
                            it.instance
                                .map(|it| (it.id, it.crawler_id, it.principal, it.high_water)),
                        ),
                    ),
                )
            })
            .collect();
        let alive = world
            .sessions
            .iter()
            .filter(|(_, it)| it.connected || it.lease > world.now);
        let expected = alive.map(|(no, it)| {
            let identity = it.identity.map(|identity| format!("process {identity}"));
            let held = world.jobs.values().filter(|job| job.session == Some(*no)).count();
            let row = (identity, server_name(it.server), it.connected, it.lease, held);
            let instance = it.instance.map(|principal| {
                let principal = format!("principal {principal}");
                (
                    format!("instance {no}"),
                    format!("crawler {no}"),
                    principal,
                    it.high_water.0,
                )
            });
            (session_name(*no).to_string(), (row, (it.epoch, instance)))
        });
        prop_assert_eq!(seen, expected.collect());

        let keys: Vec<_> = self.sessions.values().copied().collect();
        let held = store.held(keys).await.map_err(broken)?;
        let seen: BTreeMap<_, _> = held
            .into_iter()
            .map(|it| {
                (
                    number(&it.public_id),
                    (self.session_no(it.session), it.fence.0, it.want),
                )
            })
            .collect();
        let held = world.jobs.values().filter(|job| job.is_held());
        let held = held.map(|job| (job.no, (job.session, job.fence, job.want.map(|(want, _)| want))));
        prop_assert_eq!(seen, held.collect());
        Ok(())
    }

    /// At the end of a case: histories lead to the rows, every act was audited, the newest report stayed.
    pub(crate) async fn close(&self, world: &World) -> Checked {
        let store = self.servers[0].store();
        for job in world.jobs.values() {
            let key = self.key(job.no);
            let events = store.events(key, ALL).await.map_err(broken)?.items;
            let arrows: Vec<_> = events
                .iter()
                .flat_map(|event| &event.arrows)
                .map(|it| Arrow::named(it))
                .collect();
            prop_assert_eq!(
                &arrows,
                &job.history.iter().copied().map(Some).collect::<Vec<_>>(),
                "job {}",
                job.no
            );
            let last = events.last().map(|event| (event.state, event.fence.0, event.attempt));
            prop_assert_eq!(last, Some((job.state, job.fence, job.attempt)), "job {}", job.no);
            let (fence, attempt) = replayed(&job.history);
            prop_assert_eq!(
                (fence, attempt),
                (job.fence, job.attempt),
                "job {}: {:?}",
                job.no,
                job.history
            );
            sums::compare_reports(job, key, store).await?;
            let kept = store.checkpoint(key).await.map_err(broken)?;
            prop_assert_eq!(kept, job.checkpoint.map(cursor), "job {}", job.no);
        }
        let audit = store.audit(ALL).await.map_err(broken)?.items;
        let audit: Vec<_> = audit.into_iter().rev().map(|it| (it.act, it.target)).collect();
        let expected: Vec<_> = world
            .audit
            .iter()
            .map(|(act, target)| ((*act).to_owned(), target_name(*target)))
            .collect();
        prop_assert_eq!(audit, expected);
        Ok(())
    }
}

pub(crate) fn broken(error: crawlwire_progress::StoreError) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}
