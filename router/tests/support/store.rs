//! The store in memory with a clock moved by hand, a list of what it was given, and a cord to pull.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crawlwire_progress::admit::ClosedGate;
use crawlwire_progress::live::AggregateProgress;
use crawlwire_progress::memory::MemoryStore;
use crawlwire_progress::store::{BoxFuture, ErrorFilter, JobFilter, Op, Outcome, Paging, ReadyQuery, Ticket, Watch};
use crawlwire_progress::sums::{Totals, TreeView};
use crawlwire_progress::track::{History, Tracker};
use crawlwire_progress::view::{
    AccountView, AreaView, AuditView, CrawlerToken, CredentialView, ErrorView, EventView, Feed, FeedCursor,
    HeardElsewhere, HeldJob, JobView, Page, ReadyJob, SessionView, StateCounts,
};
use crawlwire_progress::weight::TypeHistory;
use crawlwire_progress::{
    AccountKey, Committed, CredentialKey, JobKey, Policy, SessionKey, Store, StoreError, Timestamp, TokenKey,
};
use crawlwire_protocol::AccessToken;
use crawlwire_protocol::message::JobType;
use tokio::sync::{Notify, oneshot, watch};

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
    /// Rows of progress that it was given, but for those of an end.
    pub(crate) progress_rows: AtomicUsize,
    /// Operations that were given while the store was away.
    turned_away: watch::Sender<u64>,
    /// How many took effect.
    written: watch::Sender<usize>,
    /// Operations of this name take effect and are not told of; all of them when it is empty.
    untold: watch::Sender<Option<&'static str>>,
    /// Told when another server did something.
    others: Notify,
    /// Reads of held jobs and of reports go on when this is open.
    reading: watch::Sender<bool>,
    /// How many reads of held jobs and of reports came so far.
    reads: watch::Sender<usize>,
    /// What becomes of the next operations of a name in place of what should.
    failures: Mutex<VecDeque<(&'static str, Failure)>>,
    /// How many pages of queued jobs were read so far.
    pub(crate) pages: AtomicUsize,
    /// How often it was asked for the history of types.
    pub(crate) looks_back: watch::Sender<u64>,
    /// How often it was asked what is watched elsewhere.
    watches_asked: AtomicUsize,
}

impl Probe {
    pub(crate) fn new(policy: Policy) -> Self {
        // The router compares some of the store's moments with the machine's clock.
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let clock = Arc::new(AtomicI64::new(since_1970.as_millis() as i64));
        let reading = clock.clone();
        Self {
            inner: MemoryStore::new(policy, Box::new(move || Timestamp(reading.load(Ordering::Relaxed)))),
            clock,
            away: AtomicBool::new(false),
            waiting: Mutex::default(),
            sealed: AtomicBool::new(false),
            journal: Mutex::default(),
            progress_rows: AtomicUsize::new(0),
            turned_away: watch::Sender::new(0),
            written: watch::Sender::new(0),
            untold: watch::Sender::new(None),
            others: Notify::new(),
            reading: watch::Sender::new(true),
            reads: watch::Sender::new(0),
            failures: Mutex::default(),
            pages: AtomicUsize::new(0),
            looks_back: watch::Sender::new(0),
            watches_asked: AtomicUsize::new(0),
        }
    }

    /// The next operation of this name fails; for each call one more.
    pub(crate) fn fail(&self, name: &'static str, failure: Failure) {
        self.failures.lock().unwrap().push_back((name, failure));
    }

    /// What becomes of an operation that is to fail.
    fn failure(&self, op: &Op) -> Option<Failure> {
        let mut failures = self.failures.lock().unwrap();
        let at = failures.iter().position(|(name, _)| *name == name_of(op))?;
        failures.remove(at).map(|(_, failure)| failure)
    }

    /// What another server does that shares the store: it is told of it, and nothing more.
    pub(crate) fn elsewhere(&self, op: Op) -> Outcome {
        let outcome = self.inner.apply(op);
        self.others.notify_one();
        outcome
    }

