//! Tokens: made, shown and taken back by the command, while a server runs on the database.

use std::fs::File;

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::session::{hello, hello_with, refused};
use crate::support::{Crawler, SessionCrawler, Setup, TestServer, on_both_databases, wait_until};

on_both_databases!(
    tokens_are_made_shown_and_taken_back,
    a_token_lets_in_and_its_end_throws_out,
);

/// Everybody on TCP has to show a token.
fn start(database: TestDatabase) -> TestServer {
    Setup::new(database)
        .set("SOCKET_REQUIRE_TOKENS", "true")
        .flag("--listen")
        .flag("127.0.0.1:0")
        .start()
}

fn tcp(server: &TestServer) -> Crawler {
    Crawler::tcp(server.tcp.expect("it listens on TCP"))
}

#[track_caller]
fn made(server: &TestServer, arguments: &[&str]) -> String {
    let (status, out, err) = server.setup().run(arguments);
    assert_eq!(status, Some(0), "{err}");
    assert_eq!(out.lines().count(), 1, "{out:?}");
    let token = out.trim_end().to_owned();
    assert!(!err.contains(&token), "the secret is on standard output alone");
    token
}

fn tokens_are_made_shown_and_taken_back(database: TestDatabase) {
    let server = start(database);
    let setup = server.setup();
    // While it runs, and works.
    let first = made(&server, &["token", "create", "eu-1"]);
    server.api().submit("crawl_project");
    let second = made(&server, &["token", "create", "eyes", "--role", "monitor", "--json"]);
    let second: Value = serde_json::from_str(&second).expect("JSON");
    assert_eq!((&second["name"], &second["role"]), (&json!("eyes"), &json!("monitor")));
    let secret = second["token"].as_str().expect("a token");
    assert!(first.starts_with("cwt_") && secret.starts_with("cwt_") && first.len() > 60 && first != secret);

    let (status, out, err) = setup.run(&["token", "create", "eu-1"]);
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert_eq!(err, "crawlwire: eu-1: there is, or was, a token of this name\n");
    let (status, _, err) = setup.run(&["token", "revoke", "nobody"]);
    assert_eq!(
        (status, err.as_str()),
        (Some(1), "crawlwire: nobody: there is no token of this name\n")
    );

    let (status, out, _) = setup.run(&["token", "list"]);
    assert_eq!(status, Some(0));
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "ROLE", "CREATED", "LAST", "USED", "REVOKED"]);
    assert_eq!((rows[1][0], rows[1][1], rows[1][4]), ("eyes", "monitor", "-"));
    assert_eq!((rows[2][0], rows[2][1]), ("eu-1", "crawler"));
    assert_eq!(rows.len(), 3);

    let (status, out, _) = setup.run(&["token", "revoke", "eyes"]);
    assert_eq!((status, out.as_str()), (Some(0), ""));
    let (_, out, _) = setup.run(&["token", "list", "--json"]);
    let all: Value = serde_json::from_str(&out).expect("JSON");
    assert!(
        all[0]["revoked_at"].is_string() && all[1]["revoked_at"].is_null(),
        "{all}"
    );
    assert!(!out.contains(&first) && !out.contains("hash"), "{out}");

    let acts: Vec<_> = server.api().all("/api/v1/audit");
    let acts: Vec<_> = acts.iter().map(|act| [&act["act"], &act["target"]]).collect();
    let newest_first = [
        ["revoke_token", "eyes"],
        ["create_token", "eyes"],
        ["create_token", "eu-1"],
    ];
    assert_eq!(json!(acts), json!(newest_first));
    for secret in [&first, secret] {
        let text = secret.rsplit('_').next().expect("a secret");
        assert!(!server.log().contains(text), "a secret is in the log");
    }
}

#[test]
fn a_token_that_cannot_be_shown_is_good_for_nothing() {
    let server = start(TestDatabase::sqlite());
    let mut command = server.setup().other_command(&["token", "create", "eu-1"]);
    let full = File::options().write(true).open("/dev/full").expect("a full disk");
    let output = command.stdout(full).output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(3));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        err.contains("could not be shown") && err.contains("It is revoked"),
        "{err}"
    );
    let (_, out, _) = server.setup().run(&["token", "list", "--json"]);
    let all: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(all[0]["name"], "eu-1");
    assert!(all[0]["revoked_at"].is_string(), "{all}");
}

