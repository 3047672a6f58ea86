//! The example crawler in Python: a stranger to this code, written from the pages of the protocol alone.

#[expect(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "these tests need only a part of it"
)]
mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crawlwire_persistence::testing::TestDatabase;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::server::signal;
use crate::support::{DEADLINE, Setup, TestServer, wait_until};

/// Steps of a job; each step of a discovery finds a child.
const STEPS: u64 = 40;

/// The program, where Python can run it.
fn program() -> PathBuf {
    let version = Command::new("python3")
        .args(["-c", "import sys; sys.exit(sys.version_info < (3, 11))"])
        .status();
    assert!(
        version.is_ok_and(|status| status.success()),
        "these tests need python3 on the PATH, 3.11 or later: on Debian and Ubuntu, apt-get install python3"
    );
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/examples/crawler.py")
}

/// The example crawler at work. Dropped, it is killed; its log is shown when the test has failed.
struct Python {
    child: Child,
    log: PathBuf,
}

impl Python {
    /// One job at a time, in short steps.
    fn start(dir: &Path, server: &str, arguments: &[&str]) -> Self {
        Self::spawn(dir, server, |command| command.args(arguments))
    }

    fn spawn(dir: &Path, server: &str, with: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let log = dir.join("crawler.log");
        let file = File::options().create(true).append(true).open(&log).expect("a file");
        let mut command = Command::new("python3");
        command
            .arg(program())
            .args(["--slots", "1", "--step-ms", "40", "--steps", &STEPS.to_string()])
            .env_remove("CRAWLER_TOKEN")
            .current_dir(dir)
            .stdin(Stdio::null())
            .stderr(file);
        let child = with(&mut command).arg(server).spawn().expect("it starts");
        Self { child, log }
    }

    /// On the Unix socket of a server, in its directory.
    fn on(server: &TestServer, arguments: &[&str]) -> Self {
        let address = format!("unix://{}", server.socket().display());
        Self::start(server.dir(), &address, arguments)
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The steps at which work on a job began, by all processes of this directory.
    fn beginnings(&self, id: &str) -> Vec<u64> {
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains(id));
        let steps = lines.filter_map(|line| line.split_once(" from step "));
        steps.map(|(_, step)| step.parse().expect("a number")).collect()
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn ended(&mut self) -> Option<i32> {
        wait_until("the crawler ends", || self.child.try_wait().expect("a child")).code()
    }
}

impl Drop for Python {
    #[expect(clippy::print_stderr, reason = "this is where one looks when a test has failed")]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of the crawler\n{}---", self.log());
        }
    }
}

fn server() -> TestServer {
    Setup::new(TestDatabase::sqlite()).start()
}

/// Submits a discovery, more urgent than its children; its id.
fn discovery(server: &TestServer) -> String {
    let job = server
        .api()
        .submit_with(&json!({ "job_type": "discover_namespaces", "priority": 9 }));
    job["id"].as_str().expect("an id").to_owned()
}

/// Waits until a job has found some of its children, and not all; each stands for a step.
#[track_caller]
fn await_middle(server: &TestServer, id: &str) {
    let found = wait_until("the job is under way", || {
        server.api().job(id)["children"].as_u64().filter(|found| *found >= 3)
    });
    assert!(found < STEPS, "it was too fast");
}

/// Checks that a discovery ended well, in this attempt and under this lease, and found everything once.
#[track_caller]
fn check_whole(server: &TestServer, id: &str, attempt: u64, fence: u64) {
    let job = server.api().await_status(id, "completed");
    assert_eq!(
        (&job["attempt"], &job["fence"], &job["children"]),
        (&json!(attempt), &json!(fence), &json!(STEPS))
    );
    assert_eq!(job["result"]["summary"], format!("{STEPS} steps"));
}

#[test]
fn jobs_of_each_kind_are_done_and_children_follow() {
    let server = server();
    let api = server.api();
    let _crawler = Python::on(&server, &["--slots", "4", "--step-ms", "5", "--steps", "6"]);
    let kinds = ["discover_namespaces", "crawl_user", "crawl_group", "crawl_project"];
    let ids = kinds.map(|kind| api.submit(kind));
    for id in &ids {
        api.await_status(id, "completed");
        assert_eq!(api.arrows(id), ["submit", "claim", "start", "finish"]);
    }
    let children = api.all(&format!("/api/v1/jobs/{}/children", ids[0]));
    assert_eq!(children.len(), 6);
    for child in children {
        api.await_status(child["id"].as_str().expect("an id"), "completed");
    }
    let progress = api.get(&format!("/api/v1/jobs/{}/progress", ids[1])).ok();
    assert_eq!(progress["entities"][0]["total_processed"], 6);
    assert_eq!(server.api().all("/api/v1/errors"), Vec::<Value>::new());
}

