//! What is said of a running job: progress, checkpoints, found work, tokens, limits.

use std::time::Duration;

use crawlwire_protocol::message::{DiscoveredJob, DiscoverySummary, JobType, ReportPolicy};
use crawlwire_protocol::{CrawlerMessage, WebAppMessage};
use crawlwire_transport::client::{Kept, RefreshError, ReportError};
use crawlwire_transport::testing::{Heard, welcome};
use tokio::time::Instant;

use super::{Session, options};

fn completion(heard: &Heard<CrawlerMessage>) -> f64 {
    match heard.message() {
        CrawlerMessage::JobProgress(progress) => progress.overall_completion.get(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn progress_comes_as_often_as_the_server_wants_the_newest_wins() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    let policy = ReportPolicy {
        progress_interval_ms: Duration::from_secs(2).into(),
    };
    session.connection.send(WebAppMessage::ReportPolicy(policy)).await;
    let handle = job.handle();
    let talking = tokio::spawn(async move {
        for step in 0..1000 {
            handle.progress(f64::from(step) / 1000.0);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let begun = Instant::now();
    let mut heard = Vec::new();
    while !talking.is_finished() {
        let next = tokio::time::timeout(Duration::from_secs(3), session.connection.expect("job_progress")).await;
        heard.extend(next.ok());
    }
    let seconds = begun.elapsed().as_secs();
    assert!((4..=8).contains(&heard.len()), "{} in {seconds} s", heard.len());
    let said: Vec<f64> = heard.iter().map(completion).collect();
    let n: Vec<_> = heard.iter().map(|heard| heard.marks().n.unwrap()).collect();
    assert!(
        said.is_sorted() && n.is_sorted() && *said.last().unwrap() > 0.7,
        "{said:?} {n:?}"
    );
    assert!(n.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(
        heard
            .iter()
            .all(|heard| heard.marks().fence.is_some() && heard.marks().seq.is_none())
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_progress_comes_before_the_end_without_waiting() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    job.progress(0.1);
    assert_eq!(completion(&session.connection.expect("job_progress").await), 0.1);
    job.progress(0.6);
    job.progress(0.9);
    let begun = Instant::now();
    let ending = tokio::spawn(job.complete("done"));
    assert_eq!(completion(&session.connection.expect("job_progress").await), 0.9);
    session.connection.expect_and_ack("job_completed").await;
    assert!(begun.elapsed() < Duration::from_millis(50));
    ending.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_newest_progress_is_said_again_after_a_reconnect() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    job.progress(0.4);
    let first = session.connection.expect("job_progress").await;
    session.reconnect(1).await;
    let second = session.connection.expect("job_progress").await;
    assert_eq!(completion(&second), 0.4);
    assert!(second.marks().n > first.marks().n);
    drop(job);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_an_object_and_durable_when_acknowledged() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    for nothing in [serde_json_text("[1]"), serde_json_text("7")] {
        assert!(matches!(
            job.checkpoint(&nothing).await,
            Err(ReportError::NotWritable(_))
        ));
    }
    let handle = job.handle();
    let mut keeping = tokio::spawn(async move { handle.checkpoint(&serde_json_text(r#"{"page":3}"#)).await });
    let heard = session.connection.expect("checkpoint").await;
    let CrawlerMessage::Checkpoint(checkpoint) = heard.message() else {
        panic!()
    };
    assert_eq!(checkpoint.cursor.as_str(), r#"{"page":3}"#);
    let early = tokio::time::timeout(Duration::from_secs(3), &mut keeping).await;
    assert!(early.is_err());
    session.connection.ack(heard.seq()).await;
    assert_eq!(keeping.await.unwrap(), Ok(Kept::Durable));
}

fn serde_json_text(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_server_without_checkpoints_is_not_bothered() {
    let mut terms = welcome(0);
    terms.features = Default::default();
    let mut session = Session::begin_with(options(), terms).await;
    let job = session.job("a", 1).await;
    assert_eq!(job.checkpoint(&serde_json_text("{}")).await, Ok(Kept::Unsupported));
    session.connection.expect_silence(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn found_work_is_cut_into_messages_that_fit() {
    let mut terms = welcome(0);
    terms.max_message_size_bytes = 8192.into();
    let mut session = Session::begin_with(options(), terms).await;
    let job = session.job("a", 1).await;
    let found = |number: usize| DiscoveredJob {
        job_type: JobType::CrawlUser,
        entity_id: number.to_string(),
        namespace_path: "x".repeat(100),
        entity_name: "somebody".to_owned(),
        priority: 1.0,
        estimated_size: None,
    };
    let handle = job.handle();
    let handing = tokio::spawn(async move {
        handle
            .discovered((0..200).map(found), DiscoverySummary::default())
            .await
    });
    let mut all = Vec::new();
    while all.len() < 200 {
        let heard = session.connection.expect_and_ack("jobs_discovered").await;
        assert!(heard.line.len() <= 8192);
        let CrawlerMessage::JobsDiscovered(discovered) = heard.envelope.message else {
            panic!()
        };
        all.extend(discovered.discovered_jobs);
    }
    assert_eq!(all, (0..200).map(found).collect::<Vec<_>>());
    handing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refresh_is_asked_for_once_and_survives_a_reconnect() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let handle = job.handle();
            tokio::spawn(async move { handle.refresh_token(Some("401")).await })
        })
        .collect();
    session.connection.expect("token_refresh_request").await;
    session.connection.expect_silence(Duration::from_secs(1)).await;
    session.reconnect(1).await;
    let request = session.connection.expect("token_refresh_request").await;
    assert_eq!(request.marks().n, Some(1));
    session.connection.refreshed(&request, "fresh-token").await;
    for asked in asking {
        assert_eq!(asked.await.unwrap().ok().unwrap().expose(), "fresh-token");
    }
    assert_eq!(job.access_token().expose(), "fresh-token");

    let handle = job.handle();
    let asking = tokio::spawn(async move { handle.refresh_token(None).await });
    let second = session.connection.expect("token_refresh_request").await;
    assert_eq!(second.marks().n, Some(2));
    // The answer to an earlier request is none to this one.
    session.connection.refreshed(&request, "stale-token").await;
    session.connection.refreshed(&second, "").await;
    assert_eq!(asking.await.unwrap().err(), Some(RefreshError::Refused));
    assert_eq!(job.access_token().expose(), "fresh-token");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_without_an_answer_ends_and_can_be_tried_again() {
    let options = options().request_timeout(Duration::from_secs(20));
    let mut session = Session::begin_with(options, welcome(0)).await;
    let job = session.job("a", 1).await;
    let handle = job.handle();
    let asking = tokio::spawn(async move { handle.refresh_token(None).await });
    session.connection.expect("token_refresh_request").await;
    tokio::time::sleep(Duration::from_secs(19)).await;
    assert!(!asking.is_finished());
    assert_eq!(asking.await.unwrap().err(), Some(RefreshError::TimedOut));
    let handle = job.handle();
    let asking = tokio::spawn(async move { handle.refresh_token(None).await });
    let request = session.connection.expect("token_refresh_request").await;
    session.connection.refreshed(&request, "fresh").await;
    assert!(asking.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_the_host_is_told() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    job.api_limited(Duration::from_secs(30), Some(600), Some(0));
    let heard = session.connection.expect("api_limited").await;
    let CrawlerMessage::ApiLimited(limited) = heard.message() else {
        panic!()
    };
    assert_eq!(limited.retry_after_ms.get(), 30_000);
    assert_eq!(limited.limit.map(|limit| limit.get()), Some(600));
    assert!(heard.marks().fence.is_some());
}

#[tokio::test(start_paused = true)]
async fn heartbeats_list_what_is_held_and_a_silent_server_is_asked_and_left() {
    let mut session = Session::begin().await;
    session.connection.ignore(&[]);
    let _job = session.job("a", 1).await;
    let last_word = Instant::now();
    let (mut lists, mut pings) = (Vec::new(), 0);
    while let Some(heard) = session.connection.next().await {
        match heard.envelope.message {
            CrawlerMessage::Heartbeat(heartbeat) => lists.push(heartbeat.jobs.unwrap().into_vec()),
            CrawlerMessage::Ping(_) => pings += 1,
            other => panic!("{other:?}"),
        }
    }
    // After 10 and 20 seconds, and not at its end.
    let held = [crawlwire_transport::testing::lease("a", 1)];
    assert_eq!((lists, pings), (vec![held.to_vec(); 2], 2));
    assert_eq!(last_word.elapsed(), Duration::from_secs(30));
    session.server.session_with(welcome(1)).await;
}
