//! Accounts and their tokens; and how requests are named.

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::{Setup, on_both_databases, wait_until};

on_both_databases!(
    a_token_is_given_and_never_shown,
    a_request_has_a_name,
    a_job_that_is_as_it_was_is_not_told_again,
);

fn a_token_is_given_and_never_shown(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    assert!(api.all("/api/v1/accounts").is_empty());
    let path = "/api/v1/accounts/one%20%26%2F%20other/credentials";
    api.get(path).problem(404, "not_found");
    let given = json!({ "gitlab_host": "GitLab.example.com", "access_token": "glpat-secret", "by": "ada" });
    let answer = api.ask("PUT", path, Some(&given));
    assert_eq!(
        answer.ok(),
        json!({ "gitlab_host": "https://gitlab.example.com", "token": "set" })
    );
    let listed = api.all(path);
    assert_eq!(
        (&listed[0]["gitlab_host"], &listed[0]["token"]),
        (&json!("https://gitlab.example.com"), &json!("set"))
    );
    assert_eq!((&listed[0]["version"], listed.len()), (&json!(1), 1));
    // A job that brings none is given out with it.
    api.submit_with(&json!({ "account_id": "one &/ other" }));
    let mut crawler = server.crawler();
    assert_eq!(crawler.assignment().data["access_token"], "glpat-secret");
    let accounts = api.all("/api/v1/accounts");
    assert_eq!(
        (&accounts[0]["account_id"], &accounts[0]["open_jobs"]),
        (&json!("one &/ other"), &json!(1))
    );
    assert!(accounts[0]["created_at"].is_string());

    let host = json!({ "gitlab_host": "gitlab.example.com" });
    let forgotten = api.ask("DELETE", path, Some(&host)).ok();
    assert_eq!(forgotten["token"], "removed");
    assert_eq!(api.all(path)[0]["token"], "removed");
    let other = json!({ "gitlab_host": "other.example.com" });
    api.ask("DELETE", path, Some(&other)).problem(404, "not_found");
    api.ask("DELETE", "/api/v1/accounts/nobody/credentials", Some(&host))
        .problem(404, "not_found");
    let long = format!("/api/v1/accounts/{}/credentials", "x".repeat(256));
    for (path, body, place) in [
        (path, json!({ "gitlab_host": "x.example" }), "/access_token"),
        (
            path,
            json!({ "gitlab_host": "x.example", "access_token": "" }),
            "/access_token",
        ),
        (
            path,
            json!({ "gitlab_host": "x.example", "access_token": ["glpat-secret"] }),
            "/access_token",
        ),
        (path, json!({ "access_token": "glpat-secret" }), "/gitlab_host"),
        (
            path,
            json!({ "gitlab_host": "x.example", "access_token": "glpat-secret", "token": "x" }),
            "/token",
        ),
        (
            &long,
            json!({ "gitlab_host": "x.example", "access_token": "glpat-secret" }),
            "/account_id",
        ),
        (
            "/api/v1/accounts/a%00b/credentials",
            json!({ "gitlab_host": "x.example", "access_token": "t" }),
            "/account_id",
        ),
    ] {
        let refused = api.ask("PUT", path, Some(&body));
        assert!(refused.places().contains(place), "{body}");
        assert!(!refused.body.contains("glpat-secret"));
    }
    let acts: Vec<_> = api
        .all("/api/v1/audit")
        .iter()
        .map(|entry| entry["act"].clone())
        .collect();
    assert_eq!(acts, ["remove_credential", "set_credential"]);
    let seen = [
        answer.body,
        api.get(path).body,
        api.get("/api/v1/audit").body,
        api.get("/api/v1/errors").body,
        server.log(),
    ];
    assert!(
        seen.iter().all(|text| !text.contains("glpat-secret")),
        "the token is shown"
    );
}

fn a_request_has_a_name(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let send = |name: &str, body: &str| api.post_with("/api/v1/jobs", &[("x-request-id", name)], body);
    let longest = "x".repeat(128);
    for name in ["web-17", "~!\"<b>", &longest] {
        let answer = send(name, "{}");
        assert_eq!(answer.header("x-request-id"), name);
        assert_eq!(answer.problem(422, "invalid_request")["request_id"], name);
    }
    for name in ["", "a b", "ü", &format!("{longest}x")] {
        let made = send(name, "{}").header("x-request-id").to_owned();
        assert!(made.len() == 36 && made != name, "{made}");
    }
    let one = api.get("/api/v1/jobs").header("x-request-id").to_owned();
    assert_ne!(api.get("/api/v1/jobs").header("x-request-id"), one);
    for path in ["/nowhere", "/health/live", "/api/v1/jobs/nobody", "/"] {
        let answer = api.get(path);
        assert_eq!(answer.header("x-request-id").len(), 36, "{path}");
        if answer.status == 404 {
            assert_eq!(answer.json()["request_id"], answer.header("x-request-id"));
        }
    }
    // What the framework itself refuses has one, too.
    let refused = api
        .raw(b"GET /api/v1/jobs/%ff HTTP/1.1\r\nhost: localhost\r\nx-request-id: raw-1\r\nconnection: close\r\n\r\n");
    assert_eq!((refused.status, refused.header("x-request-id")), (400, "raw-1"));
    assert_eq!(refused.json()["request_id"], "raw-1");
}

fn a_job_that_is_as_it_was_is_not_told_again(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let id = api.submit("crawl_user");
    let path = format!("/api/v1/jobs/{id}");
    let first = api.get(&path);
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    assert_eq!(first.header("content-type"), "application/json");
    let ask = |known: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nif-none-match: {known}\r\nconnection: close\r\n\r\n");
        api.raw(request.as_bytes())
    };
    for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let answer = ask(&known);
        assert_eq!(
            (answer.status, answer.header("etag"), answer.body.as_str()),
            (304, tag.as_str(), ""),
            "{known}"
        );
    }
    assert_eq!(ask("\"x\"").status, 200);
    api.act(&id, "pause", &json!({})).ok();
    let changed = wait_until("it is another one", || {
        let answer = ask(&tag);
        (answer.status == 200).then_some(answer)
    });
    assert_ne!(changed.header("etag"), tag);
    let job: Value = serde_json::from_str(changed.body.trim()).expect("JSON");
    assert_eq!(job["status"], "paused");
}
