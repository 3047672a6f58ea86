//! Who watches may have asked another server than the one whose crawler holds the job.

use std::time::Duration;

use crawlwire_progress::Policy;
use crawlwire_progress::store::WATCHED_FOR;
use crawlwire_protocol::WebAppMessage;
use crawlwire_router::RouterConfig;
use serde_json::json;

use super::client::{Client, calm, hello_with};
use crate::support::{Server, done, say, until};

const WATCHED: Duration = Duration::from_millis(100);
const UNWATCHED: Duration = Duration::from_secs(10);

fn server(name: &str) -> RouterConfig {
    let mut config = calm();
    name.clone_into(&mut config.server);
    // Sessions are looked after every six seconds.
    config.hello.heartbeat_interval = Duration::from_secs(60);
    config.hello.progress_interval = WATCHED;
    config.hello.unwatched_interval = UNWATCHED;
    config
}

/// Time, by the clocks of the servers and of their store.
async fn pass(server: &Server, span: Duration) {
    server.store.later(span);
    tokio::time::advance(span).await;
}

/// Two servers on one store.
fn two() -> (Server, Server) {
    let here = Server::with(server("one"), Policy::default());
    let there = Server::over(here.store.clone(), server("two"), Policy::default());
    (here, there)
}

impl Client {
    /// How often it is asked to report, when that changes.
    async fn asked_anew(&mut self) -> Duration {
        loop {
            match self.hear().await.message {
                WebAppMessage::ReportPolicy(policy) => {
                    break Duration::from_secs_f64(policy.progress_interval_ms.get() / 1000.0);
                }
                WebAppMessage::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_through_another_server_counts_until_it_is_over() {
    let (here, there) = two();
    let (mut client, welcome) = here.welcome(hello_with(1, json!({}))).await;
    assert_eq!(welcome.report_policy.progress_interval_ms.get(), 10_000.0);
    let (mut other, _) = here.welcome(hello_with(2, json!({ "slots": 0 }))).await;
    here.submit("a").await;
    let (fence, _) = client.assigned().await;
    client.settle(&say::started("a"), fence).await;
    let line = client.next(&say::discovered("a", &["below"]), fence);
    done(client.say(line).await);
    client.ack().await;
    let (below, _) = client.assigned().await;
    let name = client.line.holds().into_iter().find(|id| id != "a").unwrap();
    client.settle(&say::started(&name), below).await;

    there.router.watch("nobody's");
    there.router.watch("a");
    assert_eq!(client.asked_anew().await, WATCHED);
    pass(&here, WATCHED_FOR).await;
    assert_eq!(client.asked_anew().await, UNWATCHED);

    // Its tree is watched, though the job itself is over; and by somebody else at the same time.
    let line = client.next(&say::completed("a"), fence);
    done(client.say(line).await);
    assert!(matches!(client.hear().await.message, WebAppMessage::Ack(_)));
    there.router.watch("a");
    assert_eq!(client.asked_anew().await, WATCHED);
    pass(&here, WATCHED_FOR - Duration::from_secs(1)).await;
    here.router.watch("a");
    pass(&here, Duration::from_secs(5)).await;
    let looks = here.store.count("Watch");
    there.router.watch("b");
    here.store.reaches("Watch", looks + 1).await;
    assert!(client.heard_nothing(), "somebody looks here");
    assert!(other.heard_nothing(), "it holds nothing that anybody looks at");
    pass(&here, WATCHED_FOR - Duration::from_secs(5)).await;
    assert_eq!(client.asked_anew().await, UNWATCHED);
    assert!(other.heard_nothing());

    there.router.watch_all();
    assert_eq!(client.asked_anew().await, WATCHED);
    assert_eq!(other.asked_anew().await, WATCHED);
    here.stop().await;
    there.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_known_outlasts_an_outage_of_the_store() {
    let (here, there) = two();
    let (mut client, _) = here.welcome(hello_with(1, json!({}))).await;
    here.submit("a").await;
    client.assigned().await;
    there.router.watch("a");
    assert_eq!(client.asked_anew().await, WATCHED);
    here.store.leave();
    let asked = here.store.watches_asked();
    // Both ask every second.
    for seconds in [7, 13] {
        until("they ask in vain", || here.store.watches_asked() > asked + 2 * seconds).await;
    }
    assert!(client.heard_nothing());
    assert_eq!(client.asked_anew().await, UNWATCHED, "until its time is over");
    here.store.come_back();
    // Who looks on is told of now.
    there.router.watch("a");
    assert_eq!(client.asked_anew().await, WATCHED);
}

#[tokio::test(start_paused = true)]
async fn others_are_told_now_and_then_and_not_each_time() {
    let (here, there) = two();
    here.store.reaches("Sweep", 1).await;
    for _ in 0..100 {
        there.router.watch("a");
        there.router.watch_all();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let told = here.store.count("Watch");
    assert!((4..=6).contains(&told), "told {told} times in 20 s");
}
