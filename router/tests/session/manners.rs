//! What a crawler and the server tell each other besides: what is held, wanted, limited, and when somebody leaves.

use std::time::Duration;

use crawlwire_progress::admit::Gate;
use crawlwire_progress::store::{ErrorFilter, Paging};
use crawlwire_progress::{Arrow, Policy, State, Store};
use crawlwire_protocol::WebAppMessage;
use crawlwire_router::{Closing, RouterConfig};
use serde_json::json;

use crate::client::{Client, about, calm, heartbeat, hello_with, line, marked, quiet, until_the_next_beat};
use crate::support::*;

async fn given(server: &Server, id: &str) -> (Client, i64) {
    let mut client = server.session(1).await;
    server.submit(id).await;
    let (fence, _) = client.assigned().await;
    (client, fence)
}

#[tokio::test(start_paused = true)]
async fn what_only_the_crawler_knows_is_not_its_own() {
    let server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    let wrong = [("a", fence), ("a", fence + 1), ("b", 7)];
    done(client.say(heartbeat(&wrong)).await);
    assert!(client.heard_nothing(), "once may be a line that crossed another");
    until_the_next_beat().await;
    done(client.say(heartbeat(&[("a", fence), ("b", 7)])).await);
    assert_eq!(
        client.told().await,
        ("job_cancel", "b".to_owned(), 7),
        "what was there both times"
    );
    assert!(client.heard_nothing());
    until_the_next_beat().await;
    done(client.say(heartbeat(&[("a", fence)])).await);
    until_the_next_beat().await;
    done(client.say(heartbeat(&[("a", fence), ("b", 7)])).await);
    assert!(client.heard_nothing());
    assert_eq!(client.line.holds(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn what_only_the_server_knows_goes_to_somebody_else() {
    let mut server = quiet().await;
    let (mut client, _) = given(&server, "never begun").await;
    server.submit("begun").await;
    let (fence, _) = client.assigned().await;
    client.settle(&say::started("begun"), fence).await;
    for _ in 0..2 {
        done(client.say(heartbeat(&[])).await);
        assert_eq!(client.line.holds().len(), 2, "it may not have heard of them");
        until_the_next_beat().await;
    }
    server.router.stop_dispatching();
    done(client.say(heartbeat(&[])).await);
    let released = server.arrow("never begun", Arrow::Release).await;
    let finished = server.job("begun").await;
    assert_eq!(
        (released.state, finished.state, finished.failures),
        (State::Queued, State::Delayed, 1)
    );
    assert!(finished.error.unwrap().contains("lost_by_crawler"));
    assert!(client.line.holds().is_empty() && client.heard_nothing());
}

/// As after a link that stood still: what the crawler said before it heard of the job arrives after the job was given out.
#[tokio::test(start_paused = true)]
async fn heartbeats_that_waited_on_their_way_count_as_one() {
    let mut server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    until_the_next_beat().await;
    for _ in 0..5 {
        done(client.say(heartbeat(&[])).await);
    }
    until_the_next_beat().await;
    done(client.say(heartbeat(&[("a", fence)])).await);
    assert_eq!(
        (client.line.holds(), client.heard_nothing()),
        (vec!["a".to_owned()], true)
    );

    // It is no excuse for ever.
    server.router.stop_dispatching();
    for _ in 0..2 {
        until_the_next_beat().await;
        done(client.say(heartbeat(&[])).await);
    }
    assert_eq!(server.arrow("a", Arrow::Release).await.state, State::Queued);
}

#[tokio::test]
async fn a_heartbeat_without_a_list_says_nothing_of_jobs() {
    let server = quiet().await;
    let (client, _) = given(&server, "a").await;
    for _ in 0..5 {
        done(client.say(say::heartbeat()).await);
    }
    assert_eq!(client.line.holds(), ["a"]);
}

#[tokio::test]
async fn a_crawler_says_how_many_jobs_it_wants() {
    let server = quiet().await;
    let (mut client, _) = server.welcome(hello_with(1, json!({ "slots": 0 }))).await;
    for id in ["a", "b", "c"] {
        server.submit(id).await;
    }
    assert!(client.heard_nothing());
    done(client.say(line("job_request", json!({ "slots": 2 }))).await);
    let (fence, first) = client.assigned().await;
    client.assigned().await;
    assert!(client.heard_nothing());
    done(client.say(line("job_request", json!({ "slots": 1 }))).await);
    assert_eq!(client.line.holds().len(), 2, "what it has it keeps");
    client.settle(&say::completed(&first.job_id), fence).await;
    server.router.explain(&server.job("c").await).await.unwrap();
    assert!(client.heard_nothing());
    assert_eq!(server.router.sessions()[0].capabilities.slots, 1);
}

#[tokio::test]
async fn a_host_that_limits_requests_closes_the_gate_and_never_opens_it_sooner() {
    let server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    let limited = |ms: u64| {
        let data = json!({ "retry_after_ms": ms, "limit": 100, "remaining": 0 });
        marked(&about("api_limited", "a", data), json!({ "fence": fence }))
    };
    let begin = server.store.now();
    let until = async || {
        let gates = server.store.gates().await.unwrap();
        assert!(gates.len() <= 1);
        gates
            .first()
            .and_then(|gate| gate.until)
            .map(|until| until.since(begin))
    };
    done(client.say(limited(0)).await);
    assert_eq!(until().await, None);
    for (ms, seconds) in [(60_000, 60), (30_000, 60), (60_500, 60), (90_000, 90)] {
        done(client.say(limited(ms)).await);
        assert_eq!(until().await, Some(Duration::from_secs(seconds)), "{ms}");
    }
    let gate = server.store.gates().await.unwrap().remove(0);
    let credentials = Gate::Credentials {
        account_id: "acme".to_owned(),
        host: "gitlab.example".to_owned(),
    };
    assert_eq!((&gate.gate, gate.by.as_str()), (&credentials, "worker-00000001"));
    assert_eq!(gate.reason.as_deref(), Some("the host limits requests: 0 of 100 left"));
    server.submit("b").await;
    assert!(client.heard_nothing());

    server
        .router
        .close_gate(credentials, None, None, "somebody")
        .await
        .unwrap();
    done(client.say(limited(5_000)).await);
    assert_eq!(until().await, None, "closed until somebody opens it");
    let stale = marked(&limited(5_000), json!({ "fence": fence + 1 }));
    client.say(stale).await;
    assert_eq!(client.refused().await, ("stale".to_owned(), None, false));
}

#[tokio::test]
async fn a_job_given_back_costs_nothing_and_goes_on_from_the_last_checkpoint() {
    let mut server = quiet().await;
    let (mut client, fence) = given(&server, "a").await;
    for page in [1, 2] {
        let cursor = about("checkpoint", "a", json!({ "cursor": { "page": page } }));
        client.settle(&cursor, fence).await;
    }
    assert_eq!(server.arrows("a").await, ["submit", "claim", "start"]);
    done(client.say(line("job_request", json!({ "slots": 0 }))).await);
    client
        .settle(&about("job_returned", "a", json!({ "reason": "bored" })), fence)
        .await;
    assert_eq!(server.arrow("a", Arrow::Return).await.state, State::Queued);
    let job = server.job("a").await;
    assert_eq!((job.failures, job.misses, job.resume), (0, 0, true));
    let line = client.next(&about("checkpoint", "a", json!({ "cursor": {} })), fence);
    client.say(line).await;
    assert_eq!(client.refused().await.0, "not_held");

    let (mut plain, _) = server.welcome(hello_with(2, json!({ "features": ["cancel"] }))).await;
    let (fence, assignment) = plain.assigned().await;
    assert!(
        assignment.checkpoint.is_none() && assignment.counts.is_none() && assignment.resume,
        "it would not understand"
    );
    plain.settle(&about("job_returned", "a", json!({})), fence).await;
    plain.leave().await;
    let (mut third, _) = server.welcome(hello_with(3, json!({}))).await;
    assert_eq!(third.assigned().await.1.checkpoint.unwrap().as_str(), r#"{"page":2}"#);
}

#[tokio::test]
async fn who_says_goodbye_gives_back_what_it_holds() {
    let server = quiet().await;
    let (mut client, _) = given(&server, "waiting").await;
    server.submit("running").await;
    let (fence, _) = client.assigned().await;
    client.settle(&say::started("running"), fence).await;
    done(client.say(line("goodbye", json!({ "reason": "night" }))).await);
    assert_eq!(client.farewell().await, ("goodbye".to_owned(), false, Closing::Goodbye));
    for (id, resume) in [("waiting", false), ("running", true)] {
        let job = server.job(id).await;
        assert_eq!(
            (job.state, job.failures, job.misses, job.resume),
            (State::Queued, 0, 0, resume)
        );
    }
    assert!(client.heard_nothing());
    client.leave().await;
    let mut next = server.session(2).await;
    next.assigned().await;
}

#[tokio::test]
async fn pings_are_answered_and_silence_is_noticed() {
    let mut config = config();
    config.hello.heartbeat_interval = Duration::from_millis(60);
    config.hello.heartbeat_timeout = Duration::from_millis(400);
    let server = Server::with(config, Policy::default());
    let base = server.crawler().await;
    let mut client = server.session(1).await;
    done(client.say(line("ping", json!({ "nonce": "n1" }))).await);
    match client.hear().await.message {
        WebAppMessage::Pong(pong) => assert_eq!(pong.nonce.unwrap().as_str(), "n1"),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.told().await.0, "ping", "it is asked when it is silent");
    done(client.say(line("pong", json!({}))).await);
    let mut pings = 0;
    let goodbye = loop {
        match client.hear().await.message {
            WebAppMessage::Ping(_) => pings += 1,
            other => break other,
        }
    };
    // How many depends on the machine.
    assert!(pings >= 1);
    assert!(
        matches!(goodbye, WebAppMessage::Goodbye(goodbye) if goodbye.reconnect && goodbye.reconnect_after_ms.is_some())
    );
    until("the end", || {
        client.line.out.closing.get() == Some(&Closing::HeartbeatTimeout)
    })
    .await;
    assert!(base.out.closing.get().is_none(), "a base crawler is left alone");
}

#[tokio::test]
async fn reports_are_asked_for_less_often_when_there_are_many_jobs() {
    let mut config = RouterConfig {
        slots_per_crawler: 1000,
        job_queue_size: 1000,
        ..config()
    };
    config.hello.heartbeat_interval = Duration::from_millis(50);
    config.hello.heartbeat_timeout = Duration::from_secs(1000);
    config.hello.progress_interval = Duration::from_millis(100);
    let server = Server::with(config, Policy::default());
    let (mut client, welcome) = server.welcome(hello_with(1, json!({ "slots": 0 }))).await;
    assert_eq!(welcome.report_policy.progress_interval_ms.get(), 100.0);
    let mut base = server.crawler().await;
    for job in 0..150 {
        server.submit(&format!("job-{job}")).await;
        base.assignment().await;
    }
    let policy = loop {
        match client.hear().await.message {
            WebAppMessage::ReportPolicy(policy) => break policy,
            WebAppMessage::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    };
    let asked = policy.progress_interval_ms.get();
    assert!((200.0..=300.0).contains(&asked), "{asked}");
}

#[tokio::test]
async fn reports_are_asked_for_more_often_while_somebody_watches() {
    let mut config = calm();
    config.hello.progress_interval = Duration::from_millis(100);
    config.hello.unwatched_interval = Duration::from_secs(10);
    let server = Server::with(config, Policy::default());
    let (mut client, welcome) = server.welcome(hello_with(1, json!({}))).await;
    assert_eq!(welcome.report_policy.progress_interval_ms.get(), 10_000.0);
    server.submit("a").await;
    let (fence, _) = client.assigned().await;
    client.settle(&say::started("a"), fence).await;
    let line = client.next(&say::discovered("a", &["below"]), fence);
    done(client.say(line).await);
    while !matches!(client.hear().await.message, WebAppMessage::JobAssignment(_)) {}
    client.line.router.watch("another");
    let line = client.next(&say::completed("a"), fence);
    done(client.say(line).await);
    assert_eq!(client.line.holds().len(), 1, "what is below goes on");
    server.router.watch("a");
    let policy = loop {
        match client.hear().await.message {
            WebAppMessage::ReportPolicy(policy) => break policy,
            WebAppMessage::Ack(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(policy.progress_interval_ms.get(), 100.0);
}

#[tokio::test]
async fn a_server_that_drains_tells_each_in_its_own_words() {
    let server = quiet().await;
    let mut base = server.crawler().await;
    let deadline = Duration::from_secs(1);
    let mut clients = Vec::new();
    for instance in 1..=5 {
        clients.push(server.session(instance).await);
    }
    assert_eq!(server.router.drain(deadline, "stopping").await, 6);
    match base.hear().await.message {
        WebAppMessage::Shutdown(shutdown) => {
            assert_eq!((shutdown.graceful, shutdown.timeout_seconds), (true, 1.0));
            assert_eq!(shutdown.reason.as_deref(), Some("stopping"));
        }
        other => panic!("{other:?}"),
    }
    let mut when = Vec::new();
    for client in &mut clients {
        match client.hear().await.message {
            WebAppMessage::Draining(draining) => {
                assert_eq!(draining.deadline_ms.as_duration(), deadline);
                let after = draining.reconnect_after_ms.as_duration();
                assert!(after >= deadline && after <= server.policy.reattach_grace / 2);
                when.push(after);
            }
            other => panic!("{other:?}"),
        }
    }
    when.sort();
    when.dedup();
    assert!(when.len() >= 4, "each at another time: {when:?}");
    server.submit("a").await;
    assert!(clients[0].heard_nothing() && base.heard_nothing());
}

#[tokio::test]
async fn whoever_comes_back_when_it_is_told_keeps_its_jobs() {
    for grace in [0, 400, 5000, 60_000].map(Duration::from_millis) {
        let policy = Policy {
            reattach_grace: grace,
            ..Policy::default()
        };
        let server = Server::by_hand_with(calm(), policy).await;
        let mut client = server.session(1).await;
        server.router.drain(Duration::from_secs(1), "stopping").await;
        server.router.goodbye(&client.line.peer, "server_shutdown", true).await;
        let draining = match client.hear().await.message {
            WebAppMessage::Draining(draining) => draining.reconnect_after_ms,
            other => panic!("{other:?}"),
        };
        assert!(draining.as_duration() <= grace / 2, "{draining:?} of {grace:?}");
        let goodbye = match client.hear().await.message {
            WebAppMessage::Goodbye(goodbye) => goodbye.reconnect_after_ms.expect("a time").as_duration(),
            other => panic!("{other:?}"),
        };
        let shortest = Duration::from_millis(100);
        assert!(
            goodbye >= shortest && goodbye <= (grace / 2).max(2 * shortest),
            "{goodbye:?} of {grace:?}"
        );
    }
}

#[tokio::test]
async fn a_token_comes_with_the_number_of_its_request_and_the_lease() {
    let server = quiet().await;
    let mut client = server.session(1).await;
    server.submit_job(with_token("a", "first")).await;
    let (fence, assignment) = client.assigned().await;
    assert_eq!(assignment.access_token.expose(), "first");
    let ask = |n: u64| marked(&say::refresh("a"), json!({ "fence": fence, "n": n }));
    done(client.say(ask(4)).await);
    let answer = client.hear().await;
    assert_eq!((answer.marks.fence.unwrap().get(), answer.marks.n), (fence, Some(4)));
    match answer.message {
        WebAppMessage::TokenRefreshResponse(response) => assert!(!response.refresh_successful),
        other => panic!("{other:?}"),
    }
    client.leave().await;
    let holds = json!({ "holds": [{ "job_id": "a", "fence": fence }] });
    let (mut client, _) = server.welcome(hello_with(1, holds)).await;
    server.submit_job(with_token("b", "second")).await;
    client.assigned().await;
    done(client.say(ask(5)).await);
    match client.hear().await.message {
        WebAppMessage::TokenRefreshResponse(response) => assert_eq!(response.access_token.expose(), "second"),
        other => panic!("{other:?}"),
    }
    client.say(marked(&ask(6), json!({ "fence": fence + 1 }))).await;
    assert_eq!(client.refused().await, ("stale".to_owned(), None, false));
    let all = Paging {
        limit: 100,
        after: None,
    };
    let errors = server.store.errors(ErrorFilter::default(), all).await.unwrap().items;
    assert!(errors.iter().all(|error| !error.message.contains("second")));
}

#[tokio::test]
async fn compressed_lines_are_not_for_the_router() {
    let server = quiet().await;
    let mut client = server.session(1).await;
    let data = json!({ "encoding": "zstd", "size": 1, "frame": "AA==" });
    client.say(line("compressed", data)).await;
    assert_eq!(client.refused().await, ("unknown_type".to_owned(), None, false));
}
