//! Any sequence of operations has the same outcome over SQLite as in memory, alone or many to a batch.

#[path = "model/step.rs"]
mod step;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use crawlwire_progress::admit::Capabilities;
use crawlwire_progress::store::{JobFilter, Paging, RedriveFilter};
use crawlwire_progress::track::Tracker;
use crawlwire_progress::view::JobView;
use crawlwire_progress::{AccountKey, Fact, Fence, JobKey, Op, Outcome, Policy, SessionKey, Timestamp};
use crawlwire_protocol::AccessToken;
use proptest::prelude::*;
use step::{Step, host, step};
use support::{Kit, Peer, acts, complete, discover, fail, new_job, nobody, report, start};

/// A store and what is known of it: jobs in the order of their public ids' birth, sessions in the order of opening.
struct World {
    kit: Kit,
    jobs: Vec<(JobKey, String)>,
    peers: Vec<Peer>,
}

impl World {
    fn new(kit: Kit) -> Self {
        Self {
            kit,
            jobs: Vec::new(),
            peers: Vec::new(),
        }
    }

    fn peer(&self, at: usize) -> Peer {
        self.peers.get(at).cloned().unwrap_or_else(nobody)
    }

    /// The operation that a step means here; `number` makes new names.
    fn op(&self, step: &Step, number: u64) -> Op {
        let key = |at: usize| self.jobs.get(at).map_or(JobKey(i64::MAX), |(key, _)| *key);
        let holder = |peer: usize, fence: i64| self.peer(peer).holds(Fence(fence));
        let by = || "somebody".to_owned();
        let now = self.kit.clock.now();
        match *step {
            Step::Submit {
                name,
                account,
                host,
                token,
                priority,
                later,
                label,
            } => {
                let mut new = new_job(number);
                new.run_at = later.map(|seconds| now.after(Duration::from_secs(seconds)));
                new.spec.labels.extend(label.then(|| "gpu".to_owned()));
                new.web_app_job_id = name.map(|name| format!("theirs-{name}"));
                new.account_id = format!("account-{account}");
                new.spec.host = self::host(host);
                new.spec.priority = priority;
                new.access_token = token.then(|| AccessToken::new(format!("glpat-{number}")));
                Op::Submit(Box::new(new))
            }
            Step::Open { identity, confirms } => Op::OpenSession(crawlwire_progress::store::NewSession {
                name: format!("peer-{number}").into(),
                identity: identity.map(|identity| format!("process {identity}")),
                server: "crawlwire".to_owned(),
                capabilities: Capabilities::any(2),
                confirms,
                instance: None,
            }),
            Step::Claim { job, peer } => self.peer(peer).claims(key(job)),
            Step::Start { job, peer, fence } => start(key(job), &holder(peer, fence)),
            Step::Finish { job, peer, fence, end } => match end {
                0 => complete(key(job), &holder(peer, fence)),
                end => fail(key(job), &holder(peer, fence), end == 1),
            },
            Step::Release { job, peer, fence } => Op::Release {
                job: key(job),
                holder: holder(peer, fence),
            },
            Step::Adopt { job, peer } => Op::Adopt {
                public_id: self
                    .jobs
                    .get(job)
                    .map_or_else(|| "nothing".to_owned(), |(_, id)| id.clone()),
                session: self.peer(peer).key,
            },
            Step::Discover {
                job,
                peer,
                fence,
                first,
                count,
            } => {
                let entities: Vec<_> = (first..first + count).map(|entity| entity.to_string()).collect();
                let entities: Vec<_> = entities.iter().map(String::as_str).collect();
                discover(key(job), &holder(peer, fence), &format!("found-{number:06}"), &entities)
            }
            Step::Report { job, peer, fence, n } => {
                Op::Progress(vec![(key(job), holder(peer, fence).lease(), report(n))])
            }
            Step::Renew { peer } => Op::Renew(vec![self.peer(peer).reference()]),
            Step::Disconnect { peer } => Op::Disconnect(self.peer(peer).reference()),
            Step::Recover { connected } => Op::Recover {
                server: "crawlwire".to_owned(),
                connected,
            },
            Step::Sweep => Op::Sweep,
            Step::Confirm { job, peer, fence } => Op::Confirm {
                job: key(job),
                holder: holder(peer, fence),
            },
            Step::Act { job, act } => acts(key(job), act),
            Step::CancelTree { job } => Op::CancelTree {
                root: key(job),
                after: None,
                by: by(),
            },
            Step::Redrive {
                quarantined,
                failed,
                account,
            } => Op::Redrive {
                filter: RedriveFilter {
                    quarantined,
                    failed,
                    account_id: account.map(|account| format!("account-{account}")),
                },
                after: None,
                by: by(),
            },
            Step::Delete { job } => Op::Delete {
                root: key(job),
                by: by(),
            },
            Step::CloseGate { ref gate, seconds } => Op::CloseGate {
                gate: gate.clone(),
                until: seconds.map(|seconds| now.after(Duration::from_secs(seconds))),
                reason: seconds.map(|seconds| format!("for {seconds} s")),
                by: by(),
            },
            Step::OpenGate { ref gate } => Op::OpenGate {
                gate: gate.clone(),
                by: by(),
            },
            Step::Prune { seconds } => Op::Prune {
                jobs_before: Timestamp(now.0 - seconds * 1000),
                errors_before: Timestamp(0),
            },
        }
    }

