//! What others did to the rows behind this server's back, and what time does to old ones.

mod support;

use std::time::Duration;

use crawlwire_progress::store::{Act, Outcome};
use crawlwire_progress::{Arrow, JobKey, Op, Policy, State, Store};
use crawlwire_router::{Retention, RouterConfig};
use tokio::time::Instant;

use support::*;

fn cancel(job: JobKey) -> Op {
    let (act, by) = (Act::Cancel, "another server".to_owned());
    Op::Act { job, act, by }
}

/// A crawler that was given this job, and the job's row.
async fn given(server: &Server, id: &str) -> (Crawler, JobKey) {
    let mut crawler = server.crawler().await;
    server.submit(id).await;
    assert_eq!(crawler.assignment().await.job_id, id);
    (crawler, server.job(id).await.key)
}

fn one_slot() -> RouterConfig {
    RouterConfig {
        slots_per_crawler: 1,
        ..config()
    }
}

#[tokio::test]
async fn a_running_job_that_another_server_took_is_let_go_and_lingers() {
    let server = Server::by_hand(one_slot()).await;
    let (mut crawler, job) = given(&server, "a").await;
    done(crawler.say(say::progress("a", 0.5)).await);
    server.store.elsewhere(cancel(job));
    until("the job to be let go", || crawler.holds().is_empty()).await;
    assert_eq!(crawler.lingering(), ["a"]);
    assert_eq!(server.router.progress(job), None);
    server.submit("b").await;
    assert_eq!(failed(crawler.say(say::completed("a")).await), "the lease is over");
    assert_eq!(crawler.assignment().await.job_id, "b");
}

#[tokio::test]
async fn a_job_is_not_given_again_to_a_crawler_that_is_not_known_to_have_lost_it() {
    let server = Server::by_hand(config()).await;
    let (mut crawler, job) = given(&server, "a").await;
    done(crawler.say(say::started("a")).await);
    // Nobody has told this server.
    for act in [Act::Cancel, Act::Retry] {
        let by = "another server".to_owned();
        server.store.commit(Op::Act { job, act, by }).await.unwrap();
    }
    server.submit_job(of_account("other", "b")).await;
    assert_eq!(crawler.assignment().await.job_id, "b");
    assert_eq!(server.job("a").await.state, State::Queued);
    server.store.elsewhere(Op::Sweep);
    until("the job to be let go", || crawler.holds() == ["b"]).await;
    assert_eq!(crawler.lingering(), ["a"]);
    failed(crawler.say(say::completed("a")).await);
    assert_eq!(crawler.assignment().await.job_id, "a");
}

#[tokio::test]
async fn a_job_that_was_taken_before_it_began_leaves_its_slot_free() {
    let server = Server::by_hand(one_slot()).await;
    let (mut crawler, job) = given(&server, "a").await;
    server.submit("b").await;
    server.store.elsewhere(cancel(job));
    assert_eq!(crawler.assignment().await.job_id, "b");
    assert_eq!((crawler.holds(), crawler.lingering()), (vec!["b".to_owned()], vec![]));
}

#[tokio::test]
async fn a_lease_that_ended_elsewhere_is_seen_by_the_clock_as_well() {
    let server = Server::start();
    let (crawler, job) = given(&server, "a").await;
    done(crawler.say(say::started("a")).await);
    server.router.stop_dispatching();
    // Nobody tells of it.
    server.store.commit(cancel(job)).await.unwrap();
    until("the job to be let go", || crawler.holds().is_empty()).await;
    assert_eq!(crawler.lingering(), ["a"]);
}

#[tokio::test]
async fn what_was_given_out_during_a_read_is_not_let_go() {
    let server = Server::by_hand(config()).await;
    let (mut crawler, _) = given(&server, "a").await;
    let reading = server.store.keep_back_reads();
    server.store.elsewhere(Op::Sweep);
    server.store.reads(1).await;
    server.submit("b").await;
    assert_eq!(crawler.assignment().await.job_id, "b");
    drop(reading);
    let read = server.store.reads(1);
    server.store.elsewhere(Op::Sweep);
    read.await;
    assert_eq!(crawler.holds(), ["a", "b"]);
    done(crawler.say(say::completed("b")).await);
    done(crawler.say(say::completed("a")).await);
}

