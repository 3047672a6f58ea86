//! What people do to jobs and gates, and what they are told of jobs that do not move.

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use crawlwire_progress::admit::{Capabilities, Gate, Lack, Waiting};
use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::{Act, NewSession, Paging, RedriveFilter, Rejection};
use crawlwire_progress::{Arrow, JobKey, Op, Policy, State, Store, StoreError};
use crawlwire_router::{ActError, RouterConfig};

use support::*;

const ALL: Paging = Paging {
    limit: 1_000,
    after: None,
};

async fn key(server: &Server, id: &str) -> JobKey {
    server.job(id).await.key
}

async fn act(server: &Server, id: &str, act: Act) -> Vec<Arrow> {
    let facts = server.router.act(key(server, id).await, act, "somebody").await.unwrap();
    facts.into_iter().map(|fact| fact.arrow).collect()
}

#[tokio::test]
async fn a_waiting_job_is_paused_resumed_moved_cancelled_and_tried_again() {
    let mut server = Server::by_hand(config()).await;
    server.submit("a").await;
    assert_eq!(act(&server, "a", Act::Pause).await, [Arrow::Pause]);
    assert_eq!(server.arrow("a", Arrow::Pause).await.state, State::Paused);
    assert_eq!(act(&server, "a", Act::Resume).await, [Arrow::Resume]);
    assert_eq!(act(&server, "a", Act::SetPriority(7.5)).await, [Arrow::SetPriority]);
    assert_eq!(server.job("a").await.spec.priority, 7.5);
    assert_eq!(act(&server, "a", Act::Cancel).await, [Arrow::Cancel]);
    assert_eq!(server.arrow("a", Arrow::Cancel).await.state, State::Cancelled);
    let again = server
        .router
        .act(key(&server, "a").await, Act::Cancel, "somebody")
        .await;
    assert_eq!(again, Err(ActError::Refused(Rejection::Job(Refusal::AlreadySo))));

    let mut crawler = server.crawler().await;
    assert_eq!(act(&server, "a", Act::Retry).await, [Arrow::Retry]);
    assert_eq!(crawler.assignment().await.job_id, "a", "the dispatcher was woken");
    let audit = server.store.audit(ALL).await.unwrap().items;
    let told: Vec<_> = audit.iter().map(|line| (line.by.as_str(), line.act.as_str())).collect();
    let acts = ["retry", "cancel", "set_priority", "resume", "pause"];
    assert_eq!(told, acts.map(|act| ("somebody", act)));
}

#[tokio::test]
async fn a_base_crawler_loses_a_cancelled_job_at_once_and_its_slot_lingers() {
    let config = RouterConfig {
        slots_per_crawler: 1,
        ..config()
    };
    let mut server = Server::by_hand(config).await;
    let mut crawler = server.crawler().await;
    for (id, last) in [("a", "completed"), ("b", "failed")] {
        server.submit(id).await;
        assert_eq!(crawler.assignment().await.job_id, id);
        done(crawler.say(say::progress(id, 0.5)).await);
        let taken = act(&server, id, Act::Cancel).await;
        assert_eq!(taken, [Arrow::WantCancel, Arrow::Force]);
        assert_eq!(server.arrow(id, Arrow::Force).await.state, State::Cancelled);
        let info = server.router.sessions().remove(0);
        assert_eq!((info.jobs, info.lingering), (vec![], vec![id.to_owned()]));
        assert_eq!(server.router.progress(key(&server, id).await), None);

        let next = format!("after-{id}");
        server.submit(&next).await;
        let waiting = server.router.explain(&server.job(&next).await).await.unwrap();
        assert_eq!(waiting, Some(Waiting::Slot { capable: 1, slots: 1 }));
        assert_eq!(failed(crawler.say(say::progress(id, 0.9)).await), "the lease is over");
        assert!(crawler.heard_nothing());
        let end = match last {
            "completed" => say::completed(id),
            _ => say::failed(id, true),
        };
        assert_eq!(failed(crawler.say(end).await), "the lease is over");
        assert_eq!(crawler.assignment().await.job_id, next, "its slot is free");
        assert_eq!(crawler.lingering(), Vec::<String>::new());
        assert_eq!(server.job(id).await.state, State::Cancelled);
        done(crawler.say(say::completed(&next)).await);
    }
}

