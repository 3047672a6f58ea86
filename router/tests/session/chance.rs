//! Sessions at random: lines, repeats, gaps, reconnects, wishes, a store that fails. Nothing that was acknowledged is lost,
//! nothing has its effect twice, and nothing costs an attempt that no time ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crawlwire_progress::store::{Act, JobFilter, Paging};
use crawlwire_progress::view::JobView;
use crawlwire_progress::{Policy, State, Store};
use crawlwire_protocol::WebAppMessage;
use crawlwire_protocol::message::Welcome;
use crawlwire_router::{Origin, RouterConfig};
use proptest::prelude::*;
use serde_json::json;

use crate::client::{Client, about, calm, heartbeat, hello_with, line};
use crate::support::store::Failure;
use crate::support::*;

pub(crate) const ALL: Paging = Paging {
    limit: 10_000,
    after: None,
};

/// Between two heartbeats: short, because they are waited for.
const BEAT: Duration = Duration::from_millis(4);

#[derive(Debug, Clone, Copy)]
enum Lasting {
    Started,
    Discovered,
    Checkpoint,
    Completed,
    Returned,
    /// Completed, under a lease that never was.
    Stray,
}

#[derive(Debug, Clone)]
enum Step {
    Submit,
    /// Something new about one of its jobs.
    Say {
        job: usize,
        what: Lasting,
    },
    /// An end that is refused.
    Stray {
        job: usize,
    },
    /// What is not settled is said again, from the first on, or from anywhere.
    Again {
        from: Option<usize>,
    },
    /// A number that is not there yet.
    Early,
    Reconnect {
        /// Whether the old connection has ended before the new one greets.
        gone_first: bool,
        /// Whether it hears what was on its way to it.
        hears: bool,
    },
    Fail(Failure),
    Act {
        job: usize,
        act: Act,
    },
    Heartbeat,
}

fn step() -> impl Strategy<Value = Step> {
    let what = prop::sample::select(vec![
        Lasting::Started,
        Lasting::Discovered,
        Lasting::Checkpoint,
        Lasting::Completed,
        Lasting::Completed,
        Lasting::Returned,
    ]);
    let failure = prop::sample::select(vec![Failure::Unavailable, Failure::InDoubt]);
    let act = prop::sample::select(vec![Act::Cancel, Act::Pause, Act::Resume]);
    prop_oneof![
        3 => Just(Step::Submit),
        10 => (0..4_usize, what).prop_map(|(job, what)| Step::Say { job, what }),
        2 => (0..4_usize).prop_map(|job| Step::Stray { job }),
        3 => prop::option::of(0..8_usize).prop_map(|from| Step::Again { from }),
        1 => Just(Step::Early),
        2 => any::<(bool, bool)>().prop_map(|(gone_first, hears)| Step::Reconnect { gone_first, hears }),
        2 => failure.prop_map(Step::Fail),
        1 => (0..6_usize, act).prop_map(|(job, act)| Step::Act { job, act }),
        1 => Just(Step::Heartbeat),
    ]
}

/// A crawler as it should be: it keeps what is not settled, in order, and what it holds.
struct Play {
    server: Server,
    client: Client,
    /// Not settled: number and line.
    outbox: BTreeMap<u64, String>,
    /// Numbers that the server acknowledged, and those that it refused for good.
    acked: u64,
    refused: BTreeSet<u64>,
    /// The server parted, because it could not say what became of a number.
    parted: bool,
    /// Every line that was numbered, with what it means.
    said: BTreeMap<u64, (String, Lasting, i64)>,
    leases: BTreeMap<String, i64>,
    submitted: usize,
}

