//! Four hooks around every message, in and out.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crawlwire_progress::store::BoxFuture;
use crawlwire_progress::{Arrow, State};
use crawlwire_protocol::{AccessToken, CrawlerMessage, Decoded, Envelope, Message, WebAppMessage};
use crawlwire_router::{Inbound, Middleware, Peer, Processed, SendError, Verdict};

use support::*;

type Notes = Arc<Mutex<Vec<String>>>;
type In = fn(Inbound) -> Verdict<Inbound>;
type Out = fn(Envelope<WebAppMessage>) -> Verdict<Envelope<WebAppMessage>>;

/// Writes down what it sees, and decides as it is told.
struct Tap {
    name: &'static str,
    priority: i32,
    notes: Notes,
    inbound: In,
    outbound: Out,
}

impl Tap {
    fn note(&self, hook: &str, of: &str) {
        self.notes.lock().unwrap().push(format!("{} {hook} {of}", self.name));
    }
}

impl Middleware for Tap {
    fn name(&self) -> &str {
        self.name
    }

    fn priority(&self) -> i32 {
        self.priority
    }

    fn before_process<'a>(&'a self, _: &'a Peer, message: Inbound) -> BoxFuture<'a, Verdict<Inbound>> {
        self.note("before", message.type_name());
        Box::pin(async move { (self.inbound)(message) })
    }

    fn after_process<'a>(&'a self, _: &'a Peer, type_name: &'a str, processed: &'a Processed) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.note(if processed.success { "done" } else { "failed" }, type_name) })
    }

    fn before_send<'a>(
        &'a self,
        _: &'a Peer,
        message: Envelope<WebAppMessage>,
    ) -> BoxFuture<'a, Verdict<Envelope<WebAppMessage>>> {
        self.note("sending", message.message.kind().as_str());
        Box::pin(async move { (self.outbound)(message) })
    }

    fn after_send<'a>(&'a self, _: &'a Peer, type_name: &'a str, sent: bool) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.note(if sent { "sent" } else { "unsent" }, type_name) })
    }
}

fn tap(name: &'static str, priority: i32, notes: &Notes) -> Tap {
    Tap {
        name,
        priority,
        notes: notes.clone(),
        inbound: Verdict::Pass,
        outbound: Verdict::Pass,
    }
}

fn noted(notes: &Notes) -> Vec<String> {
    std::mem::take(&mut *notes.lock().unwrap())
}

#[tokio::test]
async fn the_outermost_comes_first_on_the_way_in_and_last_on_the_way_back() {
    let mut server = Server::start();
    let notes = Notes::default();
    for (name, priority) in [("inner", 0), ("outer", 1000), ("middle", 5)] {
        server.router.add_middleware(Arc::new(tap(name, priority, &notes)));
    }
    let mut crawler = server.crawler().await;
    let expected = |hooks: [&str; 2], of: &str| {
        let hook = |hook: &str| {
            ["outer", "middle", "inner"]
                .map(|name| format!("{name} {hook} {of}"))
                .to_vec()
        };
        let mut back = hook(hooks[1]);
        back.reverse();
        [hook(hooks[0]), back].concat()
    };
    assert_eq!(noted(&notes), expected(["before", "done"], "heartbeat"));
    server.submit("a").await;
    crawler.assignment().await;
    // The dispatcher goes on to the hooks behind before it publishes anything else.
    server.renewed().await;
    assert_eq!(noted(&notes), expected(["sending", "sent"], "job_assignment"));
    failed(crawler.say(say::completed("other")).await);
    assert_eq!(noted(&notes), expected(["before", "failed"], "job_completed"));
    crawler.out.full.store(true, Ordering::Relaxed);
    server.submit("b").await;
    server.arrow("b", Arrow::Release).await;
    assert_eq!(noted(&notes), expected(["sending", "unsent"], "job_assignment"));
}

#[tokio::test]
async fn a_message_may_be_changed_on_its_way_in() {
    let server = Server::start();
    let mut crawler = server.crawler().await;
    server.submit("a").await;
    crawler.assignment().await;
    server.router.add_middleware(Arc::new(Tap {
        inbound: |mut message| {
            if let Decoded::Known(envelope) = &mut message
                && let CrawlerMessage::JobFailed(failed) = &mut envelope.message
            {
                failed.error_context.is_recoverable = false;
            }
            Verdict::Pass(message)
        },
        ..tap("hopeless", 0, &Notes::default())
    }));
    done(crawler.say(say::failed("a", true)).await);
    assert_eq!(server.job("a").await.state, State::Failed);
}

