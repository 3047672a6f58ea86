//! Who has to prove who it is, and how.

use std::time::Duration;

use crawlwire_progress::{Op, Outcome, Store, TokenKey};
use crawlwire_router::{Closing, Origin, token_hash, token_text};
use serde_json::json;
use tokio::time::Instant;

use crate::client::{hello, hello_with, quiet};
use crate::support::*;

async fn token(server: &Server, name: &str, role: &str, secret: &str) -> (TokenKey, String) {
    let op = Op::CreateToken {
        name: name.to_owned(),
        role: role.to_owned(),
        hash: token_hash(secret),
        by: "somebody".to_owned(),
    };
    match server.store.commit(op).await.unwrap().into_inner() {
        Outcome::TokenCreated(key) => (key, token_text(key, secret)),
        other => panic!("no token: {other:?}"),
    }
}

const TLS: Origin = Origin::Tcp { tls: true };

#[tokio::test]
async fn beyond_this_machine_a_token_is_needed_and_elsewhere_it_is_not() {
    let server = quiet().await;
    let (key, text) = token(&server, "t", "crawler", "s3cret").await;
    for (instance, origin, principal) in [
        (1, Origin::Unix { uid: 17, gid: 5 }, "unix:17"),
        (2, Origin::TcpLoopback, "local"),
        (3, Origin::Memory, "local"),
    ] {
        let mut client = server.greet(origin, hello(instance)).await;
        client.welcomed().await;
        let session = client.line.peer.session().unwrap();
        assert_eq!(session.greeting.as_ref().unwrap().principal, principal);
    }
    let mut client = server.greet(TLS, hello(4)).await;
    assert_eq!(client.refused().await.0, "authentication_required");
    assert_eq!(
        client.farewell().await,
        ("not_authenticated".to_owned(), false, Closing::NotAuthenticated)
    );
    let errors = server.errors(1).await;
    assert_eq!(errors[0].code, "authentication_required", "somebody wants to know");
    let with_token = |instance| hello_with(instance, json!({ "token": text }));
    let mut client = server.greet(TLS, with_token(4)).await;
    client.welcomed().await;
    let greeting = client.line.peer.session().unwrap().greeting.clone().unwrap();
    assert_eq!(
        (greeting.principal, greeting.token),
        (format!("token:{key}"), Some(key))
    );
    assert!(!format!("{:?}", client.line.peer.session().unwrap()).contains("s3cret"));
    let known = server.store.crawler_token(key).await.unwrap().unwrap();
    assert!(known.last_used_at.is_some());
    let used = server.store.count("TokenUsed");
    server.greet(Origin::Memory, with_token(5)).await.welcomed().await;
    assert_eq!(server.store.count("TokenUsed"), used, "not each time");

    let mut client = server.greet(Origin::Tcp { tls: false }, with_token(6)).await;
    assert_eq!(
        client.refused().await.0,
        "authentication_required",
        "everybody could have read it"
    );
    assert_eq!(client.farewell().await.2, Closing::NotAuthenticated);
}

#[tokio::test]
async fn a_bad_token_is_refused_everywhere_and_nobody_is_told_what_is_wrong_with_it() {
    let server = quiet().await;
    let (key, text) = token(&server, "t", "crawler", "s3cret").await;
    let (_, monitor) = token(&server, "m", "monitor", "s3cret").await;
    let attempts = [
        token_text(TokenKey(key.0 + 1000), "s3cret"),
        token_text(key, "s3creT"),
        token_text(key, ""),
        "s3cret".to_owned(),
    ];
    let mut answers = Vec::new();
    for text in attempts {
        for origin in [TLS, Origin::Unix { uid: 1, gid: 1 }, Origin::Memory] {
            let mut client = server.greet(origin, hello_with(1, json!({ "token": text }))).await;
            answers.push(client.error().await);
            assert_eq!(client.farewell().await.2, Closing::NotAuthenticated);
        }
    }
    // One for a crawler is good for less.
    let less = hello_with(2, json!({ "token": text, "role": "monitor" }));
    server.greet(TLS, less).await.welcomed().await;
    let name = "t".to_owned();
    let by = "somebody".to_owned();
    server.store.commit(Op::RevokeToken { name, by }).await.unwrap();
    let mut client = server.greet(TLS, hello_with(1, json!({ "token": text }))).await;
    answers.push(client.error().await);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(answers[0].code.as_str(), "invalid_token");

    let mut client = server.greet(TLS, hello_with(1, json!({ "token": monitor }))).await;
    assert_eq!(client.refused().await.0, "forbidden_role");
    let hello = hello_with(1, json!({ "token": monitor, "role": "monitor" }));
    server.greet(TLS, hello).await.welcomed().await;
}

#[tokio::test]
async fn a_token_that_is_taken_back_ends_the_connections_that_showed_it() {
    let server = quiet().await;
    let (_, text) = token(&server, "t", "crawler", "s3cret").await;
    let mut client = server.greet(TLS, hello_with(1, json!({ "token": text }))).await;
    client.welcomed().await;
    let mut other = server.session(2).await;
    server.router.check_tokens().await.unwrap();
    assert!(client.heard_nothing());
    let (name, by) = ("t".to_owned(), "somebody".to_owned());
    server.store.commit(Op::RevokeToken { name, by }).await.unwrap();
    server.router.check_tokens().await.unwrap();
    assert_eq!(
        client.farewell().await,
        ("token_revoked".to_owned(), false, Closing::TokenRevoked)
    );
    assert!(other.heard_nothing());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_taken_back_is_noticed_within_seconds_however_seldom_heartbeats_are() {
    let server = quiet().await;
    let (_, text) = token(&server, "t", "crawler", "s3cret").await;
    let mut client = server.greet(TLS, hello_with(1, json!({ "token": text }))).await;
    client.welcomed().await;
    let (name, by) = ("t".to_owned(), "somebody".to_owned());
    server.store.commit(Op::RevokeToken { name, by }).await.unwrap();
    let revoked = Instant::now();
    assert_eq!(client.farewell().await.2, Closing::TokenRevoked);
    assert!(revoked.elapsed() <= Duration::from_secs(5), "{:?}", revoked.elapsed());
}

#[tokio::test]
async fn where_tokens_are_required_a_base_crawler_may_say_nothing() {
    let server = quiet().await;
    let crawler = server.connect_from(TLS);
    failed(crawler.say(say::heartbeat()).await);
    assert_eq!(crawler.out.closing.get(), Some(&Closing::NotAuthenticated));
    assert!(server.router.sessions().is_empty());
    let mut config = crate::client::calm();
    config.hello.tokens_required = false;
    let open = Server::with(config, crawlwire_progress::Policy::default());
    done(open.connect_from(TLS).say(say::heartbeat()).await);
    let mut client = open.greet(TLS, hello(1)).await;
    client.welcomed().await;
    let greeting = client.line.peer.session().unwrap().greeting.clone();
    assert_eq!(greeting.unwrap().principal, "anonymous");
}
