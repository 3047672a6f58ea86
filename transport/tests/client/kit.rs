//! The two scripted ends of the test kit understand each other.

use crawlwire_protocol::message::Compressed;
use crawlwire_protocol::{Count, CrawlerMessage, Dialect, Marks, Name, WebAppMessage, encode};
use crawlwire_transport::compress::{Packer, Unpacker};
use crawlwire_transport::testing::{ScriptedServer, SocketTestSuite, assignment, fenced, welcome};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Session, options};

#[tokio::test]
async fn a_scripted_crawler_speaks_either_dialect() {
    let suite = SocketTestSuite::setup();
    let mut server = ScriptedServer::bind(&suite.endpoint()).await;
    let mut crawler = suite.create_test_client().await;
    let mut connection = server.accept().await;
    connection.set_dialect(Dialect::Base);
    connection.ignore(&[]);
    crawler.send_heartbeat().await;
    connection.expect("heartbeat").await;
    let given = WebAppMessage::JobAssignment(assignment("a"));
    connection.send_for("a", Marks::default(), given).await;
    assert_eq!(crawler.expect_assignment().await.job_id, "a");
    assert_eq!(crawler.send_job_started("a").await, None);
    crawler.send_job_progress("a", 0.5).await;
    crawler.send_job_completed("a").await;
    for type_name in ["job_started", "job_progress", "job_completed"] {
        assert_eq!(connection.expect(type_name).await.marks(), Marks::default());
    }

    let mut crawler = crawler.reconnect(&suite.endpoint()).await;
    let greeting = async {
        let hello = crawler.hello("kit");
        crawler.greet(hello).await;
        crawler
    };
    let (mut crawler, mut connection) = tokio::join!(greeting, server.session_with(welcome(6)));
    connection.assign("b", 4).await;
    crawler.expect_assignment().await;
    assert_eq!(crawler.fence("b").map(|fence| fence.get()), Some(4));
    assert_eq!(crawler.send_job_started("b").await, Some(7));
    assert_eq!(
        connection.expect_and_ack("job_started").await.marks().fence,
        fenced(4).fence
    );
    crawler.expect_ack(7).await;
    assert_eq!(crawler.send_checkpoint("b", "{}").await, Some(8));
    connection.expect("checkpoint").await;
    connection.refuse(8, "stale").await;
    crawler.expect_error("stale").await;
    assert_eq!(crawler.hello("kit").holds.map(|holds| holds.len()), Some(1));
    crawler.send_job_failed("b", true).await;
    assert_eq!(crawler.hello("kit").holds, None);
    suite.teardown();
}

#[tokio::test]
async fn a_scripted_crawler_says_each_message_with_its_marks() {
    let suite = SocketTestSuite::setup();
    let mut server = ScriptedServer::bind(&suite.endpoint()).await;
    let mut crawler = suite.create_test_client().await;
    let greeting = async {
        let hello = crawler.hello("kit");
        crawler.greet(hello).await;
        crawler
    };
    let (mut crawler, mut connection) = tokio::join!(greeting, server.session());
    for job in ["a", "b", "c"] {
        connection.assign(job, 4).await;
        crawler.expect_assignment().await;
    }
    crawler.set_next_seq(9);
    assert_eq!(crawler.send_jobs_discovered("a", Vec::new()).await, Some(9));
    crawler.send_token_refresh_request("a").await;
    assert_eq!(crawler.send_job_cancelled("a").await, Some(10));
    assert_eq!(crawler.send_job_paused("b").await, Some(11));
    assert_eq!(crawler.send_job_returned("c").await, Some(12));
    for (type_name, seq, n) in [
        ("jobs_discovered", Some(9), None),
        ("token_refresh_request", None, Some(1)),
        ("job_cancelled", Some(10), None),
        ("job_paused", Some(11), None),
        ("job_returned", Some(12), None),
    ] {
        let marks = connection.expect(type_name).await.marks();
        assert_eq!(
            (marks.seq.map(|seq| seq.get()), marks.fence, marks.n),
            (seq, fenced(4).fence, n),
            "{type_name}"
        );
    }
    assert_eq!(crawler.hello("kit").holds, None, "all have ended");
    suite.teardown();
}

#[tokio::test]
#[should_panic(expected = "expected job_started, heard job_failed")]
async fn an_expectation_that_is_not_met_says_so() {
    let mut server = ScriptedServer::tcp().await;
    let mut crawler = crawlwire_transport::testing::ScriptedCrawler::connect(&server.endpoint()).await;
    let mut connection = server.accept().await;
    connection.set_dialect(Dialect::Base);
    crawler.send_job_failed("a", false).await;
    connection.expect("job_started").await;
}

#[tokio::test(start_paused = true)]
async fn long_lines_are_packed_where_both_sides_can() {
    let mut terms = welcome(0);
    terms.features = crawlwire_protocol::List::cut(["checkpoint", "zstd"].map(Name::cut));
    let mut session = Session::begin_with(options(), terms).await;
    let mut envelope = crawlwire_protocol::Envelope::for_job(
        crawlwire_protocol::JobId::new("a").unwrap(),
        WebAppMessage::JobAssignment(assignment("a")),
    );
    envelope.marks = fenced(1);
    let line = encode(&envelope).unwrap();
    let plain = line.strip_suffix(b"\n").unwrap();
    let packed = WebAppMessage::Compressed(Compressed {
        encoding: Name::cut("zstd"),
        size: Count::try_from(plain.len() as u64).unwrap(),
        frame: STANDARD.encode(Packer::new(1).pack(plain).unwrap()),
    });
    session.connection.send(packed).await;
    let job = session.jobs.next().await.unwrap();
    session.connection.expect_and_ack("job_started").await;

    let summary = "the same words again and again; ".repeat(1000);
    let ending = tokio::spawn(job.complete(summary.clone()));
    let heard = session.connection.expect("compressed").await;
    let CrawlerMessage::Compressed(packed) = heard.message() else {
        panic!()
    };
    let size = packed.size.get() as usize;
    assert!(heard.line.len() < size / 10);
    let frame = STANDARD.decode(&packed.frame).unwrap();
    let plain = Unpacker::new().unpack(&frame, size, 1 << 20).unwrap();
    let text = String::from_utf8(plain).unwrap();
    assert!(text.contains(&summary) && text.contains("\"seq\":2"), "{text}");
    session.connection.ack(2).await;
    ending.await.unwrap().unwrap();
}