#[tokio::test]
async fn a_message_may_be_dropped_on_its_way_in() {
    let server = Server::start();
    let notes = Notes::default();
    server.router.add_middleware(Arc::new(Tap {
        inbound: |_| Verdict::Drop,
        ..tap("drop", 1, &notes)
    }));
    server.router.add_middleware(Arc::new(tap("inner", 0, &notes)));
    let crawler = server.connect(None);
    done(crawler.say(say::heartbeat()).await);
    assert!(crawler.peer.session().is_none(), "as if it had not been said");
    assert_eq!(
        noted(&notes),
        ["drop before heartbeat", "inner done heartbeat", "drop done heartbeat"]
    );
}

#[tokio::test]
async fn a_message_may_be_refused_on_its_way_in() {
    let server = Server::start();
    server.router.add_middleware(Arc::new(Tap {
        inbound: |_| Verdict::Refuse("not today".to_owned()),
        ..tap("refuse", 0, &Notes::default())
    }));
    let crawler = server.connect(None);
    assert_eq!(failed(crawler.say(say::heartbeat()).await), "not today");
    assert!(crawler.peer.session().is_none());
    let errors = server.errors(1).await;
    assert_eq!(
        (errors[0].code.as_str(), errors[0].message.as_str()),
        ("refused_by_middleware", "not today")
    );
    assert_eq!(errors[0].category, "authentication");
}

#[tokio::test]
async fn a_message_may_be_changed_dropped_or_refused_on_its_way_out() {
    let server = Server::start();
    server.router.add_middleware(Arc::new(Tap {
        outbound: |mut envelope| match &mut envelope.message {
            WebAppMessage::JobAssignment(assignment) if assignment.job_id == "refuse" => {
                Verdict::Refuse("not this one".to_owned())
            }
            WebAppMessage::JobAssignment(assignment) => {
                assignment.access_token = AccessToken::new("changed");
                Verdict::Pass(envelope)
            }
            _ => Verdict::Drop,
        },
        ..tap("out", 0, &Notes::default())
    }));
    let mut crawler = server.crawler().await;
    server.submit_job(with_token("a", "t")).await;
    assert_eq!(crawler.assignment().await.access_token.expose(), "changed");
    done(crawler.say(say::refresh("a")).await);
    assert!(crawler.heard_nothing(), "the answer was dropped");
    server.renewed().await;
    server.submit("refuse").await;
    server.renewed().await;
    assert_eq!(server.arrows("refuse").await, ["submit", "claim", "release"]);
    assert_eq!(server.job("refuse").await.attempt, 0);
    let errors = server.errors(1).await;
    assert_eq!(
        (errors[0].code.as_str(), errors[0].message.as_str()),
        ("refused_by_middleware", "not this one")
    );
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Hook {
    BeforeProcess,
    AfterProcess,
    BeforeSend,
    AfterSend,
}

/// Panics once in one hook: in the call itself, or in the future that it returns.
struct Panics {
    hook: Hook,
    at_once: bool,
    armed: AtomicBool,
}

impl Panics {
    fn maybe(&self, hook: Hook, at_once: bool) {
        if self.hook == hook && self.at_once == at_once && self.armed.swap(false, Ordering::Relaxed) {
            panic!("on purpose, in {hook:?}");
        }
    }
}

impl Middleware for Panics {
    fn name(&self) -> &str {
        "panics"
    }

    fn before_process<'a>(&'a self, _: &'a Peer, message: Inbound) -> BoxFuture<'a, Verdict<Inbound>> {
        self.maybe(Hook::BeforeProcess, true);
        Box::pin(async move {
            self.maybe(Hook::BeforeProcess, false);
            Verdict::Pass(message)
        })
    }

    fn after_process<'a>(&'a self, _: &'a Peer, _: &'a str, _: &'a Processed) -> BoxFuture<'a, ()> {
        self.maybe(Hook::AfterProcess, true);
        Box::pin(async { self.maybe(Hook::AfterProcess, false) })
    }

    fn before_send<'a>(
        &'a self,
        _: &'a Peer,
        message: Envelope<WebAppMessage>,
    ) -> BoxFuture<'a, Verdict<Envelope<WebAppMessage>>> {
        self.maybe(Hook::BeforeSend, true);
        Box::pin(async move {
            self.maybe(Hook::BeforeSend, false);
            Verdict::Pass(message)
        })
    }

    fn after_send<'a>(&'a self, _: &'a Peer, _: &'a str, _: bool) -> BoxFuture<'a, ()> {
        self.maybe(Hook::AfterSend, true);
        Box::pin(async { self.maybe(Hook::AfterSend, false) })
    }
}

