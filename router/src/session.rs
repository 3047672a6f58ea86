//! Sessions and the jobs they hold.
//!
//! A [`Peer`] is one connection. At its first valid message, or with the greeting of the session dialect, it becomes a
//! [`Session`], which may be given work.

mod held;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crawlwire_progress::admit::Capabilities;
use crawlwire_progress::{Epoch, SessionKey, SessionRef, TokenKey};
use crawlwire_protocol::Dialect;
use crawlwire_protocol::message::{Feature, Heartbeat, Role, SystemStatus};
use tokio::sync::SetOnce;
use tokio::time::Instant;

pub use self::held::Held;
pub(crate) use self::held::Kin;
use crate::peer::Peer;

/// Jobs remembered as not held, and for how long.
const NOT_HELD_MAX: usize = 256;
const NOT_HELD_FOR: Duration = Duration::from_secs(1);

/// How long a crawler's new connection waits for the end of its old one: when that is known to be gone and the store is
/// still to be told, and when nobody has noticed yet.
const LEAVING_MAX: Duration = Duration::from_secs(5);
const UNNOTICED_MAX: Duration = Duration::from_millis(500);

/// A peer that may be given work.
pub struct Session {
    /// Its row.
    pub key: SessionKey,
    /// Which of its connections this is.
    pub epoch: Epoch,
    /// `legacy-<connection>` for a base crawler.
    pub name: Arc<str>,
    /// Its connection.
    pub peer: Arc<Peer>,
    /// What it said of itself when it came; none in the base dialect.
    pub greeting: Option<Greeting>,
    /// Whether it can be asked to end or pause a job, and says when it did.
    pub confirms: bool,
    /// What it can do, and how many jobs at a time.
    capabilities: Mutex<Arc<Capabilities>>,
    opened: Instant,
    /// Jobs by public id. Short sections only, never across an await. Bounded by the slots and by what is adopted.
    held: Mutex<HashMap<String, Held>>,
    said: Mutex<Said>,
    care: Mutex<Care>,
    /// Whether something was heard since the lease was last renewed.
    heard: AtomicBool,
    /// Whether a job could not be given to it. It gets no other one until its lease is renewed because it was heard
    /// again; else a crawler that reads nothing would be given all jobs in turn, in no time.
    resting: AtomicBool,
    /// Jobs that it named and does not hold, with the time when that was found out: so that a crawler that goes on
    /// talking of a lost job does not cost a transaction each time.
    not_held: Mutex<HashMap<String, (Instant, String)>>,
    messages: AtomicU64,
    /// Whether its connection is gone, which the store may not have been told yet.
    leaving: AtomicBool,
    /// Set when the store has been told.
    gone: SetOnce<()>,
}

/// What a peer of the session dialect said of itself when it came, as far as it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// What it is there for.
    pub role: Role,
    /// What both sides have beyond the core.
    pub features: BTreeSet<Feature>,
    /// Who it proved to be: `unix:<uid>`, `token:<key>`, `local`, or `anonymous`.
    pub principal: String,
    /// The token it showed.
    pub token: Option<TokenKey>,
    /// The run of the crawler that keeps its session.
    pub instance_id: String,
    /// The crawler, the same for all its runs.
    pub crawler_id: String,
    /// Name and version of its program.
    pub software: Option<String>,
}

impl Greeting {
    /// Whether both sides have a feature.
    pub fn has(&self, feature: &str) -> bool {
        Feature::named(feature).is_some_and(|feature| self.features.contains(&feature))
    }
}

/// What the server does for a connection that it looks after.
#[derive(Debug, Default)]
struct Care {
    /// When it was last pinged.
    pinged: Option<Instant>,
    /// The time between two reports that it was last told, in milliseconds.
    report_interval_ms: u64,
    /// What its last heartbeat that counted and this server did not agree about.
    mismatch: BTreeSet<Mismatch>,
}

