//! What new jobs are expected to be: the history of their types, as it was last read.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crawlwire_progress::store::NewJob;
use crawlwire_progress::weight::Weights;
use crawlwire_protocol::message::DiscoveredJob;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;

/// Between two looks at the history. It changes slowly, and a look reads thousands of rows.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What is known of the types of jobs, one number for each. Read for each new job, which therefore waits for nobody.
#[derive(Debug, Default)]
pub(crate) struct KnownWeights(Mutex<Weights>);

impl KnownWeights {
    /// Gives a job that is to be created the weight of its type, unless it has one.
    pub(crate) fn weigh(&self, job: &mut NewJob) {
        if job.weight == 0 {
            job.weight = self.with(|weights| weights.of(job.spec.job_type));
        }
    }

    /// What a job is expected to be that would crawl this item.
    pub(crate) fn of_found(&self, item: &DiscoveredJob) -> u64 {
        self.with(|weights| weights.of_found(item))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Weights) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads the history at once, and then now and then. While it cannot be read, what was known stays.
pub(crate) async fn learn(shared: &Shared, stop: CancellationToken) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looks = async {
        loop {
            ticks.tick().await;
            match shared.store.type_history().await {
                Ok(history) => shared.weights.with(|weights| weights.learn(&history)),
                Err(error) => tracing::warn!(%error, "what new jobs are expected to be stays as it was"),
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = looks => {}
    }
}
