//! Numbers: what is acknowledged is kept, and what is kept has its effect once.

use crawlwire_progress::{Arrow, Op, State, Store};
use crawlwire_protocol::message::BrokenRule;
use crawlwire_protocol::{Category, Peeked, Seq, Severity, Words, fingerprint, peek};
use crawlwire_router::Refused;
use serde_json::json;

use crate::client::{Client, about, hello, hello_with, line, marked, quiet};
use crate::support::store::Failure;
use crate::support::*;

/// A session with a job that it was given.
async fn given(server: &Server, id: &str) -> (Client, i64) {
    let mut client = server.session(1).await;
    server.submit(id).await;
    let (fence, _) = client.assigned().await;
    // What it discovers is left alone.
    server.router.stop_dispatching();
    (client, fence)
}

fn number(code: &str, seq: u64, again: bool) -> (String, Option<u64>, bool) {
    (code.to_owned(), Some(seq), again)
}

#[tokio::test]
async fn an_acknowledgement_means_that_it_is_durable_and_many_lines_need_one() {
    let server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    server.store.hold("Said");
    let lines = [say::started("a"), say::discovered("a", &["x"]), say::completed("a")];
    let mut pending = Vec::new();
    for line in lines {
        let line = client.next(&line, fence);
        pending.push(client.line.take(&line).await);
    }
    assert_eq!(server.job("a").await.state, State::Completed);
    assert!(client.heard_nothing(), "nobody knows yet that it is durable");
    server.store.tell();
    for pending in pending {
        done(server.router.conclude(&client.line.peer, pending.await).await);
    }
    assert!(client.heard_nothing());
    server.router.acknowledge(&client.line.peer).await;
    server.router.acknowledge(&client.line.peer).await;
    assert_eq!(client.ack().await, 3);
    assert!(client.heard_nothing());
    assert_eq!(server.router.sessions()[0].high_water, 3);
    assert_eq!(server.arrows("a").await, ["submit", "claim", "start", "finish"]);
    assert_eq!(
        server.store.sessions(1).await.unwrap()[0]
            .instance
            .as_ref()
            .unwrap()
            .high_water,
        3
    );
}

#[tokio::test]
async fn what_is_said_again_is_acknowledged_again_and_has_no_effect() {
    let server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    client.settle(&say::started("a"), fence).await;
    let line = client.next(&say::discovered("a", &["x"]), fence);
    for _ in 0..3 {
        done(client.say(line.clone()).await);
        assert_eq!(client.ack().await, 2);
    }
    let stats = server.router.stats();
    assert_eq!(stats.out_of_turn, 2);
    let children = server.store.jobs(Default::default(), crate::chance::ALL).await.unwrap();
    assert_eq!(children.items.len(), 2);
    client.leave().await;

    // The next connection knows the numbers of this one, and the last of its lines.
    let (mut client, welcome) = server.welcome(hello(1)).await;
    assert_eq!(welcome.high_water_seq.get(), 2);
    client.assigned().await;
    done(client.say(line).await);
    assert_eq!(client.ack().await, 2);
    let other = client.numbered(2, &say::discovered("a", &["y"]), fence);
    client.say(other).await;
    assert_eq!(client.refused().await, number("sequence_conflict", 2, false));
    assert_eq!(server.errors(1).await[0].code, "sequence_conflict");
    client.settle(&say::completed("a"), fence).await;
}

#[tokio::test]
async fn a_line_before_its_turn_has_no_effect_and_is_to_be_said_again() {
    let server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    let early = client.numbered(2, &say::completed("a"), fence);
    client.say(early.clone()).await;
    let error = client.error().await;
    assert_eq!((error.code.as_str(), error.retryable), ("sequence_gap", true));
    assert_eq!(error.retry_after_ms.unwrap().get(), 0.0);
    assert_eq!(server.job("a").await.state, State::Assigned);
    client.settle(&say::started("a"), fence).await;
    done(client.say(early).await);
    assert_eq!(client.ack().await, 2);
}

