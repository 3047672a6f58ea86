//! Connections: the way out to a peer, and what is known of it whatever session it is.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use crawlwire_progress::admit::Capabilities;
use crawlwire_protocol::{CrawlerKind, Dialect};
use tokio::time::Instant;

use crate::limit::Pace;
use crate::numbers::Numbers;
use crate::session::Session;

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

    /// Ends the connection; what was handed over before is still written, as far as the peer reads it soon. Never waits.
    /// May be called more than once: the first reason stands.
    fn close(&self, why: Closing) {
        let _ = why;
    }
}

/// Where a connection comes from, as far as that says who the peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The Unix socket.
    Unix {
        /// The user that the peer's process belongs to.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// TCP from this machine.
    TcpLoopback,
    /// TCP from anywhere else.
    Tcp {
        /// Whether it is encrypted.
        tls: bool,
    },
    /// This process.
    Memory,
}

macro_rules! closings {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, reconnect: $reconnect:literal;)*) => {
        /// Why the router ends a connection.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Closing { $($(#[$doc])* $variant,)* }

        impl Closing {
            /// Every one of them, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable name, on the wire and in logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether the crawler should come back by itself.
            pub const fn reconnect(self) -> bool {
                match self { $(Self::$variant => $reconnect,)* }
            }
        }
    };
}

closings! {
    /// A later connection speaks for the same instance.
    Replaced = "replaced", reconnect: false;
    /// Its token was taken back.
    TokenRevoked = "token_revoked", reconnect: false;
    /// It said goodbye.
    Goodbye = "goodbye", reconnect: false;
    /// Its greeting was not one.
    HelloRefused = "hello_refused", reconnect: false;
    /// Its greeting could not be answered, because the store is away.
    Unavailable = "unavailable", reconnect: true;
    /// It did not prove who it is.
    NotAuthenticated = "not_authenticated", reconnect: false;
    /// It was not heard for the whole heartbeat timeout.
    HeartbeatTimeout = "idle_timeout", reconnect: true;
    /// The store does not know its session any more.
    SessionLost = "session_lost", reconnect: true;
}

/// Messages of unknown types of one peer that are logged; the rest is only counted.
const UNKNOWN_TYPES_LOGGED: u64 = 20;

/// Lingering jobs that are remembered. Each had a slot before, so there are as many as slots, and a few that were taken
/// over; a crawler with more of them is busy whatever is remembered.
const LINGERING_MAX: usize = 1024;

/// One connection.
pub struct Peer {
    /// Its number, unique among all connections this server ever had.
    pub connection: u64,
    /// Who it is: the same text means the same process. None when that cannot be known.
    pub identity: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
    /// What it said that it can do; what the router takes a base crawler for when it said nothing.
    pub(crate) capabilities: Option<Arc<Capabilities>>,
    /// Whether it can be asked to end or pause a job, and says when it did.
    pub(crate) confirms: bool,
    outbound: Arc<dyn Outbound>,
    /// What it speaks, once its first line has come or failed to come.
    dialect: OnceLock<Dialect>,
    /// The instance that it greeted for.
    pub(crate) instance: OnceLock<String>,
    /// The numbers of its lasting messages.
    pub(crate) numbers: Numbers,
    /// How fast it speaks.
    pub(crate) pace: Pace,
    /// Whether it was told goodbye.
    parted: AtomicBool,
    /// Short sections only, never across an await.
    place: Mutex<Place>,
    /// Held while a session is opened, so that there is one at most.
    pub(crate) opening: tokio::sync::Mutex<()>,
    /// Jobs that were taken from the crawler without its knowledge, by public id: it still works on them, so their slots
    /// are not free. Belongs to the connection, which may outlive its session. Short sections only.
    lingering: Mutex<Arc<BTreeSet<String>>>,
    /// Messages of unknown types so far.
    unknown_types: AtomicU64,
}

/// Where a connection stands.
#[derive(Default)]
struct Place {
    session: Option<Arc<Session>>,
    /// It is gone, and becomes no session any more.
    closed: bool,
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
    /// A connection that has said nothing yet: a crawler of the base protocol, if it is one. The router decides how many
    /// jobs it is given at a time, and it cannot be asked to end or pause one.
    pub fn new(connection: u64, identity: Option<String>, outbound: Arc<dyn Outbound>) -> Arc<Self> {
        Self::from(connection, identity, Origin::Memory, outbound)
    }

    /// The same, from somewhere.
    pub fn from(connection: u64, identity: Option<String>, origin: Origin, outbound: Arc<dyn Outbound>) -> Arc<Self> {
        Self::made((connection, identity, origin), outbound, None, false)
    }

