//! A store in memory with a clock moved by hand, and words for the steps of a life.
#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod sheet;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crawlwire_progress::lifecycle::{Lease, Refusal};
use crawlwire_progress::memory::MemoryStore;
use crawlwire_progress::store::{Ending, Holder, NewJob, NewSession, Op, Outcome, Paging, Rejection};
use crawlwire_progress::view::{EventView, JobSpec, JobView, ProgressView};
use crawlwire_progress::{Fact, Fence, Job, JobKey, Policy, SessionKey, Store, Timestamp};
use crawlwire_protocol::AccessToken;
use crawlwire_protocol::message::{DiscoveredJob, JobType};

pub(crate) const SERVER: &str = "one";
pub(crate) const ALL: Paging = Paging {
    limit: 10_000,
    after: None,
};

/// What a future of the store in memory says: it never waits.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the store in memory waited"),
    }
}

pub(crate) struct World {
    pub(crate) store: MemoryStore,
    pub(crate) policy: Policy,
    clock: Arc<AtomicI64>,
}

impl World {
    pub(crate) fn new(policy: Policy) -> Self {
        let clock = Arc::new(AtomicI64::new(1_000_000));
        let reading = clock.clone();
        Self {
            store: MemoryStore::new(
                policy.clone(),
                Box::new(move || Timestamp(reading.load(Ordering::Relaxed))),
            ),
            policy,
            clock,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::Relaxed))
    }

    pub(crate) fn later(&self, span: Duration) {
        self.clock.store(self.now().after(span).0, Ordering::Relaxed);
    }

    pub(crate) fn submit(&self, new: NewJob) -> Outcome {
        self.store.apply(Op::Submit(Box::new(new)))
    }

    pub(crate) fn submitted(&self, public_id: &str) -> JobKey {
        match self.submit(new_job(public_id)) {
            Outcome::Submitted(view) => view.key,
            other => panic!("not submitted: {other:?}"),
        }
    }

    pub(crate) fn open(&self, name: &str, identity: Option<&str>) -> SessionKey {
        match self.store.apply(open(name, identity)) {
            Outcome::SessionOpened(key) => key,
            other => panic!("not opened: {other:?}"),
        }
    }

    /// Gives a job to a session.
    pub(crate) fn assigned(&self, job: JobKey, session: SessionKey) -> Holder {
        let fence = moved(self.store.apply(claim(job, session))).fence;
        holder(session, fence)
    }

    /// Gives a job to a session that starts it.
    pub(crate) fn running(&self, job: JobKey, session: SessionKey) -> Holder {
        let holder = self.assigned(job, session);
        moved(self.store.apply(start(job, &holder)));
        holder
    }

    pub(crate) fn sweep(&self) -> Vec<Fact> {
        match self.store.apply(Op::Sweep) {
            Outcome::Swept(facts) => facts,
            other => panic!("not swept: {other:?}"),
        }
    }

    pub(crate) fn view(&self, job: JobKey) -> JobView {
        let views = ready(self.store.jobs(Default::default(), ALL)).unwrap().items;
        views.into_iter().find(|view| view.key == job).unwrap()
    }

    pub(crate) fn row(&self, job: JobKey) -> Job {
        self.store.rows().into_iter().find(|row| row.key == job).unwrap()
    }

    pub(crate) fn events(&self, job: JobKey) -> Vec<EventView> {
        ready(self.store.events(job, ALL)).unwrap().items
    }

    pub(crate) fn last_arrow(&self, job: JobKey) -> String {
        self.events(job).last().unwrap().arrows.last().unwrap().clone()
    }

    pub(crate) fn progress(&self, job: JobKey) -> Option<ProgressView> {
        ready(self.store.progress(job)).unwrap()
    }

    pub(crate) fn lease_of(&self, session: SessionKey) -> Timestamp {
        let sessions = ready(self.store.sessions(100)).unwrap();
        let found = sessions.into_iter().find(|view| view.key == session);
        found.expect("a session that is connected or leased").lease_expires_at
    }
}

pub(crate) fn moved(outcome: Outcome) -> Fact {
    match outcome {
        Outcome::Moved(fact) => fact,
        other => panic!("not moved: {other:?}"),
    }
}

