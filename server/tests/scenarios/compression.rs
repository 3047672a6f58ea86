//! Large lines in compressed form, where both sides agreed on it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crawlwire_persistence::testing::TestDatabase;
use crawlwire_transport::compress::{Packer, Unpacker};
use serde_json::{Value, json};

use crate::support::session::session_line;
use crate::support::{SessionCrawler, Setup, TestServer};

fn start() -> TestServer {
    Setup::new(TestDatabase::sqlite())
        .set("SOCKET_ENABLE_COMPRESSION", "true")
        .set("SOCKET_MAX_MESSAGE_SIZE", 100_000)
        .start()
}

/// A line in compressed form.
fn packed(line: &str) -> Value {
    let frame = Packer::new(0).pack(line.as_bytes()).expect("it becomes smaller");
    json!({ "encoding": "zstd", "size": line.len(), "frame": STANDARD.encode(frame) })
}

fn unpacked(message: &Value) -> Value {
    let data = &message["data"];
    assert_eq!(
        (&message["type"], &data["encoding"]),
        (&json!("compressed"), &json!("zstd"))
    );
    let frame = STANDARD
        .decode(data["frame"].as_str().expect("a frame"))
        .expect("base64");
    let size = data["size"].as_u64().expect("a size") as usize;
    let line = Unpacker::new().unpack(&frame, size, size).expect("a line");
    assert!(!line.ends_with(b"\n"));
    serde_json::from_slice(&line).expect("JSON")
}

/// The line of a checkpoint with a cursor of this many bytes.
fn checkpoint(job: &str, number: u64, bytes: usize) -> String {
    let data = json!({ "cursor": { "pages": "7 ".repeat(bytes / 2) } });
    session_line("checkpoint", Some(job), &json!({ "seq": number, "fence": 1 }), &data)
}

#[test]
fn large_lines_are_small_on_the_way() {
    let server = start();
    let api = server.api();
    let mut crawler = server.session("alpha", 1);
    assert_eq!(crawler.welcome["features"], json!(["cancel", "checkpoint", "zstd"]));
    let path = format!("group/{}", "project/".repeat(400));
    let job = api.submit_with(&json!({ "namespace_path": path, "access_token": "glpat-secret" }));
    let assignment = unpacked(&crawler.expect("compressed"));
    assert_eq!(assignment["type"], "job_assignment");
    assert_eq!(
        (&assignment["job_id"], &assignment["data"]["namespace_path"]),
        (&job["id"], &json!(path))
    );

    // The other way, and what counts is the line inside.
    let id = job["id"].as_str().expect("an id");
    let line = checkpoint(id, 1, 40_000);
    crawler.say("compressed", &packed(&line));
    assert_eq!(crawler.expect("ack")["data"]["seq"], 1);
    crawler.line.send_line(&line);
    assert_eq!(crawler.expect("ack")["data"]["seq"], 1);
    // Small ones stay as they are.
    let small = api.submit("crawl_project");
    assert_eq!(crawler.assignment().id, small);
    // What was in it comes back.
    let hello = crawler.hello.clone();
    crawler.vanish();
    let mut again = SessionCrawler::begin(server.connect(), hello);
    let assignments = [again.assignment(), again.assignment()];
    let assignment = assignments.iter().find(|assignment| assignment.id == id);
    let cursor = &assignment.expect("it is given again").data["checkpoint"];
    assert_eq!(cursor["pages"].as_str().map(str::len), Some(40_000));
}

#[test]
fn what_cannot_be_expanded_is_refused() {
    let server = start();
    let mut crawler = server.session("alpha", 1);
    let ping = session_line("ping", None, &Value::Null, &json!({ "nonce": "x".repeat(60) }));
    let nested = session_line("compressed", None, &Value::Null, &packed(&ping));
    // Longer than a line may be, and valid but for that.
    let end = json!({
        "job_type": "crawl_project", "final_counts": [], "total_duration": 1, "output_files": [],
        "summary": "7 ".repeat(100_000),
    });
    let long = session_line("job_completed", Some("x"), &json!({ "seq": 1, "fence": 1 }), &end);
    let changed = |field: &str, value: Value| {
        let mut data = packed(&ping);
        data[field] = value;
        data
    };
    for data in [
        changed("encoding", json!("gzip")),
        changed("size", json!(ping.len() + 1)),
        changed("frame", json!("no base64!")),
        changed("frame", json!(STANDARD.encode("no frame"))),
        packed(&long),
    ] {
        crawler.say("compressed", &data);
        let error = crawler.expect("error");
        assert_eq!(error["data"]["code"], "invalid_message", "{error}");
        assert_eq!(error["data"].get("seq"), None, "{error}");
    }
    // Never one in another.
    crawler.say("compressed", &packed(&nested));
    assert_eq!(crawler.expect("error")["data"]["code"], "unknown_type");
    crawler.say("compressed", &packed(&ping));
    assert_eq!(crawler.expect("pong")["data"]["nonce"], "x".repeat(60));
}

#[test]
fn nothing_is_compressed_without_being_agreed_on() {
    let server = Setup::new(TestDatabase::sqlite()).start();
    let mut crawler = server.session("alpha", 1);
    assert_eq!(crawler.welcome["features"], json!(["cancel", "checkpoint"]));
    let path = "group/".repeat(400);
    server.api().submit_with(&json!({ "namespace_path": path }));
    assert_eq!(crawler.assignment().data["namespace_path"], path);
    let ping = session_line("ping", None, &Value::Null, &json!({ "nonce": "x".repeat(60) }));
    crawler.say("compressed", &packed(&ping));
    assert_eq!(crawler.expect("error")["data"]["code"], "unknown_type");
}
