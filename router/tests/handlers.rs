//! Handlers of somebody's own beside the built-in ones, and what happens when one goes wrong.

mod support;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crawlwire_progress::State;
use crawlwire_progress::store::BoxFuture;
use crawlwire_protocol::message::Shutdown;
use crawlwire_protocol::{Category, Envelope, WebAppMessage};
use crawlwire_router::{Context, Handled, Handler, Inbound, Processed, RouterConfig};
use serde_json::json;

use support::*;

/// What a handler of ours does when it is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    Succeed,
    Fail,
    Wait,
    Reply,
    PanicAtOnce,
    PanicInside,
    PanicLater,
}

type Asked = Arc<Mutex<Vec<&'static str>>>;

struct Ours {
    name: &'static str,
    priority: i32,
    wants: bool,
    does: Does,
    asked: Asked,
}

impl Handler for Ours {
    fn can_handle(&self, _: &Inbound) -> bool {
        self.wants
    }

    fn priority(&self) -> i32 {
        self.priority
    }

    fn handle<'a>(&'a self, _: &'a Context, _: &'a Inbound) -> BoxFuture<'a, Handled> {
        self.asked.lock().unwrap().push(self.name);
        assert_ne!(self.does, Does::PanicAtOnce, "on purpose");
        Box::pin(async {
            match self.does {
                Does::Succeed => Handled::Done(Processed {
                    data: Some(json!("ours")),
                    ..Processed::done()
                }),
                Does::Fail => Handled::Done(Processed::failed("not ours")),
                Does::Wait => Handled::Pending(Box::pin(async {
                    tokio::task::yield_now().await;
                    Processed::done()
                })),
                Does::Reply => Handled::Done(Processed::reply(Envelope::now(WebAppMessage::Shutdown(Shutdown {
                    graceful: true,
                    timeout_seconds: 1.0,
                    reason: None,
                })))),
                Does::PanicLater => Handled::Pending(Box::pin(async { panic!("on purpose") })),
                Does::PanicAtOnce | Does::PanicInside => panic!("on purpose"),
            }
        })
    }
}

fn ours(name: &'static str, priority: i32, does: Does, asked: &Asked) -> Arc<Ours> {
    Arc::new(Ours {
        name,
        priority,
        wants: true,
        does,
        asked: asked.clone(),
    })
}

fn asked(asked: &Asked) -> Vec<&'static str> {
    std::mem::take(&mut *asked.lock().unwrap())
}

/// A crawler that was given job `a`.
async fn given(server: &Server) -> Crawler {
    let mut crawler = server.crawler().await;
    server.submit("a").await;
    crawler.assignment().await;
    crawler
}

#[tokio::test]
async fn a_type_of_ones_own() {
    let server = Server::start();
    let mut crawler = server.connect(None);
    let calls = Asked::default();
    let registration = server
        .router
        .register_handler("ping", ours("ping", 0, Does::Reply, &calls));
    done(crawler.say(say::custom("ping")).await);
    assert!(matches!(crawler.hear().await.message, WebAppMessage::Shutdown(_)));
    assert!(crawler.peer.session().is_none());
    assert_eq!(
        failed(crawler.say(say::custom("pong")).await),
        "nobody handles this type"
    );
    assert!(server.router.unregister_handler(registration));
    assert!(!server.router.unregister_handler(registration), "once");
    assert_eq!(
        failed(crawler.say(say::custom("ping")).await),
        "nobody handles this type"
    );
    assert_eq!(asked(&calls), ["ping"]);
    let stats = server.router.stats();
    assert_eq!((stats.processed, stats.failed), (1, 2));
}

#[tokio::test]
async fn an_unknown_type_is_logged_without_being_quoted() {
    let server = Server::start();
    let crawler = server.connect(None);
    failed(crawler.say(say::custom("token-abc")).await);
    let errors = server.errors(1).await;
    assert_eq!(
        (errors[0].code.as_str(), errors[0].category.as_str()),
        ("unknown_type", "message_validation")
    );
    assert_eq!(errors[0].connection.as_deref(), Some("connection-1"));
    assert!(!errors[0].message.contains("token-abc"));
}

#[tokio::test]
async fn higher_priority_is_asked_first_and_a_failure_falls_through() {
    let server = Server::start();
    let crawler = given(&server).await;
    let calls = Asked::default();
    for (name, priority) in [("low", -1), ("first", 5), ("high", 10), ("second", 5)] {
        server
            .router
            .register_handler("job_started", ours(name, priority, Does::Fail, &calls));
    }
    let unwilling = Ours {
        wants: false,
        ..Arc::into_inner(ours("unwilling", 100, Does::Succeed, &calls)).unwrap()
    };
    server.router.register_handler("job_started", Arc::new(unwilling));
    done(crawler.say(say::started("a")).await);
    assert_eq!(
        asked(&calls),
        ["high", "first", "second"],
        "the built-in one succeeded before the lowest was asked"
    );
    assert_eq!(server.job("a").await.state, State::Running);
    assert_eq!(
        failed(crawler.say(say::started("other")).await),
        "not ours",
        "the last one asked has the last word"
    );
    assert_eq!(asked(&calls), ["high", "first", "second", "low"]);
}

