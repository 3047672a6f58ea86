//! How far jobs are, as people and the page see it.

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::crawler::Assignment;
use crate::support::session::session_line;
use crate::support::{Api, Crawler, SessionCrawler, Setup, on_both_databases, wait_until};

on_both_databases!(
    what_is_known_of_a_crawl_can_be_seen,
    a_server_that_was_killed_goes_on_with_the_same_numbers,
    a_job_that_does_not_go_forward_is_stalled_unless_it_waits,
    every_server_tells_the_same,
    a_look_at_another_server_is_noticed,
);

fn counts(discovered: u64, processed: u64, remaining: u64) -> Value {
    json!({
        "progress": [{
            "entity_type": "issues", "total_discovered": discovered, "total_processed": processed,
            "estimated_remaining": remaining,
        }],
        "overall_completion": 0.25, "time_elapsed": 1500,
    })
}

/// A report that the server has taken in.
fn report(api: &Api, crawler: &mut Crawler, job: &str, of: &Value) -> Value {
    crawler.say("job_progress", Some(job), of);
    let processed = &of["progress"][0]["total_processed"];
    wait_until("the report is heard", || {
        let seen = progress(api, job, "");
        (&seen["entities"][0]["total_processed"] == processed && seen["status"] == "running").then_some(seen)
    })
}

fn progress(api: &Api, job: &str, query: &str) -> Value {
    api.get(&format!("/api/v1/jobs/{job}/progress{query}")).ok()
}

fn what_is_known_of_a_crawl_can_be_seen(database: TestDatabase) {
    let server = Setup::new(database).start();
    let (api, mut stream) = (server.api(), server.stream());
    let none = api.get("/api/v1/progress").ok();
    assert_eq!(
        (&none["fleet"]["trees"], &none["fleet"]["completion"]),
        (&json!(0), &Value::Null)
    );
    let id = api.submit("crawl_project");
    let before = progress(&api, &id, "");
    assert_eq!(
        (
            &before["state"],
            &before["completion"],
            &before["eta"],
            &before["updated_at"]
        ),
        (
            &json!("initializing"),
            &json!(0.0),
            &json!({ "none": "not_started" }),
            &Value::Null
        )
    );
    let mut crawler = server.crawler();
    assert_eq!(crawler.assignment().id, id);
    let open = json!({
        "progress": [{ "entity_type": "issues", "total_discovered": 40, "total_processed": 10 }],
        "overall_completion": 0.25, "time_elapsed": 1500,
    });
    let seen = report(&api, &mut crawler, &id, &open);
    assert_eq!(
        [&seen["state"], &seen["activity"], &seen["status"]],
        ["processing", "running", "running"]
    );
    assert_eq!(seen["total"], json!({ "kind": "at_least", "items": 40 }));
    assert_eq!(
        (&seen["discovering"], &seen["done"], &seen["expected"]),
        (&json!(true), &json!(10), &json!(44))
    );
    assert!(seen["completion"].as_f64() < seen["overall_completion"].as_f64());
    assert_eq!(seen["entities"][0]["status"], "processing");
    assert!(seen["clocks"]["link_at"].is_string());

    let seen = report(&api, &mut crawler, &id, &counts(100, 60, 40));
    assert_eq!(seen["total"], json!({ "kind": "estimate", "items": 100 }));
    assert_eq!(
        (&seen["discovering"], &seen["completion"]),
        (&json!(false), &json!(0.6))
    );
    for percent in [25, 50] {
        let passed = stream.await_event("a milestone", |event, data| {
            (event == "milestone" && data["entity"].is_null()).then(|| data.clone())
        });
        assert_eq!((&passed["job_id"], &passed["percent"]), (&json!(id), &json!(percent)));
    }
    let full = progress(&api, &id, "?detail=full");
    assert_eq!(full["milestones"].as_array().map(Vec::len), Some(2));
    assert_eq!((&full["error_rate"], &full["issues"]), (&json!(0.0), &json!([])));
    assert!(full["rates"]["overall"].is_number() && !full["history"].as_array().expect("points").is_empty());
    api.get(&format!("/api/v1/jobs/{id}/progress?detail=all"))
        .problem(422, "invalid_request");
    let tree = wait_until("the report is written", || {
        let tree = progress(&api, &id, "?detail=full")["tree"].clone();
        (tree["done"] == 60).then_some(tree)
    });
    assert_eq!(
        (&tree["completion"], &tree["jobs"], &tree["status"]),
        (&json!(0.6), &json!(1), &json!("open"))
    );
    assert_eq!((&tree["expected"], &tree["expected_silent"]), (&json!(100), &json!(0)));
    let all = api.get("/api/v1/progress").ok();
    assert_eq!(
        (&all["overall_completion"], &all["active_jobs"]),
        (&json!(0.25), &json!(1))
    );
    assert_eq!(
        (&all["fleet"]["trees"], &all["fleet"]["completion"]),
        (&json!(1), &json!(0.6))
    );
    assert_eq!(all["accounts"][0]["account_id"], "acme");
    assert_eq!(all["hosts"][0]["gitlab_host"], "https://gitlab.example.com");

    crawler.completed(&id);
    api.await_status(&id, "completed");
    let ended = progress(&api, &id, "?detail=full");
    assert_eq!(
        [
            &ended["completion"],
            &ended["tree"]["completion"],
            &ended["overall_completion"]
        ],
        [&json!(1.0); 3]
    );
    assert_eq!(
        (&ended["state"], &ended["activity"]),
        (&json!("completed"), &Value::Null)
    );
    assert_eq!(ended["tree"]["milestone"], 100);
    check_timeline(&api, &id);
}

