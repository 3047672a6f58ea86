//! Peers, sessions, and the jobs they hold.
//!
//! A [`Peer`] is one connection. At its first valid message it becomes a [`Session`], which may be given work.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use crawlwire_progress::lifecycle::Lease;
use crawlwire_progress::{CredentialKey, Fence, JobKey, SessionKey};
use crawlwire_protocol::message::{Heartbeat, SystemStatus};
use tokio::sync::{OnceCell, SetOnce};
use tokio::time::Instant;

/// Why a line could not be handed to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer reads too slowly.
    #[error("the peer's queue is full")]
    Full,
    /// The connection is gone.
    #[error("the connection is closed")]
    Closed,
    /// Middleware dropped or refused the message, or panicked over it.
    #[error("the message was withheld by middleware")]
    Withheld,
}

/// The way out to a peer. Implemented by whoever owns the connection.
pub trait Outbound: Send + Sync {
    /// Hands over one line with its newline; never waits.
    ///
    /// # Errors
    /// When the queue is full or the connection is gone; the line was not sent then.
    fn try_send(&self, line: Bytes) -> Result<(), SendError>;
}

/// Messages of unknown types of one peer that are logged; the rest is only counted.
const UNKNOWN_TYPES_LOGGED: u64 = 20;

/// One connection.
pub struct Peer {
    /// Its number, unique among all connections this server ever had.
    pub connection: u64,
    /// Who it is: the same text means the same process. None when that cannot be known.
    pub identity: Option<String>,
    outbound: Arc<dyn Outbound>,
    session: OnceCell<Arc<Session>>,
    /// Messages of unknown types so far.
    unknown_types: AtomicU64,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter
            .debug_struct("Peer")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl Peer {
    /// A connection that has said nothing yet.
    pub fn new(connection: u64, identity: Option<String>, outbound: Arc<dyn Outbound>) -> Arc<Self> {
        Arc::new(Self {
            connection,
            identity,
            outbound,
            session: OnceCell::new(),
            unknown_types: AtomicU64::new(0),
        })
    }

    /// The session, once there is one.
    pub fn session(&self) -> Option<&Arc<Session>> {
        self.session.get()
    }

    /// Whether one more message of an unknown type is worth a line in the logs. They are legal, so a peer may send any
    /// number of them.
    pub(crate) fn may_log_unknown_type(&self) -> bool {
        self.unknown_types.fetch_add(1, Ordering::Relaxed) < UNKNOWN_TYPES_LOGGED
    }

    pub(crate) fn session_cell(&self) -> &OnceCell<Arc<Session>> {
        &self.session
    }

    pub(crate) fn outbound(&self) -> &Arc<dyn Outbound> {
        &self.outbound
    }

    /// For logs: the session's name, or the connection's number.
    pub fn name(&self) -> String {
        match self.session() {
            Some(session) => session.name.to_string(),
            None => format!("connection-{}", self.connection),
        }
    }
}

/// Jobs remembered as not held, and for how long.
const NOT_HELD_MAX: usize = 256;
const NOT_HELD_FOR: Duration = Duration::from_secs(1);

/// How long a crawler's new connection waits for the end of its old one: when that is known to be gone and the store is
/// still to be told, and when nobody has noticed yet.
const LEAVING_MAX: Duration = Duration::from_secs(5);
const UNNOTICED_MAX: Duration = Duration::from_millis(500);

/// A job that a session holds, as this server remembers it. The truth is the row in the store.
#[derive(Debug, Clone)]
pub struct Held {
    /// The row.
    pub key: JobKey,
    /// The fence it was given.
    pub fence: Fence,
    /// The attempt, once it is known.
    pub attempt: i32,
    /// Whether the start was given to the store.
    pub started: bool,
    /// Its token, and the version that the crawler got.
    pub credential: Option<(CredentialKey, i64)>,
}

/// A peer that may be given work.
pub struct Session {
    /// Its row.
    pub key: SessionKey,
    /// `legacy-<connection>` for a base crawler.
    pub name: Arc<str>,
    /// Its connection.
    pub peer: Arc<Peer>,
    opened: Instant,
    /// Jobs by public id. Short sections only, never across an await. Bounded by the slots and by what is adopted.
    held: Mutex<HashMap<String, Held>>,
    said: Mutex<Said>,
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

/// What a crawler said of itself. Information only.
#[derive(Debug, Clone)]
struct Said {
    last_message: Instant,
    active_jobs: Option<u64>,
    system_status: Option<SystemStatus>,
}

/// A session as it is shown.
#[derive(Debug, Clone)]
pub struct SessionInfo {
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
    pub(crate) fn new(key: SessionKey, name: Arc<str>, peer: Arc<Peer>) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            key,
            name,
            peer,
            opened: now,
            held: Mutex::default(),
            said: Mutex::new(Said {
                last_message: now,
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

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held_jobs(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// The store has been told that its connection is gone.
    pub(crate) fn left(&self) {
        let _ = self.gone.set(());
    }

    /// Waits until the store has been told that its connection is gone; not long, unless it is on its way.
    pub(crate) async fn gone_soon(&self) {
        let patience = match self.leaving.load(Ordering::Relaxed) {
            true => LEAVING_MAX,
            false => UNNOTICED_MAX,
        };
        let _ = tokio::time::timeout(patience, self.gone.wait()).await;
    }

    pub(crate) fn note_heartbeat(&self, heartbeat: &Heartbeat) {
        let mut said = self.said();
        said.active_jobs = Some(heartbeat.active_jobs.get());
        said.system_status = Some(heartbeat.system_status);
    }

    pub(crate) fn silent_for(&self) -> Duration {
        self.said().last_message.elapsed()
    }

    /// A job it holds.
    pub fn held(&self, public_id: &str) -> Option<Held> {
        self.held_jobs().get(public_id).cloned()
    }

    /// How many jobs it holds.
    pub fn held_count(&self) -> usize {
        self.held_jobs().len()
    }

    pub(crate) fn hold(&self, public_id: String, held: Held) {
        self.held_jobs().insert(public_id, held);
    }

    /// Changes a held job, if it is still held under this fence.
    pub(crate) fn update(&self, public_id: &str, fence: Fence, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.held_jobs().get_mut(public_id).filter(|held| held.fence == fence) {
            change(held);
        }
    }

    /// Forgets a job held under this fence or an earlier one.
    pub(crate) fn let_go(&self, public_id: &str, fence: Fence) -> bool {
        let mut held = self.held_jobs();
        let ours = held.get(public_id).is_some_and(|held| held.fence <= fence);
        ours && held.remove(public_id).is_some()
    }

    pub(crate) fn let_go_of_all(&self) -> Vec<Held> {
        self.held_jobs().drain().map(|(_, held)| held).collect()
    }

    pub(crate) fn lease(&self, held: &Held) -> Lease {
        Lease {
            session: self.key,
            fence: held.fence,
        }
    }

    /// As it is shown.
    pub fn info(&self) -> SessionInfo {
        let said = self.said().clone();
        let mut jobs: Vec<_> = self.held_jobs().keys().cloned().collect();
        jobs.sort();
        SessionInfo {
            name: self.name.clone(),
            connection: self.peer.connection,
            identity: self.peer.identity.clone(),
            open_for: self.opened.elapsed(),
            silent_for: said.last_message.elapsed(),
            messages: self.messages.load(Ordering::Relaxed),
            active_jobs: said.active_jobs,
            system_status: said.system_status,
            jobs,
        }
    }
}

/// The sessions of this server. Bounded by the number of connections.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<SessionKey, Arc<Session>>>);

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, session: Arc<Session>) {
        self.lock().insert(session.key, session);
    }

    pub(crate) fn remove(&self, key: SessionKey) {
        self.lock().remove(&key);
    }

    pub(crate) fn get(&self, key: SessionKey) -> Option<Arc<Session>> {
        self.lock().get(&key).cloned()
    }

    /// Those whose connection stands, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        let mut sessions: Vec<_> = self.lock().values().cloned().collect();
        sessions.retain(|session| !session.leaving.load(Ordering::Relaxed));
        sessions.sort_by_key(|session| session.key);
        sessions
    }

