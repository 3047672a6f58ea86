//! What can be found, and what is kept about one job.

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::{Api, Setup, on_both_databases, wait_until};

on_both_databases!(
    a_list_can_be_searched,
    a_search_that_makes_no_sense_is_refused,
    a_tree_is_shown_with_its_progress,
    what_went_wrong_with_a_job_is_found,
    a_checkpoint_is_shown_as_it_was_kept,
);

/// What the web app calls the jobs of a list, over all its pages.
fn names(api: &Api, query: &str) -> Vec<String> {
    let items = api.all(&format!("/api/v1/jobs?{query}"));
    items
        .iter()
        .map(|job| job["web_app_job_id"].as_str().expect("a name").to_owned())
        .collect()
}

fn a_list_can_be_searched(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    for job in [
        json!({ "web_app_job_id": "first", "tags": ["nightly", "eu"], "namespace_path": "Group/Sub/alpha" }),
        json!({ "web_app_job_id": "second", "job_type": "crawl_user", "gitlab_host": "https://other.example:8443/" }),
        json!({ "web_app_job_id": "third", "job_type": "crawl_group", "account_id": "100%_sure\\", "entity_id": "4711" }),
    ] {
        api.submit_with(&job);
    }
    api.act("second", "cancel", &json!({})).ok();
    for (query, found) in [
        ("job_type=crawl_user", vec!["second"]),
        ("job_type=crawl_user,crawl_group", vec!["third", "second"]),
        ("status=cancelled,queued", vec!["third", "second", "first"]),
        ("status=cancelled,failed", vec!["second"]),
        ("gitlab_host=OTHER.example:8443", vec!["second"]),
        ("gitlab_host=https://other.example:8443", vec!["second"]),
        ("gitlab_host=other.example", vec![]),
        ("gitlab_host=HTTPS://GitLab.example.com:443/", vec!["third", "first"]),
        ("tag=eu", vec!["first"]),
        ("tag=e", vec![]),
        ("q=GROUP/sub", vec!["first"]),
        ("q=4711", vec!["third"]),
        ("q=SECOND", vec!["second"]),
        ("q=%25_", vec!["third"]),
        ("q=%25%25", vec![]),
        ("q=sure%5C", vec!["third"]),
        ("q='%20OR%201=1%20--", vec![]),
        ("q=%F0%9F%A6%80", vec![]),
        (
            "q=i&job_type=crawl_project&status=queued&tag=nightly&account_id=acme",
            vec!["first"],
        ),
        ("root_id=first", vec!["first"]),
        ("root_id=nobody", vec![]),
        (
            "q=&tag=&job_type=&gitlab_host=&root_id=&progress=",
            vec!["third", "second", "first"],
        ),
    ] {
        assert_eq!(names(&api, query), found, "{query}");
        let joint = if query.is_empty() { "" } else { "&" };
        assert_eq!(
            names(&api, &format!("{query}{joint}limit=1")),
            found,
            "{query}, one by one"
        );
    }
    let id = api.job("third")["id"].as_str().expect("an id").to_owned();
    assert_eq!(
        names(&api, &format!("q={}", &id[..30].to_uppercase()))
            .last()
            .map(String::as_str),
        Some("third")
    );
    assert_eq!(names(&api, &format!("root_id={id}")), ["third"]);
}

fn a_search_that_makes_no_sense_is_refused(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let long = "x".repeat(256);
    for (query, place) in [
        ("status=queued,lost".to_owned(), "/status"),
        ("status=delayed".to_owned(), "/status"),
        ("job_type=crawl_everything".to_owned(), "/job_type"),
        ("gitlab_host=a%20b".to_owned(), "/gitlab_host"),
        ("gitlab_host=https://u:p@x.example".to_owned(), "/gitlab_host"),
        (format!("q={long}"), "/q"),
        ("q=a%00b".to_owned(), "/q"),
        ("tag=a%00b".to_owned(), "/tag"),
        ("root_id=a%00b".to_owned(), "/root_id"),
        ("progress=yes".to_owned(), "/progress"),
        ("types=crawl_user".to_owned(), "/types"),
    ] {
        let places = api.get(&format!("/api/v1/jobs?{query}")).places();
        assert_eq!(places, [place.to_owned()].into(), "{query}");
    }
    assert!(names(&api, &format!("q={}", &long[..255])).is_empty());
    let job = api.submit("crawl_user");
    for (path, place) in [
        (format!("/api/v1/jobs/{job}/tree?status=queued"), "/status"),
        (format!("/api/v1/jobs/{job}/tree?progress=1"), "/progress"),
        (format!("/api/v1/jobs/{job}/errors?severity=low"), "/severity"),
        ("/api/v1/errors?severity=bad".to_owned(), "/severity"),
        ("/api/v1/errors?category=network,weather".to_owned(), "/category"),
        ("/api/v1/errors?job=1".to_owned(), "/job"),
    ] {
        assert_eq!(api.get(&path).places(), [place.to_owned()].into(), "{path}");
    }
    for path in ["tree", "errors", "checkpoint"] {
        api.get(&format!("/api/v1/jobs/nobody/{path}"))
            .problem(404, "not_found");
    }
}