    /// Carries out steps that arrive together; what came of them, without keys.
    async fn run(&mut self, steps: &[Step], first: u64) -> Vec<String> {
        let ops: Vec<_> = steps
            .iter()
            .zip(first..)
            .map(|(step, number)| self.op(step, number))
            .collect();
        let outcomes = self.kit.together(ops).await;
        outcomes.into_iter().map(|outcome| self.learn(outcome)).collect()
    }

    /// Remembers what is new, and shows the outcome without keys.
    fn learn(&mut self, outcome: Outcome) -> String {
        match outcome {
            Outcome::Submitted(view) => {
                self.jobs.push((view.key, view.public_id.clone()));
                format!("{:?}", without_keys(*view))
            }
            Outcome::SessionOpened(opened) => {
                self.peers.push(Peer {
                    key: opened.session.key,
                    epoch: opened.session.epoch,
                    name: opened.name,
                });
                "opened".to_owned()
            }
            Outcome::Moved(fact) => self.show(fact),
            Outcome::Swept(facts) => {
                let facts: Vec<_> = facts.into_iter().map(|fact| self.show(fact)).collect();
                format!("{facts:?}")
            }
            Outcome::Discovered(verdicts) => {
                let mut shown = Vec::new();
                for (verdict, fact) in verdicts {
                    if let Some(fact) = &fact {
                        self.jobs.push((fact.job, fact.public_id.clone()));
                    }
                    shown.push(format!("{verdict:?} {:?}", fact.map(|fact| self.show(fact))));
                }
                format!("{shown:?}")
            }
            Outcome::Acted { facts, next } => {
                let facts: Vec<_> = facts.into_iter().map(|fact| self.show(fact)).collect();
                format!("{facts:?} {next:?}")
            }
            Outcome::Renewed { lost } => {
                let lost: Vec<_> = lost.into_iter().map(|lost| self.name_of(lost.key)).collect();
                format!("lost {lost:?}")
            }
            Outcome::Progressed { stale, passed } => {
                let place = |key| self.jobs.iter().position(|(known, _)| *known == key);
                let stale: Vec<_> = stale.into_iter().map(place).collect();
                let passed: Vec<_> = passed.iter().map(|it| (&it.root_id, it.percent)).collect();
                format!("stale {stale:?}, passed {passed:?}")
            }
            other => format!("{other:?}"),
        }
    }

    fn name_of(&self, session: SessionKey) -> Option<std::sync::Arc<str>> {
        let known = self.peers.iter().find(|peer| peer.key == session);
        known.map(|peer| peer.name.clone())
    }

    fn show(&self, fact: Fact) -> String {
        let session = fact.session.and_then(|key| self.name_of(key));
        let Fact {
            public_id,
            arrow,
            from,
            state,
            fence,
            attempt,
            at,
            ..
        } = fact;
        format!("{public_id} {arrow} {from:?} {state} {fence} {attempt} {session:?} {at:?}")
    }

