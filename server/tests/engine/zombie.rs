//! A crawler process is stopped, loses its jobs to another one, and goes on as if nothing had been.

use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use serde_json::Value;
use tokio::time::Instant;

use crate::checker::{Acknowledged, check};
use crate::support::{Crawler, Setup, TestServer, on_both_databases, pause, wait_until};
use crate::tables::Tables;

on_both_databases!(
    whoever_slept_past_its_lease_is_not_believed,
    whoever_slept_a_moment_only_goes_on,
);

const LEASE: Duration = Duration::from_millis(2000);
const BEAT: Duration = Duration::from_millis(100);

/// Two jobs a crawler; leases end soon, and nothing else does.
fn start(database: TestDatabase) -> TestServer {
    Setup::new(database)
        .set("SOCKET_HEARTBEAT_INTERVAL", 2 * BEAT.as_millis())
        .set("SOCKET_HEARTBEAT_TIMEOUT", LEASE.as_millis())
        .set("SOCKET_MAX_CONCURRENT_JOBS", 2)
        .start()
}

/// Lines of a crawler about a job that were refused because it is not, or no more, its own.
fn late_lines(server: &TestServer, crawler: &Crawler, job: &str) -> usize {
    let about = |line: &&str| line.contains("late line") && line.contains(&crawler.name) && line.contains(job);
    server.log().lines().filter(about).count()
}

/// What there is to be seen of a job: that no late line changed any of it.
fn seen(server: &TestServer, job: &str) -> String {
    let api = server.api();
    let path = |part: &str| format!("/api/v1/jobs/{job}{part}");
    let mut progress = api.get(&path("/progress")).ok();
    // These follow the time.
    for field in ["worked_ms", "activity", "clocks"] {
        progress[field] = Value::Null;
    }
    let others = ["", "/events", "/children"].map(|part| api.get(&path(part)).body);
    format!("{}\n{progress}", others.join("\n"))
}

fn whoever_slept_past_its_lease_is_not_believed(database: TestDatabase) {
    let began = Instant::now();
    let server = start(database);
    let api = server.api();
    let mut zombie = server.crawler_process();
    let jobs = [api.submit("crawl_project"), api.submit("crawl_project")];
    let [ended, running] = &jobs;
    jobs.iter().for_each(|_| drop(zombie.assignment()));
    zombie.progress(ended, 0.5, 50);
    api.await_status(ended, "running");
    // The other one it has, and has not begun.
    zombie.settle(&api);
    zombie.signal("STOP");
    // It goes on talking, and its words get no further than its own buffer.
    let said = jobs.each_ref().map(|job| zombie.say_everything(job));

    let mut other = server.crawler().beating(BEAT);
    let mut given = [other.assignment().id, other.assignment().id];
    given.sort();
    assert_eq!(given, jobs);
    other.progress(running, 0.25, 25);
    api.await_status(running, "running");
    other.completed(ended);
    api.await_status(ended, "completed");
    other.settle(&api);
    assert_eq!(
        jobs.each_ref().map(|job| late_lines(&server, &zombie, job)),
        [0, 0],
        "it sleeps"
    );
    let before = jobs.each_ref().map(|job| seen(&server, job));

    zombie.signal("CONT");
    wait_until("its words are refused", || {
        other.heartbeat();
        let refused = jobs.each_ref().map(|job| late_lines(&server, &zombie, job));
        assert!(refused.iter().zip(&said).all(|(refused, said)| refused <= said));
        (refused == said).then_some(())
    });
    zombie.settle(&api);
    other.settle(&api);
    assert_eq!(
        jobs.each_ref().map(|job| seen(&server, job)),
        before,
        "a late line took effect"
    );
    assert!(zombie.try_recv().is_none(), "an answer to a late line");

    // It is a crawler like any other again.
    other.completed(running);
    api.await_status(running, "completed");
    drop(other);
    let next = api.submit("crawl_project");
    assert_eq!(zombie.beating(BEAT).assignment().id, next);
    assert_eq!(
        api.arrows(ended),
        ["submit", "claim", "start", "expire", "claim", "start", "finish"]
    );
    assert_eq!(
        api.arrows(running),
        ["submit", "claim", "expire", "claim", "start", "finish"]
    );
    check(&Tables::of(&server), &Acknowledged::new());
    println!(
        "{} late lines, all refused; {:?}",
        said.iter().sum::<usize>(),
        began.elapsed()
    );
}

fn whoever_slept_a_moment_only_goes_on(database: TestDatabase) {
    let began = Instant::now();
    let server = start(database);
    let api = server.api();
    let mut crawler = server.crawler_process();
    let mut other = server.crawler();
    let job = api.submit("crawl_project");
    assert_eq!(crawler.assignment().id, job);
    crawler.started(&job);
    crawler.settle(&api);
    for _ in 0..3 {
        crawler.signal("STOP");
        crawler.progress(&job, 0.5, 50);
        pause(LEASE / 4);
        crawler.signal("CONT");
        crawler.settle(&api);
    }
    crawler.completed(&job);
    api.await_status(&job, "completed");
    assert_eq!(api.arrows(&job), ["submit", "claim", "start", "finish"]);
    assert!(other.try_recv().is_none());
    assert_eq!(late_lines(&server, &crawler, &job), 0);
    check(&Tables::of(&server), &Acknowledged::new());
    println!("{:?}", began.elapsed());
}
