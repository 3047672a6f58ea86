//! The command line of the real binary: what it says, where, and how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_crawlwire");

/// Longer than any of these takes.
const DEADLINE: Duration = Duration::from_secs(60);

const HEARTBEAT: &str =
    r#"{"type":"heartbeat","timestamp":"t","data":{"active_jobs":1,"last_activity":"t","system_status":"idle"}}"#;
const SHUTDOWN: &str = r#"{"type":"shutdown","timestamp":"t","data":{}}"#;

/// The binary without the environment of this machine.
fn crawlwire(arguments: &[&str]) -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new(BINARY);
    command.env_clear().timeout(DEADLINE).args(arguments);
    command
}

/// How it ended, and what it said on both streams.
fn run(command: &mut assert_cmd::Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn verdicts(output: &str) -> Vec<Value> {
    output
        .lines()
        .map(|line| serde_json::from_str(line).expect("a verdict"))
        .collect()
}

#[test]
fn validate_says_how_it_went_by_its_status() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("lines.ndjson");
    std::fs::write(&file, format!("{HEARTBEAT}\n{SHUTDOWN}\n")).expect("a file");
    let path = file.to_str().expect("text");

    let (status, output, errors) = run(crawlwire(&["validate"]).write_stdin(format!("{HEARTBEAT}\n\n{HEARTBEAT}")));
    let valid = |line: u8| json!({ "line": line, "valid": true, "type": "heartbeat" });
    assert_eq!(
        (status, verdicts(&output), errors.as_str()),
        (Some(0), vec![valid(1), valid(3)], "")
    );
    assert_eq!(
        run(crawlwire(&["validate", "-"]).write_stdin("")),
        (Some(0), String::new(), String::new())
    );

    let (status, output, errors) = run(&mut crawlwire(&["validate", path]));
    let message = "not a message type of this direction";
    let invalid = json!({ "line": 2, "valid": false, "errors": [{ "path": "/type", "message": message }] });
    assert_eq!(
        (status, verdicts(&output), errors.as_str()),
        (Some(1), vec![valid(1), invalid], "")
    );
    let (status, output, _) = run(&mut crawlwire(&["validate", "--direction", "web-app", path]));
    let verdicts = verdicts(&output);
    assert_eq!(
        (status, &verdicts[0]["valid"], &verdicts[1]["valid"]),
        (Some(1), &json!(false), &json!(true))
    );

    let missing = directory.path().join("missing");
    for path in [missing.as_path(), directory.path()] {
        let (status, output, errors) = run(&mut crawlwire(&["validate", path.to_str().expect("text")]));
        assert_eq!((status, output.as_str()), (Some(2), ""));
        let expected = format!("crawlwire: cannot read {}: ", path.display());
        assert!(errors.starts_with(&expected) && errors.lines().count() == 1, "{errors}");
    }
    let (status, output, errors) = run(&mut crawlwire(&["validate", "--direction", "sideways", path]));
    assert_eq!((status, output.as_str()), (Some(2), ""));
    assert!(errors.contains("crawler") && errors.contains("web-app"), "{errors}");
}

#[derive(Deserialize)]
struct Row {
    id: String,
    direction: String,
    line: String,
    accept: bool,
}

#[test]
fn validate_gives_the_verdicts_of_the_corpus() {
    let corpus = include_str!("../../protocol/tests/fixtures/base/conformance.jsonl");
    let rows: Vec<Row> = corpus
        .lines()
        .map(|line| serde_json::from_str(line).expect("a row"))
        .collect();
    for (direction, argument) in [("crawler", "crawler"), ("web_app", "web-app")] {
        let rows: Vec<_> = rows.iter().filter(|row| row.direction == direction).collect();
        let lines: String = rows.iter().map(|row| format!("{}\n", row.line)).collect();
        let (status, output, _) = run(crawlwire(&["validate", "--direction", argument]).write_stdin(lines));
        assert_eq!(status, Some(1));
        let verdicts = verdicts(&output);
        assert_eq!(verdicts.len(), rows.len());
        assert!(rows.len() > 100);
        for (number, (row, verdict)) in rows.iter().zip(&verdicts).enumerate() {
            assert_eq!(verdict["line"], number + 1);
            assert_eq!(verdict["valid"], row.accept, "{}: {verdict}", row.id);
            assert_eq!(verdict["errors"].is_array(), !row.accept, "{}: {verdict}", row.id);
        }
    }
}

