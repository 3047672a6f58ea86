//! One crawler's connection: the only place that knows both lines and the router.
//!
//! Lines are taken in order. A message that gave something to the store is in flight until the commit; meanwhile the next
//! one is taken, up to a bound. At the bound reading stops, and the peer feels it.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use crawlwire_protocol::explain::{Violation, explain};
use crawlwire_protocol::{Category, Classify, CrawlerKind, CrawlerMessage, Decoded, Message, decode};
use crawlwire_router::{Outbound, Processed, Router, SendError};
use crawlwire_transport::{
    CloseReason, Connection, ConnectionHandle, ConnectionId, Limits, Line, LineReader, Peer, Permit, Pool, Stream,
};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::CLOSE_GRACE;

/// Messages and bytes of one connection that wait for their commit. Enough to fill a batch of the writer, and little
/// enough that a crowd of connections cannot fill the memory.
const IN_FLIGHT_MAX: usize = 64;
const IN_FLIGHT_BYTES_MAX: usize = 1024 * 1024;

/// When the server stops, a connection is read until nothing has happened on it for this long, so that what a crawler
/// says in answer to the shutdown is not lost.
const QUIET: Duration = Duration::from_millis(100);

/// And no longer than this, however much it says.
pub(crate) const DRAIN_MAX: Duration = Duration::from_millis(1000);

/// Violations of one line that are logged. The first ones tell what is wrong.
const VIOLATIONS_LOGGED: usize = 5;

/// Characters of the log's text about one line.
const LOGGED_CHARS_MAX: usize = 500;

/// What connections share.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) router: Router,
    pub(crate) pool: Pool,
    pub(crate) limits: Limits,
    /// Invalid lines after which a connection is closed.
    pub(crate) invalid_max: u32,
    pub(crate) tasks: TaskTracker,
    /// The server stops: finish what is in flight.
    pub(crate) drain: CancellationToken,
}

/// The pool's name for a connection that the router knows by number.
pub(crate) fn connection_id(number: u64) -> ConnectionId {
    ConnectionId(number)
}

/// The way out, as the router sees it.
struct Out(ConnectionHandle);

impl Outbound for Out {
    fn try_send(&self, line: Bytes) -> Result<(), SendError> {
        self.0.try_send(line).map_err(|error| match error {
            crawlwire_transport::SendError::Full => SendError::Full,
            crawlwire_transport::SendError::Closed | crawlwire_transport::SendError::NotFound => SendError::Closed,
        })
    }
}

/// Names this run of this machine, since process numbers and start times come again on another, and after a reboot.
static BOOT: LazyLock<String> = LazyLock::new(|| {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
});

/// Who is at the other end: the same text for every connection of one process. None when the system cannot tell.
fn identity(peer: &Peer) -> Option<String> {
    match peer {
        Peer::Unix(unix) => Some(format!(
            "unix:{}:{}:{}:{}",
            *BOOT, unix.uid, unix.pid?, unix.process_start?
        )),
        Peer::Tcp(_) | Peer::Memory => None,
    }
}

impl Service {
    /// Serves one connection until it ends, in tasks of its own.
    pub(crate) fn spawn(&self, stream: Stream, peer: Peer, permit: Permit) {
        let Connection { handle, reader, writer } = Connection::open(stream, peer, permit.id(), self.limits.clone());
        self.pool.add(permit, handle.clone());
        self.tasks.spawn(writer.run());
        let service = self.clone();
        self.tasks.spawn(async move { service.serve(handle, reader).await });
    }

    async fn serve(self, handle: ConnectionHandle, mut reader: LineReader<Stream>) {
        let out = Arc::new(Out(handle.clone()));
        let peer = crawlwire_router::Peer::new(handle.id().0, identity(handle.peer()), out);
        tracing::debug!(connection = peer.connection, peer = %handle.peer(), "connected");
        let mut serving = Serving {
            router: self.router.clone(),
            peer,
            handle: handle.clone(),
            in_flight: FuturesOrdered::new(),
            in_flight_bytes: 0,
            invalid: 0,
            invalid_max: self.invalid_max,
            first_line_by: Some(Instant::now() + self.limits.connection_timeout),
        };
        let served = AssertUnwindSafe(serving.until_closed(&mut reader, &self.drain))
            .catch_unwind()
            .await;
        let reason = served.unwrap_or_else(|_| {
            tracing::error!(peer = serving.peer.name(), "serving a connection panicked");
            CloseReason::InternalError
        });
        // What was taken has its effect, whether or not the peer is still there.
        serving.settle().await;
        match reason {
            CloseReason::ServerShutdown => handle.close_within(reason, CLOSE_GRACE),
            _ => handle.close(reason),
        }
        self.router.disconnected(&serving.peer).await;
        let (connection, why) = (serving.peer.connection, reason.as_str());
        match reason {
            CloseReason::PeerClosed | CloseReason::ServerShutdown => {
                tracing::debug!(connection, reason = why, "disconnected");
            }
            _ => tracing::info!(connection, reason = why, "disconnected"),
        }
    }
}

