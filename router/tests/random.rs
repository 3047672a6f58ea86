//! Crawlers that say anything at any time, come and go, and read slowly. Whatever they do, the router remembers what
//! the store knows, and afterwards every job can still be brought to its end.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crawlwire_progress::store::{Act, JobFilter, Paging};
use crawlwire_progress::{Op, Policy, State, Store};
use crawlwire_protocol::message::JobAssignment;
use crawlwire_router::RouterConfig;
use proptest::prelude::*;

use support::*;

const SLOTS: usize = 3;

#[derive(Debug, Clone)]
enum Line {
    Heartbeat,
    Custom,
    Started,
    Progress,
    Completed,
    Failed { recoverable: bool },
    Discovered { entities: Vec<u8> },
    Refresh,
}

#[derive(Debug, Clone)]
enum Step {
    Submit,
    /// Of a job that the crawler was given, or of any other one.
    Say {
        slot: usize,
        line: Line,
        job: usize,
        own: bool,
    },
    Reconnect {
        slot: usize,
    },
    Full {
        slot: usize,
        full: bool,
    },
    Wait {
        millis: u64,
    },
    /// Somebody does something to a job, here or on another server.
    Act {
        job: usize,
        act: Act,
        here: bool,
    },
    Outage,
    Back,
}

fn line() -> impl Strategy<Value = Line> {
    prop_oneof![
        3 => Just(Line::Heartbeat),
        1 => Just(Line::Custom),
        3 => Just(Line::Started),
        3 => Just(Line::Progress),
        2 => Just(Line::Completed),
        2 => prop::bool::weighted(0.8).prop_map(|recoverable| Line::Failed { recoverable }),
        2 => prop::collection::vec(0..6_u8, 0..4).prop_map(|entities| Line::Discovered { entities }),
        1 => Just(Line::Refresh),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let acts = [
        Act::Cancel,
        Act::Pause,
        Act::Resume,
        Act::Retry,
        Act::Redrive,
        Act::SetPriority(3.0),
    ];
    prop::sample::select(acts.to_vec())
}

fn step() -> impl Strategy<Value = Step> {
    let slot = || 0..SLOTS;
    prop_oneof![
        3 => Just(Step::Submit),
        14 => (slot(), line(), 0..12_usize, prop::bool::weighted(0.8))
            .prop_map(|(slot, line, job, own)| Step::Say { slot, line, job, own }),
        2 => slot().prop_map(|slot| Step::Reconnect { slot }),
        1 => (slot(), any::<bool>()).prop_map(|(slot, full)| Step::Full { slot, full }),
        3 => (0..50_000_u64).prop_map(|millis| Step::Wait { millis }),
        3 => (0..12_usize, act(), any::<bool>()).prop_map(|(job, act, here)| Step::Act { job, act, here }),
        1 => Just(Step::Outage),
        3 => Just(Step::Back),
    ]
}

struct Play {
    server: Server,
    crawlers: Vec<Crawler>,
    submitted: usize,
    said: u64,
    away: bool,
}

impl Play {
    fn new() -> Self {
        let policy = Policy {
            job_timeout: Duration::from_secs(120),
            retry_attempts: 2,
            misses_max: 4,
            tree_depth_max: 2,
            children_max: 3,
            ..Policy::default()
        };
        let interval = Duration::from_millis(1);
        let config = RouterConfig {
            sweep_interval: interval,
            flush_interval: interval,
            ..config()
        };
        let server = Server::with(config, policy);
        let crawlers = (0..SLOTS).map(|slot| connect(&server, slot)).collect();
        Self {
            server,
            crawlers,
            submitted: 0,
            said: 0,
            away: false,
        }
    }

    async fn back(&mut self) {
        if std::mem::take(&mut self.away) {
            self.server.store.come_back();
            self.server.renewed().await;
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Submit => {
                let new = with_token(&format!("job-{}", self.submitted), "token");
                if self.server.router.submit(new).await.is_ok() {
                    self.submitted += 1;
                }
            }
            Step::Say { slot, line, job, own } => self.say(slot, line, job, own).await,
            Step::Reconnect { slot } => {
                self.back().await;
                let old = std::mem::replace(&mut self.crawlers[slot], connect(&self.server, slot));
                old.leave().await;
            }
            Step::Full { slot, full } => self.crawlers[slot].out.full.store(full, Ordering::Relaxed),
            Step::Wait { millis } => self.server.store.later(Duration::from_millis(millis)),
            Step::Act { job, act, here } => self.act(job, act, here).await,
            Step::Outage => {
                self.away = true;
                self.server.store.leave();
            }
            Step::Back => self.back().await,
        }
    }

    async fn act(&mut self, job: usize, act: Act, here: bool) {
        let Some(job) = self.server.store.job(&format!("job-{job}")).await.unwrap() else {
            return;
        };
        if here {
            // Refused in many states, and while the store is away.
            let _ = self.server.router.act(job.key, act, "somebody").await;
        } else if !self.away {
            let by = "somebody".to_owned();
            self.server.store.elsewhere(Op::Act { job: job.key, act, by });
        }
    }

    async fn say(&mut self, slot: usize, line: Line, job: usize, own: bool) {
        // Awaited here, so the store has to be there.
        self.back().await;
        self.server.renewed().await;
        let crawler = &mut self.crawlers[slot];
        let held = crawler.holds();
        let job = match held.get(job % held.len().max(1)).filter(|_| own) {
            Some(job) => job.clone(),
            None => format!("job-{job}"),
        };
        let line = match line {
            Line::Heartbeat => say::heartbeat(),
            Line::Custom => say::custom("something"),
            Line::Started => say::started(&job),
            Line::Progress => say::progress(&job, 0.5),
            Line::Completed => say::completed(&job),
            Line::Failed { recoverable } => say::failed(&job, recoverable),
            Line::Discovered { entities } => {
                let entities: Vec<_> = entities.iter().map(u8::to_string).collect();
                say::discovered(&job, &entities.iter().map(String::as_str).collect::<Vec<_>>())
            }
            Line::Refresh => say::refresh(&job),
        };
        crawler.say(line).await;
        while crawler.try_hear().is_some() {}
        self.said += 1;
    }

    /// What the router remembers is what the store knows.
    async fn compare(&mut self) -> Result<(), TestCaseError> {
        self.back().await;
        self.server.renewed().await;
        let mut known = BTreeMap::<String, Vec<String>>::new();
        for view in jobs(&self.server).await {
            if let Some(session) = view.session {
                known.entry(session).or_default().push(view.public_id);
            }
        }
        for crawler in &self.crawlers {
            let mut of_store = known.remove(&crawler.name()).unwrap_or_default();
            of_store.sort();
            prop_assert!(crawler.lingering().iter().all(|job| !of_store.contains(job)));
            prop_assert_eq!(crawler.holds(), of_store, "{}", crawler.name());
        }
        let stats = self.server.router.stats();
        prop_assert_eq!(stats.processed + stats.failed, self.said);
        prop_assert!(known.values().all(|jobs| !jobs.is_empty()),);
        Ok(())
    }

    /// A crawler that does its work brings every job to an end.
    async fn finish(self) -> Result<(), TestCaseError> {
        for crawler in self.crawlers {
            crawler.leave().await;
        }
        let server = self.server;
        let mut honest = server.crawler().await;
        for _ in 0..500 {
            let open = |state: State| !state.is_terminal() && state != State::Paused;
            if !jobs(&server).await.iter().any(|view| open(view.state)) {
                server.stop().await;
                return Ok(());
            }
            server.store.later(Duration::from_secs(20));
            done(honest.say(say::heartbeat()).await);
            server.renewed().await;
            while let Some(JobAssignment { job_id, .. }) = honest.try_hear() {
                honest.say(say::completed(&job_id)).await;
            }
        }
        Err(TestCaseError::fail(format!("stuck: {:?}", jobs(&server).await)))
    }
}

fn connect(server: &Server, slot: usize) -> Crawler {
    server.connect(Some(format!("process-{slot}")).filter(|_| slot > 0).as_deref())
}

async fn jobs(server: &Server) -> Vec<crawlwire_progress::view::JobView> {
    let all = Paging {
        limit: 10_000,
        after: None,
    };
    server.store.jobs(JobFilter::default(), all).await.unwrap().items
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_router_keeps_its_books_and_gets_everything_done(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut play = Play::new();
            for step in steps {
                play.step(step).await;
            }
            play.compare().await?;
            play.finish().await
        })?;
    }
}
