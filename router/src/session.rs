//! Peers, sessions, and the jobs they hold.
//!
//! A [`Peer`] is one connection. At its first valid message it becomes a [`Session`], which may be given work.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use crawlwire_progress::lifecycle::Lease;
use crawlwire_progress::{CredentialKey, Fence, JobKey, SessionKey};
use crawlwire_protocol::message::{Heartbeat, SystemStatus};
use tokio::sync::{OnceCell, oneshot};
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
}

/// The way out to a peer. Implemented by whoever owns the connection.
pub trait Outbound: Send + Sync {
    /// Hands over one line with its newline; never waits.
    ///
    /// # Errors
    /// When the queue is full or the connection is gone; the line was not sent then.
    fn try_send(&self, line: Bytes) -> Result<(), SendError>;
}

/// One connection.
pub struct Peer {
    /// Its number, unique among all connections this server ever had.
    pub connection: u64,
    /// Who it is: the same text means the same process. None when that cannot be known.
    pub identity: Option<String>,
    outbound: Arc<dyn Outbound>,
    session: OnceCell<Arc<Session>>,
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
        })
    }

    /// The session, once there is one.
    pub fn session(&self) -> Option<&Arc<Session>> {
        self.session.get()
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
    /// Whether a job could not be given to it. It gets no other one until it is heard again, or a crawler that reads
    /// nothing would be given all jobs in turn, in no time.
    resting: AtomicBool,
    /// Tells when the last operation that was given to the store has had its effect.
    last: Mutex<Option<oneshot::Receiver<()>>>,
    /// Held by each operation that the store could not take and that has to be given again.
    late: Arc<()>,
    messages: AtomicU64,
}

/// A place in the order of a session's operations. Dropped when the operation has had its effect, or had none.
///
/// The store keeps the order of what it is given. What it could not take, while its database was away, has to be given
/// again, and nothing may overtake it: the end of a job must not come before the children that the job found.
pub(crate) struct Turn {
    before: Option<oneshot::Receiver<()>>,
    late: Option<Arc<()>>,
    _done: oneshot::Sender<()>,
}

impl Turn {
    /// Whether an earlier operation has to be given again; then this one has to wait for it.
    pub(crate) fn is_late(&self) -> bool {
        self.late.is_some()
    }

    /// Waits until everything before has had its effect. Later operations wait for this one from here on.
    pub(crate) async fn come(&mut self, session: &Session) {
        self.late.get_or_insert_with(|| session.late.clone());
        if let Some(before) = self.before.take() {
            // An error only says that it is dropped: that is what is waited for.
            let _ = before.await;
        }
    }
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
    pub open_for: std::time::Duration,
    /// How long it has been silent.
    pub silent_for: std::time::Duration,
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
            last: Mutex::default(),
            late: Arc::default(),
            messages: AtomicU64::new(0),
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
        self.resting.store(false, Ordering::Relaxed);
        self.messages.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives it no job until it is heard again.
    pub(crate) fn rest(&self) {
        self.resting.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_resting(&self) -> bool {
        self.resting.load(Ordering::Relaxed)
    }

    /// The next place in the order of this session's operations.
    pub(crate) fn turn(&self) -> Turn {
        let (done, last) = oneshot::channel();
        let mut before = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        Turn {
            before: before.replace(last),
            late: (Arc::strong_count(&self.late) > 1).then(|| self.late.clone()),
            _done: done,
        }
    }

    /// Whether something was heard since this was last asked.
    pub(crate) fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn note_unrenewed(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    pub(crate) fn note_heartbeat(&self, heartbeat: &Heartbeat) {
        let mut said = self.said();
        said.active_jobs = Some(heartbeat.active_jobs.get());
        said.system_status = Some(heartbeat.system_status);
    }

    pub(crate) fn silent_for(&self) -> std::time::Duration {
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

    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        let mut sessions: Vec<_> = self.lock().values().cloned().collect();
        sessions.sort_by_key(|session| session.key);
        sessions
    }
}
