//! What is published. Nothing here is a wish: every event tells of something that is durable or was heard.

use std::sync::Arc;

use crawlwire_progress::view::ProgressView;
use crawlwire_progress::{Fact, JobKey};

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A job took an arrow. Committed.
    Job(Fact),
    /// A crawler said how far a job is. Heard; written within the flush interval.
    Progress {
        /// The job.
        job: JobKey,
        /// Its name outside.
        public_id: String,
        /// The report.
        progress: Arc<ProgressView>,
    },
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
