//! Who may say what, how much of it, and what is never said to whom.

use std::time::Duration;

use crawlwire_progress::Policy;
use crawlwire_protocol::message::*;
use crawlwire_protocol::{
    AccessToken, Category, Count, Cursor, Envelope, FenceNo, JobId, List, Marks, Message, Millis, Name, Seq, Severity,
    Version, WebAppMessage, WireTime, Words,
};
use crawlwire_router::{Closing, RateLimit, RouterConfig, SendError};
use serde_json::json;

use crate::client::{about, calm, heartbeat, hello_with, line, marked, quiet};
use crate::support::*;

#[tokio::test]
async fn a_monitor_may_show_that_it_is_there_and_gets_no_job() {
    let server = quiet().await;
    let (mut monitor, _) = server.welcome(hello_with(1, json!({ "role": "monitor" }))).await;
    server.submit("a").await;
    for allowed in [heartbeat(&[]), line("ping", json!({})), line("pong", json!({}))] {
        done(monitor.say(allowed).await);
    }
    assert_eq!(monitor.told().await.0, "pong");
    let forbidden = [
        line("job_request", json!({ "slots": 3 })),
        marked(&say::progress("a", 0.5), json!({ "fence": 1, "n": 1 })),
        marked(&say::refresh("a"), json!({ "fence": 1, "n": 1 })),
        marked(
            &about("api_limited", "a", json!({ "retry_after_ms": 1000 })),
            json!({ "fence": 1 }),
        ),
    ];
    for line in forbidden {
        failed(monitor.say(line).await);
        assert_eq!(monitor.refused().await, ("forbidden_type".to_owned(), None, false));
    }
    let lasting = [
        say::started("a"),
        say::completed("a"),
        say::failed("a", true),
        say::discovered("a", &["x"]),
        about("checkpoint", "a", json!({ "cursor": {} })),
        about("job_cancelled", "a", json!({})),
        about("job_paused", "a", json!({})),
        about("job_resumed", "a", json!({})),
        about("job_returned", "a", json!({})),
    ];
    for line in lasting {
        let line = monitor.next(&line, 1);
        failed(monitor.say(line).await);
        assert_eq!(
            monitor.refused().await,
            ("forbidden_type".to_owned(), Some(monitor.seq), false)
        );
    }
    assert!(monitor.heard_nothing() && monitor.line.holds().is_empty());
    done(monitor.say(line("goodbye", json!({}))).await);
    assert_eq!(monitor.farewell().await.2, Closing::Goodbye);
}

fn limited(per_second: u32, burst: u32) -> Server {
    let config = RouterConfig {
        rate_limit: RateLimit { per_second, burst },
        ..calm()
    };
    Server::with(config, Policy::default())
}

#[tokio::test]
async fn who_says_too_much_is_not_refused_and_is_to_be_read_later() {
    let server = limited(1, 3);
    let mut client = server.session(1).await;
    server.submit("a").await;
    let (fence, _) = client.assigned().await;
    for _ in 0..2 {
        client.settle(&say::started("a"), fence).await;
        assert_eq!(client.line.peer.held_until(), None);
    }
    for _ in 0..2 {
        client.settle(&say::started("a"), fence).await;
        assert!(client.line.peer.held_until().is_some(), "the burst is used up");
    }
    assert!(client.heard_nothing() && client.line.out.closing.get().is_none());
    let mut base = server.connect(None);
    for _ in 0..3 {
        assert_eq!(base.peer.held_until(), None);
        done(base.say(say::heartbeat()).await);
    }
    assert!(base.peer.held_until().is_some());
    assert!(base.heard_nothing() && base.out.closing.get().is_none());
}

#[tokio::test]
async fn numbers_out_of_turn_count_as_any_others() {
    let server = limited(1, 4);
    let mut client = server.session(1).await;
    server.submit("a").await;
    let (fence, _) = client.assigned().await;
    let first = client.next(&say::started("a"), fence);
    for _ in 0..2 {
        done(client.say(first.clone()).await);
        assert_eq!(client.ack().await, 1);
    }
    for _ in 0..2 {
        assert_eq!(client.line.peer.held_until(), None);
        failed(client.say(client.numbered(9, &say::started("a"), fence)).await);
        assert_eq!(client.refused().await, ("sequence_gap".to_owned(), Some(9), true));
    }
    assert!(
        client.line.peer.held_until().is_some(),
        "one taken, one again, two early"
    );
}

