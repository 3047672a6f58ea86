//! Crawlers of the session protocol: numbers, acknowledgements, coming back, wishes.

use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::crawler::Assignment;
use crate::support::session::{hello, refused, session_line};
use crate::support::{Crawler, SessionCrawler, Setup, TestServer, on_both_databases, pause, wait_until};

on_both_databases!(
    a_life_is_acknowledged,
    what_is_said_again_has_its_effect_once,
    a_killed_server_loses_nothing_that_was_acknowledged,
    a_crawler_that_starts_again_gets_its_jobs_again,
    a_cancel_is_confirmed,
    a_pause_is_confirmed_and_taken_back,
    a_goodbye_gives_jobs_back,
);

#[track_caller]
fn kept(job: &Value, attempt: u64, fence: u64) {
    let found = (&job["attempt"], &job["fence"], &job["failures"], &job["misses"]);
    assert_eq!(found, (&json!(attempt), &json!(fence), &json!(0), &json!(0)), "{job}");
}

/// A crawler that has begun its only job.
fn at_work(database: TestDatabase) -> (TestServer, SessionCrawler, String, Assignment) {
    let server = Setup::new(database).start();
    let mut crawler = server.session("alpha", 1);
    let id = server.api().submit("crawl_project");
    let job = crawler.assignment();
    crawler.started(&job);
    (server, crawler, id, job)
}

fn a_life_is_acknowledged(database: TestDatabase) {
    let server = Setup::new(database)
        .set("SOCKET_PROGRESS_REPORT_INTERVAL", 1234)
        .start();
    let api = server.api();
    let mut crawler = server.session("alpha", 1);
    let welcome = &crawler.welcome;
    assert_eq!(welcome["version"], 1);
    assert_eq!(welcome["features"], json!(["cancel", "checkpoint"]));
    assert_eq!(welcome["heartbeat_interval_ms"], 10_000);
    assert_eq!(welcome["heartbeat_timeout_ms"], 60_000);
    assert_eq!(welcome["report_policy"], json!({ "progress_interval_ms": 1234 }));
    assert_eq!(
        (&welcome["max_in_flight"], &welcome["high_water_seq"]),
        (&json!(64), &json!(0))
    );
    assert_eq!(
        (&welcome["max_message_size_bytes"], &welcome["leases"]),
        (&json!(1_048_576), &json!([]))
    );

    let id = api.submit("crawl_project");
    let job = crawler.assignment();
    assert_eq!((&job.id, job.fence()), (&id, 1));
    crawler.started(&job);
    crawler.progress(&job, 0.5);
    crawler.checkpoint(&job, &json!({ "page": 7 }));
    crawler.settle();
    assert_eq!(api.job(&id)["status"], "running");
    let progress = api.get(&format!("/api/v1/jobs/{id}/progress")).ok();
    assert_eq!(progress["overall_completion"], 0.5);
    assert_eq!(crawler.completed(&job), 3);
    crawler.settle();
    // What is acknowledged is there for everybody, at once.
    let ended = api.job(&id);
    assert_eq!(ended["status"], "completed");
    kept(&ended, 1, 1);
    assert_eq!(api.arrows(&id), ["submit", "claim", "start", "finish"]);

    let listed = &api.crawlers()[0];
    assert_eq!(
        (&listed["crawler_id"], &listed["dialect"]),
        (&json!("alpha"), &json!("session"))
    );
    assert_eq!(
        (&listed["role"], &listed["high_water_seq"]),
        (&json!("crawler"), &json!(3))
    );
    assert_eq!(listed["instance_id"], crawler.hello["instance_id"]);
    assert_eq!(listed["software"], "scenario 1.0");
    assert_eq!(listed["features"], json!(["cancel", "checkpoint"]));
}

