//! Servers and crawlers are killed at random moments, again and again. Nothing that was acknowledged is lost, nothing takes
//! effect twice, and no attempt is spent.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crawlwire_persistence::testing::TestDatabase;
use tokio::time::Instant;

use crate::chance::Chance;
use crate::checker::{Acknowledged, check};
use crate::support::{Setup, TestServer, on_both_databases, pause, wait_until};
use crate::tables::{JobRow, Tables};
use crate::worker::{CHECKPOINTS, FOUND, Process, Word, words};

on_both_databases!(no_kill_costs_a_word_or_an_attempt);

const CRAWLERS: usize = 4;

/// Jobs that have not ended are kept at about this many, so that every kill hits somebody at work.
const OPEN: usize = 24;

/// How often somebody is killed.
fn rounds(database: &TestDatabase) -> usize {
    let given = std::env::var("CRAWLWIRE_CRASH_ROUNDS").ok();
    let usual = if database.config().url.starts_with("postgres") {
        25
    } else {
        35
    };
    given.map_or(usual, |rounds| {
        rounds.parse().expect("CRAWLWIRE_CRASH_ROUNDS is a number")
    })
}

fn no_kill_costs_a_word_or_an_attempt(database: TestDatabase) {
    let (began, seed, rounds) = (Instant::now(), Chance::seed(), rounds(&database));
    println!("seed {seed}, {rounds} rounds");
    let mut chance = Chance::new(seed);
    let mut server = Setup::new(database)
        .set("SOCKET_HEARTBEAT_INTERVAL", 500)
        .set("SOCKET_REATTACH_GRACE", 20_000)
        .start();
    let dir = server.dir().to_owned();
    let mut crawlers: Vec<_> = (0..CRAWLERS)
        .map(|number| Process::start(&dir, number, &server.socket()))
        .collect();
    let (mut servers_killed, mut crawlers_killed, mut hit) = (0, 0, 0);
    for round in 0..rounds {
        await_work(&server);
        pause(chance.millis(20..300));
        let kill_server = chance.one_in(2);
        // Sometimes both, in either order.
        if kill_server {
            server.kill();
            servers_killed += 1;
        }
        if !kill_server || chance.one_in(4) {
            let crawler = &mut crawlers[chance.below(CRAWLERS)];
            crawler.kill();
            crawlers_killed += 1;
        }
        println!("round {round} after {:?}", began.elapsed());
        if kill_server {
            let left = Tables::of(&server);
            check(&left, &Acknowledged::new());
            hit += left.with_status("running").count();
            server.start();
        }
        for crawler in &mut crawlers {
            crawler.restart();
        }
    }
    let end = drain(&server);
    for crawler in crawlers {
        crawler.stop();
    }
    let said = words(&dir);
    tell(&end, &said);
    println!(
        "{servers_killed} servers killed while {hit} jobs were running, {crawlers_killed} crawlers; {:?}",
        began.elapsed()
    );
    check(&end, &Acknowledged::new());
    judge(&end, &said);
    assert!(servers_killed > 0 && crawlers_killed > 0 && hit >= servers_killed);
    assert!(!server.log().contains("panicked"), "the server panicked");
}

/// Waits until crawlers are at work. Meanwhile jobs end, so as many are submitted. The server runs, and takes each.
fn await_work(server: &TestServer) {
    let api = server.api();
    wait_until("crawlers are at work", || {
        let tables = Tables::of(server);
        let open = tables.jobs.iter().filter(|job| !job.is_at_rest()).count();
        for number in open..OPEN {
            let is_discovery = number % 3 == 0;
            api.submit(if is_discovery {
                "discover_namespaces"
            } else {
                "crawl_project"
            });
        }
        (tables.with_status("running").count() >= CRAWLERS).then_some(())
    });
}

/// Waits until all jobs have ended.
pub(crate) fn drain(server: &TestServer) -> Tables {
    let until = Instant::now() + 3 * crate::support::DEADLINE;
    loop {
        let tables = Tables::of(server);
        let left = tables.jobs.iter().filter(|job| !job.is_at_rest()).count();
        if left == 0 {
            return tables;
        }
        assert!(Instant::now() < until, "{left} jobs are left");
        pause(std::time::Duration::from_millis(100));
    }
}

pub(crate) fn tell(end: &Tables, said: &[(PathBuf, Word)]) {
    let mut kinds = BTreeMap::<&str, usize>::new();
    for (_, word) in said {
        *kinds.entry(word.kind()).or_default() += 1;
    }
    println!(
        "{} jobs {:?}, {} events; crawlers know of {kinds:?}",
        end.jobs.len(),
        end.by_status(),
        end.events.len()
    );
}

/// Every word that a crawler was told is kept, is kept; and once. No attempt was spent.
pub(crate) fn judge(end: &Tables, said: &[(PathBuf, Word)]) {
    let jobs: BTreeMap<&str, &JobRow> = end.jobs.iter().map(|job| (job.public_id.as_str(), job)).collect();
    let mut wrong = Vec::new();
    let mut ends = 0;
    for (_, word) in said {
        match word {
            Word::Completed(job) => {
                ends += 1;
                if jobs.get(job.as_str()).is_none_or(|row| row.status != "completed") {
                    wrong.push(format!("{job} was acknowledged as completed, and is not"));
                }
            }
            Word::Discovered(job) => {
                if jobs.get(job.as_str()).is_none_or(|row| row.children != FOUND as i64) {
                    wrong.push(format!("what {job} found was acknowledged, and is not there"));
                }
            }
            Word::Checkpoint(..) => {}
            Word::Wrong(what) => wrong.push(what.clone()),
        }
    }
    for job in &end.jobs {
        if (job.status.as_str(), job.attempt) != ("completed", 1) {
            wrong.push(format!(
                "{} is {} in attempt {}",
                job.public_id, job.status, job.attempt
            ));
        }
        let children = if job.job_type == "discover_namespaces" {
            FOUND
        } else {
            0
        };
        if job.children != children as i64 {
            wrong.push(format!("{} has {} children", job.public_id, job.children));
        }
    }
    // An assignment to a crawler that was just killed may be taken back. Nothing else may take a job from its crawler.
    for (arrow, times) in [
        ("start", end.jobs.len()),
        ("finish", end.jobs.len()),
        ("expire", 0),
        ("deadline", 0),
    ] {
        let taken = end.arrows(arrow);
        if taken != times {
            wrong.push(format!("{taken} times {arrow} for {} jobs", end.jobs.len()));
        }
    }
    let checkpoints = said
        .iter()
        .filter(|(_, word)| matches!(word, Word::Checkpoint(..)))
        .count();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(ends > 0 && checkpoints > CHECKPOINTS, "nobody said anything");
}
