//! The database is away for a while.

mod support;

use std::time::Duration;

use crawlwire_progress::store::{ErrorFilter, Paging};
use crawlwire_progress::{Arrow, Policy, State, Store, StoreError};
use crawlwire_protocol::{Category, CrawlerMessage, Dialect, decode};
use crawlwire_router::RouterConfig;

use support::*;

/// A crawler that works on a job of this name.
async fn working(server: &Server, id: &str) -> Crawler {
    let mut crawler = server.crawler().await;
    server.submit(id).await;
    crawler.assignment().await;
    done(crawler.say(say::started(id)).await);
    crawler
}

#[tokio::test]
async fn what_crawlers_say_meanwhile_has_its_effect_afterwards() {
    let server = Server::start();
    let crawler = working(&server, "a").await;
    server.store.leave();
    let first = tokio::spawn(crawler.begin(say::discovered("a", &["1", "2"])).await);
    let second = tokio::spawn(crawler.begin(say::progress("a", 0.5)).await);
    let third = tokio::spawn(crawler.begin(say::failed("a", true)).await);
    server.store.turns_away(3).await;
    assert_eq!(server.job("a").await.state, State::Running);
    server.store.come_back();
    for said in [first, second, third] {
        done(soon("the effect of a line", said).await.unwrap());
    }
    let view = server.job("a").await;
    assert_eq!((view.state, view.tree.children, view.failures), (State::Delayed, 2, 1));
    assert_eq!(server.arrows("a").await, ["submit", "claim", "start", "finish"]);
}

#[tokio::test]
async fn nothing_overtakes_what_has_to_be_given_again() {
    let server = Server::start();
    let crawler = working(&server, "a").await;
    server.store.leave();
    let found = tokio::spawn(crawler.begin(say::discovered("a", &["1"])).await);
    let more = tokio::spawn(crawler.begin(say::discovered("a", &["2"])).await);
    // They wait a while by now before they try again.
    server.store.turns_away(20).await;
    server.store.come_back();
    let ended = tokio::spawn(crawler.begin(say::completed("a")).await);
    for said in [found, more, ended] {
        done(soon("the effect of a line", said).await.unwrap());
    }
    let view = server.job("a").await;
    assert_eq!(
        (view.state, view.tree.children),
        (State::Completed, 2),
        "the end came last"
    );
    let journal = server.store.journal();
    let of_job = journal
        .iter()
        .filter(|name| matches!(name.as_str(), "Discover" | "Finish"));
    assert_eq!(of_job.collect::<Vec<_>>(), ["Discover", "Discover", "Finish"]);
}

#[tokio::test]
async fn a_session_is_in_step_again_after_the_outage() {
    let server = Server::start();
    let crawler = working(&server, "a").await;
    server.store.leave();
    let found = tokio::spawn(crawler.begin(say::discovered("a", &["1"])).await);
    server.store.turns_away(2).await;
    server.store.come_back();
    done(soon("the children", found).await.unwrap());
    // Given to the store at once, not when it is polled.
    let pending = crawler.begin(say::completed("a")).await;
    assert_eq!(server.store.count("Finish"), 1);
    done(pending.await);
}

#[tokio::test]
async fn leases_are_given_back_before_anything_may_expire() {
    let server = Server::start();
    let crawler = working(&server, "a").await;
    server.renewed().await;
    server.store.leave();
    server.store.turns_away(3).await;
    server.store.later(server.policy.lease * 2);
    server.store.come_back();
    server.renewed().await;
    let journal = server.store.journal();
    let back = journal.iter().position(|name| name == "back").unwrap();
    let after = &journal[back..];
    let first = |name: &str| after.iter().position(|entry| entry == name).unwrap();
    assert!(first("Recover") < first("Sweep"), "{after:?}");
    assert_eq!(after.iter().filter(|name| *name == "Recover").count(), 1, "once");
    assert_eq!(
        server.arrows("a").await,
        ["submit", "claim", "start"],
        "nothing held is run again"
    );
    done(crawler.say(say::completed("a")).await);
    assert_eq!(server.job("a").await.attempt, 1);
}

#[tokio::test]
async fn a_renewal_that_failed_is_made_up_for() {
    let server = Server::start();
    let crawler = working(&server, "a").await;
    server.renewed().await;
    done(crawler.say(say::heartbeat()).await);
    server.store.leave();
    server.store.turns_away(2).await;
    server.store.come_back();
    server.renewed().await;
    let journal = server.store.journal();
    let back = journal.iter().position(|name| name == "back").unwrap();
    assert!(journal[back..].contains(&"Renew".to_owned()), "{:?}", &journal[back..]);
}

/// Leases of a fifth of a second, and many sweeps in it.
fn short_of_breath() -> Policy {
    Policy {
        lease: Duration::from_millis(200),
        ..Policy::default()
    }
}

const TOO_LONG: Duration = Duration::from_millis(150);

/// What is done first after this moment: leases are given back, or jobs are taken away.
fn first_of(journal: &[String], from: usize) -> Option<&str> {
    let mut timers = journal[from..].iter().map(String::as_str);
    timers.find(|name| matches!(*name, "Recover" | "Sweep"))
}

