//! Who may be given work, and what becomes of it when a connection goes.

mod support;

use std::time::Duration;

use crawlwire_progress::{Arrow, Op, Policy, State, Store};
use crawlwire_router::Event;

use support::*;

#[tokio::test]
async fn the_first_valid_message_opens_a_session_and_work_is_given_only_then() {
    let mut server = Server::start();
    let mut early = server.connect(None);
    failed(early.say(say::custom("of_my_own")).await);
    assert!(
        early.peer.session().is_none(),
        "a type of somebody's own says nothing about a crawler"
    );
    assert_eq!(early.name(), "connection-1");

    server.submit("a").await;
    server.submit("b").await;
    let mut late = server.crawler().await;
    assert_eq!(late.assignment().await.job_id, "a");
    assert_eq!(late.assignment().await.job_id, "b");
    assert!(early.heard_nothing());
    let opened = server.event("a session", |event| match event {
        Event::SessionOpened { name } => Some(name),
        _ => None,
    });
    assert_eq!(&*opened.await, "legacy-2");

    server.submit("c").await;
    failed(early.say(say::started("c")).await);
    assert_eq!(early.name(), "legacy-1", "refused, but a message of the protocol");
    assert_eq!(early.assignment().await.job_id, "c");
    let stored = server.store.sessions(10).await.unwrap();
    let names: Vec<_> = stored.iter().map(|session| session.name.as_str()).collect();
    assert_eq!(names, ["legacy-1", "legacy-2"]);
    assert!(
        stored
            .iter()
            .all(|session| session.connected && session.server == "one")
    );
}

#[tokio::test]
async fn slots_are_respected_and_the_least_busy_comes_first() {
    let mut server = Server::start();
    let (mut one, mut two) = (server.crawler().await, server.crawler().await);
    for id in ["a", "b", "c", "d", "e"] {
        server.submit(id).await;
    }
    assert_eq!(one.assignment().await.job_id, "a");
    assert_eq!(two.assignment().await.job_id, "b");
    assert_eq!(one.assignment().await.job_id, "c");
    assert_eq!(two.assignment().await.job_id, "d");
    assert_eq!(
        (one.holds(), two.holds()),
        (vec!["a".into(), "c".into()], vec!["b".into(), "d".into()])
    );
    done(two.say(say::heartbeat_with(0, "idle")).await);
    server.renewed().await;
    assert_eq!(
        server.job("e").await.state,
        State::Queued,
        "what a crawler says of its load frees no slot"
    );

    done(two.say(say::completed("b")).await);
    assert_eq!(two.assignment().await.job_id, "e");
    done(two.say(say::completed("d")).await);
    done(two.say(say::completed("e")).await);
    done(one.say(say::completed("a")).await);
    server.arrow("a", Arrow::Finish).await;
    server.submit("f").await;
    assert_eq!(two.assignment().await.job_id, "f", "one holds a job, two none");
    assert!(one.heard_nothing());
    assert_eq!(server.router.stats().assigned, 6);
}

#[tokio::test]
async fn who_is_silent_for_too_long_is_given_nothing() {
    let timeout = Duration::from_secs(1);
    let policy = Policy {
        lease: timeout,
        ..Policy::default()
    };
    let server = Server::with(config(), policy);
    let mut silent = server.crawler().await;
    let mut alive = server.crawler().await;
    tokio::time::sleep(timeout).await;
    done(alive.say(say::heartbeat()).await);
    server.submit("a").await;
    assert_eq!(alive.assignment().await.job_id, "a");
    assert!(silent.heard_nothing());
}

#[tokio::test]
async fn what_a_crawler_says_of_itself_is_shown() {
    let server = Server::start();
    let mut crawler = server.connect(Some("process-1"));
    done(crawler.say(say::heartbeat_with(7, "crawling")).await);
    server.submit("a").await;
    crawler.assignment().await;
    let info = server.router.sessions().remove(0);
    assert_eq!((&*info.name, info.connection, info.messages), ("legacy-1", 1, 1));
    assert_eq!(info.identity.as_deref(), Some("process-1"));
    assert_eq!(
        (info.active_jobs, info.system_status.map(|status| status.as_str())),
        (Some(7), Some("crawling"))
    );
    assert_eq!(info.jobs, ["a"]);
    assert!(std::sync::Arc::ptr_eq(
        &server.router.peer("legacy-1").unwrap(),
        &crawler.peer
    ));
    assert_eq!(server.router.peers().len(), 1);
    crawler.leave().await;
    assert!(server.router.sessions().is_empty() && server.router.peer("legacy-1").is_none());
}