fn check_timeline(api: &Api, id: &str) {
    let timeline = api.get(&format!("/api/v1/jobs/{id}/timeline")).ok();
    let items = timeline["items"].as_array().expect("a list");
    let of_type = |of_type: &str| items.iter().filter(|item| item["type"] == of_type).collect::<Vec<_>>();
    let arrows: Vec<_> = of_type("event").iter().map(|event| event["arrows"].clone()).collect();
    assert_eq!(arrows.first(), Some(&json!(["submit"])));
    let passed: Vec<_> = of_type("milestone")
        .iter()
        .map(|passed| passed["percent"].clone())
        .collect();
    assert_eq!(passed, [25, 50, 75, 90, 100]);
    let points = of_type("progress");
    assert_eq!(points.last().expect("a point")["completion"], 1.0);
    let times: Vec<_> = items.iter().map(|item| item["at"].as_str().expect("a time")).collect();
    assert!(times.is_sorted(), "{times:?}");
}

/// A report under the marks of a session.
fn said(crawler: &mut SessionCrawler, job: &Assignment, n: u64, of: &Value) {
    let marks = json!({ "fence": job.fence(), "n": n });
    let line = session_line("job_progress", Some(&job.id), &marks, of);
    crawler.line.send_line(&line);
}

fn a_server_that_was_killed_goes_on_with_the_same_numbers(database: TestDatabase) {
    let mut server = Setup::new(database).start();
    let api = server.api();
    let id = api.submit("crawl_project");
    let mut crawler = server.session("alpha", 1);
    let job = crawler.assignment();
    crawler.started(&job);
    said(&mut crawler, &job, 1, &counts(100, 55, 45));
    // What belongs to a checkpoint is written with it.
    crawler.checkpoint(&job, &json!({ "page": 7 }));
    crawler.settle();
    let written = wait_until("the report is written", || {
        let full = progress(&api, &id, "?detail=full");
        (full["tree"]["done"] == 55).then_some(full)
    });
    server.kill();
    server.start();
    let api = server.api();
    let lasting = |value: &Value| {
        let fields = [
            "done",
            "expected",
            "completion",
            "total",
            "milestones",
            "began_at",
            "attempt",
            "tree",
            "history",
        ];
        fields.map(|field| value[field].clone())
    };
    let between = progress(&api, &id, "?detail=full");
    assert_eq!(lasting(&between), lasting(&written));

    crawler.come_back(server.connect(), &[&job]);
    // The same again is no step forward, and no new milestone.
    said(&mut crawler, &job, 2, &counts(100, 55, 45));
    let after = wait_until("the report is heard", || {
        let full = progress(&api, &id, "?detail=full");
        full["clocks"]["link_at"].is_string().then_some(full)
    });
    assert_eq!(lasting(&after), lasting(&written));
    assert_eq!(after["clocks"]["work_at"], written["clocks"]["work_at"]);
    crawler.completed(&job);
    crawler.settle();
    assert_eq!(progress(&api, &id, "")["completion"], 1.0);
}

