//! The one writer: takes what has arrived, carries it out in one transaction, answers after the commit.
//!
//! It never waits for more to come: while one batch commits, the next gathers. An operation the database refuses costs
//! only itself, because its batch is then halved until it is alone.
//!
//! While the database is away, patient operations wait at the front, in order, and the others are answered at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crawlwire_progress::store::{Ending, NewJob, Op, SWEEP_MAX};
use crawlwire_progress::{Committed, Outcome, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::Trouble;
use crate::open::FileLock;
use crate::pools::Pools;
use crate::transaction::{BACKOFF, Counters, Transactions};

/// Operations waiting for the writer: two full batches, one in work and one to come. When it is full, whoever gives
/// operations waits, and so does the crawler behind it.
pub(crate) const QUEUE: usize = 2 * BATCH_OPERATIONS;

/// Patient operations kept at the front while the database is away: the batch that failed and a queue behind it, so that
/// whatever had been given by then is looked at, and answered if it is not patient.
const HELD: usize = BATCH_OPERATIONS + QUEUE;

/// Operations of one batch: the gain from more is small, the wait for all of them is not.
const BATCH_OPERATIONS: usize = 512;

/// Text of one batch, roughly, so that one statement's parameter stays far below the limits of the databases (SQLite
/// takes a billion bytes in one value, PostgreSQL's JSON a gigabyte) and below what a transaction should take.
const BATCH_BYTES: usize = 4 << 20;

/// How long a store that closes still tries to reach a database that is away.
const LAST_TRIES: Duration = Duration::from_secs(1);

/// Who waits for an operation.
type Answer = oneshot::Sender<Result<Committed<Outcome>, StoreError>>;

/// An operation and who waits for it.
pub(crate) struct Request {
    pub(crate) op: Op,
    pub(crate) answer: Answer,
}

impl Request {
    fn refuse(self, trouble: &Trouble) {
        // Whoever asked may have left.
        let _ = self.answer.send(Err(trouble.clone().into()));
    }
}

/// What is given to the writer, and when it ends.
pub(crate) struct Inbox {
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) closing: CancellationToken,
    /// When to give up, once the store closes while the database is away.
    give_up: Option<Instant>,
}

impl Inbox {
    pub(crate) fn new(requests: mpsc::Receiver<Request>, closing: CancellationToken) -> Self {
        Self {
            requests,
            closing,
            give_up: None,
        }
    }

    /// The next operation; none when all senders are gone, or the store closes and the queue is empty.
    async fn next(&mut self) -> Option<Request> {
        loop {
            tokio::select! {
                biased;
                request = self.requests.recv() => return request,
                () = self.closing.cancelled(), if !self.requests.is_closed() => self.requests.close(),
            }
        }
    }

    /// Resolves when it is time to give up. May be dropped and asked for again.
    async fn given_up(&mut self) {
        if self.give_up.is_none() {
            self.closing.cancelled().await;
        }
        self.end();
        if let Some(last) = self.give_up {
            sleep_until(last).await;
        }
    }

    /// Takes nothing more, and gives up after the last tries.
    fn end(&mut self) {
        self.requests.close();
        self.give_up.get_or_insert_with(|| Instant::now() + LAST_TRIES);
    }
}

/// See the module.
pub(crate) struct Writer {
    pub(crate) transactions: Transactions,
    pub(crate) counters: Arc<Counters>,
    /// Closed before the writer's own connection, so that nobody reads while SQLite tidies up.
    pub(crate) readers: Pools,
    /// No query takes longer.
    pub(crate) query_timeout: Duration,
    pub(crate) lock: Option<FileLock>,
    /// Whether operations wait for the database to come back.
    pub(crate) away: watch::Sender<bool>,
}

impl Writer {
    /// Works until all senders are gone, or the store closes and the queue is empty, or has waited long enough then.
    pub(crate) async fn run(mut self, mut inbox: Inbox) {
        self.work(&mut inbox).await;
        // Whoever still waits is told that the store is closed, since nobody holds the other end of the answer any more.
        drop(inbox);
        self.tell(0, false);
        match timeout(self.query_timeout, self.readers.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the pool did not close well"),
            Err(_) => tracing::warn!("the pool did not close in time"),
        }
        self.transactions.close().await;
        drop(self.lock.take());
    }

    async fn work(&mut self, inbox: &mut Inbox) {
        // What goes before everything in the inbox.
        let mut front = VecDeque::new();
        let mut most = BATCH_OPERATIONS;
        let mut delay = BACKOFF.0;
        loop {
            if front.is_empty() {
                let Some(first) = inbox.next().await else { return };
                front.push_back(first);
            }
            let batch = gather(&mut front, &mut inbox.requests, most);
            let tried = batch.len();
            let may_be_dropped = self.transactions.has_rivals() && *self.away.borrow();
            let done = tokio::select! {
                done = self.carry_out(batch) => done,
                () = inbox.given_up(), if may_be_dropped => return,
            };
            let Err((left, trouble)) = done else {
                (most, delay) = (BATCH_OPERATIONS, BACKOFF.0);
                self.tell(front.len(), false);
                continue;
            };
            // If it was too much at once, less will do.
            most = (tried / 2).max(1);
            let left = left.into_iter().chain(front);
            let (waits, rest): (Vec<_>, Vec<_>) = left.partition(|request| request.op.is_patient());
            front = waits.into();
            if !*self.away.borrow() {
                tracing::warn!(operations = tried, wait = front.len(), error = %trouble, "a batch did not take effect");
            }
            // Told before it is answered, so that the answered find it so.
            self.tell(front.len(), !front.is_empty());
            rest.into_iter().for_each(|request| request.refuse(&trouble));
            if front.is_empty() {
                continue;
            }
            if !self.wait(&mut front, inbox, (delay, &trouble)).await {
                return;
            }
            delay = (delay * 2).min(BACKOFF.1);
        }
    }