#[test]
fn a_killed_crawler_goes_on_at_its_checkpoint() {
    let server = server();
    let id = discovery(&server);
    let state = ["--state", "crawler.state"];
    let mut crawler = Python::on(&server, &state);
    await_middle(&server, &id);
    crawler.kill();
    let crawler = Python::on(&server, &state);
    check_whole(&server, &id, 1, 1);
    let beginnings = crawler.beginnings(&id);
    assert!(matches!(beginnings[..], [0, again] if again >= 2), "{beginnings:?}");
    assert_eq!(server.api().arrows(&id), ["submit", "claim", "start", "finish"]);
}

#[test]
fn a_killed_server_costs_no_attempt() {
    let mut server = server();
    let id = discovery(&server);
    let crawler = Python::on(&server, &[]);
    await_middle(&server, &id);
    server.kill();
    server.start();
    check_whole(&server, &id, 1, 1);
    assert_eq!(crawler.beginnings(&id), [0], "it did not go on meanwhile");
}

#[test]
fn a_server_that_stops_says_when_to_come_back() {
    let mut server = server();
    let id = discovery(&server);
    let crawler = Python::on(&server, &[]);
    await_middle(&server, &id);
    server.stop("TERM");
    server.start();
    check_whole(&server, &id, 1, 1);
    assert_eq!(crawler.beginnings(&id), [0], "it did not go on meanwhile");
    let log = crawler.log();
    for said in ["the server stops soon", "goodbye: server_shutdown"] {
        assert!(log.contains(said), "not told: {said}");
    }
}

#[test]
fn a_wish_is_confirmed() {
    let server = server();
    let api = server.api();
    let crawler = Python::on(&server, &["--slots", "2"]);
    let cancelled = discovery(&server);
    await_middle(&server, &cancelled);
    api.act(&cancelled, "cancel", &json!({})).ok();
    api.await_status(&cancelled, "cancelled");
    assert_eq!(api.arrows(&cancelled)[2..], ["start", "want_cancel", "confirm"]);

    let paused = &discovery(&server);
    await_middle(&server, paused);
    api.act(paused, "pause", &json!({})).ok();
    api.await_status(paused, "paused");
    assert_eq!(api.arrows(paused)[2..], ["start", "want_pause", "confirm"]);
    api.act(paused, "resume", &json!({})).ok();
    let job = api.await_status(paused, "completed");
    assert_eq!((&job["failures"], &job["children"]), (&json!(0), &json!(STEPS)));
    let beginnings = crawler.beginnings(paused);
    assert!(matches!(beginnings[..], [0, again] if again >= 2), "{beginnings:?}");
}

#[test]
fn a_stopped_crawler_gives_back_what_it_holds() {
    let server = server();
    let api = server.api();
    let id = discovery(&server);
    let mut crawler = Python::on(&server, &[]);
    await_middle(&server, &id);
    signal(&crawler.child, "TERM");
    assert_eq!(crawler.ended(), Some(0));
    let job = api.job(&id);
    assert_eq!((&job["status"], &job["failures"]), (&json!("queued"), &json!(0)));
    assert_eq!(api.arrows(&id), ["submit", "claim", "start", "return"]);
    let closed = api.get("/api/v1/connections/closed").ok();
    assert_eq!(closed["items"][0]["reason"], "goodbye", "{closed}");
    // Somebody else goes on where it was.
    let next = Python::on(&server, &["--slots", "8", "--step-ms", "5"]);
    let job = api.await_status(&id, "completed");
    assert_eq!((&job["failures"], &job["children"]), (&json!(0), &json!(STEPS)));
    let beginnings = next.beginnings(&id);
    assert!(matches!(beginnings[..], [0, again] if again >= 2), "{beginnings:?}");
}

