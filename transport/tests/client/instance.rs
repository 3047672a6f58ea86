//! A crawler that is started again may be the same instance.

use crawlwire_transport::client::{Client, ConnectError};
use crawlwire_transport::testing::{ScriptedServer, SocketTestSuite, welcome};

use super::options;

#[tokio::test]
async fn a_file_makes_a_restarted_crawler_the_same_instance_and_no_two_at_once() {
    let suite = SocketTestSuite::setup();
    let mut server = ScriptedServer::bind(&suite.endpoint()).await;
    let file = suite.folder().join("instance");
    let connect = || Client::connect(suite.endpoint(), options().instance_file(&file));

    let (connected, first) = tokio::join!(connect(), async {
        let mut connection = server.accept().await;
        let hello = connection.expect_hello().await;
        connection
            .send(crawlwire_protocol::WebAppMessage::Welcome(welcome(0)))
            .await;
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
        connection
            .send(crawlwire_protocol::WebAppMessage::Welcome(welcome(9)))
            .await;
        // The job it held when it was killed, in the same attempt.
        connection.assign_resumed("a", 3, 1, "{}").await;
        assert_eq!(connection.expect("job_started").await.seq(), 10);
        hello
    });
    assert_eq!(hello.instance_id, first);
    suite.teardown();
}
