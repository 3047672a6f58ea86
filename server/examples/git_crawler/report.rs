//! What a job says while it runs, and when it should stop.

use std::time::Duration;

use crawlwire_protocol::Count;
use crawlwire_protocol::message::{DiscoveredJob, DiscoverySummary, ProgressData};
use crawlwire_transport::client::{JobHandle, Kept, Progress, ReportError, StopReason};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::failure::{End, Failure};

/// Entities between two looks at the progress, and between two pauses of `--slow-ms`.
const PAUSE_EVERY: u64 = 100;

/// A killed crawler does this much again.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// What a job that went well leaves.
#[derive(Debug)]
pub(crate) struct Done {
    /// A sentence for people.
    pub(crate) summary: String,
    pub(crate) output_files: Vec<String>,
}

/// Entities of one kind.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) entity_type: &'static str,
    discovered: u64,
    pub(crate) processed: u64,
}

/// Speaks for one job. Lives on a blocking thread.
#[derive(Debug)]
pub(crate) struct Reporter {
    job: JobHandle,
    slow: Duration,
    runtime: Handle,
    counts: Vec<Tally>,
    since_pause: u64,
    /// The newest checkpoint, on its way. Others wait for it, the work does not.
    keeping: Option<JoinHandle<Result<Kept, ReportError>>>,
    kept_at: Instant,
    /// A checkpoint of this attempt is durable.
    is_kept: bool,
    /// The server keeps none.
    is_unsupported: bool,
}

impl Reporter {
    pub(crate) fn new(job: JobHandle, slow: Duration) -> Self {
        Self {
            job,
            slow,
            runtime: Handle::current(),
            counts: Vec::new(),
            since_pause: 0,
            keeping: None,
            kept_at: Instant::now(),
            is_kept: false,
            is_unsupported: false,
        }
    }

    /// Tells the job to end.
    pub(crate) fn stop(&self) -> &CancellationToken {
        self.job.cancelled()
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

    /// So many of them were done by an earlier attempt; `None` if all.
    pub(crate) fn go_on(&mut self, entity_type: &'static str, processed: Option<u64>) {
        let tally = self.tally(entity_type);
        tally.processed = processed.unwrap_or(tally.discovered);
        tally.discovered = tally.discovered.max(tally.processed);
        self.is_kept = true;
    }

    /// One more is done. The moment to end when told to.
    pub(crate) fn step(&mut self, entity_type: &'static str) -> Result<(), End> {
        self.count(entity_type);
        if self.stop().is_cancelled() {
            return Err(End::Stopped);
        }
        Ok(())
    }

    /// The same where a later attempt could go on. Now and then the place is kept, and always before a stop after which
    /// somebody may go on.
    pub(crate) fn step_at<P: Serialize + Send + Sync + 'static>(
        &mut self,
        entity_type: &'static str,
        place: impl FnOnce() -> Result<P, Failure>,
    ) -> Result<(), End> {
        let stopped = self.step(entity_type);
        if stopped.is_err() && self.may_come_back() {
            self.wait_for_checkpoint();
            self.checkpoint(place()?);
            self.wait_for_checkpoint();
        } else if stopped.is_ok() && self.checkpoint_is_due() {
            self.checkpoint(place()?);
        }
        stopped
    }

    fn may_come_back(&self) -> bool {
        let reason = self.job.stop_reason();
        !self.is_unsupported && matches!(reason, Some(StopReason::Pause | StopReason::Shutdown))
    }

    fn checkpoint_is_due(&mut self) -> bool {
        if self.is_unsupported || self.kept_at.elapsed() < CHECKPOINT_EVERY {
            return false;
        }
        if self.keeping.as_ref().is_some_and(|keeping| !keeping.is_finished()) {
            return false;
        }
        self.wait_for_checkpoint();
        !self.is_unsupported
    }

    fn checkpoint<P: Serialize + Send + Sync + 'static>(&mut self, place: P) {
        let job = self.job.clone();
        self.kept_at = Instant::now();
        self.keeping = Some(self.runtime.spawn(async move { job.checkpoint(&place).await }));
    }

    fn wait_for_checkpoint(&mut self) {
        let Some(keeping) = self.keeping.take() else { return };
        match self.runtime.block_on(keeping) {
            Ok(Ok(Kept::Durable)) => self.is_kept = true,
            Ok(Ok(Kept::Unsupported)) => self.is_unsupported = true,
            // A lost job is told to stop, and without this checkpoint there is an older one or none.
            Ok(Err(_)) | Err(_) => {}
        }
    }

    /// Whether somebody may go on from a checkpoint after this end, so that its files are still needed.
    pub(crate) fn may_go_on_after(&mut self, end: &End) -> bool {
        self.wait_for_checkpoint();
        self.is_kept
            && match end {
                End::Stopped => self.job.stop_reason() != Some(StopReason::Cancel),
                End::Failed(failure) => failure.recoverable,
            }
    }

    fn count(&mut self, entity_type: &'static str) {
        let tally = self.tally(entity_type);
        tally.processed += 1;
        // More came than were counted: somebody commits while we read.
        tally.discovered = tally.discovered.max(tally.processed);
        self.since_pause += 1;
        if self.since_pause >= PAUSE_EVERY {
            self.pause();
        }
    }

    /// Shows how far we are, and waits as long as `--slow-ms` says.
    pub(crate) fn pause(&mut self) {
        self.since_pause = 0;
        self.progress();
        if !self.slow.is_zero() {
            let pause = tokio::time::sleep(self.slow);
            self.runtime.block_on(self.stop().run_until_cancelled(pause));
        }
    }

    /// How many entities of a kind are done.
    pub(crate) fn processed(&self, entity_type: &str) -> u64 {
        self.found(entity_type).map_or(0, |tally| tally.processed)
    }

    fn found(&self, entity_type: &str) -> Option<&Tally> {
        self.counts.iter().find(|tally| tally.entity_type == entity_type)
    }

    /// Says how far the job is. The client keeps the pace.
    pub(crate) fn progress(&self) {
        // Entities done of entities known, all kinds together. While nothing is known it is 0.
        let sum = |of: fn(&Tally) -> u64| self.counts.iter().map(of).sum::<u64>() as f64;
        let (processed, discovered) = (sum(|tally| tally.processed), sum(|tally| tally.discovered));
        // A count ends at 2^63 - 1, far beyond what can be counted here.
        let count = |number| Count::try_from(number).unwrap_or_default();
        let data =
            |tally: &Tally| ProgressData::new(tally.entity_type, count(tally.discovered), count(tally.processed));
        let progress = Progress::new(processed / discovered.max(1.0));
        self.job.progress(progress.counts(self.counts.iter().map(data)));
    }

    /// Hands over found work. Each item becomes a job of its own, which any crawler may be given.
    pub(crate) fn discovered(&self, found: Vec<DiscoveredJob>, summary: DiscoverySummary) -> Result<(), End> {
        Ok(self.runtime.block_on(self.job.discovered(found, summary))?)
    }

    pub(crate) fn into_counts(self) -> Vec<Tally> {
        self.counts
    }
}
