//! What is kept, for whom, and how long.

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::{Setup, on_both_databases, wait_until};

on_both_databases!(
    the_record_of_acts_can_be_exported,
    an_account_sees_what_its_jobs_found,
    what_is_over_goes_and_what_is_open_stays,
);

fn the_record_of_acts_can_be_exported(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let lines = |path: &str| -> Vec<Value> {
        let answer = api.get_as(path, "application/json;q=0.5, application/x-ndjson");
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, "application/x-ndjson")
        );
        assert!(answer.body.is_empty() || answer.body.ends_with('\n'));
        answer
            .body
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    };
    assert!(lines("/api/v1/audit").is_empty());
    let job = api.submit("crawl_project");
    let path = format!("/api/v1/jobs/{job}/priority");
    // More than one read of the export.
    for priority in 2..=1010 {
        api.ask("PUT", &path, Some(&json!({ "priority": priority }))).ok();
    }
    let paged = api.all("/api/v1/audit?limit=500");
    assert_eq!(paged.len(), 1009);
    assert_eq!(paged[0]["detail"]["priority"], 1010.0, "newest first");
    assert_eq!(lines("/api/v1/audit"), paged);
    let first = api.get("/api/v1/audit?limit=9").ok();
    let cursor = first["next_cursor"].as_str().expect("there is more");
    assert_eq!(lines(&format!("/api/v1/audit?cursor={cursor}")), paged[9..]);
    assert_eq!(api.get("/api/v1/audit?limit=0").places(), ["/limit".to_owned()].into());
}

fn an_account_sees_what_its_jobs_found(database: TestDatabase) {
    let server = Setup::new(database).set("SOCKET_MAX_CONCURRENT_JOBS", 1).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let root = api.submit("discover_namespaces");
    crawler.assignment();
    let found = [("crawl_group", "g1"), ("crawl_project", "p1"), ("crawl_user", "u1")];
    crawler.discovered(&root, &found);
    // Said twice, it is there once.
    crawler.discovered(&root, &found);
    crawler.completed(&root);
    api.await_status(&root, "completed");
    let areas = api.all("/api/v1/accounts/acme/areas?limit=1");
    let mut told: Vec<_> = areas
        .iter()
        .map(|area| {
            assert_eq!(area["gitlab_host"], "https://gitlab.example.com");
            assert!(area["since"].is_string() && area["name"].is_string() && area["path"].is_string());
            format!(
                "{} {}",
                area["kind"].as_str().expect("a kind"),
                area["entity_id"].as_str().expect("an id")
            )
        })
        .collect();
    told.sort();
    assert_eq!(told, ["group g1", "project p1", "user u1"]);
    assert!(api.all("/api/v1/accounts/nobody/areas").is_empty());
    api.get("/api/v1/accounts/a%00b/areas").problem(404, "not_found");
}

fn what_is_over_goes_and_what_is_open_stays(database: TestDatabase) {
    let setup = Setup::new(database)
        .set("SOCKET_CLEANUP_INTERVAL", 1000)
        .set("SOCKET_MAX_JOB_AGE", 1000)
        .set("SOCKET_MAX_ERROR_LOG_AGE", 1000);
    let server = setup.set("SOCKET_MAX_CONCURRENT_JOBS", 1).start();
    let api = server.api();
    let mut crawler = server.crawler();
    crawler.send_line("this is no message");
    wait_until("it is told", || (!api.all("/api/v1/errors").is_empty()).then_some(()));

    let open = api.submit("crawl_project");
    crawler.assignment();
    crawler.discovered(&open, &[("crawl_user", "u1")]);
    crawler.completed(&open);
    let child = crawler.assignment().id;
    crawler.started(&child);
    let over = api.submit("crawl_project");
    api.act(&over, "cancel", &json!({})).ok();
    wait_until("it is gone", || {
        (api.get(&format!("/api/v1/jobs/{over}")).status == 404).then_some(())
    });
    wait_until("errors are gone", || api.all("/api/v1/errors").is_empty().then_some(()));
    // The root ended before that one, and is kept by what runs below it.
    assert_eq!(api.job(&open)["status"], "completed");
    assert_eq!(api.job(&open)["tree_status"], "open");
    assert_eq!(api.job(&child)["status"], "running");
    crawler.completed(&child);
    wait_until("the tree is gone", || api.all("/api/v1/jobs").is_empty().then_some(()));
}
