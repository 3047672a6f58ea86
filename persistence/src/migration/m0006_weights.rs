//! What jobs are expected to be before they say so themselves.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0006_weights",
    up: UP,
    down: DOWN,
};

/// Jobs of before weigh nothing: nobody said at the time what was expected of them.
const UP: &[&str] = &[
    "ALTER TABLE jobs ADD COLUMN weight {int} NOT NULL DEFAULT 0",
    // Of a root and everything below it: what those weigh that weigh something, and how many they are.
    "ALTER TABLE jobs ADD COLUMN tree_weight {int} NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN tree_weighed {int} NOT NULL DEFAULT 0
        CONSTRAINT jobs_weights_add_up CHECK
            (weight >= 0 AND tree_weighed BETWEEN 0 AND tree_jobs + 1 AND tree_weight >= tree_weighed)",
    // The same of the jobs of a tree that have reported.
    "ALTER TABLE tree_progress ADD COLUMN weight_reported {int} NOT NULL DEFAULT 0",
    "ALTER TABLE tree_progress ADD COLUMN weighed_reported {int} NOT NULL DEFAULT 0
        CONSTRAINT tree_progress_weights_add_up CHECK
            (weighed_reported BETWEEN 0 AND jobs_reported AND weight_reported >= weighed_reported)",
];

/// A column goes before the one that its rule speaks of.
const DOWN: &[&str] = &[
    "ALTER TABLE tree_progress DROP COLUMN weighed_reported",
    "ALTER TABLE tree_progress DROP COLUMN weight_reported",
    "ALTER TABLE jobs DROP COLUMN tree_weighed",
    "ALTER TABLE jobs DROP COLUMN tree_weight",
    "ALTER TABLE jobs DROP COLUMN weight",
];
