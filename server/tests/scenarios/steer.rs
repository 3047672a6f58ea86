//! What people do to crawlers and to a server.

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::{Api, Setup, on_both_databases, wait_until};

on_both_databases!(
    a_crawler_is_shown_with_what_it_does,
    a_crawler_is_told_what_may_be_told,
    a_connection_is_ended_by_hand,
    a_drained_crawler_is_given_nothing,
    a_drained_server_gives_out_nothing,
);

fn steer(api: &Api, what: &str, body: &Value) -> crate::support::api::Answer {
    api.ask("POST", &format!("/api/v1/{what}"), Some(body))
}

/// What is on record, newest first.
fn record(api: &Api) -> Vec<(String, String, String)> {
    let text = |entry: &Value, field: &str| entry[field].as_str().expect("a text").to_owned();
    let record = api.all("/api/v1/audit");
    record
        .iter()
        .map(|entry| (text(entry, "by"), text(entry, "act"), text(entry, "target")))
        .collect()
}

fn a_crawler_is_shown_with_what_it_does(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let mut crawler = server.session("crawler-7", 1);
    let id = api.submit("crawl_project");
    let job = crawler.assignment();
    crawler.started(&job);
    crawler.progress(&job, 0.25);
    let name = api.crawlers()[0]["id"].as_str().expect("a name").to_owned();
    let path = format!("/api/v1/crawlers/{name}");
    let shown = wait_until("the report is heard", || {
        let shown = api.get(&path).ok();
        (shown["held"][0]["progress"]["overall_completion"] == 0.25).then_some(shown)
    });
    let listed = &api.crawlers()[0];
    for field in [
        "id",
        "connection",
        "crawler_id",
        "jobs",
        "draining",
        "epoch",
        "features",
    ] {
        assert_eq!(shown[field], listed[field], "{field}");
    }
    assert_eq!(
        (&shown["held"][0]["id"], &shown["draining"]),
        (&json!(id), &json!(false))
    );
    assert_eq!(shown["held"].as_array().map(Vec::len), Some(1));
    assert!(shown["traffic"]["bytes_received"].as_u64() > Some(0));
    assert_eq!(shown["traffic"]["session"], name.as_str());
    for gone in ["nobody", "%00"] {
        api.get(&format!("/api/v1/crawlers/{gone}")).problem(404, "not_found");
    }
}

fn a_crawler_is_told_what_may_be_told(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let (mut base, mut session) = (server.crawler(), server.session("crawler-7", 1));
    let greeted = api
        .crawlers()
        .into_iter()
        .find(|crawler| crawler["crawler_id"] == "crawler-7");
    let name = greeted.expect("it is there")["id"].as_str().expect("a name").to_owned();
    let shutdown =
        json!({ "type": "shutdown", "data": { "graceful": true, "timeout_seconds": 7, "reason": "<b>" }, "by": "ada" });
    let to = |crawler: &str| format!("crawlers/{crawler}/message");
    assert_eq!(steer(&api, &to(&base.name), &shutdown).ok(), json!({ "sent": 1 }));
    let heard = base.recv().expect("a message");
    assert_eq!(
        (&heard["type"], &heard["data"]),
        (&json!("shutdown"), &shutdown["data"])
    );
    let policy = json!({ "type": "report_policy", "data": { "progress_interval_ms": 5000 } });
    steer(&api, &to(&name), &policy).ok();
    assert_eq!(session.expect("report_policy")["data"], policy["data"]);
    // Who does not know it, is left out.
    assert_eq!(steer(&api, "crawlers/broadcast", &policy).ok(), json!({ "sent": 1 }));
    session.expect("report_policy");
    assert_eq!(steer(&api, "crawlers/broadcast", &shutdown).ok(), json!({ "sent": 2 }));
    assert_eq!(base.recv().expect("a message")["type"], "shutdown");
    session.expect("shutdown");
    let acts: Vec<_> = record(&api).into_iter().map(|(_, act, target)| (act, target)).collect();
    let of = |act: &str, target: &str| (act.to_owned(), target.to_owned());
    let expected = [
        of("broadcast", "all crawlers"),
        of("broadcast", "all crawlers"),
        of("message", &name),
        of("message", &base.name),
    ];
    assert_eq!(acts, expected);

    let wrong = json!({ "type": "shutdown", "data": { "timeout_seconds": "soon" } });
    for (crawler, body, place) in [
        (&base.name, policy.clone(), "/type"),
        (&name, wrong, "/data/timeout_seconds"),
        (
            &name,
            json!({ "type": "report_policy", "data": {} }),
            "/data/progress_interval_ms",
        ),
        (&name, json!({ "type": "shutdown" }), "/data"),
        (&name, json!({ "type": "shutdown", "data": 7 }), "/data"),
        (
            &name,
            json!({ "type": "shutdown", "data": {}, "job_id": "x" }),
            "/job_id",
        ),
        (&name, json!({ "data": {} }), "/type"),
    ] {
        assert_eq!(
            steer(&api, &to(crawler), &body).places(),
            [place.to_owned()].into(),
            "{body}"
        );
    }
    for forbidden in [
        "job_assignment",
        "job_cancel",
        "welcome",
        "ack",
        "error",
        "goodbye",
        "token_refresh_response",
        "ping",
        "x",
    ] {
        for what in [to(&name), "crawlers/broadcast".to_owned()] {
            let body = json!({ "type": forbidden, "data": {} });
            assert_eq!(
                steer(&api, &what, &body).places(),
                ["/type".to_owned()].into(),
                "{forbidden}"
            );
        }
    }
    steer(&api, &to("nobody"), &shutdown).problem(404, "not_found");
    assert_eq!(record(&api).len(), 4, "nothing of it happened");
}

