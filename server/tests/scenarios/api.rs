//! What the API answers when all is well.

use std::collections::BTreeSet;

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::{Api, Setup, on_both_databases};

on_both_databases!(
    a_job_is_what_was_asked_for,
    the_least_is_enough,
    a_list_is_complete_and_without_repeats,
    a_list_shows_what_it_is_asked_for,
    history_and_children_are_lists_too,
    crawlers_are_shown,
);

/// The ids of a list, over all pages of this size.
fn ids(api: &Api, path: &str) -> Vec<String> {
    let items = api.all(path);
    items
        .iter()
        .map(|item| item["id"].as_str().expect("an id").to_owned())
        .collect()
}

fn a_job_is_what_was_asked_for(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let asked = json!({
        "job_type": "crawl_project", "gitlab_host": "HTTPS://GitLab.example.com:443/", "account_id": "acme",
        "access_token": "glpat-secret", "web_app_job_id": "web-1", "entity_id": "17",
        "namespace_path": "group/project", "priority": 2.5, "provider": "gitlab-cloud", "user_id": "u1",
        "created_by_user_id": "u2", "tags": ["nightly", "tägliche"], "metadata": {"a": [1, {"b": null}]},
        "resume": true,
    });
    let answer = api.create(&asked);
    assert_eq!(answer.status, 201, "{answer:?}");
    let job = answer.json();
    for (field, value) in asked.as_object().expect("an object") {
        match field.as_str() {
            "access_token" => assert!(job.get(field).is_none()),
            "gitlab_host" => assert_eq!(job[field], "https://gitlab.example.com"),
            _ => assert_eq!(&job[field], value, "{field}"),
        }
    }
    assert_eq!((&job["status"], &job["state"]), (&json!("queued"), &json!("queued")));
    assert_eq!((&job["command"], &job["depth"]), (&json!("project"), &json!(0)));
    assert_eq!(
        (&job["attempt"], &job["fence"], &job["children"]),
        (&json!(0), &json!(0), &json!(0))
    );
    assert_eq!((&job["parent_id"], &job["root_id"]), (&Value::Null, &job["id"]));
    assert_eq!(
        answer.header("location"),
        format!("/api/v1/jobs/{}", job["id"].as_str().expect("an id"))
    );

    let found = api.get(answer.header("location"));
    assert_eq!(found.ok(), job);
    assert_eq!(api.job("web-1"), job);
    let seen = [answer.body, found.body, api.get("/api/v1/jobs").body, server.log()];
    assert!(
        seen.iter().all(|text| !text.contains("glpat-secret")),
        "the token is shown"
    );
}

fn the_least_is_enough(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let least = json!({ "job_type": "crawl_user", "gitlab_host": "localhost", "account_id": "acme" });
    let first = api.create(&least).json();
    assert_eq!(first["web_app_job_id"], first["id"]);
    assert_eq!((&first["priority"], &first["resume"]), (&json!(1.0), &json!(false)));
    assert_eq!((&first["tags"], &first["metadata"]), (&json!([]), &Value::Null));
    let second = api.create(&least).json();
    assert_ne!(first["id"], second["id"], "the same again is another crawl");
    // A web application may send null for what it does not have.
    let mut nulls = least.clone();
    for field in [
        "web_app_job_id",
        "access_token",
        "entity_id",
        "priority",
        "provider",
        "tags",
        "metadata",
        "resume",
    ] {
        nulls[field] = Value::Null;
    }
    assert_eq!(api.create(&nulls).status, 201);
}

fn a_list_is_complete_and_without_repeats(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    assert_eq!(
        api.get("/api/v1/jobs").ok(),
        json!({ "items": [], "next_cursor": null })
    );
    let mut jobs: Vec<_> = (0..23).map(|_| api.submit("crawl_project")).collect();
    jobs.reverse();
    for limit in [1, 5, 22, 23, 24, 500] {
        assert_eq!(
            ids(&api, &format!("/api/v1/jobs?limit={limit}")),
            jobs,
            "by {limit}, newest first"
        );
    }
    // What comes while somebody turns pages moves nothing.
    let first = api.get("/api/v1/jobs?limit=10").ok();
    api.submit("crawl_user");
    let cursor = first["next_cursor"].as_str().expect("there is more");
    let second = api.get(&format!("/api/v1/jobs?limit=10&cursor={cursor}")).ok();
    let second = second["items"].as_array().expect("items").iter().map(|job| &job["id"]);
    assert!(second.eq(jobs[10..20].iter().map(|id| id.as_str())));
}

fn a_list_shows_what_it_is_asked_for(database: TestDatabase) {
    let setup = Setup::new(database)
        .set("SOCKET_RETRY_DELAY", 3_600_000)
        .set("SOCKET_MAX_CONCURRENT_JOBS", 5);
    let server = setup.start();
    let api = server.api();
    let mut crawler = server.crawler();
    let jobs: Vec<_> = (0..5).map(|_| api.submit("crawl_project")).collect();
    jobs.iter().for_each(|_| drop(crawler.assignment()));
    let [assigned, running, completed, failed, delayed] = &jobs[..] else {
        unreachable!()
    };
    crawler.started(running);
    crawler.completed(completed);
    crawler.failed(failed, false);
    crawler.failed(delayed, true);
    assert_eq!(api.await_status(delayed, "queued")["state"], "delayed");
    for (status, job) in [
        ("assigned", assigned),
        ("running", running),
        ("completed", completed),
        ("failed", failed),
        ("queued", delayed),
    ] {
        assert_eq!(
            ids(&api, &format!("/api/v1/jobs?status={status}")),
            [job.as_str()],
            "{status}"
        );
    }
    for none in [
        "status=paused",
        "status=cancelled",
        "account_id=nobody",
        "status=queued&account_id=nobody",
    ] {
        assert!(ids(&api, &format!("/api/v1/jobs?{none}")).is_empty(), "{none}");
    }
    let job = json!({ "job_type": "crawl_user", "gitlab_host": "localhost", "account_id": "one & other/ü" });
    let other = api.create(&job).json()["id"].clone();
    assert_eq!(
        ids(&api, "/api/v1/jobs?account_id=one%20%26%20other%2F%C3%BC"),
        [other.as_str().expect("an id")]
    );
    assert_eq!(ids(&api, "/api/v1/jobs?account_id=acme&limit=2").len(), 5);
    let all = api.get("/api/v1/jobs?status=&account_id=&limit=&cursor=").ok();
    assert_eq!(all["items"].as_array().map(Vec::len), Some(6), "empty means not asked");
}

