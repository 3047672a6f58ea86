//! The crawler's side: a client that keeps a connection, jobs that cannot be forgotten.
//!
//! | part | what it is |
//! |---|---|
//! | [`Client`] | a handle: how it goes, how many jobs, shutdown |
//! | [`ClientOptions`] | how it behaves, with a reason for every default |
//! | [`Jobs`], [`Job`], [`JobHandle`] | jobs as they come, and what can be said of each |
//! | [`Progress`], [`Completion`], [`Failure`] | what is said |
//! | [`StopReason`] | why a job should stop |
//! | [`ConnectError`], [`Closed`], [`ReportError`], [`RefreshError`] | what can go wrong, by what one was doing |
//!
//! ```no_run
//! use crawlwire_transport::client::{Client, ClientOptions};
//!
//! # async fn crawl() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint = "unix:///run/crawlwire/crawler.sock".parse()?;
//! let (client, mut jobs) = Client::connect(endpoint, ClientOptions::new("my-crawler").slots(4)).await?;
//! while let Some(job) = jobs.next().await {
//!     tokio::spawn(async move {
//!         job.progress(0.5);
//!         job.complete("nothing to do").await
//!     });
//! }
//! println!("{}", client.closed().await);
//! # Ok(())
//! # }
//! ```
//!
//! One task owns the socket. What is said lastingly is numbered, kept byte for byte and sent again over any number of
//! connections until the server has settled it. A server that does not know sessions is spoken to in the base protocol,
//! by the same code of the author: then nothing is acknowledged, and nobody is told to cancel.

mod backoff;
mod connector;
mod error;
mod greet;
mod hear;
mod held;
mod instance;
mod job;
mod jobs;
mod link;
mod live;
mod options;
mod outbox;
#[cfg(feature = "zstd")]
mod packing;
mod report;
mod say;
mod shared;
mod state;
mod task;
mod words;

use std::io;
use std::time::Duration;

use crawlwire_protocol::Dialect;
use tokio::sync::oneshot;
use tokio::time::Instant;

#[doc(hidden)]
pub use connector::{AnyStream, BoxedStream, Connector, Dialling, SocketConnector};
pub use error::{CheckpointError, Closed, ConnectError, RefreshError, Refusal, ReportError};
pub use held::StopReason;
pub use instance::InstanceError;
pub use job::{Job, JobHandle, Kept};
pub use jobs::Jobs;
pub use options::{ClientOptions, SLOTS_MAX, WhenStopping};
pub use report::{Completion, Failure, Progress};

use self::backoff::Backoff;
use self::instance::Instance;
use self::shared::{Shared, User};
use self::task::Task;
use crate::Endpoint;
use crate::jitter::Jitter;

/// No wait that a server or an option names is longer: beyond a day it is a mistake, and the clock must not overflow.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// A handle to a client. Cheap to clone.
///
/// When every handle and the [`Jobs`] are gone, the client shuts down by itself with the deadline of
/// [`ClientOptions::shutdown_deadline`], as long as its runtime lives.
#[derive(Debug, Clone)]
pub struct Client {
    user: User,
}

/// How a client is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientStats {
    /// The dialect of the present or the last connection; `None` before the first.
    pub dialect: Option<Dialect>,
    /// Whether there is a connection now.
    pub is_connected: bool,
    /// Connections so far, the first one included.
    pub connections: u64,
    /// The server's name of the present or the last session, for its logs.
    pub session_id: Option<String>,
    /// Jobs in hand: taken, waiting to be taken, or ended and not settled.
    pub jobs: usize,
    /// Jobs that were taken away.
    pub lost_jobs: u64,
    /// Jobs that went back without an end of the author's.
    pub given_back: u64,
    /// Lasting messages that wait to be settled.
    pub outbox_messages: usize,
    /// Their bytes.
    pub outbox_bytes: usize,
    /// Lasting messages that the server has settled well; without acknowledgements, that were written.
    pub acked: u64,
    /// Lasting messages that the server has refused for good.
    pub refused: u64,
    /// Lasting messages sent once more, after a reconnect or because the server asked.
    pub resent: u64,
}

/// How a shutdown went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Why the client ended.
    pub closed: Closed,
    /// Jobs that had not ended by the deadline, and others that went back without an end of the author's.
    pub given_back: u64,
    /// Lasting messages that were left without an answer.
    pub unsettled: usize,
}

