//! Client, transport and router together in a simulated network, over a store in memory: hosts die and come back, links
//! break, lines come late and twice. One thread, its own clock, and all chance from one seed.
//!
//! `CRAWLWIRE_CRASH_SEED` runs one seed, `CRAWLWIRE_SIM_SEEDS` says how many each test runs.

#![expect(clippy::print_stdout, reason = "a test tells its seeds, and how much it did")]

#[expect(dead_code, reason = "these tests need only a part of it")]
#[path = "engine/chance.rs"]
mod chance;
#[path = "sim/crawler.rs"]
mod crawler;
#[path = "sim/disk.rs"]
mod disk;
#[path = "sim/judge.rs"]
mod judge;
#[path = "sim/weather.rs"]
mod weather;
#[path = "sim/world.rs"]
mod world;

use tokio::time::Instant;

use world::{Ran, run};

/// Seeds that each test runs.
const SEEDS: u64 = 6;

fn seeds(first: u64) -> std::ops::Range<u64> {
    if let Ok(seed) = std::env::var("CRAWLWIRE_CRASH_SEED") {
        let seed = seed.parse().expect("CRAWLWIRE_CRASH_SEED is a number");
        return seed..seed + 1;
    }
    let count = std::env::var("CRAWLWIRE_SIM_SEEDS").ok();
    let count = count.map_or(SEEDS, |count| count.parse().expect("CRAWLWIRE_SIM_SEEDS is a number"));
    first * count..(first + 1) * count
}

fn check(seed: u64) -> Ran {
    let began = Instant::now();
    // First, in case that this does not end.
    println!("seed {seed}");
    let ran = run(seed);
    println!(
        "seed {seed}: {:?}, {} steps of the store, {} strikes, {} connections, {} lines said again, {} attempts lost; {:?}",
        ran.took,
        ran.journal.len(),
        ran.weather.len() / 2,
        ran.connections,
        ran.resent,
        ran.lost,
        began.elapsed()
    );
    if !ran.wrong.is_empty() {
        for line in ran.weather.iter().chain(&ran.journal) {
            println!("{line}");
        }
        panic!("seed {seed}: {:#?}", ran.wrong);
    }
    ran
}

/// Runs the seeds of a test. Of many, some meet trouble: weather that does no harm proves nothing.
fn hold(first: u64) {
    let seeds = seeds(first);
    let are_many = seeds.end - seeds.start >= SEEDS;
    let (mut strikes, mut resent) = (0, 0);
    for ran in seeds.map(check) {
        strikes += ran.weather.len() / 2;
        resent += ran.resent;
    }
    assert!(
        !are_many || (strikes > 0 && resent > 0),
        "{strikes} strikes, {resent} lines said again"
    );
}

/// Each is a test of its own, so that they share the processors.
macro_rules! weathers {
    ($($name:ident: $first:literal),*) => {
        $(#[test]
        fn $name() {
            hold($first);
        })*
    };
}

weathers! {
    nothing_acknowledged_is_lost_first: 0,
    nothing_acknowledged_is_lost_second: 1,
    nothing_acknowledged_is_lost_third: 2,
    nothing_acknowledged_is_lost_fourth: 3
}

#[test]
fn a_seed_is_a_course_of_events() {
    let (first, second) = (check(7), check(7));
    let parting = first
        .journal
        .iter()
        .zip(&second.journal)
        .position(|(one, other)| one != other);
    if let Some(place) = parting {
        let around = place.saturating_sub(10)..place + 1;
        panic!(
            "step {place}: {:#?} and {:#?}",
            &first.journal[around.clone()],
            &second.journal[around]
        );
    }
    assert_eq!(
        (first.journal.len(), first.weather),
        (second.journal.len(), second.weather)
    );
    assert_ne!(first.journal, check(8).journal);
}
