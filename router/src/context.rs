//! What handlers, dispatcher and timers share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crawlwire_progress::admit::Capabilities;
use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::live::{AggregateProgress, Live};
use crawlwire_progress::store::{Holder, Outcome, Rejection, StoreError};
use crawlwire_progress::view::{ErrorRow, ProgressView};
use crawlwire_progress::{Fact, Fence, JobKey, Op, Policy, Store, Timestamp};
use crawlwire_protocol::{Category, Severity};
use tokio::sync::{Notify, SetOnce, broadcast};

use crate::event::Event;
use crate::peer::Peer;
use crate::session::{Held, Session};
use crate::sessions::Sessions;

/// Events a slow listener may lag behind before it misses some. Enough for a second of a busy server; an event is small.
const EVENTS_KEPT: usize = 4096;

/// Errors that wait for the log. What comes on top, under a flood, is only counted.
const ERRORS_WAITING_MAX: usize = 1024;

/// Bytes of a text in the error log, since peers have a say in it. Enough for a sentence or two.
const ERROR_BYTES_MAX: usize = 1000;

/// Bytes of a name that a peer chose, in our own log. No job has a longer one: ours are UUIDs.
const NAME_BYTES_MAX: usize = 64;

/// First and longest wait between tries while the database is away.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Milliseconds between the looks at a job that a crawler's connection to another server may still hold: two seconds in
/// all, which is how long a server may take to see the end of a connection and to write it.
const TAKEOVER_DELAYS: [u64; 6] = [50, 100, 200, 400, 600, 650];

/// The router's numbers.
#[derive(Debug, Clone)]
pub struct RouterConfig {
    /// The name of this server; the same after a restart.
    pub server: String,
    /// Jobs a base crawler is given at a time.
    pub slots_per_crawler: usize,
    /// Queued jobs that the dispatcher has in memory at a time.
    pub job_queue_size: usize,
    /// Between two sweeps.
    pub sweep_interval: Duration,
    /// Between two writes of progress; at most a second.
    pub flush_interval: Duration,
    /// The store's policy. A session silent for longer than its lease gets no work.
    pub policy: Policy,
    /// What is kept for how long.
    pub retention: Retention,
}

/// How long things are kept that are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Between two looks at what may go.
    pub interval: Duration,
    /// Since a job and everything below it was over.
    pub max_job_age: Duration,
    /// Since an error was logged.
    pub max_error_age: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            interval: Duration::from_secs(3600),
            max_job_age: DAY * 7,
            max_error_age: DAY * 30,
        }
    }
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            server: "crawlwire".to_owned(),
            slots_per_crawler: 5,
            job_queue_size: 100,
            sweep_interval: Duration::from_secs(1),
            flush_interval: Duration::from_millis(500),
            policy: Policy::default(),
            retention: Retention::default(),
        }
    }
}

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
    /// Errors that did not fit into the log.
    pub errors_dropped: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) processed: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) invalid: AtomicU64,
    pub(crate) assigned: AtomicU64,
    pub(crate) errors_dropped: AtomicU64,
}

pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) config: RouterConfig,
    /// What a crawler of the base protocol can do.
    pub(crate) base: Arc<Capabilities>,
    pub(crate) sessions: Sessions,
    /// Short sections only, never across an await.
    live: Mutex<Live>,
    errors: Mutex<VecDeque<ErrorRow>>,
    pub(crate) events: broadcast::Sender<Event>,
    /// Set when the sessions of an earlier run are closed; no new one opens before, or it would be closed with them.
    pub(crate) recovered: SetOnce<()>,
    /// Tells the dispatcher that there may be something to give out.
    pub(crate) wake: Notify,
    /// Cleared when the server drains: nothing is given out any more.
    pub(crate) dispatching: AtomicBool,
    pub(crate) counters: Counters,
}