fn what_is_said_again_has_its_effect_once(database: TestDatabase) {
    let (server, mut crawler, id, job) = at_work(database);
    let api = server.api();
    let found = json!({ "job_type": "crawl_user", "entity_id": "7", "namespace_path": "g/u", "entity_name": "U", "priority": 1 });
    let data = json!({ "discovered_jobs": [found], "discovery_summary": {} });
    crawler.lasting("jobs_discovered", &job, &data);
    crawler.completed(&job);
    let said: Vec<_> = crawler.outbox.iter().cloned().collect();
    // It is all there, but the crawler does not know.
    api.await_status(&id, "completed");
    crawler.vanish();
    let mut again = SessionCrawler::begin(server.connect(), crawler.hello.clone());
    assert_eq!(again.welcome["high_water_seq"], 3);
    for (_, line) in &said {
        again.line.send_line(line);
    }
    let ack = again.expect("ack");
    assert_eq!(ack["data"]["seq"], 3);
    // The same number with other words is no repetition.
    let other = said[2].1.replace("100 issues", "101 issues");
    again.line.send_line(&other);
    let error = again.expect("error");
    assert_eq!(
        (&error["data"]["code"], &error["data"]["retryable"]),
        (&json!("sequence_conflict"), &json!(false))
    );
    // And one that is not yet due has to wait.
    let marks = json!({ "seq": 9, "fence": 1 });
    again
        .line
        .send_line(&session_line("checkpoint", Some(&id), &marks, &json!({ "cursor": {} })));
    let error = again.expect("error");
    assert_eq!(
        (&error["data"]["code"], &error["data"]["retryable"]),
        (&json!("sequence_gap"), &json!(true))
    );
    let ended = api.job(&id);
    kept(&ended, 1, 1);
    assert_eq!(
        (&ended["children"], &ended["result"]["summary"]),
        (&json!(1), &json!("100 issues"))
    );
    let arrows = api.arrows(&id);
    assert_eq!(arrows, ["submit", "claim", "start", "finish"]);
}

fn a_killed_server_loses_nothing_that_was_acknowledged(database: TestDatabase) {
    let mut server = Setup::new(database).start();
    let mut crawler = server.session("alpha", 1);
    let id = server.api().submit("crawl_project");
    let waiting = server.api().submit("crawl_project");
    let (job, untouched) = (crawler.assignment(), crawler.assignment());
    assert_eq!((&job.id, &untouched.id), (&id, &waiting));
    crawler.started(&job);
    crawler.checkpoint(&job, &json!({ "page": 7 }));
    crawler.settle();
    server.kill();
    // Said to nobody.
    crawler.checkpoint(&job, &json!({ "page": 8 }));
    crawler.completed(&job);

    server.start();
    let api = server.api();
    crawler.come_back(server.connect(), &[&job, &untouched]);
    let held = |job: &crate::support::crawler::Assignment| json!({ "job_id": job.id, "fence": 1 });
    let leases = crawler.welcome["leases"].as_array().expect("leases").clone();
    assert_eq!(leases.len(), 2);
    assert!(
        leases.contains(&held(&job)) && leases.contains(&held(&untouched)),
        "{leases:?}"
    );
    assert_eq!(crawler.welcome["high_water_seq"], 2);
    crawler.settle();
    crawler.started(&untouched);
    crawler.completed(&untouched);
    crawler.settle();
    for id in [&id, &waiting] {
        let ended = api.job(id);
        assert_eq!(ended["status"], "completed");
        kept(&ended, 1, 1);
        assert_eq!(api.arrows(id), ["submit", "claim", "start", "finish"]);
    }
}

fn a_crawler_that_starts_again_gets_its_jobs_again(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let mut crawler = server.session("alpha", 1);
    let (begun, given) = (api.submit("crawl_project"), api.submit("crawl_project"));
    let jobs = [crawler.assignment(), crawler.assignment()];
    crawler.started(&jobs[0]);
    crawler.checkpoint(&jobs[0], &json!({ "page": 7 }));
    crawler.settle();
    // The program starts again with the same instance and knows nothing any more. Its old connection still stands.
    let mut old = crawler;
    let mut crawler = server.session("alpha", 1);
    let end = old.last_words();
    let told = (&end["type"], &end["data"]["reason"], &end["data"]["reconnect"]);
    assert_eq!(told, (&json!("goodbye"), &json!("replaced"), &json!(false)));
    assert_eq!(crawler.welcome["leases"], json!([]));
    let mut again = [crawler.assignment(), crawler.assignment()];
    again.sort_by_key(|job| job.id != begun);
    let found = |place: usize| {
        let job = &again[place];
        (
            job.id.clone(),
            job.fence(),
            job.data["resume"].clone(),
            job.data["checkpoint"].clone(),
        )
    };
    assert_eq!(found(0), (begun.clone(), 1, json!(true), json!({ "page": 7 })));
    assert_eq!(found(1), (given.clone(), 1, json!(false), Value::Null));
    // Its numbers go on where they were.
    let number = crawler.welcome["high_water_seq"].as_u64().expect("a number");
    assert_eq!(number, 2);
    for (offset, id) in [&begun, &given].into_iter().enumerate() {
        let marks = json!({ "seq": 3 + offset, "fence": 1 });
        let data = json!({ "job_type": "crawl_project", "final_counts": [], "total_duration": 1, "output_files": [], "summary": "" });
        crawler
            .line
            .send_line(&session_line("job_completed", Some(id), &marks, &data));
        kept(&api.await_status(id, "completed"), 1, 1);
    }
}

