//! The same client towards a server that knows no sessions.

use std::time::Duration;

use crawlwire_protocol::{CrawlerMessage, Dialect, Marks, WebAppMessage};
use crawlwire_transport::client::{Client, Jobs, Kept};
use crawlwire_transport::testing::{ScriptedConnection, ScriptedServer, assignment, error, welcome};
use tokio::time::Instant;

use super::options;

struct Base {
    server: ScriptedServer,
    connection: ScriptedConnection,
    client: Client,
    jobs: Jobs,
}

async fn begin() -> Base {
    let (mut server, connector) = ScriptedServer::in_memory();
    let connecting = tokio::spawn(Client::connect(server.endpoint(), options().connector(connector)));
    let begun = Instant::now();
    let mut connection = server.accept().await;
    // An old server does not know this type, and says nothing.
    connection.expect_hello().await;
    connection.set_dialect(Dialect::Base);
    connection.ignore(&[]);
    connection.expect("heartbeat").await;
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    let (client, jobs) = connecting.await.unwrap().unwrap();
    assert_eq!(client.stats().dialect, Some(Dialect::Base));
    connection.ignore(&["heartbeat"]);
    Base {
        server,
        connection,
        client,
        jobs,
    }
}

impl Base {
    async fn assign(&mut self, job: &str) {
        let message = WebAppMessage::JobAssignment(assignment(job));
        self.connection.send_for(job, Marks::default(), message).await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_welcome_the_same_code_speaks_the_base_protocol() {
    let mut base = begin().await;
    base.assign("a").await;
    let job = base.jobs.next().await.unwrap();
    let started = base.connection.expect("job_started").await;
    assert_eq!(started.marks(), Marks::default());
    let text = String::from_utf8_lossy(&started.line).into_owned();
    assert!(!text.contains("fence") && !text.contains("\"seq\""), "{text}");

    job.progress(0.5);
    base.connection.expect("job_progress").await;
    assert_eq!(
        job.checkpoint(&std::collections::BTreeMap::from([("page", 1)])).await,
        Ok(Kept::Unsupported)
    );
    job.api_limited(Duration::from_secs(1), None, None);

    let handle = job.handle();
    let asking = tokio::spawn(async move { handle.refresh_token(None).await });
    let request = base.connection.expect("token_refresh_request").await;
    base.connection.refreshed(&request, "fresh").await;
    assert_eq!(asking.await.unwrap().ok().unwrap().expose(), "fresh");

    // Written is settled here.
    job.complete("done").await.unwrap();
    base.connection.expect("job_completed").await;
    let heartbeat = base.connection.skip_to("heartbeat").await;
    let CrawlerMessage::Heartbeat(heartbeat) = heartbeat.message() else {
        panic!()
    };
    assert_eq!(heartbeat.active_jobs.get(), 0);
    base.connection.expect_silence(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_given_back_fails_and_may_be_tried_again() {
    let mut base = begin().await;
    base.assign("a").await;
    drop(base.jobs.next().await.unwrap());
    base.connection.expect("job_started").await;
    let failed = base.connection.expect("job_failed").await;
    let CrawlerMessage::JobFailed(failed) = failed.message() else {
        panic!()
    };
    assert_eq!(failed.error_context.error_type, "given_back");
    assert!(failed.error_context.is_recoverable);
}

#[tokio::test(start_paused = true)]
async fn after_a_reconnect_jobs_are_named_at_once() {
    let mut base = begin().await;
    for job in ["a", "b", "c"] {
        base.assign(job).await;
    }
    let (first, second) = (base.jobs.next().await.unwrap(), base.jobs.next().await.unwrap());
    second.progress(0.5);
    for _ in 0..3 {
        base.connection.next().await;
    }
    let lost = Instant::now();
    base.connection = super::unconnected().await;
    let mut connection = base.server.accept().await;
    connection.set_dialect(Dialect::Base);
    connection.ignore(&[]);
    connection.expect("heartbeat").await;
    // Well before the server gives them to somebody else.
    assert!(lost.elapsed() < Duration::from_secs(2));
    assert_eq!(connection.expect("job_progress").await.job(), "b");
    assert_eq!(connection.expect("job_started").await.job(), "a");
    // What nobody had taken is the server's again.
    assert_eq!(base.client.stats().jobs, 2);
    drop((first, second));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_speaks_sessions_after_all_is_greeted_again() {
    let mut base = begin().await;
    base.connection.send(WebAppMessage::Welcome(welcome(0))).await;
    base.connection.expect_end().await;
    base.server.session().await;
    base.client.idle().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(base.client.stats().dialect, Some(Dialect::Session));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_on_which_nothing_is_heard_is_kept_for_five_minutes() {
    let mut base = begin().await;
    // It has just begun.
    let begun = Instant::now();
    while base.connection.next().await.is_some() {}
    assert_eq!(begun.elapsed(), Duration::from_secs(5 * 60));
    base.server.accept().await.expect_hello().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_is_heard_is_kept_while_there_is_a_job() {
    let mut base = begin().await;
    base.assign("a").await;
    let job = base.jobs.next().await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(base.client.stats().connections, 1);
    job.complete("done").await.unwrap();
    base.connection.expect_end().await;
    base.server.accept().await.expect_hello().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_welcomed_us_is_not_taken_for_another_too_soon() {
    let mut session = super::Session::begin().await;
    let job = session.job("a", 1).await;
    session.break_connection().await;
    // Slow, perhaps; what was said must not be said where nobody settles it.
    for _ in 0..10 {
        let mut connection = session.server.accept_within(Duration::from_secs(30)).await;
        connection.expect_hello().await;
        connection.expect_end().await;
    }
    session.connection = session.server.session_with(welcome(1)).await;
    tokio::spawn(job.complete("done"));
    session.connection.expect_and_ack("job_completed").await;

    session.break_connection().await;
    // With nothing to lose it is soon believed to know no sessions.
    for _ in 0..2 {
        session
            .server
            .accept_within(Duration::from_secs(30))
            .await
            .expect_end()
            .await;
    }
    let mut connection = session.server.accept_within(Duration::from_secs(30)).await;
    connection.expect_hello().await;
    connection.set_dialect(Dialect::Base);
    connection.skip_to("heartbeat").await;
}

#[tokio::test(start_paused = true)]
async fn an_announced_shutdown_is_waited_out() {
    // What was said in full still reaches a server that goes gracefully. Either way it needs a moment to come back.
    for (graceful, left_after) in [(true, 1), (false, 0)] {
        let mut base = begin().await;
        let shutdown = crawlwire_protocol::message::Shutdown {
            graceful,
            timeout_seconds: 30.0,
            reason: None,
        };
        let said = Instant::now();
        base.connection.send(WebAppMessage::Shutdown(shutdown)).await;
        base.connection.expect_end().await;
        assert_eq!(said.elapsed(), Duration::from_secs(left_after));
        drop(base.connection);
        base.server.accept().await;
        assert_eq!(said.elapsed(), Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_of_other_versions_is_spoken_to_in_the_base_protocol() {
    let (mut server, connector) = ScriptedServer::in_memory();
    let connecting = tokio::spawn(Client::connect(server.endpoint(), options().connector(connector)));
    let mut connection = server.accept().await;
    connection.expect_hello().await;
    connection
        .send(WebAppMessage::Error(error(None, "unsupported_version")))
        .await;
    connection.goodbye("hello_refused", false).await;
    connection.expect_end().await;
    let mut connection = server.accept().await;
    connection.set_dialect(Dialect::Base);
    connection.ignore(&[]);
    connection.expect("heartbeat").await;
    let (client, _jobs) = connecting.await.unwrap().unwrap();
    assert_eq!(client.stats().dialect, Some(Dialect::Base));
}
