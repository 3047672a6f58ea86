//! How far jobs and trees are, by our own count, and how attempts went.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0004_progress",
    up: UP,
    down: DOWN,
};

/// Reports of before have none of the new columns; they are not counted in their trees until the next one comes.
const UP: &[&str] = &[
    "ALTER TABLE job_progress ADD COLUMN completion {real}",
    "ALTER TABLE job_progress ADD COLUMN done {int}",
    "ALTER TABLE job_progress ADD COLUMN expected {int}
        CONSTRAINT job_progress_expects_what_is_done CHECK (done BETWEEN 0 AND expected)",
    "ALTER TABLE job_progress ADD COLUMN open_totals {bool}",
    "ALTER TABLE job_progress ADD COLUMN kept TEXT",
    // How an attempt went. Rarely written, and so not a part of what is written all the time.
    "CREATE TABLE job_history (
        job_id {int} NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
        attempt INTEGER NOT NULL,
        points TEXT NOT NULL,
        PRIMARY KEY (job_id, attempt)
    ){strict}",
    // What the reports of a tree add up to.
    "CREATE TABLE tree_progress (
        root_id {key} REFERENCES jobs (id) ON DELETE CASCADE,
        jobs_reported {int} NOT NULL,
        done {int} NOT NULL,
        expected {int} NOT NULL,
        open_jobs {int} NOT NULL,
        reached INTEGER NOT NULL,
        is_open {bool} NOT NULL,
        updated_at {int} NOT NULL,
        CONSTRAINT tree_progress_is_a_sum CHECK
            (jobs_reported >= 0 AND done BETWEEN 0 AND expected AND open_jobs BETWEEN 0 AND jobs_reported),
        CONSTRAINT tree_progress_reached_is_percent CHECK (reached BETWEEN 0 AND 100)
    ){strict}",
    // Trees that are looked at together. The number changes seldom, the sums all the time.
    "CREATE INDEX idx_tree_progress_open ON tree_progress (root_id) WHERE is_open",
];

/// A column goes before the one that its rule speaks of.
const DOWN: &[&str] = &[
    "DROP TABLE tree_progress",
    "DROP TABLE job_history",
    "ALTER TABLE job_progress DROP COLUMN kept",
    "ALTER TABLE job_progress DROP COLUMN open_totals",
    "ALTER TABLE job_progress DROP COLUMN expected",
    "ALTER TABLE job_progress DROP COLUMN done",
    "ALTER TABLE job_progress DROP COLUMN completion",
];