/// A lease that one side knows and the other does not: job, fence, and whether it is the crawler that knows it.
pub(crate) type Mismatch = (String, i64, bool);

/// What a crawler said of itself. Information only.
#[derive(Debug, Clone)]
struct Said {
    last_message: Instant,
    /// How many heartbeats it has sent, of those that [count](Session::note_heartbeat), and when the last of them came.
    heartbeats: u64,
    counted: Option<Instant>,
    active_jobs: Option<u64>,
    system_status: Option<SystemStatus>,
}

/// A session as it is shown.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    /// Its row.
    pub key: SessionKey,
    /// Its name.
    pub name: Arc<str>,
    /// Its connection.
    pub connection: u64,
    /// Who the peer is.
    pub identity: Option<String>,
    /// How long it has been open.
    pub open_for: Duration,
    /// How long it has been silent.
    pub silent_for: Duration,
    /// Messages heard.
    pub messages: u64,
    /// Jobs it says it works on.
    pub active_jobs: Option<u64>,
    /// What it says it is doing.
    pub system_status: Option<SystemStatus>,
    /// Public ids of the jobs it holds, sorted.
    pub jobs: Vec<String>,
    /// Public ids of jobs that were taken from it and that it still works on, sorted. Their slots are not free.
    pub lingering: Vec<String>,
    /// What it can do, and how many jobs at a time.
    pub capabilities: Arc<Capabilities>,
    /// What its connection speaks.
    pub dialect: Option<Dialect>,
    /// What it said of itself when it came; none in the base dialect.
    pub greeting: Option<Greeting>,
    /// Which connection of its session this is.
    pub epoch: Epoch,
    /// The last number of its lasting messages that is settled; 0 when there is none.
    pub high_water: u64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter
            .debug_struct("Session")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(
        SessionRef { key, epoch }: SessionRef,
        name: Arc<str>,
        peer: Arc<Peer>,
        (capabilities, confirms): (Arc<Capabilities>, bool),
        greeting: Option<Greeting>,
    ) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            key,
            epoch,
            name,
            peer,
            greeting,
            confirms,
            capabilities: Mutex::new(capabilities),
            opened: now,
            held: Mutex::default(),
            care: Mutex::default(),
            said: Mutex::new(Said {
                last_message: now,
                heartbeats: 0,
                counted: None,
                active_jobs: None,
                system_status: None,
            }),
            heard: AtomicBool::new(true),
            resting: AtomicBool::new(false),
            not_held: Mutex::default(),
            messages: AtomicU64::new(0),
            leaving: AtomicBool::new(false),
            gone: SetOnce::new(),
        })
    }

    /// Its row, and which of its connections this is.
    pub fn reference(&self) -> SessionRef {
        SessionRef {
            key: self.key,
            epoch: self.epoch,
        }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn heard(&self) {
        self.said().last_message = Instant::now();
        self.heard.store(true, Ordering::Relaxed);
        self.messages.fetch_add(1, Ordering::Relaxed);
    }

    /// Its lease was renewed. Says whether it rested.
    pub(crate) fn note_renewed(&self) -> bool {
        self.resting.swap(false, Ordering::Relaxed)
    }

    /// Gives it no job until its lease is renewed.
    pub(crate) fn rest(&self) {
        self.resting.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_resting(&self) -> bool {
        self.resting.load(Ordering::Relaxed)
    }

    /// Remembers that it does not hold a job.
    pub(crate) fn note_not_held(&self, public_id: &str, why: &str) {
        let mut not_held = self.not_held.lock().unwrap_or_else(PoisonError::into_inner);
        if not_held.len() >= NOT_HELD_MAX {
            not_held.clear();
        }
        not_held.insert(public_id.to_owned(), (Instant::now(), why.to_owned()));
    }

    /// Why it does not hold a job, if that was found out a moment ago.
    pub(crate) fn not_held(&self, public_id: &str) -> Option<String> {
        let not_held = self.not_held.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, why) = not_held.get(public_id)?;
        (at.elapsed() < NOT_HELD_FOR).then(|| why.clone())
    }

    /// Whether something was heard since this was last asked.
    pub(crate) fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn note_unrenewed(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Its connection is gone: it is not shown and gets no work any more.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// The store has been told that its connection is gone.
    pub(crate) fn left(&self) {
        let _ = self.gone.set(());
    }

    /// Waits until the store has been told that its connection is gone; not long, unless it is on its way.
    pub(crate) async fn gone_soon(&self) {
        let patience = if self.is_leaving() { LEAVING_MAX } else { UNNOTICED_MAX };
        let _ = tokio::time::timeout(patience, self.gone.wait()).await;
    }

    /// What it can do, and how many jobs at a time.
    pub fn capabilities(&self) -> Arc<Capabilities> {
        self.capabilities.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on it takes so many jobs at a time.
    pub(crate) fn set_slots(&self, slots: usize) {
        let mut capabilities = self.capabilities.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut capabilities).slots = slots;
    }

    fn care(&self) -> MutexGuard<'_, Care> {
        self.care.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is to be pinged, because neither side said anything for this long.
    pub(crate) fn ping_due(&self, interval: Duration) -> bool {
        let mut care = self.care();
        let due = self.silent_for() >= interval && care.pinged.is_none_or(|pinged| pinged.elapsed() >= interval);
        if due {
            care.pinged = Some(Instant::now());
        }
        due
    }

    /// Remembers how often it was told to report, in milliseconds.
    pub(crate) fn told_report_interval(&self, millis: u64) {
        self.care().report_interval_ms = millis;
    }

    /// How often it was told to report, in milliseconds.
    pub(crate) fn report_interval(&self) -> u64 {
        self.care().report_interval_ms
    }

    /// What this heartbeat and this server do not agree about, as they did not at the last one that counted.
    pub(crate) fn mismatch_again(&self, mismatch: BTreeSet<Mismatch>) -> BTreeSet<Mismatch> {
        let mut care = self.care();
        let again = mismatch.intersection(&care.mismatch).cloned().collect();
        care.mismatch = mismatch;
        again
    }

    /// How many heartbeats it has sent that count.
    pub(crate) fn heartbeats(&self) -> u64 {
        self.said().heartbeats
    }

    /// Remembers what it says of itself. Says whether that counts as news of what it holds: heartbeats that come less than
    /// `apart` after one another waited somewhere on their way, and may be older than what it was told meanwhile.
    pub(crate) fn note_heartbeat(&self, heartbeat: &Heartbeat, apart: Duration) -> bool {
        let mut said = self.said();
        said.active_jobs = Some(heartbeat.active_jobs.get());
        said.system_status = Some(heartbeat.system_status);
        let counts = said.counted.is_none_or(|counted| counted.elapsed() >= apart);
        if counts {
            said.heartbeats += 1;
            said.counted = Some(Instant::now());
        }
        counts
    }

    pub(crate) fn silent_for(&self) -> Duration {
        self.said().last_message.elapsed()
    }

    /// As it is shown.
    pub fn info(&self) -> SessionInfo {
        let said = self.said().clone();
        SessionInfo {
            key: self.key,
            name: self.name.clone(),
            connection: self.peer.connection,
            identity: self.peer.identity.clone(),
            open_for: self.opened.elapsed(),
            silent_for: said.last_message.elapsed(),
            messages: self.messages.load(Ordering::Relaxed),
            active_jobs: said.active_jobs,
            system_status: said.system_status,
            jobs: self.jobs(),
            lingering: self.peer.lingering(),
            capabilities: self.capabilities(),
            dialect: self.peer.dialect(),
            greeting: self.greeting.clone(),
            epoch: self.epoch,
            high_water: self.peer.numbers.settled(),
        }
    }
}