fn a_connection_is_ended_by_hand(database: TestDatabase) {
    let server = Setup::new(database).set("SOCKET_REATTACH_GRACE", 500).start();
    let api = server.api();
    let (mut base, mut session) = (server.crawler(), server.session("crawler-7", 1));
    let id = api.submit("crawl_project");
    let held = wait_until("somebody has it", || {
        let crawlers = api.crawlers();
        crawlers
            .iter()
            .any(|crawler| !crawler["jobs"].as_array().expect("jobs").is_empty())
            .then_some(crawlers)
    });
    let greeted = held
        .iter()
        .find(|crawler| crawler["crawler_id"] == "crawler-7")
        .expect("it is there");
    let name = greeted["id"].as_str().expect("a name").to_owned();
    steer(
        &api,
        &format!("crawlers/{name}/disconnect"),
        &json!({ "reconnect": false, "by": "ada" }),
    )
    .ok();
    let goodbye = session.last_words();
    assert_eq!(
        (
            &goodbye["type"],
            &goodbye["data"]["reason"],
            &goodbye["data"]["reconnect"]
        ),
        (&json!("goodbye"), &json!("disconnected_by_operator"), &json!(false))
    );
    api.ask("POST", &format!("/api/v1/crawlers/{}/disconnect", base.name), None)
        .ok();
    base.await_end();
    let closed = wait_until("both are gone", || {
        let closed = api.get("/api/v1/connections/closed").ok();
        (closed["by_reason"]["disconnected_by_operator"] == 2).then_some(closed)
    });
    assert_eq!(closed["items"][0]["reason"], "disconnected_by_operator");
    let acts = record(&api);
    assert_eq!(
        acts.last(),
        Some(&("ada".to_owned(), "disconnect".to_owned(), name.clone()))
    );
    steer(&api, &format!("crawlers/{name}/disconnect"), &json!({})).problem(404, "not_found");
    // The job is given to whoever comes.
    let mut next = server.crawler();
    assert_eq!(next.assignment().id, id);
}

fn a_drained_crawler_is_given_nothing(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let mut session = server.session("crawler-7", 1);
    let name = api.crawlers()[0]["id"].as_str().expect("a name").to_owned();
    let held = api.submit("crawl_project");
    let job = session.assignment();
    session.started(&job);
    let drain = |crawler: &str, act: &str, body: Value| steer(&api, &format!("crawlers/{crawler}/{act}"), &body);
    let asked = json!({ "reason": "new disk", "deadline_ms": 900_000, "by": "ada" });
    assert_eq!(
        drain(&name, "drain", asked).ok(),
        json!({ "draining": true, "told": 1 })
    );
    let told = session.expect("draining");
    assert_eq!(
        (&told["data"]["reason"], &told["data"]["deadline_ms"]),
        (&json!("new disk"), &json!(900_000))
    );
    assert_eq!(api.crawlers()[0]["draining"], true);
    let waiting = api.submit("crawl_project");
    assert_eq!(api.await_reason(&waiting, "draining")["capable"], 1);
    // What it has, it goes on with, and it stays drained when it comes back.
    session.completed(&job);
    session.settle();
    assert_eq!(api.job(&held)["status"], "completed");
    session.vanish();
    session.come_back(server.connect(), &[]);
    api.await_reason(&waiting, "draining");
    // Others are given it.
    let mut base = server.crawler();
    assert_eq!(base.assignment().id, waiting);
    base.completed(&waiting);
    assert_eq!(
        drain(&base.name, "drain", json!({})).ok(),
        json!({ "draining": true, "told": 0 })
    );
    let next = api.submit("crawl_project");
    assert_eq!(api.await_reason(&next, "draining")["capable"], 2);
    assert_eq!(drain(&name, "undrain", json!({})).ok(), json!({ "draining": false }));
    assert_eq!(session.assignment().id, next);
    assert!(base.try_recv().is_none());
    let acts: Vec<_> = record(&api).into_iter().map(|(_, act, _)| act).collect();
    assert_eq!(acts, ["undrain_crawler", "drain_crawler", "drain_crawler"]);
    drain("nobody", "drain", json!({})).problem(404, "not_found");
    drain("nobody", "undrain", json!({})).problem(404, "not_found");
    for (body, place) in [
        (json!({ "deadline_ms": -1 }), "/deadline_ms"),
        (json!({ "deadline_ms": 3_600_001 }), "/deadline_ms"),
        (json!({ "reason": "two\nlines" }), "/reason"),
        (json!({ "resaon": "x" }), "/resaon"),
    ] {
        assert_eq!(drain(&name, "drain", body).places(), [place.to_owned()].into());
    }
}

fn a_drained_server_gives_out_nothing(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let (mut base, mut session) = (server.crawler(), server.session("crawler-7", 1));
    assert_eq!(
        steer(&api, "server/drain", &json!({ "by": "ada" })).ok(),
        json!({ "draining": true, "told": 1 })
    );
    session.expect("draining");
    let waiting = api.submit("crawl_project");
    assert_eq!(api.await_reason(&waiting, "draining")["capable"], 2);
    assert!(api.crawlers().iter().all(|crawler| crawler["draining"] == true));
    // Taken back, everything is as it was.
    assert_eq!(
        api.ask("POST", "/api/v1/server/undrain", None).ok(),
        json!({ "draining": false })
    );
    let given = wait_until("it is given out", || {
        let job = api.job(&waiting);
        (job["status"] == "assigned").then_some(job)
    });
    assert!(given["session"].is_string());
    assert!(api.crawlers().iter().all(|crawler| crawler["draining"] == false));
    let acts: Vec<_> = record(&api).into_iter().map(|(_, act, _)| act).collect();
    assert_eq!(acts, ["undrain_server", "drain_server"]);
    drop(base.try_recv());
}
