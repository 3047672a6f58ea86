//! The same crawler at a server that only knows the base protocol. It takes the client five seconds to learn that.

use std::collections::BTreeMap;
use std::mem::discriminant;

use crawlwire_protocol::CrawlerMessage;
use crawlwire_protocol::message::{JobType, SystemStatus};

use crate::fixture::Fixture;
use crate::peer::{Server, done};

/// Slow enough that a job is still running when the next thing happens.
const SLOW: &str = "--slow-ms=300";

#[tokio::test]
async fn it_works_without_sessions() {
    let fixture = Fixture::with_three();
    let mut server = Server::start(&fixture, &["--heartbeat-ms=20", "--slow-ms=50"]).await;
    let mut connection = server.accept_base().await;
    connection.assign("p", JobType::CrawlProject, "alpha").await;
    let (mut statuses, mut completed) = (Vec::new(), None);
    while completed.is_none() || statuses.last() != Some(&SystemStatus::Idle) {
        match connection.next().await.message {
            CrawlerMessage::Heartbeat(heartbeat) => statuses.push(heartbeat.system_status),
            CrawlerMessage::JobCompleted(job) => completed = Some(job),
            _ => {}
        }
    }
    assert_eq!(done(&completed.unwrap().final_counts, "commits"), 6);
    assert!(statuses.contains(&SystemStatus::Crawling), "{statuses:?}");
    let story = connection.run(JobType::DiscoverNamespaces, ".").await;
    assert_eq!(story.completed.unwrap().summary, "3 groups, 3 projects, 3 users");
    assert!(story.checkpoints.is_empty());
}

#[tokio::test]
async fn a_job_outlives_its_connection() {
    let fixture = Fixture::with_three();
    let mut server = Server::start(&fixture, &[SLOW]).await;
    let mut connection = server.accept_base().await;
    connection.assign("d", JobType::DiscoverNamespaces, ".").await;
    connection.assign("p", JobType::CrawlProject, "alpha").await;
    while !matches!(connection.next_about("d").await, CrawlerMessage::JobProgress(_)) {}
    drop(connection);

    // Both are named again and come to their end, and nothing that was found is missing.
    let mut connection = server.accept_base_again().await;
    let (mut discovered, mut ends, mut first) = (0, 0, BTreeMap::new());
    while ends < 2 {
        let envelope = connection.next().await;
        let Some(job) = envelope.job_id else { continue };
        first
            .entry(job.as_str().to_owned())
            .or_insert(discriminant(&envelope.message));
        match envelope.message {
            CrawlerMessage::JobsDiscovered(batch) => discovered += batch.discovered_jobs.len(),
            CrawlerMessage::JobCompleted(_) => ends += 1,
            CrawlerMessage::JobFailed(failed) => panic!("{failed:?}"),
            _ => {}
        }
    }
    assert_eq!((discovered, first.len()), (9, 2));
}

#[tokio::test]
async fn told_to_stop_it_has_its_jobs_tried_again() {
    let fixture = Fixture::with_three();
    let mut server = Server::start(&fixture, &["--slow-ms=60000"]).await;
    let mut connection = server.accept_base().await;
    connection.assign("1", JobType::CrawlProject, "alpha").await;
    while !matches!(connection.next_about("1").await, CrawlerMessage::JobProgress(_)) {}
    server.stop();
    let failed = connection.story("1").await.failed.unwrap();
    assert!(failed.error_context.is_recoverable && failed.partial_results.is_some());
    while connection.next_or_end().await.is_some() {}
    let ended = server.ended().await;
    assert_eq!((ended.gave_up, ended.summary.ended()), (None, 1));
    assert_eq!(fixture.parts(), Vec::<String>::new());
}
