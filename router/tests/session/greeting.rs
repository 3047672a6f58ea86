//! Who is let in, on what terms, and with what it held before.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crawlwire_progress::store::Act;
use crawlwire_progress::{Arrow, Policy, State, Store};
use crawlwire_protocol::Dialect;
use crawlwire_protocol::message::{Feature, ProgressData};
use crawlwire_router::{Closing, Origin, RouterConfig};
use serde_json::json;

use crate::client::{Client, about, calm, heartbeat, hello, hello_with, instance_id, line, marked, quiet};
use crate::support::*;

#[tokio::test]
async fn a_welcome_tells_the_terms_of_both_sides() {
    let server = quiet().await;
    let (client, welcome) = server
        .welcome(hello_with(
            1,
            json!({ "software": { "name": "spider", "version": "3" } }),
        ))
        .await;
    assert_eq!((welcome.version.get(), welcome.high_water_seq.get()), (1, 0));
    let features: Vec<_> = welcome.features.iter().map(|name| name.as_str()).collect();
    assert_eq!(
        features,
        ["cancel", "checkpoint"],
        "not what one side has never heard of"
    );
    assert_eq!(welcome.session_id.as_str(), "worker-00000001");
    assert_eq!(welcome.server.name.as_str(), "one");
    assert_eq!(
        (welcome.max_in_flight.get(), welcome.max_in_flight_bytes.get()),
        (64, 1024 * 1024)
    );
    assert_eq!(welcome.lease_ms.as_duration(), server.policy.lease);
    assert_eq!(welcome.heartbeat_interval_ms.as_duration().as_secs(), 1000);
    assert!(welcome.server_time.parse().is_some() && welcome.leases.is_empty());
    assert!(client.line.peer.has_feature("cancel") && !client.line.peer.has_feature("zstd"));

    let info = server.router.sessions().remove(0);
    let greeting = info.greeting.unwrap();
    assert_eq!((info.dialect, info.epoch.0), (Some(Dialect::Session), 1));
    assert_eq!(
        (greeting.principal.as_str(), greeting.instance_id),
        ("local", instance_id(1))
    );
    assert_eq!(greeting.software.as_deref(), Some("spider 3"));
    assert!(greeting.features.contains(&Feature::Checkpoint));
    let stored = server.store.sessions(10).await.unwrap().remove(0);
    assert_eq!((stored.name.as_str(), stored.connected), ("worker-00000001", true));
    assert_eq!(stored.capabilities.slots, 2);
}

#[tokio::test]
async fn who_cannot_be_understood_hears_why_and_is_cut_off() {
    let server = quiet().await;
    for (hello, code) in [
        (hello_with(1, json!({ "versions": [2, 3] })), "unsupported_version"),
        (hello_with(1, json!({ "role": "emperor" })), "forbidden_role"),
    ] {
        let mut client = server.greet(Origin::Memory, hello).await;
        assert_eq!(client.refused().await, (code.to_owned(), None, false));
        assert_eq!(
            client.farewell().await,
            ("hello_refused".to_owned(), false, Closing::HelloRefused)
        );
        let late = client.say(heartbeat(&[])).await;
        assert!(!late.success && client.line.peer.session().is_none());
    }
    assert!(server.router.sessions().is_empty());
}

#[tokio::test]
async fn one_greeting_is_enough() {
    let server = quiet().await;
    let mut client = server.session(1).await;
    client.say(line("hello", hello(1))).await;
    assert_eq!(client.refused().await, ("hello_expected_once".to_owned(), None, false));
    assert!(client.line.out.closing.get().is_none());
    done(client.say(heartbeat(&[])).await);
    let base = server.crawler().await;
    assert_eq!(base.peer.dialect(), Some(Dialect::Base));
}