#[test]
fn validate_judges_the_session_dialect_too() {
    let corpus = include_str!("../../protocol/tests/fixtures/session/conformance.jsonl");
    let rows: Vec<Row> = corpus
        .lines()
        .map(|line| serde_json::from_str(line).expect("a row"))
        .collect();
    for (direction, argument) in [("crawler", "crawler"), ("web_app", "web-app")] {
        let rows: Vec<_> = rows.iter().filter(|row| row.direction == direction).collect();
        let lines: String = rows.iter().map(|row| format!("{}\n", row.line)).collect();
        let arguments = ["validate", "--dialect", "session", "--direction", argument];
        let (status, output, _) = run(crawlwire(&arguments).write_stdin(lines));
        assert_eq!(status, Some(1));
        let verdicts = verdicts(&output);
        assert_eq!(verdicts.len(), rows.len());
        assert!(rows.len() > 600);
        for (row, verdict) in rows.iter().zip(&verdicts) {
            assert_eq!(verdict["valid"], row.accept, "{}: {verdict}", row.id);
        }
    }
}

#[test]
fn validate_takes_lines_for_the_base_dialect_unless_told_otherwise() {
    let ping = r#"{"type":"ping","timestamp":"t","data":{}}"#;
    let resumed = r#"{"type":"job_resumed","timestamp":"t","job_id":"j","fence":-1,"data":{}}"#;
    let lines = format!("{HEARTBEAT}\n{ping}\n{resumed}\n");
    let judged = |arguments: &[&str]| {
        let (_, output, _) = run(crawlwire(arguments).write_stdin(lines.as_str()));
        verdicts(&output)
    };
    let base = judged(&["validate"]);
    assert_eq!(base, judged(&["validate", "--dialect", "base"]));
    let unknown = json!([{ "path": "/type", "message": "not a message type of this direction" }]);
    assert_eq!(
        (&base[0]["valid"], &base[1]["errors"], &base[2]["errors"]),
        (&json!(true), &unknown, &unknown)
    );
    let session = judged(&["validate", "--dialect", "session"]);
    assert_eq!(session[1], json!({ "line": 2, "valid": true, "type": "ping" }));
    let broken = json!([
        { "path": "/fence", "message": "expected 0 or more" },
        { "path": "/seq", "message": "is required" },
    ]);
    assert_eq!(session[2]["errors"], broken);

    let (status, output, errors) = run(crawlwire(&["validate", "--dialect", "latin"]).write_stdin(""));
    assert_eq!((status, output.as_str()), (Some(2), ""));
    assert!(errors.contains("base") && errors.contains("session"), "{errors}");
}

/// `validate` with open pipes.
fn validate() -> Child {
    let mut command = Command::new(BINARY);
    command
        .env_clear()
        .arg("validate")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command.spawn().expect("the binary starts")
}

#[test]
fn validate_answers_before_it_is_told_more() {
    let mut child = validate();
    let mut input = child.stdin.take().expect("it is piped");
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    for number in 1..4 {
        writeln!(input, "{HEARTBEAT}").expect("it is taken");
        let mut line = String::new();
        output.read_line(&mut line).expect("a verdict");
        assert_eq!(verdicts(&line)[0]["line"], number);
    }
    // Whoever reads may leave.
    drop(output);
    while writeln!(input, "{HEARTBEAT}").is_ok() {}
    assert_eq!(child.wait().expect("an end").code(), Some(0));
}

#[test]
fn validate_holds_no_more_than_the_longest_line() {
    let mut child = validate();
    let mut input = child.stdin.take().expect("it is piped");
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        input.write_all(&chunk).expect("it is taken");
    }
    writeln!(input, "\n{HEARTBEAT}").expect("it is taken");
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut lines = String::new();
    output.read_line(&mut lines).expect("a verdict");
    output.read_line(&mut lines).expect("a verdict");
    if let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", child.id())) {
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let most = most.and_then(|size| size.trim().trim_end_matches(" kB").parse::<u64>().ok());
        let most = most.expect("a size in kB");
        assert!(most < 64 * 1024, "{most} kB were held");
    }
    drop(input);
    output.read_to_string(&mut lines).expect("the end");
    let verdicts = verdicts(&lines);
    assert_eq!(verdicts.len(), 2);
    assert_eq!(verdicts[0]["errors"][0]["message"], "longer than 16777216 bytes");
    assert_eq!((&verdicts[1]["line"], &verdicts[1]["valid"]), (&json!(2), &json!(true)));
    assert_eq!(child.wait().expect("an end").code(), Some(1));
}

/// A server that must not start, in a directory where it must leave nothing behind.
#[track_caller]
fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = crawlwire(arguments);
    command
        .current_dir(directory.path())
        .env("TMPDIR", directory.path())
        .env("HOME", directory.path());
    let (status, output, errors) = run(command.envs(environment.iter().copied()));
    assert_eq!((status, output.as_str()), (Some(2), ""), "{errors}");
    assert_eq!(entries(directory.path()), 0, "something was made");
    errors
}

fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).expect("a directory").count()
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let errors = refused(
        &[
            "--listen",
            "0.0.0.0:8080",
            "--http",
            "nowhere",
            "--log-level",
            "loud",
            "--config",
            "missing.toml",
        ],
        &[
            ("SOCKET_MAX_CONNECTIONS", "many"),
            ("SOCKET_HEARTBEAT_INTERVAL", "10s"),
            ("SOCKET_HEARTBEAT_TIMEOUT", "1"),
            ("SOCKET_MODE", "0888"),
            ("SOCKET_MESSAGE_DELIMITER", ";"),
            ("DATABASE_URL", "mysql://root:hunter2@h/d"),
            ("SOCKET_MAX_CONECTIONS", "5"),
            ("NODE_ENV", "staging"),
        ],
    );
    for part in [
        "error: --listen: host: ",
        "error: --http: http_addr: ",
        "error: --log-level: log_level: ",
        "error: --config: cannot read missing.toml: ",
        "error: SOCKET_MAX_CONNECTIONS: max_connections: ",
        "error: SOCKET_HEARTBEAT_INTERVAL: heartbeat_interval_ms: ",
        "error: SOCKET_HEARTBEAT_TIMEOUT: heartbeat_timeout_ms: ",
        "error: SOCKET_MODE: socket_mode: ",
        "error: SOCKET_MESSAGE_DELIMITER: message_delimiter: ",
        "error: DATABASE_URL: database_url: ",
        "error: NODE_ENV: profile: ",
        "SOCKET_MAX_CONNECTIONS",
    ] {
        assert!(errors.contains(part), "{part} is missing in {errors}");
    }
    assert!(errors.contains("warning: SOCKET_MAX_CONECTIONS: "), "{errors}");
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn what_is_no_command_line_is_refused() {
    for arguments in [
        &["--sokcet", "/x"][..],
        &["fly"],
        &["--socket"],
        &["--socket", "/a", "--socket", "/b"],
    ] {
        let errors = refused(arguments, &[]);
        assert!(errors.contains("--help"), "{errors}");
    }
    let long = "x".repeat(120);
    assert!(refused(&["--socket", &long], &[]).contains("--socket: socket_path: "));
    for host in [
        "0.0.0.0:1",
        "192.168.1.1:80",
        "example.com:80",
        "[::]:80",
        "tcp://10.0.0.1:80",
    ] {
        assert!(refused(&["--listen", host], &[]).contains("--listen: host: "), "{host}");
    }
    let (status, output, _) = run(&mut crawlwire(&["--help"]));
    assert!(
        status == Some(0) && output.contains("--database-url") && output.contains("Exit status"),
        "{output}"
    );
    let (status, output, _) = run(&mut crawlwire(&["--version"]));
    assert_eq!(
        (status, output),
        (Some(0), format!("crawlwire {}\n", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn config_shows_what_would_be_in_force() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = directory.path().join("url");
    std::fs::write(&url, "postgres://me:hunter2@db.example.com/crawl\n").expect("a file");
    let mut command = crawlwire(&["config", "--profile", "production", "--http", "127.0.0.1:1"]);
    command
        .env("DATABASE_URL_FILE", &url)
        .env("SOCKET_MAX_CONNECTIONS", "7")
        .env("SOCKET_FOO", "1");
    let (status, output, errors) = run(command.env("HOME", directory.path()));
    assert_eq!(status, Some(0), "{errors}");
    for part in [
        "max_connections = 7  # SOCKET_MAX_CONNECTIONS\n",
        "http_addr = \"127.0.0.1:1\"  # --http\n",
        "heartbeat_interval_ms = 60000  # profile production\n",
        "postgres://me:***@db.example.com/crawl",
    ] {
        assert!(output.contains(part), "{part} is missing in {output}");
    }
    assert!(!output.contains("hunter2") && !errors.contains("hunter2"));
    assert!(errors.contains("warning: SOCKET_FOO: "), "{errors}");
    assert_eq!(entries(directory.path()), 1, "nothing was made");

    // What it shows is a file that gives the same.
    let file = directory.path().join("c.toml");
    std::fs::write(&file, &output).expect("a file");
    let mut command = crawlwire(&["config", "--config", file.to_str().expect("text")]);
    let (status, again, errors) = run(command.env("DATABASE_URL_FILE", &url));
    assert_eq!(status, Some(0), "{errors}");
    let values = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.rsplit_once("  # ").expect("an origin").0.to_owned())
            .collect()
    };
    assert_eq!(values(&again), values(&output));
}
