//! How a connection begins and why it ends.

use std::time::Duration;

use crawlwire_protocol::message::JobType;
use crawlwire_protocol::{AccessToken, Dialect, WebAppMessage};
use crawlwire_transport::Endpoint;
use crawlwire_transport::client::{Client, ClientOptions, Closed, ConnectError};
use crawlwire_transport::testing::{ScriptedServer, error, welcome};
use tokio::time::Instant;

use super::{Session, options};

#[tokio::test(start_paused = true)]
async fn a_hello_says_who_is_there() {
    let (mut server, connector) = ScriptedServer::in_memory();
    let options = options()
        .connector(connector)
        .job_types([JobType::CrawlUser])
        .hosts(["gitlab.example.com"])
        .labels(vec!["fast".to_owned()])
        .software("tester", Some("1.2"))
        .token(AccessToken::new("secret-token"));
    assert!(!format!("{options:?}").contains("secret-token"));
    let connecting = tokio::spawn(Client::connect(server.endpoint(), options));
    let mut connection = server.accept().await;
    let hello = connection.expect_hello().await;
    assert_eq!(
        (hello.crawler_id.as_str(), hello.role.as_str(), hello.slots.get()),
        ("tester", "crawler", 4)
    );
    assert_eq!(hello.token.as_ref().map(|token| token.expose()), Some("secret-token"));
    assert_eq!(hello.job_types.unwrap()[0].as_str(), "crawl_user");
    assert_eq!(hello.hosts.unwrap()[0].as_str(), "gitlab.example.com");
    assert_eq!(hello.labels.unwrap()[0].as_str(), "fast");
    assert_eq!(hello.software.unwrap().version.unwrap().as_str(), "1.2");
    assert!(hello.features.iter().any(|feature| feature.as_str() == "cancel"));
    assert_eq!(hello.holds, None);
    connection.send(WebAppMessage::Welcome(welcome(0))).await;
    let (client, _jobs) = connecting.await.unwrap().unwrap();
    let stats = client.stats();
    assert_eq!(
        (stats.dialect, stats.session_id.as_deref()),
        (Some(Dialect::Session), Some("scripted"))
    );
    assert!(stats.is_connected);
}

