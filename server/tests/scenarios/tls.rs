//! Crawlers from other machines: with TLS and a token, or not at all.

use std::path::Path;

use crawlwire_persistence::testing::TestDatabase;
use crawlwire_transport::TlsClient;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;

use crate::support::session::{hello, hello_with, refused};
use crate::support::{Crawler, SessionCrawler, Setup, TestServer, wait_until};

/// Puts a certificate and its key into the directory of a server.
pub(super) fn certificate(dir: &Path, name: &str) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).expect("a certificate");
    std::fs::write(dir.join(format!("{name}.pem")), cert.pem()).expect("a file");
    std::fs::write(dir.join(format!("{name}.key")), signing_key.serialize_pem()).expect("a file");
}

/// A server that other machines can reach, as far as it is concerned.
fn beyond() -> Setup {
    let setup = Setup::new(TestDatabase::sqlite()).flag("--listen").flag("0.0.0.0:0");
    certificate(setup.dir(), "server");
    setup
        .set("SOCKET_TLS_CERT_FILE", "server.pem")
        .set("SOCKET_TLS_KEY_FILE", "server.key")
}

fn trusting(server: &TestServer) -> TlsClient {
    TlsClient::load(&server.dir().join("server.pem")).expect("a client")
}

fn address(server: &TestServer) -> std::net::SocketAddr {
    let port = server.tcp.expect("it listens on TCP").port();
    ([127, 0, 0, 1], port).into()
}

fn token(server: &TestServer) -> String {
    let (status, out, err) = server.setup().run(&["token", "create", "far"]);
    assert_eq!(status, Some(0), "{err}");
    out.trim_end().to_owned()
}

#[test]
fn a_crawler_from_afar_works_with_tls_and_a_token() {
    let server = beyond().start();
    let api = server.api();
    let token = token(&server);
    let connect = || Crawler::tls(address(&server), trusting(&server)).expect("a handshake");
    let mut crawler = SessionCrawler::begin(connect(), hello_with("far", 1, &token));
    let id = api.submit("crawl_project");
    let job = crawler.assignment();
    crawler.started(&job);
    crawler.vanish();
    crawler.come_back(connect(), &[&job]);
    crawler.completed(&job);
    crawler.settle();
    let ended = api.job(&id);
    assert_eq!((&ended["status"], &ended["attempt"]), (&json!("completed"), &json!(1)));
    let open = api.all("/api/v1/connections");
    assert!(open.iter().any(|it| {
        it["peer"]
            .as_str()
            .is_some_and(|peer| peer.starts_with("tls 127.0.0.1:"))
    }));
    // TLS alone is not enough, whatever this machine is to the server.
    assert_eq!(refused(connect(), &hello("far", 2)).0, "authentication_required");
}

#[test]
fn who_does_not_speak_tls_is_turned_away() {
    let server = beyond().start();
    let api = server.api();
    let mut plain = Crawler::tcp(address(&server));
    plain.heartbeat();
    plain.await_end();
    let stranger = TlsClient::load(&{
        certificate(server.dir(), "other");
        server.dir().join("other.pem")
    });
    assert!(Crawler::tls(address(&server), stranger.expect("a client")).is_err());
    let closed = wait_until("both are listed", || {
        let closed = api.get("/api/v1/connections/closed").ok();
        (closed["refused_by_reason"]["tls_failed"] == 2).then_some(closed)
    });
    let told = &closed["refused"][0];
    assert_eq!(told["reason"], "tls_failed");
    assert!(
        told["detail"].as_str().is_some_and(|detail| !detail.is_empty()),
        "{told}"
    );
    assert!(api.crawlers().is_empty());
}

#[test]
fn a_certificate_can_be_asked_of_crawlers() {
    let setup = beyond();
    certificate(setup.dir(), "crawler");
    let server = setup.set("SOCKET_TLS_CLIENT_CA_FILE", "crawler.pem").start();
    let token = token(&server);
    let (cert, key) = (server.dir().join("crawler.pem"), server.dir().join("crawler.key"));
    let showing = trusting(&server).showing(&cert, &key).expect("a client");
    let line = Crawler::tls(address(&server), showing).expect("a handshake");
    SessionCrawler::begin(line, hello_with("far", 1, &token));
    // In TLS 1.3 the client is done before the server has looked: the end comes with the first word.
    if let Ok(mut line) = Crawler::tls(address(&server), trusting(&server)) {
        line.heartbeat();
        line.await_end();
    }
    wait_until("it is listed", || {
        let closed = server.api().get("/api/v1/connections/closed").ok();
        (closed["refused_by_reason"]["tls_failed"] == 1).then_some(())
    });
}

#[test]
fn what_would_be_open_to_everybody_does_not_start() {
    let plain = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_REQUIRE_TOKENS", "false")
        .flag("--listen")
        .flag("0.0.0.0:0");
    let (status, said) = plain.refused();
    assert_eq!(status, Some(2));
    assert!(
        said.contains("set tls_cert_file and tls_key_file, or listen on localhost"),
        "{said}"
    );
    assert!(
        said.contains("require_tokens: must be true, because host 0.0.0.0"),
        "{said}"
    );

    let (status, said) = beyond().set("SOCKET_TLS_KEY_FILE", "none.key").refused();
    assert_eq!(status, Some(1));
    assert!(said.contains("none.key"), "{said}");
    let setup = beyond();
    std::fs::write(setup.dir().join("server.pem"), "no certificate").expect("a file");
    let (status, said) = setup.refused();
    assert_eq!(status, Some(1));
    assert!(said.contains("server.pem"), "{said}");
    let setup = beyond();
    certificate(setup.dir(), "other");
    let (status, said) = setup.set("SOCKET_TLS_KEY_FILE", "other.key").refused();
    assert_eq!(status, Some(1), "{said}");
}
