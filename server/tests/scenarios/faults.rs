//! Crawlers that say what they should not, or nothing, or do not listen.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use crawlwire_protocol::{CrawlerMessage, Decoded, Dialect, decode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::crawler::message;
use crate::support::{Api, Crawler, Setup, on_both_databases, pause, wait_until};

on_both_databases!(
    a_bad_line_is_explained_and_costs_nothing_else,
    hostile_words_in_good_messages_harm_nobody,
    the_corpus_gets_its_verdicts,
);

/// Must be seen nowhere.
const MARKER: &str = "glpat-MARKER-7f3a";

/// Waits until the error log has this many entries; all of them, oldest first.
#[track_caller]
fn await_errors(api: &Api, count: usize) -> Vec<Value> {
    let mut errors = wait_until("the errors are logged", || {
        let errors = api.all("/api/v1/errors?limit=500");
        (errors.len() >= count).then_some(errors)
    });
    errors.reverse();
    assert_eq!(errors.len(), count, "{errors:#?}");
    errors
}

/// Bad lines, the category of each, and a part of what is said of it.
fn bad_lines() -> [(Vec<u8>, &'static str, &'static str); 8] {
    let heartbeat = |data: Value| message("heartbeat", None, &data);
    let long = heartbeat(json!({ "active_jobs": 0, "last_activity": MARKER.repeat(500), "system_status": "idle" }));
    let failed = json!({ "job_type": "x", "error_context": { "error_message": MARKER, "retry_count": MARKER } });
    [
        (
            format!(r#"{{"type":"heartbeat","data":"{MARKER}"#).into(),
            "message_parsing",
            "JSON",
        ),
        (format!("\u{feff}{MARKER}").into(), "message_parsing", "JSON"),
        (
            [b"{\"x\":\"\xff", MARKER.as_bytes(), b"\"}"].concat(),
            "message_parsing",
            "UTF-8",
        ),
        (
            heartbeat(json!({ "active_jobs": MARKER, "last_activity": "t", "system_status": MARKER })).into(),
            "message_validation",
            "/data/active_jobs: ",
        ),
        (
            message("job_failed", Some("j"), &failed).into(),
            "message_validation",
            "/data/error_context/retry_count: ",
        ),
        (
            message("job_completed", None, &json!({})).into(),
            "message_validation",
            "/data/final_counts: is required",
        ),
        (
            message("no_such_type", None, &json!({ "x": MARKER })).into(),
            "message_validation",
            "nobody handles",
        ),
        (long.into(), "message_validation", "2049 bytes or more"),
    ]
}

fn a_bad_line_is_explained_and_costs_nothing_else(database: TestDatabase) {
    let server = Setup::new(database).set("SOCKET_MAX_MESSAGE_SIZE", 2048).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let lines = bad_lines();
    for (line, ..) in &lines {
        crawler.send_bytes(&[line, b"\n".as_slice()].concat());
    }
    let errors = await_errors(&api, lines.len());
    for (error, (_, category, part)) in errors.iter().zip(&lines) {
        assert_eq!(
            (&error["category"], &error["severity"]),
            (&json!(category), &json!("low")),
            "{error}"
        );
        assert!(
            error["message"].as_str().expect("a message").contains(part),
            "{part} is not in {error}"
        );
        assert_eq!(error["connection"], crawler.name);
        assert!(error["code"].is_string() && error["at"].is_string());
    }
    assert!(!json!(errors).to_string().contains(MARKER));
    assert!(!server.log().contains(MARKER));

    let job = api.submit("crawl_user");
    assert_eq!(crawler.assignment().id, job, "it is as good as before");
    assert!(api.job(&job)["attempt"] == 0);
}

#[test]
fn a_line_that_is_too_long_has_no_number_and_the_next_one_meets_a_gap() {
    let server = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_MAX_MESSAGE_SIZE", 2048)
        .start();
    server.api().submit("crawl_project");
    let mut crawler = server.session("alpha", 1);
    let job = crawler.assignment();
    crawler.started(&job);
    crawler.settle();
    crawler.checkpoint(&job, &json!({ "pages": "7".repeat(3000) }));
    let error = crawler.expect("error")["data"].clone();
    assert_eq!((&error["code"], error.get("seq")), (&json!("line_too_long"), None));
    assert_eq!(error["retryable"], false);
    let next = crawler.checkpoint(&job, &json!({ "page": 8 }));
    let error = crawler.expect("error")["data"].clone();
    assert_eq!(
        (&error["code"], &error["seq"], &error["retryable"]),
        (&json!("sequence_gap"), &json!(next), &json!(true))
    );
    // Going back is all that helps, here with a line that can be settled.
    let (_, too_long) = crawler.outbox.pop_front().expect("it is not settled");
    crawler.line.send_line(&too_long.replace("7777777777", ""));
    let (_, again) = crawler.outbox.front().expect("nor is this one").clone();
    crawler.line.send_line(&again);
    crawler.settle();
}

const NASTY: &str = "a\u{0}b\u{202e}<script>\u{1b}[31m\u{10ffff}";

/// Messages about a job that is not there.
fn speak_of_nothing(crawler: &mut Crawler, job: &str) {
    let count = json!({ "entity_type": NASTY, "total_discovered": i64::MAX, "total_processed": 0 });
    for (type_name, data) in [
        ("job_started", json!({ "job_type": NASTY })),
        (
            "job_progress",
            json!({ "progress": [count], "overall_completion": 1, "time_elapsed": 1e308 }),
        ),
        (
            "jobs_discovered",
            json!({ "discovered_jobs": [], "discovery_summary": {} }),
        ),
        (
            "token_refresh_request",
            json!({ "current_token_expired": true, "error_details": NASTY }),
        ),
    ] {
        crawler.say(type_name, Some(job), &data);
    }
}

fn nasty_item(entity: &str) -> Value {
    json!({
        "job_type": "crawl_user", "entity_id": entity, "namespace_path": NASTY, "entity_name": NASTY,
        "priority": -1e308, "estimated_size": { NASTY: 1e308 },
    })
}

fn hostile_words_in_good_messages_harm_nobody(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let (mut crawler, mut other) = (server.crawler(), server.crawler());
    let jobs = [api.submit("discover_namespaces"), api.submit("discover_namespaces")];
    let mut given = [crawler.assignment().id, other.assignment().id];
    let [mine, others] = given.clone();
    given.sort();
    assert_eq!(given, jobs);

    for job in ["\u{0}", NASTY, "' OR 1=1 --", &"x".repeat(100_000)] {
        speak_of_nothing(&mut crawler, job);
    }
    let count = json!({
        "entity_type": NASTY, "total_discovered": i64::MAX, "total_processed": i64::MAX, "sub_collection": NASTY,
        "estimated_remaining": -1e308,
    });
    let progress = json!({ "progress": vec![count.clone(); 50], "overall_completion": 1, "time_elapsed": 1e308 });
    crawler.say("job_progress", Some(&mine), &progress);
    let items = [NASTY, "", "u1"].map(nasty_item);
    let items = json!({ "discovered_jobs": items, "discovery_summary": {} });
    crawler.say("jobs_discovered", Some(&mine), &items);
    other.discovered(&others, &[("crawl_project", "p1")]);
    other.completed(&others);
    api.await_status(&others, "completed");
    let error = json!({
        "error_type": NASTY, "error_message": NASTY, "stack_trace": NASTY, "is_recoverable": false,
        "request_details": { "url": NASTY, "status_code": 1e308, "response_headers": { NASTY: NASTY } },
    });
    crawler.say(
        "job_failed",
        Some(&mine),
        &json!({
            "job_type": NASTY, "error_context": error, "partial_results": [count], "recovery_suggestion": NASTY,
        }),
    );
    let ended = api.await_status(&mine, "failed");
    assert_eq!(ended["error"]["error_message"], NASTY);
    let children = api.all(&format!("/api/v1/jobs/{mine}/children"));
    assert_eq!(children.len(), 3, "each item became a job");
    api.get(&format!("/api/v1/jobs/{mine}/progress")).ok();
    let failed = |error: &Value| error["code"] == "job_failed" && error["job_id"] == mine;
    wait_until("the failure is logged", || {
        api.all("/api/v1/errors").iter().any(failed).then_some(())
    });
    let log = server.log();
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    assert!(
        !log.contains('\u{1b}') && !log.contains('\u{202e}'),
        "control characters reach the log"
    );
}

#[derive(Deserialize)]
struct Row {
    direction: String,
    line: String,
    accept: bool,
}

/// Messages of unknown types that are logged for one connection.
const UNKNOWN_LOGGED: usize = 20;

/// Lines of the protocol's conformance corpus.
const CORPUS: &str = include_str!("../../../protocol/tests/fixtures/base/conformance.jsonl");

fn the_corpus_gets_its_verdicts(database: TestDatabase) {
    let server = Setup::new(database)
        .set("SOCKET_MAX_INVALID_MESSAGES", 1_000_000)
        .start();
    let api = server.api();
    let mut crawler = server.crawler();
    let rows = CORPUS
        .lines()
        .map(|line| serde_json::from_str::<Row>(line).expect("a row of the corpus"));
    let rows: Vec<_> = rows.filter(|row| row.direction == "crawler").collect();
    for row in &rows {
        crawler.send_bytes(format!("{}\n", row.line).as_bytes());
    }
    // A type that nobody knows is a message all the same; only the first few of a connection are logged.
    let unknown = |row: &&Row| {
        matches!(
            decode::<CrawlerMessage>(row.line.as_bytes(), Dialect::Base),
            Ok(Decoded::Custom(_))
        )
    };
    let (unknown, bad): (Vec<_>, Vec<_>) = rows.iter().filter(|row| !row.accept).partition(|row| unknown(row));
    assert!(bad.len() > 300 && unknown.len() > UNKNOWN_LOGGED);
    let errors = await_errors(&api, bad.len() + UNKNOWN_LOGGED);
    let logged = errors.iter().filter(|error| error["code"] == "unknown_type");
    assert_eq!(logged.count(), UNKNOWN_LOGGED);
    let job = api.submit("crawl_user");
    assert_eq!(crawler.assignment().id, job);
}

#[test]
fn too_many_bad_lines_close_the_connection() {
    let server = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_MAX_INVALID_MESSAGES", 3)
        .start();
    let api = server.api();
    let (mut bad, mut good) = (server.crawler(), server.crawler());
    bad.send_bytes(b"{}\n[]\n");
    bad.settle(&api);
    bad.send_bytes(b"x\n");
    bad.await_end();
    wait_until("the log says why", || {
        server.log().contains(r#"reason="too_many_errors""#).then_some(())
    });
    let job = api.submit("crawl_user");
    assert_eq!(good.assignment().id, job);
    assert_eq!(api.crawlers().len(), 1);
    // It may come again.
    assert_eq!(server.crawler().settle(&api)["state"], "active");
}

#[test]
fn whoever_does_not_finish_a_line_is_cut_off() {
    let server = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_CONNECTION_TIMEOUT", 300)
        .set("SOCKET_PARTIAL_LINE_TIMEOUT", 300)
        .start();
    let api = server.api();
    let (mut first, mut later, mut quiet) = (server.connect(), server.crawler(), server.crawler());
    first.send_bytes(br#"{"type":"#);
    later.send_bytes(br#"{"type":"#);
    first.await_end();
    later.await_end();
    let log = wait_until("the log says why", || {
        Some(server.log()).filter(|log| log.contains("first_line_timeout") && log.contains("partial_line_timeout"))
    });
    assert!(log.contains("disconnected"));
    // Silence between lines is a matter of heartbeats.
    let job = api.submit("crawl_user");
    assert_eq!(quiet.assignment().id, job);
}

#[test]
fn whoever_says_nothing_at_all_is_cut_off() {
    let server = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_CONNECTION_TIMEOUT", 300)
        .start();
    let mut silent = server.connect();
    silent.await_end();
    wait_until("the log says why", || {
        server.log().contains("first_line_timeout").then_some(())
    });
    // White space is no message.
    let mut blank = server.connect();
    blank.send_bytes(b"\n \r\n\n");
    blank.await_end();
}

#[test]
fn no_more_connections_than_allowed() {
    let server = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_MAX_CONNECTIONS", 2)
        .start();
    let api = server.api();
    let (first, mut second) = (server.crawler(), server.crawler());
    server.connect().await_end();
    assert!(server.log().contains(r#"reason="connection_limit""#));
    let job = api.submit("crawl_user");
    drop(first);
    wait_until("there is room", || (api.crawlers().len() < 2).then_some(()));
    assert!(server.crawler().try_recv().is_none_or(|it| it["job_id"] == job));
    second.settle(&api);
}

#[test]
fn a_crawler_that_does_not_read_slows_nobody() {
    let setup = Setup::new(TestDatabase::sqlite()).set("SOCKET_CONNECTION_TIMEOUT", 500);
    let setup = setup
        .set("SOCKET_MAX_CONCURRENT_JOBS", 1)
        .set("SOCKET_LOG_LEVEL", "info");
    let server = setup.start();
    let api = server.api();
    let deaf = UnixStream::connect(server.socket()).expect("the server listens");
    let heartbeat = json!({ "active_jobs": 0, "last_activity": "t", "system_status": "idle" });
    writeln!(&deaf, "{}", message("heartbeat", None, &heartbeat)).expect("it is taken");
    let job = api.submit("crawl_user");
    api.await_status(&job, "assigned");

    // Each of these is answered, and nobody reads the answers.
    let request = message(
        "token_refresh_request",
        Some(&job),
        &json!({ "current_token_expired": true }),
    );
    let flood = std::thread::spawn(move || {
        let many = format!("{request}\n").repeat(100);
        let mut said = 0;
        while (&deaf).write_all(many.as_bytes()).is_ok() {
            said += 100;
        }
        // What was under way is still there to be read, and then the end.
        deaf.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let read = (&deaf).read_to_end(&mut Vec::new()).is_ok();
        (said, read)
    });
    let mut other = server.crawler();
    for _ in 0..20 {
        let job = api.submit("crawl_project");
        assert_eq!(other.assignment().id, job);
        other.completed(&job);
        api.await_status(&job, "completed");
    }
    let (said, ended) = flood.join().expect("an end");
    assert!(said > 1000 && ended);
    wait_until("the log says why", || {
        server.log().contains(r#"reason="slow_consumer""#).then_some(())
    });
}

#[test]
fn a_flood_of_connections_leaves_the_server_well() {
    let server = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_MAX_CONNECTIONS", 5)
        .start();
    let api = server.api();
    for _ in 0..200 {
        let mut crawler = server.connect();
        crawler.send_bytes(b"{\"type\":\"heart");
    }
    pause(Duration::from_millis(50));
    wait_until("all have gone", || {
        (api.get("/health/socket").ok()["connections"] == 0).then_some(())
    });
    let job = api.submit("crawl_user");
    let mut crawler: Crawler = server.crawler();
    assert_eq!(crawler.assignment().id, job);
}
