//! A crawler connects anew and goes on with what it had.

mod support;

use std::time::Duration;

use crawlwire_progress::{Arrow, Policy, State, Store};
use crawlwire_router::RouterConfig;
use tokio::time::Instant;

use support::*;

/// Longer than a connection is waited for that nobody knows to be gone.
const A_WHILE: Duration = Duration::from_millis(700);

/// The first connection of a process, with a job of this name.
async fn first(server: &Server, id: &str) -> Crawler {
    let mut first = server.connect(Some("process-1"));
    done(first.say(say::heartbeat()).await);
    server.submit_job(with_token(id, "t1")).await;
    assert_eq!(first.assignment().await.job_id, id);
    first
}

/// The clock writes no reports.
fn unwritten() -> RouterConfig {
    RouterConfig {
        flush_interval: Duration::from_secs(3600),
        ..config()
    }
}

#[tokio::test]
async fn the_same_process_takes_over_and_its_reports_count() {
    let mut server = Server::start();
    let mut first = server.connect(Some("process-1"));
    done(first.say(say::heartbeat()).await);
    server.submit("a").await;
    first.assignment().await;
    for completion in [0.1, 0.2, 0.3] {
        done(first.say(say::progress("a", completion)).await);
    }
    server
        .stored_progress("a", |report| report.said.overall_completion == 0.3)
        .await;
    first.leave().await;

    // Reports are numbered by the millisecond; nobody connects anew within the same one.
    tokio::time::sleep(Duration::from_millis(2)).await;
    let second = server.connect(Some("process-1"));
    done(second.say(say::progress("a", 0.4)).await);
    let adopted = server.arrow("a", Arrow::Adopt).await;
    assert_eq!((adopted.state, adopted.attempt), (State::Running, 1));
    assert_eq!(second.holds(), ["a"]);
    server
        .stored_progress("a", |report| report.said.overall_completion == 0.4)
        .await;
    server.store.later(server.policy.reattach_grace);
    server.renewed().await;
    done(second.say(say::completed("a")).await);
    assert_eq!(
        server.arrows("a").await,
        ["submit", "claim", "start", "adopt", "finish"]
    );
    let view = server.job("a").await;
    assert_eq!(
        (view.attempt, view.failures, view.fence.0),
        (1, 0, 1),
        "no attempt spent"
    );
}

#[tokio::test]
async fn a_new_connection_waits_for_the_old_one_to_be_seen_gone() {
    let server = Server::start();
    let mut first = server.connect(Some("process-1"));
    done(first.say(say::heartbeat()).await);
    server.submit("a").await;
    first.assignment().await;
    done(first.say(say::started("a")).await);
    let second = server.connect(Some("process-1"));
    done(second.say(say::heartbeat()).await);
    let (said, ()) = tokio::join!(second.say(say::completed("a")), async {
        tokio::task::yield_now().await;
        first.leave().await;
    });
    done(said);
    assert_eq!(
        server.arrows("a").await,
        ["submit", "claim", "start", "adopt", "finish"]
    );
}

#[tokio::test]
async fn another_process_does_not_take_over() {
    refuses_takeover(Some("process-1"), Some("process-2")).await;
}

#[tokio::test]
async fn a_peer_nobody_can_name_does_not_take_over() {
    refuses_takeover(None, None).await;
}

async fn refuses_takeover(old: Option<&str>, new: Option<&str>) {
    let mut server = Server::start();
    let mut first = server.connect(old);
    done(first.say(say::heartbeat()).await);
    server.submit("a").await;
    first.assignment().await;
    done(first.say(say::started("a")).await);
    first.leave().await;
    let mut second = server.connect(new);
    let asked = Instant::now();
    assert_eq!(failed(second.say(say::completed("a")).await), "held by another crawler");
    assert!(
        asked.elapsed() < Duration::from_millis(400),
        "there is nobody to wait for"
    );
    assert_eq!(second.holds(), Vec::<String>::new());
    server.store.later(server.policy.reattach_grace);
    server.arrow("a", Arrow::Expire).await;
    assert_eq!(second.assignment().await.job_id, "a", "but it may be given the job");
    assert_eq!(
        server.arrows("a").await,
        ["submit", "claim", "start", "expire", "claim"]
    );
}

