//! The life of a crawl, as crawler and web application see it.

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::{Api, Crawler, LiveStream, Setup, on_both_databases};

on_both_databases!(
    a_crawl_from_submission_to_the_last_child,
    a_failed_job_is_tried_again_and_a_hopeless_one_is_not,
    a_newer_token_is_given_once,
    crawlers_share_the_work,
);

fn a_crawl_from_submission_to_the_last_child(database: TestDatabase) {
    let server = Setup::new(database).start();
    let (api, mut stream) = (server.api(), server.stream());
    let mut crawler = server.crawler();
    let job = json!({
        "job_type": "discover_namespaces", "gitlab_host": "GitLab.example.com", "account_id": "acme",
        "access_token": "glpat-secret", "priority": 5, "provider": "gitlab-onprem", "user_id": "u1",
    });
    let root = api.create(&job).json()["id"].as_str().expect("an id").to_owned();

    let assigned = crawler.assignment();
    assert_eq!(assigned.id, root);
    assert_eq!(
        assigned.data,
        json!({
            "job_id": root, "job_type": "discover_namespaces", "gitlab_host": "https://gitlab.example.com",
            "access_token": "glpat-secret", "priority": 5, "resume": false,
        })
    );
    crawler.started(&root);
    let running = stream.await_job(&root, |job| job["status"] == "running");
    assert_eq!((&running["attempt"], &running["fence"]), (&json!(1), &json!(1)));

    crawler.progress(&root, 0.4, 40);
    assert_eq!(await_progress(&mut stream, &root)["overall_completion"], 0.4);
    let progress = api.get(&format!("/api/v1/jobs/{root}/progress")).ok();
    assert_eq!(
        (&progress["status"], &progress["overall_completion"]),
        (&json!("running"), &json!(0.4))
    );
    assert_eq!(progress["entities"][0]["total_processed"], 40);

    let found = [("crawl_project", "p1"), ("crawl_group", "g1"), ("crawl_project", "p1")];
    crawler.discovered(&root, &found);
    crawler.discovered(&root, &found[..1]);
    crawler.completed(&root);
    crawl_the_children(&api, &mut crawler, &root);

    let ended = api.job(&root);
    assert_eq!((&ended["status"], &ended["children"]), (&json!("completed"), &json!(2)));
    assert_eq!((&ended["session"], &ended["failures"]), (&Value::Null, &json!(0)));
    let result = json!({
        "summary": "100 issues", "output_files": ["issues.jsonl"], "output_files_total": 1, "total_duration": 4000,
    });
    assert_eq!(ended["result"], result);
    assert_eq!(api.arrows(&root), ["submit", "claim", "start", "finish"]);
    let totals = api.get(&format!("/api/v1/jobs/{root}/progress")).ok();
    assert_eq!(
        (&totals["overall_completion"], &totals["time_elapsed"]),
        (&json!(1.0), &json!(4000.0))
    );
    assert_eq!(totals["entities"][0]["total_processed"], 100);
    assert_eq!(crawler.settle(&api)["jobs"], json!([]));
    assert!(!server.log().contains("glpat-secret"), "the token is in the log");
}

fn crawl_the_children(api: &Api, crawler: &mut Crawler, root: &str) {
    let mut children: Vec<_> = (0..2).map(|_| crawler.assignment()).collect();
    children.sort_by_key(|child| child.data["entity_id"].to_string());
    for (child, (job_type, entity)) in children.iter().zip([("crawl_group", "g1"), ("crawl_project", "p1")]) {
        assert_eq!(
            child.data,
            json!({
                "job_id": child.id, "job_type": job_type, "gitlab_host": "https://gitlab.example.com",
                "access_token": "glpat-secret", "priority": 2, "resume": false,
                "entity_id": entity, "namespace_path": format!("group/{entity}"),
            })
        );
        crawler.started(&child.id);
        crawler.completed(&child.id);
    }
    for child in &children {
        let told = api.await_status(&child.id, "completed");
        assert_eq!((&told["parent_id"], &told["root_id"]), (&json!(root), &json!(root)));
        assert_eq!(
            (&told["account_id"], &told["provider"]),
            (&json!("acme"), &json!("gitlab-onprem"))
        );
        assert_eq!((&told["depth"], &told["user_id"]), (&json!(1), &json!("u1")));
        assert_eq!(api.arrows(&child.id), ["discover", "claim", "start", "finish"]);
    }
}