impl Play {
    async fn new() -> Self {
        let mut config = RouterConfig {
            sweep_interval: Duration::from_millis(1),
            ..calm()
        };
        config.hello.heartbeat_interval = BEAT;
        let server = Server::with(config, Policy::default());
        let client = server.session(1).await;
        Self {
            server,
            client,
            outbox: BTreeMap::new(),
            acked: 0,
            refused: BTreeSet::new(),
            parted: false,
            said: BTreeMap::new(),
            leases: BTreeMap::new(),
            submitted: 0,
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Submit => {
                self.server.submit(&format!("job-{}", self.submitted)).await;
                self.submitted += 1;
            }
            Step::Say { job, what } => self.say(job, what).await,
            Step::Stray { job } => {
                if let Some((job, fence)) = self.leases.iter().nth(job).map(|(job, fence)| (job.clone(), *fence)) {
                    let text = say::completed(&job);
                    self.give(job, Lasting::Stray, &text, fence + 100).await;
                }
            }
            Step::Again { from } => self.again(from.unwrap_or(0)).await,
            Step::Early => {
                let line = self.client.numbered(self.client.seq + 5, &say::started("job-0"), 1);
                self.client.say(line).await;
            }
            Step::Reconnect { gone_first, hears } => self.reconnect(gone_first, hears).await,
            Step::Fail(failure) => self.server.store.fail("Said", failure),
            Step::Act { job, act } => {
                if let Some(job) = self.server.store.job(&format!("job-{job}")).await.unwrap() {
                    let _ = self.server.router.act(job.key, act, "somebody").await;
                }
            }
            Step::Heartbeat => {
                // Others do not count.
                tokio::time::sleep(BEAT / 2).await;
                let held = self.held();
                let leases: Vec<_> = held.iter().map(|(job, fence)| (job.as_str(), *fence)).collect();
                done(self.client.say(heartbeat(&leases)).await);
            }
        }
        self.hear().await;
    }

    /// Listens, and comes back as long as the server parts.
    async fn hear(&mut self) {
        self.listen().await;
        while std::mem::take(&mut self.parted) {
            self.reconnect(true, false).await;
            self.listen().await;
        }
    }

    /// Every job whose end is not settled.
    fn held(&self) -> BTreeSet<(String, i64)> {
        let said = self.outbox.keys().filter_map(|seq| self.said.get(seq));
        let ended = said.filter(|(_, what, _)| matches!(what, Lasting::Completed | Lasting::Returned));
        let ended = ended.map(|(job, _, fence)| (job.clone(), *fence));
        let leases = self.leases.iter().map(|(job, fence)| (job.clone(), *fence));
        leases.chain(ended).collect()
    }

    async fn say(&mut self, job: usize, what: Lasting) {
        let Some((job, fence)) = self.leases.iter().nth(job).map(|(job, fence)| (job.clone(), *fence)) else {
            return;
        };
        let seq = self.client.seq + 1;
        let text = match what {
            Lasting::Started => say::started(&job),
            Lasting::Discovered => say::discovered(&job, &[&format!("entity-{seq}")]),
            Lasting::Checkpoint => about("checkpoint", &job, json!({ "cursor": { "seq": seq } })),
            Lasting::Completed => say::completed(&job),
            Lasting::Returned | Lasting::Stray => about("job_returned", &job, json!({})),
        };
        if matches!(what, Lasting::Completed | Lasting::Returned) {
            self.leases.remove(&job);
        }
        self.give(job, what, &text, fence).await;
    }

    async fn give(&mut self, job: String, what: Lasting, text: &str, fence: i64) {
        let line = self.client.next(text, fence);
        self.said.insert(self.client.seq, (job, what, fence));
        self.outbox.insert(self.client.seq, line.clone());
        self.client.say(line).await;
    }

    /// As it does whenever it was told to try again, without waiting.
    async fn again(&mut self, from: usize) {
        let lines: Vec<_> = self.outbox.values().skip(from).cloned().collect();
        let mut pending = Vec::new();
        for line in lines {
            pending.push(self.client.line.take(&line).await);
        }
        for pending in pending {
            self.server.router.conclude(&self.client.line.peer, pending.await).await;
        }
        self.server.router.acknowledge(&self.client.line.peer).await;
    }

