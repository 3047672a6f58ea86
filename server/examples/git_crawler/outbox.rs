//! What the server has to be told, kept until it can be.
//!
//! The base protocol has no acknowledgements: a line that was written may still be lost with a server that dies before
//! reading it. So everything about a job in hand is kept and, after a reconnect, said again: the server knows a repeated
//! start or discovery and ignores it, and hearing the job's name on the new connection gives the job back to us. Of
//! progress only the newest is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use crawlwire_protocol::{CrawlerMessage, Envelope, JobId, encode};
use tokio::time::Instant;

use crate::console;

/// How long the end of a job is remembered, to be said again should the connection break. Whatever a living server has
/// not read by then, it never will. A crash a little later costs a second run of the job.
const KEPT_AFTER_END: Duration = Duration::from_secs(5);

/// How much is put into the connection's buffer at once: enough for full writes, little to throw away.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;

/// Messages by job. Its size is bounded by the jobs in hand and by what each of them discovers.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    jobs: BTreeMap<JobId, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Lines that must arrive, oldest first, the end excepted.
    lines: Vec<Vec<u8>>,
    lines_sent: usize,
    progress: Option<Vec<u8>>,
    progress_sent: bool,
    end: Option<Vec<u8>>,
    end_sent: Option<Instant>,
}

impl Outbox {
    /// Takes a message of a job.
    pub(crate) fn add(&mut self, job: JobId, message: CrawlerMessage) {
        let envelope = Envelope::for_job(job, message);
        let line = match encode(&envelope) {
            Ok(line) => line,
            Err(error) => return console::warn(format_args!("a message cannot be written: {error}")),
        };
        let Some(job) = envelope.job_id else { return };
        let entry = self.jobs.entry(job).or_default();
        match envelope.message {
            CrawlerMessage::JobProgress(_) => {
                entry.progress = Some(line);
                entry.progress_sent = false;
            }
            CrawlerMessage::JobCompleted(_) | CrawlerMessage::JobFailed(_) => entry.end = Some(line),
            _ => entry.lines.push(line),
        }
    }

    /// Says the newest progress of a job again.
    pub(crate) fn repeat(&mut self, job: &JobId) {
        if let Some(entry) = self.jobs.get_mut(job) {
            entry.progress_sent = false;
        }
    }

    /// Forgets a job: it begins anew.
    pub(crate) fn forget(&mut self, job: &JobId) {
        self.jobs.remove(job);
    }

    /// The connection is a new one: nothing was said on it yet.
    pub(crate) fn start_over(&mut self) {
        for entry in self.jobs.values_mut() {
            entry.lines_sent = 0;
            entry.progress_sent = false;
            entry.end_sent = None;
        }
    }

    /// Moves lines into a connection's buffer while there is room.
    pub(crate) fn fill(&mut self, buffer: &mut Vec<u8>, now: Instant) {
        self.jobs.retain(|_, entry| {
            entry.fill(buffer, now);
            entry.end_sent.is_none_or(|sent| now - sent < KEPT_AFTER_END)
        });
    }

    /// Whether something waits to be written.
    pub(crate) fn is_waiting(&self) -> bool {
        self.jobs.values().any(Entry::is_waiting)
    }
}

impl Entry {
    fn is_waiting(&self) -> bool {
        let progress = self.progress.is_some() && !self.progress_sent;
        let end = self.end.is_some() && self.end_sent.is_none();
        self.lines_sent < self.lines.len() || progress || end
    }

    fn fill(&mut self, buffer: &mut Vec<u8>, now: Instant) {
        if self.end_sent.is_some() {
            return;
        }
        for line in &self.lines[self.lines_sent..] {
            if buffer.len() >= BUFFER_BYTES {
                return;
            }
            buffer.extend_from_slice(line);
            self.lines_sent += 1;
        }
        if buffer.len() >= BUFFER_BYTES {
            return;
        }
        if let Some(progress) = self.progress.as_ref().filter(|_| !self.progress_sent) {
            buffer.extend_from_slice(progress);
            self.progress_sent = true;
        }
        if let Some(end) = &self.end {
            buffer.extend_from_slice(end);
            self.end_sent = Some(now);
        }
    }
}