#[tokio::test]
async fn the_first_success_ends_the_matter() {
    for does in [Does::Succeed, Does::Wait] {
        let server = Server::start();
        let crawler = given(&server).await;
        let calls = Asked::default();
        let registration = server
            .router
            .register_handler("job_started", ours("ours", 1, does, &calls));
        let processed = crawler.say(say::started("a")).await;
        assert_eq!(processed.data, (does == Does::Succeed).then(|| json!("ours")));
        done(processed);
        assert_eq!(
            server.job("a").await.state,
            State::Assigned,
            "the built-in handler was not asked"
        );
        server.router.unregister_handler(registration);
        done(crawler.say(say::started("a")).await);
        assert_eq!(server.job("a").await.state, State::Running);
    }
}

#[tokio::test]
async fn a_panic_costs_one_message() {
    for does in [Does::PanicAtOnce, Does::PanicInside, Does::PanicLater] {
        let server = Server::start();
        let crawler = given(&server).await;
        let calls = Asked::default();
        let registration = server
            .router
            .register_handler("job_started", ours("ours", 1, does, &calls));
        assert_eq!(failed(crawler.say(say::started("a")).await), "internal error");
        let errors = server.errors(1).await;
        assert_eq!(
            (errors[0].code.as_str(), errors[0].category.as_str()),
            ("handler_panicked", "internal")
        );
        assert_eq!(errors[0].job.as_deref(), Some("a"));
        done(crawler.say(say::heartbeat()).await);
        server.router.unregister_handler(registration);
        done(crawler.say(say::started("a")).await);
        assert_eq!(server.router.stats().failed, 1);
    }
}

#[tokio::test]
async fn lines_that_are_no_messages_are_counted_and_logged() {
    let server = Server::start();
    let crawler = server.connect(None);
    let note = |message: &str| {
        let message = message.to_owned();
        server
            .router
            .note_invalid_line(&crawler.peer, Category::MessageValidation, "invalid_message", message);
    };
    note("/data/active_jobs: expected a count");
    let errors = server.errors(1).await;
    assert_eq!(errors[0].message, "/data/active_jobs: expected a count");
    assert_eq!(
        (errors[0].category.as_str(), errors[0].severity.as_str()),
        ("message_validation", "low")
    );
    assert_eq!(server.router.stats().invalid, 1);
    assert!(crawler.peer.session().is_none());

    note(&"ß".repeat(5_000));
    let errors = server.errors(2).await;
    assert!(
        (900..=1_000).contains(&errors[0].message.len()),
        "cut: {}",
        errors[0].message.len()
    );
}

#[tokio::test]
async fn the_words_of_a_crawler_stay_with_its_job() {
    let server = Server::start();
    let crawler = given(&server).await;
    let words = "GET https://host/?private_token=glpat-marker";
    done(crawler.say(say::failed_saying("a", true, words)).await);
    let errors = server.errors(1).await;
    assert_eq!(
        (errors[0].code.as_str(), errors[0].job.as_deref()),
        ("job_failed", Some("a"))
    );
    assert!(!errors[0].message.contains("marker"), "{}", errors[0].message);
    assert!(server.job("a").await.error.unwrap().contains("marker"));
}

#[tokio::test]
async fn types_that_nobody_handles_are_legal_and_do_not_fill_the_log() {
    let server = Server::start();
    let crawler = server.connect(None);
    for _ in 0..30 {
        failed(crawler.say(say::custom("own")).await);
    }
    server.router.note_invalid_line(
        &crawler.peer,
        Category::MessageParsing,
        "not_json",
        "the last one".to_owned(),
    );
    let errors = server.errors(21).await;
    assert_eq!((errors.len(), errors[0].code.as_str()), (21, "not_json"));
    assert_eq!(server.router.stats().failed, 30);
}

#[tokio::test]
async fn what_a_terminal_could_not_take_is_not_logged() {
    let server = Server::start();
    let crawler = server.connect(None);
    let message = "\u{0}\u{1b}[31mred\n".to_owned();
    server
        .router
        .note_invalid_line(&crawler.peer, Category::MessageParsing, "not_json", message);
    assert_eq!(server.errors(1).await[0].message, "\u{fffd}\u{fffd}[31mred\u{fffd}");
}

#[tokio::test]
async fn a_flood_of_errors_is_bounded_and_counted() {
    let server = Server::with(
        RouterConfig {
            flush_interval: Duration::from_secs(3600),
            ..config()
        },
        Default::default(),
    );
    server.renewed().await;
    let crawler = server.connect(None);
    for _ in 0..1_024 + 6 {
        server
            .router
            .note_invalid_line(&crawler.peer, Category::MessageParsing, "not_json", String::new());
    }
    assert_eq!(
        (server.router.stats().invalid, server.router.stats().errors_dropped),
        (1_030, 6)
    );
    let store = server.store.clone();
    server.stop().await;
    let page = crawlwire_progress::store::Paging {
        limit: 2_000,
        after: None,
    };
    let all = crawlwire_progress::store::ErrorFilter::default();
    let written = crawlwire_progress::Store::errors(&*store, all, page).await.unwrap();
    assert_eq!(written.items.len(), 1_024, "at the end at the latest");
}

#[tokio::test]
async fn an_answer_that_cannot_be_sent_is_the_peers_loss() {
    let server = Server::start();
    let crawler = given(&server).await;
    crawler.out.full.store(true, Ordering::Relaxed);
    done(crawler.say(say::refresh("a")).await);
    crawler.out.full.store(false, Ordering::Relaxed);
    done(crawler.say(say::completed("a")).await);
}
