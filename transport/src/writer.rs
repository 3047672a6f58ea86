//! The sending half of a connection: one task that owns it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::time::{Instant, timeout_at};

use crate::budget::Queued;
use crate::reader::why_failed;
use crate::shared::Shared;
use crate::state::CloseReason;

/// Messages are gathered into one write up to about this many bytes. 64 KiB is some two hundred
/// acknowledgements and a good part of a socket's buffer; more would gain little per system call.
const COALESCE_BYTES: usize = 64 * 1024;

/// Owns the sending half. Drive it with [`Writer::run`].
#[derive(Debug)]
pub struct Writer<S> {
    stream: WriteHalf<S>,
    shared: Arc<Shared>,
    output: Pending,
}

/// What is still to be written. Its drop is what makes a connection closed, whichever way the
/// writer ends: done, aborted or never run.
#[derive(Debug)]
struct Pending {
    /// Taken from the queue and not wholly written.
    batch: Vec<Queued>,
    /// The messages of a batch of more than one, joined.
    joined: BytesMut,
    shared: Arc<Shared>,
}

impl<S: AsyncWrite> Writer<S> {
    pub(crate) fn new(stream: WriteHalf<S>, shared: Arc<Shared>) -> Self {
        Self {
            stream,
            output: Pending {
                batch: Vec::new(),
                joined: BytesMut::new(),
                shared: Arc::clone(&shared),
            },
            shared,
        }
    }

    /// Writes what is queued until the connection is closed, joining what waits into one write.
    ///
    /// A write the peer does not take within `write_timeout` closes the connection as
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
                _ = self.shared.ending() => break,
                first = self.shared.queue.next() => first,
            };
            self.output.gather(first);
            if let Err(reason) = self.write().await {
                // A message may be cut in the middle, so nothing may follow.
                self.shared.begin_close(reason, Duration::ZERO, None);
                self.end_stream().await;
                return;
            }
            if self.shared.queue.len() == 0 {
                self.output.rest();
            }
        }
        self.flush().await;
        self.end_stream().await;
    }

    /// Writes what was queued before closing began, then the last words, while there is time.
    async fn flush(&mut self) {
        self.shared.queue.close();
        loop {
            self.shared.queue.gather(&mut self.output.batch, COALESCE_BYTES);
            if self.output.batch.is_empty() {
                break;
            }
            if self.write().await.is_err() {
                return;
            }
        }
        if let Some(last) = self.shared.take_last_words() {
            self.output.batch.push(Queued::last_words(last));
            // A failure has nothing left to spare.
            let _ = self.write().await;
        }
    }

    async fn end_stream(&mut self) {
        let until = self.shared.ending().await.until;
        // Polled at least once, which is all that a socket needs.
        let _ = timeout_at(until, self.stream.shutdown()).await;
    }

    /// Writes the batch within its deadline, or what is left of the grace once closing has begun.
    async fn write(&mut self) -> Result<(), CloseReason> {
        let started = Instant::now();
        let deadline = started + self.shared.limits.write_timeout;
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
            ending = self.shared.ending() => {
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
        why_failed(error)
    }
}

impl Pending {
    /// Takes what waits, up to the size of one write, after `first`.
    fn gather(&mut self, first: Queued) {
        self.batch.push(first);
        self.shared.queue.gather(&mut self.batch, COALESCE_BYTES);
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
        self.shared.queue.ease();
        self.joined.clear();
        if self.joined.capacity() > 2 * COALESCE_BYTES {
            // The last of a batch may have been huge; do not keep its room for good.
            self.joined = BytesMut::new();
        }
    }

    /// Nothing is to be written: gives back what the last batch needed.
    fn rest(&mut self) {
        self.batch = Vec::new();
        self.joined = BytesMut::new();
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let queue = &self.shared.queue;
        queue.close();
        let unsaid = usize::from(self.shared.take_last_words().is_some());
        let undelivered = self.batch.len() + queue.len() + unsaid;
        queue.clear();
        self.shared.closed(undelivered as u64);
    }
}