#[tokio::test]
async fn a_job_is_started_once_whoever_starts_it() {
    let mut server = Server::start();
    for (id, started) in [("before", true), ("after", false)] {
        let old = first(&server, id).await;
        if started {
            done(old.say(say::started(id)).await);
        }
        old.leave().await;
        let new = server.connect(Some("process-1"));
        done(new.say(say::progress(id, 0.5)).await);
        server.arrow(id, Arrow::Adopt).await;
        let steps = if started {
            ["start", "adopt"]
        } else {
            ["adopt", "start"]
        };
        assert_eq!(server.arrows(id).await, [&["submit", "claim"][..], &steps].concat());
        let job = server.job(id).await;
        assert_eq!((job.state, job.attempt), (State::Running, 1));
        assert_eq!(server.router.progress(job.key).unwrap().attempt, 1);
        done(new.say(say::completed(id)).await);
        new.leave().await;
    }
    assert_eq!(server.store.count("Start"), 2);
}

#[tokio::test]
async fn what_a_connection_said_last_is_kept_for_the_next() {
    let server = Server::with(unwritten(), Policy::default());
    let old = first(&server, "a").await;
    done(old.say(say::progress("a", 0.6)).await);
    let key = server.job("a").await.key;
    old.leave().await;
    let stored = server.store.progress(key).await.unwrap().unwrap();
    assert_eq!((stored.said.overall_completion, stored.attempt), (0.6, 1));

    tokio::time::sleep(Duration::from_millis(2)).await;
    let new = server.connect(Some("process-1"));
    done(new.say(say::failed("a", true)).await);
    let stored = server.store.progress(key).await.unwrap().unwrap();
    assert_eq!(stored.said.overall_completion, 0.6, "the end gave counts only");
    assert_eq!(stored.entities[0].said.total_processed.get(), 3);
}

#[tokio::test]
async fn the_token_of_a_job_that_was_taken_over_is_told_anew() {
    let server = Server::start();
    first(&server, "a").await.leave().await;
    let mut new = server.connect(Some("process-1"));
    for told in ["t1", ""] {
        done(new.say(say::refresh("a")).await);
        let (_, response) = new.token().await;
        assert_eq!(
            response.access_token.expose(),
            told,
            "nobody knows which one it has; then they do"
        );
    }
}

#[tokio::test]
async fn an_end_that_is_on_its_way_to_the_store_is_waited_for() {
    let server = Server::with(unwritten(), Policy::default());
    let old = first(&server, "a").await;
    done(old.say(say::progress("a", 0.5)).await);
    let other = server.connect(Some("process-1"));
    done(other.say(say::heartbeat()).await);
    let new = server.connect(Some("process-1"));
    done(new.say(say::heartbeat()).await);

    server.store.hold("Progress");
    let leaving = tokio::spawn(old.leave());
    server.store.wrote("Progress").await;
    let asked = Instant::now();
    let said = tokio::spawn(async move { new.say(say::completed("a")).await });
    tokio::time::sleep(A_WHILE).await;
    server.store.tell();
    done(soon("the end", said).await.unwrap());
    assert!(asked.elapsed() < A_WHILE * 3, "no longer than needed");
    soon("the disconnect", leaving).await.unwrap();
    assert_eq!(
        server.arrows("a").await,
        ["submit", "claim", "start", "adopt", "finish"]
    );
}

#[tokio::test]
async fn a_job_of_a_connection_that_stands_is_refused_and_may_be_asked_for_again() {
    let server = Server::start();
    let old = first(&server, "a").await;
    let new = server.connect(Some("process-1"));
    assert_eq!(
        failed(new.say(say::started("a")).await),
        "an earlier connection of this crawler still holds it"
    );
    assert_eq!(old.holds(), ["a"]);
    old.leave().await;
    done(new.say(say::started("a")).await);
}

#[tokio::test]
async fn a_crawler_that_goes_on_about_a_lost_job_costs_one_look_a_second() {
    let server = Server::start();
    let crawler = server.crawler().await;
    let looks = || server.store.count("Adopt");
    for _ in 0..5 {
        assert_eq!(failed(crawler.say(say::progress("lost", 0.5)).await), "no such job");
    }
    assert_eq!(looks(), 1);
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    failed(crawler.say(say::progress("lost", 0.5)).await);
    assert_eq!(looks(), 2);
    let long = "x".repeat(100);
    for impossible in ["a\0b", &long] {
        assert_eq!(failed(crawler.say(say::started(impossible)).await), "no such job");
    }
    assert_eq!(looks(), 2, "nothing is called so");
}
