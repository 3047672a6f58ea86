//! The store in memory with a clock moved by hand, a list of what it was given, and a cord to pull.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crawlwire_progress::memory::MemoryStore;
use crawlwire_progress::store::{BoxFuture, JobFilter, Op, Outcome, Paging, Ticket};
use crawlwire_progress::view::{ErrorView, EventView, JobView, Page, ProgressView, ReadyJob, SessionView, StateCounts};
use crawlwire_progress::{Committed, CredentialKey, JobKey, Policy, Store, StoreError, Timestamp};
use crawlwire_protocol::AccessToken;
use tokio::sync::{oneshot, watch};

pub(crate) struct Probe {
    inner: MemoryStore,
    clock: Arc<AtomicI64>,
    away: AtomicBool,
    /// Patient operations that were given meanwhile, in order.
    waiting: Mutex<VecDeque<(Op, oneshot::Sender<Outcome>)>>,
    /// Whether tokens cannot be read.
    pub(crate) sealed: AtomicBool,
    /// Names of the operations that took effect, in order.
    journal: Mutex<Vec<String>>,
    /// Operations that were given while the store was away.
    turned_away: watch::Sender<u64>,
    /// How many took effect.
    written: watch::Sender<usize>,
    /// Operations of this name take effect and are not told of; all of them when it is empty.
    untold: watch::Sender<Option<&'static str>>,
}

impl Probe {
    pub(crate) fn new(policy: Policy) -> Self {
        let clock = Arc::new(AtomicI64::new(1_000_000));
        let reading = clock.clone();
        Self {
            inner: MemoryStore::new(policy, Box::new(move || Timestamp(reading.load(Ordering::Relaxed)))),
            clock,
            away: AtomicBool::new(false),
            waiting: Mutex::default(),
            sealed: AtomicBool::new(false),
            journal: Mutex::default(),
            turned_away: watch::Sender::new(0),
            written: watch::Sender::new(0),
            untold: watch::Sender::new(None),
        }
    }

    pub(crate) fn later(&self, span: Duration) {
        self.clock.fetch_add(span.as_millis() as i64, Ordering::Relaxed);
    }

    /// From here on nothing has an effect.
    pub(crate) fn leave(&self) {
        self.away.store(true, Ordering::Relaxed);
    }

    pub(crate) fn come_back(&self) {
        self.journal.lock().unwrap().push("back".to_owned());
        let mut waiting = self.waiting.lock().unwrap();
        self.away.store(false, Ordering::Relaxed);
        for (op, answer) in waiting.drain(..) {
            let _ = answer.send(self.carry_out(op));
        }
    }

    fn carry_out(&self, op: Op) -> Outcome {
        self.journal.lock().unwrap().push(name_of(&op));
        let outcome = self.inner.apply(op);
        self.written.send_modify(|count| *count += 1);
        outcome
    }

    /// Waits until so many more operations were turned away.
    pub(crate) async fn turns_away(&self, count: u64) {
        let mut seen = self.turned_away.subscribe();
        let goal = *seen.borrow_and_update() + count;
        super::soon("operations to be turned away", seen.wait_for(|count| *count >= goal))
            .await
            .unwrap();
    }

    /// From here on operations of this name take effect and are not told of; all of them when it is empty.
    pub(crate) fn hold(&self, name: &'static str) {
        self.untold.send_replace(Some(name));
    }

    /// Tells of everything.
    pub(crate) fn tell(&self) {
        self.untold.send_replace(None);
    }

    /// What took effect so far, by the names of the operations.
    pub(crate) fn journal(&self) -> Vec<String> {
        self.journal.lock().unwrap().clone()
    }

    /// How many operations of this name took effect so far.
    pub(crate) fn count(&self, name: &str) -> usize {
        let journal = self.journal.lock().unwrap();
        journal.iter().filter(|entry| *entry == name).count()
    }

    /// Waits until so many operations of this name took effect.
    pub(crate) async fn reaches(&self, name: &str, count: usize) {
        let mut seen = self.written.subscribe();
        super::soon(name, seen.wait_for(|_| self.count(name) >= count))
            .await
            .unwrap();
    }

    /// Waits until one more operation of this name took effect.
    pub(crate) async fn wrote(&self, name: &str) {
        self.reaches(name, self.count(name) + 1).await;
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.away.load(Ordering::Relaxed) {
            Err(StoreError::Unavailable("pulled".to_owned()))
        } else {
            Ok(())
        }
    }
}

fn name_of(op: &Op) -> String {
    let text = format!("{op:?}");
    let end = text
        .find(|character: char| !character.is_alphanumeric())
        .unwrap_or(text.len());
    text[..end].to_owned()
}

impl Store for Probe {
    #[expect(clippy::async_yields_async, reason = "the ticket is the caller's to await")]
    fn enqueue(&self, op: Op) -> BoxFuture<'_, Ticket> {
        Box::pin(async move {
            let mut waiting = self.waiting.lock().unwrap();
            if let Err(error) = self.check() {
                self.turned_away.send_modify(|count| *count += 1);
                if !op.is_patient() {
                    return Box::pin(async { Err(error) }) as Ticket;
                }
                let (answer, outcome) = oneshot::channel();
                waiting.push_back((op, answer));
                return Box::pin(async move {
                    outcome
                        .await
                        .map(Committed::after_commit)
                        .map_err(|_| StoreError::Closed)
                });
            }
            let name = name_of(&op);
            let outcome = self.carry_out(op);
            let mut untold = self.untold.subscribe();
            Box::pin(async move {
                let told = |held: &Option<&str>| held.is_none_or(|held| !held.is_empty() && held != name);
                let _ = untold.wait_for(told).await;
                Ok(Committed::after_commit(outcome))
            }) as Ticket
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { self.check() })
    }

    fn job<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<JobView>, StoreError>> {
        self.inner.job(id)
    }

    fn jobs(&self, filter: JobFilter, paging: Paging) -> BoxFuture<'_, Result<Page<JobView>, StoreError>> {
        self.inner.jobs(filter, paging)
    }

    fn counts(&self) -> BoxFuture<'_, Result<StateCounts, StoreError>> {
        self.inner.counts()
    }

    fn events(&self, job: JobKey, paging: Paging) -> BoxFuture<'_, Result<Page<EventView>, StoreError>> {
        self.inner.events(job, paging)
    }

    fn progress(&self, job: JobKey) -> BoxFuture<'_, Result<Option<ProgressView>, StoreError>> {
        self.inner.progress(job)
    }

    fn ready(&self, limit: usize) -> BoxFuture<'_, Result<Vec<ReadyJob>, StoreError>> {
        Box::pin(async move {
            self.check()?;
            self.inner.ready(limit).await
        })
    }

    fn token(&self, credential: CredentialKey) -> BoxFuture<'_, Result<Option<(AccessToken, i64)>, StoreError>> {
        Box::pin(async move {
            self.check()?;
            if self.sealed.load(Ordering::Relaxed) {
                return Err(StoreError::Unavailable("sealed".to_owned()));
            }
            self.inner.token(credential).await
        })
    }

    fn sessions(&self, limit: usize) -> BoxFuture<'_, Result<Vec<SessionView>, StoreError>> {
        self.inner.sessions(limit)
    }

    fn errors(&self, paging: Paging) -> BoxFuture<'_, Result<Page<ErrorView>, StoreError>> {
        self.inner.errors(paging)
    }
}
