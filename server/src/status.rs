//! Whether the server runs, and since when.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Shared by the server and what tells of it.
#[derive(Debug)]
pub(crate) struct Status {
    running: AtomicBool,
    since: Instant,
}

impl Status {
    /// Running, from now on.
    pub(crate) fn started() -> Self {
        Self {
            running: AtomicBool::new(true),
            since: Instant::now(),
        }
    }

    pub(crate) fn stop(&self) {
        self.running.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.since.elapsed()
    }
}
