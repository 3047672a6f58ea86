//! Two servers on one PostgreSQL: one is killed, the other one is stopped past the lease and goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::chance::Chance;
use crate::checker::check;
use crate::load::{BUSY_MS, LEASE_MS, Load, hurried};
use crate::support::server::postgres;
use crate::support::{Setup, TestServer, pause, wait_until};
use crate::tables::{JobRow, Tables};

const CRAWLERS: usize = 4;

/// How often both have their bad moment.
const ROUNDS: usize = 3;

/// A server that is stopped in the middle of a transaction keeps its rows locked, and everybody else waiting, until the
/// database ends that transaction. It does so after this time, of which there is a minute unless set.
const TRANSACTION_MS: u64 = 1000;

/// Leases end within this time, even when the other server waited for locks meanwhile and gave everybody a lease more.
const MOVED_MS: u64 = 2 * LEASE_MS + TRANSACTION_MS + BUSY_MS;

fn setup(setup: Setup) -> Setup {
    hurried(setup)
        .set("SOCKET_TRANSACTION_TIMEOUT", TRANSACTION_MS)
        // Attempts do not time out before that; so it is leases that end.
        .set("SOCKET_JOB_TIMEOUT", MOVED_MS + 1000)
}

/// What the crawlers of a server hold at this moment: jobs, and the fence of each.
fn held(server: &TestServer) -> BTreeMap<String, i64> {
    wait_until("its crawlers hold jobs", || {
        let crawlers = server.api().crawlers();
        let jobs = crawlers
            .iter()
            .flat_map(|crawler| crawler["jobs"].as_array().expect("jobs"));
        let jobs: Vec<_> = jobs.map(|job| job.as_str().expect("an id").to_owned()).collect();
        let tables = Tables::of(server);
        let leased = tables
            .jobs
            .iter()
            .filter(|row| row.is_leased() && jobs.contains(&row.public_id));
        let held: BTreeMap<_, _> = leased.map(|row| (row.public_id.clone(), row.fence)).collect();
        (held.len() >= 3).then_some(held)
    })
}

/// Waits until nobody holds these jobs under these fences any more; how many of them were taken away, which is what
/// raises a fence.
#[track_caller]
fn await_moved(held: &BTreeMap<String, i64>, from: &str, seen_by: &TestServer) -> usize {
    let since = Instant::now();
    let taken = wait_until("the jobs are somebody else's", || {
        let tables = Tables::of(seen_by);
        let rows: Vec<_> = tables
            .jobs
            .iter()
            .filter(|row| held.contains_key(&row.public_id))
            .collect();
        let rose = |row: &&&JobRow| row.fence > held[&row.public_id];
        let left = rows.iter().any(|row| row.is_leased() && !rose(&row));
        (!left).then(|| rows.iter().filter(rose).count())
    });
    let took = since.elapsed();
    println!(
        "{taken} of {} jobs were taken from the {from} server after {took:?}",
        held.len()
    );
    assert!(took < Duration::from_millis(MOVED_MS), "that was late");
    taken
}

#[test]
fn jobs_move_from_a_killed_and_from_a_stopped_server_to_the_other_one() {
    let Some(database) = postgres() else { return };
    let (began, seed) = (Instant::now(), Chance::seed());
    println!("seed {seed}");
    let mut chance = Chance::new(seed);
    let mut load = Load::start(&mut chance, 2, CRAWLERS);
    let mut first = setup(Setup::new(database)).start();
    load.up(0, &first);
    let mut second = setup(Setup::beside(&first)).start();
    load.up(1, &second);
    let (mut from_killed, mut from_stopped) = (0, 0);
    for _ in 0..ROUNDS {
        load.await_assignments(20);
        let lost = held(&first);
        first.kill();
        load.down(0);
        from_killed += await_moved(&lost, "killed", &second);
        first.start();
        load.up(0, &first);

        load.await_assignments(20);
        let lost = held(&second);
        second.signal("STOP");
        from_stopped += await_moved(&lost, "stopped", &first);
        // Its crawlers go on talking to it, and it believes that all of them hold what they had.
        pause(Duration::from_millis(LEASE_MS / 3));
        second.signal("CONT");
    }
    load.await_assignments(20);
    let acknowledged = load.drain(&first);
    let tally = load.end();
    first.stop("TERM");
    second.stop("TERM");

    let end = Tables::of(&first);
    let late = [&first, &second].map(|server| server.log().matches("late line").count());
    println!(
        "{} jobs {:?}, {} events; {} acknowledged; taken from the killed server {from_killed}, from the stopped one \
         {from_stopped}; lines refused as late {late:?}; {:?}",
        end.jobs.len(),
        end.by_status(),
        end.events.len(),
        acknowledged.len(),
        began.elapsed(),
    );
    println!("{tally}");
    check(&end, &acknowledged);
    assert!(from_killed > 0 && from_stopped > 0, "no job moved");
    assert!(end.jobs.iter().all(JobRow::is_at_rest), "something is left");
    for server in [&first, &second] {
        assert!(!server.log().contains("panicked"), "a server panicked");
    }
}