#[tokio::test]
async fn after_the_grace_another_crawler_goes_on() {
    let mut server = Server::start();
    let mut first = server.crawler().await;
    server.submit("a").await;
    first.assignment().await;
    done(first.say(say::started("a")).await);
    done(first.say(say::progress("a", 0.5)).await);
    let key = server.job("a").await.key;
    assert!(server.router.progress(key).is_some());
    first.leave().await;
    assert_eq!(server.router.progress(key), None);
    let closed = server.event("the session's end", |event| match event {
        Event::SessionClosed { name } => Some(name),
        _ => None,
    });
    assert_eq!(&*closed.await, "legacy-1");
    let mut second = server.crawler().await;
    server.renewed().await;
    assert!(second.heard_nothing(), "the first one may come back");
    server.store.later(server.policy.reattach_grace);
    let expired = server.arrow("a", Arrow::Expire).await;
    assert_eq!(expired.state, State::Queued);
    let assignment = second.assignment().await;
    assert!(assignment.resume, "an earlier attempt had begun");
    done(second.say(say::completed("a")).await);
    let view = server.job("a").await;
    assert_eq!((view.state, view.attempt, view.failures), (State::Completed, 2, 1));
}

#[tokio::test]
async fn late_lines_of_a_lost_lease_have_no_effect_and_are_counted() {
    let mut server = Server::start();
    let mut first = server.crawler().await;
    server.submit("a").await;
    first.assignment().await;
    done(first.say(say::started("a")).await);
    server.renewed().await;
    server.store.later(server.policy.lease);
    assert_eq!(
        server.arrow("a", Arrow::Expire).await.session,
        first.peer.session().map(|session| session.key)
    );
    assert_eq!(first.holds(), Vec::<String>::new());
    let mut second = server.crawler().await;
    second.assignment().await;
    done(second.say(say::started("a")).await);

    let before = (server.job("a").await, server.router.stats());
    let late = [
        say::started("a"),
        say::progress("a", 0.9),
        say::discovered("a", &["x"]),
        say::refresh("a"),
        say::failed("a", true),
        say::completed("a"),
    ];
    let count = late.len() as u64;
    for line in late {
        assert_eq!(failed(first.say(line).await), "held by another crawler");
    }
    let stats = server.router.stats();
    assert_eq!(
        (stats.failed, stats.processed),
        (before.1.failed + count, before.1.processed)
    );
    assert_eq!(server.job("a").await, before.0);
    assert!(first.heard_nothing(), "nothing was answered, no token told");
    assert_eq!(server.router.progress(before.0.key), None);
    done(second.say(say::completed("a")).await);
    assert_eq!(
        failed(second.say(say::completed("a")).await),
        "the lease is over",
        "said twice"
    );
    assert_eq!(failed(second.say(say::completed("nothing")).await), "no such job");
}

#[tokio::test]
async fn a_job_lost_to_another_server_is_forgotten_at_the_next_line() {
    let server = Server::by_hand(config()).await;
    let mut crawler = server.crawler().await;
    server.submit("a").await;
    crawler.assignment().await;
    done(crawler.say(say::progress("a", 0.5)).await);
    let key = server.job("a").await.key;
    server.store.later(server.policy.lease);
    server.store.commit(Op::Sweep).await.unwrap();
    assert_eq!(crawler.holds(), ["a"], "nobody has told this server");
    assert_eq!(failed(crawler.say(say::completed("a")).await), "the lease is over");
    assert_eq!(crawler.holds(), Vec::<String>::new());
    assert_eq!(server.router.progress(key), None);
    assert_eq!(server.job("a").await.state, State::Queued);
}

#[tokio::test]
async fn sessions_of_an_earlier_run_are_closed_before_new_ones_open() {
    let server = Server::start();
    // The router has not begun to run: nothing has been awaited yet.
    let mut eager = server.connect(None);
    done(eager.say(say::heartbeat()).await);
    server.submit("a").await;
    assert_eq!(eager.assignment().await.job_id, "a");
    let journal = server.store.journal();
    let position = |name: &str| journal.iter().position(|entry| entry == name);
    assert!(position("Recover") < position("OpenSession"), "{journal:?}");
}