fn a_job_that_does_not_go_forward_is_stalled_unless_it_waits(database: TestDatabase) {
    let server = Setup::new(database)
        .set("SOCKET_PROGRESS_QUIET_AFTER", 100)
        .set("SOCKET_PROGRESS_STALLED_AFTER", 3_600_000)
        .set("SOCKET_PROGRESS_STALLED_AFTER_CRAWL_GROUP", 300)
        .start();
    let (api, mut stream) = (server.api(), server.stream());
    let mut crawler = server.crawler();
    let activity = |id: &str, wanted: &str| {
        wait_until(wanted, || {
            let full = progress(&api, id, "?detail=full");
            (full["activity"] == wanted).then_some(full)
        })
    };
    let other = api.submit("crawl_project");
    crawler.assignment();
    crawler.started(&other);
    let id = api.submit("crawl_group");
    crawler.assignment();
    crawler.started(&id);
    let stalled = stream.await_event("a stalled job", |event, data| {
        (event == "stalled").then(|| data.clone())
    });
    assert_eq!(stalled["job_id"], id.as_str());
    let seen = activity(&id, "stalled");
    assert_eq!(
        (&seen["eta"], &seen["issues"][0]["kind"]),
        (&json!({ "none": "stalled" }), &json!("stalled"))
    );
    activity(&other, "quiet");
    let logged = wait_until("it is logged", || {
        let errors = api.all("/api/v1/errors");
        errors.into_iter().find(|error| error["code"] == "job_stalled")
    });
    assert_eq!(
        (&logged["job_id"], &logged["category"]),
        (&json!(id), &json!("job_processing"))
    );

    let gate = json!({ "kind": "host", "gitlab_host": "gitlab.example.com" });
    api.ask("POST", "/api/v1/gates/close", Some(&gate)).ok();
    assert_eq!(activity(&id, "waiting")["eta"], json!({ "none": "waiting" }));
    activity(&other, "waiting");
    api.ask("POST", "/api/v1/gates/open", Some(&gate)).ok();
    report(&api, &mut crawler, &id, &counts(100, 10, 90));
    activity(&id, "running");
    crawler.completed(&id);
    api.await_status(&id, "completed");
}

fn every_server_tells_the_same(database: TestDatabase) {
    if !database.config().url.starts_with("postgres") {
        return;
    }
    let first = Setup::new(database).start();
    let second = Setup::beside(&first).start();
    let (here, there) = (first.api(), second.api());
    let id = here.submit("crawl_project");
    let mut crawler = first.crawler();
    crawler.assignment();
    report(&here, &mut crawler, &id, &counts(100, 60, 40));
    let seen = wait_until("the other server has it", || {
        let seen = progress(&there, &id, "?detail=full");
        (seen["tree"]["done"] == 60).then_some(seen)
    });
    assert_eq!(
        (&seen["completion"], &seen["activity"]),
        (&json!(0.6), &json!("running"))
    );
    assert_eq!(seen["clocks"]["link_at"], Value::Null, "the other one hears it");
    let together = |api: &Api| {
        let mut all = api.get("/api/v1/progress").ok();
        all["at"] = Value::Null;
        all
    };
    assert_eq!(together(&here), together(&there));
}

fn a_look_at_another_server_is_noticed(database: TestDatabase) {
    if !database.config().url.starts_with("postgres") {
        return;
    }
    let (watched, unwatched) = (300, 5000);
    let first = Setup::new(database)
        .set("SOCKET_PROGRESS_REPORT_INTERVAL", watched)
        .set("SOCKET_PROGRESS_UNWATCHED_INTERVAL", unwatched)
        .start();
    let second = Setup::beside(&first).start();
    let id = first.api().submit("crawl_project");
    let mut crawler = first.session("looked-at", 1);
    let asked = |policy: &Value| policy["progress_interval_ms"].as_f64();
    assert_eq!(asked(&crawler.welcome["report_policy"]), Some(f64::from(unwatched)));
    let job = crawler.assignment();
    crawler.started(&job);
    crawler.settle();
    progress(&second.api(), &id, "");
    let policy = crawler.expect("report_policy");
    assert_eq!(asked(&policy["data"]), Some(f64::from(watched)));
    // Nobody looks any more.
    let policy = crawler.expect("report_policy");
    assert_eq!(asked(&policy["data"]), Some(f64::from(unwatched)));
}