    /// Waits for the time of the next try, and hears meanwhile what is given. Says whether to try again.
    async fn wait(
        &self,
        front: &mut VecDeque<Request>,
        inbox: &mut Inbox,
        (delay, trouble): (Duration, &Trouble),
    ) -> bool {
        let next_try = Instant::now() + delay;
        loop {
            if inbox.requests.is_closed() {
                inbox.end();
            }
            let ends = inbox.give_up.is_some();
            let until = inbox.give_up.map_or(next_try, |last| last.min(next_try));
            let hears = front.len() < HELD && !ends;
            tokio::select! {
                biased;
                () = inbox.closing.cancelled(), if !ends => inbox.end(),
                () = sleep_until(until) => return inbox.give_up.is_none_or(|last| Instant::now() < last),
                request = inbox.requests.recv(), if hears => match request {
                    Some(request) if request.op.is_patient() => front.push_back(request),
                    Some(request) => request.refuse(trouble),
                    // Nobody is left to close the store.
                    None => inbox.end(),
                },
            }
            self.tell(front.len(), true);
        }
    }

    fn tell(&self, held: usize, away: bool) {
        self.counters.held.store(held, Ordering::Relaxed);
        self.away
            .send_if_modified(|before| std::mem::replace(before, away) != away);
    }

    /// Carries a batch out and answers it. If the database is away, gives back what is not answered, in order.
    async fn carry_out(&mut self, batch: Vec<Request>) -> Result<(), (Vec<Request>, Trouble)> {
        let whole: (Vec<Op>, Vec<Answer>) = batch.into_iter().map(|request| (request.op, request.answer)).unzip();
        let mut parts = vec![whole];
        while let Some((mut ops, mut answers)) = parts.pop() {
            match self.transactions.commit(&ops).await {
                Ok(outcomes) => {
                    for (answer, outcome) in answers.into_iter().zip(outcomes) {
                        // Whoever asked may have left; the operation is done all the same.
                        let _ = answer.send(Ok(Committed::after_commit(outcome)));
                    }
                }
                Err(Trouble::Refused(_) | Trouble::Duplicate(_)) if ops.len() > 1 => {
                    let half = ops.len() / 2;
                    let second = (ops.split_off(half), answers.split_off(half));
                    parts.push(second);
                    parts.push((ops, answers));
                }
                Err(trouble @ (Trouble::Refused(_) | Trouble::Duplicate(_))) => {
                    tracing::warn!(error = %trouble, "an operation was refused by the database");
                    for answer in answers {
                        let _ = answer.send(Err(trouble.clone().into()));
                    }
                }
                Err(trouble) => {
                    parts.push((ops, answers));
                    let left = parts
                        .into_iter()
                        .rev()
                        .flat_map(|(ops, answers)| ops.into_iter().zip(answers));
                    return Err((left.map(|(op, answer)| Request { op, answer }).collect(), trouble));
                }
            }
        }
        Ok(())
    }
}

/// What is to be carried out together, at most so many: from the front, then whatever has arrived.
///
/// A recovery is alone: it changes rows that nobody loaded, and others would write back what they loaded before. So is what
/// means jobs by a condition: it is to find what the operations before it did, and rows are chosen before any is planned.
fn gather(front: &mut VecDeque<Request>, requests: &mut mpsc::Receiver<Request>, most: usize) -> Vec<Request> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < most && bytes < BATCH_BYTES {
        let Some(request) = front.pop_front().or_else(|| requests.try_recv().ok()) else {
            break;
        };
        let alone = is_alone(&request.op);
        if alone && !batch.is_empty() {
            front.push_front(request);
            break;
        }
        bytes += weight(&request.op);
        batch.push(request);
        if alone {
            break;
        }
    }
    batch
}

fn is_alone(op: &Op) -> bool {
    matches!(
        op,
        Op::Recover { .. } | Op::CancelTree { .. } | Op::Redrive { .. } | Op::Delete { .. } | Op::Prune { .. }
    )
}

/// Text of a row, roughly.
const ROW: usize = 512;

fn submission(job: &NewJob) -> usize {
    2 * ROW + job.spec.metadata.as_ref().map_or(0, String::len)
}

/// Roughly how much text an operation brings into a batch.
fn weight(op: &Op) -> usize {
    match op {
        Op::Submit(job) => submission(job),
        Op::SubmitAll(jobs) => jobs.iter().map(submission).sum(),
        Op::ActAll { jobs, .. } => ROW * jobs.len(),
        Op::Discover { items, .. } => ROW * items.len(),
        Op::Finish { ending, .. } => {
            let (Ending::Completed { result: text } | Ending::Failed { error: text, .. }) = ending;
            ROW + text.len()
        }
        Op::Progress(reports) => reports
            .iter()
            .map(|(.., report)| ROW + 128 * report.entities.len())
            .sum(),
        Op::Sweep => ROW * SWEEP_MAX,
        Op::Said { ops, .. } => ROW + ops.iter().map(weight).sum::<usize>(),
        Op::Checkpoint { cursor, .. } => ROW + cursor.len(),
        Op::RecordErrors(errors) => errors.iter().map(|error| ROW + error.message.len()).sum(),
        _ => ROW,
    }
}
