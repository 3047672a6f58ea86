//! What handlers, dispatcher and timers share.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crawlwire_progress::admit::{Capabilities, ClosedGate};
use crawlwire_progress::live::Live;
use crawlwire_progress::store::{Outcome, StoreError};
use crawlwire_progress::sums::TreeMilestone;
use crawlwire_progress::track::Tracker;
use crawlwire_progress::view::ErrorRow;
use crawlwire_progress::{Fact, Fence, JobKey, Op, State, Store, Timestamp};
use crawlwire_protocol::{Category, Severity};
use tokio::sync::{Notify, SetOnce, broadcast};

use crate::config::RouterConfig;
use crate::drained::Drained;
use crate::event::Event;
use crate::middleware::Middleware;
use crate::peer::Peer;
use crate::session::{Held, Session};
use crate::sessions::{Greeters, Sessions};
use crate::tally::ErrorTally;
use crate::track;
use crate::watch::Watches;
use crate::weights::KnownWeights;

/// Events a slow listener may lag behind before it misses some. Enough for a second of a busy server; an event is small.
const EVENTS_KEPT: usize = 4096;

/// Errors that wait for the log. What comes on top, under a flood, is only counted.
const ERRORS_WAITING_MAX: usize = 1024;

/// Bytes of a text in the error log, since peers have a say in it. Enough for a sentence or two.
const ERROR_BYTES_MAX: usize = 1000;

/// Bytes of a name that a peer chose, in our own log. No job has a longer one: ours are UUIDs.
pub(crate) const NAME_BYTES_MAX: usize = 64;

/// First and longest wait between tries while the database is away.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// What a router counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages that had their effect.
    pub processed: u64,
    /// Messages that had none: late, refused, or of a type nobody handles.
    pub failed: u64,
    /// Lines that were no messages.
    pub invalid: u64,
    /// Jobs handed to crawlers.
    pub assigned: u64,
    /// Numbered messages that came again, or before their turn: without effect.
    pub out_of_turn: u64,
    /// Errors that did not fit into the log.
    pub errors_dropped: u64,
    /// Jobs that ended well.
    pub completed: u64,
    /// Jobs that failed for good.
    pub failed_jobs: u64,
    /// Reports of how far jobs are.
    pub reports: u64,
    /// Items that were processed, as those reports said.
    pub items: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) processed: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) invalid: AtomicU64,
    pub(crate) assigned: AtomicU64,
    pub(crate) out_of_turn: AtomicU64,
    pub(crate) errors_dropped: AtomicU64,
    pub(crate) completed: AtomicU64,
    pub(crate) failed_jobs: AtomicU64,
    pub(crate) reports: AtomicU64,
    pub(crate) items: AtomicU64,
}

impl Counters {
    /// Counts a job that ended.
    fn ended(&self, fact: &Fact) {
        let counter = match fact.state {
            State::Completed => &self.completed,
            State::Failed => &self.failed_jobs,
            _ => return,
        };
        if fact.from != Some(fact.state) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) config: RouterConfig,
    /// What a crawler of the base protocol can do.
    pub(crate) base: Arc<Capabilities>,
    pub(crate) sessions: Sessions,
    pub(crate) greeters: Greeters,
    /// Held while a hello is given to the store, so that those of one instance are in the order in which they were admitted.
    pub(crate) greeting: tokio::sync::Mutex<()>,
    /// Short sections only, never across an await.
    live: Mutex<Live>,
    /// The closed gates, as the last sweep saw them.
    gates: Mutex<Arc<[ClosedGate]>>,
    /// Jobs whose progress is to be written at once. Bounded by the jobs that are held.
    urgent: Mutex<BTreeSet<JobKey>>,
    /// Tells the flush of them.
    pub(crate) write: Notify,
    /// Whether something happened since that was last told that changes what all jobs are together.
    pub(crate) aggregate_changed: AtomicBool,
    errors: Mutex<VecDeque<ErrorRow>>,
    /// How many were logged lately.
    pub(crate) tally: ErrorTally,
    pub(crate) events: broadcast::Sender<Event>,
    /// Set when the sessions of an earlier run are closed; no new one opens before, or it would be closed with them.
    pub(crate) recovered: SetOnce<()>,
    /// Tells the dispatcher that there may be something to give out.
    pub(crate) wake: Notify,
    /// Cleared when the server drains: nothing is given out any more.
    pub(crate) dispatching: AtomicBool,
    /// Who is given nothing because somebody said so.
    pub(crate) drained: Drained,
    /// Read for every message, written rarely.
    middleware: RwLock<Chain>,
    /// The time between two reports about one job that crawlers are asked for at present where nobody watches, in
    /// milliseconds.
    pub(crate) report_interval_ms: AtomicU64,
    pub(crate) watches: Watches,
    pub(crate) weights: KnownWeights,
    pub(crate) counters: Counters,
}

