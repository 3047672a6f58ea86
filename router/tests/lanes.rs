//! Lanes take turns, and each job goes to a crawler that can run it.

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use crawlwire_progress::admit::{Capabilities, Gate};
use crawlwire_progress::store::NewJob;
use crawlwire_progress::{Op, Policy, Store};
use crawlwire_protocol::message::JobType;
use crawlwire_router::RouterConfig;

use support::*;

/// One slot, so that one job is given out at a time.
fn one_slot() -> RouterConfig {
    RouterConfig {
        slots_per_crawler: 1,
        ..config()
    }
}

/// A crawler that runs one job at a time of these types, if any are named.
fn runs(types: &[JobType]) -> Capabilities {
    Capabilities {
        job_types: Some(types.iter().copied().collect()).filter(|_| !types.is_empty()),
        ..Capabilities::any(1)
    }
}

async fn able(server: &Server, capabilities: Capabilities) -> Crawler {
    let crawler = server.connect_able(capabilities, false);
    done(crawler.say(say::heartbeat()).await);
    crawler
}

/// The next jobs that a crawler is given, one after the other.
async fn given(crawler: &mut Crawler, count: usize) -> Vec<String> {
    let mut given = Vec::new();
    for _ in 0..count {
        let job = crawler.assignment().await.job_id;
        done(crawler.say(say::completed(&job)).await);
        given.push(job);
    }
    given
}

fn priority(value: f64, new: NewJob) -> NewJob {
    let mut new = new;
    new.spec.priority = value;
    new
}

#[tokio::test]
async fn a_flooded_account_does_not_starve_another() {
    for job_queue_size in [1, 2, 100] {
        let config = RouterConfig {
            job_queue_size,
            ..one_slot()
        };
        let server = Server::by_hand(config).await;
        for number in 0..30 {
            server.submit_job(of_account("flood", &format!("f{number}"))).await;
        }
        for number in 0..3 {
            server.submit_job(of_account("quiet", &format!("q{number}"))).await;
        }
        let mut crawler = server.crawler().await;
        let mut given = given(&mut crawler, 8).await;
        assert_eq!(given[6..], ["f3", "f4"], "{given:?}");
        given[..6].sort();
        assert_eq!(given[..6], ["f0", "f1", "f2", "q0", "q1", "q2"]);
    }
}

#[tokio::test]
async fn a_crawler_that_can_run_none_of_them_does_not_disturb_the_turns() {
    let server = Server::by_hand(config()).await;
    let idle = able(&server, runs(&[JobType::CrawlUser])).await;
    for number in 0..10 {
        server.submit_job(of_account("flood", &format!("f{number}"))).await;
    }
    for number in 0..3 {
        server.submit_job(of_account("quiet", &format!("q{number}"))).await;
    }
    let mut crawler = able(&server, runs(&[])).await;
    let mut given = given(&mut crawler, 6).await;
    given.sort();
    assert_eq!(given, ["f0", "f1", "f2", "q0", "q1", "q2"]);
    assert_eq!(idle.holds(), Vec::<String>::new());
}

#[tokio::test]
async fn within_a_lane_higher_priority_goes_first() {
    let server = Server::by_hand(one_slot()).await;
    for (id, value) in [("a1", 1.0), ("a9", 9.0)] {
        server.submit_job(priority(value, of_account("a", id))).await;
    }
    server.submit_job(of_account("b", "b1")).await;
    server.submit_job(priority(5.0, of_account("b", "b5"))).await;
    let mut crawler = server.crawler().await;
    let given = given(&mut crawler, 4).await;
    assert_eq!(given, ["a9", "b5", "a1", "b1"]);
}

#[tokio::test]
async fn many_lanes_are_all_served_with_a_short_list_in_memory() {
    let config = RouterConfig {
        job_queue_size: 3,
        slots_per_crawler: 50,
        ..config()
    };
    let server = Server::by_hand(config).await;
    for number in 0..40 {
        server
            .submit_job(of_account(&format!("account-{number}"), &format!("j{number}")))
            .await;
    }
    let mut crawler = server.crawler().await;
    let mut given = Vec::new();
    for _ in 0..40 {
        given.push(crawler.assignment().await.job_id);
    }
    given.sort();
    given.dedup();
    assert_eq!(given.len(), 40);
}

