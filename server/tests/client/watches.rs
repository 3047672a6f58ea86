//! Watching, without a terminal and with one.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, ChildStdout, Stdio};

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};

use crate::console::{HARMLESS, HOSTILE, command, run, server};
use crate::support::{Setup, TestServer, on_both_databases, wait_until};

/// A command that runs while the test does something.
struct Watcher {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Watcher {
    fn start(server: &TestServer, arguments: &[&str]) -> Self {
        let mut command = command(server, arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, lines }
    }

    /// Reads up to a line with this in it.
    fn await_line(&mut self, part: &str) -> String {
        let mut line = String::new();
        while self.lines.read_line(&mut line).expect("text") > 0 {
            if line.contains(part) {
                return line;
            }
            line.clear();
        }
        panic!("it ended without {part}");
    }

    /// Waits for its end: the status, and the rest of what it said.
    fn ended(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).expect("text");
        let status = wait_until("it ends", || self.child.try_wait().expect("a child"));
        (status.code(), rest)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

on_both_databases! { a_tree_is_followed_to_its_good_end }

fn a_tree_is_followed_to_its_good_end(database: TestDatabase) {
    let server = Setup::new(database).start();
    let root = server
        .api()
        .submit_with(&json!({ "job_type": "discover_namespaces", "namespace_path": HOSTILE }));
    let root = root["id"].as_str().expect("an id").to_owned();
    server.api().submit("crawl_group");
    let mut watcher = Watcher::start(&server, &["watch", &root]);
    let line = watcher.await_line("queued");
    assert!(
        line.contains(&format!("{root} discover_namespaces {HARMLESS} queued")),
        "{line}"
    );
    let mut crawler = server.crawler();
    let mut work = || {
        let job = crawler.assignment();
        crawler.started(&job.id);
        if job.id == root {
            crawler.discovered(&root, &[("crawl_user", "1")]);
        }
        crawler.progress(&job.id, 0.5, 50);
        crawler.completed(&job.id);
        job.id
    };
    let done: Vec<_> = (0..3).map(|_| work()).collect();
    let (status, rest) = watcher.ended();
    assert_eq!(status, Some(0), "{rest}");
    let last = rest.lines().last().expect("a line");
    assert!(last.contains("the tree has ended: completed; 100 %, 2 jobs"), "{rest}");
    let told = done
        .iter()
        .filter(|id| rest.contains(&format!("{id} crawl_user group/1 completed")));
    assert_eq!(told.count(), 1, "{rest}");
    assert!(!rest.contains("crawl_group"), "another tree: {rest}");
    assert!(rest.lines().all(|line| line.get(19..21) == Some("Z ")), "{rest}");
}

#[test]
fn a_tree_that_fails_or_is_cancelled_ends_with_1() {
    let server = server();
    let (failing, cancelled) = (server.api().submit("crawl_user"), server.api().submit("crawl_user"));
    run(&server, &["cancel", &cancelled]).ok();
    let said = run(&server, &["watch", &cancelled]);
    assert!(
        said.status == 1 && said.out.contains("the tree has ended: cancelled"),
        "{said:?}"
    );
    let mut watcher = Watcher::start(&server, &["watch", &failing]);
    watcher.await_line("queued");
    let mut crawler = server.crawler();
    crawler.assignment();
    crawler.started(&failing);
    crawler.failed(&failing, false);
    let (status, rest) = watcher.ended();
    assert_eq!(status, Some(1), "{rest}");
    assert!(rest.contains(" failed: "), "{rest}");
}

#[test]
fn a_deleted_job_is_not_waited_for() {
    let server = server();
    let id = server.api().submit("crawl_user");
    let mut watcher = Watcher::start(&server, &["watch", &id]);
    watcher.await_line("queued");
    run(&server, &["cancel", &id]).ok();
    assert_eq!(watcher.ended().0, Some(1));
    assert_eq!(
        server.api().ask("DELETE", &format!("/api/v1/jobs/{id}"), None).status,
        200
    );
    let said = run(&server, &["watch", &id]);
    assert!(
        said.status == 1 && said.err.contains("There is no such job"),
        "{said:?}"
    );
}

#[test]
fn a_stream_that_is_cut_goes_on_after_a_restart() {
    // Named, so that the server has the same address again.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let mut server = Setup::new(TestDatabase::sqlite()).http_at(address).start();
    let id = server.api().submit("crawl_user");
    let mut watcher = Watcher::start(&server, &["watch", &id]);
    watcher.await_line("queued");
    server.kill();
    watcher.await_line("the stream is cut (");
    server.start();
    watcher.await_line("the stream goes on");
    run(&server, &["cancel", &id]).ok();
    let (status, rest) = watcher.ended();
    assert_eq!(status, Some(1), "{rest}");
    assert!(rest.contains(&format!("{id} crawl_user - cancelled")), "{rest}");
}

#[test]
fn ctrl_c_ends_with_130() {
    let server = server();
    server.api().submit("crawl_user");
    let mut watcher = Watcher::start(&server, &["watch"]);
    watcher.await_line("queued");
    crate::support::server::signal(&watcher.child, "INT");
    assert_eq!(watcher.ended().0, Some(130));
}

#[test]
fn programs_get_each_event_on_a_line() {
    let server = server();
    let id = server.api().submit("crawl_user");
    let mut watcher = Watcher::start(&server, &["watch", &id, "--json"]);
    let first: Value = serde_json::from_str(&watcher.await_line("snapshot")).expect("JSON");
    assert_eq!(
        (&first["event"], &first["data"]["jobs"][0]["id"]),
        (&"snapshot".into(), &id.clone().into())
    );
    run(&server, &["cancel", &id]).ok();
    let (status, rest) = watcher.ended();
    assert_eq!(status, Some(1));
    let events: Vec<Value> = rest
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let last = events.last().expect("an event");
    assert_eq!(
        (&last["event"], &last["data"]["tree_status"]),
        (&"end".into(), &"cancelled".into())
    );
}

#[test]
fn errors_are_followed_as_they_come() {
    let server = server();
    let spoil = |words: &str| server.connect().send_line(words);
    spoil("{ first");
    wait_until("the error is stored", || {
        (server.api().all("/api/v1/errors").len() == 1).then_some(())
    });
    let mut watcher = Watcher::start(&server, &["errors", "--follow", "--json"]);
    let first: Value = serde_json::from_str(&watcher.await_line("not_json")).expect("JSON");
    spoil("{ second");
    let second: Value = serde_json::from_str(&watcher.await_line("not_json")).expect("JSON");
    assert!(first["id"].as_u64() < second["id"].as_u64(), "{first} {second}");
    crate::support::server::signal(&watcher.child, "INT");
    assert_eq!(watcher.ended(), (Some(130), String::new()));
}