impl Client {
    /// Connects to a server, and goes on trying for [`ClientOptions::connect_timeout`].
    ///
    /// # Errors
    /// [`ConnectError`]
    ///
    /// # Cancel safety
    /// A dropped call ends what it had begun.
    pub async fn connect(endpoint: Endpoint, options: ClientOptions) -> Result<(Self, Jobs), ConnectError> {
        options.check()?;
        if options.token.is_some() && !options.connector.is_private(&endpoint) {
            return Err(ConnectError::TokenNeedsPrivacy);
        }
        let instance = open_instance(&options).await?;
        let jitter = Jitter::seeded(options.jitter_seed.unwrap_or_else(Jitter::seed));
        let backoff = Backoff::new(options.backoff.0, options.backoff.1, jitter);
        let patience = options.connect_timeout.min(LONGEST_WAIT);
        let shared = Shared::new(options);
        let client = Self {
            user: User::new(shared),
        };
        let jobs = Jobs::new(client.user.clone());
        let (ready, connected) = oneshot::channel();
        let task = Task::new(client.user.clone_shared(), endpoint, instance, backoff, ready);
        tokio::spawn(task.run());
        match tokio::time::timeout(patience, connected).await {
            Ok(Ok(connected)) => connected.map(|()| (client, jobs)),
            // The task is gone without a word, as with its runtime.
            Ok(Err(_)) => Err(ConnectError::Refused(Refusal::new(
                "closed",
                &client.closed().await.to_string(),
            ))),
            Err(_) => {
                let trouble = client.user.state().trouble.take();
                Err(ConnectError::Unreachable(match trouble {
                    Some(trouble) => io::Error::other(trouble),
                    None => io::ErrorKind::TimedOut.into(),
                }))
            }
        }
    }

    /// From now on up to this many jobs at a time, [`SLOTS_MAX`] at most. Jobs in your hands stay there.
    pub fn set_slots(&self, slots: u16) {
        self.user.state().set_slots(slots.min(SLOTS_MAX));
        self.user.changed();
    }

    /// How it goes.
    pub fn stats(&self) -> ClientStats {
        let state = self.user.state();
        let counters = state.counters.clone();
        ClientStats {
            dialect: state.dialect,
            is_connected: state.live.is_some(),
            connections: counters.connections,
            session_id: counters.session_id,
            jobs: state.held.len(),
            lost_jobs: counters.lost_jobs,
            given_back: counters.given_back,
            outbox_messages: state.outbox.len(),
            outbox_bytes: state.outbox.bytes(),
            acked: counters.acked,
            refused: counters.refused,
            resent: counters.resent,
        }
    }

    /// Waits until no job is in hand and the server has settled everything. Cancel safe.
    pub async fn idle(&self) {
        self.user.idle().await;
    }

    /// Leaves in good order: takes no more jobs, has those in hand stop (or finish, as
    /// [`ClientOptions::when_stopping`] says), waits for their ends and for the server to settle everything, and says
    /// goodbye. Jobs that have not ended by the deadline are given back.
    ///
    /// # Cancel safety
    /// A dropped call does not stop the shutdown.
    pub async fn shutdown(&self, deadline: Duration) -> Stopped {
        self.user.state().stop(Instant::now() + deadline.min(LONGEST_WAIT));
        self.user.changed();
        let closed = self.closed().await;
        let state = self.user.state();
        Stopped {
            closed,
            given_back: state.counters.given_back,
            unsettled: state.unsettled,
        }
    }

    /// Waits until the client has ended, and says why. Cancel safe.
    pub async fn closed(&self) -> Closed {
        self.user.closed().await
    }
}

async fn open_instance(options: &ClientOptions) -> Result<Instance, ConnectError> {
    if let Some(id) = options.instance {
        return Ok(Instance::named(id));
    }
    let Some(path) = options.instance_file.clone() else {
        return Ok(Instance::fresh());
    };
    let opened = tokio::task::spawn_blocking(move || Instance::kept(&path)).await;
    match opened {
        Ok(opened) => Ok(opened?),
        Err(error) => Err(ConnectError::Unreachable(io::Error::other(error))),
    }
}