#[tokio::test]
async fn two_lines_under_one_number_are_told_apart_as_long_as_both_are_known() {
    let server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    for _ in 0..3 {
        client.settle(&say::started("a"), fence).await;
    }
    let other = client.numbered(1, &say::completed("a"), fence);
    client.say(other).await;
    assert_eq!(client.refused().await, number("sequence_conflict", 1, false));
    assert_eq!(server.job("a").await.state, State::Running);
}

#[tokio::test]
async fn a_late_line_uses_up_its_number_and_is_final() {
    let server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    for (job, lease, code) in [("a", fence + 1, "stale"), ("a", 0, "stale"), ("b", 1, "not_held")] {
        let line = client.next(&say::completed(job), lease);
        failed(client.say(line.clone()).await);
        assert_eq!(client.refused().await, number(code, client.seq, false));
        done(client.say(line).await);
        assert_eq!(client.ack().await, client.seq, "it was settled");
    }
    assert_eq!(server.job("a").await.state, State::Assigned);
    client.settle(&say::completed("a"), fence).await;
    let again = client.next(&say::completed("a"), fence);
    client.say(again).await;
    assert_eq!(client.refused().await, number("not_held", client.seq, false));
}

#[tokio::test]
async fn a_job_lost_elsewhere_is_found_to_be_lost_by_the_store() {
    let server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    client.settle(&say::started("a"), fence).await;
    server.store.later(server.policy.lease);
    server.store.commit(Op::Sweep).await.unwrap();
    let line = client.next(&say::completed("a"), fence);
    client.say(line).await;
    assert_eq!(client.refused().await, number("stale", 2, false));
    assert!(client.line.holds().is_empty());
    assert_eq!(server.job("a").await.state, State::Queued);
}

#[tokio::test]
async fn bad_lines_and_unknown_types_use_up_their_number_too() {
    let server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    client.settle(&say::started("a"), fence).await;
    let unknown = marked(&line("moon_phase", json!({})), json!({ "seq": 2 }));
    client.say(unknown).await;
    assert_eq!(client.refused().await, number("unknown_type", 2, false));
    client.say(line("moon_phase", json!({}))).await;
    assert_eq!(client.refused().await, ("unknown_type".to_owned(), None, false));

    let bad = client.numbered(3, &about("job_completed", "a", json!({ "summary": 7 })), fence);
    refuse(&server, &client, &peek(bad.as_bytes()), &bad).await;
    let error = client.error().await;
    assert_eq!(
        (error.code.as_str(), error.seq.map(Seq::get)),
        ("invalid_message", Some(3))
    );
    let rules = error.violations.unwrap();
    assert_eq!((rules.len(), rules[0].path.as_str()), (1, "/data/summary"));
    refuse(&server, &client, &peek(bad.as_bytes()), &bad).await;
    assert_eq!(client.ack().await, 3, "it was settled");
    refuse(&server, &client, &Peeked::default(), "{").await;
    assert_eq!(client.refused().await, ("invalid_message".to_owned(), None, false));
    let early = client.numbered(9, &about("job_completed", "a", json!({})), fence);
    refuse(&server, &client, &peek(early.as_bytes()), &early).await;
    assert_eq!(client.refused().await, number("sequence_gap", 9, true));
    client.seq = 3;
    client.settle(&say::completed("a"), fence).await;
    assert_eq!(server.router.stats().invalid, 4);
}

async fn refuse(server: &Server, client: &Client, peeked: &Peeked, line: &str) {
    let mut refused = Refused::new(
        "invalid_message",
        (Category::MessageValidation, Severity::Low),
        "/data/summary: not a string",
    );
    refused.violations.push(BrokenRule {
        path: Words::cut("/data/summary"),
        message: Words::cut("not a string"),
    });
    let print = Some(fingerprint(line.as_bytes()));
    let pending = server
        .router
        .refuse_line(&client.line.peer, peeked, print, refused)
        .await;
    server.router.conclude(&client.line.peer, pending.await).await;
    server.router.acknowledge(&client.line.peer).await;
}

#[tokio::test]
async fn a_greeting_that_is_none_ends_the_connection() {
    let server = quiet().await;
    let line = server.connect(None);
    line.peer.decide(Some("hello"));
    let mut client = Client { line, seq: 0 };
    refuse(&server, &client, &Peeked::default(), "{").await;
    assert_eq!(client.refused().await.0, "invalid_message");
    assert_eq!(client.farewell().await.0, "hello_refused");
}