#[tokio::test(start_paused = true)]
async fn numbers_go_on_after_the_high_water_of_a_restarted_instance() {
    let mut session = Session::begin_with(options(), welcome(41)).await;
    session.connection.assign("a", 1).await;
    let _job = session.jobs.next().await.unwrap();
    assert_eq!(session.connection.expect("job_started").await.seq(), 42);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_not_sent_where_others_can_read_it() {
    let endpoint: Endpoint = "tcp://127.0.0.1:1".parse().unwrap();
    let options = ClientOptions::new("tester").token(AccessToken::new("secret"));
    let refused = Client::connect(endpoint, options).await;
    assert!(matches!(refused, Err(ConnectError::TokenNeedsPrivacy)));
}

#[tokio::test(start_paused = true)]
async fn options_out_of_range_are_named() {
    for (options, name) in [
        (ClientOptions::new(""), "crawler_id"),
        (ClientOptions::new("x".repeat(129)), "crawler_id"),
        (options().slots(1025), "slots"),
        (options().labels(vec![String::new()]), "labels"),
        (options().outbox_messages(0), "outbox_messages"),
    ] {
        let refused = Client::connect("/nowhere.sock".parse().unwrap(), options).await;
        assert!(
            matches!(refused, Err(ConnectError::BadOption { option, .. }) if option == name),
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_hello_ends_it_and_one_for_later_does_not() {
    let (mut server, connector) = ScriptedServer::in_memory();
    let connecting = tokio::spawn(Client::connect(server.endpoint(), options().connector(connector)));
    let mut connection = server.accept().await;
    connection.expect_hello().await;
    let mut later = error(None, "database_unavailable");
    later.retryable = true;
    later.retry_after_ms = Some(Duration::from_secs(8).into());
    let said = Instant::now();
    connection.send(WebAppMessage::Error(later)).await;
    let mut connection = server.accept().await;
    assert!(said.elapsed() >= Duration::from_secs(8));
    connection.expect_hello().await;
    connection
        .send(WebAppMessage::Error(error(None, "invalid_token")))
        .await;
    match connecting.await.unwrap() {
        Err(ConnectError::Refused(refusal)) => assert_eq!(refusal.code, "invalid_token"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_there_is_waited_for_and_then_given_up() {
    let (mut server, connector) = ScriptedServer::in_memory();
    connector.set_down(true);
    let options = options().connector(connector.clone());
    let begun = Instant::now();
    let refused = Client::connect(
        server.endpoint(),
        options.clone().connect_timeout(Duration::from_secs(9)),
    )
    .await;
    assert!(matches!(refused, Err(ConnectError::Unreachable(_))));
    assert_eq!(begun.elapsed().as_secs(), 9);

    let connecting = tokio::spawn(Client::connect(server.endpoint(), options));
    tokio::time::sleep(Duration::from_secs(10)).await;
    connector.set_down(false);
    server.session().await;
    assert!(connecting.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_was_replaced_ends() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    session.connection.goodbye("replaced", false).await;
    assert_eq!(session.client.closed().await, Closed::Replaced);
    assert!(session.jobs.next().await.is_none());
    assert!(job.cancelled().is_cancelled());
    assert!(job.complete("done").await.is_err());
    session.server.expect_nobody(Duration::from_secs(60)).await;

    // Told in place of a welcome when the other one was there first.
    let mut session = Session::begin().await;
    session.break_connection().await;
    let mut connection = session.server.accept_within(Duration::from_secs(60)).await;
    connection.expect_hello().await;
    connection.goodbye("replaced", false).await;
    assert_eq!(session.client.closed().await, Closed::Replaced);

    let mut session = Session::begin().await;
    session.connection.goodbye("token_revoked", false).await;
    assert!(matches!(session.client.closed().await, Closed::Refused(refusal) if refusal.code == "token_revoked"));
}

#[tokio::test(start_paused = true)]
async fn a_draining_server_is_left_and_come_back_to_when_it_said() {
    let mut session = Session::begin().await;
    let job = session.job("a", 1).await;
    session.connection.drain(Duration::from_secs(6)).await;
    let said = Instant::now();
    // Work goes on meanwhile.
    let ending = tokio::spawn(job.complete("done"));
    session.connection.expect_and_ack("job_completed").await;
    ending.await.unwrap().unwrap();
    session.connection.expect_end().await;
    session.reconnect(2).await;
    assert!((6..8).contains(&said.elapsed().as_secs()), "{:?}", said.elapsed());

    // A server that goes sooner is not asked for sooner.
    session.connection.drain(Duration::from_secs(6)).await;
    let said = Instant::now();
    session.break_connection().await;
    session.server.session_with(welcome(2)).await;
    assert!((6..8).contains(&said.elapsed().as_secs()), "{:?}", said.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_a_server_said_last_of_when_to_come_back_counts() {
    let seconds = Duration::from_secs;
    for (draining, goodbye) in [(seconds(6), seconds(2)), (seconds(1), seconds(5))] {
        let mut session = Session::begin().await;
        session.connection.drain(draining).await;
        session.connection.goodbye_until("server_shutdown", goodbye).await;
        let said = Instant::now();
        session.connection.expect_end().await;
        assert_eq!(said.elapsed(), Duration::ZERO, "it hangs up at once");
        session.reconnect(0).await;
        assert_eq!(said.elapsed(), goodbye);
    }
}

#[tokio::test(start_paused = true)]
async fn waits_between_attempts_grow_and_stay_bounded() {
    let mut session = Session::begin().await;
    session.connector.set_down(true);
    session.break_connection().await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!session.client.stats().is_connected);
    session.connector.set_down(false);
    let up = Instant::now();
    session
        .server
        .accept_within(Duration::from_secs(16))
        .await
        .expect_hello()
        .await;
    assert!(up.elapsed() <= Duration::from_secs(15));
}