fn a_cancel_is_confirmed(database: TestDatabase) {
    let (server, mut crawler, id, job) = at_work(database);
    let api = server.api();
    crawler.settle();
    let wished = api.act(&id, "cancel", &json!({ "by": "ada" })).ok();
    assert_eq!(
        (&wished["status"], &wished["want"]["want"]),
        (&json!("running"), &json!("cancel"))
    );
    let asked = crawler.expect("job_cancel");
    assert_eq!((&asked["job_id"], &asked["fence"]), (&json!(id), &json!(1)));
    assert!(
        asked["data"]["deadline_ms"].as_u64().is_some_and(|left| left <= 30_000),
        "{asked}"
    );
    crawler.lasting("job_cancelled", &job, &json!({}));
    crawler.settle();
    assert_eq!(api.job(&id)["status"], "cancelled");
    assert_eq!(api.arrows(&id), ["submit", "claim", "start", "want_cancel", "confirm"]);
    // Its slot is free at once.
    assert_eq!(api.crawlers()[0]["lingering"], json!([]));
}

fn a_pause_is_confirmed_and_taken_back(database: TestDatabase) {
    let (server, mut crawler, id, job) = at_work(database);
    let api = server.api();
    crawler.checkpoint(&job, &json!({ "page": 7 }));
    crawler.settle();
    api.act(&id, "pause", &json!({})).ok();
    crawler.expect("job_pause");
    api.act(&id, "resume", &json!({})).ok();
    let back = crawler.expect("job_resume");
    assert_eq!((&back["job_id"], &back["fence"]), (&json!(id), &json!(1)));
    crawler.lasting("job_resumed", &job, &json!({}));
    crawler.settle();
    assert_eq!(api.job(&id)["status"], "running");

    api.act(&id, "pause", &json!({})).ok();
    crawler.expect("job_pause");
    crawler.lasting("job_paused", &job, &json!({}));
    crawler.settle();
    assert_eq!(api.job(&id)["status"], "paused");
    api.act(&id, "resume", &json!({})).ok();
    let job = crawler.assignment();
    assert_eq!(
        (&job.data["resume"], &job.data["checkpoint"]),
        (&json!(true), &json!({ "page": 7 }))
    );
    crawler.started(&job);
    crawler.completed(&job);
    crawler.settle();
    let ended = api.job(&id);
    assert_eq!((&ended["status"], &ended["failures"]), (&json!("completed"), &json!(0)));
}

fn a_goodbye_gives_jobs_back(database: TestDatabase) {
    let (server, mut crawler, id, _) = at_work(database);
    let api = server.api();
    crawler.settle();
    crawler.say("goodbye", &json!({ "reason": "deployment" }));
    while crawler.line.recv().is_some() {}
    let mut other = server.session("beta", 2);
    let job = other.assignment();
    assert_eq!((&job.id, &job.data["resume"]), (&id, &json!(true)));
    let given = api.job(&id);
    assert_eq!(given["failures"], 0, "{given}");
    wait_until("it is listed", || {
        let closed = api.get("/api/v1/connections/closed").ok();
        (closed["by_reason"]["goodbye"] == 1).then_some(())
    });
}