#[tokio::test]
async fn a_store_that_loses_an_operation_costs_another_try_and_nothing_else() {
    let mut server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    server.store.fail("Said", Failure::Unavailable);
    let texts = [say::started("a"), say::discovered("a", &["x"]), say::completed("a")];
    let lines = together(&server, &mut client, &texts.map(|text| (text, fence))).await;
    let first = client.error().await;
    assert_eq!(
        (first.code.as_str(), first.seq.map(Seq::get)),
        ("database_unavailable", Some(1))
    );
    assert!(first.retryable && first.retry_after_ms.is_some_and(|wait| wait.get() > 0.0));
    // What was sent behind it waits for it.
    assert_eq!(client.refused().await, number("sequence_gap", 2, true));
    assert_eq!(client.refused().await, number("sequence_gap", 3, true));
    assert_eq!(server.job("a").await.state, State::Assigned);
    for line in lines {
        done(client.say(line).await);
    }
    while client.ack().await < 3 {}
    server.arrow("a", Arrow::Finish).await;
    assert_eq!(server.arrows("a").await, ["submit", "claim", "start", "finish"]);
    let job = server.job("a").await;
    assert_eq!((job.state, job.attempt, job.tree.children), (State::Completed, 1, 1));
    assert!(client.line.holds().is_empty());
}

/// The answer to the commit of number 1 is lost. Number 2 was behind it and is durable: an acknowledgement of it would tell
/// that 1 had its effect, and it had none.
#[tokio::test]
async fn a_number_that_nobody_can_tell_of_is_told_by_the_next_welcome() {
    let server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    server.store.fail("Said", Failure::InDoubt);
    let said = [(say::completed("a"), fence + 1), (say::discovered("a", &["x"]), fence)];
    together(&server, &mut client, &said).await;
    assert_eq!(client.refused().await, number("database_unavailable", 1, true));
    let (reason, reconnect, _) = client.farewell().await;
    assert_eq!((reason.as_str(), reconnect), ("session_lost", true));
    client.leave().await;
    let holds = json!([{ "job_id": "a", "fence": fence }]);
    let (_, welcome) = server.welcome(hello_with(1, json!({ "holds": holds }))).await;
    let refused = welcome.refused.expect("this server tells");
    let refused: Vec<_> = refused.iter().map(|it| (it.seq.get(), it.code.as_str())).collect();
    assert_eq!((welcome.high_water_seq.get(), refused), (2, vec![(1, "stale")]));
    assert_eq!(server.job("a").await.tree.children, 1);
}

/// Says several lines before any of them is answered. Gives them.
async fn together(server: &Server, client: &mut Client, said: &[(String, i64)]) -> Vec<String> {
    let lines: Vec<_> = said.iter().map(|(text, fence)| client.next(text, *fence)).collect();
    let mut pending = Vec::new();
    for line in &lines {
        pending.push(client.line.take(line).await);
    }
    for pending in pending {
        server.router.conclude(&client.line.peer, pending.await).await;
    }
    lines
}