    /// Keeps reads of held jobs and of reports back after they read, until this is dropped.
    pub(crate) fn keep_back_reads(&self) -> KeptBack<'_> {
        self.reading.send_replace(false);
        KeptBack(self)
    }

    /// How many reads of held jobs and of reports came so far.
    pub(crate) fn reads_so_far(&self) -> usize {
        *self.reads.borrow()
    }

    async fn kept_back<T>(&self, read: T) -> T {
        self.reads.send_modify(|count| *count += 1);
        let mut reading = self.reading.subscribe();
        let _ = reading.wait_for(|open| *open).await;
        read
    }

    /// Waits until so many more reads of held jobs and of reports came.
    pub(crate) async fn reads(&self, count: usize) {
        let mut seen = self.reads.subscribe();
        let goal = *seen.borrow_and_update() + count;
        super::soon("a read", seen.wait_for(|count| *count >= goal))
            .await
            .unwrap();
    }

    /// How often it was asked so far what is watched elsewhere.
    pub(crate) fn watches_asked(&self) -> usize {
        self.watches_asked.load(Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::Relaxed))
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
        if let Op::Progress(rows) = &op {
            self.progress_rows.fetch_add(rows.len(), Ordering::Relaxed);
        }
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

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It has no effect, and may have one later.
    Unavailable,
    /// It has its effect, and nobody hears of it.
    InDoubt,
    /// It has none and never will.
    Broken,
}

pub(crate) struct KeptBack<'a>(&'a Probe);