struct Serving {
    router: Router,
    peer: Arc<crawlwire_router::Peer>,
    handle: ConnectionHandle,
    in_flight: FuturesOrdered<BoxFuture<'static, (Processed, usize)>>,
    in_flight_bytes: usize,
    invalid: u32,
    invalid_max: u32,
    /// Until a line came: when it has to. A peer that never says anything shall not keep its place.
    first_line_by: Option<Instant>,
}

impl Serving {
    /// Takes lines until the connection ends, or the server stops and the peer is quiet.
    ///
    /// A line that is being taken is never abandoned: only waiting for the next one is.
    async fn until_closed(&mut self, reader: &mut LineReader<Stream>, drain: &CancellationToken) -> CloseReason {
        let mut drained_by = None;
        loop {
            let room = self.in_flight.len() < IN_FLIGHT_MAX && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX;
            let (limit, late) = match drained_by {
                None => (self.first_line_by, CloseReason::FirstLineTimeout),
                Some(end) if room => (Some((Instant::now() + QUIET).min(end)), CloseReason::ServerShutdown),
                end => (end, CloseReason::ServerShutdown),
            };
            tokio::select! {
                () = drain.cancelled(), if drained_by.is_none() => drained_by = Some(Instant::now() + DRAIN_MAX),
                Some((_, bytes)) = self.in_flight.next() => self.in_flight_bytes -= bytes,
                () = sleep_until(limit.unwrap_or_else(Instant::now)), if limit.is_some() => return late,
                line = reader.recv(), if room => match line {
                    Ok(line) => {
                        if let Some(reason) = self.take(line).await {
                            return reason;
                        }
                    }
                    Err(reason) => return reason,
                },
            }
        }
    }

    async fn settle(&mut self) {
        while self.in_flight.next().await.is_some() {}
    }

    /// Takes one line. Says why the connection must be closed, if it must.
    async fn take(&mut self, line: Line) -> Option<CloseReason> {
        self.first_line_by = None;
        match line {
            Line::Complete(line) => match decode::<CrawlerMessage>(&line) {
                Ok(message) => {
                    self.accept(message, line.len()).await;
                    None
                }
                Err(error) => {
                    let violations = explain::<CrawlerMessage>(&line);
                    let reason = self.refuse(error.category(), error.code(), &spell(&violations));
                    if is_http(&line) {
                        Some(CloseReason::WrongProtocol)
                    } else {
                        reason
                    }
                }
            },
            Line::TooLong { discarded_at_least } => {
                let message = format!("a line of {discarded_at_least} bytes or more was thrown away");
                self.refuse(Category::MessageValidation, "line_too_long", &message)
            }
            Line::Unfinished { bytes } => {
                let message = format!("the connection ended {bytes} bytes into a line");
                self.refuse(Category::MessageParsing, "unfinished_line", &message)
            }
        }
    }

    async fn accept(&mut self, message: Decoded<CrawlerMessage>, bytes: usize) {
        let heartbeat =
            matches!(&message, Decoded::Known(envelope) if envelope.message.kind() == CrawlerKind::Heartbeat);
        self.handle.note_valid_message(heartbeat);
        let known = self.peer.session().is_some();
        let pending = self.router.call(&self.peer, message).await;
        if let (false, Some(session)) = (known, self.peer.session()) {
            self.handle.set_crawler_id(&session.name);
        }
        self.in_flight_bytes += bytes;
        self.in_flight
            .push_back(Box::pin(async move { (pending.await, bytes) }));
    }

    fn refuse(&mut self, category: Category, code: &'static str, message: &str) -> Option<CloseReason> {
        self.invalid += 1;
        self.handle.note_error(code);
        tracing::warn!(peer = self.peer.name(), code, message, "line refused");
        self.router
            .note_invalid_line(&self.peer, category, code, message.to_owned());
        (self.invalid >= self.invalid_max).then(|| {
            tracing::warn!(
                peer = self.peer.name(),
                invalid = self.invalid,
                "too many invalid lines, closing"
            );
            CloseReason::TooManyErrors
        })
    }
}

/// Whether a line is the first one of an HTTP request. A web page can make a browser send one to a TCP port of this
/// machine, with a body of its own choosing that must not be taken for a crawler's messages.
fn is_http(line: &[u8]) -> bool {
    line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0")
}

/// Places and rules for the log. Places may hold names that the peer chose, so they are cut and made printable.
fn spell(violations: &[Violation]) -> String {
    let told: Vec<_> = violations
        .iter()
        .take(VIOLATIONS_LOGGED)
        .map(|Violation { path, message }| {
            if path.is_empty() {
                message.clone()
            } else {
                format!("{path}: {message}")
            }
        })
        .collect();
    let text = told.join("; ");
    let mut printable: String = text
        .chars()
        .take(LOGGED_CHARS_MAX)
        .map(|character| {
            if character.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                character
            }
        })
        .collect();
    if violations.len() > VIOLATIONS_LOGGED {
        printable.push_str(&format!(" and {} more", violations.len() - VIOLATIONS_LOGGED));
    }
    printable
}