impl Shared {
    pub(crate) fn new(store: Arc<dyn Store>, config: RouterConfig) -> Self {
        Self {
            store,
            base: Arc::new(Capabilities::any(config.slots_per_crawler)),
            config,
            sessions: Sessions::default(),
            live: Mutex::default(),
            errors: Mutex::default(),
            events: broadcast::Sender::new(EVENTS_KEPT),
            recovered: SetOnce::new(),
            wake: Notify::new(),
            dispatching: AtomicBool::new(true),
            counters: Counters::default(),
        }
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody who listens. That nobody does is fine.
    pub(crate) fn publish(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Publishes a fact and does what follows from it on this server.
    pub(crate) fn publish_fact(&self, fact: Fact) {
        if !fact.state.is_leased() {
            self.live().forget(fact.job);
            if let Some(session) = fact.session.and_then(|key| self.sessions.get(key)) {
                session.let_go(&fact.public_id, fact.fence);
            }
            // A slot is free, or there is a job to give out.
            self.wake.notify_one();
        }
        self.publish(Event::Job(fact));
    }

    /// Forgets a job that a session holds no more, or not under this fence, as the rows say.
    pub(crate) fn lose(&self, session: &Session, public_id: &str, fence: Fence) {
        let Some(held) = session.let_go(public_id, fence) else {
            return;
        };
        self.live().forget(held.key);
        self.wake.notify_one();
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

/// The present moment of the machine's clock.
pub(crate) fn wall_clock() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}

/// What a handler works with: the peer that speaks, and the server behind.
#[derive(Clone)]
pub struct Context {
    pub(crate) shared: Arc<Shared>,
    /// Who speaks.
    pub peer: Arc<Peer>,
    /// Its session, if it is one by now.
    pub session: Option<Arc<Session>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter
            .debug_struct("Context")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// The store, for handlers of your own.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// A job that this session holds. When it holds it not, an earlier connection of the same process may have: then
    /// the job is taken over.
    ///
    /// # Errors
    /// When the job is not this crawler's, or no more.
    pub async fn held(&self, public_id: &str) -> Result<(Arc<Session>, Held), String> {
        let session = self.session.clone().ok_or("the peer is no session")?;
        // Nothing is called so. PostgreSQL refuses to look for the one, and the other would have to be remembered.
        if public_id.contains('\0') || public_id.len() > NAME_BYTES_MAX {
            return Err(Refusal::NotFound.to_string());
        }
        if let Some(held) = session.held(public_id) {
            return Ok((session, held));
        }
        if let Some(why) = session.not_held(public_id) {
            return Err(why);
        }
        match self.adopt(public_id, &session).await? {
            Outcome::Moved(fact) => {
                let held = adopted(&fact);
                tracing::info!(session = %session.name, job = public_id, fence = fact.fence.0, "job taken over");
                session.hold(public_id.to_owned(), held.clone());
                self.shared.publish_fact(fact);
                Ok((session, held))
            }
            Outcome::Refused(Rejection::Job(refusal)) => {
                let why = refusal.to_string();
                // What another session holds may be free in a moment; what is over stays over.
                if !matches!(refusal, Refusal::HeldByAnother | Refusal::StillConnected) {
                    session.note_not_held(public_id, &why);
                }
                Err(why)
            }
            _ => Err("no such job".to_owned()),
        }
    }

    /// Asks for a takeover. A crawler that reconnects may be heard before the end of its old connection is known to the
    /// store; then that is waited for: as long as it takes if the connection was to this server, and else for a while,
    /// since only the rows tell.
    async fn adopt(&self, public_id: &str, session: &Session) -> Result<Outcome, String> {
        let op = Op::Adopt {
            public_id: public_id.to_owned(),
            session: session.key,
        };
        let ask = async || self.shared.commit(op.clone()).await.map_err(|error| error.to_string());
        let still_connected = Outcome::Refused(Refusal::StillConnected.into());
        let mut outcome = ask().await?;
        if outcome != still_connected {
            return Ok(outcome);
        }
        if let Some(twin) = self.shared.sessions.twin(session) {
            twin.gone_soon().await;
            return ask().await;
        }
        for delay in TAKEOVER_DELAYS {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            outcome = ask().await?;
            if outcome != still_connected {
                return Ok(outcome);
            }
        }
        // The next lines about this job shall not wait as long.
        session.note_not_held(public_id, &Refusal::StillConnected.to_string());
        Ok(outcome)
    }

    /// Who speaks for a held job.
    pub fn holder(&self, session: &Session, held: &Held) -> Holder {
        Holder {
            session: session.key,
            name: session.name.clone(),
            fence: held.fence,
        }
    }

    /// Puts an error into the log. The message must not quote what a peer sent.
    pub fn log_error(&self, category: Category, severity: Severity, code: &str, job: Option<&str>, message: String) {
        self.shared
            .log_error(&self.peer, (category, severity), code, job, &message);
    }
}

/// A job that was taken over, as this server remembers it. Which token its crawler has is not known: a refresh finds out.
fn adopted(fact: &Fact) -> Held {
    Held {
        key: fact.job,
        fence: fact.fence,
        attempt: fact.attempt,
        started: fact.state == crawlwire_progress::State::Running,
        ending: false,
        credential: None,
    }
}

/// Reads of what is in memory.
impl Shared {
    pub(crate) fn progress(&self, job: JobKey) -> Option<ProgressView> {
        self.live().get(job).cloned()
    }

    pub(crate) fn aggregate(&self) -> Option<AggregateProgress> {
        self.live().aggregate()
    }

    pub(crate) fn stats(&self) -> Stats {
        let Counters {
            processed,
            failed,
            invalid,
            assigned,
            errors_dropped,
        } = &self.counters;
        Stats {
            processed: processed.load(Ordering::Relaxed),
            failed: failed.load(Ordering::Relaxed),
            invalid: invalid.load(Ordering::Relaxed),
            assigned: assigned.load(Ordering::Relaxed),
            errors_dropped: errors_dropped.load(Ordering::Relaxed),
        }
    }
}
