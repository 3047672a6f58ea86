//! Sessions and the jobs they hold.
//!
//! A [`Peer`] is one connection. At its first valid message it becomes a [`Session`], which may be given work.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crawlwire_progress::admit::Capabilities;
use crawlwire_progress::lifecycle::Lease;
use crawlwire_progress::{CredentialKey, Fence, JobKey, SessionKey};
use crawlwire_protocol::message::{Heartbeat, SystemStatus};
use tokio::sync::SetOnce;
use tokio::time::Instant;

use crate::peer::Peer;

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
    /// Whether its end was given to the store: the crawler does not work on it any more.
    pub ending: bool,
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
    /// What it can do, and how many jobs at a time.
    pub capabilities: Arc<Capabilities>,
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
    /// Public ids of jobs that were taken from it and that it still works on, sorted. Their slots are not free.
    pub lingering: Vec<String>,
    /// What it can do, and how many jobs at a time.
    pub capabilities: Arc<Capabilities>,
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
    pub(crate) fn new(key: SessionKey, name: Arc<str>, peer: Arc<Peer>, capabilities: Arc<Capabilities>) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            key,
            name,
            peer,
            capabilities,
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

    /// Whether it holds a job or lingers on it.
    pub(crate) fn works_on(&self, public_id: &str) -> bool {
        let held = self.held_jobs();
        held.contains_key(public_id) || self.peer.lingering_now().contains(public_id)
    }

    pub(crate) fn hold(&self, public_id: String, held: Held) {
        self.peer.end_lingering(&public_id);
        self.held_jobs().insert(public_id, held);
    }

    /// A job is not held any more, whatever took it away: an act, its deadline, the end of its lease. A crawler that had
    /// begun and cannot be asked to stop does not know, and is still at work on it until it says how it ended or its
    /// connection is gone. One that had not begun has nothing to end. Under the lock of `held`, so that whoever looks sees
    /// the job either held or lingering.
    fn linger(&self, public_id: &str, held: &Held) {
        if held.started && !held.ending && !self.peer.confirms {
            self.peer.linger(public_id);
        }
    }

    /// The crawler says that it works on a job no more: if it holds it, it will not linger on it.
    pub(crate) fn end(&self, public_id: &str) -> Option<Held> {
        let mut held = self.held_jobs();
        let held = held.get_mut(public_id)?;
        held.ending = true;
        Some(held.clone())
    }

    /// Changes a held job, if it is still held under this fence.
    pub(crate) fn update(&self, public_id: &str, fence: Fence, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.held_jobs().get_mut(public_id).filter(|held| held.fence == fence) {
            change(held);
        }
    }

    /// Forgets a job held under this fence or an earlier one; its crawler may linger on it. Says what was known of it.
    pub(crate) fn let_go(&self, public_id: &str, fence: Fence) -> Option<Held> {
        let mut held = self.held_jobs();
        held.get(public_id).filter(|held| held.fence <= fence)?;
        let gone = held.remove(public_id)?;
        self.linger(public_id, &gone);
        Some(gone)
    }

    /// The same for all it holds. Gives their rows.
    pub(crate) fn let_go_of_all(&self) -> Vec<JobKey> {
        let mut held = self.held_jobs();
        let gone = held.drain();
        gone.map(|(public_id, held)| {
            self.linger(&public_id, &held);
            held.key
        })
        .collect()
    }

    /// Everything it holds at this moment.
    pub(crate) fn all_held(&self) -> Vec<(String, Held)> {
        let held = self.held_jobs();
        held.iter().map(|(id, held)| (id.clone(), held.clone())).collect()
    }

    /// The public id of a held job.
    pub(crate) fn name_of(&self, job: JobKey) -> Option<String> {
        let held = self.held_jobs();
        held.iter().find(|(_, held)| held.key == job).map(|(id, _)| id.clone())
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
            lingering: self.peer.lingering(),
            capabilities: self.capabilities.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::peer::{Outbound, SendError};

    struct Nowhere;

    impl Outbound for Nowhere {
        fn try_send(&self, _: Bytes) -> Result<(), SendError> {
            Err(SendError::Closed)
        }
    }

    fn session() -> Arc<Session> {
        let peer = Peer::new(1, None, Arc::new(Nowhere));
        Session::new(SessionKey(1), "legacy-1".into(), peer, Arc::new(Capabilities::any(2)))
    }

    fn held(fence: i64) -> Held {
        Held {
            key: JobKey(1),
            fence: Fence(fence),
            attempt: 0,
            started: false,
            ending: false,
            credential: None,
        }
    }

    #[test]
    fn news_of_an_earlier_lease_do_not_touch_a_later_one() {
        let session = session();
        session.hold("a".to_owned(), held(3));
        session.update("a", Fence(1), |held| held.started = true);
        assert!(session.let_go("a", Fence(2)).is_none());
        assert!(!session.held("a").unwrap().started);
        session.update("a", Fence(3), |held| held.started = true);
        assert!(session.held("a").unwrap().started);
        let known = session
            .let_go("a", Fence(4))
            .expect("an end comes with the fence after it");
        assert_eq!(known.fence, Fence(3));
        assert!(session.let_go("a", Fence(4)).is_none());
        assert_eq!(session.held_count(), 0);
    }

    #[test]
    fn a_job_lingers_until_its_crawler_ends_it_or_holds_it_again() {
        let session = session();
        for (id, started) in [("ended", true), ("not begun", false), ("a", true), ("b", true)] {
            session.hold(id.to_owned(), Held { started, ..held(1) });
        }
        assert!(session.end("ended").is_some() && session.end("other").is_none());
        for id in ["ended", "not begun", "a", "b"] {
            assert!(session.works_on(id));
            session.let_go(id, Fence(2)).unwrap();
        }
        assert_eq!(session.info().lingering, ["a", "b"]);
        assert!(session.works_on("a") && !session.works_on("ended"));
        session.hold("a".to_owned(), held(3));
        assert!(session.peer.end_lingering("b") && !session.peer.end_lingering("b"));
        assert_eq!((session.info().lingering, session.held_count()), (vec![], 1));
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
