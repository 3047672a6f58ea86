//! Gates: the pause of the queue, of a host, of an account's credentials.

use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::{Api, Setup, on_both_databases};

on_both_databases!(
    a_paused_queue_gives_nothing_out,
    a_pause_ends_by_itself,
    a_gate_holds_back_whom_it_names,
    a_new_token_opens_the_gate_of_credentials,
    gates_are_asked_for_with_care,
);

fn post(api: &Api, path: &str, body: &Value) -> Value {
    api.ask("POST", &format!("/api/v1/{path}"), Some(body)).ok()
}

fn soon(time: Duration) -> String {
    (Utc::now() + time).to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn a_paused_queue_gives_nothing_out(database: TestDatabase) {
    let server = Setup::new(database).set("SOCKET_MAX_CONCURRENT_JOBS", 5).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let runs = api.submit("crawl_project");
    assert_eq!(crawler.assignment().id, runs);
    let paused = post(&api, "queue/pause", &json!({ "reason": "an update", "by": "Ada" }));
    assert_eq!(
        [
            &paused["kind"],
            &paused["closed"],
            &paused["reason"],
            &paused["by"],
            &paused["until"]
        ],
        [
            &json!("queue"),
            &json!(true),
            &json!("an update"),
            &json!("Ada"),
            &Value::Null
        ]
    );
    let waits = api.submit("crawl_project");
    crawler.settle(&api);
    let reason = api.reason(&waits);
    assert_eq!((&reason["code"], &reason["gate"]), (&json!("gate_closed"), &paused));
    let detail = reason["detail"].as_str().expect("a sentence");
    assert!(detail.contains("an update") && detail.contains("Ada"), "{detail}");
    let queue = api.get("/api/v1/queue").ok();
    assert_eq!((&queue["paused"], &queue["gate"]), (&json!(true), &paused));
    assert_eq!(
        (&queue["jobs"]["queued"], &queue["jobs"]["assigned"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(api.all("/api/v1/gates"), std::slice::from_ref(&paused));
    // What runs goes on.
    crawler.completed(&runs);
    api.await_status(&runs, "completed");
    assert!(crawler.try_recv().is_none(), "something was given out");

    let open = post(&api, "queue/resume", &json!({}));
    assert_eq!((&open["kind"], &open["closed"]), (&json!("queue"), &json!(false)));
    assert_eq!(crawler.assignment().id, waits);
    assert_eq!(post(&api, "queue/resume", &json!({})), open, "it is open already");
    assert_eq!(api.get("/api/v1/queue").ok()["paused"], false);
    let told = api.all("/api/v1/audit");
    let told: Vec<_> = told.iter().map(|it| (&it["act"], &it["target"])).collect();
    assert_eq!(
        told,
        [
            (&json!("open_gate"), &json!("queue")),
            (&json!("close_gate"), &json!("queue"))
        ]
    );
}

fn a_pause_ends_by_itself(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let until = soon(Duration::from_millis(700));
    let paused = post(&api, "queue/pause", &json!({ "until": until }));
    assert_eq!(paused["until"], json!(until));
    let job = api.submit("crawl_project");
    assert_eq!(api.reason(&job)["gate"]["until"], json!(until));
    assert_eq!(crawler.assignment().id, job);
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    assert!(now >= until, "given out at {now}, before {until}");
    crate::support::wait_until("it is forgotten", || api.all("/api/v1/gates").is_empty().then_some(()));
}

fn a_gate_holds_back_whom_it_names(database: TestDatabase) {
    let server = Setup::new(database).set("SOCKET_MAX_CONCURRENT_JOBS", 10).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let job = |host: &str, account: &str| {
        let job = api.submit_with(&json!({ "gitlab_host": host, "account_id": account }));
        job["id"].as_str().expect("an id").to_owned()
    };
    // An account is known from its first job on.
    let first = job("b.example", "one");
    assert_eq!(crawler.assignment().id, first);
    let host = post(
        &api,
        "gates/close",
        &json!({ "kind": "host", "gitlab_host": "HTTPS://A.example:443/" }),
    );
    assert_eq!(host["gitlab_host"], "https://a.example");
    let credentials = json!({ "kind": "credentials", "account_id": "one", "gitlab_host": "b.example" });
    let closed = post(&api, "gates/close", &credentials);
    assert_eq!(
        (&closed["account_id"], &closed["gitlab_host"]),
        (&json!("one"), &json!("https://b.example"))
    );
    assert_eq!(api.all("/api/v1/gates"), [host, closed]);

    let (by_host, by_credentials) = (job("a.example", "two"), job("b.example", "one"));
    let (other_account, other_host) = (job("b.example", "two"), job("c.example", "one"));
    let mut given = [crawler.assignment().id, crawler.assignment().id];
    given.sort();
    let mut free = [other_account, other_host];
    free.sort();
    assert_eq!(given, free);
    for (job, kind) in [(&by_host, "host"), (&by_credentials, "credentials")] {
        let reason = api.reason(job);
        assert_eq!(
            (&reason["code"], &reason["gate"]["kind"]),
            (&json!("gate_closed"), &json!(kind))
        );
    }
    crawler.settle(&api);
    assert!(crawler.try_recv().is_none(), "something was given out");
    post(
        &api,
        "gates/open",
        &json!({ "kind": "host", "gitlab_host": "a.example" }),
    );
    assert_eq!(crawler.assignment().id, by_host);
    post(&api, "gates/open", &credentials);
    assert_eq!(crawler.assignment().id, by_credentials);
    assert!(api.all("/api/v1/gates").is_empty());
}

fn a_new_token_opens_the_gate_of_credentials(database: TestDatabase) {
    let server = Setup::new(database).set("SOCKET_MAX_CONCURRENT_JOBS", 10).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let token = |token: &str| api.submit_with(&json!({ "access_token": token }))["id"].clone();
    let first = token("glpat-old");
    assert_eq!(json!(crawler.assignment().id), first);
    let gate = json!({ "kind": "credentials", "account_id": "acme", "gitlab_host": "gitlab.example.com" });
    post(&api, "gates/close", &gate);
    let waits = api.submit("crawl_project");
    assert_eq!(api.reason(&waits)["gate"]["kind"], "credentials");
    let second = token("glpat-new");
    let given = [json!(crawler.assignment().id), json!(crawler.assignment().id)];
    assert!(given.contains(&json!(waits)) && given.contains(&second), "{given:?}");
    assert!(api.all("/api/v1/gates").is_empty());
    assert_eq!(api.all("/api/v1/audit")[0]["by"], "a new token");
}

fn gates_are_asked_for_with_care(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    for path in ["/api/v1/gates/close", "/api/v1/gates/open"] {
        for (wrong, places) in [
            (json!({}), vec!["/kind"]),
            (json!({ "kind": "door", "gitlab_host": "x" }), vec!["/kind"]),
            (json!({ "kind": "queue", "gitlab_host": "x" }), vec!["/gitlab_host"]),
            (json!({ "kind": "host" }), vec!["/gitlab_host"]),
            (
                json!({ "kind": "host", "gitlab_host": "ftp://x" }),
                vec!["/gitlab_host"],
            ),
            (json!({ "kind": "credentials" }), vec!["/account_id", "/gitlab_host"]),
            (json!({ "kind": "queue", "by": "\u{7}" }), vec!["/by"]),
        ] {
            let answer = api.ask("POST", path, Some(&wrong));
            assert_eq!(
                answer.places(),
                places.into_iter().map(str::to_owned).collect(),
                "{wrong}"
            );
        }
        api.ask("POST", path, None).problem(415, "unsupported_media_type");
    }
    let unknown = json!({ "kind": "credentials", "account_id": "nobody", "gitlab_host": "x" });
    api.ask("POST", "/api/v1/gates/close", Some(&unknown))
        .problem(404, "not_found");
    for wrong in ["2020-01-01T00:00:00Z", "tomorrow"] {
        let answer = api.ask("POST", "/api/v1/queue/pause", Some(&json!({ "until": wrong })));
        assert_eq!(answer.places(), ["/until".to_owned()].into());
    }
    assert!(api.all("/api/v1/gates").is_empty() && api.all("/api/v1/audit").is_empty());
}