    /// A connection whose crawler said what it can do. `confirms` says whether it can be asked to end or pause a job.
    pub fn able(
        connection: u64,
        identity: Option<String>,
        outbound: Arc<dyn Outbound>,
        capabilities: Arc<Capabilities>,
        confirms: bool,
    ) -> Arc<Self> {
        let who = (connection, identity, Origin::Memory);
        Self::made(who, outbound, Some(capabilities), confirms)
    }

    fn made(
        (connection, identity, origin): (u64, Option<String>, Origin),
        outbound: Arc<dyn Outbound>,
        capabilities: Option<Arc<Capabilities>>,
        confirms: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            connection,
            identity,
            origin,
            capabilities,
            confirms,
            outbound,
            dialect: OnceLock::new(),
            instance: OnceLock::new(),
            numbers: Numbers::default(),
            pace: Pace::default(),
            parted: AtomicBool::new(false),
            place: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            lingering: Mutex::default(),
            unknown_types: AtomicU64::new(0),
        })
    }

    /// What it speaks; none as long as that is open.
    pub fn dialect(&self) -> Option<Dialect> {
        self.dialect.get().copied()
    }

    /// Decides what it speaks by the type of its first line, for good: a `hello` begins the session dialect, anything
    /// else the base dialect, and so does a peer that says nothing for too long. Later calls only tell.
    pub fn decide(&self, first_type: Option<&str>) -> Dialect {
        *self.dialect.get_or_init(|| match first_type {
            Some(name) if name == CrawlerKind::Hello.as_str() => Dialect::Session,
            _ => Dialect::Base,
        })
    }

    /// Whether it may be sent what only the session dialect knows.
    pub(crate) fn speaks_session(&self) -> bool {
        self.dialect() == Some(Dialect::Session)
    }

    /// Whether the peer and this server both have a feature of the session dialect.
    pub fn has_feature(&self, name: &str) -> bool {
        let session = self.session();
        session.is_some_and(|session| session.greeting.as_ref().is_some_and(|greeting| greeting.has(name)))
    }

    /// Until when it is not to be read, since it has said more than it may; none when it may go on. What it says all the
    /// same is handled, and makes it later.
    pub fn held_until(&self) -> Option<Instant> {
        self.pace.held_until()
    }

    /// Whether it was told goodbye.
    pub(crate) fn has_parted(&self) -> bool {
        self.parted.load(Ordering::Relaxed)
    }

    /// Whether it is to be told goodbye now, and not again.
    pub(crate) fn parts(&self) -> bool {
        !self.parted.swap(true, Ordering::Relaxed)
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session, once there is one.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.place().session.clone()
    }

    pub(crate) fn enter(&self, session: Arc<Session>) {
        self.place().session = Some(session);
    }

    /// It is this session no more; its next message opens another one.
    pub(crate) fn forget_session(&self, session: &Session) {
        let mut place = self.place();
        if place.session.as_ref().is_some_and(|known| known.key == session.key) {
            place.session = None;
        }
    }

    pub(crate) fn close(&self) {
        self.place().closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.place().closed
    }

    fn lingering_jobs(&self) -> MutexGuard<'_, Arc<BTreeSet<String>>> {
        self.lingering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Public ids of the jobs that were taken from it and that it still works on, sorted.
    pub fn lingering(&self) -> Vec<String> {
        self.lingering_jobs().iter().cloned().collect()
    }

    /// The same, shared; as it is now.
    pub(crate) fn lingering_now(&self) -> Arc<BTreeSet<String>> {
        self.lingering_jobs().clone()
    }

    pub(crate) fn linger(&self, public_id: &str) {
        let mut lingering = self.lingering_jobs();
        if lingering.len() < LINGERING_MAX {
            Arc::make_mut(&mut lingering).insert(public_id.to_owned());
        }
    }

    /// It works on the job no more, or holds it again. Says whether it lingered.
    pub(crate) fn end_lingering(&self, public_id: &str) -> bool {
        let mut lingering = self.lingering_jobs();
        lingering.contains(public_id) && Arc::make_mut(&mut lingering).remove(public_id)
    }

    /// Whether one more message of an unknown type is worth a line in the logs. They are legal, so a peer may send any
    /// number of them.
    pub(crate) fn may_log_unknown_type(&self) -> bool {
        self.unknown_types.fetch_add(1, Ordering::Relaxed) < UNKNOWN_TYPES_LOGGED
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
