//! What the tests of stores share: a store of each kind under a clock that is moved by hand, and short ways to ask for
//! operations.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crawlwire_persistence::testing::{ManualClock, TestDatabase};
use crawlwire_persistence::{Database, SqlStore};
use crawlwire_progress::admit::Capabilities;
use crawlwire_progress::memory::MemoryStore;
use crawlwire_progress::store::{
    Act, Ending, Found, Holder, NewInstance, NewJob, NewSession, Opened, ReadyQuery, Said,
};
use crawlwire_progress::track::{self, Tracker};
use crawlwire_progress::view::{JobSpec, JobView, ReadyJob};
use crawlwire_progress::{Arrow, Epoch, Fact, Fence, JobKey, Op, Outcome, Policy, SessionKey, SessionRef, Store};
use crawlwire_protocol::AccessToken;
use crawlwire_protocol::message::{DiscoveredJob, JobType};

/// Runs each case over both databases.
#[allow(unused_macros, reason = "each test binary uses a part of it")]
macro_rules! on_both {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::TestDatabase::sqlite()).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(database) = super::TestDatabase::postgres().await {
                    super::$case(database).await;
                }
            })+
        }
    };
}
#[allow(unused_imports, reason = "as above")]
pub(crate) use on_both;

/// A store, and the hand on its clock.
pub(crate) struct Kit {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: ManualClock,
    pub(crate) policy: Policy,
    /// None for the store in memory.
    pub(crate) sql: Option<Arc<SqlStore>>,
    pub(crate) database: Option<TestDatabase>,
    jobs: AtomicU64,
}

impl Kit {
    pub(crate) fn memory(policy: Policy) -> Self {
        let clock = ManualClock::default();
        let told = clock.clone();
        let store = MemoryStore::new(policy.clone(), Box::new(move || told.now()));
        Self {
            store: Arc::new(store),
            clock,
            policy,
            sql: None,
            database: None,
            jobs: AtomicU64::new(0),
        }
    }

    pub(crate) async fn sqlite(policy: Policy) -> Self {
        Self::over(TestDatabase::sqlite(), policy).await
    }

    /// None where there is no PostgreSQL.
    pub(crate) async fn postgres(policy: Policy) -> Option<Self> {
        Some(Self::over(TestDatabase::postgres().await?, policy).await)
    }

    /// A store that somebody else opened, under the machine's clock.
    pub(crate) fn around(sql: Arc<SqlStore>) -> Self {
        Self {
            store: sql.clone(),
            clock: ManualClock::default(),
            policy: Policy::default(),
            sql: Some(sql),
            database: None,
            jobs: AtomicU64::new(1_000_000),
        }
    }

    /// The same database, opened once more after it was closed.
    pub(crate) async fn opened_again(mut self) -> Self {
        let mut config = self.database().config();
        config.policy = self.policy.clone();
        config.clock = Some(self.clock.as_clock());
        let sql = Database::open(config).await.unwrap();
        self.store = sql.clone();
        self.sql = Some(sql);
        self
    }

    pub(crate) async fn over(database: TestDatabase, policy: Policy) -> Self {
        let clock = ManualClock::default();
        let mut config = database.config();
        config.policy = policy.clone();
        config.clock = Some(clock.as_clock());
        let sql = Database::open(config).await.unwrap();
        Self {
            store: sql.clone(),
            clock,
            policy,
            sql: Some(sql),
            database: Some(database),
            jobs: AtomicU64::new(0),
        }
    }

    pub(crate) fn sql(&self) -> &SqlStore {
        self.sql.as_deref().unwrap()
    }

    pub(crate) fn database(&self) -> &TestDatabase {
        self.database.as_ref().unwrap()
    }

    /// Lets everything that is delayed become due.
    pub(crate) fn pass(&self, duration: Duration) {
        self.clock.advance(duration);
    }

    pub(crate) async fn commit(&self, op: Op) -> Outcome {
        self.store.commit(op).await.unwrap().into_inner()
    }

    /// Operations that arrive together; their outcomes, in order.
    pub(crate) async fn together(&self, ops: Vec<Op>) -> Vec<Outcome> {
        let mut tickets = Vec::new();
        for op in ops {
            tickets.push(self.store.enqueue(op).await);
        }
        let mut outcomes = Vec::new();
        for ticket in tickets {
            outcomes.push(ticket.await.unwrap().into_inner());
        }
        outcomes
    }

