//! The server dies without a word and comes back.

use std::sync::Mutex;
use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use serde_json::json;
use tokio::time::Instant;

use crate::support::server::postgres;
use crate::support::{Setup, on_both_databases, wait_until};

on_both_databases!(
    a_crawler_goes_on_with_all_its_jobs,
    jobs_of_a_crawler_that_does_not_come_back_go_on_after_one_lease,
    what_was_acknowledged_is_there,
);

fn a_crawler_goes_on_with_all_its_jobs(database: TestDatabase) {
    let mut server = Setup::new(database).set("SOCKET_MAX_CONCURRENT_JOBS", 6).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let jobs: Vec<_> = (0..6).map(|_| api.submit("crawl_project")).collect();
    jobs.iter().for_each(|_| drop(crawler.assignment()));
    let (unstarted, rest) = jobs.split_at(2);
    for job in rest {
        crawler.started(job);
    }
    crawler.completed(&rest[0]);
    api.await_status(&rest[0], "completed");
    api.await_status(&rest[3], "running");
    // Whether this one arrives before the end, nobody knows.
    crawler.completed(&rest[1]);
    server.kill();
    crawler.await_end();
    assert!(server.socket().exists(), "a socket file is left over");

    server.start();
    let api = server.api();
    let mut crawler = server.crawler();
    for job in &jobs {
        crawler.completed(job);
    }
    for job in &jobs {
        let ended = api.await_status(job, "completed");
        assert_eq!((&ended["attempt"], &ended["fence"]), (&json!(1), &json!(1)));
        assert_eq!(ended["failures"], 0);
        let arrows = api.arrows(job);
        assert_eq!(
            arrows.iter().filter(|arrow| *arrow == "finish").count(),
            1,
            "{arrows:?}"
        );
    }
    assert_eq!(
        api.arrows(&unstarted[0]),
        ["submit", "claim", "adopt", "start", "finish"]
    );
    assert_eq!(api.arrows(&rest[0]), ["submit", "claim", "start", "finish"]);
    assert_eq!(api.arrows(&rest[3]), ["submit", "claim", "start", "adopt", "finish"]);
    assert!(crawler.try_recv().is_none(), "something was given out twice");
}

fn jobs_of_a_crawler_that_does_not_come_back_go_on_after_one_lease(database: TestDatabase) {
    let lease = Duration::from_millis(1000);
    let setup = Setup::new(database).set("SOCKET_HEARTBEAT_INTERVAL", 200);
    let mut server = setup.set("SOCKET_HEARTBEAT_TIMEOUT", lease.as_millis()).start();
    let mut lost = server.crawler_process();
    let api = server.api();
    let (running, assigned) = (api.submit("crawl_project"), api.submit("crawl_project"));
    lost.assignment();
    lost.assignment();
    lost.started(&running);
    api.await_status(&running, "running");
    server.kill();
    lost.kill();

    server.start();
    let since = Instant::now();
    let api = server.api();
    let mut crawler = server.crawler().beating(Duration::from_millis(100));
    let mut given = [crawler.assignment(), crawler.assignment()];
    let took = since.elapsed();
    // The lease began anew a moment before the server said that it serves.
    assert!(
        took > lease / 2 && took < lease + Duration::from_secs(3),
        "after {took:?}"
    );
    given.sort_by(|one, other| one.id.cmp(&other.id));
    let told = given.map(|job| (job.id, job.data["resume"].clone()));
    assert_eq!(told, [(running.clone(), json!(true)), (assigned.clone(), json!(false))]);
    crawler.completed(&running);
    crawler.completed(&assigned);
    let first = api.await_status(&running, "completed");
    assert_eq!((&first["attempt"], &first["failures"]), (&json!(2), &json!(1)));
    let second = api.await_status(&assigned, "completed");
    assert_eq!((&second["attempt"], &second["failures"]), (&json!(1), &json!(0)));
    assert_eq!(
        api.arrows(&running),
        ["submit", "claim", "start", "expire", "claim", "start", "finish"]
    );
    assert_eq!(
        api.arrows(&assigned),
        ["submit", "claim", "expire", "claim", "start", "finish"]
    );
}

fn what_was_acknowledged_is_there(database: TestDatabase) {
    let mut server = Setup::new(database).set("SOCKET_MAX_QUEUED_JOBS", 200).start();
    let acknowledged = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (api, acknowledged) = (server.api(), &acknowledged);
            scope.spawn(move || {
                while let Some(id) = api.try_submit() {
                    acknowledged.lock().expect("no panic").push(id);
                }
            });
        }
        wait_until("there are enough", || {
            (acknowledged.lock().expect("no panic").len() > 40).then_some(())
        });
        server.kill();
    });
    server.start();
    let api = server.api();
    let there = api.all("/api/v1/jobs?limit=500");
    let acknowledged = acknowledged.into_inner().expect("no panic");
    for id in &acknowledged {
        assert!(there.iter().any(|job| job["id"] == *id), "{id} is gone");
    }
    // One more for each of the four at most, whose answer was lost.
    assert!(there.len() <= acknowledged.len() + 4);
    // What waits still counts.
    for _ in there.len()..200 {
        api.submit("crawl_user");
    }
    let job = json!({ "job_type": "crawl_user", "gitlab_host": "localhost", "account_id": "acme" });
    api.create(&job).problem(429, "queue_full");
}

/// Ends every other connection to the database.
const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[test]
fn a_database_that_goes_away_for_a_moment_costs_nothing() {
    let Some(database) = postgres() else { return };
    let server = Setup::new(database).set("SOCKET_MAX_CONCURRENT_JOBS", 2).start();
    let api = server.api();
    let jobs: Vec<_> = (0..20).map(|_| api.submit("crawl_project")).collect();
    let mut crawler = server.crawler();
    for number in 0..2 * jobs.len() {
        let job = crawler.assignment().id;
        crawler.progress(&job, 0.5, 50);
        if jobs.contains(&job) {
            crawler.discovered(&job, &[("crawl_user", &job)]);
        }
        crawler.completed(&job);
        if number % 4 == 0 {
            assert!(server.execute(CUT) > 0);
        }
    }
    wait_until("it is ready", || (api.get("/health/ready").status == 200).then_some(()));
    let told = wait_until("the last one is done", || {
        let told = api.all("/api/v1/jobs?limit=500");
        told.iter().all(|job| job["status"] == "completed").then_some(told)
    });
    assert_eq!(told.len(), 2 * jobs.len());
    for job in told {
        assert_eq!((&job["attempt"], &job["fence"]), (&json!(1), &json!(1)), "{job:#}");
        let arrows = api.arrows(job["id"].as_str().expect("an id"));
        assert_eq!(
            arrows.iter().filter(|arrow| *arrow == "finish").count(),
            1,
            "{arrows:?}"
        );
    }
}
