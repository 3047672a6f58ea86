//! The sending half of a connection: one task that owns it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::reader::peer_is_gone;
use crate::shared::{Queued, Shared, ending};
use crate::state::{CloseReason, Phase};

/// Messages are gathered into one write up to about this many bytes. 64 KiB is some two hundred
/// acknowledgements and a good part of a socket's buffer; more would gain little per system call.
const COALESCE_BYTES: usize = 64 * 1024;

/// Owns the sending half. Drive it with [`Writer::run`].
#[derive(Debug)]
pub struct Writer<S> {
    stream: WriteHalf<S>,
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
    output: Pending,
}

/// What is still to be written. Its drop is what makes a connection closed, whichever way the
/// writer ends: done, aborted or never run.
#[derive(Debug)]
struct Pending {
    queue: mpsc::Receiver<Queued>,
    /// Taken from the queue and not wholly written.
    batch: Vec<Queued>,
    /// The messages of a batch of more than one, joined.
    joined: BytesMut,
    shared: Arc<Shared>,
}

impl<S: AsyncWrite> Writer<S> {
    pub(crate) fn new(stream: WriteHalf<S>, queue: mpsc::Receiver<Queued>, shared: Arc<Shared>) -> Self {
        Self {
            stream,
            phase: shared.watch_phase(),
            output: Pending {
                queue,
                batch: Vec::new(),
                joined: BytesMut::new(),
                shared: Arc::clone(&shared),
            },
            shared,
        }
    }

    /// Writes what is queued until the connection is closed, joining what waits into one write.
    ///
    /// A write the peer does not take within `connection_timeout` closes the connection as
    /// [`CloseReason::SlowConsumer`]; its message may be cut in the middle, so nothing follows it.
    ///
    /// # Cancel safety
    /// Dropping this closes the connection with [`CloseReason::InternalError`], unless it was
    /// closing already; what is queued is lost and counted as undelivered.
    pub async fn run(mut self) {
        self.shared.opened();
        loop {
            let first = tokio::select! {
                biased;
                _ = ending(&mut self.phase) => break,
                first = self.output.queue.recv() => first,
            };
            // The sender lives in `shared`, so the queue ends only when we close it.
            let Some(first) = first else { break };
            self.output.gather(first);
            if let Err(reason) = self.write().await {
                // A message may be cut in the middle, so nothing may follow.
                self.shared.begin_close(reason, Duration::ZERO);
                self.end_stream().await;
                return;
            }
        }
        self.flush().await;
        self.end_stream().await;
    }

    /// Writes what was queued before closing began, while there is time.
    async fn flush(&mut self) {
        self.output.queue.close();
        while let Some(first) = self.output.queue.recv().await {
            self.output.gather(first);
            if self.write().await.is_err() {
                return;
            }
        }
    }

    async fn end_stream(&mut self) {
        let until = ending(&mut self.phase).await.until;
        // Polled at least once, which is all that a socket needs.
        let _ = timeout_at(until, self.stream.shutdown()).await;
    }

    /// Writes the batch within its deadline, or what is left of the grace once closing has begun.
    async fn write(&mut self) -> Result<(), CloseReason> {
        let started = Instant::now();
        let deadline = started + self.shared.limits.connection_timeout;
        self.shared.facts().write_since = Some(started);
        let bytes = self.output.bytes();
        let stream = &mut self.stream;
        let write = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        tokio::pin!(write);
        let written = tokio::select! {
            biased;
            done = &mut write => Some(done),
            () = tokio::time::sleep_until(deadline) => None,
            ending = ending(&mut self.phase) => {
                timeout_at(ending.until.min(deadline), write).await.ok()
            }
        };
        match written {
            None => Err(CloseReason::SlowConsumer),
            Some(Ok(())) => {
                self.output.written(started);
                Ok(())
            }
            Some(Err(error)) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &io::Error) -> CloseReason {
        tracing::debug!(connection = %self.shared.id, %error, "write failed");
        if peer_is_gone(error) {
            CloseReason::PeerClosed
        } else {
            CloseReason::IoError
        }
    }
}

impl Pending {
    /// Takes what waits, up to the size of one write, after `first`.
    fn gather(&mut self, first: Queued) {
        let mut bytes = first.line.len();
        self.batch.push(first);
        while bytes < COALESCE_BYTES
            && let Ok(next) = self.queue.try_recv()
        {
            bytes += next.line.len();
            self.batch.push(next);
        }
    }

    fn bytes(&mut self) -> &[u8] {
        if let [only] = &self.batch[..] {
            return &only.line;
        }
        for queued in &self.batch {
            self.joined.extend_from_slice(&queued.line);
        }
        &self.joined
    }

    /// The batch has been written; frees its share of the budget.
    fn written(&mut self, started: Instant) {
        let now = Instant::now();
        let bytes: usize = self.batch.iter().map(|queued| queued.line.len()).sum();
        let mut facts = self.shared.facts();
        facts.write_since = None;
        facts.last_write = Some((now, now - started));
        facts.last_activity = Some(now);
        facts.traffic.messages_sent += self.batch.len() as u64;
        facts.traffic.bytes_sent += bytes as u64;
        drop(facts);
        self.batch.clear();
        self.joined.clear();
        if self.joined.capacity() > 2 * COALESCE_BYTES {
            // The last of a batch may have been huge; do not keep its room for good.
            self.joined = BytesMut::new();
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.queue.close();
        let undelivered = self.batch.len() + self.queue.len();
        self.shared.closed(undelivered as u64);
    }
}
