//! Which instance a crawler is: the same one after a restart, another one where that cannot go on.

use crawlwire_protocol::WebAppMessage;
use crawlwire_protocol::message::InstanceId;
use crawlwire_transport::client::{Client, ConnectError, Kept, ReportError, StopReason};
use crawlwire_transport::testing::{ScriptedConnection, ScriptedServer, SocketTestSuite, error, lease, welcome};
use serde_json::json;

use super::{Session, options};

#[tokio::test]
async fn a_file_makes_a_restarted_crawler_the_same_instance_and_no_two_at_once() {
    let suite = SocketTestSuite::setup();
    let mut server = ScriptedServer::bind(&suite.endpoint()).await;
    let file = suite.folder().join("instance");
    let connect = || Client::connect(suite.endpoint(), options().instance_file(&file));

    let (connected, first) = tokio::join!(connect(), async {
        let mut connection = server.accept().await;
        let hello = connection.expect_hello().await;
        connection.send(WebAppMessage::Welcome(welcome(0))).await;
        (connection, hello.instance_id)
    });
    let (client, jobs) = connected.unwrap();
    let (mut connection, first) = first;
    let second = connect().await;
    assert!(matches!(second, Err(ConnectError::Instance(_))), "{second:?}");

    drop(jobs);
    let (_, ()) = tokio::join!(
        client.shutdown(std::time::Duration::from_secs(5)),
        connection.expect_end()
    );
    let taking = async {
        let (client, mut jobs) = connect().await.unwrap();
        (client, jobs.next().await.unwrap(), jobs)
    };
    let (_taken, hello) = tokio::join!(taking, async {
        let mut connection = server.accept().await;
        let hello = connection.expect_hello().await;
        connection.send(WebAppMessage::Welcome(welcome(9))).await;
        // The job it held when it was killed, in the same attempt.
        connection.assign_resumed("a", 3, 1, "{}").await;
        assert_eq!(connection.expect("job_started").await.seq(), 10);
        hello
    });
    assert_eq!(hello.instance_id, first);
    suite.teardown();
}

/// The next connection must be that of another instance, which holds nothing and counts from 1.
async fn expect_another(session: &mut Session, old: &InstanceId) {
    let mut anew = session.server.accept().await;
    let hello = anew.expect_hello().await;
    assert_ne!(hello.instance_id, *old);
    assert_eq!(hello.holds, None);
    anew.send(WebAppMessage::Welcome(welcome(0))).await;
    anew.assign("b", 1).await;
    let job = session.jobs.next().await.unwrap();
    assert_eq!(anew.expect_and_ack("job_started").await.seq(), 1);
    let ending = tokio::spawn(job.complete("done"));
    assert_eq!(anew.expect_and_ack("job_completed").await.seq(), 2);
    ending.await.unwrap().unwrap();
    assert_eq!(session.client.stats().lost_jobs, 1);
}

/// The connection breaks; how the next one begins.
async fn come_back(session: &mut Session) -> (ScriptedConnection, InstanceId) {
    session.break_connection().await;
    let mut connection = session.server.accept().await;
    let hello = connection.expect_hello().await;
    assert_eq!(hello.holds.unwrap().into_vec(), [lease("a", 1)]);
    (connection, hello.instance_id)
}

#[tokio::test(start_paused = true)]
async fn numbers_that_do_not_fit_begin_another_instance() {
    // 1 is settled and 2 was the last one given.
    for high_water in [0, 3, 99] {
        let mut session = Session::begin().await;
        let job = session.job("a", 1).await;
        let handle = job.handle();
        let pending = tokio::spawn(async move { handle.checkpoint(&json!({})).await });
        session.connection.expect("checkpoint").await;
        let (mut connection, old) = come_back(&mut session).await;
        let mut terms = welcome(high_water);
        terms.leases = crawlwire_protocol::List::cut([lease("a", 1)]);
        connection.send(WebAppMessage::Welcome(terms)).await;
        connection.expect_end().await;
        job.cancelled().cancelled().await;
        assert_eq!(job.stop_reason(), Some(StopReason::Lost));
        assert_eq!(pending.await.unwrap(), Err(ReportError::Lost));
        assert_eq!(job.checkpoint(&json!({})).await, Err(ReportError::Lost));
        expect_another(&mut session, &old).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_of_somebody_else_is_left_to_them() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    let handle = job.handle();
    let pending = tokio::spawn(async move { handle.checkpoint(&json!({})).await });
    session.connection.expect("checkpoint").await;
    let (mut connection, old) = come_back(&mut session).await;
    connection
        .send(WebAppMessage::Error(error(None, "instance_taken")))
        .await;
    connection.goodbye("hello_refused", false).await;
    job.cancelled().cancelled().await;
    assert_eq!(pending.await.unwrap(), Err(ReportError::Lost));
    expect_another(&mut session, &old).await;
}

#[tokio::test]
async fn an_instance_from_a_file_that_is_somebody_elses_is_replaced_in_it() {
    let suite = SocketTestSuite::setup();
    let mut server = ScriptedServer::bind(&suite.endpoint()).await;
    let file = suite.folder().join("instance");
    let old = "0192f0c1-7a3b-7cde-8f01-23456789abcd";
    std::fs::write(&file, old).unwrap();
    let connecting = tokio::spawn(Client::connect(suite.endpoint(), options().instance_file(&file)));
    let mut connection = server.accept().await;
    assert_eq!(
        connection.expect_hello().await.instance_id,
        InstanceId::new(old).unwrap()
    );
    connection
        .send(WebAppMessage::Error(error(None, "instance_taken")))
        .await;
    let mut anew = server.accept().await;
    let hello = anew.expect_hello().await;
    anew.send(WebAppMessage::Welcome(welcome(0))).await;
    connecting.await.unwrap().unwrap();
    let kept = std::fs::read_to_string(&file).unwrap();
    assert_ne!(kept.trim(), old);
    assert_eq!(InstanceId::new(kept.trim()).unwrap(), hello.instance_id);
    suite.teardown();
}

#[tokio::test(start_paused = true)]
async fn numbers_given_twice_begin_another_instance() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    let (mut connection, old) = come_back(&mut session).await;
    let mut terms = welcome(1);
    terms.leases = crawlwire_protocol::List::cut([lease("a", 1)]);
    connection.send(WebAppMessage::Welcome(terms)).await;
    let handle = job.handle();
    let pending = tokio::spawn(async move { handle.checkpoint(&json!({})).await });
    connection.expect("checkpoint").await;
    let ending = tokio::spawn(job.complete("done"));
    assert_eq!(connection.expect("job_completed").await.seq(), 3);
    connection.refuse(3, "sequence_conflict").await;
    // What came before it is settled, as with any other refusal; the job is told to be lost, and nothing more is said of it.
    assert_eq!(pending.await.unwrap(), Ok(Kept::Durable));
    assert_eq!(ending.await.unwrap(), Err(ReportError::Lost));
    assert!(connection.next().await.is_none());
    expect_another(&mut session, &old).await;
}
