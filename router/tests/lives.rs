//! Jobs from submission to end, by messages alone.

mod support;

use crawlwire_progress::store::Outcome;
use crawlwire_progress::{Arrow, Policy, State};
use crawlwire_protocol::message::JobType;
use crawlwire_router::{Event, RouterConfig};
use serde_json::{Value, json};

use support::*;

/// A crawler that was given a job of this name.
async fn given(server: &Server, id: &str) -> Crawler {
    let mut crawler = server.crawler().await;
    server.submit(id).await;
    assert_eq!(crawler.assignment().await.job_id, id);
    crawler
}

#[tokio::test]
async fn a_whole_life() {
    let mut server = Server::start();
    let mut crawler = server.crawler().await;
    let mut new = with_token("a", "secret");
    new.spec.job_type = JobType::CrawlProject;
    new.spec.priority = 3.5;
    server.submit_job(new).await;
    let assignment = crawler.assignment().await;
    assert_eq!(
        (assignment.job_id.as_str(), assignment.job_type),
        ("a", JobType::CrawlProject)
    );
    assert_eq!(assignment.entity_id.as_deref(), Some("entity-a"));
    assert_eq!(assignment.namespace_path.as_deref(), Some("group"));
    assert_eq!(
        (assignment.gitlab_host.as_str(), assignment.access_token.expose()),
        ("gitlab.example", "secret")
    );
    assert_eq!((assignment.priority, assignment.resume), (3.5, false));

    done(crawler.say(say::started("a")).await);
    assert_eq!(server.job("a").await.state, State::Running);
    done(crawler.say(say::progress("a", 0.5)).await);
    done(crawler.say(say::completed("a")).await);

    let view = server.job("a").await;
    assert_eq!((view.state, view.attempt, view.session), (State::Completed, 1, None));
    let result: Value = serde_json::from_str(&view.result.unwrap()).unwrap();
    assert_eq!(
        result,
        json!({
            "summary": "all done", "output_files": ["a.json"], "output_files_total": 1, "output_files_total": 1, "total_duration": 2500,
        })
    );
    let last = server
        .stored_progress("a", |report| report.said.overall_completion == 1.0)
        .await;
    assert_eq!((last.attempt, last.said.time_elapsed), (1, 2500.0));
    assert_eq!(last.entities[0].said.total_processed.get(), 10);
    let told: Vec<_> = [
        server.arrow("a", Arrow::Submit).await,
        server.arrow("a", Arrow::Claim).await,
        server.arrow("a", Arrow::Start).await,
        server.arrow("a", Arrow::Finish).await,
    ]
    .map(|fact| fact.state)
    .to_vec();
    assert_eq!(told, [State::Queued, State::Assigned, State::Running, State::Completed]);
    assert_eq!(crawler.holds(), Vec::<String>::new());
    let stats = server.router.stats();
    assert_eq!(
        (stats.processed, stats.failed, stats.assigned, stats.invalid),
        (4, 0, 1, 0)
    );
}

#[tokio::test]
async fn what_is_kept_of_an_end_is_bounded_and_says_so() {
    let server = Server::start();
    let crawler = given(&server, "a").await;
    let files = vec!["f".repeat(1_000); 100];
    let long = say::completed_with("a", &files, &"s".repeat(100_000));
    done(crawler.say(long).await);
    let result = server.job("a").await.result.unwrap();
    assert!(result.len() < 64 * 1024, "{}", result.len());
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(result["output_files_total"], 100);
    let kept = result["output_files"].as_array().unwrap();
    assert!(kept.len() < 100 && kept.iter().all(|file| file.as_str().unwrap() == files[0]));

    crawler.leave().await;
    let crawler = given(&server, "b").await;
    done(crawler.say(say::failed_saying("b", true, &"e".repeat(100_000))).await);
    let error = server.job("b").await.error.unwrap();
    assert!(error.len() < 16 * 1024, "{}", error.len());
}

#[tokio::test]
async fn a_start_is_implied_by_progress_by_discovery_and_by_the_end() {
    let mut server = Server::start();
    for (id, line) in [
        ("a", say::progress("a", 0.1)),
        ("b", say::discovered("b", &[])),
        ("c", say::completed("c")),
        ("d", say::failed("d", false)),
    ] {
        let crawler = given(&server, id).await;
        done(crawler.say(line).await);
        let ended = matches!(id, "c" | "d");
        let expected: &[&str] = if ended {
            &["submit", "claim", "start", "finish"]
        } else {
            &["submit", "claim", "start"]
        };
        assert_eq!(server.arrows(id).await, expected);
        assert_eq!(server.job(id).await.attempt, 1);
        let told = if ended { Arrow::Finish } else { Arrow::Start };
        assert_eq!(server.arrow(id, told).await.attempt, 1);
        crawler.leave().await;
    }
}

