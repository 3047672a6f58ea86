//! Lines in.
//!
//! They are taken in order. A message that gave something to the store is in flight until the commit; meanwhile the next
//! one is taken, up to a bound. At the bound reading stops, and the peer feels it. Answers go out in the order of the
//! lines, and what has become durable by then is acknowledged with one line.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crawlwire_protocol::explain::{Violation, explain};
use crawlwire_protocol::message::{BrokenRule, ZSTD};
use crawlwire_protocol::{
    Category, Classify, CrawlerKind, CrawlerMessage, Decoded, Dialect, Message, Peeked, Severity, decode, fingerprint,
    peek,
};
use crawlwire_router::{Answered, Peer, Pending, Received, Refused, Router, code};
use crawlwire_transport::{CloseReason, ConnectionHandle, InFlight, Line, LineReader};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use tokio::io::AsyncRead;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::out::Out;
use super::packed::{self, Packing};
use super::{DIALECT, DRAIN_MAX, IN_FLIGHT_MAX, Rules, Service};

/// When the server stops, a connection is read until nothing has happened on it for this long, so that what a crawler
/// says in answer to the shutdown is not lost.
const QUIET: Duration = Duration::from_millis(100);

/// Lines of one connection that are taken before others have their turn: about a tenth of a millisecond.
const IN_A_ROW_MAX: u32 = 16;

/// Violations of one line that are logged. The first ones tell what is wrong.
const VIOLATIONS_LOGGED: usize = 5;

/// Characters of the log's text about one line.
const LOGGED_CHARS_MAX: usize = 500;

/// A line that was taken: what comes of it, and what it holds until then.
struct Taken {
    answered: Answered,
    bytes: usize,
    _share: InFlight,
}

/// What is to be done when nothing comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Close(CloseReason),
    /// Who did not say hello by now speaks the base protocol.
    Decide,
    /// Who said too much may go on.
    Read,
}

pub(super) struct Serving {
    router: Router,
    peer: Arc<Peer>,
    handle: ConnectionHandle,
    out: Arc<Out>,
    rules: Arc<Rules>,
    packing: Arc<Packing>,
    in_flight: FuturesOrdered<BoxFuture<'static, Taken>>,
    in_flight_bytes: usize,
    invalid: u32,
    opened: Instant,
    /// Whether a line came. Until then it has to within a time.
    spoke: bool,
    /// Whether the time for a hello is over.
    waited: bool,
    /// Whether the pool knows who the crawler is.
    named: bool,
}

impl Serving {
    pub(super) fn new(peer: Arc<Peer>, handle: ConnectionHandle, out: Arc<Out>, service: &Service) -> Self {
        Self {
            router: service.router.clone(),
            peer,
            handle,
            out,
            rules: service.rules.clone(),
            packing: service.packing.clone(),
            in_flight: FuturesOrdered::new(),
            in_flight_bytes: 0,
            invalid: 0,
            opened: Instant::now(),
            spoke: false,
            waited: false,
            named: false,
        }
    }

