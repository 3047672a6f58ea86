//! What was said lastingly arrives, exactly as it was said.

use std::time::Duration;

use crawlwire_transport::client::ReportError;
use crawlwire_transport::testing::{ScriptedConnection, lease, welcome};
use serde::Serialize;
use tokio::time::Instant;

use super::{Session, options};

#[derive(Serialize)]
struct Page {
    page: u32,
}

/// The lines with a number that a connection has heard.
fn numbered(connection: &ScriptedConnection) -> Vec<String> {
    let text = connection
        .heard()
        .map(|line| String::from_utf8_lossy(line).into_owned());
    text.filter(|line| line.contains("\"seq\":")).collect()
}

#[tokio::test(start_paused = true)]
async fn unsettled_lines_come_again_byte_for_byte_and_settled_ones_do_not() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    let waiting: Vec<_> = (0..3)
        .map(|page| {
            let handle = job.handle();
            tokio::spawn(async move { handle.checkpoint(&Page { page }).await })
        })
        .collect();
    for expected in 2..=4 {
        assert_eq!(session.connection.expect("checkpoint").await.seq(), expected);
    }
    session.connection.ack(2).await;
    let before = numbered(&session.connection);
    // The acknowledgement has been heard when its waiter is told.
    let mut waiting = waiting.into_iter();
    waiting.next().unwrap().await.unwrap().unwrap();

    session.reconnect(2).await;
    assert_eq!(session.connection.expect("checkpoint").await.seq(), 3);
    assert_eq!(session.connection.expect("checkpoint").await.seq(), 4);
    session.connection.expect_silence(Duration::from_secs(1)).await;
    assert_eq!(numbered(&session.connection), before[2..]);
    session.connection.ack(4).await;
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    let stats = session.client.stats();
    assert_eq!((stats.acked, stats.resent, stats.connections), (4, 2, 2));
    assert_eq!(stats.outbox_messages, 0);
}

