//! The server is asked to stop.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use serde_json::json;

use crate::support::crawler::message;
use crate::support::{LiveStream, Setup, on_both_databases, wait_until};

on_both_databases!(
    what_is_in_flight_is_kept,
    what_is_just_being_taken_is_kept,
    a_stop_costs_no_job,
);

/// Longest a stop may take, even on a busy machine, where nothing is left to do.
const PROMPT: Duration = Duration::from_secs(2);

#[test]
fn everybody_hears_of_it() {
    for signal in ["TERM", "INT"] {
        let mut server = Setup::new(TestDatabase::sqlite())
            .flag("--listen")
            .flag("127.0.0.1:0")
            .start();
        let mut crawlers = [server.crawler(), server.crawler(), server.crawler_process()];
        let mut nobody = server.connect();
        let mut viewer = server.stream();
        let (status, took) = server.stop(signal);
        assert_eq!(status.code(), Some(0), "after {signal}");
        assert!(took < PROMPT, "{signal} took {took:?}");
        for crawler in &mut crawlers {
            let message = crawler.recv().expect("a word before the end");
            let told = json!({ "graceful": true, "timeout_seconds": 1, "reason": "the server is stopping" });
            assert_eq!((&message["type"], &message["data"]), (&json!("shutdown"), &told));
            assert!(crawler.recv().is_none());
        }
        nobody.await_end();
        while viewer.next().is_some() {}
        assert!(!server.socket().exists(), "the socket file is left");
        assert!(UnixStream::connect(server.socket()).is_err());
        for address in [Some(server.http), server.tcp].into_iter().flatten() {
            assert!(TcpStream::connect(address).is_err(), "{address} is open");
        }
        server.start();
        assert!(server.api().crawlers().is_empty());
    }
}

fn what_is_in_flight_is_kept(database: TestDatabase) {
    let mut server = Setup::new(database).set("SOCKET_MAX_CONCURRENT_JOBS", 4).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let jobs: Vec<_> = (0..4).map(|_| api.submit("discover_namespaces")).collect();
    jobs.iter().for_each(|_| drop(crawler.assignment()));
    let [completed, failed, running, reported] = &jobs[..] else {
        unreachable!()
    };
    for number in 0..200 {
        let entities = [format!("{number}a"), format!("{number}b")];
        crawler.discovered(
            running,
            &[("crawl_project", &entities[0]), ("crawl_user", &entities[1])],
        );
    }
    crawler.progress(reported, 0.75, 75);
    crawler.failed(failed, false);
    crawler.completed(completed);
    let (status, _) = server.stop("TERM");
    assert_eq!(status.code(), Some(0));

    server.start();
    let api = server.api();
    let status = |job: &String| api.job(job)["status"].clone();
    assert_eq!(
        jobs.iter().map(status).collect::<Vec<_>>(),
        ["completed", "failed", "running", "running"]
    );
    assert_eq!(api.job(running)["children"], 400);
    assert_eq!(
        api.all(&format!("/api/v1/jobs/{running}/children?limit=500")).len(),
        400
    );
    let progress = api.get(&format!("/api/v1/jobs/{reported}/progress")).ok();
    assert_eq!(
        progress["overall_completion"], 0.75,
        "progress in memory is written at the end"
    );
}

fn what_is_just_being_taken_is_kept(database: TestDatabase) {
    let mut server = Setup::new(database).set("SOCKET_MAX_CONCURRENT_JOBS", 30).start();
    let api = server.api();
    let mut crawler = server.crawler();
    let jobs: Vec<_> = (0..30).map(|_| api.submit("crawl_project")).collect();
    jobs.iter().for_each(|_| drop(crawler.assignment()));
    drop(crawler);
    wait_until("it is gone", || api.crawlers().is_empty().then_some(()));
    // Each line makes a session, takes a job over and ends it: three commits, one after the other.
    let completed = json!({
        "job_type": "x", "final_counts": [], "total_duration": 1, "output_files": [], "summary": "",
    });
    let mut crawlers: Vec<_> = jobs.iter().map(|_| server.connect()).collect();
    for (crawler, job) in crawlers.iter_mut().zip(&jobs) {
        crawler.send_bytes(message("job_completed", Some(job), &completed).as_bytes());
    }
    let connections = || api.get("/health/socket").ok()["connections"].clone();
    wait_until("all are connected", || (connections() == jobs.len()).then_some(()));
    for crawler in &mut crawlers {
        crawler.send_bytes(b"\n");
    }
    let (status, _) = server.stop("TERM");
    assert_eq!(status.code(), Some(0));
    server.start();
    let api = server.api();
    for job in &jobs {
        assert_eq!(api.job(job)["status"], "completed");
        assert_eq!(api.arrows(job), ["submit", "claim", "adopt", "start", "finish"]);
    }
}