fn a_token_lets_in_and_its_end_throws_out(database: TestDatabase) {
    let server = start(database);
    let api = server.api();
    let token = made(&server, &["token", "create", "eu-1"]);
    let of = |code: &str, reason: &str| (code.to_owned(), Some(reason.to_owned()));
    let needed = of("authentication_required", "not_authenticated");
    assert_eq!(refused(tcp(&server), &hello("alpha", 1)), needed);
    let wrong = of("invalid_token", "not_authenticated");
    for bad in [
        "",
        "cwt_",
        "cwt_1_x",
        &format!("{token}x"),
        &token[..token.len() - 1],
        "glpat-1",
    ] {
        assert_eq!(refused(tcp(&server), &hello_with("alpha", 1, bad)), wrong, "{bad}");
    }
    let mut crawler = SessionCrawler::begin(tcp(&server), hello_with("alpha", 1, &token));
    let id = api.submit("crawl_project");
    let job = crawler.assignment();
    crawler.started(&job);
    crawler.settle();
    let listed = &api.crawlers()[0];
    assert!(
        listed["principal"]
            .as_str()
            .is_some_and(|who| who.starts_with("token:")),
        "{listed}"
    );
    // The socket asks for none.
    let local = server.session("beta", 2);

    let (status, _, err) = server.setup().run(&["token", "revoke", "eu-1"]);
    assert_eq!(status, Some(0), "{err}");
    let last = crawler.last_words();
    let told = (&last["type"], &last["data"]["reason"], &last["data"]["reconnect"]);
    assert_eq!(told, (&json!("goodbye"), &json!("token_revoked"), &json!(false)));
    assert_eq!(refused(tcp(&server), &hello_with("alpha", 1, &token)), wrong);
    wait_until("it is listed", || {
        let closed = api.get("/api/v1/connections/closed").ok();
        (closed["by_reason"]["token_revoked"] == 1).then_some(())
    });
    assert_eq!(api.crawlers().len(), 1);
    assert!(["assigned", "running"].contains(&api.job(&id)["status"].as_str().expect("a status")));
    drop(local);
}

#[test]
fn a_base_crawler_cannot_show_a_token() {
    let server = start(TestDatabase::sqlite());
    let api = server.api();
    let id = api.submit("crawl_project");
    let mut crawler = tcp(&server);
    crawler.heartbeat();
    assert!(crawler.recv().is_none(), "no word of the session protocol");
    wait_until("it is listed", || {
        let closed = api.get("/api/v1/connections/closed").ok();
        (closed["by_reason"]["not_authenticated"] == 1).then_some(())
    });
    assert_eq!(api.job(&id)["status"], "queued");
    assert!(api.crawlers().is_empty());
}

#[test]
fn a_monitor_looks_on() {
    let server = start(TestDatabase::sqlite());
    let api = server.api();
    let token = made(&server, &["token", "create", "eyes", "--role", "monitor"]);
    let (code, _) = refused(tcp(&server), &hello_with("alpha", 1, &token));
    assert_eq!(code, "forbidden_role", "a monitor's token makes no crawler");
    let mut greeting = hello_with("alpha", 1, &token);
    greeting["role"] = "monitor".into();
    let mut monitor = SessionCrawler::begin(tcp(&server), greeting);
    let id = api.submit("crawl_project");
    monitor.say("job_request", &json!({ "slots": 4 }));
    assert_eq!(monitor.expect("error")["data"]["code"], "forbidden_type");
    assert_eq!(api.job(&id)["status"], "queued");
}

#[test]
fn the_command_needs_no_server() {
    let setup = Setup::new(TestDatabase::sqlite());
    let (status, out, err) = setup.run(&["token", "create", "early"]);
    assert_eq!(status, Some(0), "{err}");
    let token = out.trim_end().to_owned();
    let server = setup
        .set("SOCKET_REQUIRE_TOKENS", "true")
        .flag("--listen")
        .flag("127.0.0.1:0")
        .start();
    SessionCrawler::begin(tcp(&server), hello_with("alpha", 1, &token));
    let (status, out, err) = server.setup().run(&["token", "list", "--database-url", "mysql://x"]);
    assert_eq!((status, out.as_str()), (Some(2), ""));
    assert!(err.contains("--database-url: database_url: "), "{err}");
}
