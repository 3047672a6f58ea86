//! Jobs that cannot be given out, and a server that gives out no more.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crawlwire_progress::store::BoxFuture;
use crawlwire_progress::{Arrow, Op, Policy, State, Store};
use crawlwire_protocol::{Envelope, WebAppMessage};
use crawlwire_router::{Middleware, Peer, RouterConfig, Verdict};

use support::*;

#[tokio::test]
async fn higher_priority_first_then_who_came_first() {
    let server = Server::with(
        RouterConfig {
            slots_per_crawler: 4,
            job_queue_size: 1,
            ..config()
        },
        Policy::default(),
    );
    for (id, priority) in [("a", 1.0), ("b", 5.0), ("c", 1.0), ("d", 9.0)] {
        let mut new = new_job(id);
        new.spec.priority = priority;
        server.submit_job(new).await;
    }
    let mut crawler = server.crawler().await;
    for id in ["d", "b", "a", "c"] {
        assert_eq!(crawler.assignment().await.job_id, id);
    }
}

#[tokio::test]
async fn the_dispatcher_is_woken_and_does_not_wait_for_the_clock() {
    let server = Server::by_hand(RouterConfig {
        slots_per_crawler: 1,
        ..config()
    })
    .await;
    server.submit("a").await;
    let mut one = server.crawler().await;
    assert_eq!(one.assignment().await.job_id, "a", "a session opened");
    server.submit("b").await;
    done(one.say(say::discovered("a", &["child"])).await);
    let mut two = server.crawler().await;
    assert_eq!(two.assignment().await.entity_id.as_deref(), Some("child"));
    done(one.say(say::completed("a")).await);
    assert_eq!(one.assignment().await.job_id, "b", "a job ended");
    done(one.say(say::completed("b")).await);
    server.submit("c").await;
    assert_eq!(one.assignment().await.job_id, "c", "a job was submitted");
}

#[tokio::test]
async fn a_job_that_does_not_fit_the_queue_is_taken_back_and_costs_no_attempt() {
    let mut server = Server::start();
    let mut slow = server.crawler().await;
    server.renewed().await;
    slow.out.full.store(true, Ordering::Relaxed);
    server.submit("a").await;
    let released = server.arrow("a", Arrow::Release).await;
    assert_eq!((released.state, released.attempt), (State::Queued, 0));
    assert_eq!(slow.holds(), Vec::<String>::new());
    for id in ["b", "c"] {
        server.submit(id).await;
        server.renewed().await;
    }
    assert_eq!(
        server.arrows("a").await,
        ["submit", "claim", "release"],
        "not tried again and again"
    );
    assert_eq!(server.arrows("b").await, ["submit"]);
    assert_eq!(server.router.stats().assigned, 0);

    slow.out.full.store(false, Ordering::Relaxed);
    done(slow.say(say::heartbeat()).await);
    assert_eq!(slow.assignment().await.job_id, "a");
    done(slow.say(say::completed("a")).await);
    let view = server.job("a").await;
    assert_eq!((view.state, view.attempt, view.failures), (State::Completed, 1, 0));
}

#[tokio::test]
async fn another_crawler_gets_what_could_not_be_sent() {
    let server = Server::start();
    let mut closed = server.crawler().await;
    let mut other = server.crawler().await;
    closed.out.closed.store(true, Ordering::Relaxed);
    server.submit("a").await;
    assert_eq!(other.assignment().await.job_id, "a");
    assert_eq!(server.arrows("a").await, ["submit", "claim", "release", "claim"]);
    assert!(closed.heard_nothing());
}

#[tokio::test]
async fn a_session_without_a_lease_in_the_store_does_not_hold_up_others() {
    let server = Server::by_hand(config()).await;
    let mut dead = server.crawler().await;
    server.store.later(server.policy.lease);
    let mut alive = server.crawler().await;
    server.submit("a").await;
    assert_eq!(alive.assignment().await.job_id, "a");
    assert!(dead.heard_nothing());
}

#[tokio::test]
async fn a_session_whose_lease_was_renewed_is_given_work_again() {
    let server = Server::start();
    let mut crawler = server.crawler().await;
    server.renewed().await;
    server.store.later(server.policy.lease);
    server.submit("a").await;
    server.renewed().await;
    assert!(crawler.heard_nothing(), "its lease is over");
    done(crawler.say(say::heartbeat()).await);
    assert_eq!(crawler.assignment().await.job_id, "a");
}

/// Middleware that takes a job away while it is on its way to the crawler, as another server may.
struct Thief {
    store: Arc<store::Probe>,
    lease: Duration,
}

impl Middleware for Thief {
    fn name(&self) -> &str {
        "thief"
    }

    fn before_send<'a>(
        &'a self,
        _: &'a Peer,
        _: Envelope<WebAppMessage>,
    ) -> BoxFuture<'a, Verdict<Envelope<WebAppMessage>>> {
        Box::pin(async {
            self.store.later(self.lease);
            self.store.commit(Op::Sweep).await.unwrap();
            Verdict::Refuse("stolen".to_owned())
        })
    }
}