fn a_stop_costs_no_job(database: TestDatabase) {
    let mut server = Setup::new(database).start();
    let mut crawler = server.crawler();
    let job = server.api().submit("crawl_project");
    crawler.assignment();
    crawler.started(&job);
    server.api().await_status(&job, "running");
    server.stop("TERM");
    server.start();
    let mut crawler = server.crawler();
    crawler.completed(&job);
    let api = server.api();
    let ended = api.await_status(&job, "completed");
    assert_eq!((&ended["attempt"], &ended["fence"]), (&json!(1), &json!(1)));
    assert_eq!(api.arrows(&job), ["submit", "claim", "start", "adopt", "finish"]);
}

#[test]
fn a_hangup_of_the_terminal_stops_nothing() {
    let server = Setup::new(TestDatabase::sqlite()).start();
    server.signal("HUP");
    wait_until("it says so", || server.log().contains("SIGHUP").then_some(()));
    let mut crawler = server.crawler();
    let job = server.api().submit("crawl_user");
    assert_eq!(crawler.assignment().id, job);
}

#[test]
fn whoever_goes_on_talking_is_not_waited_for() {
    let mut server = Setup::new(TestDatabase::sqlite()).start();
    let (mut chatty, api) = (server.crawler(), server.api());
    let job = api.submit("crawl_project");
    chatty.assignment();
    let heartbeat = json!({ "active_jobs": 1, "last_activity": "t", "system_status": "crawling" });
    let lines = format!("{}\n", message("heartbeat", None, &heartbeat)).repeat(100);
    let stream = UnixStream::connect(server.socket()).expect("the server listens");
    let talking = std::thread::spawn(move || while (&stream).write_all(lines.as_bytes()).is_ok() {});
    chatty.started(&job);
    api.await_status(&job, "running");
    let (status, took) = server.stop("TERM");
    assert_eq!(status.code(), Some(0));
    assert!(took < 2 * PROMPT, "it took {took:?}");
    talking.join().expect("an end");
}

#[test]
fn a_second_signal_is_not_kept_waiting() {
    let mut server = Setup::new(TestDatabase::sqlite()).start();
    // Somebody who goes on talking makes the stop last.
    let heartbeat = json!({ "active_jobs": 1, "last_activity": "t", "system_status": "crawling" });
    let line = format!("{}\n", message("heartbeat", None, &heartbeat));
    let stream = UnixStream::connect(server.socket()).expect("the server listens");
    let talking = std::thread::spawn(move || while (&stream).write_all(line.as_bytes()).is_ok() {});
    wait_until("it talks", || (server.api().crawlers().len() == 1).then_some(()));
    server.signal("TERM");
    wait_until("it stops", || {
        server.log().contains("crawlers told of the shutdown").then_some(())
    });
    let (status, _) = server.stop("INT");
    assert_eq!(status.code(), Some(130));
    talking.join().expect("an end");
}

#[test]
fn open_requests_are_not_waited_for() {
    let mut server = Setup::new(TestDatabase::sqlite()).start();
    let _viewers: Vec<LiveStream> = (0..5).map(|_| server.stream()).collect();
    let half = TcpStream::connect(server.http).expect("a connection");
    let begun = b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Le";
    (&half).write_all(begun).expect("it is taken");
    let (status, took) = server.stop("TERM");
    assert_eq!(status.code(), Some(0));
    assert!(took < PROMPT, "it took {took:?}");
}
