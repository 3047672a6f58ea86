//! How a client behaves, with a reason for every default.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crawlwire_protocol::AccessToken;
use crawlwire_protocol::message::JobType;

use super::connector::{Connector, SocketConnector};
use super::error::ConnectError;
use crate::TlsClient;

/// The most jobs at a time that can be asked for (the protocol's own bound).
pub const SLOTS_MAX: u16 = 1024;

/// Bytes of a name on the wire, as the protocol bounds them.
const NAME_BYTES_MAX: usize = 128;

/// Names in one list of the hello, as the protocol bounds them.
const NAMES_MAX: usize = 64;

/// What becomes of running jobs when the client is shut down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenStopping {
    /// They are told to stop at once, and have until the deadline to do so. The default.
    #[default]
    StopJobs,
    /// They may run to their end until the deadline, and are told only then.
    FinishJobs,
}

/// How a client behaves. Start with [`ClientOptions::new`] and change what should differ.
#[derive(Clone)]
pub struct ClientOptions {
    pub(super) crawler_id: String,
    pub(super) instance_file: Option<PathBuf>,
    pub(super) instance: Option<u128>,
    pub(super) job_types: Option<Vec<JobType>>,
    pub(super) hosts: Option<Vec<String>>,
    pub(super) slots: u16,
    pub(super) labels: Vec<String>,
    pub(super) software: Option<(String, Option<String>)>,
    pub(super) token: Option<AccessToken>,
    pub(super) connector: Arc<dyn Connector>,
    pub(super) outbox_messages: usize,
    pub(super) outbox_bytes: usize,
    pub(super) backoff: (Duration, Duration),
    pub(super) connect_timeout: Duration,
    pub(super) dial_timeout: Duration,
    pub(super) welcome_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) base_heartbeat: Duration,
    pub(super) base_progress: Duration,
    pub(super) base_patience: Duration,
    pub(super) max_line_bytes: usize,
    pub(super) compression: bool,
    pub(super) when_stopping: WhenStopping,
    pub(super) shutdown_deadline: Duration,
    pub(super) jitter_seed: Option<u64>,
}

/// A setter: `self` with one field replaced.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty => |$value:ident| $set:expr;)+) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $value: $type) -> Self {
            self.$name = $set;
            self
        })+
    };
}

impl ClientOptions {
    /// Defaults for a crawler of this name: one job at a time, of any type, from any host.
    ///
    /// `crawler_id` is a stable name for people, 1 to 128 bytes; several instances may share it.
    pub fn new(crawler_id: impl Into<String>) -> Self {
        Self {
            crawler_id: crawler_id.into(),
            instance_file: None,
            instance: None,
            job_types: None,
            hosts: None,
            slots: 1,
            labels: Vec::new(),
            software: None,
            token: None,
            connector: Arc::new(SocketConnector::default()),
            outbox_messages: 1024,
            outbox_bytes: 8 * 1024 * 1024,
            backoff: (Duration::from_millis(100), Duration::from_secs(15)),
            connect_timeout: Duration::from_secs(30),
            dial_timeout: Duration::from_secs(10),
            welcome_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(60),
            base_heartbeat: Duration::from_secs(10),
            base_progress: Duration::from_millis(500),
            base_patience: Duration::from_secs(5 * 60),
            max_line_bytes: crawlwire_protocol::limits::LINE_BYTES_MAX_DEFAULT,
            compression: true,
            when_stopping: WhenStopping::default(),
            shutdown_deadline: Duration::from_secs(30),
            jitter_seed: None,
        }
    }

    setters! {
        /// Jobs at a time, 0 to [`SLOTS_MAX`]. Default 1. Change it later with `Client::set_slots`.
        slots: u16 => |slots| slots;
        /// Labels that jobs may ask for, up to 64 of up to 128 bytes. Default none.
        labels: Vec<String> => |labels| labels;
        /// Messages that may wait to be settled by the server before whoever says more has to wait. Default 1,024:
        /// some seconds of a busy crawler. At least 1. The ends of jobs that were dropped never wait.
        outbox_messages: usize => |messages| messages;
        /// Bytes that may wait likewise. Default 8 MiB: eight messages of the largest size. A larger message passes
        /// when nothing else waits. 1 to 2^32-1.
        outbox_bytes: usize => |bytes| bytes;
        /// How long [`Client::connect`](super::Client::connect) goes on trying. Default 30 s: a server may start after
        /// its crawlers. Once connected, a client tries for ever.
        connect_timeout: Duration => |timeout| timeout;
        /// How long one attempt to dial may take, TLS included. Default 10 s.
        dial_timeout: Duration => |timeout| timeout;
        /// How long the server may take to answer the hello before it is taken for one that only knows the base
        /// protocol. Default 5 s, well above the two seconds after which a server takes a silent connection for one
        /// of the base protocol.
        welcome_timeout: Duration => |timeout| timeout;
        /// How long a token refresh may take, reconnects included, and how long the server may leave lasting messages
        /// unanswered before they are sent again. Default 60 s: a web app may have to be asked.
        request_timeout: Duration => |timeout| timeout;
        /// The heartbeat interval towards a server that only knows the base protocol, which cannot name one. Default
        /// 10 s: a third of the shortest timeout a server has by default.
        base_heartbeat: Duration => |interval| interval;
        /// Time between two progress messages of a job towards such a server. Default 500 ms.
        base_progress: Duration => |interval| interval;
        /// How long nothing may be heard of such a server while no job is in hand, before the connection is given up for
        /// another one, begun with a hello: the server may be gone without a word, or know sessions by now. Default 5
        /// minutes.
        base_patience: Duration => |patience| patience;
        /// The longest line accepted from the server, in bytes. A longer one is thrown away, with the assignment that it may
        /// be, until the next hello. Default 1 MiB (API reference, line 313). A server may send 1 MiB more than its own limit
        /// for lines; nearly all are below 1 KiB.
        max_line_bytes: usize => |bytes| bytes;
        /// Whether lines from the server may come compressed, where this crate has its feature `zstd`. Default true.
        compression: bool => |allowed| allowed;
        /// What becomes of running jobs at shutdown. Default: they are told to stop at once.
        when_stopping: WhenStopping => |what| what;
        /// The deadline of the shutdown that begins when every handle was dropped. Default 30 s.
        shutdown_deadline: Duration => |deadline| deadline;
    }