    /// Takes lines until the connection ends, or the server stops and the peer is quiet.
    ///
    /// A line that is being taken is never abandoned: only waiting for the next one is.
    pub(super) async fn until_closed<S: AsyncRead>(
        &mut self,
        reader: &mut LineReader<S>,
        drain: &CancellationToken,
    ) -> CloseReason {
        let mut drained_by = None;
        let mut taken = 0u32;
        loop {
            let (held, behind) = (self.held_until(), self.handle.is_behind());
            let room = self.in_flight.len() < IN_FLIGHT_MAX as usize
                && self.in_flight_bytes < self.rules.in_flight_bytes_max
                && held.is_none()
                && !behind;
            let next = match drained_by {
                None => self.due(),
                Some(end) if room => Some((
                    (Instant::now() + QUIET).min(end),
                    Due::Close(CloseReason::ServerShutdown),
                )),
                Some(end) => Some((end, Due::Close(CloseReason::ServerShutdown))),
            };
            let held = held.map(|until| (until, Due::Read));
            let next = next.into_iter().chain(held).min_by_key(|(at, _)| *at);
            let (at, due) = next.unwrap_or((self.opened, Due::Decide));
            // Boxed, and awaited outside: what is large about a connection is there only while something happens on it.
            let work: BoxFuture<'_, Option<CloseReason>> = tokio::select! {
                biased;
                () = drain.cancelled(), if drained_by.is_none() => {
                    drained_by = Some(Instant::now() + DRAIN_MAX);
                    continue;
                }
                Some(taken) = self.in_flight.next() => Box::pin(self.conclude(taken).map(|()| None)),
                () = sleep_until(at), if next.is_some() => match due {
                    Due::Close(reason) => return reason,
                    Due::Decide => {
                        self.decide_by_silence();
                        continue;
                    }
                    Due::Read => continue,
                },
                () = async { Box::pin(self.handle.caught_up()).await }, if behind => continue,
                line = reader.recv_counted(), if room => match line {
                    Ok((line, share)) => {
                        taken += 1;
                        Box::pin(self.take(line, share))
                    }
                    Err(reason) => return reason,
                },
            };
            if let Some(reason) = work.await {
                return reason;
            }
            if taken == IN_A_ROW_MAX {
                taken = 0;
                yield_now().await;
            }
        }
    }

    /// Until when the peer is not read because it said too much. When the connection is closing there is only what it had
    /// said by then.
    fn held_until(&self) -> Option<Instant> {
        self.peer.held_until().filter(|_| self.handle.close_reason().is_none())
    }

    /// What is to be done next if nothing comes, and when. A session that falls silent is the router's matter.
    fn due(&self) -> Option<(Instant, Due)> {
        let first_line_by = self.opened + self.rules.first_line_timeout;
        let hello_by = self.opened + self.rules.hello_timeout;
        match self.spoke {
            true => None,
            false if !self.waited && hello_by < first_line_by => Some((hello_by, Due::Decide)),
            false => Some((first_line_by, Due::Close(CloseReason::FirstLineTimeout))),
        }
    }

    /// What has begun to come is no silence: it is looked at when it is there.
    fn decide_by_silence(&mut self) {
        self.waited = true;
        if self.handle.info().traffic.bytes_received == 0 {
            self.decide(None);
        }
    }

    /// Waits until everything that was taken has had its effect, and answers it.
    pub(super) async fn settle(&mut self) {
        while let Some(taken) = self.in_flight.next().await {
            self.conclude(taken).await;
        }
    }

    /// Answers a line, and all after it that are ready, and acknowledges them together.
    async fn conclude(&mut self, first: Taken) {
        let mut next = Some(first);
        while let Some(taken) = next {
            self.in_flight_bytes -= taken.bytes;
            self.router.conclude(&self.peer, taken.answered).await;
            next = self.in_flight.next().now_or_never().flatten();
        }
        self.router.acknowledge(&self.peer).await;
        self.note_session();
        // Not before the welcome is out, which says that it was agreed on.
        if self.peer.has_feature(ZSTD) {
            self.out.pack();
        }
    }

    /// Decides for good which dialect is spoken, unless that was done before.
    fn decide(&self, first_type: Option<&str>) -> Dialect {
        let dialect = self.peer.decide(first_type);
        self.handle.set_metadata(DIALECT, dialect.as_str());
        dialect
    }

    /// Tells the pool who the crawler is once that is known.
    fn note_session(&mut self) {
        if self.named {
            return;
        }
        let Some(session) = self.peer.session() else { return };
        self.handle.set_crawler_id(&session.name);
        self.named = true;
    }

    /// Takes one line. Says why the connection must be closed, if it must.
    async fn take(&mut self, line: Line, share: InFlight) -> Option<CloseReason> {
        self.spoke = true;
        match line {
            Line::Complete(line) => self.take_complete(line, share).await,
            Line::TooLong { discarded_at_least } => {
                self.decide(None);
                let message = format!("a line of {discarded_at_least} bytes or more was thrown away");
                self.refuse(
                    None,
                    (Category::MessageValidation, code::LINE_TOO_LONG),
                    message,
                    Vec::new(),
                    share,
                )
                .await
            }
            Line::Unfinished { bytes } => {
                self.decide(None);
                let message = format!("the connection ended {bytes} bytes into a line");
                self.refuse(
                    None,
                    (Category::MessageParsing, code::UNFINISHED_LINE),
                    message,
                    Vec::new(),
                    share,
                )
                .await
            }
        }
    }

    async fn take_complete(&mut self, line: Bytes, share: InFlight) -> Option<CloseReason> {
        let dialect = match self.peer.dialect() {
            Some(dialect) => dialect,
            None => self.decide(peek(&line).type_name.as_deref()),
        };
        let mut line = line;
        let mut decoded = decode::<CrawlerMessage>(&line, dialect);
        let packed = decoded.as_ref().ok().and_then(packed::held_by);
        if let Some(packed) = packed.filter(|_| self.peer.has_feature(ZSTD)) {
            match self.packing.unpack(packed, self.rules.line_bytes_max) {
                Ok(plain) => {
                    decoded = decode(&plain, dialect);
                    line = plain;
                }
                Err(reason) => {
                    let kind = (Category::MessageValidation, code::INVALID_MESSAGE);
                    return self.refuse(None, kind, reason, Vec::new(), share).await;
                }
            }
        }
        match decoded {
            Ok(message) => {
                self.accept(message, &line, share).await;
                None
            }
            Err(error) => {
                let violations = explain::<CrawlerMessage>(&line, dialect);
                let kind = (error.category(), error.code());
                let text = spell(&violations);
                let reason = self.refuse(Some(&line), kind, text, violations, share).await;
                if is_http(&line) {
                    Some(CloseReason::WrongProtocol)
                } else {
                    reason
                }
            }
        }
    }

    async fn accept(&mut self, message: Decoded<CrawlerMessage>, line: &Bytes, share: InFlight) {
        let (heartbeat, marks) = match &message {
            Decoded::Known(envelope) => (envelope.message.kind() == CrawlerKind::Heartbeat, envelope.marks),
            Decoded::Custom(custom) => (false, custom.marks),
        };
        self.handle.note_valid_message(heartbeat);
        let received = Received {
            message,
            fingerprint: marks.seq.map(|_| fingerprint(line)),
        };
        let pending = self.router.call(&self.peer, received).await;
        self.note_session();
        self.push(pending, line.len(), share);
    }

    fn push(&mut self, pending: Pending, bytes: usize, share: InFlight) {
        self.in_flight_bytes += bytes;
        self.in_flight.push_back(Box::pin(async move {
            Taken {
                answered: pending.await,
                bytes,
                _share: share,
            }
        }));
    }

    /// Refuses a line; none where it is gone.
    async fn refuse(
        &mut self,
        line: Option<&Bytes>,
        (category, code): (Category, &'static str),
        message: String,
        violations: Vec<Violation>,
        share: InFlight,
    ) -> Option<CloseReason> {
        self.invalid += 1;
        self.handle.note_error(code);
        tracing::warn!(peer = self.peer.name(), code, message, "line refused");
        let peeked = line.map_or_else(Peeked::default, |line| peek(line));
        let refused = Refused {
            code,
            category,
            severity: Severity::Low,
            message,
            violations: violations.into_iter().map(BrokenRule::from).collect(),
        };
        let print = line.filter(|_| peeked.seq.is_some()).map(|line| fingerprint(line));
        let pending = self.router.refuse_line(&self.peer, &peeked, print, refused).await;
        self.push(pending, line.map_or(0, Bytes::len), share);
        (self.invalid >= self.rules.invalid_max).then(|| {
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
