//! Sessions that outlast their connections, what they have said, how far jobs got, and who may speak.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0002_sessions",
    up: UP,
    down: DOWN,
};

/// Sessions of before are no instances, and stay what they are.
const UP: &[&str] = &[
    "ALTER TABLE sessions ADD COLUMN epoch {int} NOT NULL DEFAULT 1",
    "ALTER TABLE sessions ADD COLUMN high_water {int} NOT NULL DEFAULT 0",
    "ALTER TABLE sessions ADD COLUMN high_water_fingerprint {int} NOT NULL DEFAULT 0",
    "ALTER TABLE sessions ADD COLUMN instance_id TEXT",
    "ALTER TABLE sessions ADD COLUMN crawler_id TEXT
        CONSTRAINT sessions_crawler_of_an_instance CHECK ((crawler_id IS NULL) = (instance_id IS NULL))",
    "ALTER TABLE sessions ADD COLUMN principal TEXT
        CONSTRAINT sessions_principal_of_an_instance CHECK ((principal IS NULL) = (instance_id IS NULL))",
    // An instance has one session, whichever server it comes to.
    "CREATE UNIQUE INDEX idx_sessions_instance ON sessions (instance_id) WHERE instance_id IS NOT NULL",
    // Which sessions may be forgotten. Their keys do not tell any more: that of an instance may be old.
    "CREATE INDEX idx_sessions_lease ON sessions (lease_expires_at)",
    "CREATE TABLE job_checkpoints (
        job_id {key} REFERENCES jobs (id) ON DELETE CASCADE,
        attempt INTEGER NOT NULL,
        cursor TEXT NOT NULL,
        updated_at {int} NOT NULL
    ){strict}",
    "CREATE TABLE crawler_tokens (
        id {key},
        name TEXT NOT NULL UNIQUE,
        role TEXT NOT NULL,
        hash TEXT NOT NULL,
        created_at {int} NOT NULL,
        revoked_at {int},
        last_used_at {int}
    ){strict}",
];

/// A column goes before the one that its rule speaks of.
const DOWN: &[&str] = &[
    "DROP TABLE crawler_tokens",
    "DROP TABLE job_checkpoints",
    "DROP INDEX idx_sessions_lease",
    "DROP INDEX idx_sessions_instance",
    "ALTER TABLE sessions DROP COLUMN principal",
    "ALTER TABLE sessions DROP COLUMN crawler_id",
    "ALTER TABLE sessions DROP COLUMN instance_id",
    "ALTER TABLE sessions DROP COLUMN high_water_fingerprint",
    "ALTER TABLE sessions DROP COLUMN high_water",
    "ALTER TABLE sessions DROP COLUMN epoch",
];
