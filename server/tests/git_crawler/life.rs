//! Connecting, losing the connection, being told to go, ending.

use std::time::Duration;

use crawlwire_protocol::CrawlerMessage;
use crawlwire_protocol::message::{JobType, SystemStatus};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::crawler;
use crate::fixture::{ANN, Fixture, commit, init};
use crate::peer::{PATIENCE, Server, options};

/// Slow enough that a job is still running when the next thing happens.
const SLOW: &[&str] = &["--slow-ms=300"];

#[tokio::test]
async fn heartbeats_say_what_it_does() {
    let fixture = Fixture::with_three();
    let server = Server::start(&fixture, &["--slow-ms=300", "--heartbeat-ms=20"]);
    let mut connection = server.accept().await;
    assert_eq!(connection.active_jobs_when(SystemStatus::Idle).await, 0);
    connection.assign("1", JobType::CrawlProject, "alpha").await;
    assert_eq!(connection.active_jobs_when(SystemStatus::Crawling).await, 1);
    connection.assign("2", JobType::DiscoverNamespaces, ".").await;
    assert_eq!(connection.active_jobs_when(SystemStatus::Discovering).await, 2);
    assert_eq!(connection.active_jobs_when(SystemStatus::Idle).await, 0);
}

#[tokio::test]
async fn several_jobs_run_at_once_and_the_rest_wait() {
    let fixture = Fixture::with_three();
    let server = Server::start(&fixture, &["--slow-ms=200", "--jobs=2"]);
    let mut connection = server.accept().await;
    for job in ["1", "2", "3"] {
        connection.assign(job, JobType::CrawlProject, "alpha").await;
    }
    let (mut running, mut most, mut order) = (0, 0, Vec::new());
    while order.len() < 6 {
        let envelope = connection.next().await;
        let job = envelope.job_id.map(|id| id.as_str().to_owned()).unwrap_or_default();
        match envelope.message {
            CrawlerMessage::JobStarted(_) => running += 1,
            CrawlerMessage::JobCompleted(_) => running -= 1,
            _ => continue,
        }
        most = running.max(most);
        order.push((running, job));
    }
    assert_eq!((running, most), (0, 2), "{order:?}");
    // The third begins when one of the others has ended.
    let third = order.iter().position(|(_, job)| job == "3").unwrap();
    assert!(third >= 3, "{order:?}");
}

#[tokio::test]
async fn a_job_outlives_its_connection() {
    let fixture = Fixture::with_three();
    let server = Server::start(&fixture, SLOW);
    let mut connection = server.accept().await;
    connection.assign("d", JobType::DiscoverNamespaces, ".").await;
    connection.assign("p", JobType::CrawlProject, "alpha").await;
    while !matches!(connection.next_about("d").await, CrawlerMessage::JobProgress(_)) {}
    drop(connection);

    // Both are named again and come to their end, and nothing that was found is missing.
    let mut connection = server.accept().await;
    let (mut discovered, mut ends) = (0, 0);
    let mut first = std::collections::BTreeMap::new();
    while ends < 2 {
        let envelope = connection.next().await;
        let Some(job) = envelope.job_id else { continue };
        let kind = std::mem::discriminant(&envelope.message);
        first.entry(job.as_str().to_owned()).or_insert(kind);
        match envelope.message {
            CrawlerMessage::JobsDiscovered(batch) => discovered += batch.discovered_jobs.len(),
            CrawlerMessage::JobCompleted(_) => ends += 1,
            CrawlerMessage::JobFailed(failed) => panic!("{failed:?}"),
            _ => {}
        }
    }
    assert_eq!(discovered, 9);
    assert_eq!(first.len(), 2);
    assert_eq!(first["d"], first["p"], "both begin with their start");
}

#[tokio::test]
async fn an_end_that_may_be_lost_is_said_again() {
    let fixture = Fixture::with_three();
    let server = Server::start(&fixture, &[]);
    let mut connection = server.accept().await;
    connection.complete(JobType::CrawlProject, "alpha").await;
    drop(connection);
    let story = server.accept().await.story("job crawl_project alpha").await;
    assert!(story.completed.is_some());
}

#[tokio::test]
async fn an_assignment_it_has_already_changes_nothing() {
    let fixture = Fixture::with_three();
    let server = Server::start(&fixture, SLOW);
    let mut connection = server.accept().await;
    connection.assign("1", JobType::CrawlProject, "alpha").await;
    assert!(matches!(
        connection.next_about("1").await,
        CrawlerMessage::JobStarted(_)
    ));
    connection.assign("1", JobType::CrawlProject, "alpha").await;
    let story = connection.story("1").await;
    assert_eq!((story.started, story.completed.is_some()), (0, true));
    // Once it has ended, the same job is a new one.
    connection.assign("1", JobType::CrawlProject, "alpha").await;
    let story = connection.story("1").await;
    assert_eq!((story.started, story.completed.is_some()), (1, true));
}