#[tokio::test]
async fn a_job_goes_to_a_crawler_that_has_its_type_its_host_and_its_labels() {
    let server = Server::by_hand(config()).await;
    let mut users = able(&server, runs(&[JobType::CrawlUser])).await;
    let mut far = able(
        &server,
        Capabilities {
            hosts: Some(["https://far.example".to_owned()].into()),
            ..Capabilities::any(1)
        },
    )
    .await;
    let mut gpu = able(
        &server,
        Capabilities {
            labels: ["gpu".to_owned()].into(),
            ..runs(&[JobType::CrawlGroup])
        },
    )
    .await;
    let mut labelled = new_job("labelled");
    labelled.spec.labels = vec!["gpu".to_owned()];
    let mut of_users = new_job("users");
    of_users.spec.job_type = JobType::CrawlUser;
    let mut far_away = new_job("far");
    far_away.spec.job_type = JobType::CrawlProject;
    far_away.spec.host = "https://far.example".to_owned();
    for new in [labelled, of_users, far_away] {
        server.submit_job(new).await;
    }
    assert_eq!(gpu.assignment().await.job_id, "labelled");
    assert_eq!(users.assignment().await.job_id, "users");
    assert_eq!(far.assignment().await.job_id, "far");

    let mut both = new_job("both");
    both.spec.labels = vec!["gpu".to_owned(), "large".to_owned()];
    server.submit_job(both).await;
    server.submit("plain").await;
    done(gpu.say(say::completed("labelled")).await);
    assert_eq!(
        gpu.assignment().await.job_id,
        "plain",
        "the lane before it cannot be served"
    );
    let mut large = able(
        &server,
        Capabilities {
            labels: ["gpu".to_owned(), "large".to_owned()].into(),
            ..Capabilities::any(1)
        },
    )
    .await;
    assert_eq!(large.assignment().await.job_id, "both");
    let stored = server.store.sessions(10).await.unwrap();
    assert!(stored.iter().any(|view| view.capabilities.labels.contains("large")));
}

#[tokio::test]
async fn what_waits_behind_a_gate_goes_on_when_it_opens_and_stops_nobody_else() {
    let server = Server::by_hand(one_slot()).await;
    let gate = Gate::Host("gitlab.example".to_owned());
    server
        .router
        .close_gate(gate.clone(), None, None, "somebody")
        .await
        .unwrap();
    server.submit("a").await;
    let mut elsewhere = new_job("b");
    elsewhere.spec.host = "other.example".to_owned();
    server.submit_job(elsewhere).await;
    let mut crawler = server.crawler().await;
    assert_eq!(given(&mut crawler, 1).await, ["b"]);
    assert!(crawler.heard_nothing());
    server.router.open_gate(gate.clone(), "somebody").await.unwrap();
    assert_eq!(given(&mut crawler, 1).await, ["a"], "woken, not found by the clock");

    server
        .router
        .close_gate(gate.clone(), None, None, "somebody")
        .await
        .unwrap();
    server.submit("c").await;
    let by = "another server".to_owned();
    server.store.elsewhere(Op::OpenGate { gate, by });
    assert_eq!(given(&mut crawler, 1).await, ["c"]);
}

#[tokio::test]
async fn while_the_queue_is_paused_one_look_is_enough() {
    let config = RouterConfig {
        job_queue_size: 3,
        ..config()
    };
    let server = Server::by_hand(config).await;
    let mut crawler = server.crawler().await;
    let router = &server.router;
    router.close_gate(Gate::Queue, None, None, "somebody").await.unwrap();
    for number in 0..40 {
        server
            .submit_job(of_account(&format!("account-{number}"), &format!("j{number}")))
            .await;
    }
    let pages = || server.store.pages.load(Ordering::Relaxed);
    let before = pages();
    server.submit("one-more").await;
    until("the dispatcher to look", || pages() > before).await;
    assert!(pages() <= 50, "{} pages for 42 reasons to look", pages());
    assert!(crawler.heard_nothing());
    router.open_gate(Gate::Queue, "somebody").await.unwrap();
    crawler.assignment().await;
}

#[tokio::test]
async fn a_gate_opens_by_itself() {
    let server = Server::start();
    let hour = Duration::from_secs(3600);
    let mut crawler = server.crawler().await;
    let until = Some(server.store.now().after(hour));
    server
        .router
        .close_gate(Gate::Queue, until, None, "somebody")
        .await
        .unwrap();
    server.submit("a").await;
    server.renewed().await;
    assert!(crawler.heard_nothing());
    done(crawler.say(say::heartbeat()).await);
    server.store.later(hour);
    done(crawler.say(say::heartbeat()).await);
    assert_eq!(crawler.assignment().await.job_id, "a");
}

#[tokio::test]
async fn an_account_holds_no_more_than_its_share() {
    let policy = Policy {
        account_held_max: Some(2),
        ..Policy::default()
    };
    let config = RouterConfig {
        slots_per_crawler: 5,
        ..config()
    };
    let server = Server::by_hand_with(config, policy).await;
    for number in 0..4 {
        let mut new = new_job(&format!("a{number}"));
        // Of several lanes.
        new.spec.host = format!("host-{}", number % 2);
        server.submit_job(new).await;
    }
    server.submit_job(of_account("other", "o")).await;
    let mut crawler = server.crawler().await;
    let mut first = Vec::new();
    for _ in 0..3 {
        first.push(crawler.assignment().await.job_id);
    }
    assert!(first.contains(&"o".to_owned()), "{first:?}");
    server.submit_job(of_account("third", "t")).await;
    assert_eq!(crawler.assignment().await.job_id, "t", "nothing was left out");
    assert!(crawler.heard_nothing());
    let ended = first.iter().find(|job| *job != "o").unwrap();
    done(crawler.say(say::completed(ended)).await);
    assert!(crawler.assignment().await.job_id.starts_with('a'));
    assert!(crawler.heard_nothing());
}