fn await_progress(stream: &mut LiveStream, id: &str) -> Value {
    stream.await_event("progress", |name, data| {
        (name == "progress" && data["job_id"] == id).then(|| data.clone())
    })
}

fn a_failed_job_is_tried_again_and_a_hopeless_one_is_not(database: TestDatabase) {
    let setup = Setup::new(database)
        .set("SOCKET_RETRY_ATTEMPTS", 1)
        .set("SOCKET_RETRY_DELAY", 20);
    let server = setup.start();
    let api = server.api();
    let mut crawler = server.crawler();

    let job = api.submit("crawl_group");
    crawler.assignment();
    crawler.progress(&job, 0.25, 25);
    crawler.failed(&job, true);
    let again = crawler.assignment();
    assert_eq!((&again.id, &again.data["resume"]), (&job, &json!(true)));
    assert_eq!(api.job(&job)["failures"], 1);
    crawler.failed(&job, true);
    let ended = api.await_status(&job, "failed");
    assert_eq!((&ended["attempt"], &ended["failures"]), (&json!(2), &json!(2)));
    assert_eq!(
        (&ended["error"]["error_type"], &ended["error"]["error_message"]),
        (&json!("HttpError"), &json!("503"))
    );
    let life = [
        "submit", "claim", "start", "finish", "promote", "claim", "start", "finish",
    ];
    assert_eq!(api.arrows(&job), life);

    let hopeless = api.submit("crawl_user");
    crawler.assignment();
    crawler.failed(&hopeless, false);
    let ended = api.await_status(&hopeless, "failed");
    assert_eq!((&ended["attempt"], &ended["failures"]), (&json!(1), &json!(1)));
    assert_eq!(api.arrows(&hopeless), ["submit", "claim", "start", "finish"]);
}

fn a_newer_token_is_given_once(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let with_token = |token: &str| {
        let job = json!({
            "job_type": "crawl_user", "gitlab_host": "https://gitlab.example.com", "account_id": "acme",
            "access_token": token,
        });
        assert_eq!(api.create(&job).status, 201);
    };
    with_token("first");
    let job = crawler.assignment();
    assert_eq!(job.data["access_token"], "first");
    let refresh = |crawler: &mut Crawler| {
        crawler.say(
            "token_refresh_request",
            Some(&job.id),
            &json!({ "current_token_expired": true }),
        );
        let answer = crawler.recv().expect("an answer");
        assert_eq!(
            (&answer["type"], &answer["job_id"]),
            (&json!("token_refresh_response"), &json!(job.id))
        );
        (
            answer["data"]["access_token"].clone(),
            answer["data"]["refresh_successful"].clone(),
        )
    };
    assert_eq!(refresh(&mut crawler), (json!(""), json!(false)));
    with_token("second");
    assert_eq!(crawler.assignment().data["access_token"], "second");
    assert_eq!(refresh(&mut crawler), (json!("second"), json!(true)));
    assert_eq!(refresh(&mut crawler), (json!(""), json!(false)));
}

fn crawlers_share_the_work(database: TestDatabase) {
    let setup = Setup::new(database).set("SOCKET_MAX_CONCURRENT_JOBS", 2);
    let server = setup.start();
    let api = server.api();
    let mut crawlers = [server.crawler(), server.crawler(), server.crawler()];
    let jobs: Vec<_> = (0..9).map(|_| api.submit("crawl_project")).collect();
    let mut given = Vec::new();
    for crawler in &mut crawlers {
        given.push([crawler.assignment(), crawler.assignment()]);
    }
    for (crawler, [first, _]) in crawlers.iter_mut().zip(&given) {
        assert!(crawler.try_recv().is_none(), "more jobs than slots");
        crawler.completed(&first.id);
    }
    let rest: Vec<_> = crawlers.iter_mut().map(|crawler| crawler.assignment().id).collect();
    let mut all: Vec<_> = given.into_iter().flatten().map(|job| job.id).chain(rest).collect();
    all.sort();
    assert_eq!(all, jobs, "each job goes to one crawler");
}
