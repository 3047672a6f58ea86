//! Crawlers of the session extension through thick and thin: the real client, the real server, and what may befall them.
//!
//! `CRAWLWIRE_CRASH_ROUNDS` says how often somebody is killed, `CRAWLWIRE_CRASH_SEED` repeats the choices of a run.

#![expect(clippy::print_stdout, reason = "a test tells its seed, and how much it did")]

#[expect(dead_code, reason = "these tests need only a part of it")]
#[path = "engine/chance.rs"]
mod chance;
#[path = "sessions/chaos.rs"]
mod chaos;
#[expect(dead_code, reason = "these tests need only a part of it")]
#[path = "engine/checker.rs"]
mod checker;
#[path = "sessions/hostile.rs"]
mod hostile;
#[path = "sessions/kills.rs"]
mod kills;
#[path = "sessions/reports.rs"]
mod reports;
#[expect(dead_code, reason = "these tests need only a part of it")]
#[path = "engine/tables.rs"]
mod tables;
#[path = "sessions/worker.rs"]
mod worker;
#[path = "sessions/writes.rs"]
mod writes;

#[expect(dead_code, reason = "these tests need only a part of it")]
mod support;