    async fn reconnect(&mut self, gone_first: bool, hears: bool) {
        let line = self.server.connect_from(Origin::Memory);
        let mut fresh = Client { line, seq: 0 };
        if gone_first {
            self.hang_up(hears).await;
        }
        let welcome = self.greet(&mut fresh).await;
        if !gone_first {
            self.hang_up(hears).await;
        }
        fresh.seq = self.client.seq;
        self.client = fresh;
        self.parted = false;
        self.heard_of_refusals(&welcome);
        self.settled(welcome.high_water_seq.get());
        let own: BTreeSet<_> = welcome.leases.iter().map(|lease| lease.job_id.to_string()).collect();
        self.leases.retain(|job, _| own.contains(job));
        self.again(0).await;
    }

    /// Ends the connection, with or without having heard what was on its way.
    async fn hang_up(&mut self, hears: bool) {
        if hears {
            self.listen().await;
        }
        soon("a disconnect", self.server.router.disconnected(&self.client.line.peer)).await;
    }

    async fn greet(&self, client: &mut Client) -> Welcome {
        let held = self.held();
        let holds = held.iter().map(|(job, fence)| json!({ "job_id": job, "fence": fence }));
        let holds: Vec<_> = holds.collect();
        client
            .say(line("hello", hello_with(1, json!({ "holds": holds }))))
            .await;
        client.welcomed().await
    }

    /// The welcome tells of every refusal of the last 64 numbers, heard or not.
    fn heard_of_refusals(&mut self, welcome: &Welcome) {
        let refused = welcome.refused.as_ref().unwrap().iter();
        let told: BTreeSet<_> = refused.map(|it| it.seq.get()).collect();
        let high_water = welcome.high_water_seq.get();
        let known = |seq: &&u64| **seq <= high_water && **seq + 64 > high_water;
        let heard: BTreeSet<_> = self.refused.iter().filter(known).copied().collect();
        assert!(heard.is_subset(&told), "{heard:?} {told:?}");
        self.refused.extend(told);
    }

    fn settled(&mut self, seq: u64) {
        self.acked = self.acked.max(seq);
        self.outbox.retain(|number, _| *number > seq);
    }

    /// Takes in what the server said, and does what it wishes.
    async fn listen(&mut self) {
        while let Some(told) = self.client.line.try_line() {
            let job = told.job_id.map(|job| job.to_string()).unwrap_or_default();
            let fence = told.marks.fence.map_or(0, |fence| fence.get());
            match told.message {
                WebAppMessage::Ack(ack) => self.settled(ack.seq.get()),
                WebAppMessage::Error(error) => {
                    if let Some(seq) = error.seq.filter(|_| !error.retryable) {
                        assert_ne!(error.code.as_str(), "sequence_conflict");
                        self.refused.insert(seq.get());
                        self.settled(seq.get());
                    }
                }
                WebAppMessage::Goodbye(goodbye) => {
                    let reason = goodbye.reason.as_str();
                    assert!(["session_lost", "replaced"].contains(&reason), "{reason}");
                    self.parted |= goodbye.reconnect;
                }
                WebAppMessage::JobAssignment(assignment) => {
                    self.leases.insert(assignment.job_id, fence);
                }
                WebAppMessage::JobCancel(_) if self.leases.get(&job) != Some(&fence) => {}
                WebAppMessage::JobCancel(cancel) => {
                    self.leases.remove(&job);
                    if cancel.reason.is_none() {
                        let text = about("job_cancelled", &job, json!({}));
                        self.give(job, Lasting::Returned, &text, fence).await;
                    }
                }
                WebAppMessage::JobPause(_) if self.leases.remove(&job).is_some() => {
                    let text = about("job_paused", &job, json!({}));
                    self.give(job, Lasting::Returned, &text, fence).await;
                }
                _ => {}
            }
        }
    }