    /// A job that was not there before.
    pub(crate) fn new_job(&self) -> NewJob {
        new_job(self.jobs.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) async fn submit(&self) -> JobView {
        self.submitted(self.new_job()).await
    }

    pub(crate) async fn submitted(&self, new: NewJob) -> JobView {
        match self.commit(Op::Submit(Box::new(new))).await {
            Outcome::Submitted(view) => *view,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn session(&self, name: &str) -> Peer {
        self.session_of(name, None).await
    }

    pub(crate) async fn session_of(&self, name: &str, identity: Option<&str>) -> Peer {
        self.opened(name, identity, "crawlwire", false).await
    }

    pub(crate) async fn session_at(&self, name: &str, server: &str) -> Peer {
        self.opened(name, None, server, false).await
    }

    /// One of a known process.
    pub(crate) async fn known_at(&self, name: &str, identity: &str, server: &str) -> Peer {
        self.opened(name, Some(identity), server, false).await
    }

    /// One that can be asked to end or pause a job.
    pub(crate) async fn session_that_confirms(&self, name: &str) -> Peer {
        self.opened(name, None, "crawlwire", true).await
    }

    /// A crawler that comes, or comes back, as an instance of this name.
    pub(crate) async fn comes(&self, instance: &str) -> Opened {
        match self.commit(of_instance(instance, "unix:1")).await {
            Outcome::SessionOpened(opened) => opened,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn says(&self, session: SessionRef, seq: i64, ops: Vec<Op>) -> Said {
        match self.commit(said(session, seq, ops)).await {
            Outcome::Said(said) => said,
            other => panic!("{other:?}"),
        }
    }

    async fn opened(&self, name: &str, identity: Option<&str>, server: &str, confirms: bool) -> Peer {
        let new = NewSession {
            name: name.into(),
            identity: identity.map(str::to_owned),
            server: server.to_owned(),
            capabilities: Capabilities::any(3),
            confirms,
            instance: None,
        };
        match self.commit(Op::OpenSession(new)).await {
            Outcome::SessionOpened(opened) => Peer {
                key: opened.session.key,
                epoch: opened.session.epoch,
                name: name.into(),
            },
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn claim(&self, job: &JobView, peer: &Peer) -> Holder {
        let fact = moved(self.commit(peer.claims(job.key)).await);
        assert_eq!(fact.arrow, Arrow::Claim);
        peer.holds(fact.fence)
    }

    pub(crate) async fn start(&self, job: &JobView, peer: &Peer) -> Holder {
        let holder = self.claim(job, peer).await;
        moved(self.commit(start(job.key, &holder)).await);
        holder
    }

    pub(crate) async fn view(&self, job: &JobView) -> JobView {
        self.store.job(&job.public_id).await.unwrap().unwrap()
    }

    pub(crate) async fn sweep(&self) -> Vec<Fact> {
        match self.commit(Op::Sweep).await {
            Outcome::Swept(facts) => facts,
            other => panic!("{other:?}"),
        }
    }

    /// The facts of an act that had an effect.
    pub(crate) async fn act(&self, job: &JobView, act: Act) -> Vec<Fact> {
        match self.commit(acts(job.key, act)).await {
            Outcome::Acted { facts, next: None } => facts,
            other => panic!("{other:?}"),
        }
    }

    /// So many queued jobs of each lane.
    pub(crate) async fn ready(&self, per_lane: usize) -> Vec<ReadyJob> {
        let query = ReadyQuery {
            after_lane: None,
            lanes: 1000,
            per_lane,
        };
        self.store.ready(query).await.unwrap()
    }

    pub(crate) async fn arrows(&self, job: &JobView) -> Vec<String> {
        let all = crawlwire_progress::store::Paging {
            limit: 1000,
            after: None,
        };
        let page = self.store.events(job.key, all).await.unwrap();
        page.items.iter().map(|event| event.arrows.join(",")).collect()
    }
}

/// A session, by key and name.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) key: SessionKey,
    pub(crate) epoch: Epoch,
    pub(crate) name: Arc<str>,
}

impl Peer {
    /// Its connection.
    pub(crate) fn reference(&self) -> SessionRef {
        SessionRef {
            key: self.key,
            epoch: self.epoch,
        }
    }

    pub(crate) fn claims(&self, job: JobKey) -> Op {
        Op::Claim {
            job,
            session: self.reference(),
            name: self.name.clone(),
        }
    }

    pub(crate) fn holds(&self, fence: Fence) -> Holder {
        Holder {
            session: self.key,
            name: self.name.clone(),
            fence,
        }
    }
}

impl From<&Opened> for Peer {
    fn from(opened: &Opened) -> Self {
        Self {
            key: opened.session.key,
            epoch: opened.session.epoch,
            name: opened.name.clone(),
        }
    }
}

pub(crate) fn of_instance(instance: &str, principal: &str) -> Op {
    Op::OpenSession(NewSession {
        name: format!("crawler-{instance}").into(),
        identity: None,
        server: "crawlwire".to_owned(),
        capabilities: Capabilities::any(3),
        confirms: true,
        instance: Some(NewInstance {
            id: instance.to_owned(),
            crawler_id: "crawler".to_owned(),
            principal: principal.to_owned(),
        }),
    })
}

pub(crate) fn said(session: SessionRef, seq: i64, ops: Vec<Op>) -> Op {
    Op::Said {
        session,
        seq,
        fingerprint: -seq,
        ops,
        refused: None,
    }
}

pub(crate) fn checkpoint(job: JobKey, holder: &Holder, cursor: &str) -> Op {
    Op::Checkpoint {
        job,
        holder: holder.clone(),
        cursor: cursor.to_owned(),
    }
}

pub(crate) fn give_back(job: JobKey, holder: &Holder) -> Op {
    Op::Return {
        job,
        holder: holder.clone(),
    }
}

pub(crate) fn create_token(name: &str) -> Op {
    Op::CreateToken {
        name: name.to_owned(),
        role: "crawler".to_owned(),
        hash: format!("hash of {name}"),
        by: "me".to_owned(),
    }
}

/// A session that there is not.
pub(crate) fn nobody() -> Peer {
    Peer {
        key: SessionKey(i64::MAX),
        epoch: Epoch(1),
        name: "nobody".into(),
    }
}

pub(crate) fn new_job(number: u64) -> NewJob {
    let spec = JobSpec {
        entity_id: Some(number.to_string()),
        namespace_path: Some("group/project ü \"quoted\" \\ \n".to_owned()),
        entity_name: Some("project".to_owned()),
        provider: Some("gitlab-onprem".to_owned()),
        user_id: Some("u1".to_owned()),
        tags: vec!["a".to_owned(), "b,c".to_owned()],
        metadata: Some(r#"{"k":[1,null,"x"]}"#.to_owned()),
        ..JobSpec::new(JobType::CrawlProject, "https://git.example")
    };
    NewJob::new(format!("job-{number:06}"), "acme", spec)
}

pub(crate) fn acts(job: JobKey, act: Act) -> Op {
    Op::Act {
        job,
        act,
        by: "somebody".to_owned(),
    }
}

pub(crate) fn start(job: JobKey, holder: &Holder) -> Op {
    Op::Start {
        job,
        holder: holder.clone(),
    }
}

pub(crate) fn complete(job: JobKey, holder: &Holder) -> Op {
    Op::Finish {
        job,
        holder: holder.clone(),
        ending: Ending::Completed {
            result: r#"{"found":3}"#.to_owned(),
        },
        progress: None,
    }
}

pub(crate) fn fail(job: JobKey, holder: &Holder, recoverable: bool) -> Op {
    Op::Finish {
        job,
        holder: holder.clone(),
        ending: Ending::Failed {
            error: r#"{"why":"no"}"#.to_owned(),
            recoverable,
        },
        progress: None,
    }
}

pub(crate) fn discover(parent: JobKey, holder: &Holder, prefix: &str, entities: &[&str]) -> Op {
    let items = entities.iter().map(|entity| {
        let item = DiscoveredJob {
            job_type: JobType::CrawlProject,
            entity_id: (*entity).to_owned(),
            namespace_path: format!("group/{entity}"),
            entity_name: (*entity).to_owned(),
            priority: 1.0,
            estimated_size: None,
        };
        Found {
            public_id: format!("{prefix}-{entity}"),
            item,
            weight: 0,
        }
    });
    Op::Discover {
        parent,
        holder: holder.clone(),
        items: items.collect(),
    }
}

pub(crate) fn report(n: i64) -> Arc<Tracker> {
    Arc::new(Tracker {
        n,
        said: track::Said {
            overall_completion: 0.1 + n as f64 / 1000.0,
            time_elapsed: 1234.5,
            estimated_time_remaining: None,
        },
        ..Tracker::begin(0, None, crawlwire_progress::Timestamp(n))
    })
}

pub(crate) fn token(text: &str) -> Option<AccessToken> {
    Some(AccessToken::new(text))
}

pub(crate) fn moved(outcome: Outcome) -> Fact {
    match outcome {
        Outcome::Moved(fact) => fact,
        other => panic!("{other:?}"),
    }
}