fn panics_in(hook: Hook) -> [(Server, Crawler, Arc<Panics>, Notes); 2] {
    [true, false].map(|at_once| {
        let server = Server::start();
        let notes = Notes::default();
        let panics = Arc::new(Panics {
            hook,
            at_once,
            armed: AtomicBool::new(true),
        });
        server.router.add_middleware(panics.clone());
        server.router.add_middleware(Arc::new(tap("other", 1, &notes)));
        let crawler = server.connect(None);
        (server, crawler, panics, notes)
    })
}

#[tokio::test]
async fn a_panic_before_a_message_is_handled_costs_that_message() {
    for (server, mut crawler, _, notes) in panics_in(Hook::BeforeProcess) {
        assert_eq!(failed(crawler.say(say::heartbeat()).await), "internal error");
        assert_eq!(noted(&notes), ["other before heartbeat", "other failed heartbeat"]);
        assert_eq!(server.errors(1).await[0].code, "handler_panicked");
        done(crawler.say(say::heartbeat()).await);
        server.submit("a").await;
        crawler.assignment().await;
    }
}

#[tokio::test]
async fn a_panic_after_a_message_was_handled_costs_nothing() {
    for (server, mut crawler, panics, notes) in panics_in(Hook::AfterProcess) {
        done(crawler.say(say::heartbeat()).await);
        assert!(!panics.armed.load(Ordering::Relaxed));
        assert_eq!(noted(&notes), ["other before heartbeat", "other done heartbeat"]);
        server.submit("a").await;
        crawler.assignment().await;
    }
}

#[tokio::test]
async fn a_panic_before_a_message_is_sent_costs_that_message() {
    for (server, mut crawler, panics, _) in panics_in(Hook::BeforeSend) {
        done(crawler.say(say::heartbeat()).await);
        server.renewed().await;
        server.submit_job(with_token("a", "t")).await;
        server.renewed().await;
        assert_eq!(
            server.arrows("a").await,
            ["submit", "claim", "release"],
            "as if it could not be sent"
        );
        done(crawler.say(say::heartbeat()).await);
        assert_eq!(crawler.assignment().await.job_id, "a", "the dispatcher lives");
        panics.armed.store(true, Ordering::Relaxed);
        done(crawler.say(say::refresh("a")).await);
        assert!(crawler.heard_nothing(), "an answer is lost");
        done(crawler.say(say::refresh("a")).await);
        crawler.token().await;
    }
}

#[tokio::test]
async fn a_panic_after_a_message_was_sent_costs_nothing() {
    for (server, mut crawler, panics, notes) in panics_in(Hook::AfterSend) {
        done(crawler.say(say::heartbeat()).await);
        server.submit("a").await;
        crawler.assignment().await;
        server.renewed().await;
        assert!(!panics.armed.load(Ordering::Relaxed));
        assert_eq!(noted(&notes).last().unwrap(), "other sent job_assignment");
        done(crawler.say(say::completed("a")).await);
        server.submit("b").await;
        crawler.assignment().await;
    }
}

#[tokio::test]
async fn sending_says_why_it_did_not() {
    let server = Server::start();
    let mut crawler = server.crawler().await;
    let message = || {
        Envelope::now(WebAppMessage::Shutdown(crawlwire_protocol::message::Shutdown {
            graceful: false,
            timeout_seconds: 2.5,
            reason: None,
        }))
    };
    assert_eq!(server.router.send(&crawler.peer, message()).await, Ok(()));
    assert!(matches!(crawler.hear().await.message, WebAppMessage::Shutdown(_)));
    crawler.out.full.store(true, Ordering::Relaxed);
    assert_eq!(server.router.send(&crawler.peer, message()).await, Err(SendError::Full));
    crawler.out.closed.store(true, Ordering::Relaxed);
    assert_eq!(
        server.router.send(&crawler.peer, message()).await,
        Err(SendError::Closed)
    );
}
