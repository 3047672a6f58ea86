//! Commands that change something.

use crawlwire_persistence::testing::TestDatabase;
use serde_json::json;

use crate::console::{command, ended, run, server};
use crate::support::Setup;

#[test]
fn a_job_is_submitted_with_every_field() {
    let server = server();
    let directory = tempfile::tempdir().expect("a directory");
    let token = directory.path().join("token");
    std::fs::write(&token, "glpat-from-a-file\n").expect("a file");
    let token = token.to_str().expect("text");
    let submit = format!(
        "submit --type crawl_project --account acme --host GitLab.example.com --entity 1234 --namespace group/project --name job-789 \
         --priority -2.5 --label eu --label big --tag nightly --metadata {{\"ticket\":7}} --run-at 2099-01-01T00:00:00Z \
         --token-file {token} --resume --provider gitlab-cloud --user-id u1 --created-by-user-id u2 --job-timeout-ms 5000 \
         --retry-attempts 7 --retry-delay-ms 10"
    );
    let out = run(&server, &submit.split(' ').collect::<Vec<_>>()).ok();
    let job = server.api().job(out.trim());
    let expected = json!({
        "job_type": "crawl_project", "account_id": "acme", "gitlab_host": "https://gitlab.example.com", "entity_id": "1234",
        "namespace_path": "group/project", "web_app_job_id": "job-789", "priority": -2.5, "labels": ["big", "eu"],
        "tags": ["nightly"], "metadata": { "ticket": 7 }, "run_at": "2099-01-01T00:00:00.000Z", "resume": true,
        "provider": "gitlab-cloud", "user_id": "u1", "created_by_user_id": "u2", "job_timeout_ms": 5000, "retry_attempts": 7,
        "retry_delay_ms": 10, "state": "delayed",
    });
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(&job[field], value, "{field}");
    }
    let taken = run(
        &server,
        &[
            "submit",
            "--type",
            "crawl_user",
            "--account",
            "acme",
            "--host",
            "h",
            "--name",
            "job-789",
            "--json",
        ],
    );
    assert_eq!(
        (taken.status, &taken.json()["code"]),
        (1, &json!("web_app_job_id_taken"))
    );
    assert!(taken.err.contains("/web_app_job_id: is taken"), "{taken:?}");
}

#[test]
fn a_token_reaches_the_crawler_and_nobody_else() {
    let server = server();
    let submit = command(
        &server,
        &[
            "submit",
            "--type",
            "crawl_user",
            "--account",
            "acme",
            "--host",
            "h",
            "--token-file",
            "-",
            "--json",
        ],
    );
    let said = ended(submit, "glpat-secret\n");
    assert!(!said.out.contains("glpat-secret") && !said.err.contains("glpat-secret"));
    let mut crawler = server.crawler();
    let job = crawler.assignment();
    assert_eq!(
        (job.id.as_str(), &job.data["access_token"]),
        (said.json()["id"].as_str().expect("an id"), &json!("glpat-secret"))
    );
    let empty = command(
        &server,
        &[
            "submit",
            "--type",
            "crawl_user",
            "--account",
            "a",
            "--host",
            "h",
            "--token-file",
            "-",
        ],
    );
    assert_eq!(ended(empty, "\n").status, 2);
}

#[test]
fn jobs_are_paused_resumed_cancelled_and_tried_again() {
    let server = server();
    let api = server.api();
    let (one, two) = (api.submit("crawl_user"), api.submit("crawl_user"));
    let line = |id: &str, state: &str| format!("{id}  {state}\n");
    assert_eq!(run(&server, &["pause", &one]).ok(), line(&one, "paused"));
    assert_eq!(
        run(&server, &["resume", &one, "--by", "bob"]).ok(),
        line(&one, "queued")
    );
    let both = run(&server, &["cancel", &one, &two]).ok();
    assert_eq!(both, line(&one, "cancelled") + &line(&two, "cancelled"));
    let again = run(&server, &["retry", &one, "nobody", &two, "--json"]);
    assert_eq!(again.status, 1, "{again:?}");
    let items = &again.json()["items"];
    assert_eq!(
        (&items[0]["job"]["state"], &items[0]["id"]),
        (&json!("queued"), &json!(one))
    );
    assert_eq!(items[1]["problem"]["code"], "not_found");
    assert_eq!(items[2]["job"]["state"], "queued");
    assert!(
        again.err.starts_with("crawlwire: nobody: There is no such job."),
        "{again:?}"
    );
    let refused = run(&server, &["resume", &one]);
    assert_eq!((refused.status, refused.out.as_str()), (1, ""));
    assert!(refused.err.starts_with(&format!("crawlwire: {one}: ")), "{refused:?}");

    let by: Vec<_> = api
        .all("/api/v1/audit")
        .iter()
        .map(|entry| entry["by"].clone())
        .collect();
    assert_eq!(by.iter().filter(|by| **by == "bob").count(), 1);
    assert_eq!(by.iter().filter(|by| **by == "cli:ada").count(), by.len() - 1);
}

#[test]
fn a_tree_is_cancelled_as_a_whole() {
    let server = server();
    let root = server.api().submit("discover_namespaces");
    let mut crawler = server.crawler();
    crawler.assignment();
    crawler.started(&root);
    crawler.discovered(&root, &[("crawl_user", "1"), ("crawl_user", "2")]);
    crawler.settle(&server.api());
    let out = run(&server, &["cancel", "--tree", &root]).ok();
    assert!(
        out.starts_with(&format!("{root}  cancelled, with its tree: 3 jobs ended")),
        "{out}"
    );
    let child = &server.api().all(&format!("/api/v1/jobs/{root}/children"))[0];
    assert_eq!(child["status"], "cancelled");
    let refused = run(&server, &["cancel", "--tree", child["id"].as_str().expect("an id")]);
    assert!(refused.status == 1 && refused.err.contains(&root), "{refused:?}");
}

#[test]
fn a_server_that_drains_gives_out_nothing_until_it_is_told_to() {
    let server = server();
    let mut crawler = server.crawler();
    let drained = run(&server, &["drain", "--yes", "--by", "ada", "--json"]);
    assert_eq!(drained.json()["draining"], true, "{drained:?}");
    let id = server.api().submit("crawl_user");
    let explained = server.api().get(&format!("/api/v1/jobs/{id}/explain")).json();
    assert_eq!(explained["reason"]["code"], "draining", "{explained}");
    let undone = run(&server, &["drain", "--undo"]).ok();
    assert!(undone.contains("gives out jobs again"), "{undone}");
    assert_eq!(crawler.assignment().id, id);
}

#[test]
fn quarantined_jobs_are_tried_again_when_asked_for() {
    let server = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_ACCEPT_TIMEOUT", 10)
        .start();
    let id = server.api().submit("crawl_user");
    let _idle = server.crawler();
    let mut stream = server.stream();
    stream.await_job(&id, |job| job["pause_reason"] == "quarantined");
    let refused = run(&server, &["retry", &id]);
    assert_eq!(refused.status, 1, "{refused:?}");
    let out = run(&server, &["retry", "--quarantined", &id]).ok();
    assert!(
        out.starts_with(&format!("{id}  ")) && !out.contains("quarantined"),
        "{out}"
    );
}