#[tokio::test]
async fn a_job_that_is_lost_on_its_way_holds_no_slot() {
    let server = Server::by_hand(config()).await;
    let (store, lease) = (server.store.clone(), server.policy.lease);
    server.router.add_middleware(Arc::new(Thief { store, lease }));
    let crawler = server.crawler().await;
    server.submit("a").await;
    server.store.reaches("Release", 1).await;
    assert_eq!(server.arrows("a").await, ["submit", "claim", "expire"]);
    assert_eq!(crawler.holds(), Vec::<String>::new());
}

#[tokio::test]
async fn a_job_whose_token_cannot_be_read_waits_and_others_do_not() {
    let server = Server::start();
    let mut crawler = server.crawler().await;
    server.renewed().await;
    server.store.sealed.store(true, Ordering::Relaxed);
    server.submit_job(with_token("a", "t")).await;
    let mut other = new_job("b");
    other.account_id = "other".to_owned();
    server.submit_job(other).await;
    assert_eq!(crawler.assignment().await.job_id, "b");
    server.renewed().await;
    assert_eq!(server.arrows("a").await, ["submit"], "no miss of anybody");
    assert!(crawler.heard_nothing());
    server.store.sealed.store(false, Ordering::Relaxed);
    assert_eq!(crawler.assignment().await.access_token.expose(), "t");
}

/// Counts what is logged as an error in this thread.
#[derive(Clone, Default)]
struct Errors(Arc<AtomicUsize>);

impl tracing::Subscriber for Errors {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_token_that_cannot_be_read_is_logged_once_until_it_can() {
    let errors = Errors::default();
    let _guard = tracing::subscriber::set_default(errors.clone());
    let logged = || errors.0.load(Ordering::Relaxed);
    let server = Server::start();
    let mut crawler = server.crawler().await;
    for round in 1..=2 {
        server.store.sealed.store(true, Ordering::Relaxed);
        let id = format!("job-{round}");
        server.submit_job(with_token(&id, "t")).await;
        until("the error", || logged() == round).await;
        for _ in 0..5 {
            let pages = server.store.pages.load(Ordering::Relaxed);
            until("the next look", || server.store.pages.load(Ordering::Relaxed) > pages).await;
        }
        assert_eq!(logged(), round, "not at each look");
        server.store.sealed.store(false, Ordering::Relaxed);
        assert_eq!(crawler.assignment().await.job_id, id);
        done(crawler.say(say::completed(&id)).await);
    }
}

#[tokio::test]
async fn jobs_without_a_token_do_not_stand_in_the_way() {
    let server = Server::by_hand(RouterConfig {
        slots_per_crawler: 1,
        ..config()
    })
    .await;
    server.store.sealed.store(true, Ordering::Relaxed);
    for id in ["a", "b", "c"] {
        server.submit_job(with_token(id, "t")).await;
    }
    let mut other = new_job("other");
    other.account_id = "other".to_owned();
    server.submit_job(other).await;
    let mut crawler = server.crawler().await;
    assert_eq!(crawler.assignment().await.job_id, "other");
}

#[tokio::test]
async fn a_server_that_drains_gives_out_nothing_and_still_listens() {
    let server = Server::start();
    let mut crawler = server.crawler().await;
    server.submit("a").await;
    crawler.assignment().await;
    server.router.stop_dispatching();
    server.submit("b").await;
    done(crawler.say(say::completed("a")).await);
    server.renewed().await;
    assert!(crawler.heard_nothing());
    assert_eq!(server.job("a").await.state, State::Completed);
    assert_eq!(server.arrows("b").await, ["submit"]);
    server.stop().await;
}

#[tokio::test]
async fn a_stopped_router_still_takes_what_crawlers_say() {
    let mut server = Server::start();
    let mut crawler = server.crawler().await;
    server.submit("a").await;
    crawler.assignment().await;
    let (router, store) = (server.router.clone(), server.store.clone());
    server.arrow("a", Arrow::Claim).await;
    server.stop().await;
    let written = store.journal().len();
    done(crawler.say(say::completed("a")).await);
    assert_eq!(store.journal()[written..], ["Finish"], "and its timers stand still");
    assert_eq!(router.stats().processed, 2);
    crawler.leave().await;
    assert_eq!(store.journal().last().unwrap(), "Disconnect");
}

#[tokio::test]
async fn an_assignment_nobody_starts_goes_back() {
    let mut server = Server::start();
    let mut crawler = server.crawler().await;
    server.submit("a").await;
    crawler.assignment().await;
    server.store.later(server.policy.accept_timeout);
    let released = server.arrow("a", Arrow::Release).await;
    assert_eq!(released.session, crawler.peer.session().map(|session| session.key));
    crawler.assignment().await;
    done(crawler.say(say::started("a")).await);
    server.store.later(server.policy.accept_timeout);
    server.renewed().await;
    assert_eq!(
        server.arrows("a").await,
        ["submit", "claim", "release", "claim", "start"]
    );
}
