//! What people wish of jobs that a crawler works on, and what the crawler says to that.

use crawlwire_progress::store::Act;
use crawlwire_progress::{Arrow, Op, Policy, State};
use crawlwire_protocol::{Message, WebAppMessage};
use serde_json::json;

use crate::client::{Client, about, calm, hello_with, quiet};
use crate::support::*;

/// A session that works on jobs, and their leases.
async fn working<const N: usize>(server: &Server, ids: [&str; N]) -> (Client, [i64; N]) {
    let mut client = server.session(1).await;
    let mut leases = [0; N];
    for (id, lease) in ids.into_iter().zip(&mut leases) {
        server.submit(id).await;
        *lease = client.assigned().await.0;
        client.settle(&say::started(id), *lease).await;
    }
    (client, leases)
}

async fn act(server: &Server, id: &str, act: Act) -> Vec<Arrow> {
    let facts = server
        .router
        .act(server.job(id).await.key, act, "somebody")
        .await
        .unwrap();
    facts.into_iter().map(|fact| fact.arrow).collect()
}

fn about_a(kind: &'static str, fence: i64) -> (&'static str, String, i64) {
    (kind, "a".to_owned(), fence)
}

#[tokio::test]
async fn a_crawler_is_asked_to_end_a_job_and_says_that_it_did() {
    let mut server = quiet().await;
    let (mut client, [fence]) = working(&server, ["a"]).await;
    assert_eq!(act(&server, "a", Act::Cancel).await, [Arrow::WantCancel]);
    let asked = client.hear().await;
    assert_eq!(asked.marks.fence.unwrap().get(), fence);
    match asked.message {
        WebAppMessage::JobCancel(cancel) => {
            assert_eq!(cancel.deadline_ms.as_duration(), server.policy.want_timeout);
            assert!(cancel.reason.is_none());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.job("a").await.state, State::Running);
    let counts = json!({ "final_counts": [{ "entity_type": "issues", "total_discovered": 9, "total_processed": 4 }] });
    client.settle(&about("job_cancelled", "a", counts), fence).await;
    assert_eq!(server.arrow("a", Arrow::Confirm).await.state, State::Cancelled);
    assert!(client.line.holds().is_empty() && client.line.lingering().is_empty() && client.heard_nothing());
    let report = server.stored_progress("a", |_| true).await;
    assert_eq!(report.entities[0].said.total_processed.get(), 4);
}

#[tokio::test]
async fn a_pause_is_confirmed_or_taken_back() {
    let server = quiet().await;
    let (mut client, [fence]) = working(&server, ["a"]).await;
    act(&server, "a", Act::Pause).await;
    assert_eq!(client.told().await, about_a("job_pause", fence));
    assert_eq!(act(&server, "a", Act::Resume).await, [Arrow::Resume]);
    assert_eq!(client.told().await, about_a("job_resume", fence));
    client.settle(&about("job_resumed", "a", json!({})), fence).await;
    assert_eq!(client.line.holds(), ["a"]);
    act(&server, "a", Act::Pause).await;
    assert_eq!(client.told().await, about_a("job_pause", fence));
    client.settle(&about("job_paused", "a", json!({})), fence).await;
    let job = server.job("a").await;
    assert_eq!((job.state, job.failures, job.attempt), (State::Paused, 0, 1));
    act(&server, "a", Act::Resume).await;
    let (again, assignment) = client.assigned().await;
    assert!(again > fence && assignment.resume);
    assert_eq!(assignment.attempt.map(|attempt| attempt.get()), Some(2));
}

#[tokio::test]
async fn a_confirmation_of_what_nobody_wishes_any_more_gives_the_job_back() {
    let mut server = quiet().await;
    let (mut client, [fence]) = working(&server, ["a"]).await;
    act(&server, "a", Act::Pause).await;
    act(&server, "a", Act::Resume).await;
    assert_eq!(client.told().await.0, "job_pause");
    assert_eq!(client.told().await.0, "job_resume");
    let line = client.next(&about("job_paused", "a", json!({})), fence);
    done(client.say(line).await);
    server.arrow("a", Arrow::Return).await;
    let mut kinds = [client.hear().await, client.hear().await].map(|told| told.message.kind().as_str());
    kinds.sort_unstable();
    assert_eq!(kinds, ["ack", "job_assignment"]);
    let job = server.job("a").await;
    assert_eq!((job.state, job.failures, job.misses), (State::Assigned, 0, 0));
}

#[tokio::test]
async fn the_end_of_a_job_goes_before_a_wish() {
    let server = quiet().await;
    let (mut client, [fence]) = working(&server, ["a"]).await;
    act(&server, "a", Act::Cancel).await;
    client.told().await;
    client.settle(&say::completed("a"), fence).await;
    assert_eq!(server.job("a").await.state, State::Completed);
    let line = client.next(&about("job_cancelled", "a", json!({})), fence);
    failed(client.say(line).await);
    assert_eq!(client.refused().await.0, "not_held");
}

#[tokio::test]
async fn who_does_not_confirm_in_time_is_told_that_the_job_is_gone() {
    let mut server = Server::with(calm(), Policy::default());
    let (mut client, [fence]) = working(&server, ["a"]).await;
    act(&server, "a", Act::Cancel).await;
    assert_eq!(client.told().await, about_a("job_cancel", fence));
    server.store.later(server.policy.want_timeout);
    assert_eq!(server.arrow("a", Arrow::Force).await.state, State::Cancelled);
    let told = client.hear().await;
    assert_eq!(told.marks.fence.unwrap().get(), fence, "the lease that it knows");
    match told.message {
        WebAppMessage::JobCancel(cancel) => assert_eq!(cancel.reason.unwrap().as_str(), "not_yours"),
        other => panic!("{other:?}"),
    }
    assert!(client.line.lingering().is_empty());
    let line = client.next(&about("job_cancelled", "a", json!({})), fence);
    failed(client.say(line).await);
}

#[tokio::test]
async fn what_another_server_does_is_told_by_the_rows() {
    let server = quiet().await;
    let (mut client, [fence]) = working(&server, ["a"]).await;
    let job = server.job("a").await.key;
    let elsewhere = |act| {
        let by = "somebody".to_owned();
        server.store.elsewhere(Op::Act { job, act, by });
    };
    for (act, kind) in [
        (Act::Pause, "job_pause"),
        (Act::Resume, "job_resume"),
        (Act::Cancel, "job_cancel"),
    ] {
        elsewhere(act);
        assert_eq!(client.told().await, about_a(kind, fence));
    }
    server.store.later(server.policy.want_timeout);
    server.store.elsewhere(Op::Sweep);
    assert_eq!(
        client.told().await,
        about_a("job_cancel", fence),
        "not its own any more"
    );
    assert!(client.line.holds().is_empty() && client.heard_nothing());
}

#[tokio::test]
async fn a_wish_that_could_not_be_sent_is_sent_later_and_once() {
    let server = Server::with(calm(), Policy::default());
    let (mut client, [fence]) = working(&server, ["a"]).await;
    client.line.out.full.store(true, std::sync::atomic::Ordering::Relaxed);
    act(&server, "a", Act::Cancel).await;
    assert!(client.heard_nothing());
    client.line.out.full.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(client.told().await, about_a("job_cancel", fence));
    server.renewed().await;
    server.renewed().await;
    assert!(client.heard_nothing());
}

#[tokio::test]
async fn a_tree_is_cancelled_through_the_crawlers_that_work_on_it() {
    let mut server = quiet().await;
    let mut client = server.session(1).await;
    server.submit("a").await;
    let (root, _) = client.assigned().await;
    let line = client.next(&say::discovered("a", &["x", "y", "z"]), root);
    done(client.say(line).await);
    let (mut child, mut acked) = (None, false);
    while child.is_none() || !acked {
        let told = client.hear().await;
        match told.message {
            WebAppMessage::JobAssignment(assignment) => {
                child = Some((assignment.job_id, told.marks.fence.unwrap().get()));
            }
            _ => acked = true,
        }
    }
    let (child, lease) = child.unwrap();
    let key = server.job("a").await.key;
    assert_eq!(server.router.cancel_tree(key, "somebody").await.unwrap(), 4);
    let mut asked = vec![client.told().await, client.told().await];
    asked.sort();
    let mut expected = vec![
        ("job_cancel", "a".to_owned(), root),
        ("job_cancel", child.clone(), lease),
    ];
    expected.sort();
    assert_eq!(asked, expected);
    client.settle(&about("job_cancelled", &child, json!({})), lease).await;
    client.settle(&about("job_cancelled", "a", json!({})), root).await;
    server.arrow("a", Arrow::Confirm).await;
    let tree = server.job("a").await.tree;
    assert_eq!(tree.status.as_str(), "cancelled");
    assert_eq!(server.router.cancel_tree(key, "somebody").await.unwrap(), 0);
}

#[tokio::test]
async fn who_does_not_understand_wishes_loses_the_job_at_once_and_its_slot_lingers() {
    let server = quiet().await;
    let (mut client, _) = server
        .welcome(hello_with(1, json!({ "features": [], "slots": 1 })))
        .await;
    server.submit("a").await;
    let (fence, _) = client.assigned().await;
    client.settle(&say::started("a"), fence).await;
    assert_eq!(act(&server, "a", Act::Cancel).await, [Arrow::WantCancel, Arrow::Force]);
    server.submit("b").await;
    assert!(client.heard_nothing());
    assert_eq!(client.line.lingering(), ["a"]);
    let line = client.next(&say::completed("a"), fence);
    let pending = client.line.take(&line).await;
    assert_eq!(client.assigned().await.1.job_id, "b");
    server.router.conclude(&client.line.peer, pending.await).await;
    assert_eq!(client.refused().await.0, "not_held");
}
