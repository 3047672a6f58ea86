//! Keys by which a submission that is repeated is known.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0008_idempotency",
    up: UP,
    down: DOWN,
};

/// A part of the job, so that a key lives as long as what it stands for. Neither column changes, so jobs that move do not touch
/// the index.
const UP: &[&str] = &[
    "ALTER TABLE jobs ADD COLUMN once_key TEXT",
    "ALTER TABLE jobs ADD COLUMN once_fingerprint {int}
        CONSTRAINT jobs_once_key_has_a_fingerprint CHECK ((once_key IS NULL) = (once_fingerprint IS NULL))",
    "CREATE UNIQUE INDEX idx_jobs_once ON jobs (once_key) WHERE once_key IS NOT NULL",
];

/// A column goes before the one that its rule speaks of.
const DOWN: &[&str] = &[
    "DROP INDEX idx_jobs_once",
    "ALTER TABLE jobs DROP COLUMN once_fingerprint",
    "ALTER TABLE jobs DROP COLUMN once_key",
];
