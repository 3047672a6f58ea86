//! What people do to jobs.

use std::collections::BTreeSet;

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::server::postgres;
use crate::support::{Api, Crawler, Setup, on_both_databases, wait_until};

on_both_databases!(
    a_job_that_nobody_holds_obeys_at_once,
    acts_are_asked_for_with_care,
    a_cancelled_run_keeps_its_slot_until_the_crawler_ends_it,
    a_paused_run_goes_on_where_it_was,
    a_tree_is_cancelled_and_deleted_as_a_whole,
    a_retried_child_opens_its_tree_again,
    quarantined_and_failed_jobs_get_another_chance,
    a_higher_priority_overtakes,
);

fn a_job_that_nobody_holds_obeys_at_once(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let job = api.submit("crawl_project");
    let by = json!({ "by": "Ada" });
    let act = |act: &str| api.act(&job, act, &by);

    let paused = act("pause").ok();
    assert_eq!(
        (&paused["status"], &paused["pause_reason"]),
        (&json!("paused"), &json!("operator"))
    );
    assert_eq!(act("pause").ok(), paused, "it is so already");
    assert_eq!(act("resume").ok()["status"], "queued");
    let path = format!("/api/v1/jobs/{job}/priority");
    let raised = api.ask("PUT", &path, Some(&json!({ "priority": 7.5 }))).ok();
    assert_eq!(raised["priority"], 7.5);
    let cancelled = act("cancel").ok();
    assert_eq!(
        (&cancelled["status"], &cancelled["tree_status"]),
        (&json!("cancelled"), &json!("cancelled"))
    );
    assert!(cancelled["finished_at"].is_string() && cancelled["tree"]["settled_at"].is_string());
    assert_eq!(act("cancel").ok(), cancelled);

    let asks = |answer: crate::support::api::Answer, code: &str, word: &str| {
        let problem = answer.problem(409, code);
        let detail = problem["detail"].as_str().expect("a sentence").to_lowercase();
        assert!(detail.contains(word), "{detail}");
    };
    asks(act("pause"), "job_ended", "retry");
    asks(
        api.ask("PUT", &path, Some(&json!({ "priority": 1 }))),
        "job_ended",
        "retry",
    );
    asks(act("resume"), "not_paused", "cancelled");
    asks(act("redrive"), "not_redrivable", "retry");
    assert_eq!(act("retry").ok()["status"], "queued");
    asks(act("retry"), "not_retryable", "queued");
    asks(act("redrive"), "not_redrivable", "queued");
    asks(act("resume"), "not_paused", "queued");
    asks(
        api.ask("DELETE", &format!("/api/v1/jobs/{job}"), None),
        "tree_open",
        "cancel",
    );
    assert_eq!(
        api.arrows(&job),
        ["submit", "pause", "resume", "set_priority", "cancel", "retry"]
    );

    // What had an effect is on record, and nothing else.
    let told: Vec<_> = api
        .all("/api/v1/audit")
        .iter()
        .map(|entry| {
            assert_eq!(entry["target"], json!(job));
            [entry["act"].clone(), entry["by"].clone(), entry["detail"].clone()]
        })
        .collect();
    let entry = |act: &str, by: &str, detail: Value| [json!(act), json!(by), detail];
    let expected = [
        entry("retry", "Ada", Value::Null),
        entry("cancel", "Ada", Value::Null),
        entry("set_priority", "http:127.0.0.1", json!({ "priority": 7.5 })),
        entry("resume", "Ada", Value::Null),
        entry("pause", "Ada", Value::Null),
    ];
    assert_eq!(told, expected);
}

