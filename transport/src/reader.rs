//! The receiving half of a connection.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, ReadHalf};
use tokio::time::Instant;

use crate::budget::InFlight;
use crate::buffer::InputBuffer;
use crate::codec::{Line, LineCodec};
use crate::shared::Shared;
use crate::state::CloseReason;

/// Reads a connection's lines.
///
/// Dropping it closes the connection if nothing has closed it yet: with
/// [`CloseReason::PeerClosed`] after the stream has ended, so that answers still under way can be
/// queued until then, and else with [`CloseReason::InternalError`].
#[derive(Debug)]
pub struct LineReader<S> {
    stream: ReadHalf<S>,
    codec: LineCodec,
    buffer: InputBuffer,
    /// Cut, and waiting for room in the budget.
    ready: Option<Line>,
    shared: Arc<Shared>,
    /// `LineCodec::ended_lines` when the line that is under way began.
    lines_before: u64,
    /// Time spent waiting for the rest of that line.
    waited: Duration,
    /// Time spent waiting for the last words of a peer that no longer listens.
    lingered: Duration,
    /// The stream has ended.
    ended: bool,
}

/// Adds the time from its making to its end to a total, also when the waiting future is dropped.
struct Waiting<'a> {
    total: &'a mut Duration,
    since: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        *self.total += self.since.elapsed();
    }
}

impl<S: AsyncRead> LineReader<S> {
    pub(crate) fn new(stream: ReadHalf<S>, shared: Arc<Shared>) -> Self {
        Self {
            stream,
            codec: LineCodec::new(shared.limits.max_line_bytes),
            buffer: InputBuffer::new(shared.limits.read_buffer_bytes),
            ready: None,
            shared,
            lines_before: 0,
            waited: Duration::ZERO,
            lingered: Duration::ZERO,
            ended: false,
        }
    }

    /// The next line, for who does not count what is in flight.
    ///
    /// Otherwise as [`LineReader::recv_counted`], whose errors and cancel safety it shares.
    ///
    /// # Errors
    /// Why there will be no more lines.
    pub async fn recv(&mut self) -> Result<Line, CloseReason> {
        let (line, _processed) = self.recv_counted().await?;
        Ok(line)
    }

    /// The next line, and its share of the [`Budget`](crate::Budget), to be held until the line
    /// has been processed. While the budget has no room for the line, this waits.
    ///
    /// Not reading is how the layer above slows a peer down: nothing is read ahead of this call
    /// beyond one buffer. A line, once started, must complete within `partial_line_timeout`; time
    /// during which nobody waits here is not held against the peer, and neither is silence
    /// between lines, nor waiting for the budget.
    ///
    /// # Errors
    /// Why there will be no more lines; further calls return the same. After
    /// [`CloseReason::PeerClosed`] the peer may still be reading: the connection closes when this
    /// reader is dropped or the handle says so. With every other reason closing has begun.
    /// When the connection is closed from elsewhere, lines already received are handed out first
    /// as far as the budget has room for them, and if that is because writing found the peer gone,
    /// also what it had sent before (for at most `close_grace`).
    ///
    /// # Cancel safety
    /// A dropped call loses nothing.
    pub async fn recv_counted(&mut self) -> Result<(Line, InFlight), CloseReason> {
        loop {
            let bytes = match &self.ready {
                None => {
                    self.ready = Some(self.cut().await?);
                    continue;
                }
                Some(Line::Complete(line)) => line.len(),
                Some(Line::TooLong { .. } | Line::Unfinished { .. }) => 0,
            };
            let in_flight = match self.shared.limits.budget.try_admit(bytes) {
                Some(in_flight) => in_flight,
                None => self.admit(bytes).await?,
            };
            if let Some(line) = self.ready.take() {
                if let Line::Complete(_) = line {
                    self.shared.received.fetch_add(1, Ordering::Relaxed);
                }
                return Ok((line, in_flight));
            }
        }
    }

    async fn admit(&mut self, bytes: usize) -> Result<InFlight, CloseReason> {
        let linger = self.shared.limits.close_grace.saturating_sub(self.lingered);
        let closing = self.shared.phase().ending();
        let _linger = closing.map(|_| Waiting {
            total: &mut self.lingered,
            since: Instant::now(),
        });
        tokio::select! {
            biased;
            in_flight = self.shared.limits.budget.admit(bytes) => Ok(in_flight),
            reason = no_more(&self.shared, linger) => Err(reason),
        }
    }

