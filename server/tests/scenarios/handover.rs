//! Jobs change hands: crawlers die, fall silent, lose their connection, or never begin.

use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Api, Setup, on_both_databases, wait_until};

on_both_databases!(
    a_killed_crawlers_job_goes_to_another,
    a_lost_connection_is_no_lost_job,
    a_silent_crawler_loses_its_jobs_and_a_beating_one_does_not,
    an_attempt_that_takes_too_long_is_over,
    a_job_that_nobody_begins_is_put_aside,
);

/// What a job looks like and what happened to it; what must not change.
fn life(api: &Api, job: &str) -> [Value; 3] {
    let mut progress = api.get(&format!("/api/v1/jobs/{job}/progress")).ok();
    // These follow the time.
    for field in ["worked_ms", "activity", "clocks"] {
        progress[field] = Value::Null;
    }
    [api.job(job), Value::Array(api.events(job)), progress]
}

fn a_killed_crawlers_job_goes_to_another(database: TestDatabase) {
    let grace = Duration::from_millis(300);
    let server = Setup::new(database)
        .set("SOCKET_REATTACH_GRACE", grace.as_millis())
        .start();
    let api = server.api();
    let mut first = server.crawler_process();
    let job = api.submit("crawl_project");
    assert_eq!(first.assignment().data["resume"], false);
    first.progress(&job, 0.5, 50);
    api.await_status(&job, "running");
    let mut second = server.crawler();

    let since = Instant::now();
    first.kill();
    let again = second.assignment();
    let took = since.elapsed();
    assert!(took >= grace && took < grace + Duration::from_secs(3), "after {took:?}");
    assert_eq!((again.id.as_str(), &again.data["resume"]), (job.as_str(), &json!(true)));
    let given = api.job(&job);
    assert_eq!((&given["fence"], &given["session"]), (&json!(3), &json!(second.name)));

    // Late words of whoever is not the holder, before and after the end.
    let mut ghost = server.crawler_process();
    let before = life(&api, &job);
    ghost.say_everything(&job);
    ghost.settle(&api);
    assert_eq!(life(&api, &job), before);
    second.completed(&job);
    let ended = api.await_status(&job, "completed");
    assert_eq!(
        (&ended["attempt"], &ended["failures"], &ended["children"]),
        (&json!(2), &json!(1), &json!(0))
    );
    let before = life(&api, &job);
    ghost.say_everything(&job);
    ghost.settle(&api);
    second.say_everything(&job);
    second.settle(&api);
    assert_eq!(life(&api, &job), before);
    assert_eq!(
        api.arrows(&job),
        ["submit", "claim", "start", "expire", "claim", "start", "finish"]
    );
    assert!(ghost.try_recv().is_none(), "an answer for a ghost");
}

fn a_lost_connection_is_no_lost_job(database: TestDatabase) {
    let server = Setup::new(database).set("SOCKET_MAX_CONCURRENT_JOBS", 2).start();
    let api = server.api();
    let mut first = server.crawler();
    let jobs = [api.submit("crawl_project"), api.submit("crawl_project")];
    jobs.iter().for_each(|_| drop(first.assignment()));
    first.progress(&jobs[0], 0.5, 50);
    api.await_status(&jobs[0], "running");

    // As long as the first connection stands, another one of the same process has no say.
    let mut second = server.crawler();
    let before = life(&api, &jobs[0]);
    second.completed(&jobs[0]);
    second.settle(&api);
    assert_eq!(life(&api, &jobs[0]), before);

    // Once it is gone, it goes on in its place; so fast that the server may not have noticed yet.
    first.progress(&jobs[0], 0.75, 75);
    drop(first);
    second.completed(&jobs[0]);
    second.progress(&jobs[1], 0.1, 10);
    let ended = api.await_status(&jobs[0], "completed");
    assert_eq!((&ended["attempt"], &ended["fence"]), (&json!(1), &json!(1)));
    assert_eq!(api.arrows(&jobs[0]), ["submit", "claim", "start", "adopt", "finish"]);
    api.await_status(&jobs[1], "running");
    assert_eq!(api.arrows(&jobs[1]), ["submit", "claim", "adopt", "start"]);
    assert_eq!(second.settle(&api)["jobs"], json!([jobs[1]]));

    // A process of its own is another crawler, even within the grace.
    drop(second);
    wait_until("it is gone", || api.crawlers().is_empty().then_some(()));
    let before = life(&api, &jobs[1]);
    let mut stranger = server.crawler_process();
    stranger.say_everything(&jobs[1]);
    stranger.settle(&api);
    assert_eq!(life(&api, &jobs[1]), before);
}