#[tokio::test]
async fn job_types_and_slots_decide_what_it_gets() {
    let server = quiet().await;
    server.submit("a").await;
    let other = json!({ "job_types": ["crawl_user", "crawl_moon"] });
    let (mut users, _) = server.welcome(hello_with(1, other)).await;
    let (mut nothing, _) = server
        .welcome(hello_with(2, json!({ "job_types": ["crawl_moon"] })))
        .await;
    let (mut none, _) = server.welcome(hello_with(3, json!({ "slots": 0 }))).await;
    let (mut groups, _) = server
        .welcome(hello_with(4, json!({ "job_types": ["crawl_group"] })))
        .await;
    let (fence, assignment) = groups.assigned().await;
    assert_eq!((fence, assignment.job_id.as_str(), assignment.resume), (1, "a", false));
    assert_eq!(assignment.attempt.map(|attempt| attempt.get()), Some(1));
    assert!(users.heard_nothing() && nothing.heard_nothing() && none.heard_nothing());
}

#[tokio::test]
async fn hosts_and_labels_decide_what_it_gets() {
    let server = quiet().await;
    let (mut far, _) = server
        .welcome(hello_with(1, json!({ "hosts": ["far.example"], "labels": ["eu"] })))
        .await;
    let (mut near, _) = server
        .welcome(hello_with(
            2,
            json!({ "hosts": ["x.example", "https://GitLab.example/"], "slots": 1 }),
        ))
        .await;
    let mut hosted = new_job("a");
    hosted.spec.host = "https://gitlab.example".to_owned();
    server.submit_job(hosted).await;
    assert_eq!(near.assigned().await.1.job_id, "a");
    let mut labelled = new_job("b");
    labelled.spec.labels = vec!["eu".to_owned(), "fast".to_owned()];
    server.submit_job(labelled).await;
    let (mut half, _) = server.welcome(hello_with(3, json!({ "labels": ["eu"] }))).await;
    let (mut whole, _) = server
        .welcome(hello_with(4, json!({ "labels": ["fast", "eu", "big"] })))
        .await;
    assert_eq!(whole.assigned().await.1.job_id, "b");
    assert!(far.heard_nothing() && near.heard_nothing() && half.heard_nothing());
}

#[tokio::test]
async fn a_later_connection_of_the_instance_replaces_the_earlier_one() {
    let mut server = quiet().await;
    let mut first = server.session(1).await;
    server.submit("a").await;
    let (fence, _) = first.assigned().await;
    first.settle(&say::started("a"), fence).await;
    let holds = json!({ "holds": [{ "job_id": "a", "fence": fence }, { "job_id": "b", "fence": 3 }] });
    let (mut second, welcome) = server.welcome(hello_with(1, holds)).await;
    assert_eq!(
        first.farewell().await,
        ("replaced".to_owned(), false, Closing::Replaced)
    );
    assert_eq!(welcome.high_water_seq.get(), 1);
    let leases: Vec<_> = welcome
        .leases
        .iter()
        .map(|lease| (lease.job_id.as_str(), lease.fence.get()))
        .collect();
    assert_eq!(leases, [("a", fence)], "the other one is not its own");
    assert!(second.heard_nothing(), "it knows all that it holds");
    assert_eq!(server.router.sessions().len(), 1);

    // The earlier connection has no say any more, and its end does not end the session.
    let late = first.next(&say::completed("a"), fence);
    failed(first.say(late).await);
    assert!(first.heard_nothing());
    first.leave().await;
    assert_eq!(second.line.holds(), ["a"]);
    assert_eq!(server.router.sessions().len(), 1);
    second.settle(&say::completed("a"), fence).await;
    server.arrow("a", Arrow::Finish).await;
    let job = server.job("a").await;
    assert_eq!((job.state, job.attempt, job.failures), (State::Completed, 1, 0));
    assert_eq!(server.arrows("a").await, ["submit", "claim", "start", "finish"]);
}