#[tokio::test]
async fn a_start_said_twice_is_taken_once() {
    let server = Server::start();
    let crawler = given(&server, "a").await;
    let (first, second) = (
        crawler.begin(say::started("a")).await,
        crawler.begin(say::started("a")).await,
    );
    done(first.await);
    done(second.await);
    done(crawler.say(say::started("a")).await);
    done(crawler.say(say::progress("a", 0.5)).await);
    assert_eq!(server.arrows("a").await, ["submit", "claim", "start"]);
    assert_eq!(server.job("a").await.attempt, 1);
}

#[tokio::test]
async fn a_failure_is_tried_again_after_a_wait_and_a_hopeless_one_is_not() {
    let mut server = Server::start();
    let mut crawler = given(&server, "a").await;
    done(crawler.say(say::failed("a", true)).await);
    let view = server.job("a").await;
    assert_eq!((view.state, view.failures), (State::Delayed, 1));
    let error: Value = serde_json::from_str(&view.error.unwrap()).unwrap();
    assert_eq!(error["error_type"], "HttpError");
    assert_eq!(error["is_recoverable"], true);
    let partial = server
        .stored_progress("a", |report| report.entities[0].said.total_processed.get() == 3)
        .await;
    assert_eq!(partial.attempt, 1);

    server.store.later(server.policy.retry_delay);
    server.arrow("a", Arrow::Promote).await;
    assert!(crawler.assignment().await.resume);
    done(crawler.say(say::failed("a", false)).await);
    let view = server.job("a").await;
    assert_eq!((view.state, view.failures, view.attempt), (State::Failed, 2, 2));
    let logged = server.errors(2).await;
    assert!(
        logged
            .iter()
            .all(|error| error.code == "job_failed" && error.job.as_deref() == Some("a"))
    );
    assert_eq!(
        logged.iter().map(|error| error.severity.as_str()).collect::<Vec<_>>(),
        ["high", "medium"]
    );
    assert_eq!(logged[0].category, "job_processing");
    assert_eq!(logged[0].connection.as_deref(), Some("legacy-1"));
}

#[tokio::test]
async fn discovered_children_are_given_out_next() {
    let server = Server::with(
        RouterConfig {
            slots_per_crawler: 3,
            ..config()
        },
        Default::default(),
    );
    let mut crawler = server.crawler().await;
    server.submit_job(with_token("root", "secret")).await;
    crawler.assignment().await;
    let processed = crawler.say(say::discovered("root", &["1", "2", "1"])).await;
    assert_eq!(processed.data, Some(json!({ "received": 3, "accepted": 2 })));
    let again = crawler.say(say::discovered("root", &["1", "2"])).await;
    assert_eq!(
        again.data,
        Some(json!({ "received": 2, "accepted": 0 })),
        "the same batch again"
    );
    let (one, two) = (crawler.assignment().await, crawler.assignment().await);
    assert_eq!(
        (one.entity_id.as_deref(), two.entity_id.as_deref()),
        (Some("1"), Some("2"))
    );
    assert_eq!(one.access_token.expose(), "secret");
    assert_eq!((one.job_type, one.priority), (JobType::CrawlProject, 5.0));
    let child = server.job(&one.job_id).await;
    assert_eq!((child.parent_id.as_deref(), child.depth), (Some("root"), 1));

    let nested = crawler.say(say::discovered(&one.job_id, &["2", "3"])).await;
    assert_eq!(nested.data, Some(json!({ "received": 2, "accepted": 1 })));
    done(crawler.say(say::completed("root")).await);
    let third = crawler.assignment().await;
    assert_eq!(third.entity_id.as_deref(), Some("3"));
    assert_eq!(server.job(&third.job_id).await.root_id, "root");
}

#[tokio::test]
async fn a_newer_token_is_given_once() {
    let server = Server::start();
    let mut crawler = server.crawler().await;
    server.submit_job(with_token("a", "t1")).await;
    assert_eq!(crawler.assignment().await.access_token.expose(), "t1");
    done(crawler.say(say::refresh("a")).await);
    let (job, refused) = crawler.token().await;
    assert_eq!(job, "a");
    assert_eq!(
        (refused.access_token.expose(), refused.refresh_successful),
        ("", false),
        "there is none newer"
    );

    server.router.stop_dispatching();
    server.submit_job(with_token("b", "t2")).await;
    done(crawler.say(say::refresh("a")).await);
    let (job, renewed) = crawler.token().await;
    assert_eq!(
        (job.as_str(), renewed.access_token.expose(), renewed.refresh_successful),
        ("a", "t2", true)
    );
    done(crawler.say(say::refresh("a")).await);
    assert!(!crawler.token().await.1.refresh_successful, "it has the newest now");

    failed(crawler.say(say::refresh("b")).await);
    assert!(crawler.heard_nothing(), "a token goes only to who holds the job");
}