#[tokio::test]
async fn what_it_does_not_know_is_ignored() {
    let fixture = Fixture::with_three();
    let server = Server::start(&fixture, &[]);
    let mut connection = server.accept().await;
    let long = format!("{{\"type\":\"{}\"}}\n", "x".repeat(2_000_000));
    for line in [
        "{\"type\":\"welcome\",\"timestamp\":\"2024-01-01T00:00:00Z\",\"data\":{\"x\":1}}\n",
        "not json\n",
        "\n",
        "{\"type\":\"job_assignment\",\"timestamp\":\"\",\"data\":{}}\n",
        &long,
    ] {
        connection.send_line(line.as_bytes()).await;
    }
    connection.complete(JobType::CrawlProject, "alpha").await;
}

#[tokio::test]
async fn an_announced_shutdown_ends_the_connection_and_not_the_job() {
    for graceful in [true, false] {
        let fixture = Fixture::with_three();
        let server = Server::start(&fixture, SLOW);
        let mut connection = server.accept().await;
        connection.assign("1", JobType::CrawlProject, "alpha").await;
        assert!(matches!(
            connection.next_about("1").await,
            CrawlerMessage::JobStarted(_)
        ));
        connection.shut_down(graceful).await;
        while connection.next_or_end().await.is_some() {}
        let story = server.accept().await.story("1").await;
        assert!(story.completed.is_some(), "{story:?}");
    }
}

#[tokio::test]
async fn told_to_stop_it_gives_its_jobs_back() {
    let fixture = Fixture::with_three();
    let server = Server::start(&fixture, &["--slow-ms=60000"]);
    let mut connection = server.accept().await;
    connection.assign("1", JobType::CrawlProject, "alpha").await;
    while !matches!(connection.next_about("1").await, CrawlerMessage::JobProgress(_)) {}
    server.stop();
    let failed = connection.story("1").await.failed.unwrap();
    assert_eq!(failed.error_context.error_type, "Stopped");
    assert!(failed.error_context.is_recoverable && failed.partial_results.is_some());
    assert!(connection.next_or_end().await.is_none());
    let ended = server.ended().await;
    assert_eq!((ended.gave_up, ended.summary.failed()), (None, 1));
    let left: Vec<_> = walk(&fixture.beside("out"));
    assert!(left.iter().all(|name| !name.ends_with(".part")), "{left:?}");
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(walk(&path));
        } else {
            names.push(path.to_str().unwrap().to_owned());
        }
    }
    names
}

#[tokio::test]
async fn once_ends_when_there_was_work_and_no_more_comes() {
    let fixture = Fixture::with_three();
    let server = Server::start(&fixture, &["--once", "--once-idle-ms=300"]);
    let mut connection = server.accept().await;
    // Idle from the beginning is not the end.
    assert!(
        timeout(Duration::from_millis(600), connection.next_or_end())
            .await
            .is_err()
    );
    connection.complete(JobType::CrawlProject, "alpha").await;
    let assigned = Instant::now();
    connection.complete(JobType::DiscoverNamespaces, ".").await;
    assert!(connection.next_or_end().await.is_none());
    assert!(assigned.elapsed() >= Duration::from_millis(300));
    let ended = server.ended().await;
    assert_eq!(
        ended.summary.to_string(),
        "2 jobs done, 0 failed; discover_namespaces 1; crawl_project 1; 6 commits, 2 branches, 2 tags, 5 files, 3 authors"
    );
    assert_eq!(ended.gave_up, None);
}

#[tokio::test]
async fn it_waits_for_a_server_and_then_gives_up() {
    let fixture = Fixture::new();
    init(&fixture.root().join("a"));
    commit(&fixture.root().join("a"), ANN, "one", &[("x", "x")]);
    let options = options(&fixture, &["--patience-ms=400"]);
    let began = Instant::now();
    let ended = timeout(PATIENCE, crawler::run(options, CancellationToken::new()))
        .await
        .unwrap()
        .unwrap();
    assert!(began.elapsed() >= Duration::from_millis(400));
    assert!(ended.gave_up.unwrap().contains("nobody listens at"));
    assert_eq!(ended.summary.ended(), 0);
}