    /// Everything is said until it is settled; then the books are compared.
    async fn finish(mut self) -> Result<(), TestCaseError> {
        done(self.client.say(line("job_request", json!({ "slots": 0 }))).await);
        for _ in 0..200 {
            self.hear().await;
            if self.outbox.is_empty() && self.leases.is_empty() {
                break;
            }
            self.again(0).await;
            self.hear().await;
            if self.outbox.is_empty() && !self.leases.is_empty() {
                self.say(0, Lasting::Completed).await;
            }
            self.server.renewed().await;
        }
        prop_assert!(
            self.outbox.is_empty() && self.leases.is_empty(),
            "{:?} {:?}",
            self.outbox,
            self.leases
        );
        // What was carried out and not told of is known when memory is compared with the rows.
        self.server.renewed().await;
        prop_assert!(self.client.line.holds().is_empty(), "{:?}", self.client.line.holds());
        self.compare().await
    }

    async fn compare(&self) -> Result<(), TestCaseError> {
        let jobs = self.server.store.jobs(JobFilter::default(), ALL).await.unwrap().items;
        let mut entities: Vec<_> = jobs.iter().filter_map(|job| job.spec.entity_id.clone()).collect();
        entities.sort();
        let distinct = entities.len();
        entities.dedup();
        prop_assert_eq!(entities.len(), distinct, "discovered twice");
        for (seq, (job, what, _)) in self.said.iter().filter(|(seq, _)| !self.refused.contains(seq)) {
            let job = jobs.iter().find(|view| view.public_id == *job).unwrap();
            match what {
                // A job that is to be cancelled finds nothing more.
                Lasting::Discovered => {
                    let events = self.server.history(&job.public_id).await;
                    let cancelled = events
                        .iter()
                        .any(|event| event.arrows.iter().any(|arrow| *arrow == "want_cancel"));
                    prop_assert!(
                        cancelled || entities.contains(&format!("entity-{seq}")),
                        "{seq} was acknowledged and lost"
                    );
                }
                Lasting::Stray => prop_assert!(false, "{} had no effect, and the crawler was not told", seq),
                Lasting::Completed => prop_assert_eq!(job.state, State::Completed, "{} was lost", seq),
                Lasting::Started | Lasting::Checkpoint | Lasting::Returned => {}
            }
        }
        for job in &jobs {
            self.compare_checkpoint(job).await?;
            let events = self.server.history(&job.public_id).await;
            let arrows = || events.iter().flat_map(|event| &event.arrows);
            let count = |name: &str| arrows().filter(|arrow| *arrow == name).count();
            prop_assert_eq!(
                (job.failures, job.misses),
                (0, 0),
                "{}: {:?}",
                job.public_id,
                arrows().collect::<Vec<_>>()
            );
            prop_assert!(count("finish") <= 1);
            prop_assert_eq!(
                count("expire") + count("release") + count("deadline") + count("force"),
                0
            );
            // One start for each time it was given out, at most.
            prop_assert!(count("start") <= count("claim"));
            prop_assert_eq!(job.attempt as usize, count("start"));
        }
        Ok(())
    }

    /// The last checkpoint that was not refused is the one that is kept.
    async fn compare_checkpoint(&self, job: &JobView) -> Result<(), TestCaseError> {
        let kept = |(seq, (of, what, _)): &(&u64, &(String, Lasting, i64))| {
            *of == job.public_id && matches!(what, Lasting::Checkpoint) && !self.refused.contains(seq)
        };
        if let Some((seq, _)) = self.said.iter().rev().find(kept) {
            let cursor = self.server.store.checkpoint(job.key).await.unwrap();
            prop_assert_eq!(cursor, Some(json!({ "seq": seq }).to_string()));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_acknowledged_is_kept_once(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut play = Play::new().await;
            for step in steps {
                play.step(step).await;
            }
            play.finish().await
        })?;
    }
}