#[tokio::test]
async fn a_job_without_a_credential_has_no_token_to_refresh() {
    let server = Server::start();
    let mut crawler = given(&server, "a").await;
    done(crawler.say(say::refresh("a")).await);
    assert!(!crawler.token().await.1.refresh_successful);
}

#[tokio::test]
async fn reports_are_seen_at_once_and_written_soon() {
    let mut server = Server::with(
        RouterConfig {
            flush_interval: std::time::Duration::from_secs(3600),
            ..config()
        },
        Default::default(),
    );
    // The first flush is at once; this one must not be among what it writes.
    server.renewed().await;
    let mut crawler = given(&server, "a").await;
    server.submit("b").await;
    crawler.assignment().await;
    done(crawler.say(say::progress("a", 0.25)).await);
    done(crawler.say(say::progress("b", 0.75)).await);
    let key = server.job("a").await.key;
    let (job, id) = server
        .event("a report", |event| match event {
            Event::Progress { job, public_id } => Some((job, public_id)),
            _ => None,
        })
        .await;
    assert_eq!((job, id.as_str()), (key, "a"));
    let report = server.router.progress(key).unwrap();
    assert_eq!(
        (report.said.overall_completion, report.attempt),
        (0.25, 1),
        "the report began the attempt"
    );
    assert_eq!(server.store.count("Progress"), 0, "not written one by one");

    done(crawler.say(say::completed("b")).await);
    let store = server.store.clone();
    server.stop().await;
    let stored = crawlwire_progress::Store::progress(&*store, key)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (stored.said.overall_completion, stored.attempt),
        (0.25, 1),
        "written at the end at the latest"
    );
}

#[tokio::test]
async fn the_last_report_is_kept_when_an_attempt_goes_wrong() {
    let server = Server::with(
        RouterConfig {
            flush_interval: std::time::Duration::from_secs(3600),
            ..config()
        },
        Default::default(),
    );
    let crawler = given(&server, "a").await;
    done(crawler.say(say::progress("a", 0.4)).await);
    done(crawler.say(say::failed_without_counts("a")).await);
    server
        .stored_progress("a", |report| report.said.overall_completion == 0.4)
        .await;
}

#[tokio::test]
async fn children_that_a_budget_kept_out_are_logged() {
    let policy = Policy {
        children_max: 1,
        ..Policy::default()
    };
    let server = Server::with(config(), policy);
    let crawler = given(&server, "a").await;
    let found = crawler.say(say::discovered("a", &["1", "2", "3"])).await;
    assert_eq!(found.data, Some(json!({ "received": 3, "accepted": 1 })));
    let errors = server.errors(1).await;
    assert_eq!(
        (errors[0].code.as_str(), errors[0].category.as_str()),
        ("over_budget", "resource")
    );
    assert_eq!(errors[0].job.as_deref(), Some("a"));
    assert!(errors[0].message.starts_with("2 "), "{}", errors[0].message);
    assert!(errors[0].message.contains("children"), "{}", errors[0].message);
}

#[tokio::test]
async fn many_messages_in_flight_keep_their_order() {
    let server = Server::start();
    let crawler = given(&server, "a").await;
    let before = server.store.journal().len();
    server.store.hold("");
    let mut pending = vec![crawler.begin(say::started("a")).await];
    for number in 0..30 {
        pending.push(crawler.begin(say::discovered("a", &[&number.to_string()])).await);
        pending.push(crawler.begin(say::progress("a", 0.5)).await);
    }
    pending.push(crawler.begin(say::completed("a")).await);
    pending.push(crawler.begin(say::discovered("a", &["late"])).await);
    let journal = server.store.journal();
    let given: Vec<_> = journal[before..]
        .iter()
        .map(String::as_str)
        .filter(|name| matches!(*name, "Start" | "Discover" | "Finish"))
        .collect();
    assert_eq!(given.len(), 33);
    assert_eq!((given[0], given[31], given[32]), ("Start", "Finish", "Discover"));
    assert!(given[1..31].iter().all(|name| *name == "Discover"));

    server.store.tell();
    let last = pending.pop().unwrap();
    for pending in pending {
        done(soon("an effect", pending).await);
    }
    failed(soon("a refusal", last).await);
    assert_eq!(server.job("a").await.tree.children, 30);
}

#[tokio::test]
async fn a_refused_submission_is_told_and_not_published() {
    let mut server = Server::start();
    server.submit("a").await;
    let mut again = new_job("b");
    again.web_app_job_id = Some("a".to_owned());
    let outcome = server.router.submit(again).await.unwrap();
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    server.submit("c").await;
    let mut seen = Vec::new();
    server
        .event("the third submission", |event| {
            let Event::Job(fact) = event else { return None };
            seen.push(fact.public_id.clone());
            (fact.public_id == "c").then_some(())
        })
        .await;
    assert_eq!(seen, ["a", "c"]);
}