#[test]
fn who_asks_for_jobs_gets_so_many() {
    let server = Setup::new(TestDatabase::sqlite()).start();
    let api = server.api();
    let mut greeting = hello("alpha", 1);
    greeting["slots"] = 0.into();
    let mut crawler = SessionCrawler::begin(server.connect(), greeting);
    let ids = [api.submit("crawl_project"), api.submit("crawl_project")];
    api.await_reason(&ids[0], "waiting_for_slot");
    crawler.say("job_request", &json!({ "slots": 1 }));
    assert_eq!(crawler.assignment().id, ids[0]);
    api.await_reason(&ids[1], "waiting_for_slot");
}

#[test]
fn a_bad_hello_is_answered_and_ends_it() {
    let server = Setup::new(TestDatabase::sqlite()).start();
    let api = server.api();
    let mut future = hello("alpha", 1);
    future["versions"] = json!([2, 3]);
    let mut nameless = hello("alpha", 1);
    nameless["crawler_id"] = "".into();
    let mut king = hello("alpha", 1);
    king["role"] = "king".into();
    for (greeting, code) in [
        (future, "unsupported_version"),
        (nameless, "invalid_message"),
        (king, "forbidden_role"),
    ] {
        assert_eq!(refused(server.connect(), &greeting).0, code);
    }
    wait_until("they are listed", || {
        let closed = api.get("/api/v1/connections/closed").ok();
        (closed["by_reason"]["hello_refused"] == 3).then_some(())
    });
    assert!(api.crawlers().is_empty());
    // And only one hello in a life.
    let mut crawler = server.session("alpha", 1);
    crawler.say("hello", &hello("alpha", 1));
    assert_eq!(crawler.expect("error")["data"]["code"], "hello_expected_once");
}

#[test]
fn a_bad_line_is_answered_with_what_is_wrong() {
    let setup = Setup::new(TestDatabase::sqlite()).set("SOCKET_MAX_INVALID_MESSAGES", 3);
    let server = setup.start();
    let api = server.api();
    let mut crawler = server.session("alpha", 1);
    let id = api.submit("crawl_project");
    let job = crawler.assignment();
    let number = crawler.lasting("job_started", &job, &json!({ "job_type": 7 }));
    let error = crawler.expect("error");
    let data = &error["data"];
    assert_eq!(
        (&data["seq"], &data["code"]),
        (&json!(number), &json!("invalid_message"))
    );
    assert_eq!(
        (&data["retryable"], &data["violations"][0]["path"]),
        (&json!(false), &json!("/data/job_type"))
    );
    // The number is used up: the next one is the next one.
    crawler.started(&job);
    crawler.settle();
    assert_eq!(api.job(&id)["status"], "running");
    crawler.line.send_line("no json");
    crawler.line.send_line("still none");
    let last = crawler.last_words();
    let told = (&last["type"], &last["data"]["reason"], &last["data"]["reconnect"]);
    assert_eq!(told, (&json!("goodbye"), &json!("too_many_errors"), &json!(false)));
}

#[test]
fn a_stop_is_announced_and_costs_nothing() {
    let mut server = Setup::new(TestDatabase::sqlite()).start();
    let mut crawler = server.session("alpha", 1);
    let mut base = server.crawler();
    let id = server.api().submit("crawl_project");
    let job = crawler.assignment();
    crawler.started(&job);
    let (status, _) = server.stop("TERM");
    assert_eq!(status.code(), Some(0));
    let draining = crawler.expect("draining");
    let after = draining["data"]["reconnect_after_ms"].as_f64().expect("a time");
    let deadline = draining["data"]["deadline_ms"].as_f64().expect("a time");
    assert!(deadline == 1000.0 && after >= deadline, "{draining}");
    let last = crawler.last_words();
    let told = (&last["type"], &last["data"]["reason"], &last["data"]["reconnect"]);
    assert_eq!(told, (&json!("goodbye"), &json!("server_shutdown"), &json!(true)));
    assert!(
        crawler.outbox.is_empty(),
        "what was said before the stop is acknowledged"
    );
    assert_eq!(base.recv().expect("a word")["type"], "shutdown");
    assert!(base.recv().is_none());
    server.start();
    crawler.come_back(server.connect(), &[&job]);
    crawler.completed(&job);
    crawler.settle();
    kept(&server.api().job(&id), 1, 1);
}

