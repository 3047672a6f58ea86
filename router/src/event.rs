//! What is published. Nothing here is a wish: every event tells of something that is durable or was heard.

use std::sync::Arc;

use crawlwire_progress::sums::TreeMilestone;
use crawlwire_progress::track::{EntityName, Milestone, NoEstimate, Phase, Range};
use crawlwire_progress::{Fact, JobKey, Timestamp};

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A job took an arrow. Committed.
    Job(Fact),
    /// A crawler said how far a job is. Heard; written within the flush interval. Who wants to know how far, asks
    /// [`Router::standing`](crate::Router::standing).
    Progress {
        /// The job.
        job: JobKey,
        /// Its name outside.
        public_id: String,
    },
    /// The work is at another stage.
    PhaseChanged {
        /// The job.
        job: JobKey,
        /// Its name outside.
        public_id: String,
        /// Where it was.
        from: Phase,
        /// Where it is.
        to: Phase,
    },
    /// A crawler spoke of a counter for the first time in this attempt.
    EntityDiscovered {
        /// The job.
        job: JobKey,
        /// Its name outside.
        public_id: String,
        /// The counter.
        entity: EntityName,
    },
    /// All of a counter is processed, and no more will come.
    EntityCompleted {
        /// The job.
        job: JobKey,
        /// Its name outside.
        public_id: String,
        /// The counter.
        entity: EntityName,
    },
    /// A job, or one of its counters, passed a part of the whole. Once in the life of the job.
    Milestone {
        /// The job.
        job: JobKey,
        /// Its name outside.
        public_id: String,
        /// Which.
        milestone: Milestone,
    },
    /// A tree passed a part of the whole. Once in its life. Committed.
    TreeMilestone(TreeMilestone),
    /// The crawler is there, and the work has not gone forward for long.
    Stalled {
        /// The job.
        job: JobKey,
        /// Its name outside.
        public_id: String,
    },
    /// The likely end of a job moved by more than a quarter of what remains, or cannot be told any more.
    EstimateUpdated {
        /// The job.
        job: JobKey,
        /// Its name outside.
        public_id: String,
        /// Time of work that remains, from `at` on.
        eta: Result<Range, NoEstimate>,
        /// When this was reckoned.
        at: Timestamp,
    },
    /// What all jobs are together is not what it was. At most once a second.
    AggregateChanged,
    /// A submitted job, or some of what is below it, is deleted. Committed.
    Deleted {
        /// The submitted job.
        root: JobKey,
        /// How many jobs this time; it takes several times if they are many.
        jobs: usize,
    },
    /// Trees that were over long ago are deleted. Committed.
    Pruned,
    /// Gates were closed or opened, or are closed in another way than before. Committed, perhaps by another server.
    GatesChanged,
    /// Errors are in the log that were not. Committed.
    ErrorsLogged,
    /// A peer became a session.
    SessionOpened {
        /// Its name.
        name: Arc<str>,
    },
    /// A session's connection is gone.
    SessionClosed {
        /// Its name.
        name: Arc<str>,
    },
}
