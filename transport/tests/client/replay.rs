//! What was said lastingly arrives, exactly as it was said.

use std::time::Duration;

use crawlwire_protocol::message::RefusedNumber;
use crawlwire_protocol::{List, Name, Seq, WebAppMessage};
use crawlwire_transport::client::{Failure, Kept, ReportError, StopReason};
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

/// What a welcome tells of refused numbers.
fn refused<const N: usize>(numbers: [(u64, &str); N]) -> Option<List<RefusedNumber, 64>> {
    let numbers = numbers.map(|(seq, code)| RefusedNumber {
        seq: Seq::new(seq).unwrap(),
        code: Name::cut(code),
    });
    Some(List::cut(numbers))
}

#[tokio::test(start_paused = true)]
async fn an_end_whose_refusal_was_lost_is_told_as_refused() {
    for kind in 0..4 {
        let mut session = Session::begin().await;
        let job = session.job("a", 1).await;
        let (ending, end) = match kind {
            0 => (tokio::spawn(job.complete("done")), "job_completed"),
            1 => (tokio::spawn(job.fail(Failure::new("Http", "503"))), "job_failed"),
            2 => (tokio::spawn(job.give_back()), "job_returned"),
            _ => {
                session.connection.cancel("a", 1, "enough").await;
                job.cancelled().cancelled().await;
                (tokio::spawn(job.stopped()), "job_cancelled")
            }
        };
        let seq = session.connection.expect(end).await.seq();
        session.break_connection().await;
        let mut connection = session.server.accept().await;
        let hello = connection.expect_hello().await;
        assert_eq!(hello.holds.unwrap().into_vec(), [lease("a", 1)], "{end} is not settled");
        let mut terms = welcome(seq);
        terms.refused = refused([(seq, "stale")]);
        connection.send(WebAppMessage::Welcome(terms)).await;
        assert_eq!(ending.await.unwrap(), Err(ReportError::Lost), "{end}");
        let stats = session.client.stats();
        assert_eq!((stats.jobs, stats.lost_jobs, stats.refused), (0, 1, 1), "{end}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_refused_for_what_it_said_is_followed_by_another() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    let ending = tokio::spawn(job.complete("done"));
    let seq = session.connection.expect("job_completed").await.seq();
    let mut terms = welcome(seq);
    terms.refused = refused([(seq, "invalid_message")]);
    terms.leases = List::cut([lease("a", 1)]);
    session.break_connection().await;
    session.connection = session.server.session_with(terms).await;
    match ending.await.unwrap() {
        Err(ReportError::Refused(refusal)) => assert_eq!(refusal.code, "invalid_message"),
        other => panic!("{other:?}"),
    }
    assert_eq!(session.connection.expect_and_ack("job_failed").await.seq(), seq + 1);
}

#[tokio::test(start_paused = true)]
async fn reports_of_a_lost_job_are_told_each_as_it_was() {
    // A server that tells what it refused, and one that does not: then nothing of a lost job is believed to be kept.
    for (told, first_is_kept) in [(refused([(3, "stale")]), true), (None, false)] {
        let mut session = Session::begin().await;
        let job = session.job("a", 1).await;
        let mut waiting = Vec::new();
        for page in 0..2 {
            let handle = job.handle();
            waiting.push(tokio::spawn(async move { handle.checkpoint(&Page { page }).await }));
            session.connection.expect("checkpoint").await;
        }
        session.break_connection().await;
        let mut terms = welcome(3);
        terms.refused = told;
        let mut connection = session.server.accept().await;
        connection.expect_hello().await;
        connection.send(WebAppMessage::Welcome(terms)).await;
        let second = waiting.pop().unwrap().await.unwrap();
        let first = waiting.pop().unwrap().await.unwrap();
        let expected = if first_is_kept {
            Ok(Kept::Durable)
        } else {
            Err(ReportError::Lost)
        };
        assert_eq!((first, second), (expected, Err(ReportError::Lost)));
        assert_eq!(job.stop_reason(), Some(StopReason::Lost));
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_is_taken_for_settled_well_where_the_server_does_not_tell() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    let ending = tokio::spawn(job.complete("done"));
    let mut terms = welcome(session.connection.expect("job_completed").await.seq());
    terms.refused = None;
    session.break_connection().await;
    let mut connection = session.server.accept().await;
    connection.expect_hello().await;
    connection.send(WebAppMessage::Welcome(terms)).await;
    assert_eq!(ending.await.unwrap(), Ok(()));
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

/// Lines that come until nothing more does.
async fn flight(connection: &mut ScriptedConnection) -> Vec<usize> {
    let mut sizes = Vec::new();
    while let Ok(heard) = tokio::time::timeout(Duration::from_millis(100), connection.expect("checkpoint")).await {
        sizes.push(heard.line.len() + 1);
    }
    sizes
}

#[tokio::test(start_paused = true)]
async fn no_more_bytes_are_on_their_way_than_the_server_wants_but_for_one_line() {
    const MAX: usize = 500;
    let mut terms = welcome(0);
    terms.max_in_flight_bytes = 500.into();
    let mut session = Session::begin_with(options(), terms).await;
    let job = session.job("a", 1).await;
    // The last but one is longer than that alone.
    for page in [1, 2, 3, 4, 5, 6, 7, 8, MAX, 9] {
        let handle = job.handle();
        tokio::spawn(async move {
            handle
                .checkpoint(&serde_json::json!({ "page": "x".repeat(page) }))
                .await
        });
    }
    let mut settled = 1;
    let mut flights = Vec::new();
    while settled < 11 {
        let flight = flight(&mut session.connection).await;
        assert!(!flight.is_empty(), "{flights:?}");
        settled += flight.len() as u64;
        session.connection.ack(settled).await;
        flights.push(flight);
    }
    assert!(flights.iter().any(|flight| flight[0] > MAX), "{flights:?}");
    for pair in flights.windows(2) {
        let bytes: usize = pair[0].iter().sum();
        assert!(bytes <= MAX || pair[0].len() == 1, "{flights:?}");
        assert!(bytes + pair[1][0] > MAX, "{flights:?}: one more would have fitted");
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