/// Middleware, highest priority first.
pub(crate) type Chain = Arc<[Arc<dyn Middleware>]>;

impl Shared {
    pub(crate) fn new(store: Arc<dyn Store>, config: RouterConfig) -> Self {
        let report_interval = millis(config.hello.unwatched_interval.max(config.hello.progress_interval));
        let live = Live::new(config.policy.milestones.clone());
        Self {
            middleware: RwLock::new(Arc::from([])),
            report_interval_ms: AtomicU64::new(report_interval),
            watches: Watches::default(),
            weights: KnownWeights::default(),
            store,
            base: Arc::new(Capabilities::any(config.slots_per_crawler)),
            config,
            sessions: Sessions::default(),
            greeters: Greeters::default(),
            greeting: tokio::sync::Mutex::default(),
            live: Mutex::new(live),
            gates: Mutex::new(Arc::from([])),
            urgent: Mutex::default(),
            write: Notify::new(),
            aggregate_changed: AtomicBool::new(false),
            errors: Mutex::default(),
            tally: ErrorTally::default(),
            events: broadcast::Sender::new(EVENTS_KEPT),
            recovered: SetOnce::new(),
            wake: Notify::new(),
            dispatching: AtomicBool::new(true),
            drained: Drained::default(),
            counters: Counters::default(),
        }
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn gates(&self) -> Arc<[ClosedGate]> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note_gates(&self, gates: Arc<[ClosedGate]>) {
        let before = {
            let mut known = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *known, gates.clone())
        };
        if before != gates {
            self.publish(Event::GatesChanged);
        }
    }

    /// Has the progress of a job written at once.
    pub(crate) fn write_soon(&self, job: JobKey) {
        self.urgent.lock().unwrap_or_else(PoisonError::into_inner).insert(job);
        self.write.notify_one();
    }