#[tokio::test]
async fn the_next_connection_is_told_what_was_refused_on_this_one() {
    let server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    client.settle(&say::started("a"), fence).await;
    let said = [
        marked(&say::completed("a"), json!({ "fence": fence + 1 })),
        marked(&about("job_resumed", "a", json!({})), json!({ "fence": fence })),
        line("moon_phase", json!({})),
        marked(&say::discovered("a", &["x"]), json!({ "fence": fence })),
    ];
    for line in &said {
        client.seq += 1;
        client.say(marked(line, json!({ "seq": client.seq }))).await;
    }
    let bad = client.next(&about("job_completed", "a", json!({ "summary": 7 })), fence);
    refuse(&server, &client, &peek(bad.as_bytes()), &bad).await;
    // The store finds that the job was taken away; a welcome goes by its books.
    server.store.fail("Said", Failure::Broken);
    let broken = client.next(&say::discovered("a", &["y"]), fence);
    client.say(broken).await;
    server.store.later(server.policy.lease);
    server.store.commit(Op::Sweep).await.unwrap();
    let end = client.next(&say::completed("a"), fence);
    client.say(end).await;
    client.leave().await;

    let holds = json!([{ "job_id": "a", "fence": fence }]);
    let (client, welcome) = server.welcome(hello_with(1, json!({ "holds": holds }))).await;
    assert_eq!((welcome.high_water_seq.get(), welcome.leases.len()), (8, 0));
    let refused = welcome.refused.expect("this server tells");
    let refused: Vec<_> = refused.iter().map(|it| (it.seq.get(), it.code.as_str())).collect();
    let expected = [
        (2, "stale"),
        (4, "unknown_type"),
        (6, "invalid_message"),
        (7, "internal_error"),
        (8, "stale"),
    ];
    assert_eq!(refused, expected);
    client.leave().await;
    let (_, other) = server.welcome(hello(2)).await;
    assert_eq!(other.refused.map(|refused| refused.len()), Some(0));
}

#[tokio::test]
async fn a_refusal_that_nobody_heard_is_told_when_the_line_comes_again() {
    let server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    client.settle(&say::started("a"), fence).await;
    server.store.later(server.policy.lease);
    server.store.commit(Op::Sweep).await.unwrap();
    server.store.fail("Said", Failure::InDoubt);
    let end = client.next(&say::completed("a"), fence);
    client.say(end.clone()).await;
    assert_eq!(client.refused().await, number("database_unavailable", 2, true));
    client.say(end).await;
    assert_eq!(client.refused().await, number("stale", 2, false));
}

#[tokio::test]
async fn what_the_database_never_takes_is_final_and_what_follows_goes_on() {
    let server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    server.store.fail("Said", Failure::Broken);
    let line = client.next(&say::discovered("a", &["x"]), fence);
    client.say(line).await;
    assert_eq!(client.refused().await, number("internal_error", 1, false));
    client.settle(&say::completed("a"), fence).await;
    assert_eq!(server.job("a").await.tree.children, 0);
}

#[tokio::test]
async fn while_the_store_is_away_nothing_is_acknowledged_and_everything_afterwards() {
    let server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    server.store.leave();
    let line = client.next(&say::completed("a"), fence);
    let pending = client.line.take(&line).await;
    assert!(client.heard_nothing());
    server.store.come_back();
    done(server.router.conclude(&client.line.peer, pending.await).await);
    server.router.acknowledge(&client.line.peer).await;
    assert_eq!(client.ack().await, 1);
}

#[tokio::test]
async fn without_a_number_nothing_is_acknowledged() {
    let server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    let report = |n: u64| {
        marked(
            &say::progress("a", n as f64 / 10.0),
            json!({ "fence": fence, "n": n, "seq": 1 }),
        )
    };
    done(client.say(report(5)).await);
    assert!(client.heard_nothing());
    let job = server.job("a").await;
    assert_eq!(
        (job.state, job.attempt),
        (State::Running, 1),
        "a first report implies the start"
    );
    done(client.say(report(3)).await);
    assert_eq!(
        server.router.progress(job.key).unwrap().said.overall_completion,
        0.5,
        "newer wins"
    );
    client
        .say(marked(&say::progress("a", 0.9), json!({ "fence": fence + 1, "n": 6 })))
        .await;
    assert_eq!(client.refused().await, ("stale".to_owned(), None, false));
    client.settle(&say::completed("a"), fence).await;
}

#[tokio::test]
async fn a_line_without_effect_is_a_sign_of_life_all_the_same() {
    let server = quiet().await;
    let mut client = server.session(1).await;
    server.submit("a").await;
    let (fence, _) = client.assigned().await;
    client.settle(&say::started("a"), fence).await;
    let heard = || server.router.sessions()[0].messages;
    for seq in [1, 7] {
        let before = heard();
        client.say(client.numbered(seq, &say::started("a"), fence)).await;
        assert_eq!(heard(), before + 1, "number {seq}");
    }
    let before = heard();
    refuse(&server, &client, &Peeked::default(), "{").await;
    assert_eq!(heard(), before + 1, "no message at all");
}