#[test]
fn a_failed_job_is_tried_again() {
    let server = Setup::new(TestDatabase::sqlite()).set("SOCKET_RETRY_DELAY", 10).start();
    let api = server.api();
    let crawler = Python::on(&server, &["--fail-every", "2", "--steps", "6"]);
    let (_, second) = (api.submit("crawl_user"), api.submit("crawl_user"));
    let job = api.await_status(&second, "completed");
    assert_eq!((&job["failures"], &job["attempt"]), (&json!(1), &json!(2)));
    assert_eq!(crawler.beginnings(&second), [0, 3]);
}

#[test]
fn from_afar_it_shows_a_token_over_tls() {
    let setup = Setup::new(TestDatabase::sqlite()).flag("--listen").flag("0.0.0.0:0");
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    fs::write(setup.dir().join("server.pem"), cert.pem()).expect("a file");
    fs::write(setup.dir().join("server.key"), signing_key.serialize_pem()).expect("a file");
    let setup = setup
        .set("SOCKET_TLS_CERT_FILE", "server.pem")
        .set("SOCKET_TLS_KEY_FILE", "server.key");
    let server = setup.start();
    let address = format!("tcp://localhost:{}", server.tcp.expect("it listens on TCP").port());
    let (status, token, errors) = server.setup().run(&["token", "create", "python"]);
    assert_eq!(status, Some(0), "{errors}");
    let arguments = ["--tls", "--ca", "server.pem", "--steps", "2"];
    let id = server.api().submit("crawl_user");
    let mut crawler = Python::spawn(server.dir(), &address, |command| {
        command.args(arguments).env("CRAWLER_TOKEN", token.trim_end())
    });
    server.api().await_status(&id, "completed");
    crawler.kill();
    // Nobody is let in without one, and a crawler that is told so does not come again.
    let mut stranger = Python::start(server.dir(), &address, &arguments);
    assert_eq!(stranger.ended(), Some(1));
    assert!(
        stranger.log().contains("refused: authentication_required"),
        "{}",
        stranger.log()
    );
    assert!(!stranger.log().contains(token.trim_end()), "it tells the token");
}

/// A server that says what a test wants.
struct Script {
    dir: TempDir,
    listener: UnixListener,
}

/// One connection to it.
struct Line {
    lines: BufReader<UnixStream>,
}

impl Script {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let listener = UnixListener::bind(dir.path().join("socket")).expect("a socket");
        Self { dir, listener }
    }

    fn crawler(&self, arguments: &[&str]) -> Python {
        let address = format!("unix://{}/socket", self.dir.path().display());
        Python::start(self.dir.path(), &address, arguments)
    }

    /// Takes a connection; what its hello says.
    #[track_caller]
    fn accept(&self) -> (Line, Value) {
        let (stream, _) = self.listener.accept().expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let mut line = Line {
            lines: BufReader::new(stream),
        };
        let (hello, _) = line.next();
        assert_eq!(hello["type"], "hello");
        (line, hello["data"].clone())
    }
}

impl Line {
    /// The next message, and its bytes.
    #[track_caller]
    fn next(&mut self) -> (Value, String) {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line in time");
        (serde_json::from_str(&line).expect("JSON"), line)
    }

    /// The next message with a number, which this must be; its bytes.
    #[track_caller]
    fn lasting(&mut self, seq: u64) -> String {
        loop {
            let (message, line) = self.next();
            if let Some(number) = message.get("seq") {
                assert_eq!(*number, seq, "{line}");
                return line;
            }
        }
    }

    /// The next heartbeat, with no numbered message before it.
    #[track_caller]
    fn heartbeat(&mut self) -> Value {
        loop {
            let (message, line) = self.next();
            assert_eq!(message.get("seq"), None, "{line}");
            if message["type"] == "heartbeat" {
                return message["data"].clone();
            }
        }
    }

    fn say(&mut self, mut message: Value) {
        message["timestamp"] = json!("2026-11-21T10:30:00Z");
        writeln!(self.lines.get_mut(), "{message}").expect("it is taken");
    }

    fn welcome(&mut self, high_water: u64, leases: &Value) {
        self.say(json!({ "type": "welcome", "data": {
            "version": 1, "features": ["cancel", "checkpoint"], "session_id": "s",
            "server": { "name": "script", "version": "1" },
            "heartbeat_interval_ms": 100, "heartbeat_timeout_ms": 20_000, "lease_ms": 20_000,
            "max_message_size_bytes": 1_048_576, "max_in_flight": 3, "max_in_flight_bytes": 1_048_576,
            "report_policy": { "progress_interval_ms": 0 }, "server_time": "2026-11-21T10:30:00Z",
            "high_water_seq": high_water, "leases": leases,
        } }));
    }

