//! Jobs come, end exactly once, and are never forgotten.

use std::time::Duration;

use crawlwire_protocol::message::NOT_YOURS;
use crawlwire_protocol::{CrawlerMessage, WebAppMessage};
use crawlwire_transport::client::{Failure, ReportError, StopReason};
use crawlwire_transport::testing::{assignment, fenced, lease, welcome};
use serde::{Deserialize, Serialize};

use super::{Session, options};

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Page {
    page: u32,
}

#[tokio::test(start_paused = true)]
async fn a_job_tells_what_there_is_to_do() {
    let mut session = Session::begin().await;
    session.connection.assign_resumed("a", 7, 2, r#"{"page":12}"#).await;
    let job = session.jobs.next().await.unwrap();
    assert_eq!(
        (job.id().as_str(), job.host(), job.entity_id()),
        ("a", "gitlab.example.com", Some("1"))
    );
    assert_eq!(
        (job.job_type().as_str(), job.namespace_path()),
        ("crawl_project", Some("group/project"))
    );
    assert_eq!((job.priority(), job.resume(), job.attempt()), (1.0, true, Some(2)));
    assert_eq!(job.last_checkpoint::<Page>().unwrap(), Some(Page { page: 12 }));
    assert!(job.last_checkpoint::<Vec<u8>>().is_err());
    let counts = job
        .last_counts()
        .iter()
        .map(|counts| (&*counts.entity_type, counts.total_processed.get()));
    assert_eq!(counts.collect::<Vec<_>>(), [("issues", 75)]);
    assert_eq!(job.access_token().expose(), "test-token");
    let shown = format!("{job:?} {:?} {:?}", job.handle(), session.client);
    assert!(
        !shown.contains("test-token") && shown.contains("gitlab.example.com"),
        "{shown}"
    );

    let started = session.connection.expect("job_started").await;
    assert_eq!((started.seq(), started.marks().fence.unwrap().get()), (1, 7));
    drop(job);
}

#[tokio::test(start_paused = true)]
async fn no_more_jobs_are_in_hand_than_there_are_slots() {
    let mut session = Session::begin_with(options().slots(1), welcome(0)).await;
    let job = session.job("a", 1).await;
    session.connection.assign("b", 1).await;
    let early = tokio::time::timeout(Duration::from_secs(5), session.jobs.next()).await;
    assert!(early.is_err());
    let ending = tokio::spawn(job.complete("done"));
    session.connection.expect_and_ack("job_completed").await;
    ending.await.unwrap().unwrap();
    let job = session.jobs.next().await.unwrap();
    assert_eq!(job.id().as_str(), "b");
    // An assignment that is sent again is the same job.
    session.connection.assign("b", 1).await;
    let ending = tokio::spawn(job.fail(Failure::new("HttpError", "503").permanent()));
    session.connection.expect_and_ack("job_started").await;
    let failed = session.connection.expect_and_ack("job_failed").await;
    let CrawlerMessage::JobFailed(failed) = failed.message() else {
        panic!()
    };
    assert!(!failed.error_context.is_recoverable);
    ending.await.unwrap().unwrap();
    session.connection.expect_silence(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn fewer_slots_give_back_what_nobody_has_taken() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    for id in ["b", "c"] {
        session.connection.assign(id, 1).await;
    }
    session
        .connection
        .send(WebAppMessage::Ping(crawlwire_protocol::message::Ping { nonce: None }))
        .await;
    session.connection.skip_to("pong").await;
    session.client.set_slots(2);
    session.connection.expect("job_request").await;
    assert_eq!(session.connection.expect_and_ack("job_returned").await.job(), "c");
    session.client.set_slots(0);
    session.connection.expect("job_request").await;
    assert_eq!(session.connection.expect_and_ack("job_returned").await.job(), "b");
    // What crosses with the request goes back too.
    session.connection.assign("d", 1).await;
    assert_eq!(session.connection.expect_and_ack("job_returned").await.job(), "d");
    drop(job);
    assert_eq!(session.connection.expect_and_ack("job_returned").await.job(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_job_goes_back_and_a_panic_is_a_failure() {
    let mut session = Session::begin().await;
    drop(session.job("a", 1).await);
    assert_eq!(session.connection.expect_and_ack("job_returned").await.job(), "a");

    let job = session.job("b", 1).await;
    let panicked = tokio::spawn(async move {
        let _job = job;
        panic!("a defect of the author's");
    });
    assert!(panicked.await.is_err());
    let failed = session.connection.expect_and_ack("job_failed").await;
    let CrawlerMessage::JobFailed(failed) = failed.message() else {
        panic!()
    };
    assert_eq!(failed.error_context.error_type, "panic");
    assert!(failed.error_context.is_recoverable);

    // A task that is aborted drops its job.
    let job = session.job("c", 1).await;
    let task = tokio::spawn(async move {
        job.cancelled().cancelled().await;
    });
    task.abort();
    assert_eq!(session.connection.expect_and_ack("job_returned").await.job(), "c");
}

#[tokio::test(start_paused = true)]
async fn a_wish_is_heard_and_confirmed_as_what_it_was() {
    let mut session = Session::begin().await;
    let job = session.job("a", 3).await;
    session.connection.cancel("a", 2, "an older lease").await;
    session.connection.cancel("a", 3, "somebody clicked").await;
    job.cancelled().cancelled().await;
    assert_eq!(job.stop_reason(), Some(StopReason::Cancel));
    let ending = tokio::spawn(job.stopped());
    let confirmed = session.connection.expect_and_ack("job_cancelled").await;
    assert_eq!(confirmed.marks().fence.unwrap().get(), 3);
    ending.await.unwrap().unwrap();

    let job = session.job("b", 1).await;
    session.connection.pause("b", 1).await;
    job.cancelled().cancelled().await;
    assert_eq!(job.stop_reason(), Some(StopReason::Pause));
    tokio::spawn(job.stopped());
    session.connection.expect_and_ack("job_paused").await;
}

#[tokio::test(start_paused = true)]
async fn a_finish_wins_over_a_wish() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    session.connection.cancel("a", 1, "too late").await;
    job.cancelled().cancelled().await;
    let ending = tokio::spawn(job.complete("it was done"));
    session.connection.expect_and_ack("job_completed").await;
    ending.await.unwrap().unwrap();
    session.connection.expect_silence(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_a_job_nobody_has_taken_is_granted_at_once() {
    let mut session = Session::begin_with(options().slots(1), welcome(0)).await;
    let _job = session.job("a", 1).await;
    for (id, confirmation) in [("b", "job_cancelled"), ("c", "job_paused")] {
        session.connection.assign(id, 1).await;
        if id == "b" {
            session.connection.cancel(id, 1, "").await;
        } else {
            session.connection.pause(id, 1).await;
        }
        assert_eq!(session.connection.expect_and_ack(confirmation).await.job(), id);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wish_taken_back_is_confirmed_and_a_job_that_stopped_goes_back() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    session.connection.pause("a", 1).await;
    job.cancelled().cancelled().await;
    let resume = crawlwire_protocol::message::JobResume {};
    session
        .connection
        .send_for("a", fenced(1), WebAppMessage::JobResume(resume))
        .await;
    session.connection.expect_and_ack("job_resumed").await;
    tokio::spawn(job.stopped());
    session.connection.expect_and_ack("job_returned").await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_not_ours_is_lost_and_spoken_of_no_more() {
    let mut session = Session::begin().await;
    let job = session.job("a", 5).await;
    session.connection.cancel("a", 4, NOT_YOURS).await;
    session.connection.cancel("a", 5, NOT_YOURS).await;
    job.cancelled().cancelled().await;
    assert_eq!(job.stop_reason(), Some(StopReason::Lost));
    job.progress(0.5);
    assert_eq!(job.checkpoint(&Page { page: 1 }).await, Err(ReportError::Lost));
    assert_eq!(job.complete("done").await, Err(ReportError::Lost));
    session.connection.expect_silence(Duration::from_secs(1)).await;
    assert_eq!(session.client.stats().lost_jobs, 1);

    // An older lease of a job that somebody else has under a newer one.
    let job = session.job("b", 5).await;
    session.connection.cancel("b", 6, NOT_YOURS).await;
    job.cancelled().cancelled().await;
    assert_eq!(job.stop_reason(), Some(StopReason::Lost));
    assert_eq!(session.client.stats().lost_jobs, 2);
}

#[tokio::test(start_paused = true)]
async fn a_lease_missing_from_a_welcome_is_lost_and_others_go_on() {
    let mut session = Session::begin().await;
    let (kept, lost) = (session.job("a", 1).await, session.job("b", 2).await);
    session.break_connection().await;
    let mut connection = session.server.accept().await;
    let hello = connection.expect_hello().await;
    assert_eq!(hello.holds.unwrap().into_vec(), [lease("a", 1), lease("b", 2)]);
    let mut terms = welcome(2);
    terms.leases = crawlwire_protocol::List::cut([lease("a", 1)]);
    connection.send(WebAppMessage::Welcome(terms)).await;
    lost.cancelled().cancelled().await;
    assert_eq!(lost.complete("done").await, Err(ReportError::Lost));
    assert!(!kept.cancelled().is_cancelled());
    let ending = tokio::spawn(kept.complete("done"));
    assert_eq!(connection.expect_and_ack("job_completed").await.job(), "a");
    ending.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_same_job_with_a_higher_fence_is_another_holding_of_it() {
    let mut session = Session::begin().await;
    let old = session.job("a", 1).await;
    session
        .connection
        .send_for("a", fenced(2), WebAppMessage::JobAssignment(assignment("a")))
        .await;
    let new = session.jobs.next().await.unwrap();
    assert!(old.cancelled().is_cancelled());
    drop(old);
    assert_eq!(session.connection.expect_and_ack("job_started").await.marks(), {
        let mut marks = fenced(2);
        marks.seq = crawlwire_protocol::Seq::new(2);
        marks
    });
    tokio::spawn(new.complete("done"));
    session.connection.expect_and_ack("job_completed").await;
}

#[tokio::test(start_paused = true)]
async fn an_end_that_the_server_cannot_take_becomes_a_failure() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    let ending = tokio::spawn(job.complete("done"));
    let end = session.connection.expect("job_completed").await;
    session.connection.refuse(end.seq(), "invalid_message").await;
    assert!(matches!(ending.await.unwrap(), Err(ReportError::Refused(_))));
    let failed = session.connection.expect("job_failed").await;
    // Nor that one: then the server's own clock has to end it.
    session.connection.refuse(failed.seq(), "invalid_message").await;
    session.connection.expect_silence(Duration::from_secs(1)).await;

    let job = session.job("b", 1).await;
    let refused = job.complete("x".repeat(2 * 1024 * 1024)).await;
    assert!(matches!(refused, Err(ReportError::TooLarge { .. })));
    session.connection.expect_and_ack("job_failed").await;
}
