//! What the API does not take, and how it says so.

use std::collections::BTreeSet;

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::{Api, Setup, on_both_databases};

on_both_databases!(
    every_broken_rule_is_named_at_once,
    wrong_queries_are_refused_too,
    names_of_the_web_app_are_unique,
    a_full_queue_takes_no_more,
    hostile_text_does_no_harm,
);

fn least() -> Value {
    json!({ "job_type": "crawl_user", "gitlab_host": "localhost", "account_id": "acme" })
}

fn places(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn every_broken_rule_is_named_at_once(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let wrong = json!({
        "job_type": "crawl_planet", "gitlab_host": "ftp://x", "account_id": "  ", "access_token": 1,
        "web_app_job_id": "", "entity_id": {}, "namespace_path": [], "priority": "high", "provider": "github",
        "user_id": 7, "created_by_user_id": false, "tags": ["ok", 3, "x".repeat(101)], "metadata": [],
        "resume": "yes",
    });
    let fields = wrong.as_object().expect("an object").keys();
    let mut expected: BTreeSet<_> = fields
        .filter(|name| *name != "tags")
        .map(|name| format!("/{name}"))
        .collect();
    expected.extend(places(&["/tags/1", "/tags/2"]));
    let answer = api.create(&wrong);
    assert_eq!(answer.places(), expected);
    for value in ["crawl_planet", "ftp://x", "github"] {
        assert!(!answer.body.contains(value), "{value} is quoted in {}", answer.body);
    }
    assert_eq!(
        api.create(&json!({})).places(),
        places(&["/job_type", "/gitlab_host", "/account_id"])
    );
    for (field, value) in [
        ("tags", json!(vec!["x"; 51])),
        ("tags", json!("x")),
        ("metadata", json!({ "x": "y".repeat(16 * 1024) })),
        ("account_id", json!("é".repeat(128))),
        ("web_app_job_id", json!("x".repeat(256))),
        ("namespace_path", json!("x".repeat(4097))),
        ("priority", json!(true)),
    ] {
        let mut job = least();
        job[field] = value;
        assert_eq!(api.create(&job).places(), places(&[&format!("/{field}")]));
    }
    for no_object in ["[]", "3", "null", r#""x""#] {
        assert_eq!(
            api.post("/api/v1/jobs", "application/json", no_object.as_bytes())
                .places(),
            places(&[""])
        );
    }
    assert!(api.all("/api/v1/jobs").is_empty(), "nothing of it was taken");
}

fn wrong_queries_are_refused_too(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let queries = [
        ("status=delayed", "/status"),
        ("status=Queued", "/status"),
        ("limit=0", "/limit"),
        ("limit=501", "/limit"),
        ("limit=-1", "/limit"),
        ("limit=x", "/limit"),
        ("cursor=x", "/cursor"),
        ("cursor=99999999999999999999", "/cursor"),
    ];
    for (query, place) in queries {
        assert_eq!(
            api.get(&format!("/api/v1/jobs?{query}")).places(),
            places(&[place]),
            "{query}"
        );
    }
    assert_eq!(
        api.get("/api/v1/jobs?limit=0&cursor=x").places(),
        places(&["/cursor", "/limit"])
    );
    let job = api.submit("crawl_user");
    for list in [
        format!("jobs/{job}/events"),
        format!("jobs/{job}/children"),
        "errors".into(),
        "crawlers".into(),
    ] {
        assert_eq!(
            api.get(&format!("/api/v1/{list}?limit=0")).places(),
            places(&["/limit"]),
            "{list}"
        );
        api.get(&format!("/api/v1/{list}?cursor=-9223372036854775808")).ok();
        api.get(&format!("/api/v1/{list}?cursor=9223372036854775807")).ok();
    }
}

fn names_of_the_web_app_are_unique(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let mut job = least();
    job["web_app_job_id"] = "web-1".into();
    let first = api.create(&job).json()["id"].clone();
    let problem = api.create(&job).problem(409, "web_app_job_id_taken");
    assert_eq!(problem["errors"][0]["path"], "/web_app_job_id");
    assert!(
        problem["detail"]
            .as_str()
            .expect("a sentence")
            .contains(first.as_str().expect("an id"))
    );

    // However many ask at once, one gets it.
    job["web_app_job_id"] = "web-2".into();
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let (api, job) = (api.clone(), job.clone());
            std::thread::spawn(move || api.create(&job).status)
        })
        .collect();
    let mut answers: Vec<_> = asking
        .into_iter()
        .map(|asking| asking.join().expect("an answer"))
        .collect();
    answers.sort_unstable();
    assert_eq!(answers, [201, 409, 409, 409, 409, 409, 409, 409]);
    assert_eq!(api.all("/api/v1/jobs").len(), 2);
}