    /// All that the store shows, without keys.
    async fn everything(&self) -> BTreeMap<String, String> {
        let all = Paging {
            limit: 1000,
            after: None,
        };
        let store = &self.kit.store;
        let mut seen = BTreeMap::new();
        let jobs = store.jobs(JobFilter::default(), all).await.unwrap().items;
        for view in &jobs {
            let events = store.events(view.key, all).await.unwrap().items;
            let arrows: Vec<_> = events.iter().flat_map(|event| event.arrows.clone()).collect();
            let last = events.last().map(|event| (event.state, event.fence, event.attempt));
            let progress: Option<Tracker> = store.progress(view.key).await.unwrap();
            let token = match view.credential {
                Some(credential) => store.token(credential).await.unwrap(),
                None => None,
            };
            // Tokens that arrive together share a version, so versions differ with the batches.
            let token = token.map(|(token, _)| token.expose().to_owned());
            let view = without_keys(view.clone());
            seen.insert(
                view.public_id.clone(),
                format!("{view:?} {arrows:?} {last:?} {progress:?} {token:?}"),
            );
        }
        // Lanes are hashes of keys, so only what is in one lane has an order that can be compared.
        let mut lanes = BTreeMap::<i64, Vec<String>>::new();
        for job in self.kit.ready(1000).await {
            lanes.entry(job.lane).or_default().push(job.public_id);
        }
        let mut lanes: Vec<_> = lanes.into_values().collect();
        lanes.sort();
        seen.insert("ready".to_owned(), format!("{lanes:?}"));
        seen.insert("counts".to_owned(), format!("{:?}", store.counts().await.unwrap()));
        let sessions = store.sessions(1000).await.unwrap();
        let sessions: Vec<_> = sessions
            .into_iter()
            .map(|view| {
                (
                    view.name,
                    view.connected,
                    view.opened_at,
                    view.lease_expires_at,
                    view.held,
                )
            })
            .collect();
        seen.insert("sessions".to_owned(), format!("{sessions:?}"));
        let gates = store.gates().await.unwrap();
        let gates: Vec<_> = gates
            .into_iter()
            .map(|gate| (gate.gate, gate.closed_at, gate.until, gate.reason, gate.by))
            .collect();
        seen.insert("gates".to_owned(), format!("{gates:?}"));
        let audit = store.audit(all).await.unwrap().items;
        let audit: Vec<_> = audit
            .into_iter()
            .map(|row| (row.at, row.by, row.act, row.target, row.detail))
            .collect();
        seen.insert("audit".to_owned(), format!("{audit:?}"));
        for account in ["account-0", "account-1"] {
            let areas = store.areas(account, all).await.unwrap().items;
            // What is found together is kept in another order than what is found one after the other.
            let areas: BTreeSet<_> = areas
                .into_iter()
                .map(|area| (area.host, area.kind, area.entity_id, area.path, area.name, area.since))
                .collect();
            seen.insert(format!("areas of {account}"), format!("{areas:?}"));
            let key = jobs
                .iter()
                .find(|view| view.account_id == account)
                .map(|view| view.account);
            let held = store.held_by_account(key.into_iter().collect()).await.unwrap();
            seen.insert(
                format!("held by {account}"),
                format!("{:?}", held.into_values().collect::<Vec<_>>()),
            );
        }
        seen
    }
}

fn without_keys(view: JobView) -> JobView {
    JobView {
        key: JobKey(0),
        account: AccountKey(0),
        credential: None,
        ..view
    }
}

fn policy() -> Policy {
    Policy {
        // No delay, no chance: the generators of the two stores do not run in step.
        retry_delay: Duration::ZERO,
        retry_attempts: 1,
        misses_max: 3,
        queued_jobs_max: 6,
        tree_depth_max: 2,
        children_max: 4,
        tree_jobs_max: 6,
        accept_timeout: Duration::from_secs(20),
        job_timeout: Duration::from_secs(50),
        lease: Duration::from_secs(40),
        account_jobs_max: 9,
        account_held_max: Some(3),
        want_timeout: Duration::from_secs(10),
        ..Policy::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_does_what_memory_does(
        batches in prop::collection::vec((prop::collection::vec(step(), 1..8), 0..15_u64), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut memory = World::new(Kit::memory(policy()));
            let mut sqlite = World::new(Kit::over(TestDatabase::sqlite(), policy()).await);
            let mut number = 0;
            for (steps, seconds) in batches {
                let expected = memory.run(&steps, number).await;
                let found = sqlite.run(&steps, number).await;
                prop_assert_eq!(found, expected, "{:?}", steps);
                prop_assert_eq!(sqlite.everything().await, memory.everything().await, "after {:?}", steps);
                number += steps.len() as u64;
                for world in [&memory, &sqlite] {
                    world.kit.pass(Duration::from_secs(seconds));
                }
            }
            sqlite.kit.sql().close().await;
            Ok(())
        })?;
    }
}