#[tokio::test]
async fn however_much_others_do_the_held_jobs_are_read_now_and_then() {
    let server = Server::by_hand(config()).await;
    let (crawler, job) = given(&server, "a").await;
    done(crawler.say(say::started("a")).await);
    let (begin, before) = (Instant::now(), server.store.reads_so_far());
    for _ in 0..50 {
        server.store.elsewhere(Op::Sweep);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (reads, seconds) = (server.store.reads_so_far() - before, begin.elapsed().as_secs());
    assert!(reads >= 1 && reads as u64 <= 2 + seconds, "{reads} in {seconds} s");
    server.store.elsewhere(cancel(job));
    until("the last news", || crawler.holds().is_empty()).await;
}

#[tokio::test]
async fn an_end_on_its_way_leaves_nothing_behind() {
    let server = Server::by_hand(one_slot()).await;
    let (mut crawler, _) = given(&server, "a").await;
    done(crawler.say(say::started("a")).await);
    server.store.hold("Finish");
    let ended = crawler.begin(say::completed("a")).await;
    assert_eq!(server.job("a").await.state, State::Completed);
    // The rows say that it is over, and the answer is not there yet.
    server.store.elsewhere(Op::Sweep);
    until("the job to be let go", || crawler.holds().is_empty()).await;
    assert_eq!(crawler.lingering(), Vec::<String>::new());
    server.store.tell();
    done(ended.await);
    server.submit("b").await;
    assert_eq!(crawler.assignment().await.job_id, "b");
}

#[tokio::test]
async fn a_report_that_comes_too_late_shows_that_the_job_is_lost() {
    let server = Server::by_hand(config()).await;
    let (crawler, job) = given(&server, "a").await;
    done(crawler.say(say::started("a")).await);
    server.store.commit(cancel(job)).await.unwrap();
    assert_eq!(crawler.holds(), ["a"], "nobody has told this server");
    done(crawler.say(say::progress("a", 0.5)).await);
    until("the job to be let go", || crawler.holds().is_empty()).await;
    until("the report to be forgotten", || server.router.progress(job).is_none()).await;
    assert_eq!(crawler.lingering(), ["a"]);
}

#[tokio::test]
async fn a_session_that_the_store_lost_is_opened_anew() {
    let mut server = Server::start();
    let mut crawler = server.connect(Some("process-1"));
    done(crawler.say(say::heartbeat()).await);
    server.submit("a").await;
    crawler.assignment().await;
    done(crawler.say(say::started("a")).await);
    let old = crawler.peer.session().unwrap();
    server.renewed().await;
    server.store.elsewhere(Op::Disconnect(old.reference()));
    done(crawler.say(say::heartbeat()).await);
    until("the session to be given up", || crawler.peer.session().is_none()).await;
    assert_eq!(crawler.lingering(), ["a"]);
    assert!(server.router.sessions().is_empty());

    done(crawler.say(say::progress("a", 0.5)).await);
    let new = crawler.peer.session().unwrap();
    assert_ne!(new.key, old.key);
    assert_eq!((crawler.holds(), crawler.lingering()), (vec!["a".to_owned()], vec![]));
    server.arrow("a", Arrow::Adopt).await;
    server.submit("b").await;
    assert_eq!(crawler.assignment().await.job_id, "b");
    let errors = server.errors(1).await;
    assert_eq!(errors.iter().filter(|error| error.code == "session_lost").count(), 1);
    crawler.leave().await;
    assert!(server.router.sessions().is_empty());
}

#[tokio::test]
async fn a_lost_session_without_a_name_keeps_the_slots_of_what_it_runs_busy() {
    let server = Server::with(one_slot(), Policy::default());
    let (mut crawler, _) = given(&server, "a").await;
    done(crawler.say(say::started("a")).await);
    server.renewed().await;
    let old = crawler.peer.session().unwrap();
    server.store.elsewhere(Op::Disconnect(old.reference()));
    done(crawler.say(say::heartbeat()).await);
    until("the session to be given up", || crawler.peer.session().is_none()).await;
    done(crawler.say(say::heartbeat()).await);
    server.submit("b").await;
    server.renewed().await;
    assert!(crawler.heard_nothing(), "it still works on the first one");
    assert_eq!(
        failed(crawler.say(say::completed("a")).await),
        "held by another crawler"
    );
    assert_eq!(crawler.assignment().await.job_id, "b");
}

#[tokio::test]
async fn a_takeover_waits_for_another_server_to_see_the_end() {
    let store = std::sync::Arc::new(store::Probe::new(Policy::default()));
    let named = |server: &str| RouterConfig {
        server: server.to_owned(),
        ..config()
    };
    let one = Server::over(store.clone(), named("one"), Policy::default());
    let mut old = one.connect(Some("process-1"));
    done(old.say(say::heartbeat()).await);
    one.submit("a").await;
    old.assignment().await;
    let two = Server::over(store.clone(), named("two"), Policy::default());
    let new = two.connect(Some("process-1"));
    done(new.say(say::heartbeat()).await);

    let asked = Instant::now();
    let why = "an earlier connection of this crawler still holds it";
    assert_eq!(failed(new.say(say::started("a")).await), why);
    assert!(asked.elapsed() > Duration::from_millis(1_900), "it waited for a while");
    assert_eq!(failed(new.say(say::started("a")).await), why);
    assert!(asked.elapsed() < Duration::from_millis(3_000), "and not again at once");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    let adoptions = store.count("Adopt");
    let (said, ()) = tokio::join!(new.say(say::started("a")), async {
        store.reaches("Adopt", adoptions + 2).await;
        old.leave().await;
    });
    done(said);
    assert_eq!(one.arrows("a").await, ["submit", "claim", "adopt", "start"]);
}

/// A server that deletes at once what is over.
fn that_keeps_nothing() -> Server {
    let retention = Retention {
        interval: Duration::from_millis(20),
        max_job_age: Duration::ZERO,
        max_error_age: Duration::ZERO,
    };
    let config = RouterConfig { retention, ..config() };
    Server::with(config, Policy::default())
}

#[tokio::test]
async fn what_was_over_long_ago_goes_and_what_is_open_stays() {
    let server = that_keeps_nothing();
    let (crawler, job) = given(&server, "root").await;
    server.router.stop_dispatching();
    let entities: Vec<_> = (0..1200).map(|entity| entity.to_string()).collect();
    let entities: Vec<_> = entities.iter().map(String::as_str).collect();
    done(crawler.say(say::discovered("root", &entities)).await);
    done(crawler.say(say::completed("root")).await);
    server.store.later(Duration::from_millis(1));
    let pruned = server.store.count("Prune");
    server.store.reaches("Prune", pruned + 2).await;
    assert_eq!(server.job("root").await.state, State::Completed, "its tree is open");
    server.submit("open").await;
    server.router.cancel_tree(job, "somebody").await.unwrap();
    server.store.later(Duration::from_millis(1));
    let total = async || server.store.counts().await.unwrap().values().sum::<i64>();
    soon("the tree to go", async {
        while total().await > 1 {
            server.store.wrote("Prune").await;
        }
    })
    .await;
    assert!(server.store.job("root").await.unwrap().is_none());
    assert_eq!(server.job("open").await.state, State::Queued);
    assert!(matches!(
        server.store.commit(cancel(job)).await.unwrap().into_inner(),
        Outcome::Refused(_)
    ));
}

#[tokio::test]
async fn a_prune_while_the_database_is_away_is_made_up_for() {
    let server = that_keeps_nothing();
    let (crawler, _) = given(&server, "a").await;
    server.store.leave();
    let ended = tokio::spawn(crawler.begin(say::completed("a")).await);
    tokio::time::sleep(Duration::from_millis(60)).await;
    server.store.come_back();
    done(soon("the end", ended).await.unwrap());
    server.store.later(Duration::from_millis(1));
    soon("the job to go", async {
        while server.store.job("a").await.unwrap().is_some() {
            server.store.wrote("Prune").await;
        }
    })
    .await;
}
