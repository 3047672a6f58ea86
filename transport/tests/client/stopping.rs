//! Leaving in good order.

use std::time::Duration;

use crawlwire_transport::client::{Closed, StopReason, WhenStopping};
use crawlwire_transport::testing::welcome;
use tokio::time::Instant;

use super::{Session, options};

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test(start_paused = true)]
async fn jobs_stop_everything_is_settled_and_goodbye_is_last() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    session.connection.assign("untaken", 1).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let client = session.client.clone();
    let stopping = tokio::spawn(async move { client.shutdown(DEADLINE).await });
    job.cancelled().cancelled().await;
    assert_eq!(job.stop_reason(), Some(StopReason::Shutdown));
    assert!(session.jobs.next().await.is_none());
    session.connection.expect("job_request").await;
    assert_eq!(session.connection.expect_and_ack("job_returned").await.job(), "untaken");
    tokio::spawn(job.stopped());
    let returned = session.connection.expect("job_returned").await;
    session.connection.expect_silence(Duration::from_secs(2)).await;
    session.connection.ack(returned.seq()).await;
    session.connection.expect("goodbye").await;
    session.connection.expect_end().await;
    let stopped = stopping.await.unwrap();
    assert_eq!((stopped.closed, stopped.unsettled), (Closed::Shutdown, 0));
    session.server.expect_nobody(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn jobs_may_finish_first_where_that_is_wanted() {
    let options = options().when_stopping(WhenStopping::FinishJobs);
    let mut session = Session::begin_with(options, welcome(0)).await;
    let (finishing, slow) = (session.job("a", 1).await, session.job("b", 1).await);
    let begun = Instant::now();
    let client = session.client.clone();
    let stopping = tokio::spawn(async move { client.shutdown(DEADLINE).await });
    session.connection.expect("job_request").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!finishing.cancelled().is_cancelled());
    tokio::spawn(finishing.complete("done"));
    session.connection.expect_and_ack("job_completed").await;
    // The other one does not end in time: it is given back.
    slow.cancelled().cancelled().await;
    assert_eq!(begun.elapsed(), DEADLINE);
    assert_eq!(session.connection.skip_to("job_returned").await.job(), "b");
    session.connection.ack(4).await;
    session.connection.expect("goodbye").await;
    assert_eq!(slow.complete("too late").await.unwrap_err(), Closed::Shutdown.into());
    drop(session.connection);
    assert_eq!(stopping.await.unwrap().given_back, 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_settles_nothing_does_not_hold_the_shutdown_up() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    let client = session.client.clone();
    let begun = Instant::now();
    let stopping = tokio::spawn(async move { client.shutdown(DEADLINE).await });
    job.cancelled().cancelled().await;
    tokio::spawn(job.stopped());
    let stopped = stopping.await.unwrap();
    assert!(
        begun.elapsed() <= DEADLINE + Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!((stopped.closed, stopped.unsettled), (Closed::Shutdown, 1));
    session.connection.skip_to("goodbye").await;
}

#[tokio::test(start_paused = true)]
async fn last_words_are_said_over_a_new_connection_if_need_be() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    session.connector.set_down(true);
    session.break_connection().await;
    let client = session.client.clone();
    let stopping = tokio::spawn(async move { client.shutdown(DEADLINE).await });
    job.cancelled().cancelled().await;
    tokio::spawn(job.stopped());
    tokio::time::sleep(Duration::from_secs(3)).await;
    session.connector.set_down(false);
    let mut connection = session.server.accept_within(DEADLINE).await;
    let hello = connection.expect_hello().await;
    assert_eq!(hello.slots.get(), 0);
    let mut terms = welcome(1);
    terms.leases = hello.holds.unwrap();
    connection.send(crawlwire_protocol::WebAppMessage::Welcome(terms)).await;
    connection.expect_and_ack("job_returned").await;
    connection.expect("goodbye").await;
    drop(connection);
    assert_eq!(stopping.await.unwrap().unsettled, 0);
}

#[tokio::test(start_paused = true)]
async fn with_nothing_to_say_nobody_is_dialled_for_it() {
    let mut session = Session::begin().await;
    session.connector.set_down(true);
    session.break_connection().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    assert_eq!(session.client.shutdown(DEADLINE).await.closed, Closed::Shutdown);
    assert!(begun.elapsed() < Duration::from_secs(1));
    // Once more is no harm.
    assert_eq!(session.client.shutdown(DEADLINE).await.closed, Closed::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn when_everybody_has_dropped_it_a_client_shuts_down() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    drop(session.client);
    session.connection.expect_silence(Duration::from_secs(1)).await;
    drop(session.jobs);
    session.connection.expect("job_request").await;
    job.cancelled().cancelled().await;
    drop(job);
    session.connection.expect_and_ack("job_returned").await;
    session.connection.expect("goodbye").await;
    session.connection.expect_end().await;
}

#[tokio::test(start_paused = true)]
async fn idle_is_when_all_is_settled() {
    let mut session = Session::begin().await;
    session.client.idle().await;
    let job = session.job("a", 1).await;
    let client = session.client.clone();
    let idle = tokio::spawn(async move { client.idle().await });
    tokio::spawn(job.complete("done"));
    let end = session.connection.expect("job_completed").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!idle.is_finished());
    session.connection.ack(end.seq()).await;
    idle.await.unwrap();
}