    fn refuse(&mut self, seq: u64, code: &str, retryable: bool) {
        self.say(json!({ "type": "error", "job_id": "j", "data": {
            "seq": seq, "code": code, "category": "job_processing", "severity": "low", "message": code,
            "retryable": retryable, "retry_after_ms": 50,
        } }));
    }

    /// Assigns a job, under a fence or by the base protocol.
    fn assign(&mut self, fence: Option<u64>) {
        let data = json!({ "job_id": "j", "job_type": "crawl_user", "gitlab_host": "h", "access_token": "glpat-x" });
        let mut message = json!({ "type": "job_assignment", "job_id": "j", "data": data });
        if let Some(fence) = fence {
            message["fence"] = json!(fence);
        }
        self.say(message);
    }
}

#[test]
fn it_goes_back_and_sends_the_same_bytes() {
    let script = Script::new();
    let _crawler = script.crawler(&[]);
    let (mut line, hello) = script.accept();
    assert_eq!((&hello["holds"], &hello["token"]), (&json!([]), &Value::Null));
    line.welcome(0, &json!([]));
    line.assign(Some(4));
    let sent = [1, 2, 3].map(|seq| line.lasting(seq));
    // No more than these may be on their way, though the job goes on.
    for _ in 0..3 {
        assert_eq!(line.heartbeat()["active_jobs"], 1);
    }
    line.refuse(2, "database_unavailable", true);
    line.refuse(3, "sequence_gap", true);
    line.say(json!({ "type": "ack", "data": { "seq": 1 } }));
    assert_eq!([2, 3].map(|seq| line.lasting(seq)), sent[1..]);
    let fourth = line.lasting(4);
    drop(line);

    let (mut line, again) = script.accept();
    let held = json!([{ "job_id": "j", "fence": 4 }]);
    assert_eq!((&again["instance_id"], &again["holds"]), (&hello["instance_id"], &held));
    // The acknowledgement of the second was lost.
    line.welcome(2, &held);
    assert_eq!([3, 4].map(|seq| line.lasting(seq)), [sent[2].as_str(), &fourth]);
    line.refuse(3, "stale", false);
    // The job is over: no heartbeat names it any longer.
    loop {
        let (message, _) = line.next();
        if message["type"] == "heartbeat" && message["data"]["jobs"] == json!([]) {
            break;
        }
    }
}

#[test]
fn a_new_process_sends_what_the_old_one_wrote_down() {
    let script = Script::new();
    let arguments = ["--state", "crawler.state", "--steps", "1"];
    let mut crawler = script.crawler(&arguments);
    let (mut line, hello) = script.accept();
    line.welcome(0, &json!([]));
    line.assign(Some(4));
    let sent = [1, 2, 3].map(|seq| line.lasting(seq));
    assert!(sent[2].contains("job_completed"), "{sent:?}");
    crawler.kill();

    let _crawler = script.crawler(&arguments);
    let (mut line, again) = script.accept();
    // The end is not settled, so the job is still its own.
    let held = json!([{ "job_id": "j", "fence": 4 }]);
    assert_eq!((&again["instance_id"], &again["holds"]), (&hello["instance_id"], &held));
    line.welcome(1, &held);
    assert_eq!([2, 3].map(|seq| line.lasting(seq)), sent[1..]);
    line.say(json!({ "type": "ack", "data": { "seq": 3 } }));
    while line.heartbeat()["jobs"] != json!([]) {}
}

#[test]
fn without_a_welcome_it_speaks_the_base_protocol() {
    let script = Script::new();
    let _crawler = script.crawler(&["--steps", "3"]);
    let (mut line, _) = script.accept();
    let (first, _) = line.next();
    assert_eq!(first["type"], "heartbeat");
    assert_eq!(first["data"].get("jobs"), None);
    line.assign(None);
    let mut types = Vec::new();
    while types.last().is_none_or(|it| it != "job_completed") {
        let (message, bytes) = line.next();
        let marks = ["seq", "fence", "n"].map(|mark| message.get(mark));
        assert_eq!(marks, [None, None, None], "{bytes}");
        assert_eq!(message["job_id"], "j");
        types.push(message["type"].as_str().expect("a type").to_owned());
    }
    assert_eq!(types, ["job_started", "job_progress", "job_completed"]);
}