fn a_tree_is_shown_with_its_progress(database: TestDatabase) {
    let server = Setup::new(database).set("SOCKET_MAX_CONCURRENT_JOBS", 1).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let root = api.submit("discover_namespaces");
    crawler.assignment();
    crawler.discovered(&root, &[("crawl_group", "g1"), ("crawl_project", "p1")]);
    crawler.progress(&root, 0.5, 50);
    crawler.completed(&root);
    let first = crawler.assignment();
    crawler.started(&first.id);
    crawler.discovered(&first.id, &[("crawl_user", "u1")]);
    crawler.progress(&first.id, 0.25, 10);
    let shown = wait_until("the report is heard, and what was found is kept", || {
        let items = api.all(&format!("/api/v1/jobs/{root}/tree?limit=3&progress=true"));
        let heard = |job: &Value| job["id"] == first.id.as_str() && job["progress"]["overall_completion"] == 0.25;
        (items.len() == 4 && items.iter().any(heard)).then_some(items)
    });
    assert_eq!((&shown[0]["id"], &shown[0]["parent_id"]), (&json!(root), &Value::Null));
    let mut known = Vec::new();
    for job in &shown {
        assert!(
            job["parent_id"].is_null() || known.contains(&&job["parent_id"]),
            "parents come first"
        );
        known.push(&job["id"]);
        let alone = api
            .get(&format!("/api/v1/jobs/{}/progress", job["id"].as_str().expect("an id")))
            .ok();
        for field in [
            "overall_completion",
            "done",
            "expected",
            "updated_at",
            "state",
            "entities",
        ] {
            let reported = !alone["updated_at"].is_null();
            let expected = if reported { &alone[field] } else { &Value::Null };
            assert_eq!(&job["progress"][field], expected, "{field}");
        }
    }
    let plain = api.all(&format!("/api/v1/jobs/{root}/tree"));
    assert!(plain.iter().all(|job| job.get("progress").is_none()));
    let below = api.all(&format!("/api/v1/jobs/{}/tree?limit=1", first.id));
    let entities: Vec<_> = below.iter().map(|job| job["entity_id"].as_str()).collect();
    assert_eq!(entities, [first.data["entity_id"].as_str(), Some("u1")]);
    let listed = api.all(&format!("/api/v1/jobs?root_id={root}&progress=true&limit=2"));
    let mut ids: Vec<_> = listed.iter().map(|job| &job["id"]).collect();
    ids.reverse();
    assert_eq!(ids, known);
    let children = format!("/api/v1/jobs/{root}/children?status=queued,running&job_type=crawl_project");
    assert_eq!(api.all(&children).len(), 1);
}

fn what_went_wrong_with_a_job_is_found(database: TestDatabase) {
    let server = Setup::new(database).set("SOCKET_MAX_CONCURRENT_JOBS", 1).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let failed = api.submit_with(&json!({ "web_app_job_id": "failed" }))["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    crawler.assignment();
    crawler.failed(&failed, false);
    crawler.send_line("this is no message");
    let all = wait_until("both are told", || {
        let all = api.all("/api/v1/errors");
        (all.len() == 2).then_some(all)
    });
    let of_job = api.all("/api/v1/jobs/failed/errors");
    assert_eq!(of_job.len(), 1);
    assert_eq!(
        (&of_job[0]["code"], &of_job[0]["job_id"]),
        (&json!("job_failed"), &json!(failed))
    );
    let found = |query: &str| api.all(&format!("/api/v1/errors?{query}&limit=1"));
    for query in [
        "job_id=failed",
        &format!("job_id={failed}"),
        "category=job_processing",
        "category=job_processing,network&job_id=failed",
    ] {
        assert_eq!(found(query), of_job, "{query}");
    }
    assert_eq!(found("category=message_parsing,job_processing"), all);
    let severity = of_job[0]["severity"].as_str().expect("a severity");
    assert!(found(&format!("severity={severity}")).contains(&of_job[0]));
    assert!(found("severity=critical").is_empty());
    assert!(found("job_id=nobody").is_empty());
    // What it left is found when it is gone.
    api.ask("DELETE", "/api/v1/jobs/failed", None).ok();
    assert_eq!(found(&format!("job_id={failed}")), of_job);
    api.get("/api/v1/jobs/failed/errors").problem(404, "not_found");
}

fn a_checkpoint_is_shown_as_it_was_kept(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let mut crawler = server.session("crawler-7", 1);
    let id = api.submit("crawl_project");
    let job = crawler.assignment();
    let path = format!("/api/v1/jobs/{id}/checkpoint");
    api.get(&path).problem(404, "no_checkpoint");
    crawler.started(&job);
    for page in [1, 2] {
        crawler.checkpoint(&job, &json!({ "page": page, "name": "<b>ü" }));
    }
    crawler.settle();
    let answer = api.get(&path);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.ok(), json!({ "page": 2, "name": "<b>ü" }));
}
