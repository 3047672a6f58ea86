//! The job engine under load while servers are killed, crawlers are stopped, and both come back: nothing is lost,
//! doubled or stuck, and the history of every job is lawful.
//!
//! `CRAWLWIRE_CRASH_ROUNDS` says how often servers are killed, `CRAWLWIRE_CRASH_SEED` repeats the choices of a run.

#![expect(clippy::print_stdout, reason = "a test tells its seed, and how much it did")]

#[path = "engine/chance.rs"]
mod chance;
#[path = "engine/checker.rs"]
mod checker;
#[path = "engine/checker_tests.rs"]
mod checker_tests;
#[path = "engine/crash.rs"]
mod crash;
#[path = "engine/load.rs"]
mod load;
#[path = "engine/peer.rs"]
mod peer;
#[path = "engine/servers.rs"]
mod servers;
#[path = "engine/tables.rs"]
mod tables;
#[path = "engine/web_app.rs"]
mod web_app;
#[path = "engine/zombie.rs"]
mod zombie;

#[expect(dead_code, reason = "these tests need only a part of it")]
mod support;
