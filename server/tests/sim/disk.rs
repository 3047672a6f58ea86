//! What outlives a server: its rows. And how a server gets at them: through a writer that dies with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crawlwire_progress::admit::ClosedGate;
use crawlwire_progress::live::AggregateProgress;
use crawlwire_progress::memory::MemoryStore;
use crawlwire_progress::store::{
    BoxFuture, ErrorFilter, JobFilter, NewJob, Op, Outcome, Paging, ReadyQuery, Said, Ticket,
};
use crawlwire_progress::sums::{Totals, TreeView};
use crawlwire_progress::track::{History, Tracker};
use crawlwire_progress::view::{
    AccountView, AreaView, AuditView, CrawlerToken, CredentialView, ErrorView, EventView, Feed, FeedCursor,
    HeardElsewhere, HeldJob, JobSpec, JobView, Page, ReadyJob, SessionView, StateCounts,
};
use crawlwire_progress::weight::TypeHistory;
use crawlwire_progress::{
    AccountKey, Committed, CredentialKey, JobKey, Policy, SessionKey, State, Store, StoreError, Timestamp, TokenKey,
};
use crawlwire_protocol::AccessToken;
use crawlwire_protocol::message::JobType;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::chance::Chance;

/// When the simulation begins. Before the machine's own time, so that nothing in it is still to come for whoever looks there.
const EPOCH: i64 = 1_700_000_000_000;

/// Operations that wait for the writer, and those it writes together.
const WAITING_MAX: usize = 256;
const BATCH_MAX: usize = 16;

/// The longest a write takes until it is there, and from there until it is told of; and the longest a read takes.
const WRITE_MAX: u64 = 6;
const TELL_MAX: u64 = 4;
const READ_MAX: u64 = 3;

/// The rows, and all that ever happened to them.
pub(crate) struct Disk {
    pub(crate) memory: MemoryStore,
    kept: Mutex<Kept>,
}

struct Kept {
    journal: Vec<String>,
    /// The last number of each session that had its effect.
    numbers: BTreeMap<SessionKey, u64>,
    wrong: Vec<String>,
    chance: Chance,
}

fn elapsed() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

