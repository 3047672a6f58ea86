//! The base protocol, byte by byte. What crawlers say and hear was recorded before the session protocol was there, and
//! stays as it is.

use std::collections::BTreeMap;

use crawlwire_persistence::testing::TestDatabase;
use serde_json::Value;

use crate::support::{Crawler, Setup, TestServer, on_both_databases, wait_until};

on_both_databases!(
    a_base_crawler_hears_what_it_always_heard,
    a_silent_start_changes_nothing,
);

/// A life: `>` before what the crawler says, `<` before what it hears, `submit` before what the web app asks for. Names in
/// braces stand for what differs from run to run.
const LIFE: &str = include_str!("../fixtures/base_life.txt");

/// What the file calls jobs, in the order they are submitted or handed over.
const JOBS: [&str; 3] = ["{first}", "{other}", "{child}"];

fn a_base_crawler_hears_what_it_always_heard(database: TestDatabase) {
    let mut server = start(database);
    let mut crawler = server.connect();
    live(&mut server, &mut crawler);
}

/// Who says nothing at first is a base crawler too.
fn a_silent_start_changes_nothing(database: TestDatabase) {
    let mut server = start(database);
    let mut crawler = server.connect();
    let api = server.api();
    wait_until("it is taken for a base crawler", || {
        let listed = api.all("/api/v1/connections");
        (listed.first()?["dialect"] == "base").then_some(())
    });
    assert!(crawler.try_recv().is_none());
    live(&mut server, &mut crawler);
}

fn start(database: TestDatabase) -> TestServer {
    Setup::new(database)
        .set("SOCKET_MAX_CONCURRENT_JOBS", 1)
        .set("SOCKET_RETRY_DELAY", 10)
        .set("SOCKET_HELLO_TIMEOUT", 100)
        // A session would be pinged.
        .set("SOCKET_HEARTBEAT_INTERVAL", 50)
        .start()
}

/// Plays the life from its first line to the end of the server.
#[track_caller]
fn live(server: &mut TestServer, crawler: &mut Crawler) {
    let api = server.api();
    let mut names = BTreeMap::new();
    for line in LIFE.lines() {
        if let Some(said) = line.strip_prefix("> ") {
            crawler.send_line(&with_ids(said, &names));
        } else if let Some(expected) = line.strip_prefix("< ") {
            let heard = crawler.recv_line().expect("a line, and not the end");
            learn(&heard, expected, &mut names);
            assert_eq!(without_what_differs(&heard, &names), expected);
        } else if let Some(job) = line.strip_prefix("submit ") {
            let submitted = api.submit_with(&serde_json::from_str(job).expect("a job"));
            let id = submitted["id"].as_str().expect("an id").to_owned();
            names.insert(JOBS[names.len()], id);
        } else {
            assert_eq!(line, "stop");
            for id in names.values() {
                api.await_status(id, "completed");
            }
            server.signal("TERM");
        }
    }
    assert!(crawler.recv_line().is_none(), "and nothing else");
    let (status, _) = server.ended();
    assert_eq!(status.code(), Some(0));
}

fn with_ids(line: &str, names: &BTreeMap<&str, String>) -> String {
    names
        .iter()
        .fold(line.to_owned(), |line, (name, id)| line.replace(name, id))
}

/// A job that the server made gets its name when it is first heard of.
fn learn(heard: &str, expected: &str, names: &mut BTreeMap<&str, String>) {
    let message: Value = serde_json::from_str(heard).expect("the server speaks JSON");
    let unknown = JOBS
        .iter()
        .find(|name| expected.contains(**name) && !names.contains_key(**name));
    if let (Some(name), Some(id)) = (unknown, message["job_id"].as_str()) {
        names.insert(name, id.to_owned());
    }
}

fn without_what_differs(heard: &str, names: &BTreeMap<&str, String>) -> String {
    let mut line = names
        .iter()
        .fold(heard.to_owned(), |line, (name, id)| line.replace(id, name));
    let marker = r#""timestamp":""#;
    let from = line.find(marker).expect("a timestamp") + marker.len();
    let to = from + line[from..].find('"').expect("its end");
    line.replace_range(from..to, "{time}");
    line
}