fn a_silent_crawler_loses_its_jobs_and_a_beating_one_does_not(database: TestDatabase) {
    let setup = Setup::new(database)
        .set("SOCKET_HEARTBEAT_INTERVAL", 200)
        .set("SOCKET_HEARTBEAT_TIMEOUT", 1000);
    let server = setup.set("SOCKET_MAX_CONCURRENT_JOBS", 1).start();
    let api = server.api();
    let mut beating = server.crawler().beating(Duration::from_millis(100));
    let kept = api.submit("crawl_project");
    beating.assignment();
    beating.started(&kept);
    let mut silent = server.crawler();
    let lost = api.submit("crawl_project");
    assert_eq!(silent.assignment().id, lost);
    silent.started(&lost);
    // The slot of the beating one is free again once it has heard of the other's job.
    api.await_status(&lost, "running");
    let waiting = {
        let (api, lost) = (api.clone(), lost.clone());
        std::thread::spawn(move || api.await_status(&lost, "queued"))
    };
    while !waiting.is_finished() {
        beating.heartbeat();
        crate::support::pause(Duration::from_millis(50));
    }
    assert_eq!(waiting.join().expect("it is lost")["resume"], true);
    assert_eq!(api.job(&kept)["fence"], 1);
    beating.completed(&kept);
    assert_eq!(beating.assignment().id, lost);
    // The silent one comes to life again; what it says of the job does not count any more.
    silent.completed(&lost);
    silent.settle(&api);
    assert_eq!(api.job(&lost)["status"], "assigned");
    beating.completed(&lost);
    assert_eq!(api.await_status(&lost, "completed")["attempt"], 2);
    assert_eq!(api.arrows(&kept), ["submit", "claim", "start", "finish"]);
    assert_eq!(
        api.arrows(&lost),
        ["submit", "claim", "start", "expire", "claim", "start", "finish"]
    );
}

fn an_attempt_that_takes_too_long_is_over(database: TestDatabase) {
    let setup = Setup::new(database)
        .set("SOCKET_JOB_TIMEOUT", 300)
        .set("SOCKET_RETRY_ATTEMPTS", 1);
    let server = setup.set("SOCKET_RETRY_DELAY", 10).start();
    let api = server.api();
    let (mut crawler, mut other) = (server.crawler(), server.crawler());
    let job = api.submit("crawl_project");
    crawler.assignment();
    crawler.started(&job);
    // The first is still at work on it, for all that is known.
    let again = other.assignment();
    assert_eq!((&again.id, &again.data["resume"]), (&job, &json!(true)));
    other.started(&job);
    let ended = api.await_status(&job, "failed");
    assert_eq!((&ended["attempt"], &ended["failures"]), (&json!(2), &json!(2)));
    let before = life(&api, &job);
    for mut late in [crawler, other] {
        late.say_everything(&job);
        late.settle(&api);
        assert_eq!(life(&api, &job), before);
    }
    let lives = [
        "submit", "claim", "start", "deadline", "promote", "claim", "start", "deadline",
    ];
    assert_eq!(api.arrows(&job), lives);
}

fn a_job_that_nobody_begins_is_put_aside(database: TestDatabase) {
    let setup = Setup::new(database)
        .set("SOCKET_ACCEPT_TIMEOUT", 10)
        .set("SOCKET_SWEEP_INTERVAL", 10);
    let server = setup.start();
    let api = server.api();
    let mut crawler = server.crawler();
    let job = api.submit("crawl_project");
    for _ in 0..20 {
        assert_eq!(crawler.assignment().id, job);
    }
    let aside = api.await_status(&job, "paused");
    assert_eq!(
        (&aside["pause_reason"], &aside["attempt"]),
        (&json!("quarantined"), &json!(0))
    );
    assert_eq!(aside["failures"], 0);
    let arrows = api.arrows(&job);
    assert_eq!(arrows.iter().filter(|arrow| *arrow == "release").count(), 20);
    // It holds up nobody else.
    let next = api.submit("crawl_project");
    assert_eq!(crawler.assignment().id, next);
}
