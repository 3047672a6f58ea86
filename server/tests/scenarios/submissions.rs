//! Submissions that are repeated, many at once, and acts on all that fit.

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::{Api, Setup, on_both_databases};

on_both_databases!(
    a_submission_with_a_key_is_made_once,
    a_batch_takes_what_is_right_and_refuses_the_rest,
    a_repeated_batch_makes_nothing_new,
    what_fits_is_acted_upon,
);

const BATCH: &str = "/api/v1/jobs/batch";

fn jobs(api: &Api) -> usize {
    api.all("/api/v1/jobs?limit=500").len()
}

fn job(name: &str) -> Value {
    json!({ "job_type": "crawl_project", "gitlab_host": "gitlab.example.com", "account_id": "acme", "entity_id": name })
}

fn a_submission_with_a_key_is_made_once(database: TestDatabase) {
    let mut server = Setup::new(database).start();
    let api = server.api();
    let key = "~!\"retry-1";
    let first = api.post_with("/api/v1/jobs", &[("idempotency-key", key)], &job("one").to_string());
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, ""));
    let id = first.json()["id"].as_str().expect("an id").to_owned();
    api.act(&id, "pause", &json!({})).ok();
    // A server that was killed knows it, and what is the same may be written otherwise.
    server.kill();
    server.start();
    let api = server.api();
    let other_words = r#"{ "entity_id":"one", "account_id":"acme",
        "job_type":"crawl_project", "gitlab_host" : "gitlab.example.com" }"#;
    for body in [job("one").to_string(), other_words.to_owned()] {
        let again = api.post_with("/api/v1/jobs", &[("Idempotency-Key", key)], &body);
        assert_eq!(
            (again.status, again.header("idempotency-replayed")),
            (201, "true"),
            "{again:?}"
        );
        assert_eq!(again.header("location"), format!("/api/v1/jobs/{id}"));
        assert_eq!(
            (&again.json()["id"], &again.json()["status"]),
            (&json!(id), &json!("paused")),
            "as it is now"
        );
    }
    let other = api.post_with("/api/v1/jobs", &[("idempotency-key", key)], &job("two").to_string());
    other.problem(422, "idempotency_key_reused");
    // What was refused has not used the key.
    let wrong = api.post_with("/api/v1/jobs", &[("idempotency-key", "k2")], "{}");
    wrong.problem(422, "invalid_request");
    let right = api.post_with("/api/v1/jobs", &[("idempotency-key", "k2")], &job("two").to_string());
    assert_eq!((right.status, right.header("idempotency-replayed")), (201, ""));
    for key in ["", "a b", "ü", &"k".repeat(256)] {
        let refused = api.post_with("/api/v1/jobs", &[("idempotency-key", key)], &job("x").to_string());
        refused.problem(422, "invalid_request");
    }
    let twice = [("idempotency-key", "k3"), ("idempotency-key", "k4")];
    api.post_with("/api/v1/jobs", &twice, &job("x").to_string())
        .problem(422, "invalid_request");
    let longest = api.post_with(
        "/api/v1/jobs",
        &[("idempotency-key", &"k".repeat(255))],
        &job("x").to_string(),
    );
    assert_eq!(longest.status, 201);
    assert_eq!(jobs(&api), 3);
}

fn a_batch_takes_what_is_right_and_refuses_the_rest(database: TestDatabase) {
    let server = Setup::new(database).set("SOCKET_MAX_QUEUED_JOBS", 4).start();
    let (api, mut stream) = (server.api(), server.stream());
    let taken = api.submit_with(&json!({ "web_app_job_id": "taken" }))["id"].clone();
    let mut named = job("named");
    named["web_app_job_id"] = "taken".into();
    let mut wrong = job("wrong");
    wrong["tags"] = json!(["fine", 7]);
    let body = json!({ "jobs": [job("a"), wrong, named, "no object", job("b"), job("c"), job("d")] });
    let answer = api.ask("POST", BATCH, Some(&body)).ok();
    let items = answer["items"].as_array().expect("items");
    let told: Vec<_> = items
        .iter()
        .map(|item| match (&item["job"], &item["problem"]) {
            (Value::Null, problem) => (problem["code"].as_str(), problem["errors"][0]["path"].as_str()),
            (job, Value::Null) => (job["entity_id"].as_str(), job["status"].as_str()),
            both => panic!("{both:?}"),
        })
        .collect();
    assert_eq!(
        told,
        [
            (Some("a"), Some("queued")),
            (Some("invalid_request"), Some("/jobs/1/tags/1")),
            (Some("web_app_job_id_taken"), Some("/jobs/2/web_app_job_id")),
            (Some("invalid_request"), Some("/jobs/3")),
            (Some("b"), Some("queued")),
            (Some("c"), Some("queued")),
            (Some("queue_full"), None),
        ]
    );
    let problem = &items[2]["problem"];
    assert_eq!(
        (&problem["status"], &problem["title"]),
        (&json!(409), &json!("Conflict"))
    );
    assert!(
        problem["detail"]
            .as_str()
            .expect("words")
            .contains(taken.as_str().expect("an id"))
    );
    assert_eq!(jobs(&api), 4);
    let made = items[5]["job"]["id"].as_str().expect("an id");
    stream.await_job(made, |job| job["status"] == "queued");
    for (body, place) in [
        (json!({}), "/jobs"),
        (json!({ "jobs": [] }), "/jobs"),
        (json!({ "jobs": {} }), "/jobs"),
        (json!({ "jobs": vec![job("x"); 501] }), "/jobs"),
        (json!({ "jobs": [job("x")], "job": 1 }), "/job"),
    ] {
        assert_eq!(api.ask("POST", BATCH, Some(&body)).places(), [place.to_owned()].into());
    }
    assert_eq!(jobs(&api), 4);
}