#[tokio::test(start_paused = true)]
async fn a_welcome_settles_what_its_high_water_covers() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    let ending = tokio::spawn(job.complete("done"));
    let end = session.connection.expect("job_completed").await;
    // The server settled it and died before it could say so: the job is no lease any more, and no loss either.
    let terms = welcome(end.seq());
    session.break_connection().await;
    let mut connection = session.server.accept().await;
    connection.expect_hello().await;
    connection.send(crawlwire_protocol::WebAppMessage::Welcome(terms)).await;
    ending.await.unwrap().unwrap();
    session.connection = connection;
    session.connection.expect_silence(Duration::from_secs(1)).await;
    assert_eq!(session.client.stats().lost_jobs, 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_now_sends_it_and_all_after_it_again_in_time() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    let waiting: Vec<_> = (0..4)
        .map(|page| {
            let handle = job.handle();
            tokio::spawn(async move { handle.checkpoint(&Page { page }).await })
        })
        .collect();
    for expected in 2..=5 {
        assert_eq!(session.connection.expect("checkpoint").await.seq(), expected);
    }
    let begun = Instant::now();
    session.connection.ack(2).await;
    session
        .connection
        .retry(3, "database_unavailable", Duration::from_secs(5))
        .await;
    session.connection.retry(4, "sequence_gap", Duration::ZERO).await;
    session.connection.retry(5, "sequence_gap", Duration::ZERO).await;
    for expected in 3..=5 {
        assert_eq!(session.connection.expect("checkpoint").await.seq(), expected);
    }
    assert!(begun.elapsed() >= Duration::from_secs(5));
    session.connection.ack(5).await;
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    assert_eq!(session.client.stats().resent, 3);
    // Not once more for the gaps, which followed from the first refusal.
    session.connection.expect_silence(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_alone_sends_from_the_lowest_unsettled_number() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    for page in 0..3 {
        let handle = job.handle();
        tokio::spawn(async move { handle.checkpoint(&Page { page }).await });
    }
    for expected in 2..=4 {
        assert_eq!(session.connection.expect("checkpoint").await.seq(), expected);
    }
    // The server never saw 2: something between us swallowed a line.
    session.connection.retry(3, "sequence_gap", Duration::ZERO).await;
    for expected in 2..=4 {
        assert_eq!(session.connection.expect("checkpoint").await.seq(), expected);
    }
    session.connection.ack(4).await;
    session.client.set_slots(3);
    session.connection.expect("job_request").await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_at_the_lowest_number_begins_anew() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    let handle = job.handle();
    let waiting = tokio::spawn(async move { handle.checkpoint(&Page { page: 1 }).await });
    session.connection.expect("checkpoint").await;
    session.connection.retry(2, "sequence_gap", Duration::ZERO).await;
    session.connection.expect_end().await;
    session.connection = session.server.session_with(welcome(1)).await;
    session.connection.expect_and_ack("checkpoint").await;
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_final_refusal_reaches_whoever_waits_and_settles_what_is_before_it() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    let (first, second, third) = (job.handle(), job.handle(), job.handle());
    let first = tokio::spawn(async move { first.checkpoint(&Page { page: 1 }).await });
    session.connection.expect("checkpoint").await;
    let second = tokio::spawn(async move { second.checkpoint(&Page { page: 2 }).await });
    session.connection.expect("checkpoint").await;
    session.connection.refuse(3, "over_budget").await;
    assert!(first.await.unwrap().is_ok());
    match second.await.unwrap() {
        Err(ReportError::Refused(refusal)) => assert_eq!(refusal.code, "over_budget"),
        other => panic!("{other:?}"),
    }
    // The job goes on, and so do the numbers.
    let third = tokio::spawn(async move { third.checkpoint(&Page { page: 3 }).await });
    assert_eq!(session.connection.expect_and_ack("checkpoint").await.seq(), 4);
    third.await.unwrap().unwrap();

    let ending = tokio::spawn(job.complete("done"));
    session.connection.expect("job_completed").await;
    session.connection.refuse(5, "stale").await;
    assert_eq!(ending.await.unwrap(), Err(ReportError::Lost));
    assert_eq!(session.client.stats().jobs, 0);
}

#[tokio::test(start_paused = true)]
async fn no_more_lines_are_on_their_way_than_the_server_wants() {
    let mut terms = welcome(0);
    terms.max_in_flight = 3.into();
    let mut session = Session::begin_with(options(), terms).await;
    let job = session.job("a", 1).await;
    for page in 0..8 {
        let handle = job.handle();
        tokio::spawn(async move { handle.checkpoint(&Page { page }).await });
    }
    for settled in [4, 7, 9] {
        for _ in 0..(if settled == 9 { 2 } else { 3 }) {
            session.connection.expect("checkpoint").await;
        }
        session.connection.expect_silence(Duration::from_millis(100)).await;
        session.connection.ack(settled).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_more_than_the_outbox_holds_waits() {
    for options in [options().outbox_messages(2), options().outbox_bytes(300)] {
        let mut session = Session::begin_with(options, welcome(0)).await;
        let job = session.job("a", 1).await;
        let handles: Vec<_> = (0..3).map(|_| job.handle()).collect();
        let mut waiting = tokio::task::JoinSet::new();
        for (page, handle) in (0..).zip(handles) {
            waiting.spawn(async move { handle.checkpoint(&Page { page }).await });
        }
        session.connection.expect("checkpoint").await;
        session.connection.skip_to("heartbeat").await;
        assert!(session.client.stats().outbox_messages < 3);
        assert!(session.client.stats().outbox_bytes < 600);
        // A job that is dropped never waits: room is what it would have to wait for.
        drop(job);
        for seq in 2.. {
            session.connection.ack(seq).await;
            if session
                .connection
                .next()
                .await
                .is_some_and(|heard| heard.line.starts_with(b"{\"type\":\"job_returned"))
            {
                break;
            }
        }
        waiting.abort_all();
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_settles_nothing_hears_it_again_and_is_left() {
    let options = options().request_timeout(Duration::from_secs(7));
    let mut session = Session::begin_with(options, welcome(0)).await;
    session.connection.assign("a", 1).await;
    let _job = session.jobs.next().await.unwrap();
    session.connection.expect("job_started").await;
    session.connection.expect("job_started").await;
    // It still answers pings, and still does not settle anything.
    session.connection.expect_end().await;
    session.connection = session.server.session_with(welcome(0)).await;
    session.connection.expect_and_ack("job_started").await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forgot_the_instance_gets_a_new_one() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    session.break_connection().await;
    let mut forgetful = session.server.accept().await;
    let first = forgetful.expect_hello().await;
    assert_eq!(first.holds.unwrap().into_vec(), [lease("a", 1)]);
    forgetful
        .send(crawlwire_protocol::WebAppMessage::Welcome(welcome(0)))
        .await;
    forgetful.expect_end().await;
    job.cancelled().cancelled().await;
    assert_eq!(job.checkpoint(&Page { page: 1 }).await, Err(ReportError::Lost));

    let mut anew = session.server.accept().await;
    let second = anew.expect_hello().await;
    assert_ne!(second.instance_id, first.instance_id);
    assert_eq!(second.holds, None);
    anew.send(crawlwire_protocol::WebAppMessage::Welcome(welcome(0))).await;
    anew.assign("b", 1).await;
    let _job = session.jobs.next().await.unwrap();
    assert_eq!(anew.expect("job_started").await.seq(), 1);
}