fn a_full_queue_takes_no_more(database: TestDatabase) {
    let server = Setup::new(database)
        .set("SOCKET_MAX_QUEUED_JOBS", 2)
        .set("SOCKET_MAX_CONCURRENT_JOBS", 1)
        .start();
    let api = server.api();
    let jobs = [api.submit("crawl_user"), api.submit("crawl_user")];
    let refused = api.create(&least());
    refused.problem(429, "queue_full");
    assert_eq!(refused.header("retry-after"), "5");

    let mut crawler = server.crawler();
    let job = crawler.assignment();
    api.submit("crawl_user");
    api.create(&least()).problem(429, "queue_full");
    // A crawl that has begun may go on: what it discovers is never refused.
    crawler.discovered(&job.id, &[("crawl_project", "1"), ("crawl_project", "2")]);
    crawler.completed(&job.id);
    api.await_status(&job.id, "completed");
    assert_eq!(api.all(&format!("/api/v1/jobs/{}/children", jobs[0])).len(), 2);
    api.create(&least()).problem(429, "queue_full");
}

fn hostile_text_does_no_harm(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let nasty = [
        "\u{0}",
        "a\u{0}b",
        "\u{202e}txt.exe",
        "<script>alert(1)</script>",
        "'; DROP TABLE jobs; --",
        "%00",
        "%s%n",
        "../../etc/passwd",
        "\u{feff}",
        "\u{7f}\u{1b}[31m",
        "😀\u{10ffff}\u{fffd}",
        "\\u0000",
        "\r\n: x",
        "{\"a\":1}",
    ];
    let long = "é".repeat(4096);
    for text in nasty.into_iter().chain([long.as_str()]) {
        let job = full_of(text);
        let answer = api.create(&job);
        if text.contains('\0') {
            assert!(answer.places().len() >= 9, "{answer:?}");
            continue;
        }
        assert_eq!(answer.status, 201, "{text:?}: {answer:?}");
        let id = answer.json()["id"].as_str().expect("an id").to_owned();
        let found = api.job(&id);
        for (field, value) in job.as_object().expect("an object") {
            let shown = !["access_token", "gitlab_host"].contains(&field.as_str());
            assert!(
                !shown || found[field] == *value,
                "{field} of {text:?}: {}",
                found[field]
            );
        }
    }
    not_json(&api);
    no_such_text(&api);
    let log = server.log();
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}

/// A job with this text wherever it may stand, or its beginning where it would be too long.
fn full_of(text: &str) -> Value {
    let mut job = least();
    for field in [
        "entity_id",
        "namespace_path",
        "user_id",
        "created_by_user_id",
        "access_token",
    ] {
        job[field] = text.into();
    }
    for name in ["account_id", "web_app_job_id"] {
        job[name] = text[..text.floor_char_boundary(255)].into();
    }
    job["metadata"] = json!({ "x": text });
    job["tags"] = json!([text.chars().take(100).collect::<String>()]);
    job
}

/// Looks for what cannot be there.
fn no_such_text(api: &Api) {
    for escaped in [
        "%00",
        "a%00b",
        "%ff",
        "%E2%80%AE",
        "%ed%a0%80",
        "%2e%2e%2f",
        "'%20OR%201=1--",
        "%F0%9F%98%80",
    ] {
        let looked_up = api.get(&format!("/api/v1/jobs/{escaped}"));
        assert!([400, 404].contains(&looked_up.status), "{escaped}: {looked_up:?}");
        looked_up.problem(looked_up.status, looked_up.json()["code"].as_str().expect("a code"));
        let listed = api.get(&format!("/api/v1/jobs?account_id={escaped}"));
        assert!([200, 422].contains(&listed.status), "{escaped}: {listed:?}");
        let listed = api.get(&format!("/api/v1/jobs?status={escaped}"));
        assert_eq!(listed.status, 422, "{escaped}: {listed:?}");
    }
}

fn not_json(api: &Api) {
    let deep = format!(r#"{{"metadata":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    let bodies: [&[u8]; 9] = [
        b"",
        b"{",
        b"{\"job_type\":",
        b"\xff\xfe",
        b"{\"a\":\"\xed\xa0\x80\"}",
        br#"{"account_id":"\ud800"}"#,
        br#"{"priority":1e400}"#,
        b"{}{}",
        deep.as_bytes(),
    ];
    for body in bodies {
        api.post("/api/v1/jobs", "application/json", body)
            .problem(400, "not_json");
    }
}