fn acts_are_asked_for_with_care(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let job = api.submit("crawl_project");
    let places = |answer: crate::support::api::Answer| answer.places().into_iter().collect::<Vec<_>>();
    for act in ["cancel", "pause", "resume", "retry", "redrive"] {
        let path = format!("/api/v1/jobs/none/{act}");
        api.ask("POST", &path, None).problem(404, "not_found");
        let path = format!("/api/v1/jobs/{job}/{act}");
        api.post(&path, "text/plain", b"{}")
            .problem(415, "unsupported_media_type");
        api.post(&path, "application/json", b"{").problem(400, "not_json");
        let wrong = json!({ "by": "", "Tree": true });
        assert_eq!(places(api.act(&job, act, &wrong)), ["/Tree", "/by"], "{act}");
        for by in ["x".repeat(201), "a\nb".to_owned()] {
            assert_eq!(places(api.act(&job, act, &json!({ "by": by }))), ["/by"]);
        }
    }
    let priority = format!("/api/v1/jobs/{job}/priority");
    for wrong in [json!({}), json!({ "priority": "high" }), json!({ "priority": null })] {
        assert_eq!(places(api.ask("PUT", &priority, Some(&wrong))), ["/priority"]);
    }
    api.ask("PUT", &priority, None).problem(415, "unsupported_media_type");
    assert_eq!(places(api.act(&job, "cancel", &json!({ "tree": "yes" }))), ["/tree"]);
    for wrong in [json!({}), json!({ "quarantined": false, "failed": false })] {
        assert_eq!(
            places(api.ask("POST", "/api/v1/redrive", Some(&wrong))),
            ["/quarantined"]
        );
    }
    api.ask("DELETE", "/api/v1/jobs/none", None).problem(404, "not_found");
    api.get(&format!("/api/v1/jobs/{job}/cancel"))
        .problem(405, "method_not_allowed");
    let request = format!(
        "POST /api/v1/jobs/{job}/cancel HTTP/1.1\r\nHost: {}\r\nOrigin: https://evil.example\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n",
        server.http
    );
    api.raw(request.as_bytes()).problem(403, "foreign_origin");
    assert_eq!(api.job(&job)["status"], "queued", "nothing of it had an effect");
    assert!(api.all("/api/v1/audit").is_empty());
}

/// One crawler with one slot, and a job that it runs.
fn one_run(database: TestDatabase) -> (crate::support::TestServer, Crawler, String) {
    let server = Setup::new(database).set("SOCKET_MAX_CONCURRENT_JOBS", 1).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let job = api.submit("crawl_project");
    assert_eq!(crawler.assignment().id, job);
    crawler.started(&job);
    api.await_status(&job, "running");
    (server, crawler, job)
}

fn a_cancelled_run_keeps_its_slot_until_the_crawler_ends_it(database: TestDatabase) {
    let (server, mut crawler, job) = one_run(database);
    let api = server.api();
    let next = api.submit("crawl_project");

    let cancelled = api.ask("POST", &format!("/api/v1/jobs/{job}/cancel"), None).ok();
    assert_eq!(
        (&cancelled["status"], &cancelled["session"]),
        (&json!("cancelled"), &Value::Null)
    );
    // The crawler knows nothing of it and works on: its slot is not free, and what it says does not count.
    crawler.progress(&job, 0.9, 90);
    crawler.discovered(&job, &[("crawl_user", "u1")]);
    let session = crawler.settle(&api);
    assert_eq!((&session["jobs"], &session["lingering"]), (&json!([]), &json!([job])));
    assert_eq!(api.job(&job), cancelled);
    let reason = api.reason(&next);
    assert_eq!(reason["code"], "waiting_for_slot");
    assert_eq!((&reason["capable"], &reason["slots"]), (&json!(1), &json!(1)));
    assert!(crawler.try_recv().is_none(), "a slot was given twice");

    crawler.completed(&job);
    assert_eq!(crawler.assignment().id, next, "its own end frees the slot");
    assert_eq!(api.job(&job), cancelled);
    assert_eq!(api.arrows(&job), ["submit", "claim", "start", "want_cancel", "force"]);
    crawler.completed(&next);
    assert_eq!(api.await_status(&next, "completed")["attempt"], 1);
}

fn a_paused_run_goes_on_where_it_was(database: TestDatabase) {
    let (server, mut crawler, job) = one_run(database);
    let api = server.api();
    let paused = api.act(&job, "pause", &json!({})).ok();
    assert_eq!(
        (&paused["status"], &paused["session"]),
        (&json!("paused"), &Value::Null)
    );
    assert_eq!(paused["resume"], true, "it had begun");
    assert_eq!(api.reason(&job)["code"], "paused");
    let waiting = api.act(&job, "resume", &json!({})).ok();
    assert_eq!(waiting["status"], "queued");
    assert_eq!(api.reason(&job)["code"], "waiting_for_slot");
    // The end of the run that was taken away frees the slot and does not end the job.
    crawler.completed(&job);
    let again = crawler.assignment();
    assert_eq!((&again.id, &again.data["resume"]), (&job, &json!(true)));
    crawler.completed(&job);
    let ended = api.await_status(&job, "completed");
    assert_eq!((&ended["attempt"], &ended["failures"]), (&json!(2), &json!(0)));
    assert_eq!(
        api.arrows(&job),
        [
            "submit",
            "claim",
            "start",
            "want_pause",
            "force",
            "resume",
            "claim",
            "start",
            "finish"
        ]
    );
}