#[tokio::test]
async fn a_job_paused_by_force_and_resumed_waits_for_the_end_of_its_earlier_run() {
    let server = Server::by_hand(config()).await;
    let mut crawler = server.crawler().await;
    server.submit("a").await;
    crawler.assignment().await;
    done(crawler.say(say::started("a")).await);
    act(&server, "a", Act::Pause).await;
    assert_eq!(crawler.lingering(), ["a"]);
    act(&server, "a", Act::Resume).await;
    server.submit("b").await;
    assert_eq!(crawler.assignment().await.job_id, "b", "the others of its lane go on");
    assert_eq!(
        (crawler.lingering(), crawler.holds()),
        (vec!["a".to_owned()], vec!["b".to_owned()])
    );
    done(crawler.say(say::completed("b")).await);
    server.submit("c").await;
    assert_eq!(crawler.assignment().await.job_id, "c");
    done(crawler.say(say::completed("c")).await);
    let waiting = Waiting::Slot { capable: 1, slots: 2 };
    assert_eq!(
        why(&server, "a").await,
        waiting,
        "its crawler still has the earlier run"
    );

    failed(crawler.say(say::completed("a")).await);
    assert_eq!(server.job("a").await.state, State::Queued, "that run counts no more");
    let again = crawler.assignment().await;
    assert_eq!((again.job_id.as_str(), again.resume), ("a", true));
    assert_eq!((crawler.lingering(), crawler.holds()), (vec![], vec!["a".to_owned()]));
    done(crawler.say(say::completed("a")).await);
    assert_eq!(server.job("a").await.state, State::Completed);
}

#[tokio::test]
async fn a_job_is_not_given_again_before_it_is_certain_which_run_ended() {
    let mut server = Server::by_hand(config()).await;
    let mut crawler = server.crawler().await;
    server.submit("a").await;
    crawler.assignment().await;
    done(crawler.say(say::started("a")).await);
    act(&server, "a", Act::Pause).await;
    act(&server, "a", Act::Resume).await;
    server.store.hold("Adopt");
    let meanwhile = async {
        server.store.reaches("Adopt", 1).await;
        server.submit("b").await;
        server.arrow("b", Arrow::Claim).await;
        assert_eq!(crawler.holds(), ["b"]);
        server.store.tell();
    };
    let ((), said) = tokio::join!(meanwhile, crawler.say(say::completed("a")));
    failed(said);
    assert_eq!(crawler.assignment().await.job_id, "b");
    assert_eq!(crawler.assignment().await.job_id, "a");
}

#[tokio::test]
async fn another_crawler_gets_a_job_whose_earlier_run_goes_on() {
    let server = Server::by_hand(config()).await;
    let mut one = server.crawler().await;
    server.submit("a").await;
    one.assignment().await;
    done(one.say(say::started("a")).await);
    act(&server, "a", Act::Cancel).await;
    act(&server, "a", Act::Retry).await;
    let mut two = server.crawler().await;
    assert_eq!(two.assignment().await.job_id, "a");
    assert_eq!(failed(one.say(say::completed("a")).await), "held by another crawler");
    assert_eq!(server.job("a").await.state, State::Assigned);
    assert_eq!(one.lingering(), Vec::<String>::new());
    done(two.say(say::completed("a")).await);
}

#[tokio::test]
async fn a_job_that_had_not_begun_leaves_its_slot_free() {
    let server = Server::by_hand(config()).await;
    let mut crawler = server.crawler().await;
    server.submit("a").await;
    crawler.assignment().await;
    act(&server, "a", Act::Cancel).await;
    assert_eq!((crawler.holds(), crawler.lingering()), (vec![], vec![]));
}

#[tokio::test]
async fn an_end_that_is_being_taken_leaves_nothing_behind() {
    let server = Server::by_hand(config()).await;
    let mut before = server.connect(Some("unix:1"));
    done(before.say(say::heartbeat()).await);
    server.submit("a").await;
    before.assignment().await;
    done(before.say(say::started("a")).await);
    before.leave().await;
    let crawler = server.connect(Some("unix:1"));
    // What was reported over the other connection is looked for, and meanwhile somebody cancels the job.
    let reading = server.store.keep_back_reads();
    let cancelled = async {
        server.store.reads(1).await;
        let taken = act(&server, "a", Act::Cancel).await;
        assert_eq!(taken, [Arrow::WantCancel, Arrow::Force]);
        drop(reading);
    };
    let ((), said) = tokio::join!(cancelled, crawler.say(say::failed("a", true)));
    assert_eq!(failed(said), "the lease is over");
    assert_eq!((crawler.holds(), crawler.lingering()), (vec![], vec![]));
}