fn history_and_children_are_lists_too(database: TestDatabase) {
    let server = Setup::new(database)
        .set("SOCKET_RETRY_DELAY", 0)
        .set("SOCKET_MAX_CONCURRENT_JOBS", 1)
        .start();
    let api = server.api();
    let mut crawler = server.crawler();
    let root = api.submit("discover_namespaces");
    crawler.assignment();
    let names: Vec<_> = (0..7).map(|number| format!("p{number}")).collect();
    let items: Vec<_> = names.iter().map(|name| ("crawl_project", name.as_str())).collect();
    crawler.discovered(&root, &items);
    crawler.failed(&root, true);
    let first = crawler.assignment();
    crawler.progress(&first.id, 0.5, 50);
    server.stream().await_job(&root, |job| job["state"] == "queued");

    let children = format!("/api/v1/jobs/{root}/children");
    let all = ids(&api, &children);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 7);
    assert!(all.contains(&first.id));
    assert_eq!(ids(&api, &format!("{children}?limit=2")), all);
    let found: BTreeSet<_> = api
        .all(&children)
        .iter()
        .map(|job| job["entity_id"].to_string())
        .collect();
    assert_eq!(found, names.iter().map(|name| json!(name).to_string()).collect());
    assert!(api.all(&format!("/api/v1/jobs/{}/children", first.id)).is_empty());

    let events = api.events(&root);
    assert_eq!(api.all(&format!("/api/v1/jobs/{root}/events?limit=1")), events);
    let mut fence = 0;
    for event in &events {
        assert!(event["id"].is_i64() && event["attempt"].is_i64(), "{event}");
        let at = event["at"].as_str().expect("a time");
        assert!(at.len() == 24 && at.ends_with('Z'), "{at}");
        assert!(!event["arrows"].as_array().expect("arrows").is_empty());
        assert!(event["state"].is_string());
        let risen = event["fence"].as_i64().expect("a fence");
        assert!(risen >= fence);
        fence = risen;
        let by_crawler = event["arrows"][0] == "claim";
        assert!(!by_crawler || event["session"] == crawler.name, "{event}");
    }
    assert_eq!(
        (&events[0]["arrows"], &events[0]["session"]),
        (&json!(["submit"]), &Value::Null)
    );

    let untouched = api.get(&format!("/api/v1/jobs/{}/progress", all[0])).ok();
    assert_eq!(
        untouched,
        json!({
            "job_id": all[0], "status": "queued", "attempt": 0, "overall_completion": 0.0, "time_elapsed": 0.0,
            "estimated_time_remaining": null, "entities": [], "updated_at": null, "state": "initializing",
            "activity": null, "completion": 0.0, "discovering": true, "total": { "kind": "unknown", "items": 0 },
            "done": 0, "expected": 0, "worked_ms": 0, "eta": { "none": "not_started" },
            "clocks": { "link_at": null, "worker_at": null, "work_at": null },
        })
    );
}

fn crawlers_are_shown(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    assert_eq!(
        api.get("/api/v1/crawlers").ok(),
        json!({ "items": [], "next_cursor": null })
    );
    let health = api.get("/health/socket").ok();
    assert_eq!(
        (&health["status"], &health["connections"]),
        (&json!("healthy"), &json!(0))
    );

    let silent = server.connect();
    let mut crawlers = [server.crawler(), server.crawler(), server.crawler()];
    let job = api.submit("crawl_group");
    let busy = crawlers.iter_mut().position(|crawler| crawler.try_recv().is_some());
    let [first, ..] = &mut crawlers;
    let data = json!({ "active_jobs": 3, "last_activity": "now", "system_status": "crawling" });
    first.say("heartbeat", None, &data);
    let data = json!({ "active_jobs": 4, "last_activity": "now", "system_status": "error" });
    first.say("heartbeat", None, &data);
    let shown = api.crawlers();
    assert_eq!(shown.len(), 3, "one that has said nothing is not among them");
    assert_eq!(api.all("/api/v1/crawlers?limit=1").len(), 3);
    for crawler in &shown {
        assert!(crawler["identity"].as_str().expect("a process").starts_with("unix:"));
        assert_eq!(crawler["state"], "active");
        for number in ["connection", "messages", "connected_ms", "silent_ms"] {
            assert!(crawler[number].is_u64(), "{number} in {crawler}");
        }
    }
    let health = api.get("/health/socket").ok();
    assert_eq!(
        (&health["connections"], &health["socket_server"]["running"]),
        (&json!(4), &json!(true))
    );
    assert_eq!(health["socket_server"]["active_connections"], 3);
    assert!(health["uptime"].is_f64());
    let ready = api.get("/health/ready").ok();
    assert_eq!(ready["checks"], json!({ "database": true, "listeners": true }));
    assert_eq!(api.get("/health/live").ok()["status"], "ok");
    drop((silent, busy, job));
}