fn a_repeated_batch_makes_nothing_new(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let body = json!({ "jobs": (0..500).map(|number| job(&number.to_string())).collect::<Vec<_>>() }).to_string();
    let send = |key: &str, body: &str| api.post_with(BATCH, &[("idempotency-key", key)], body);
    let first = send("batch", &body);
    assert_eq!((first.status, first.header("idempotency-replayed")), (200, ""));
    let ids = |answer: &Value| -> Vec<String> {
        let items = answer["items"].as_array().expect("items");
        items.iter().map(|item| item["job"]["id"].to_string()).collect()
    };
    let again = send("batch", &body);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(ids(&first.json()), ids(&again.json()));
    assert_eq!(jobs(&api), 500);
    let longer = json!({ "jobs": [job("x"), job("0")] }).to_string();
    send("batch", &longer).problem(422, "idempotency_key_reused");
    assert_eq!(jobs(&api), 500, "nothing of it");
    // A key of a batch is none of a single one.
    let single = api.post_with("/api/v1/jobs", &[("idempotency-key", "batch")], &job("x").to_string());
    assert_eq!(single.status, 201);
}

fn what_fits_is_acted_upon(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let bulk = |body: &Value| api.ask("POST", "/api/v1/jobs/bulk", Some(body));
    let many: Vec<_> = (0..499).map(|number| job(&format!("old-{number}"))).collect();
    for _ in 0..2 {
        api.ask("POST", BATCH, Some(&json!({ "jobs": many }))).ok();
    }
    api.submit_with(&json!({ "account_id": "other", "tags": ["keep"], "web_app_job_id": "kept" }));
    let old = json!({ "account_id": "acme", "q": "OLD-", "status": "queued,running" });
    let asked = json!({ "act": "cancel", "filter": old, "dry_run": true });
    assert_eq!(bulk(&asked).ok(), json!({ "matched": 998, "changed": 0 }));
    assert!(api.all("/api/v1/audit").is_empty());
    let asked = json!({ "act": "set_priority", "priority": 7, "filter": old, "by": "ada" });
    assert_eq!(bulk(&asked).ok(), json!({ "matched": 998, "changed": 998 }));
    let asked = json!({ "act": "cancel", "filter": old, "by": "ada" });
    assert_eq!(bulk(&asked).ok(), json!({ "matched": 998, "changed": 998 }));
    assert_eq!(bulk(&asked).ok(), json!({ "matched": 0, "changed": 0 }));
    let asked = json!({ "act": "cancel", "filter": { "account_id": "acme" } });
    assert_eq!(
        bulk(&asked).ok(),
        json!({ "matched": 998, "changed": 0 }),
        "they are so already"
    );
    let record = api.all("/api/v1/audit");
    let told: Vec<_> = record
        .iter()
        .map(|entry| (entry["act"].as_str(), entry["detail"]["jobs"].as_u64()))
        .collect();
    let steps = [
        ("cancel", 498),
        ("cancel", 500),
        ("set_priority", 498),
        ("set_priority", 500),
    ];
    assert_eq!(
        told,
        steps.map(|(act, jobs)| (Some(act), Some(jobs))),
        "one for each step"
    );
    assert_eq!(
        (&record[0]["by"], &record[0]["target"]),
        (&json!("ada"), &json!("account_id=acme q=OLD- status=queued,running"))
    );
    assert_eq!(api.job("kept")["status"], "queued");
    let asked = json!({ "act": "pause", "filter": { "root_id": "kept", "tag": "keep" } });
    assert_eq!(bulk(&asked).ok(), json!({ "matched": 1, "changed": 1 }));

    for (body, place) in [
        (json!({ "filter": { "q": "x" } }), "/act"),
        (json!({ "act": "delete", "filter": { "q": "x" } }), "/act"),
        (json!({ "act": "cancel" }), "/filter"),
        (json!({ "act": "cancel", "filter": {} }), "/filter"),
        (json!({ "act": "cancel", "filter": { "q": "" } }), "/filter"),
        (json!({ "act": "cancel", "filter": "all" }), "/filter"),
        (json!({ "act": "cancel", "filter": { "q": 7 } }), "/filter/q"),
        (
            json!({ "act": "cancel", "filter": { "account": "acme" } }),
            "/filter/account",
        ),
        (
            json!({ "act": "cancel", "filter": { "status": "lost" } }),
            "/filter/status",
        ),
        (json!({ "act": "set_priority", "filter": { "q": "x" } }), "/priority"),
        (
            json!({ "act": "cancel", "priority": 1, "filter": { "q": "x" } }),
            "/priority",
        ),
        (
            json!({ "act": "cancel", "filter": { "q": "x" }, "dryrun": true }),
            "/dryrun",
        ),
    ] {
        assert!(bulk(&body).places().contains(place), "{body}");
    }
    bulk(&json!({ "act": "cancel", "filter": { "root_id": "nobody" } })).problem(404, "not_found");
    assert_eq!(api.all("/api/v1/jobs?status=paused").len(), 1, "nothing happened");
}