#[test]
fn every_refusal_has_one_form() {
    let server = Setup::new(TestDatabase::sqlite()).start();
    let api = server.api();
    let body = least().to_string();
    api.get("/api/v1/jobs/none").problem(404, "not_found");
    for list in ["events", "children", "progress"] {
        api.get(&format!("/api/v1/jobs/none/{list}")).problem(404, "not_found");
    }
    for path in [
        "/none",
        "/api",
        "/api/v1",
        "/api/v1/none",
        "/api/v2/jobs",
        "/api/v1/jobs/",
        "/api/v1/jobs/a/b",
    ] {
        api.get(path).problem(404, "not_found");
    }
    for path in [
        "/",
        "/health/live",
        "/api/v1/crawlers",
        "/api/v1/jobs/none",
        "/api/v1/stream",
    ] {
        api.post(path, "application/json", body.as_bytes())
            .problem(405, "method_not_allowed");
    }
    let content_types = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "json",
        "",
    ];
    for content_type in content_types {
        let answer = api.post("/api/v1/jobs", content_type, body.as_bytes());
        answer.problem(415, "unsupported_media_type");
    }
    for content_type in [
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/ld+json",
    ] {
        assert_eq!(
            api.post("/api/v1/jobs", content_type, body.as_bytes()).status,
            201,
            "{content_type}"
        );
    }
    let large = format!("{}{body}", " ".repeat(1024 * 1024));
    api.post("/api/v1/jobs", "application/json", large.as_bytes())
        .problem(413, "body_too_large");
}

#[test]
fn pages_of_others_may_not_use_the_api() {
    let listed = "https://app.example.com";
    let server = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_ALLOWED_ORIGINS", listed)
        .start();
    let (api, own) = (server.api(), server.http.to_string());
    let body = least().to_string();
    let ask = |host: &str, origin: Option<&str>| {
        let origin = origin.map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
        let length = body.len();
        let request = format!(
            "POST /api/v1/jobs HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        api.raw(request.as_bytes())
    };
    for origin in [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "https://app.example.com.evil.example",
    ] {
        ask(&own, Some(origin)).problem(403, "foreign_origin");
    }
    for host in [
        "evil.example",
        "127.0.0.1.evil.example:80",
        "evil.example:8090",
        "10.0.0.1",
    ] {
        ask(host, None).problem(403, "foreign_host");
    }
    assert!(api.all("/api/v1/jobs").is_empty());
    let own_page = format!("http://{own}");
    for (host, origin) in [
        (own.as_str(), None),
        (own.as_str(), Some(own_page.as_str())),
        ("localhost:1", None),
        ("[::1]:1", None),
        ("app.example.com", Some(listed)),
        (own.as_str(), Some(listed)),
    ] {
        assert_eq!(ask(host, origin).status, 201, "{host} {origin:?}");
    }
}

#[test]
fn browsers_are_told_what_listed_pages_may_do() {
    let listed = "https://app.example.com";
    let server = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_ALLOWED_ORIGINS", listed)
        .start();
    let (api, own) = (server.api(), server.http.to_string());
    let ask = |method: &str, path: &str, origin: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {own}\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: content-type\r\nConnection: close\r\n\r\n"
        );
        api.raw(request.as_bytes())
    };
    let first = ask("OPTIONS", "/api/v1/jobs", listed);
    assert_eq!((first.status, first.body.as_str()), (204, ""));
    assert_eq!(first.header("access-control-allow-origin"), listed);
    assert_eq!(first.header("access-control-allow-methods"), "GET, POST, PUT, DELETE");
    assert_eq!(
        first.header("access-control-allow-headers"),
        "content-type, idempotency-key, if-none-match, x-request-id"
    );
    for path in ["/api/v1/jobs", "/api/v1/jobs/none", "/none"] {
        let answer = ask("GET", path, listed);
        assert_eq!(
            answer.header("access-control-allow-origin"),
            listed,
            "errors are to be read too"
        );
        assert_eq!(answer.header("vary"), "origin");
    }
    ask("OPTIONS", "/api/v1/jobs", "https://evil.example").problem(403, "foreign_origin");
    let foreign = ask("GET", "/api/v1/jobs", "https://evil.example");
    assert_eq!(foreign.header("access-control-allow-origin"), "");
    let ours = ask("GET", "/api/v1/jobs", &format!("http://{own}"));
    assert_eq!((ours.status, ours.header("access-control-allow-origin")), (200, ""));
}

#[test]
fn no_more_viewers_than_can_be_served() {
    let server = Setup::new(TestDatabase::sqlite()).start();
    let api = server.api();
    let mut viewers: Vec<_> = (0..256).map(|_| server.stream()).collect();
    let refused = api.get("/api/v1/stream");
    refused.problem(429, "too_many_viewers");
    assert_eq!(refused.header("retry-after"), "10");
    // Everybody else is told as before.
    let job = api.submit("crawl_user");
    for viewer in &mut viewers {
        viewer.await_job(&job, |job| job["status"] == "queued");
    }
}
