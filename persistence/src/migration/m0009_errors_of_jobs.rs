//! The errors of a job, by themselves.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0009_errors_of_jobs",
    up: UP,
    down: DOWN,
};

/// Errors are rarely written, and most of them concern no job.
const UP: &[&str] = &["CREATE INDEX idx_errors_job ON errors (job, id) WHERE job IS NOT NULL"];

const DOWN: &[&str] = &["DROP INDEX idx_errors_job"];