    /// Keeps the instance id in a file that no two crawlers can use at once, so that a crawler that is started again is
    /// the same instance: the server gives it back its jobs, in the same attempt. Without, each client is an instance
    /// of its own (a UUIDv7).
    #[must_use]
    pub fn instance_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.instance_file = Some(path.into());
        self
    }

    /// Only jobs of these types. Default all.
    #[must_use]
    pub fn job_types(mut self, types: impl IntoIterator<Item = JobType>) -> Self {
        self.job_types = Some(types.into_iter().collect());
        self
    }

    /// Only jobs for these hosts, up to 64. Default all.
    #[must_use]
    pub fn hosts(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.hosts = Some(hosts.into_iter().map(Into::into).collect());
        self
    }

    /// What this crawler is, for people: a name and perhaps a version.
    #[must_use]
    pub fn software(mut self, name: impl Into<String>, version: Option<&str>) -> Self {
        self.software = Some((name.into(), version.map(str::to_owned)));
        self
    }

    /// Proves to the server who this is. It is sent over TLS or a Unix socket only, and never shown.
    #[must_use]
    pub fn token(mut self, token: AccessToken) -> Self {
        self.token = Some(token);
        self
    }

    /// The shortest and the longest bound of the wait before dialling again; the wait itself is anything below the
    /// bound, which doubles with each failure. Default 100 ms to 15 s: the first tries come well within the five
    /// seconds for which a server keeps the jobs of a lost connection.
    #[must_use]
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = (min, max);
        self
    }

    /// Uses TLS over TCP. Unix sockets stay as they are.
    #[must_use]
    pub fn tls(self, tls: TlsClient) -> Self {
        self.connector(SocketConnector::with_tls(tls))
    }

    /// How to dial, instead of by sockets: for simulations and tests.
    #[doc(hidden)]
    #[must_use]
    pub fn connector(mut self, connector: impl Connector) -> Self {
        self.connector = Arc::new(connector);
        self
    }

    /// Names the instance, without a file: in a simulation nothing waits for a disk, and no name is made at random.
    #[doc(hidden)]
    #[must_use]
    pub fn instance(mut self, id: u128) -> Self {
        self.instance = Some(id);
        self
    }

    /// Makes the waits before dialling the same in every run.
    #[doc(hidden)]
    #[must_use]
    pub fn jitter_seed(mut self, seed: u64) -> Self {
        self.jitter_seed = Some(seed);
        self
    }

    pub(super) fn check(&self) -> Result<(), ConnectError> {
        let names = |names: &[String]| names.len() <= NAMES_MAX && names.iter().all(|name| is_name(name));
        let software = self.software.as_ref().is_none_or(|(name, version)| {
            is_name(name) && version.as_ref().is_none_or(|version| version.len() <= NAME_BYTES_MAX)
        });
        let rules = [
            ("crawler_id", is_name(&self.crawler_id), "1 to 128 bytes are needed"),
            ("slots", self.slots <= SLOTS_MAX, "more than 1024"),
            ("labels", names(&self.labels), "up to 64 of 1 to 128 bytes"),
            (
                "hosts",
                self.hosts.as_deref().is_none_or(names),
                "up to 64 of 1 to 128 bytes",
            ),
            ("software", software, "up to 128 bytes"),
            ("outbox_messages", self.outbox_messages > 0, "must not be 0"),
            (
                "outbox_bytes",
                (1..=u32::MAX as usize).contains(&self.outbox_bytes),
                "1 to 2^32-1",
            ),
            ("max_line_bytes", self.max_line_bytes > 0, "must not be 0"),
            ("base_heartbeat", !self.base_heartbeat.is_zero(), "must not be 0"),
            ("base_patience", !self.base_patience.is_zero(), "must not be 0"),
        ];
        match rules.into_iter().find(|(_, holds, _)| !holds) {
            Some((option, _, problem)) => Err(ConnectError::BadOption { option, problem }),
            None => Ok(()),
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("crawler_id", &self.crawler_id)
            .field("instance_file", &self.instance_file)
            .field("job_types", &self.job_types)
            .field("slots", &self.slots)
            .field("labels", &self.labels)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("connector", &self.connector)
            .finish_non_exhaustive()
    }
}
