//! What a job says while it runs.
//!
//! The server keeps the newest progress only, so it is sent a few times a second however fast the work is, and always
//! once more at the end.

use std::time::Duration;

use crawlwire_protocol::message::{
    DiscoveredJob, DiscoverySummary, JobCompleted, JobFailed, JobProgress, JobStarted, JobType, JobsDiscovered,
    ProgressData,
};
use crawlwire_protocol::{Count, CrawlerMessage, Fraction, JobId};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// At most five a second: quick enough for eyes, nothing for the server.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Entities between two pauses of `--slow-ms`.
const PAUSE_EVERY: u64 = 100;

/// The longest path that an operating system knows.
const NAME_BYTES_MAX: usize = 4096;

/// A message about a job, on its way to the connection.
pub(crate) type Said = (JobId, CrawlerMessage);

/// What a job that went well leaves.
#[derive(Debug)]
pub(crate) struct Done {
    /// A sentence for people.
    pub(crate) summary: String,
    pub(crate) output_files: Vec<String>,
}

/// How jobs reach the rest of the crawler, and how it reaches them.
#[derive(Debug, Clone)]
pub(crate) struct Reporting {
    pub(crate) to: mpsc::Sender<Said>,
    pub(crate) stop: CancellationToken,
    pub(crate) slow: Duration,
}

/// Speaks for one job. Lives on a blocking thread.
#[derive(Debug)]
pub(crate) struct Reporter {
    reporting: Reporting,
    job: JobId,
    job_type: JobType,
    started: Instant,
    progress_sent: Option<Instant>,
    counts: Vec<Tally>,
    since_pause: u64,
    ended: bool,
}

/// Entities of one kind.
#[derive(Debug)]
struct Tally {
    entity_type: &'static str,
    discovered: u64,
    processed: u64,
}

impl Reporter {
    /// Says that the job has started. The server takes back what is not started in time.
    pub(crate) fn start(reporting: Reporting, job: JobId, job_type: JobType, namespace_path: Option<String>) -> Self {
        let reporter = Self {
            reporting,
            job,
            job_type,
            started: Instant::now(),
            progress_sent: None,
            counts: Vec::new(),
            since_pause: 0,
            ended: false,
        };
        reporter.send(CrawlerMessage::JobStarted(JobStarted {
            job_type: job_type.to_string(),
            entity_type: None,
            // Ours are short; what somebody else submitted need not be sent back whole.
            namespace_path: namespace_path.filter(|path| path.len() <= NAME_BYTES_MAX),
            estimated_duration: None,
        }));
        reporter
    }

