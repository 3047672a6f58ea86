//! What is looked at through which server.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0005_watches",
    up: UP,
    down: DOWN,
};

/// A job by its public id, '' for all. No foreign key: what is looked at may be deleted meanwhile, and the row is over soon.
const UP: &[&str] = &["CREATE TABLE watches (
        server TEXT NOT NULL,
        job TEXT NOT NULL,
        until {int} NOT NULL,
        PRIMARY KEY (server, job)
    ){strict}"];

const DOWN: &[&str] = &["DROP TABLE watches"];
