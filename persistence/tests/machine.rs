//! The job engine against a reference model: whatever is asked in whatever order, of the store in memory, of SQLite, and of
//! two servers over one PostgreSQL, the answers and the rows are those of a naive statement of the rules; and when a rule
//! is left out of the engine, this test notices.
//!
//! Random on every run. `PROPTEST_RNG_SEED` repeats one, by the seed that every run prints.

#[path = "machine/mod.rs"]
mod machine;

use crawlwire_progress::policy::Guard;
use machine::runs::{Memory, Postgres, Size, Sqlite, run};

/// More than it takes to take every arrow and every refusal often enough; a few long cases, because a database costs more than what is done
/// in it.
const WHOLE: Size = Size {
    cases: 120,
    transitions: 150,
};

#[test]
fn the_store_in_memory_does_what_the_model_says() {
    run::<Memory>(WHOLE, None).conclude();
}

#[test]
fn sqlite_does_what_the_model_says() {
    run::<Sqlite>(WHOLE, None).conclude();
}

#[test]
fn two_servers_on_postgresql_do_what_the_model_says() {
    run::<Postgres>(WHOLE, None).conclude();
}

/// More cases than it takes; the run ends with the first that differs.
const PLANTED: Size = Size {
    cases: 100,
    transitions: 100,
};

/// Takes a guard out of the engine; the machine has to notice.
fn is_noticed(guard: Guard) {
    run::<Memory>(PLANTED, Some(guard)).notices(guard);
    run::<Sqlite>(PLANTED, Some(guard)).notices(guard);
}

#[test]
fn a_lease_without_its_fence_is_noticed() {
    is_noticed(Guard::Fence);
}

#[test]
fn a_lease_ended_before_its_time_is_noticed() {
    is_noticed(Guard::Expiry);
}

#[test]
fn a_child_created_twice_is_noticed() {
    is_noticed(Guard::ChildIdentity);
}

#[test]
fn a_wish_that_wins_over_a_finish_is_noticed() {
    is_noticed(Guard::FinishOverWant);
}

/// In memory alone: databases have a guard of their own, and wait for who does not know of it.
#[test]
fn a_late_report_that_counts_is_noticed() {
    run::<Memory>(PLANTED, Some(Guard::NewerReport)).notices(Guard::NewerReport);
}

#[test]
fn a_job_that_counts_twice_is_noticed() {
    is_noticed(Guard::ReportBefore);
}

#[test]
fn an_attempt_that_counts_beside_the_next_one_is_noticed() {
    is_noticed(Guard::AttemptBefore);
}