    async fn cut(&mut self) -> Result<Line, CloseReason> {
        loop {
            let line = if self.ended {
                self.codec.end(&mut self.buffer.bytes)
            } else {
                self.codec.next_line(&mut self.buffer.bytes)
            };
            if let Some(line) = line {
                return Ok(line);
            }
            if self.ended {
                self.shared.facts().input = self.codec.stats();
                return Err(CloseReason::PeerClosed);
            }
            self.fill().await?;
        }
    }

    /// One read, or the reason why there will be none.
    async fn fill(&mut self) -> Result<(), CloseReason> {
        let mid_line = self.codec.is_mid_line(&self.buffer.bytes);
        let ended = self.codec.ended_lines();
        if ended != self.lines_before {
            self.lines_before = ended;
            self.waited = Duration::ZERO;
        }
        self.shared.facts().input = self.codec.stats();
        let left = (self.shared.limits.partial_line_timeout).saturating_sub(self.waited);
        // Both times are checked here and not only by timers: a read may never have to wait.
        if mid_line && left.is_zero() {
            return Err(self.late());
        }
        let closing = self.shared.phase().ending();
        let linger = self.shared.limits.close_grace.saturating_sub(self.lingered);
        if let Some(ending) = closing
            && linger.is_zero()
        {
            return Err(ending.reason);
        }
        let Self { buffer, stream, .. } = self;
        let reading = poll_fn(|cx| buffer.poll_fill(Pin::new(&mut *stream), cx));
        let now = Instant::now();
        let read = {
            let counted = |total| Waiting { total, since: now };
            let _line = mid_line.then(|| counted(&mut self.waited));
            let _linger = closing.map(|_| counted(&mut self.lingered));
            tokio::select! {
                biased;
                reason = no_more(&self.shared, linger) => return Err(reason),
                read = reading => Some(read),
                () = tokio::time::sleep_until(now + left), if mid_line => None,
            }
        };
        match read {
            None => Err(self.late()),
            Some(read) => self.took(read),
        }
    }

    fn took(&mut self, read: io::Result<usize>) -> Result<(), CloseReason> {
        match read {
            Ok(0) => self.ended = true,
            Ok(bytes) => {
                let mut facts = self.shared.facts();
                facts.traffic.bytes_received += bytes as u64;
                facts.last_activity = Some(Instant::now());
            }
            Err(error) => match why_failed(&error) {
                CloseReason::PeerClosed => self.ended = true,
                reason => {
                    tracing::debug!(connection = %self.shared.id, %error, "read failed");
                    self.shared.begin_close(reason, Duration::ZERO, None);
                    return Err(self.settled(reason));
                }
            },
        }
        Ok(())
    }

    /// The line under way has used up its time.
    fn late(&self) -> CloseReason {
        let reason = if self.lines_before > 0 {
            CloseReason::PartialLineTimeout
        } else {
            CloseReason::FirstLineTimeout
        };
        // Answers to earlier lines may still be queued, and the peer may be reading.
        self.shared.begin_close(reason, self.shared.limits.close_grace, None);
        self.settled(reason)
    }

    /// The reason that counts: somebody may have closed a moment before.
    fn settled(&self, ours: CloseReason) -> CloseReason {
        self.shared.phase().ending().map_or(ours, |e| e.reason)
    }
}

/// Resolves when nothing more is to be read although the stream may hold more. A peer that does
/// not listen any more is heard for `linger`: it may have sent its last words and died before ours
/// could be written.
async fn no_more(shared: &Shared, linger: Duration) -> CloseReason {
    let reason = shared.ending().await.reason;
    if reason == CloseReason::PeerClosed {
        tokio::time::sleep(linger).await;
    }
    reason
}

/// What an error of the stream means for the connection.
pub(crate) fn why_failed(error: &io::Error) -> CloseReason {
    use io::ErrorKind as K;
    match error.kind() {
        K::BrokenPipe | K::ConnectionReset | K::ConnectionAborted | K::NotConnected | K::UnexpectedEof => {
            CloseReason::PeerClosed
        }
        // Only the system's own probes end like this: see `Keepalive`.
        K::TimedOut | K::HostUnreachable | K::NetworkUnreachable => CloseReason::KeepaliveTimeout,
        _ => CloseReason::IoError,
    }
}

impl<S> Drop for LineReader<S> {
    fn drop(&mut self) {
        self.shared.facts().input = self.codec.stats();
        let reason = if self.ended {
            CloseReason::PeerClosed
        } else {
            CloseReason::InternalError
        };
        self.shared.begin_close(reason, self.shared.limits.close_grace, None);
    }
}