#[tokio::test]
async fn a_job_taken_away_by_time_lingers_as_one_that_somebody_took() {
    let policy = Policy {
        job_timeout: Duration::from_secs(10),
        lease: Duration::from_secs(60),
        ..Policy::default()
    };
    for (arrow, lapse) in [(Arrow::Deadline, 10), (Arrow::Expire, 60)] {
        let policy = Policy {
            job_timeout: if arrow == Arrow::Deadline {
                policy.job_timeout
            } else {
                policy.lease * 2
            },
            ..policy.clone()
        };
        let mut server = Server::with(config(), policy);
        let mut crawler = server.crawler().await;
        server.submit("a").await;
        crawler.assignment().await;
        done(crawler.say(say::started("a")).await);
        server.renewed().await;
        server.store.later(Duration::from_secs(lapse));
        server.arrow("a", arrow).await;
        until("the job to be let go", || crawler.holds().is_empty()).await;
        assert_eq!(crawler.lingering(), ["a"], "{arrow}");
        server.store.later(server.policy.retry_delay);
        server.renewed().await;
        done(crawler.say(say::heartbeat()).await);
        server.submit("b").await;
        assert_eq!(crawler.assignment().await.job_id, "b", "{arrow}");
        failed(crawler.say(say::completed("a")).await);
        assert_eq!(crawler.lingering(), Vec::<String>::new());
        assert_eq!(crawler.assignment().await.job_id, "a", "{arrow}");
    }
}

#[tokio::test]
async fn a_crawler_that_can_be_asked_keeps_its_job_until_it_confirms() {
    let server = Server::by_hand(config()).await;
    let mut crawler = server.connect_able(Capabilities::any(1), true);
    done(crawler.say(say::heartbeat()).await);
    server.submit("a").await;
    crawler.assignment().await;
    assert_eq!(act(&server, "a", Act::Cancel).await, [Arrow::WantCancel]);
    assert_eq!((crawler.holds(), crawler.lingering()), (vec!["a".to_owned()], vec![]));
    done(crawler.say(say::completed("a")).await);
    assert_eq!(server.job("a").await.state, State::Completed, "its end wins");
}

#[tokio::test]
async fn a_large_tree_is_cancelled_and_deleted_as_a_whole() {
    let mut server = Server::by_hand(config()).await;
    let mut crawler = server.crawler().await;
    server.submit("root").await;
    crawler.assignment().await;
    let entities: Vec<_> = (0..1200).map(|entity| entity.to_string()).collect();
    let entities: Vec<_> = entities.iter().map(String::as_str).collect();
    done(crawler.say(say::discovered("root", &entities)).await);
    let child = crawler.assignment().await.job_id;
    let root = key(&server, "root").await;
    let (router, open) = (&server.router, Refusal::TreeOpen);
    assert_eq!(
        router.delete(root, "somebody").await,
        Err(ActError::Refused(open.into()))
    );
    let below = key(&server, &child).await;
    let refused = router.cancel_tree(below, "somebody").await;
    assert_eq!(refused, Err(ActError::Refused(Refusal::NotRoot.into())));

    // Whoever asked goes away at once: it goes on.
    tokio::select! {
        biased;
        _ = router.cancel_tree(root, "somebody") => panic!("not before anything else ran"),
        () = std::future::ready(()) => {}
    }
    let refused = server.store.count("CancelTree");
    server.store.reaches("CancelTree", refused + 3).await;
    let counts = server.store.counts().await.unwrap();
    assert_eq!(counts.get(&State::Cancelled), Some(&1201), "{counts:?}");
    server.arrow(&child, Arrow::Force).await;
    assert_eq!(server.router.cancel_tree(root, "somebody").await, Ok(0));
    assert_eq!(server.router.delete(root, "somebody").await, Ok(1201));
    assert!(server.store.job("root").await.unwrap().is_none());
}

#[tokio::test]
async fn jobs_that_failed_or_are_quarantined_are_redriven_together() {
    let policy = Policy {
        misses_max: 1,
        ..Policy::default()
    };
    let config = RouterConfig {
        slots_per_crawler: 10,
        ..config()
    };
    let mut server = Server::with(config, policy);
    let mut crawler = server.crawler().await;
    for (id, account) in [("a", "acme"), ("b", "other"), ("q", "acme")] {
        server.submit_job(of_account(account, id)).await;
        crawler.assignment().await;
    }
    for id in ["a", "b"] {
        done(crawler.say(say::failed(id, false)).await);
    }
    server.store.later(server.policy.accept_timeout);
    assert_eq!(server.arrow("q", Arrow::Release).await.state, State::Paused);
    let filter = |quarantined, failed| RedriveFilter {
        quarantined,
        failed,
        account_id: Some("acme".to_owned()),
    };
    assert_eq!(server.router.redrive(filter(true, false), "somebody").await, Ok(1));
    assert_eq!(crawler.assignment().await.job_id, "q");
    assert_eq!(server.router.redrive(filter(true, true), "somebody").await, Ok(1));
    assert_eq!(crawler.assignment().await.job_id, "a");
    assert_eq!(server.job("b").await.state, State::Failed, "of another account");
}

#[tokio::test]
async fn while_the_database_is_away_acts_say_so() {
    let server = Server::start();
    server.submit("a").await;
    let job = key(&server, "a").await;
    server.store.leave();
    let refused = server.router.act(job, Act::Cancel, "somebody").await;
    assert!(matches!(refused, Err(ActError::Store(StoreError::Unavailable(_)))));
    server.store.come_back();
    server.router.act(job, Act::Cancel, "somebody").await.unwrap();
}