    /// Another session of the same process that the store may hold for connected; one that is leaving if there is one.
    pub(crate) fn twin(&self, session: &Session) -> Option<Arc<Session>> {
        let identity = session.peer.identity.as_ref()?;
        let twin = |other: &&Arc<Session>| other.key != session.key && other.peer.identity.as_ref() == Some(identity);
        let leaving = |session: &&Arc<Session>| session.leaving.load(Ordering::Relaxed);
        self.lock().values().filter(twin).max_by_key(leaving).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nowhere;

    impl Outbound for Nowhere {
        fn try_send(&self, _: Bytes) -> Result<(), SendError> {
            Err(SendError::Closed)
        }
    }

    fn session() -> Arc<Session> {
        let peer = Peer::new(1, None, Arc::new(Nowhere));
        Session::new(SessionKey(1), "legacy-1".into(), peer)
    }

    fn held(fence: i64) -> Held {
        Held {
            key: JobKey(1),
            fence: Fence(fence),
            attempt: 0,
            started: false,
            credential: None,
        }
    }

    #[test]
    fn news_of_an_earlier_lease_do_not_touch_a_later_one() {
        let session = session();
        session.hold("a".to_owned(), held(3));
        session.update("a", Fence(1), |held| held.started = true);
        assert!(!session.let_go("a", Fence(2)));
        assert!(!session.held("a").unwrap().started);
        session.update("a", Fence(3), |held| held.started = true);
        assert!(session.held("a").unwrap().started);
        assert!(session.let_go("a", Fence(4)), "an end comes with the fence after it");
        assert!(!session.let_go("a", Fence(4)));
        assert_eq!(session.held_count(), 0);
    }

    #[tokio::test]
    async fn so_many_jobs_are_remembered_as_not_held() {
        let session = session();
        for job in 0..=NOT_HELD_MAX {
            session.note_not_held(&job.to_string(), "gone");
        }
        assert_eq!(session.not_held(&NOT_HELD_MAX.to_string()).as_deref(), Some("gone"));
        assert_eq!(session.not_held("other"), None);
        assert!(session.not_held.lock().unwrap().len() <= NOT_HELD_MAX);
    }
}