    /// Tells jobs to end.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.reporting.stop
    }

    fn tally(&mut self, entity_type: &'static str) -> &mut Tally {
        let found = self.counts.iter().position(|tally| tally.entity_type == entity_type);
        let index = found.unwrap_or_else(|| {
            self.counts.push(Tally {
                entity_type,
                discovered: 0,
                processed: 0,
            });
            self.counts.len() - 1
        });
        &mut self.counts[index]
    }

    /// So many entities of a kind are known to be there.
    pub(crate) fn expect(&mut self, entity_type: &'static str, discovered: u64) {
        self.tally(entity_type).discovered = discovered;
    }

    /// One more is done. The moment to end when told to.
    pub(crate) fn step(&mut self, entity_type: &'static str) -> Result<(), Failure> {
        let tally = self.tally(entity_type);
        tally.processed += 1;
        // More came than were counted: somebody commits while we read.
        tally.discovered = tally.discovered.max(tally.processed);
        self.since_pause += 1;
        if self.since_pause >= PAUSE_EVERY {
            self.pause();
        }
        let due = self.progress_sent.is_none_or(|sent| sent.elapsed() >= PROGRESS_EVERY);
        if due {
            self.progress();
        }
        if self.reporting.stop.is_cancelled() {
            return Err(Failure::stopped());
        }
        Ok(())
    }

    /// Waits as long as `--slow-ms` says, after showing how far we are.
    pub(crate) fn pause(&mut self) {
        self.since_pause = 0;
        let Reporting { stop, slow, .. } = &self.reporting;
        if slow.is_zero() {
            return;
        }
        let pause = stop.clone().run_until_cancelled_owned(tokio::time::sleep(*slow));
        self.progress();
        Handle::current().block_on(pause);
    }

    /// How many entities of a kind are done.
    pub(crate) fn processed(&self, entity_type: &str) -> u64 {
        let found = self.counts.iter().find(|tally| tally.entity_type == entity_type);
        found.map_or(0, |tally| tally.processed)
    }

    /// Says how far the job is.
    fn progress(&mut self) {
        self.progress_sent = Some(Instant::now());
        let elapsed = self.started.elapsed();
        let overall = self.overall();
        let remaining = (overall.get() > 0.0).then(|| elapsed.mul_f64((1.0 / overall.get() - 1.0).min(1e6)).into());
        self.send(CrawlerMessage::JobProgress(JobProgress {
            progress: self.counts(),
            overall_completion: overall,
            time_elapsed: elapsed.into(),
            estimated_time_remaining: remaining,
            job_type: Some(self.job_type.to_string()),
        }));
    }

    /// Entities done of entities known, all kinds together. While nothing is known it is 0.
    fn overall(&self) -> Fraction {
        let sum = |of: fn(&Tally) -> u64| self.counts.iter().map(of).sum::<u64>() as f64;
        let (processed, discovered) = (sum(|tally| tally.processed), sum(|tally| tally.discovered));
        Fraction::try_from(processed / discovered.max(1.0)).unwrap_or_default()
    }

    fn counts(&self) -> Vec<ProgressData> {
        // A count ends at 2^63 - 1, far beyond what can be counted here.
        let count = |number| Count::try_from(number).unwrap_or_default();
        let data =
            |tally: &Tally| ProgressData::new(tally.entity_type, count(tally.discovered), count(tally.processed));
        self.counts.iter().map(data).collect()
    }

    /// Hands over found work. Each item becomes a job of its own, which any crawler may be given.
    pub(crate) fn discovered(&self, discovered_jobs: Vec<DiscoveredJob>, discovery_summary: DiscoverySummary) {
        self.send(CrawlerMessage::JobsDiscovered(JobsDiscovered {
            discovered_jobs,
            discovery_summary,
        }));
    }

    /// Says how the job ended: its last words.
    pub(crate) fn finish(mut self, result: Result<Done, Failure>) {
        self.progress();
        match result {
            Ok(done) => self.complete(done),
            Err(failure) => self.fail(&failure),
        }
    }

    fn complete(&mut self, done: Done) {
        self.ended = true;
        self.send(CrawlerMessage::JobCompleted(JobCompleted {
            job_type: self.job_type.to_string(),
            final_counts: self.counts(),
            total_duration: self.started.elapsed().into(),
            output_files: done.output_files,
            summary: done.summary,
        }));
    }

    fn fail(&mut self, failure: &Failure) {
        self.ended = true;
        let counts = self.counts();
        self.send(CrawlerMessage::JobFailed(JobFailed {
            job_type: self.job_type.to_string(),
            error_context: failure.to_context(),
            partial_results: (!counts.is_empty()).then_some(counts),
            recovery_suggestion: failure.advice(),
        }));
    }

    /// Waits for room, so that a job never runs ahead of its connection by more than the channel holds.
    fn send(&self, message: CrawlerMessage) {
        // Nobody listens any more when the crawler has ended; then nothing is left to say.
        let _ = self.reporting.to.blocking_send((self.job.clone(), message));
    }
}

/// A job that panics still ends: the server should not have to wait for a lease to run out.
impl Drop for Reporter {
    fn drop(&mut self) {
        if !self.ended {
            self.fail(&Failure::panicked());
        }
    }
}