async fn why(server: &Server, id: &str) -> Waiting {
    let waiting = server.router.explain(&server.job(id).await).await.unwrap();
    waiting.expect("a reason")
}

#[tokio::test]
async fn every_waiting_job_has_its_reason() {
    let policy = Policy {
        account_held_max: Some(1),
        misses_max: 1,
        ..Policy::default()
    };
    let server = Server::by_hand_with(config(), policy).await;
    let now = server.store.now();
    let mut later = new_job("later");
    later.run_at = Some(now.after(Duration::from_secs(60)));
    server.submit_job(later).await;
    assert_eq!(
        why(&server, "later").await,
        Waiting::Scheduled {
            until: now.after(Duration::from_secs(60))
        }
    );
    server.submit("a").await;
    assert_eq!(why(&server, "a").await, Waiting::NoCrawler);
    act(&server, "a", Act::Pause).await;
    assert_eq!(why(&server, "a").await, Waiting::Paused);

    let mut crawler = server.crawler().await;
    let mut labelled = of_account("labels", "labelled");
    labelled.spec.labels = vec!["gpu".to_owned()];
    server.submit_job(labelled).await;
    let missing = vec![Lack::Label("gpu".to_owned())];
    assert_eq!(
        why(&server, "labelled").await,
        Waiting::NoCapableCrawler { crawlers: 1, missing }
    );
    server.store.elsewhere(Op::OpenSession(NewSession {
        name: "far".into(),
        identity: None,
        server: "two".to_owned(),
        capabilities: Capabilities {
            labels: ["gpu".to_owned()].into(),
            ..Capabilities::any(1)
        },
        confirms: false,
        instance: None,
    }));
    let session = "far".to_owned();
    assert_eq!(
        why(&server, "labelled").await,
        Waiting::Turn { session },
        "of another server"
    );

    act(&server, "a", Act::Resume).await;
    crawler.assignment().await;
    let since = server.store.now();
    let (session, until) = (crawler.name(), since.after(server.policy.accept_timeout));
    assert_eq!(why(&server, "a").await, Waiting::Acceptance { session, since, until });
    server.submit("b").await;
    assert_eq!(why(&server, "b").await, Waiting::AccountShare { held: 1, limit: 1 });
    done(crawler.say(say::started("a")).await);
    let running = server.router.explain(&server.job("a").await).await.unwrap();
    assert_eq!(running, None);
    done(crawler.say(say::failed("a", true)).await);
    assert!(matches!(why(&server, "a").await, Waiting::Backoff { failures: 1, .. }));
    assert_eq!(crawler.assignment().await.job_id, "b");

    let gate = Gate::Host("shut.example".to_owned());
    server
        .router
        .close_gate(gate.clone(), None, Some("why not".to_owned()), "somebody")
        .await
        .unwrap();
    let mut shut = of_account("third", "shut");
    shut.spec.host = "shut.example".to_owned();
    server.submit_job(shut).await;
    match why(&server, "shut").await {
        Waiting::GateClosed(closed) => assert_eq!((closed.gate, closed.by.as_str()), (gate, "somebody")),
        other => panic!("{other:?}"),
    }
    assert_eq!(server.router.gates().await.unwrap().len(), 1);

    server.store.sealed.store(true, Ordering::Relaxed);
    let mut sealed = with_token("sealed", "t");
    sealed.account_id = "fourth".to_owned();
    server.submit_job(sealed).await;
    assert_eq!(why(&server, "sealed").await, Waiting::TokenUnreadable);

    // b was never started: the only miss there may be.
    server.store.later(server.policy.accept_timeout);
    server.store.commit(Op::Sweep).await.unwrap();
    assert_eq!(why(&server, "b").await, Waiting::Quarantined { misses: 1 });
}

#[tokio::test]
async fn crawlers_that_are_busy_silent_or_about_to_go_are_a_reason() {
    let config = RouterConfig {
        slots_per_crawler: 1,
        ..config()
    };
    let server = Server::by_hand(config).await;
    let mut crawler = server.crawler().await;
    server.submit("a").await;
    crawler.assignment().await;
    server.submit("b").await;
    assert_eq!(why(&server, "b").await, Waiting::Slot { capable: 1, slots: 1 });
    crawler.out.full.store(true, Ordering::Relaxed);
    done(crawler.say(say::completed("a")).await);
    server.store.reaches("Release", 1).await;
    until("the crawler to rest", || crawler.holds().is_empty()).await;
    assert_eq!(why(&server, "b").await, Waiting::Unresponsive { capable: 1 });
    server.router.stop_dispatching();
    assert_eq!(why(&server, "b").await, Waiting::Draining { capable: 1 });
}
