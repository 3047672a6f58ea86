//! The receiving half of a connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, ReadHalf};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::codec::{Line, LineCodec};
use crate::shared::{Shared, ending};
use crate::state::{CloseReason, Phase};

/// Reads a connection's lines.
///
/// Dropping it closes the connection if nothing has closed it yet: with
/// [`CloseReason::PeerClosed`] after the stream has ended, so that answers still under way can be
/// queued until then, and else with [`CloseReason::InternalError`].
#[derive(Debug)]
pub struct LineReader<S> {
    stream: ReadHalf<S>,
    codec: LineCodec,
    buffer: BytesMut,
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
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
            buffer: BytesMut::new(),
            phase: shared.watch_phase(),
            shared,
            lines_before: 0,
            waited: Duration::ZERO,
            lingered: Duration::ZERO,
            ended: false,
        }
    }

    /// The next line.
    ///
    /// Not reading is how the layer above slows a peer down: nothing is read ahead of this call
    /// beyond one buffer. A line, once started, must complete within `connection_timeout`; time
    /// during which nobody waits here is not held against the peer, and neither is silence
    /// between lines.
    ///
    /// # Errors
    /// Why there will be no more lines; further calls return the same. After
    /// [`CloseReason::PeerClosed`] the peer may still be reading: the connection closes when this
    /// reader is dropped or the handle says so. With every other reason closing has begun.
    /// When the connection is closed from elsewhere, lines already received are handed out first,
    /// and if that is because writing found the peer gone, also what it had sent before (for at
    /// most `close_grace`).
    ///
    /// # Cancel safety
    /// A dropped call loses nothing.
    pub async fn recv(&mut self) -> Result<Line, CloseReason> {
        loop {
            let line = if self.ended {
                self.codec.end(&mut self.buffer)
            } else {
                self.codec.next_line(&mut self.buffer)
            };
            if let Some(line) = line {
                self.account(&line);
                return Ok(line);
            }
            if self.ended {
                self.shared.facts().input = self.codec.stats();
                return Err(CloseReason::PeerClosed);
            }
            self.fill().await?;
        }
    }

    fn account(&mut self, line: &Line) {
        let mut facts = self.shared.facts();
        facts.last_activity = Some(Instant::now());
        if let Line::Complete(_) = line {
            facts.traffic.messages_received += 1;
        }
    }

    /// One read, or the reason why there will be none.
    async fn fill(&mut self) -> Result<(), CloseReason> {
        let mid_line = self.codec.is_mid_line(&self.buffer);
        let ended = self.codec.ended_lines();
        if ended != self.lines_before {
            self.lines_before = ended;
            self.waited = Duration::ZERO;
        }
        self.shared.facts().input = self.codec.stats();
        let left = (self.shared.limits.connection_timeout).saturating_sub(self.waited);
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
        self.buffer.reserve(self.shared.limits.read_buffer_bytes.max(1));
        let now = Instant::now();
        let read = {
            let counted = |total| Waiting { total, since: now };
            let _line = mid_line.then(|| counted(&mut self.waited));
            let _linger = closing.map(|_| counted(&mut self.lingered));
            tokio::select! {
                biased;
                reason = no_more(&mut self.phase, linger) => return Err(reason),
                read = self.stream.read_buf(&mut self.buffer) => Some(read),
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
            Ok(bytes) => self.shared.facts().traffic.bytes_received += bytes as u64,
            Err(error) if peer_is_gone(&error) => self.ended = true,
            Err(error) => {
                tracing::debug!(connection = %self.shared.id, %error, "read failed");
                let reason = CloseReason::IoError;
                self.shared.begin_close(reason, Duration::ZERO);
                return Err(self.settled(reason));
            }
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
        self.shared.begin_close(reason, self.shared.limits.close_grace);
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
async fn no_more(phase: &mut watch::Receiver<Phase>, linger: Duration) -> CloseReason {
    let reason = ending(phase).await.reason;
    if reason == CloseReason::PeerClosed {
        tokio::time::sleep(linger).await;
    }
    reason
}

/// Whether an error only says that the peer went away.
pub(crate) fn peer_is_gone(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::BrokenPipe | K::ConnectionReset | K::ConnectionAborted | K::NotConnected | K::UnexpectedEof
    )
}

impl<S> Drop for LineReader<S> {
    fn drop(&mut self) {
        self.shared.facts().input = self.codec.stats();
        let reason = if self.ended {
            CloseReason::PeerClosed
        } else {
            CloseReason::InternalError
        };
        self.shared.begin_close(reason, self.shared.limits.close_grace);
    }
}