impl Disk {
    pub(crate) fn new(policy: Policy, chance: Chance) -> Arc<Self> {
        let clock = || Timestamp(EPOCH + elapsed().as_millis() as i64);
        Arc::new(Self {
            memory: MemoryStore::new(policy, Box::new(clock)),
            kept: Mutex::new(Kept {
                journal: Vec::new(),
                numbers: BTreeMap::new(),
                wrong: Vec::new(),
                chance,
            }),
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a job; its name begins with its type, so that whoever judges knows what to expect.
    pub(crate) fn submit(&self, number: usize) {
        let job_type = if number.is_multiple_of(3) {
            JobType::DiscoverNamespaces
        } else {
            JobType::CrawlProject
        };
        let spec = JobSpec {
            entity_id: Some(number.to_string()),
            ..JobSpec::new(job_type, "gitlab.example")
        };
        let outcome = self
            .memory
            .apply(Op::Submit(Box::new(NewJob::new(format!("job-{number}"), "acme", spec))));
        assert!(matches!(outcome, Outcome::Submitted(_)), "{outcome:?}");
    }

    /// Notes what happened, for the comparison of two runs: names that are made at random are not part of it.
    pub(crate) fn note(&self, what: &str) {
        let line = format!("{:?} {what}", elapsed());
        self.kept().journal.push(line);
    }

    /// Everything that happened, in order.
    pub(crate) fn journal(&self) -> Vec<String> {
        self.kept().journal.clone()
    }

    /// The last number of each session that had its effect, and what was wrong with the order of numbers.
    pub(crate) fn numbers(&self) -> (BTreeMap<SessionKey, u64>, Vec<String>) {
        let kept = self.kept();
        (kept.numbers.clone(), kept.wrong.clone())
    }

    /// How many jobs have not ended.
    pub(crate) fn open(&self) -> usize {
        let ended = |state| matches!(state, State::Completed | State::Failed | State::Cancelled);
        self.memory.rows().iter().filter(|job| !ended(job.state)).count()
    }

    fn millis(&self, most: u64) -> Duration {
        self.kept().chance.millis(0..most)
    }

    fn write(&self, ops: Vec<Op>) -> Vec<Outcome> {
        let told: Vec<_> = ops.iter().map(told).collect();
        let said: Vec<_> = ops.iter().map(number_of).collect();
        let outcomes = self.memory.apply_all(ops);
        for ((op, said), outcome) in told.into_iter().zip(said).zip(&outcomes) {
            self.note(&format!("{op} -> {}", words(&format!("{outcome:?}"))));
            if let (Some((session, seq)), Outcome::Said(Said::Applied(_))) = (said, outcome) {
                let mut kept = self.kept();
                let before = kept.numbers.insert(session, seq).unwrap_or(0);
                if seq != before + 1 {
                    kept.wrong.push(format!(
                        "number {seq} of session {session} had an effect after {before}"
                    ));
                }
            }
        }
        outcomes
    }
}

fn number_of(op: &Op) -> Option<(SessionKey, u64)> {
    match op {
        Op::Said { session, seq, .. } => Some((session.key, *seq as u64)),
        _ => None,
    }
}

/// What an operation is, without anything that is made at random.
fn told(op: &Op) -> String {
    match op {
        Op::Said { session, seq, ops, .. } => {
            let inner: Vec<_> = ops.iter().map(|op| words(&format!("{op:?}"))).collect();
            format!("said {}.{} {seq} {inner:?}", session.key, session.epoch)
        }
        Op::Claim { job, session, .. } => format!("claim {job} for {}.{}", session.key, session.epoch),
        Op::Disconnect(session) => format!("disconnect {}.{}", session.key, session.epoch),
        op => words(&format!("{op:?}")),
    }
}

/// The name of a value, and of what is in it, from its `Debug`.
fn words(debug: &str) -> String {
    let name = |text: &str| text.chars().take_while(|it| it.is_alphanumeric()).collect::<String>();
    let outer = name(debug);
    match debug[outer.len()..].strip_prefix('(') {
        Some(inner) => format!("{outer} {}", name(inner)).trim_end().to_owned(),
        None => outer,
    }
}

type Given = (Op, oneshot::Sender<Outcome>);

/// A server's way to its rows. What was given and is not written when the server dies is gone; what was written and not
/// told of is there.
pub(crate) struct Way {
    disk: Arc<Disk>,
    queue: mpsc::Sender<Given>,
}

impl Way {
    pub(crate) fn open(disk: Arc<Disk>) -> Arc<Self> {
        let (queue, given) = mpsc::channel(WAITING_MAX);
        tokio::spawn(write(disk.clone(), given));
        Arc::new(Self { disk, queue })
    }

    async fn read<T>(&self, read: impl Future<Output = T>) -> T {
        sleep(self.disk.millis(READ_MAX)).await;
        read.await
    }
}

async fn write(disk: Arc<Disk>, mut given: mpsc::Receiver<Given>) {
    let mut batch = Vec::new();
    while given.recv_many(&mut batch, BATCH_MAX).await > 0 {
        sleep(disk.millis(WRITE_MAX)).await;
        let (ops, answers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let outcomes = disk.write(ops);
        sleep(disk.millis(TELL_MAX)).await;
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            let _ = answer.send(outcome);
        }
    }
}

type Read<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

macro_rules! reads {
    ($($name:ident($($given:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $name(&self $(, $given: $type)*) -> Read<'_, $result> {
            Box::pin(self.read(self.disk.memory.$name($($given),*)))
        })*
    };
}

impl Store for Way {
    #[expect(clippy::async_yields_async, reason = "the ticket is the caller's to await")]
    fn enqueue(&self, op: Op) -> BoxFuture<'_, Ticket> {
        Box::pin(async move {
            let (answer, outcome) = oneshot::channel();
            // A writer that is gone drops the answer.
            let _ = self.queue.send((op, answer)).await;
            let told = async {
                outcome
                    .await
                    .map(Committed::after_commit)
                    .map_err(|_| StoreError::Closed)
            };
            Box::pin(told) as Ticket
        })
    }

    fn job<'a>(&'a self, id: &'a str) -> Read<'a, Option<JobView>> {
        Box::pin(self.read(self.disk.memory.job(id)))
    }

    fn areas<'a>(&'a self, account_id: &'a str, paging: Paging) -> Read<'a, Page<AreaView>> {
        Box::pin(self.read(self.disk.memory.areas(account_id, paging)))
    }

    fn progress_elsewhere<'a>(
        &'a self,
        server: &'a str,
        after: (Timestamp, JobKey),
        limit: usize,
    ) -> Read<'a, Vec<HeardElsewhere>> {
        Box::pin(self.read(self.disk.memory.progress_elsewhere(server, after, limit)))
    }

    fn account<'a>(&'a self, account_id: &'a str) -> Read<'a, Option<AccountView>> {
        Box::pin(self.read(self.disk.memory.account(account_id)))
    }

    reads! {
        feed_end() -> FeedCursor;
        feed(after: FeedCursor, limit: usize) -> Feed;
        ping() -> ();
        now() -> Timestamp;
        jobs(filter: JobFilter, paging: Paging) -> Page<JobView>;
        views(jobs: Vec<JobKey>) -> BTreeMap<JobKey, JobView>;
        tree(top: JobKey, paging: Paging) -> Page<JobView>;
        counts() -> StateCounts;
        oldest_queued() -> Option<Timestamp>;
        events(job: JobKey, paging: Paging) -> Page<EventView>;
        progress(job: JobKey) -> Option<Tracker>;
        trackers(jobs: Vec<JobKey>) -> BTreeMap<JobKey, Tracker>;
        histories(job: JobKey) -> Vec<(i32, History)>;
        tree_progress(root: JobKey) -> Option<TreeView>;
        totals() -> Totals;
        type_history() -> BTreeMap<JobType, TypeHistory>;
        running() -> Option<AggregateProgress>;
        ready(query: ReadyQuery) -> Vec<ReadyJob>;
        gates() -> Vec<ClosedGate>;
        held_by_account(accounts: Vec<AccountKey>) -> BTreeMap<AccountKey, u64>;
        held(sessions: Vec<SessionKey>) -> Vec<HeldJob>;
        token(credential: CredentialKey) -> Option<(AccessToken, i64)>;
        checkpoint(job: JobKey) -> Option<String>;
        crawler_tokens() -> Vec<CrawlerToken>;
        crawler_token(token: TokenKey) -> Option<CrawlerToken>;
        accounts(paging: Paging) -> Page<AccountView>;
        credentials(account: AccountKey, paging: Paging) -> Page<CredentialView>;
        sessions(limit: usize) -> Vec<SessionView>;
        audit(paging: Paging) -> Page<AuditView>;
        errors(filter: ErrorFilter, paging: Paging) -> Page<ErrorView>;
    }
}