impl Drop for KeptBack<'_> {
    fn drop(&mut self) {
        self.0.reading.send_replace(true);
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
            if let Some(failure) = self.failure(&op) {
                if failure == Failure::InDoubt {
                    self.carry_out(op);
                }
                let error = match failure {
                    Failure::Broken => StoreError::Broken("no".to_owned()),
                    _ => StoreError::Unavailable("lost".to_owned()),
                };
                return Box::pin(async { Err(error) }) as Ticket;
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

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    fn watched_elsewhere<'a>(&'a self, server: &'a str) -> BoxFuture<'a, Result<Vec<Watch>, StoreError>> {
        Box::pin(async move {
            self.watches_asked.fetch_add(1, Ordering::Relaxed);
            self.check()?;
            self.inner.watched_elsewhere(server).await
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { self.check() })
    }

    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StoreError>> {
        self.inner.now()
    }

    fn job<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<JobView>, StoreError>> {
        self.inner.job(id)
    }

    fn jobs(&self, filter: JobFilter, paging: Paging) -> BoxFuture<'_, Result<Page<JobView>, StoreError>> {
        self.inner.jobs(filter, paging)
    }

    fn views(&self, jobs: Vec<JobKey>) -> BoxFuture<'_, Result<BTreeMap<JobKey, JobView>, StoreError>> {
        self.inner.views(jobs)
    }

    fn oldest_queued(&self) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        self.inner.oldest_queued()
    }

    fn tree(&self, top: JobKey, paging: Paging) -> BoxFuture<'_, Result<Page<JobView>, StoreError>> {
        self.inner.tree(top, paging)
    }

    fn counts(&self) -> BoxFuture<'_, Result<StateCounts, StoreError>> {
        self.inner.counts()
    }

    fn events(&self, job: JobKey, paging: Paging) -> BoxFuture<'_, Result<Page<EventView>, StoreError>> {
        self.inner.events(job, paging)
    }

    fn feed_end(&self) -> BoxFuture<'_, Result<FeedCursor, StoreError>> {
        self.inner.feed_end()
    }

    fn feed(&self, after: FeedCursor, limit: usize) -> BoxFuture<'_, Result<Feed, StoreError>> {
        self.inner.feed(after, limit)
    }

    fn progress_elsewhere<'a>(
        &'a self,
        server: &'a str,
        after: (Timestamp, JobKey),
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<HeardElsewhere>, StoreError>> {
        self.inner.progress_elsewhere(server, after, limit)
    }

    fn progress(&self, job: JobKey) -> BoxFuture<'_, Result<Option<Tracker>, StoreError>> {
        Box::pin(async move {
            let report = self.inner.progress(job).await;
            self.kept_back(report).await
        })
    }

    fn trackers(&self, jobs: Vec<JobKey>) -> BoxFuture<'_, Result<BTreeMap<JobKey, Tracker>, StoreError>> {
        self.inner.trackers(jobs)
    }

    fn histories(&self, job: JobKey) -> BoxFuture<'_, Result<Vec<(i32, History)>, StoreError>> {
        self.inner.histories(job)
    }

    fn tree_progress(&self, root: JobKey) -> BoxFuture<'_, Result<Option<TreeView>, StoreError>> {
        self.inner.tree_progress(root)
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>> {
        self.inner.totals()
    }

    fn type_history(&self) -> BoxFuture<'_, Result<BTreeMap<JobType, TypeHistory>, StoreError>> {
        Box::pin(async move {
            let history = match self.check() {
                Ok(()) => self.inner.type_history().await,
                Err(error) => Err(error),
            };
            self.looks_back.send_modify(|looks| *looks += 1);
            history
        })
    }

    fn running(&self) -> BoxFuture<'_, Result<Option<AggregateProgress>, StoreError>> {
        self.inner.running()
    }

    fn woken(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.others.notified())
    }

    fn ready(&self, query: ReadyQuery) -> BoxFuture<'_, Result<Vec<ReadyJob>, StoreError>> {
        Box::pin(async move {
            self.check()?;
            self.pages.fetch_add(1, Ordering::Relaxed);
            self.inner.ready(query).await
        })
    }

    fn gates(&self) -> BoxFuture<'_, Result<Vec<ClosedGate>, StoreError>> {
        self.inner.gates()
    }

    fn held_by_account(
        &self,
        accounts: Vec<AccountKey>,
    ) -> BoxFuture<'_, Result<BTreeMap<AccountKey, u64>, StoreError>> {
        self.inner.held_by_account(accounts)
    }

    fn held(&self, sessions: Vec<SessionKey>) -> BoxFuture<'_, Result<Vec<HeldJob>, StoreError>> {
        Box::pin(async move {
            let held = self.inner.held(sessions).await;
            self.kept_back(held).await
        })
    }

    fn checkpoint(&self, job: JobKey) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        self.inner.checkpoint(job)
    }

    fn crawler_tokens(&self) -> BoxFuture<'_, Result<Vec<CrawlerToken>, StoreError>> {
        self.inner.crawler_tokens()
    }

    fn crawler_token(&self, token: TokenKey) -> BoxFuture<'_, Result<Option<CrawlerToken>, StoreError>> {
        self.inner.crawler_token(token)
    }

    fn audit(&self, paging: Paging) -> BoxFuture<'_, Result<Page<AuditView>, StoreError>> {
        self.inner.audit(paging)
    }

    fn areas<'a>(&'a self, account_id: &'a str, paging: Paging) -> BoxFuture<'a, Result<Page<AreaView>, StoreError>> {
        self.inner.areas(account_id, paging)
    }

    fn token(&self, credential: CredentialKey) -> BoxFuture<'_, Result<Option<(AccessToken, i64)>, StoreError>> {
        Box::pin(async move {
            self.check()?;
            if self.sealed.load(Ordering::Relaxed) {
                return Err(StoreError::Broken("sealed".to_owned()));
            }
            self.inner.token(credential).await
        })
    }

    fn accounts(&self, paging: Paging) -> BoxFuture<'_, Result<Page<AccountView>, StoreError>> {
        self.inner.accounts(paging)
    }

    fn account<'a>(&'a self, account_id: &'a str) -> BoxFuture<'a, Result<Option<AccountView>, StoreError>> {
        self.inner.account(account_id)
    }

    fn credentials(
        &self,
        account: AccountKey,
        paging: Paging,
    ) -> BoxFuture<'_, Result<Page<CredentialView>, StoreError>> {
        self.inner.credentials(account, paging)
    }

    fn sessions(&self, limit: usize) -> BoxFuture<'_, Result<Vec<SessionView>, StoreError>> {
        self.inner.sessions(limit)
    }

    fn errors(&self, filter: ErrorFilter, paging: Paging) -> BoxFuture<'_, Result<Page<ErrorView>, StoreError>> {
        self.inner.errors(filter, paging)
    }
}
