//! Crawlers over TCP, beside those on the Unix socket.

use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::{Crawler, Setup, TestServer};

fn start(setup: Setup) -> TestServer {
    setup.flag("--listen").flag("127.0.0.1:0").start()
}

/// A crawler over TCP that is ready for work.
fn connect(server: &TestServer) -> Crawler {
    let mut crawler = Crawler::tcp(server.tcp.expect("it listens on TCP"));
    crawler.introduce(&server.api());
    crawler
}

#[test]
fn both_kinds_of_crawlers_share_the_work() {
    let server = start(Setup::new(TestDatabase::sqlite()).set("SOCKET_MAX_CONCURRENT_JOBS", 1));
    let api = server.api();
    let mut crawlers = [server.crawler(), connect(&server)];
    let known = |crawler: &Value| crawler["identity"].is_string();
    assert_eq!(api.crawlers().iter().map(known).collect::<Vec<_>>(), [true, false]);
    for _ in 0..3 {
        let mut jobs = [api.submit("crawl_project"), api.submit("crawl_project")];
        let mut given: Vec<_> = crawlers.iter_mut().map(|crawler| crawler.assignment().id).collect();
        for (crawler, job) in crawlers.iter_mut().zip(&given) {
            crawler.progress(job, 0.5, 50);
            crawler.completed(job);
        }
        for job in &given {
            let ended = api.await_status(job, "completed");
            assert_eq!((&ended["attempt"], &ended["fence"]), (&json!(1), &json!(1)));
        }
        given.sort();
        jobs.sort();
        assert_eq!(given, jobs);
    }
}

#[test]
fn over_tcp_nobody_can_take_over() {
    let setup = Setup::new(TestDatabase::sqlite()).set("SOCKET_REATTACH_GRACE", 500);
    let server = start(setup);
    let api = server.api();
    let mut first = connect(&server);
    let job = api.submit("crawl_project");
    first.assignment();
    first.started(&job);
    api.await_status(&job, "running");
    drop(first);
    // The same process, but the server cannot know.
    let mut again = connect(&server);
    again.completed(&job);
    let same = again.assignment();
    assert_eq!((&same.id, &same.data["resume"]), (&job, &json!(true)));
    again.completed(&job);
    let ended = api.await_status(&job, "completed");
    assert_eq!((&ended["attempt"], &ended["failures"]), (&json!(2), &json!(1)));
    assert_eq!(
        api.arrows(&job),
        ["submit", "claim", "start", "expire", "claim", "start", "finish"]
    );
}

#[test]
fn a_crawler_on_the_socket_cannot_speak_for_one_on_tcp() {
    let server = start(Setup::new(TestDatabase::sqlite()));
    let api = server.api();
    let mut remote = connect(&server);
    let job = api.submit("crawl_project");
    remote.assignment();
    drop(remote);
    let mut local = server.crawler().beating(Duration::from_millis(100));
    local.completed(&job);
    local.settle(&api);
    assert_eq!(api.job(&job)["status"], "assigned");
}

#[test]
fn a_browser_is_no_crawler() {
    let server = start(Setup::new(TestDatabase::sqlite()));
    let api = server.api();
    let job = api.submit("crawl_project");
    // A page of any site can make a browser send this, with a body of the page's choosing.
    let mut browser = Crawler::tcp(server.tcp.expect("it listens on TCP"));
    browser.send_bytes(b"POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500\r\n\r\n");
    browser.heartbeat();
    browser.completed(&job);
    browser.await_end();
    assert!(api.crawlers().is_empty());
    assert_eq!(api.job(&job)["status"], "queued");
    assert!(server.log().contains(r#"reason="wrong_protocol""#));
}
