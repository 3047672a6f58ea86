//! A store in memory with a clock moved by hand, and words for the steps of a life.
#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod ledger;
pub(crate) mod life;
pub(crate) mod play;
pub(crate) mod step;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crawlwire_progress::admit::{Capabilities, Gate};
use crawlwire_progress::job::Tree;
use crawlwire_progress::lifecycle::{Lease, Refusal};
use crawlwire_progress::memory::MemoryStore;
use crawlwire_progress::store::{Act, Ending, Found, Holder, NewJob, NewSession, Op, Outcome, Paging, Rejection};
use crawlwire_progress::track::{Said, Tracker};
use crawlwire_progress::view::{AreaView, AuditView, EventView, JobSpec, JobView};
use crawlwire_progress::{Epoch, Fact, Fence, Job, JobKey, Policy, SessionKey, SessionRef, State, Store, Timestamp};
use crawlwire_protocol::AccessToken;
use crawlwire_protocol::message::{DiscoveredJob, JobType};

pub(crate) const SERVER: &str = "one";
/// Who acts.
pub(crate) const BY: &str = "operator";
pub(crate) const HOST: &str = "gitlab.example";
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
            Outcome::SessionOpened(opened) => opened.session.key,
            other => panic!("not opened: {other:?}"),
        }
    }

    /// Opens a session that can be asked to end or pause a job.
    pub(crate) fn open_asked(&self, name: &str) -> SessionKey {
        let new = NewSession {
            confirms: true,
            ..new_session(name, None)
        };
        match self.store.apply(Op::OpenSession(new)) {
            Outcome::SessionOpened(opened) => opened.session.key,
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

    /// A job that a session runs, found by this parent.
    pub(crate) fn child(&self, parent: JobKey, holder: &Holder, entity: &str) -> (JobKey, Holder) {
        let child = self.found(parent, holder, &[entity])[0];
        (child, self.running(child, holder.session))
    }

    /// Children of this parent, all accepted.
    pub(crate) fn found(&self, parent: JobKey, holder: &Holder, entities: &[&str]) -> Vec<JobKey> {
        match self.store.apply(discover(parent, holder, groups(entities))) {
            Outcome::Discovered(verdicts) => verdicts.into_iter().map(|(_, fact)| fact.unwrap().job).collect(),
            other => panic!("not discovered: {other:?}"),
        }
    }

    /// A job in this state that nobody did anything else to, and who held it last.
    pub(crate) fn in_state(&self, state: State, session: SessionKey) -> (JobKey, Option<Holder>) {
        let job = self.submitted(&format!("in-{}-{}", state, self.store.rows().len()));
        let holder = match state {
            State::Queued => None,
            State::Assigned => Some(self.assigned(job, session)),
            State::Delayed => {
                let holder = self.running(job, session);
                assert_eq!(moved(self.store.apply(fail(job, &holder, true))).state, state);
                Some(holder)
            }
            State::Running => Some(self.running(job, session)),
            State::Paused | State::Cancelled => {
                let act = if state == State::Paused {
                    Act::Pause
                } else {
                    Act::Cancel
                };
                acted(self.act(job, act));
                None
            }
            State::Completed | State::Failed => {
                let holder = self.running(job, session);
                let end = if state == State::Completed {
                    complete(job, &holder)
                } else {
                    fail(job, &holder, false)
                };
                moved(self.store.apply(end));
                Some(holder)
            }
        };
        assert_eq!(self.row(job).state, state);
        (job, holder)
    }

    pub(crate) fn act(&self, job: JobKey, act: Act) -> Outcome {
        self.store.apply(act_by(job, act))
    }

    pub(crate) fn close(&self, gate: Gate, until: Option<Timestamp>) -> Outcome {
        self.store.apply(close_gate(gate, until))
    }

    pub(crate) fn reopen(&self, gate: Gate) -> Outcome {
        let by = BY.to_owned();
        self.store.apply(Op::OpenGate { gate, by })
    }

    pub(crate) fn audit(&self) -> Vec<AuditView> {
        ready(self.store.audit(ALL)).unwrap().items
    }

    pub(crate) fn areas(&self, account_id: &str) -> Vec<AreaView> {
        ready(self.store.areas(account_id, ALL)).unwrap().items
    }

    /// Newest first.
    pub(crate) fn views(&self) -> Vec<JobView> {
        ready(self.store.jobs(Default::default(), ALL)).unwrap().items
    }

    pub(crate) fn view(&self, job: JobKey) -> JobView {
        self.views().into_iter().find(|view| view.key == job).unwrap()
    }

    pub(crate) fn tree(&self, job: JobKey) -> Tree {
        self.view(job).tree
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

    pub(crate) fn progress(&self, job: JobKey) -> Option<Tracker> {
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

/// The arrows that an act took.
pub(crate) fn acted(outcome: Outcome) -> Vec<Fact> {
    match outcome {
        Outcome::Acted { facts, .. } => facts,
        other => panic!("not acted: {other:?}"),
    }
}

pub(crate) fn act_by(job: JobKey, act: Act) -> Op {
    let by = BY.to_owned();
    Op::Act { job, act, by }
}

pub(crate) fn close_gate(gate: Gate, until: Option<Timestamp>) -> Op {
    Op::CloseGate {
        gate,
        until,
        reason: Some("for a test".to_owned()),
        by: BY.to_owned(),
    }
}

pub(crate) fn confirm(job: JobKey, holder: &Holder) -> Op {
    Op::Confirm {
        job,
        holder: holder.clone(),
    }
}

pub(crate) fn give_back(job: JobKey, holder: &Holder) -> Op {
    Op::Return {
        job,
        holder: holder.clone(),
    }
}

pub(crate) fn checkpoint(job: JobKey, holder: &Holder, cursor: &str) -> Op {
    Op::Checkpoint {
        job,
        holder: holder.clone(),
        cursor: cursor.to_owned(),
    }
}

pub(crate) fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(Rejection::Job(refusal))
}

pub(crate) fn new_job(public_id: &str) -> NewJob {
    NewJob {
        weight: weight(public_id),
        ..NewJob::new(public_id, "acme", spec("root"))
    }
}

/// What a job of this name weighs; some weigh nothing.
pub(crate) fn weight(public_id: &str) -> u64 {
    public_id.bytes().map(u64::from).sum::<u64>() % 4 * 10
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
        entity_id: Some(entity.to_owned()),
        provider: Some("gitlab-onprem".to_owned()),
        user_id: Some("user-1".to_owned()),
        ..JobSpec::new(JobType::CrawlGroup, HOST)
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

pub(crate) fn new_session(name: &str, identity: Option<&str>) -> NewSession {
    NewSession {
        name: name.into(),
        identity: identity.map(str::to_owned),
        server: SERVER.to_owned(),
        capabilities: Capabilities::any(1),
        confirms: false,
        instance: None,
    }
}

/// The first connection of a session, which is the only one unless it is an instance.
pub(crate) fn first(key: SessionKey) -> SessionRef {
    SessionRef { key, epoch: Epoch(1) }
}

pub(crate) fn renew(sessions: &[SessionKey]) -> Op {
    Op::Renew(sessions.iter().copied().map(first).collect())
}

pub(crate) fn disconnect(session: SessionKey) -> Op {
    Op::Disconnect(first(session))
}

pub(crate) fn open(name: &str, identity: Option<&str>) -> Op {
    Op::OpenSession(new_session(name, identity))
}

pub(crate) fn claim(job: JobKey, session: SessionKey) -> Op {
    Op::Claim {
        job,
        session: first(session),
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
    let found = items.into_iter().map(|(public_id, item)| Found {
        weight: weight(&public_id),
        public_id,
        item,
    });
    Op::Discover {
        parent,
        holder: holder.clone(),
        items: found.collect(),
    }
}

pub(crate) fn report(job: JobKey, lease: Lease, n: i64) -> Op {
    Op::Progress(vec![(job, lease, Arc::new(tracker(n)))])
}

pub(crate) fn tracker(n: i64) -> Tracker {
    Tracker {
        n,
        said: Said {
            overall_completion: 0.5,
            time_elapsed: 10.0,
            estimated_time_remaining: None,
        },
        ..Tracker::begin(0, None, Timestamp(0))
    }
}

pub(crate) fn recover(connected: bool) -> Op {
    Op::Recover {
        server: SERVER.to_owned(),
        connected,
    }
}