#[tokio::test]
async fn a_machine_that_slept_forgives_the_time_it_slept() {
    let server = Server::with(config(), short_of_breath());
    let crawler = working(&server, "a").await;
    server.renewed().await;
    let from = server.store.journal().len();
    // Nothing else runs in this thread meanwhile.
    let asleep = tokio::time::Instant::now();
    while asleep.elapsed() < TOO_LONG {
        std::hint::spin_loop();
    }
    server.store.later(server.policy.lease);
    server.renewed().await;
    assert_eq!(first_of(&server.store.journal(), from), Some("Recover"));
    done(crawler.say(say::completed("a")).await);
}

#[tokio::test]
async fn a_database_that_hung_forgives_the_time_it_hung() {
    let server = Server::with(config(), short_of_breath());
    let crawler = working(&server, "a").await;
    server.renewed().await;
    let renewals = server.store.count("Renew");
    server.store.hold("Renew");
    done(crawler.say(say::heartbeat()).await);
    server.store.reaches("Renew", renewals + 1).await;
    let from = server.store.journal().len();
    tokio::time::sleep(TOO_LONG).await;
    assert_eq!(first_of(&server.store.journal(), from), None);
    server.store.later(server.policy.lease);
    server.store.tell();
    server.renewed().await;
    assert_eq!(first_of(&server.store.journal(), from), Some("Recover"));
    done(crawler.say(say::completed("a")).await);
}

#[tokio::test]
async fn jobs_are_given_out_when_it_is_back() {
    let one_slot = RouterConfig {
        slots_per_crawler: 1,
        ..config()
    };
    let server = Server::with(one_slot, Policy::default());
    let mut crawler = working(&server, "x").await;
    server.submit("a").await;
    server.store.leave();
    let ended = tokio::spawn(crawler.begin(say::completed("x")).await);
    server.store.turns_away(3).await;
    assert!(crawler.heard_nothing());
    let refused = server.router.submit(new_job("b")).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable(_))),
        "the web app can be asked to say it again"
    );
    server.store.come_back();
    done(soon("the end of the first", ended).await.unwrap());
    assert_eq!(crawler.assignment().await.job_id, "a");
    assert_eq!(server.job("a").await.attempt, 0);
}

#[tokio::test]
async fn a_crawler_that_comes_meanwhile_is_let_in_afterwards() {
    let server = Server::start();
    server.renewed().await;
    server.submit("a").await;
    server.store.leave();
    let mut crawler = server.connect(None);
    let (router, peer) = (server.router.clone(), crawler.peer.clone());
    let message = decode::<CrawlerMessage>(say::heartbeat().as_bytes(), Dialect::Base).unwrap();
    let said = tokio::spawn(async move {
        let answered = router.call(&peer, message).await.await;
        router.conclude(&peer, answered).await
    });
    server.store.turns_away(5).await;
    assert!(crawler.peer.session().is_none());
    server.store.come_back();
    done(soon("the first message", said).await.unwrap());
    assert_eq!(crawler.assignment().await.job_id, "a");
}

#[tokio::test]
async fn reports_and_errors_are_written_afterwards() {
    let server = Server::start();
    let crawler = working(&server, "a").await;
    server.store.leave();
    for completion in [0.1, 0.2] {
        done(crawler.say(say::progress("a", completion)).await);
    }
    server.router.note_invalid_line(
        &crawler.peer,
        Category::MessageParsing,
        "not_json",
        "column 1".to_owned(),
    );
    server.store.turns_away(6).await;
    let key = server.job("a").await.key;
    assert_eq!(
        server.router.progress(key).unwrap().said.overall_completion,
        0.2,
        "seen all the same"
    );
    assert_eq!(server.store.progress(key).await.unwrap(), None);
    server.store.come_back();
    server
        .stored_progress("a", |report| report.said.overall_completion == 0.2)
        .await;
    let errors = server.errors(1).await;
    assert_eq!((errors.len(), errors[0].code.as_str()), (1, "not_json"), "once");
}

#[tokio::test]
async fn a_connection_lost_meanwhile_is_seen_afterwards() {
    let mut server = Server::start();
    let crawler = working(&server, "a").await;
    server.store.leave();
    let gone = tokio::spawn(crawler.leave());
    server.store.turns_away(5).await;
    assert!(server.router.sessions().is_empty());
    server.store.come_back();
    soon("the disconnect", gone).await.unwrap();
    // An outage gives every session a full lease; the disconnect shortens it whenever it comes.
    server.renewed().await;
    server.store.later(server.policy.lease);
    assert_eq!(server.arrow("a", Arrow::Expire).await.state, State::Queued);
}

#[tokio::test]
async fn a_server_that_starts_meanwhile_can_be_stopped() {
    let store = std::sync::Arc::new(store::Probe::new(Default::default()));
    store.leave();
    let server = Server::over(store.clone(), config(), Default::default());
    store.turns_away(2).await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_starts_meanwhile_waits() {
    let store = std::sync::Arc::new(store::Probe::new(Default::default()));
    store.leave();
    let server = Server::over(store.clone(), config(), Default::default());
    store.turns_away(3).await;
    assert!(store.journal().is_empty());
    store.come_back();
    server.renewed().await;
    assert_eq!(store.journal()[..2], ["back", "Recover"]);
    let mut crawler = server.crawler().await;
    server.submit("a").await;
    crawler.assignment().await;
    let errors = store.errors(ErrorFilter::default(), Paging { limit: 10, after: None });
    assert_eq!(errors.await.unwrap().items, []);
}
