//! Which of its last numbers a session was refused.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0003_refusals",
    up: UP,
    down: DOWN,
};

/// What was refused before is not known any more.
const UP: &[&str] = &["ALTER TABLE sessions ADD COLUMN refused TEXT"];

const DOWN: &[&str] = &["ALTER TABLE sessions DROP COLUMN refused"];
