//! Connecting, losing the connection, being told to go, ending.

use std::time::Duration;

use crawlwire_protocol::CrawlerMessage;
use crawlwire_protocol::message::JobType;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::crawler;
use crate::fixture::{ANN, Fixture, commit, init};
use crate::peer::{PATIENCE, Server, options};

#[tokio::test]
async fn several_jobs_run_at_once_and_the_rest_wait() {
    let fixture = Fixture::with_three();
    let mut server = Server::start(&fixture, &["--slow-ms=200", "--jobs=2"]).await;
    let (hello, mut connection) = server.accept_after(0).await;
    assert_eq!(hello.slots.get(), 2);
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
    let mut server = Server::start(&fixture, &["--slow-ms=300"]).await;
    let mut connection = server.accept().await;
    connection.assign("d", JobType::DiscoverNamespaces, ".").await;
    while !matches!(connection.next_about("d").await, CrawlerMessage::JobProgress(_)) {}
    let settled = connection.settled;
    drop(connection);

    let (hello, mut connection) = server.accept_after(settled).await;
    assert_eq!(hello.holds.map(|held| held.len()), Some(1));
    let story = connection.story("d").await;
    assert_eq!((story.started, story.completed.is_some()), (0, true));
    let discovered = story.discovered.iter().map(|batch| batch.discovered_jobs.len());
    assert_eq!(discovered.sum::<usize>(), 9);
}

#[tokio::test]
async fn told_to_stop_it_gives_its_jobs_back() {
    let fixture = Fixture::with_three();
    let mut server = Server::start(&fixture, &["--slow-ms=60000"]).await;
    let mut connection = server.accept().await;
    connection.assign("1", JobType::CrawlProject, "alpha").await;
    while !matches!(connection.next_about("1").await, CrawlerMessage::JobProgress(_)) {}
    server.stop();
    assert_eq!(connection.story("1").await.left, Some("job_returned"));
    connection.await_goodbye().await;
    drop(connection);
    let ended = server.ended().await;
    assert_eq!((ended.gave_up, ended.summary.failed()), (None, 0));
    assert_eq!(
        ended.summary.to_string(),
        "0 jobs done, 0 failed, 1 left; 0 commits, 0 branches, 0 tags, 0 files, 0 authors"
    );
}

#[tokio::test]
async fn a_cancelled_job_leaves_nothing_behind() {
    let fixture = Fixture::with_three();
    let mut server = Server::start(&fixture, &["--slow-ms=60000"]).await;
    let mut connection = server.accept().await;
    for job_type in [JobType::CrawlProject, JobType::CrawlGroup, JobType::DiscoverNamespaces] {
        let job = job_type.to_string();
        connection
            .assign(
                &job,
                job_type,
                if job_type == JobType::CrawlProject {
                    "alpha"
                } else {
                    "."
                },
            )
            .await;
        while !matches!(connection.next_about(&job).await, CrawlerMessage::JobProgress(_)) {}
        connection.cancel(&job).await;
        let story = connection.story(&job).await;
        assert_eq!(story.left, Some("job_cancelled"));
    }
    assert_eq!(fixture.parts(), Vec::<String>::new());
}

#[tokio::test]
async fn a_crawler_that_is_started_again_is_the_same_instance() {
    let fixture = Fixture::with_three();
    let mut server = Server::start(&fixture, &[]).await;
    let (first, connection) = server.accept_after(0).await;

    // Not while the first one is there.
    let second = crawler::run(options(&fixture, &[]), CancellationToken::new()).await;
    let error = format!("{:#}", second.unwrap_err());
    assert!(
        error.contains("held by another crawler") && error.contains("--no-instance"),
        "{error}"
    );

    let (second, connection) = server.restart(connection, &fixture, &[]).await;
    assert_eq!(first.instance_id, second.instance_id);
    let (third, _connection) = server.restart(connection, &fixture, &["--no-instance"]).await;
    assert_ne!(first.instance_id, third.instance_id);
}

#[tokio::test]
async fn once_ends_when_there_was_work_and_no_more_comes() {
    let fixture = Fixture::with_three();
    let mut server = Server::start(&fixture, &["--once", "--once-idle-ms=300"]).await;
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
    connection.await_goodbye().await;
    assert!(assigned.elapsed() >= Duration::from_millis(300));
    drop(connection);
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
    assert!(ended.gave_up.unwrap().contains("no server at"));
    assert_eq!(ended.summary.ended(), 0);
}

#[tokio::test]
async fn a_server_that_stays_away_is_given_up_too() {
    let fixture = Fixture::with_three();
    let mut server = Server::start(&fixture, &["--patience-ms=400"]).await;
    let connection = server.accept().await;
    // It listens on, and answers nobody.
    drop(connection);
    let ended = server.ended().await;
    assert!(ended.gave_up.unwrap().contains("no server at"));
}

#[tokio::test]
async fn a_server_that_does_not_want_it_is_no_reason_to_wait() {
    let fixture = Fixture::with_three();
    let mut server = Server::start(&fixture, &[]).await;
    let mut connection = server.scripted().accept().await;
    connection.expect_hello().await;
    connection.goodbye("invalid_token", false).await;
    let error = format!("{:#}", server.result().await.unwrap_err());
    assert!(error.contains("invalid_token"), "{error}");
}