#[test]
fn a_silent_session_is_asked_whether_it_lives() {
    let setup = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_HEARTBEAT_INTERVAL", 100)
        .set("SOCKET_HEARTBEAT_TIMEOUT", 600);
    let server = setup.start();
    let mut crawler = server.session("alpha", 1);
    // An answer is a sign of life, and enough of one.
    for _ in 0..10 {
        crawler.expect("ping");
    }
    // It hangs now: it reads, and answers nothing.
    let mut last = Value::Null;
    while let Some(message) = crawler.line.recv() {
        last = message;
    }
    let told = (&last["type"], &last["data"]["reason"], &last["data"]["reconnect"]);
    assert_eq!(told, (&json!("goodbye"), &json!("idle_timeout"), &json!(true)));
}

/// Whoever looks after connections of the base protocol, which sees only what is valid, looks a hundred times meanwhile.
#[test]
fn a_session_lives_by_whatever_it_says_and_is_told_when_it_is_too_silent() {
    let setup = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_HEARTBEAT_INTERVAL", 100)
        .set("SOCKET_HEARTBEAT_TIMEOUT", 500)
        .set("SOCKET_HEALTH_CHECK_INTERVAL", 10);
    let server = setup.start();
    let mut crawler = server.session("alpha", 1);
    let beat = json!({ "active_jobs": 0, "last_activity": "2026-11-21T10:00:00Z", "system_status": "idle" });
    crawler.say("heartbeat", &beat);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1500) {
        let asked = crawler.line.recv().expect("it is not closed");
        match asked["type"].as_str() {
            Some("ping") => crawler.line.send_line(r#"{"type":"pong"}"#),
            Some("error") => assert_eq!(asked["data"]["code"], "invalid_message"),
            _ => panic!("{asked}"),
        }
    }
    let mut last = Value::Null;
    while let Some(message) = crawler.line.recv() {
        last = message;
    }
    assert_eq!(last["data"]["reason"], "idle_timeout", "{last}");
    let api = server.api();
    wait_until("it is listed", || {
        let closed = api.get("/api/v1/connections/closed").ok();
        (closed["by_reason"] == json!({ "idle_timeout": 1 })).then_some(())
    });
}

#[test]
fn a_late_hello_is_no_hello() {
    let server = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_HELLO_TIMEOUT", 100)
        .start();
    let api = server.api();
    let mut line = server.connect();
    wait_until("it is decided", || {
        let open = api.all("/api/v1/connections");
        (open[0]["dialect"] == "base").then_some(())
    });
    line.send_line(&session_line("hello", None, &Value::Null, &hello("alpha", 1)));
    line.introduce(&api);
    assert_eq!(api.crawlers()[0]["dialect"], "base");
    // One that is only slow is heard.
    let mut line: Crawler = server.connect();
    let greeting = session_line("hello", None, &Value::Null, &hello("alpha", 1));
    let (first, rest) = greeting.split_at(20);
    line.send_bytes(first.as_bytes());
    pause(Duration::from_millis(300));
    line.send_line(rest);
    assert_eq!(line.recv().expect("a welcome")["type"], "welcome");
}

#[test]
fn too_much_of_one_kind_is_slowed_down() {
    let setup = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_RATE_LIMIT_MESSAGES_PER_SECOND", 1)
        .set("SOCKET_RATE_LIMIT_BURST_MESSAGES", 2);
    let server = setup.start();
    let mut crawler = server.session("alpha", 1);
    server.api().submit("crawl_project");
    let job = crawler.assignment();
    crawler.started(&job);
    for page in 0..3 {
        crawler.checkpoint(&job, &json!({ "page": page }));
    }
    // Nothing is lost, and nobody is told off.
    crawler.settle();
    // A minute's worth, behind which nothing else is read either.
    (0..60).for_each(|_| crawler.say("ping", &json!({})));
    let pong = crawler.expect("pong");
    assert_eq!(pong["type"], "pong");
    let open = server.api().all("/api/v1/connections");
    let received = open[0]["messages_received"].as_u64().expect("a number");
    assert!(received < 60, "{open:?}");
    assert_eq!(server.api().get("/api/v1/errors").ok()["items"], json!([]));
}