    pub(crate) fn take_urgent(&self) -> BTreeSet<JobKey> {
        std::mem::take(&mut *self.urgent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether anybody listens to what is published.
    pub(crate) fn is_heard(&self) -> bool {
        self.events.receiver_count() > 0
    }

    /// The middleware as it is now.
    pub(crate) fn chain(&self) -> Chain {
        self.middleware.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds middleware to the chain.
    pub(crate) fn add_middleware(&self, middleware: Arc<dyn Middleware>) {
        let mut chain = self.middleware.write().unwrap_or_else(PoisonError::into_inner);
        let mut longer: Vec<_> = chain.iter().cloned().chain([middleware]).collect();
        longer.sort_by_key(|middleware| std::cmp::Reverse(middleware.priority()));
        *chain = longer.into();
    }

    /// Tells everybody who listens. That nobody does is fine.
    pub(crate) fn publish(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Publishes a fact and does what follows from it on this server. Gives what a session here held by then and holds no
    /// more.
    pub(crate) fn publish_fact(&self, mut fact: Fact) -> Option<Held> {
        let mut gone = None;
        self.aggregate_changed.store(true, Ordering::Relaxed);
        self.counters.ended(&fact);
        let phases = fact.from.map(|from| {
            (
                track::phase(self, fact.job, from),
                track::phase(self, fact.job, fact.state),
            )
        });
        if !fact.state.is_leased() {
            if let Some(session) = fact.session.and_then(|key| self.sessions.get(key)) {
                gone = session.let_go(&fact.public_id, fact.fence);
            }
            // After it was let go of: whoever begins to follow a job looks whether it is held.
            self.live().forget(fact.job);
            // A slot is free, or there is a job to give out.
            self.wake.notify_one();
        }
        if let Some((from, to)) = phases.filter(|(from, to)| from != to) {
            self.publish(Event::PhaseChanged {
                job: fact.job,
                public_id: fact.public_id.clone(),
                from,
                to,
            });
        }
        let passed = std::mem::take(&mut fact.passed);
        self.publish(Event::Job(fact));
        self.publish_passed(passed);
        gone
    }

    /// Publishes the milestones that trees passed.
    pub(crate) fn publish_passed(&self, passed: Vec<TreeMilestone>) {
        for milestone in passed {
            self.publish(Event::TreeMilestone(milestone));
        }
    }

    /// Forgets a job that a session holds no more, or not under this fence, as the rows say. Gives what was known of it.
    pub(crate) fn lose(&self, session: &Session, public_id: &str, fence: Fence) -> Option<Held> {
        let held = session.let_go(public_id, fence)?;
        self.live().forget(held.key);
        self.wake.notify_one();
        Some(held)
    }

    /// Puts an error into the log. The message must not quote what a peer sent.
    pub(crate) fn log_error(
        &self,
        peer: &Peer,
        (category, severity): (Category, Severity),
        code: &str,
        job: Option<&str>,
        message: &str,
    ) {
        let cut = |text: &str| printable(text, ERROR_BYTES_MAX);
        self.keep_error(ErrorRow {
            at: wall_clock(),
            category: category.as_str(),
            severity: severity.as_str(),
            code: code.to_owned(),
            job: job.map(cut),
            connection: Some(peer.name()),
            message: cut(message),
        });
    }

    pub(crate) fn keep_error(&self, row: ErrorRow) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() < ERRORS_WAITING_MAX {
            errors.push_back(row);
        } else {
            self.counters.errors_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn take_errors(&self) -> Vec<ErrorRow> {
        self.errors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
            .collect()
    }

    /// Gives an operation to the store and waits for what becomes of it.
    pub(crate) async fn commit(&self, op: Op) -> Result<Outcome, StoreError> {
        Ok(self.store.commit(op).await?.into_inner())
    }

    /// Gives an impatient operation to the store until the database is there.
    pub(crate) async fn insist(&self, op: Op) -> Result<Outcome, StoreError> {
        let mut wait = RETRY_MIN;
        loop {
            match self.commit(op.clone()).await {
                Err(StoreError::Unavailable(reason)) => {
                    if wait == RETRY_MIN {
                        tracing::warn!(reason, "database away, waiting for it");
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
                settled => return settled,
            }
        }
    }
}

/// The beginning of a text that a peer had a say in, without what a database or a terminal could not take.
fn printable(text: &str, bytes_max: usize) -> String {
    let cut = &text[..text.floor_char_boundary(bytes_max)];
    cut.replace(char::is_control, "\u{fffd}")
}

/// A name that a peer chose, for the log.
pub(crate) fn brief(name: &str) -> String {
    printable(name, NAME_BYTES_MAX)
}

/// A span in whole milliseconds, as the wire counts.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A number in `[0, 1)` that peers cannot foresee.
pub(crate) fn chance() -> f64 {
    // Without randomness the clock has to do: it only spreads what would come at once.
    let mut seed = getrandom::u64().unwrap_or_else(|_| wall_clock().0.unsigned_abs());
    crawlwire_progress::retry::chance(&mut seed)
}

/// The present moment of the machine's clock.
pub(crate) fn wall_clock() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}

/// Reads of what is in memory.
impl Shared {
    pub(crate) fn progress(&self, job: JobKey) -> Option<Arc<Tracker>> {
        self.live().get(job).cloned()
    }

    pub(crate) fn stats(&self) -> Stats {
        let Counters {
            processed,
            failed,
            invalid,
            assigned,
            out_of_turn,
            errors_dropped,
            completed,
            failed_jobs,
            reports,
            items,
        } = &self.counters;
        Stats {
            processed: processed.load(Ordering::Relaxed),
            failed: failed.load(Ordering::Relaxed),
            invalid: invalid.load(Ordering::Relaxed),
            assigned: assigned.load(Ordering::Relaxed),
            out_of_turn: out_of_turn.load(Ordering::Relaxed),
            errors_dropped: errors_dropped.load(Ordering::Relaxed),
            completed: completed.load(Ordering::Relaxed),
            failed_jobs: failed_jobs.load(Ordering::Relaxed),
            reports: reports.load(Ordering::Relaxed),
            items: items.load(Ordering::Relaxed),
        }
    }
}
