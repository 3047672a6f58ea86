//! Sessions come and go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crawlwire_progress::store::{NewSession, Outcome, StoreError};
use crawlwire_progress::{Op, SessionKey};
use crawlwire_protocol::{Category, Severity};

use crate::event::Event;
use crate::outgoing::part;
use crate::peer::{Closing, Peer};
use crate::session::Session;
use crate::shared::Shared;
use crate::timers;

/// The sessions of this server. Bounded by the number of connections.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<SessionKey, Arc<Session>>>);

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection of a session. Gives the earlier one that it takes the place of.
    ///
    /// # Errors
    /// When a later one is there already.
    pub(crate) fn add(&self, session: Arc<Session>) -> Result<Option<Arc<Session>>, ()> {
        let mut sessions = self.lock();
        if sessions
            .get(&session.key)
            .is_some_and(|other| other.epoch > session.epoch)
        {
            return Err(());
        }
        Ok(sessions.insert(session.key, session))
    }

    /// Removes a connection of a session; a later one stays.
    pub(crate) fn remove(&self, session: &Session) {
        let mut sessions = self.lock();
        if sessions
            .get(&session.key)
            .is_some_and(|known| known.epoch == session.epoch)
        {
            sessions.remove(&session.key);
        }
    }

    /// Whether no later connection of the session came to this server.
    pub(crate) fn is_current(&self, session: &Session) -> bool {
        let sessions = self.lock();
        sessions
            .get(&session.key)
            .is_none_or(|known| known.epoch <= session.epoch)
    }

    pub(crate) fn get(&self, key: SessionKey) -> Option<Arc<Session>> {
        self.lock().get(&key).cloned()
    }

    /// Those whose connection stands, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        let mut sessions: Vec<_> = self.lock().values().cloned().collect();
        sessions.retain(|session| !session.is_leaving());
        sessions.sort_by_key(|session| session.key);
        sessions
    }

    /// Another session of the same process that the store may hold for connected; one that is leaving if there is one.
    pub(crate) fn twin(&self, session: &Session) -> Option<Arc<Session>> {
        let identity = session.peer.identity.as_ref()?;
        let twin = |other: &&Arc<Session>| other.key != session.key && other.peer.identity.as_ref() == Some(identity);
        let leaving = |session: &&Arc<Session>| session.is_leaving();
        self.lock().values().filter(twin).max_by_key(leaving).cloned()
    }
}

/// Who greeted last, of the connections of each instance on this server. Hellos are judged beside each other, and the one
/// of a connection that is dead already may come last; the youngest connection counts all the same. Bounded by the number
/// of connections.
#[derive(Debug, Default)]
pub(crate) struct Greeters(Mutex<HashMap<String, u64>>);

impl Greeters {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no younger connection has greeted for the instance. Then this one counts.
    pub(crate) fn admit(&self, instance: &str, connection: u64) -> bool {
        let mut greeters = self.lock();
        let youngest = greeters.entry(instance.to_owned()).or_insert(connection);
        *youngest = connection.max(*youngest);
        *youngest == connection
    }

    fn forget(&self, instance: &str, connection: u64) {
        let mut greeters = self.lock();
        if greeters.get(instance) == Some(&connection) {
            greeters.remove(instance);
        }
    }
}