pub(crate) fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(Rejection::Job(refusal))
}

pub(crate) fn new_job(public_id: &str) -> NewJob {
    NewJob {
        public_id: public_id.to_owned(),
        web_app_job_id: None,
        account_id: "acme".to_owned(),
        spec: spec("root"),
        access_token: None,
        resume: false,
    }
}

pub(crate) fn with_token(public_id: &str, token: &str) -> NewJob {
    NewJob {
        access_token: Some(AccessToken::new(token)),
        ..new_job(public_id)
    }
}

pub(crate) fn named(public_id: &str, web_app_job_id: &str) -> NewJob {
    NewJob {
        web_app_job_id: Some(web_app_job_id.to_owned()),
        ..new_job(public_id)
    }
}

pub(crate) fn spec(entity: &str) -> JobSpec {
    JobSpec {
        job_type: JobType::CrawlGroup,
        host: "gitlab.example".to_owned(),
        entity_id: Some(entity.to_owned()),
        namespace_path: None,
        entity_name: None,
        priority: 1.0,
        provider: Some("gitlab-onprem".to_owned()),
        user_id: Some("user-1".to_owned()),
        created_by_user_id: None,
        tags: Vec::new(),
        metadata: None,
    }
}

pub(crate) fn item(job_type: JobType, entity: &str) -> DiscoveredJob {
    DiscoveredJob {
        job_type,
        entity_id: entity.to_owned(),
        namespace_path: format!("group/{entity}"),
        entity_name: entity.to_owned(),
        priority: 2.0,
        estimated_size: None,
    }
}

/// Found groups, each with a public id of its own.
pub(crate) fn groups(entities: &[&str]) -> Vec<(String, DiscoveredJob)> {
    static FOUND: AtomicI64 = AtomicI64::new(0);
    let named = |entity: &&str| {
        let id = format!("child-{}", FOUND.fetch_add(1, Ordering::Relaxed));
        (id, item(JobType::CrawlGroup, entity))
    };
    entities.iter().map(named).collect()
}

pub(crate) fn name_of(session: SessionKey) -> Arc<str> {
    format!("session-{session}").into()
}

pub(crate) fn holder(session: SessionKey, fence: Fence) -> Holder {
    Holder {
        session,
        name: name_of(session),
        fence,
    }
}

pub(crate) fn open(name: &str, identity: Option<&str>) -> Op {
    Op::OpenSession(NewSession {
        name: name.into(),
        identity: identity.map(str::to_owned),
        server: SERVER.to_owned(),
    })
}

pub(crate) fn claim(job: JobKey, session: SessionKey) -> Op {
    Op::Claim {
        job,
        session,
        name: name_of(session),
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
            result: r#"{"summary":"done"}"#.to_owned(),
        },
        progress: None,
    }
}

pub(crate) fn fail(job: JobKey, holder: &Holder, recoverable: bool) -> Op {
    Op::Finish {
        job,
        holder: holder.clone(),
        ending: Ending::Failed {
            error: r#"{"error_type":"HttpError"}"#.to_owned(),
            recoverable,
        },
        progress: None,
    }
}

pub(crate) fn release(job: JobKey, holder: &Holder) -> Op {
    Op::Release {
        job,
        holder: holder.clone(),
    }
}

pub(crate) fn adopt(public_id: &str, session: SessionKey) -> Op {
    Op::Adopt {
        public_id: public_id.to_owned(),
        session,
    }
}

pub(crate) fn discover(parent: JobKey, holder: &Holder, items: Vec<(String, DiscoveredJob)>) -> Op {
    Op::Discover {
        parent,
        holder: holder.clone(),
        items,
    }
}

pub(crate) fn report(job: JobKey, lease: Lease, n: i64) -> Op {
    Op::Progress(vec![(job, lease, progress_view(n))])
}

pub(crate) fn progress_view(n: i64) -> ProgressView {
    ProgressView {
        attempt: 0,
        n,
        overall_completion: 0.5,
        time_elapsed: 10.0,
        estimated_time_remaining: None,
        entities: Vec::new(),
        updated_at: Timestamp(0),
    }
}

pub(crate) fn recover(connected: bool) -> Op {
    Op::Recover {
        server: SERVER.to_owned(),
        connected,
    }
}
