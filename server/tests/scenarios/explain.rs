//! Why a job does not move: each reason, in the situation that it speaks of.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::{Setup, on_both_databases};

on_both_databases!(
    a_job_waits_for_its_time,
    a_job_waits_for_a_crawler,
    a_job_waits_for_the_crawler_it_was_given_to,
    a_job_waits_for_its_retry,
    an_account_has_its_share,
    silent_crawlers_are_no_help,
    a_token_that_cannot_be_read_is_told,
    a_job_has_limits_of_its_own,
);

fn a_job_waits_for_its_time(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let run_at = Utc::now() + Duration::from_millis(700);
    // Any offset, and any precision.
    let job = api.submit_with(&json!({ "run_at": run_at.format("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string() }));
    assert_eq!((&job["status"], &job["state"]), (&json!("queued"), &json!("delayed")));
    let told = run_at.to_rfc3339_opts(SecondsFormat::Millis, true);
    assert_eq!(job["run_at"], json!(told));
    let id = job["id"].as_str().expect("an id");
    let reason = api.reason(id);
    assert_eq!(
        (&reason["code"], &reason["until"], &reason["cleared_by"]),
        (&json!("scheduled"), &json!(told), &json!("time"))
    );
    assert_eq!(crawler.assignment().id, id);
    assert!(Utc::now() >= run_at - Duration::from_millis(1), "before its time");
    assert_eq!(api.arrows(id)[..3], ["submit", "promote", "claim"]);

    let past = api.submit_with(&json!({ "run_at": "1969-01-31T12:00:00+02:00" }));
    assert_eq!((&past["state"], &past["run_at"]), (&json!("queued"), &Value::Null));
    assert_eq!(json!(crawler.assignment().id), past["id"]);
    // One that waits for its time can be held back meanwhile, and waits on.
    let far = api.submit_with(&json!({ "run_at": "2999-01-01T00:00:00Z" }));
    let far = far["id"].as_str().expect("an id");
    api.act(far, "pause", &json!({})).ok();
    assert_eq!(api.reason(far)["code"], "paused");
    assert_eq!(api.act(far, "resume", &json!({})).ok()["state"], "delayed");
}

fn a_job_waits_for_a_crawler(database: TestDatabase) {
    let server = Setup::new(database).set("SOCKET_MAX_CONCURRENT_JOBS", 1).start();
    let api = server.api();
    let plain = api.submit("crawl_project");
    assert_eq!(api.reason(&plain)["code"], "no_crawler");
    let picky = api.submit_with(&json!({ "labels": ["gpu", "eu", "gpu"] }));
    assert_eq!(picky["labels"], json!(["eu", "gpu"]));
    let picky = picky["id"].as_str().expect("an id");
    let mut crawler = server.crawler();
    assert_eq!(crawler.assignment().id, plain);
    let reason = api.await_reason(picky, "no_capable_crawler");
    assert_eq!(reason["crawlers"], 1);
    let missing = json!([{ "kind": "label", "value": "eu" }, { "kind": "label", "value": "gpu" }]);
    assert_eq!(reason["missing"], missing);
    let next = api.submit("crawl_project");
    let reason = api.await_reason(&next, "waiting_for_slot");
    assert_eq!((&reason["capable"], &reason["slots"]), (&json!(1), &json!(1)));
    // Nobody stands in the way of others.
    crawler.started(&plain);
    api.await_status(&plain, "running");
    assert!(api.reason(&plain).is_null());
    crawler.completed(&plain);
    assert_eq!(crawler.assignment().id, next);
    api.await_status(&plain, "completed");
    assert!(api.reason(&plain).is_null());
    api.get("/api/v1/jobs/none/explain").problem(404, "not_found");
}

fn a_job_waits_for_the_crawler_it_was_given_to(database: TestDatabase) {
    let server = Setup::new(database).set("SOCKET_ACCEPT_TIMEOUT", 60_000).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let job = api.submit("crawl_project");
    crawler.assignment();
    let reason = api.reason(&job);
    assert_eq!(
        (&reason["code"], &reason["session"]),
        (&json!("awaiting_acceptance"), &json!(crawler.name))
    );
    assert_eq!(reason["since"], api.job(&job)["assigned_at"]);
    let time = |field: &str| DateTime::parse_from_rfc3339(reason[field].as_str().expect("a time")).expect("RFC 3339");
    assert_eq!((time("until") - time("since")).num_milliseconds(), 60_000);
}

fn a_job_waits_for_its_retry(database: TestDatabase) {
    let server = Setup::new(database).set("SOCKET_RETRY_DELAY", 3_600_000).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let job = api.submit("crawl_project");
    crawler.assignment();
    crawler.failed(&job, true);
    let reason = api.await_reason(&job, "backoff");
    assert_eq!(
        (&reason["failures"], &reason["until"]),
        (&json!(1), &api.job(&job)["run_at"])
    );
}

fn an_account_has_its_share(database: TestDatabase) {
    let setup = Setup::new(database).set("SOCKET_MAX_RUNNING_JOBS_PER_ACCOUNT", 1);
    let server = setup.set("SOCKET_MAX_CONCURRENT_JOBS", 5).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let jobs = [api.submit("crawl_project"), api.submit("crawl_project")];
    assert_eq!(crawler.assignment().id, jobs[0]);
    let reason = api.await_reason(&jobs[1], "account_share");
    assert_eq!((&reason["held"], &reason["limit"]), (&json!(1), &json!(1)));
    let other = api.submit_with(&json!({ "account_id": "other" }));
    assert_eq!(json!(crawler.assignment().id), other["id"]);
    crawler.completed(&jobs[0]);
    assert_eq!(crawler.assignment().id, jobs[1]);
}

fn silent_crawlers_are_no_help(database: TestDatabase) {
    let setup = Setup::new(database)
        .set("SOCKET_HEARTBEAT_INTERVAL", 100)
        .set("SOCKET_HEARTBEAT_TIMEOUT", 400);
    let server = setup.start();
    let api = server.api();
    let mut crawler = server.connect();
    // One that never sent a heartbeat is not hung up on.
    crawler.say("job_started", Some("none"), &json!({ "job_type": "crawl_project" }));
    crate::support::wait_until("it is silent for long", || {
        let crawlers = api.crawlers();
        (crawlers.first()?["silent_ms"].as_u64()? > 500).then_some(())
    });
    let job = api.submit("crawl_project");
    let reason = api.await_reason(&job, "crawlers_unresponsive");
    assert_eq!(reason["capable"], 1);
    crawler.heartbeat();
    assert_eq!(crawler.assignment().id, job);
}

fn a_token_that_cannot_be_read_is_told(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let job = api.submit_with(&json!({ "access_token": "glpat-secret" }));
    let job = job["id"].as_str().expect("an id");
    assert_eq!(server.execute("UPDATE credentials SET version = version + 1"), 1);
    let mut crawler = server.crawler();
    let reason = api.await_reason(job, "token_unreadable");
    assert!(!reason.to_string().contains("glpat"));
    crawler.settle(&api);
    assert!(crawler.try_recv().is_none(), "given out without its token");
    // As the reason says: a new one helps.
    let next = api.submit_with(&json!({ "access_token": "glpat-new" }));
    let given = [json!(crawler.assignment().id), json!(crawler.assignment().id)];
    assert!(given.contains(&json!(job)) && given.contains(&next["id"]), "{given:?}");
}

fn a_job_has_limits_of_its_own(database: TestDatabase) {
    let server = Setup::new(database).set("SOCKET_RETRY_DELAY", 3_600_000).start();
    let api = server.api();
    // One is still at work on it, for all that is known, when the other one gets it.
    let crawlers = [server.crawler(), server.crawler()];
    let limits = json!({ "job_timeout_ms": 200, "retry_attempts": 1, "retry_delay_ms": 0 });
    let job = api.submit_with(&limits);
    for (field, value) in limits.as_object().expect("an object") {
        assert_eq!(&job[field], value);
    }
    let job = job["id"].as_str().expect("an id");
    for mut crawler in crawlers {
        assert_eq!(crawler.assignment().id, job);
        crawler.started(job);
    }
    let ended = api.await_status(job, "failed");
    assert_eq!((&ended["attempt"], &ended["failures"]), (&json!(2), &json!(2)));
    for (field, value) in [
        ("run_at", json!("soon")),
        ("run_at", json!(1_700_000_000)),
        ("labels", json!("gpu")),
        ("labels", json!(vec!["x"; 17])),
        ("job_timeout_ms", json!(99)),
        ("job_timeout_ms", json!(1.5)),
        ("retry_attempts", json!(101)),
        ("retry_attempts", json!(-1)),
        ("retry_delay_ms", json!("5s")),
    ] {
        let mut wrong = json!({ "job_type": "crawl_user", "gitlab_host": "localhost", "account_id": "acme" });
        wrong[field] = value;
        assert_eq!(api.create(&wrong).places(), [format!("/{field}")].into());
    }
    let mut wrong = json!({ "job_type": "crawl_user", "gitlab_host": "localhost", "account_id": "acme" });
    wrong["labels"] = json!(["ok", "", "x".repeat(65), "a\tb"]);
    let places = ["/labels/1", "/labels/2", "/labels/3"].map(str::to_owned);
    assert_eq!(api.create(&wrong).places(), places.into());
}