/// The peer's session; opened when there is none.
pub(crate) async fn open(shared: &Shared, peer: &Arc<Peer>) -> Result<Arc<Session>, StoreError> {
    shared.recovered.wait().await;
    if let Some(session) = peer.session() {
        return Ok(session);
    }
    let _one = peer.opening.lock().await;
    if let Some(session) = peer.session() {
        return Ok(session);
    }
    if peer.is_closed() {
        return Err(StoreError::Closed);
    }
    let capabilities = peer.capabilities.clone().unwrap_or_else(|| shared.base.clone());
    let name: Arc<str> = format!("legacy-{}", peer.connection).into();
    let new = NewSession {
        name: name.clone(),
        identity: peer.identity.clone(),
        server: shared.config.server.clone(),
        capabilities: (*capabilities).clone(),
        confirms: peer.confirms,
        instance: None,
    };
    let Outcome::SessionOpened(opened) = shared.commit(Op::OpenSession(new)).await? else {
        return Err(StoreError::Broken("no session was opened".to_owned()));
    };
    let able = (capabilities, peer.confirms);
    let session = Session::new(opened.session, name.clone(), peer.clone(), able, None);
    peer.enter(session.clone());
    // Nobody else has this key: it was made for this session.
    let _ = shared.sessions.add(session.clone());
    tracing::info!(session = %name, identity = peer.identity, "session opened");
    shared.publish(Event::SessionOpened { name });
    shared.wake.notify_one();
    Ok(session)
}

/// A peer's connection is gone: its lease shortens to the reattach grace.
pub(crate) async fn close(shared: &Shared, peer: &Peer) {
    // Seen at once, even if a session of it is just being opened; that one is waited for, and closed too.
    if let Some(session) = peer.session() {
        session.leave();
    }
    let session = {
        let _one = peer.opening.lock().await;
        peer.close();
        peer.session()
    };
    if let Some(instance) = peer.instance.get() {
        shared.greeters.forget(instance, peer.connection);
    }
    let Some(session) = session else { return };
    session.leave();
    // Its last words were heard, and are to be kept before they are forgotten here.
    timers::flush_progress(shared).await;
    for job in session.let_go_of_all() {
        shared.live().forget(job);
    }
    tracing::info!(session = %session.name, "session's connection is gone");
    if shared.sessions.is_current(&session) {
        shared.publish(Event::SessionClosed {
            name: session.name.clone(),
        });
    }
    if let Err(error) = shared.commit(Op::Disconnect(session.reference())).await {
        tracing::warn!(%error, session = %session.name, "disconnect not written; the lease will run out by itself");
    }
    // Not before: a new connection of this process waits for this one as long as the store holds it for connected.
    session.left();
    shared.sessions.remove(&session);
}

/// The store holds a session for disconnected, or does not know it, or another connection speaks for it, and this
/// connection stands.
///
/// A crawler of the session dialect may have come to another server: then this connection is of no use any more. Else
/// something is wrong: another server goes by the name of this one, or somebody edited the rows. Then a crawler of the
/// session dialect comes back, and has what it had. One of the base dialect is a new session at its next message, at its
/// next heartbeat at the latest; what it still works on it may take over by naming it, if it can be known to be the same
/// process.
pub(crate) async fn lost(shared: &Shared, session: &Arc<Session>) {
    let peer = &session.peer;
    let replaced = peer.speaks_session() && speaks_elsewhere(shared, session).await;
    if !replaced {
        tracing::error!(session = %session.name, "the store does not hold this session for connected");
        let kind = (Category::Internal, Severity::High);
        let message = "the store lost the session of a connection that stands";
        shared.log_error(peer, kind, "session_lost", None, message);
    }
    session.leave();
    for job in session.let_go_of_all() {
        shared.live().forget(job);
    }
    if peer.speaks_session() {
        // It stays a session that is leaving, so that nothing it still says is taken for a greeting.
        let why = if replaced {
            Closing::Replaced
        } else {
            Closing::SessionLost
        };
        part(shared, peer, why).await;
    } else {
        peer.forget_session(session);
    }
    shared.publish(Event::SessionClosed {
        name: session.name.clone(),
    });
    session.left();
    shared.sessions.remove(session);
}

/// Sessions that are looked at to find out who speaks for one. It is among the newest.
const SESSIONS_MAX: usize = 10_000;

async fn speaks_elsewhere(shared: &Shared, session: &Session) -> bool {
    match shared.store.sessions(SESSIONS_MAX).await {
        Ok(views) => views
            .iter()
            .any(|view| view.key == session.key && view.epoch > session.epoch),
        Err(error) => {
            tracing::warn!(%error, "sessions not read");
            false
        }
    }
}
