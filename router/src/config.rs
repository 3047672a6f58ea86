//! The router's numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use crawlwire_progress::Policy;
use crawlwire_progress::store::UNTOLD_MAX;
use crawlwire_progress::track::Thresholds;
use crawlwire_protocol::limits::LINE_BYTES_MAX_DEFAULT;
use crawlwire_protocol::message::{Feature, JobType};

use crate::limit::RateLimit;

/// The router's numbers.
#[derive(Debug, Clone)]
pub struct RouterConfig {
    /// The name of this server; the same after a restart.
    pub server: String,
    /// Jobs a base crawler is given at a time.
    pub slots_per_crawler: usize,
    /// Queued jobs that the dispatcher has in memory at a time.
    pub job_queue_size: usize,
    /// Between two sweeps.
    pub sweep_interval: Duration,
    /// Between two writes of progress; at most a second.
    pub flush_interval: Duration,
    /// The store's policy. A session silent for longer than its lease gets no work.
    pub policy: Policy,
    /// What is kept for how long.
    pub retention: Retention,
    /// What peers of the session dialect are told and asked.
    pub hello: HelloConfig,
    /// What a connection may say of one type. Held to by whoever owns the connection, see [`Peer::held_until`].
    ///
    /// [`Peer::held_until`]: crate::Peer::held_until
    pub rate_limit: RateLimit,
    /// When silence about a job means something.
    pub progress: ProgressConfig,
}

impl RouterConfig {
    /// From when on silence about a job of this type means something.
    pub(crate) fn thresholds(&self, job_type: JobType) -> Thresholds {
        let progress = &self.progress;
        let of_type = progress.stalled_after_by_type.get(&job_type);
        Thresholds {
            quiet_after: progress.quiet_after,
            stalled_after: of_type.copied().unwrap_or(progress.stalled_after),
            lost_after: self.policy.lease,
        }
    }
}

/// When silence about a job means something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressConfig {
    /// Without a word about a job, it is quiet.
    pub quiet_after: Duration,
    /// Without a step forward, it is stalled…
    pub stalled_after: Duration,
    /// … unless its type has a time of its own.
    pub stalled_after_by_type: BTreeMap<JobType, Duration>,
}

impl Default for ProgressConfig {
    fn default() -> Self {
        Self {
            quiet_after: Duration::from_secs(60),
            stalled_after: Duration::from_secs(300),
            stalled_after_by_type: BTreeMap::new(),
        }
    }
}

/// The terms of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloConfig {
    /// How often a peer shall send a heartbeat. One that is silent for as long is pinged.
    pub heartbeat_interval: Duration,
    /// One that is silent for as long is cut off.
    pub heartbeat_timeout: Duration,
    /// Bytes of the longest line, without its newline.
    pub max_message_bytes: u64,
    /// Lasting messages of one connection that wait for their commit; at most
    /// [`UNTOLD_MAX`].
    pub max_in_flight: u64,
    /// Bytes of them together.
    pub max_in_flight_bytes: u64,
    /// Whether a peer beyond this machine has to show a token. Then one of the base dialect, which has none, may say
    /// nothing there.
    pub tokens_required: bool,
    /// What is offered beyond the core.
    pub features: Vec<Feature>,
    /// The shortest time between two reports about one job, as long as there are few jobs.
    pub progress_interval: Duration,
    /// The same where nobody watches the job, its parent or its tree. Not below `progress_interval`: a smaller one counts as
    /// that.
    pub unwatched_interval: Duration,
}

impl Default for HelloConfig {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(30),
            heartbeat_timeout: Duration::from_secs(90),
            max_message_bytes: LINE_BYTES_MAX_DEFAULT as u64,
            max_in_flight: UNTOLD_MAX.into(),
            max_in_flight_bytes: 1024 * 1024,
            tokens_required: true,
            features: vec![Feature::Cancel, Feature::Checkpoint],
            progress_interval: Duration::from_secs(1),
            unwatched_interval: Duration::ZERO,
        }
    }
}

/// How long things are kept that are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Between two looks at what may go.
    pub interval: Duration,
    /// Since a job and everything below it was over.
    pub max_job_age: Duration,
    /// Since an error was logged.
    pub max_error_age: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            interval: Duration::from_secs(3600),
            max_job_age: DAY * 7,
            max_error_age: DAY * 30,
        }
    }
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            server: "crawlwire".to_owned(),
            slots_per_crawler: 5,
            job_queue_size: 100,
            sweep_interval: Duration::from_secs(1),
            flush_interval: Duration::from_millis(500),
            policy: Policy::default(),
            retention: Retention::default(),
            hello: HelloConfig::default(),
            rate_limit: RateLimit::default(),
            progress: ProgressConfig::default(),
        }
    }
}