#[tokio::test]
async fn what_it_forgot_it_is_told_again() {
    let mut server = quiet().await;
    let mut first = server.session(1).await;
    server.submit_job(with_token("running", "secret")).await;
    let (running, _) = first.assigned().await;
    first.settle(&say::started("running"), running).await;
    let cursor = about("checkpoint", "running", json!({ "cursor": { "page": 7 } }));
    first.settle(&cursor, running).await;
    let report = marked(&say::progress("running", 0.5), json!({ "fence": running, "n": 1 }));
    done(first.say(report).await);
    let key = server.job("running").await.key;
    while server.store.progress(key).await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.submit("waiting").await;
    let (waiting, _) = first.assigned().await;
    let act = server
        .router
        .act(server.job("running").await.key, Act::Cancel, "somebody")
        .await;
    act.unwrap();
    server.arrow("running", Arrow::WantCancel).await;
    first.leave().await;

    // An old lease of the same job is none.
    let holds = json!({ "holds": [{ "job_id": "running", "fence": running + 1 }] });
    let (mut second, welcome) = server.welcome(hello_with(1, holds)).await;
    assert_eq!((welcome.leases.len(), welcome.high_water_seq.get()), (0, 2));
    let (fence, again) = second.assigned().await;
    assert_eq!((fence, again.job_id.as_str(), again.resume), (running, "running", true));
    assert_eq!(again.access_token.expose(), "secret");
    assert_eq!(again.checkpoint.unwrap().as_str(), r#"{"page":7}"#);
    let counts = ProgressData::new("issues", 10.into(), 5.into());
    assert_eq!(again.counts.map(|counts| counts.into_vec()), Some(vec![counts]));
    assert_eq!(again.attempt.map(|attempt| attempt.get()), Some(1));
    let (fence, again) = second.assigned().await;
    assert_eq!(
        (fence, again.job_id.as_str(), again.resume),
        (waiting, "waiting", false)
    );
    assert_eq!(second.told().await, ("job_cancel", "running".to_owned(), running));
    second.settle(&say::completed("waiting"), waiting).await;
    second
        .settle(&about("job_cancelled", "running", json!({})), running)
        .await;
    assert_eq!(server.job("running").await.state, State::Cancelled);
    assert_eq!(server.job("waiting").await.misses, 0);
}

#[tokio::test]
async fn a_job_that_could_not_be_sent_waits_for_its_crawler_to_come_back() {
    let mut server = quiet().await;
    let first = server.session(1).await;
    // The end of its connection is known below, and not here yet.
    first.line.out.closed.store(true, Ordering::Relaxed);
    server.submit("a").await;
    server.arrow("a", Arrow::Claim).await;
    until("it was not sent", || first.line.holds().is_empty()).await;
    let (mut second, _) = server.welcome(hello_with(1, json!({}))).await;
    let (fence, again) = second.assigned().await;
    assert_eq!((fence, again.job_id.as_str(), again.resume), (1, "a", false));
    second.settle(&say::completed("a"), fence).await;
    assert_eq!(server.arrows("a").await, ["submit", "claim", "start", "finish"]);
}

#[tokio::test]
async fn the_youngest_connection_of_an_instance_counts_whoever_greets_last() {
    let server = quiet().await;
    let dead = server.connect_from(Origin::Memory);
    let (mut live, _) = server.welcome(hello(1)).await;
    dead.say(line("hello", hello(1))).await;
    let mut dead = Client { line: dead, seq: 0 };
    assert_eq!(dead.farewell().await, ("replaced".to_owned(), false, Closing::Replaced));
    dead.leave().await;
    server.submit("a").await;
    let (fence, _) = live.assigned().await;
    live.settle(&say::completed("a"), fence).await;
    live.leave().await;
    let (_, welcome) = server.welcome(hello(1)).await;
    assert_eq!(welcome.high_water_seq.get(), 1);
}

/// Two servers on one store.
fn two_servers(config: RouterConfig) -> (Server, Server) {
    let store = std::sync::Arc::new(store::Probe::new(Policy::default()));
    let named = |server: &str| RouterConfig {
        server: server.to_owned(),
        ..config.clone()
    };
    let server = |name| Server::over(store.clone(), named(name), Policy::default());
    (server("one"), server("two"))
}

#[tokio::test]
async fn an_instance_that_went_to_another_server_is_told_so_by_the_first() {
    let (one, two) = two_servers(calm());
    let mut first = one.session(1).await;
    one.submit("a").await;
    let (fence, _) = first.assigned().await;
    let (mut second, welcome) = two.welcome(hello(1)).await;
    assert!(welcome.leases.is_empty());
    assert_eq!(second.assigned().await.0, fence, "the same lease");
    done(first.say(heartbeat(&[])).await);
    assert_eq!(
        first.farewell().await,
        ("replaced".to_owned(), false, Closing::Replaced)
    );
    first.leave().await;
    assert_eq!(second.line.holds(), ["a"]);
    second.settle(&say::completed("a"), fence).await;
    assert_eq!(one.job("a").await.state, State::Completed);
    assert_eq!(two.router.sessions().len(), 1);
}

#[tokio::test]
async fn a_number_on_a_replaced_connection_ends_it_at_once() {
    let (one, two) = two_servers(RouterConfig {
        sweep_interval: std::time::Duration::from_secs(3600),
        ..calm()
    });
    let mut first = one.session(1).await;
    one.submit("a").await;
    let (fence, _) = first.assigned().await;
    let (mut second, _) = two.welcome(hello(1)).await;
    second.assigned().await;
    let late = first.next(&say::completed("a"), fence);
    failed(first.say(late).await);
    assert_eq!(first.farewell().await.2, Closing::Replaced);
    assert_eq!(one.job("a").await.state, State::Assigned);
    second.settle(&say::completed("a"), fence).await;
}

#[tokio::test]
async fn a_session_that_the_rows_lost_comes_back_with_what_it_had() {
    let server = Server::with(calm(), Policy::default());
    let mut first = server.session(1).await;
    server.submit("a").await;
    let (fence, _) = first.assigned().await;
    let session = first.line.peer.session().unwrap().reference();
    server.store.elsewhere(crawlwire_progress::Op::Disconnect(session));
    done(first.say(heartbeat(&[])).await);
    assert_eq!(
        first.farewell().await,
        ("session_lost".to_owned(), true, Closing::SessionLost)
    );
    first.leave().await;
    let (mut second, _) = server.welcome(hello(1)).await;
    assert_eq!(second.assigned().await.0, fence);
}

#[tokio::test]
async fn an_instance_belongs_to_who_began_it() {
    let server = quiet().await;
    let unix = |uid| Origin::Unix { uid, gid: 7 };
    let mut first = server.greet(unix(1), hello(1)).await;
    first.welcomed().await;
    let mut thief = server.greet(unix(2), hello(1)).await;
    assert_eq!(thief.refused().await, ("instance_taken".to_owned(), None, false));
    assert_eq!(thief.farewell().await.2, Closing::HelloRefused);
    assert!(first.heard_nothing());
    let mut again = server.greet(unix(1), hello(1)).await;
    again.welcomed().await;
}

#[tokio::test]
async fn a_greeting_that_the_store_cannot_answer_is_to_be_tried_again() {
    let server = quiet().await;
    let mut first = server.session(1).await;
    server.submit("a").await;
    let (fence, _) = first.assigned().await;
    first.leave().await;
    server.store.fail("OpenSession", store::Failure::Unavailable);
    let mut refused = server.greet(Origin::Memory, hello(1)).await;
    assert_eq!(refused.refused().await, ("database_unavailable".to_owned(), None, true));
    assert_eq!(
        refused.farewell().await,
        ("unavailable".to_owned(), true, Closing::Unavailable)
    );
    refused.leave().await;
    let (mut again, _) = server.welcome(hello(1)).await;
    assert_eq!(again.assigned().await.0, fence);
    assert_eq!(server.job("a").await.misses, 0);
}