/// One message of each type that the server sends.
fn every_message() -> Vec<WebAppMessage> {
    let (millis, name) = (Millis::from(Duration::from_secs(1)), || Name::cut("x"));
    let seq = Seq::new(1).unwrap();
    let report_policy = ReportPolicy {
        progress_interval_ms: millis,
    };
    let welcome = Welcome {
        version: Version::clamped(1),
        features: List::default(),
        session_id: name(),
        server: ServerInfo {
            name: name(),
            version: name(),
        },
        heartbeat_interval_ms: millis,
        heartbeat_timeout_ms: millis,
        lease_ms: millis,
        max_message_size_bytes: Count::from(1),
        max_in_flight: Count::from(1),
        max_in_flight_bytes: Count::from(1),
        report_policy,
        server_time: WireTime::now(),
        high_water_seq: HighWater::clamped(0),
        leases: List::default(),
        refused: Some(List::default()),
    };
    let assignment = JobAssignment {
        job_id: "a".to_owned(),
        job_type: JobType::CrawlUser,
        entity_id: None,
        namespace_path: None,
        gitlab_host: "h".to_owned(),
        access_token: AccessToken::new("t"),
        priority: 1.0,
        resume: true,
        checkpoint: Cursor::new(r#"{"page":1}"#),
        counts: Some(Counts::cut([ProgressData::new("issues", 2.into(), 1.into())])),
        attempt: Some(Count::from(1)),
    };
    let (reason, deadline_ms) = (Some(Words::cut("x")), millis);
    vec![
        WebAppMessage::JobAssignment(assignment),
        WebAppMessage::TokenRefreshResponse(TokenRefreshResponse {
            access_token: AccessToken::new("t"),
            expires_at: None,
            refresh_successful: true,
        }),
        WebAppMessage::Shutdown(Shutdown {
            graceful: true,
            timeout_seconds: 1.0,
            reason: None,
        }),
        WebAppMessage::Welcome(welcome),
        WebAppMessage::Ack(Ack { seq }),
        WebAppMessage::Error(ErrorReply::new("x", Category::Internal, Severity::Low, "x")),
        WebAppMessage::JobCancel(JobCancel {
            reason: reason.clone(),
            deadline_ms,
        }),
        WebAppMessage::JobPause(JobPause {
            reason: reason.clone(),
            deadline_ms,
        }),
        WebAppMessage::JobResume(JobResume {}),
        WebAppMessage::ReportPolicy(report_policy),
        WebAppMessage::Draining(Draining {
            reason,
            reconnect_after_ms: millis,
            deadline_ms,
        }),
        WebAppMessage::Goodbye(ServerGoodbye {
            reason: name(),
            reconnect: true,
            reconnect_after_ms: None,
        }),
        WebAppMessage::Ping(Ping { nonce: None }),
        WebAppMessage::Pong(Pong { nonce: None }),
        WebAppMessage::Compressed(Compressed {
            encoding: name(),
            size: Count::from(1),
            frame: "AA==".to_owned(),
        }),
    ]
}

#[tokio::test]
async fn a_base_crawler_hears_no_word_of_the_session_dialect() {
    let server = quiet().await;
    let kinds: Vec<_> = every_message().iter().map(|message| message.kind()).collect();
    assert_eq!(kinds, WebAppMessage::KINDS, "each type once");
    let mut base = server.crawler().await;
    let mut undecided = server.connect(None);
    let mut session = server.session(1).await;
    for message in every_message() {
        let kind = message.kind();
        let envelope = Envelope {
            marks: Marks {
                seq: None,
                fence: FenceNo::new(3),
                n: Some(4),
            },
            ..Envelope::for_job(JobId::new("a").unwrap(), message)
        };
        for crawler in [&mut base, &mut undecided] {
            let sent = server.router.send(&crawler.peer, envelope.clone()).await;
            if WebAppMessage::is_extension(kind) {
                assert_eq!(sent, Err(SendError::Withheld), "{kind:?}");
                assert!(crawler.heard_nothing());
                continue;
            }
            sent.unwrap();
            let text = crawler.raw().await;
            for word in ["fence", "seq", "\"n\"", "checkpoint", "counts", "attempt"] {
                assert!(!text.contains(word), "{text}");
            }
        }
        server.router.send(&session.line.peer, envelope).await.unwrap();
        assert_eq!(session.hear().await.message.kind(), kind);
    }
    server.router.goodbye(&base.peer, "because", true).await;
    server.router.acknowledge(&base.peer).await;
    assert!(base.heard_nothing());
}

#[tokio::test]
async fn a_base_crawler_that_uses_words_of_the_session_dialect_is_not_understood() {
    let server = quiet().await;
    let mut crawler = server.crawler().await;
    server.submit("a").await;
    crawler.assignment().await;
    let foreign = [
        line("hello", crate::client::hello(1)),
        line("goodbye", json!({})),
        line("job_request", json!({ "slots": 9 })),
        about("job_returned", "a", json!({})),
    ];
    for line in foreign {
        assert_eq!(failed(crawler.say(line).await), "nobody handles this type");
    }
    // Marks mean nothing there.
    done(
        crawler
            .say(marked(&say::started("a"), json!({ "seq": "x", "fence": 99 })))
            .await,
    );
    done(
        crawler
            .say(marked(&say::completed("a"), json!({ "seq": 7, "fence": 99 })))
            .await,
    );
    assert!(crawler.heard_nothing());
}
