//! The server is killed again and again, while crawlers and a web application are at work.

use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use tokio::time::Instant;

use crate::chance::Chance;
use crate::checker::{Acknowledged, check};
use crate::load::{LEASE_MS, Load, hurried, is_postgres};
use crate::support::{Setup, on_both_databases, pause};
use crate::tables::{JobRow, Tables};

on_both_databases!(kills_lose_nothing_double_nothing_and_wedge_nothing);

const CRAWLERS: usize = 8;

/// How often the server is killed.
fn rounds(database: &TestDatabase) -> usize {
    let given = std::env::var("CRAWLWIRE_CRASH_ROUNDS").ok();
    let usual = if is_postgres(database) { 10 } else { 30 };
    given.map_or(usual, |rounds| {
        rounds.parse().expect("CRAWLWIRE_CRASH_ROUNDS is a number")
    })
}

fn kills_lose_nothing_double_nothing_and_wedge_nothing(database: TestDatabase) {
    let (began, seed, rounds) = (Instant::now(), Chance::seed(), rounds(&database));
    println!("seed {seed}, {rounds} rounds");
    let mut chance = Chance::new(seed);
    let mut load = Load::start(&mut chance, 1, CRAWLERS);
    let mut server = hurried(Setup::new(database)).start();
    let (mut running, mut kills_at_work) = (0, 0);
    for round in 0..rounds {
        load.up(0, &server);
        load.await_assignments(3);
        pause(chance.millis(50..400));
        if chance.one_in(6) {
            // Time acts only where it is given some.
            pause(Duration::from_millis(LEASE_MS) + chance.millis(0..1000));
        }
        server.kill();
        load.down(0);
        // Every time, so that it is known which round went wrong.
        println!("round {round} after {:?}", began.elapsed());
        let left = Tables::of(&server);
        check(&left, &Acknowledged::new());
        let cut_off = left.with_status("running").count();
        running += cut_off;
        kills_at_work += usize::from(cut_off > 0);
        server.start();
    }
    load.up(0, &server);
    let acknowledged = load.drain(&server);
    let tally = load.end();
    server.stop("TERM");

    let end = Tables::of(&server);
    let late = server.log().matches("late line").count();
    println!(
        "{} jobs {:?}, {} events; {} acknowledged; {rounds} kills, {kills_at_work} of them while {running} jobs were \
         running; {late} lines refused as late; {:?}",
        end.jobs.len(),
        end.by_status(),
        end.events.len(),
        acknowledged.len(),
        began.elapsed(),
    );
    let arrows = [
        "start", "finish", "adopt", "expire", "release", "deadline", "promote", "discover",
    ];
    println!("{:?}", arrows.map(|arrow| (arrow, end.arrows(arrow))));
    println!("{tally}");
    check(&end, &acknowledged);
    assert!(end.jobs.iter().all(JobRow::is_at_rest), "something is left");
    assert!(kills_at_work * 2 > rounds, "most kills hit nobody");
    assert!(acknowledged.len() > rounds && late > 0 && end.arrows("expire") > 0 && end.arrows("adopt") > 0);
    assert!(!server.log().contains("panicked"), "the server panicked");
}