fn a_tree_is_cancelled_and_deleted_as_a_whole(database: TestDatabase) {
    let (server, mut crawler, root) = one_run(database);
    let api = server.api();
    crawler.discovered(
        &root,
        &[("crawl_group", "g1"), ("crawl_user", "u1"), ("crawl_project", "p1")],
    );
    crawler.completed(&root);
    let below = crawler.assignment().id;
    crawler.discovered(&below, &[("crawl_project", "p2")]);
    let ended = wait_until("all is found", || {
        let root = api.job(&root);
        (root["tree"]["jobs"] == 4).then_some(root)
    });
    assert_eq!(
        (&ended["status"], &ended["tree_status"]),
        (&json!("completed"), &json!("open"))
    );
    let tree = &ended["tree"];
    assert_eq!(
        [
            &tree["children"],
            &tree["jobs"],
            &tree["open_children"],
            &tree["failed_children"]
        ],
        [&json!(3), &json!(4), &json!(3), &json!(0)]
    );
    assert_eq!((&tree["status"], &tree["settled_at"]), (&json!("open"), &Value::Null));

    let all: Vec<_> = api.all("/api/v1/jobs").iter().map(|job| job["id"].clone()).collect();
    assert_eq!(all.len(), 5);
    let whole = json!({ "tree": true, "by": "Ada" });
    for refused in [
        api.act(&below, "cancel", &whole),
        api.ask("DELETE", &format!("/api/v1/jobs/{below}"), None),
    ] {
        let problem = refused.problem(409, "not_root");
        assert!(
            problem["detail"].as_str().expect("a sentence").contains(&root),
            "{problem}"
        );
    }
    let path = format!("/api/v1/jobs/{root}");
    api.ask("DELETE", &path, None).problem(409, "tree_open");
    let done = api.act(&root, "cancel", &whole).ok();
    assert_eq!(done["cancelled"], 4, "the root had ended by itself");
    let root_now = &done["job"];
    assert_eq!(
        (&root_now["status"], &root_now["tree_status"]),
        (&json!("completed"), &json!("failed"))
    );
    assert_eq!(root_now["tree"]["open_children"], 0);
    let states: BTreeSet<_> = api
        .all("/api/v1/jobs")
        .iter()
        .map(|job| job["status"].to_string())
        .collect();
    assert_eq!(states, [r#""cancelled""#, r#""completed""#].map(str::to_owned).into());
    assert_eq!(api.act(&root, "cancel", &whole).ok()["cancelled"], 0);

    assert_eq!(
        api.ask("DELETE", &path, Some(&json!({ "by": "Eve" }))).ok(),
        json!({ "deleted": 5 })
    );
    for job in &all {
        let path = format!("/api/v1/jobs/{}", job.as_str().expect("an id"));
        api.get(&path).problem(404, "not_found");
    }
    assert!(api.all("/api/v1/jobs").is_empty());
    api.ask("DELETE", &path, None).problem(404, "not_found");
    let told: Vec<_> = api
        .all("/api/v1/audit")
        .iter()
        .map(|it| [it["act"].clone(), it["by"].clone()])
        .collect();
    assert_eq!(
        told,
        [["delete", "Eve"], ["cancel_tree", "Ada"]].map(|it| it.map(|text| json!(text)))
    );
    // The crawler that still works on one of them does no harm, and is free afterwards.
    crawler.completed(&below);
    let next = api.submit("crawl_project");
    assert_eq!(crawler.assignment().id, next);
}

fn a_retried_child_opens_its_tree_again(database: TestDatabase) {
    let (server, mut crawler, root) = one_run(database);
    let api = server.api();
    crawler.discovered(&root, &[("crawl_user", "u1")]);
    crawler.completed(&root);
    let child = crawler.assignment().id;
    crawler.failed(&child, false);
    api.await_status(&child, "failed");
    let tree = |status: &str| {
        let tree = api.job(&root)["tree"].clone();
        assert_eq!(tree["status"], status, "{tree}");
        tree
    };
    assert_eq!(tree("failed")["failed_children"], 1);
    assert_eq!(api.act(&child, "retry", &json!({})).ok()["status"], "queued");
    let open = tree("open");
    assert_eq!(
        (&open["open_children"], &open["failed_children"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(crawler.assignment().id, child);
    crawler.completed(&child);
    api.await_status(&child, "completed");
    assert!(tree("completed")["settled_at"].is_string());
}

/// A job that was given out too often without ever starting.
fn quarantined(api: &Api, crawler: &mut Crawler) -> String {
    let job = api.submit("crawl_project");
    for _ in 0..20 {
        assert_eq!(crawler.assignment().id, job);
    }
    assert_eq!(api.await_status(&job, "paused")["pause_reason"], "quarantined");
    job
}

fn quarantined_and_failed_jobs_get_another_chance(database: TestDatabase) {
    let setup = Setup::new(database)
        .set("SOCKET_ACCEPT_TIMEOUT", 50)
        .set("SOCKET_SWEEP_INTERVAL", 10);
    let server = setup.set("SOCKET_MAX_CONCURRENT_JOBS", 1).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let job = quarantined(&api, &mut crawler);
    let reason = api.reason(&job);
    assert_eq!(
        (&reason["code"], &reason["misses"], &reason["cleared_by"]),
        (&json!("quarantined"), &json!(20), &json!("redrive"))
    );
    api.act(&job, "resume", &json!({})).problem(409, "not_paused");
    api.act(&job, "retry", &json!({})).problem(409, "not_retryable");
    let again = api.act(&job, "redrive", &json!({})).ok();
    assert_eq!((&again["pause_reason"], &again["misses"]), (&Value::Null, &json!(0)));
    assert_eq!(crawler.assignment().id, job);
    crawler.started(&job);
    crawler.failed(&job, false);
    api.await_status(&job, "failed");
    let aside = quarantined(&api, &mut crawler);

    // In bulk: by account, by kind.
    let bulk = |body: Value| api.ask("POST", "/api/v1/redrive", Some(&body)).ok()["redriven"].clone();
    assert_eq!(
        bulk(json!({ "quarantined": true, "failed": true, "account_id": "nobody" })),
        0
    );
    // Nothing is given out meanwhile, so that both can be looked at.
    api.ask("POST", "/api/v1/queue/pause", None).ok();
    assert_eq!(bulk(json!({ "failed": true })), 1);
    assert_eq!(
        (&api.job(&job)["status"], &api.job(&aside)["status"]),
        (&json!("queued"), &json!("paused"))
    );
    assert_eq!(
        bulk(json!({ "quarantined": true, "failed": true, "account_id": "acme" })),
        1
    );
    assert_eq!(api.job(&aside)["status"], "queued");
    assert_eq!(bulk(json!({ "quarantined": true, "failed": true })), 0);
    api.ask("POST", "/api/v1/queue/resume", None).ok();
    for _ in 0..2 {
        let given = crawler.assignment().id;
        crawler.completed(&given);
        api.await_status(&given, "completed");
    }
    let arrows = api.arrows(&aside);
    assert!(arrows.contains(&"redrive".to_owned()), "{arrows:?}");
}

fn a_higher_priority_overtakes(database: TestDatabase) {
    let (server, mut crawler, running) = one_run(database);
    let api = server.api();
    let jobs: Vec<_> = (0..3).map(|_| api.submit("crawl_project")).collect();
    let path = format!("/api/v1/jobs/{}/priority", jobs[2]);
    api.ask("PUT", &path, Some(&json!({ "priority": 50 }))).ok();
    crawler.completed(&running);
    for expected in [&jobs[2], &jobs[0], &jobs[1]] {
        assert_eq!(&crawler.assignment().id, expected);
        crawler.completed(expected);
    }
    wait_until("all are done", || {
        let jobs = api.all("/api/v1/jobs");
        jobs.iter().all(|job| job["status"] == "completed").then_some(())
    });
}

#[test]
fn an_act_reaches_a_crawler_of_another_server() {
    let Some(database) = postgres() else { return };
    let (one, mut crawler, job) = one_run(database);
    let two = Setup::beside(&one).start();
    let (here, there) = (one.api(), two.api());
    let next = here.submit("crawl_project");
    assert_eq!(there.act(&job, "cancel", &json!({})).ok()["status"], "cancelled");
    wait_until("its own server knows", || {
        let crawlers = here.crawlers();
        (crawlers.first()?["lingering"] == json!([job])).then_some(())
    });
    let before = there.job(&job);
    crawler.progress(&job, 0.9, 90);
    crawler.settle(&here);
    assert_eq!(there.job(&job), before);
    assert_eq!(here.reason(&next)["code"], "waiting_for_slot");
    crawler.completed(&job);
    assert_eq!(crawler.assignment().id, next);
    assert_eq!(there.job(&job), before);

    // A gate that one closes holds for both.
    there.ask("POST", "/api/v1/queue/pause", None).ok();
    let waits = here.submit("crawl_project");
    crawler.completed(&next);
    here.await_status(&next, "completed");
    assert_eq!(here.reason(&waits)["code"], "gate_closed");
    crawler.settle(&here);
    assert!(crawler.try_recv().is_none(), "something was given out");
    there.ask("POST", "/api/v1/queue/resume", None).ok();
    assert_eq!(crawler.assignment().id, waits);
}
