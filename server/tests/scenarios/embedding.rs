//! The server inside another program.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crawlwire_progress::store::BoxFuture;
use crawlwire_protocol::message::{JobAssignment, JobType, Shutdown};
use crawlwire_protocol::{AccessToken, Decoded, Envelope, Message, WebAppMessage};
use crawlwire_router::handler::Inbound;
use crawlwire_router::{Context, Event, Handled, Handler, Middleware, Peer, Processed, Verdict};
use crawlwire_server::cli::TokenRole;
use crawlwire_server::config::{Config, Inputs};
use crawlwire_server::token::TokenError;
use crawlwire_server::{Builder, MessageError, Server, StartError};
use crawlwire_transport::{Endpoint, TlsClient, TlsServer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::broadcast;
use tokio::task::yield_now;

use super::tls::certificate;
use crate::support::crawler::message;
use crate::support::session::{hello_with, refused};
use crate::support::{Api, Crawler, DEADLINE, SessionCrawler, wait_until};

/// A directory for a server, and how it is configured there.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn builder(&self) -> Builder {
        Server::builder(self.config())
    }

    fn config(&self) -> Config {
        let path = |name| self.0.path().join(name).display().to_string();
        let flags = BTreeMap::from([
            ("--profile", "test".to_owned()),
            ("--socket", path("s")),
            ("--data-dir", path("data")),
            ("--http", "127.0.0.1:0".to_owned()),
        ]);
        let env = BTreeMap::from([("SOCKET_MAX_CONNECTIONS".to_owned(), "10".to_owned())]);
        let inputs = Inputs {
            flags,
            env,
            ..Inputs::default()
        };
        Config::resolve(inputs).expect("a configuration").0
    }

    fn connect(&self) -> Crawler {
        Crawler::unix(&self.0.path().join("s"))
    }

    fn crawler(&self, server: &Server) -> Crawler {
        let mut crawler = self.connect();
        crawler.introduce(&Api::new(server.http_address()));
        crawler
    }
}

/// Handles messages of one type with a function, and counts them.
struct Own<F>(i32, F, AtomicUsize);

impl<F: Fn(&Inbound) -> Processed + Send + Sync> Own<F> {
    fn new(priority: i32, function: F) -> Arc<Self> {
        Arc::new(Self(priority, function, AtomicUsize::new(0)))
    }

    fn count(&self) -> usize {
        self.2.load(Ordering::SeqCst)
    }
}

impl<F: Fn(&Inbound) -> Processed + Send + Sync> Handler for Own<F> {
    fn priority(&self) -> i32 {
        self.0
    }

    fn can_handle(&self, message: &Inbound) -> bool {
        !matches!(message, Decoded::Custom(custom) if custom.data.get().contains("not for you"))
    }

    fn handle<'a>(&'a self, _: &'a Context, message: &'a Inbound) -> BoxFuture<'a, Handled> {
        self.2.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { Handled::Done((self.1)(message)) })
    }
}

fn notice(reason: &str) -> Envelope<WebAppMessage> {
    let shutdown = Shutdown {
        graceful: true,
        timeout_seconds: 1.5,
        reason: Some(reason.to_owned()),
    };
    Envelope::now(WebAppMessage::Shutdown(shutdown))
}

#[track_caller]
fn heard(crawler: &mut Crawler) -> Value {
    crawler.recv().expect("a message, and not the end")["data"]["reason"].clone()
}

/// On one thread, with something that is always ready to go on.
#[tokio::test]
async fn many_lines_at_once_leave_others_their_turn() {
    const LINES: usize = 320;
    let place = Place::new();
    let turns = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let own = {
        let (turns, seen) = (turns.clone(), seen.clone());
        Own::new(0, move |_| {
            seen.lock().expect("no panic").insert(turns.load(Ordering::SeqCst));
            Processed::done()
        })
    };
    let starting = place.builder().handler("own", own.clone()).start();
    let server = starting.await.expect("it starts");
    tokio::spawn(async move {
        loop {
            turns.fetch_add(1, Ordering::SeqCst);
            yield_now().await;
        }
    });
    let mut crawler = place.connect();
    let line = message("own", None, &json!({})) + "\n";
    crawler.send_bytes(line.repeat(LINES).as_bytes());
    while own.count() < LINES {
        yield_now().await;
    }
    let seen = seen.lock().expect("no panic").len();
    // Of two that yield, each goes first every other time.
    assert!(seen >= LINES / 32, "{seen} turns between {LINES} lines");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_of_ones_own() {
    let place = Place::new();
    let custom = Own::new(0, |message| match message {
        Decoded::Custom(custom) if custom.data.get().contains("panic") => panic!("as it was asked for"),
        Decoded::Custom(custom) => Processed::reply(notice(custom.data.get())),
        Decoded::Known(_) => Processed::failed("not mine"),
    });
    let first = Own::new(10, |_| Processed::failed("let others try"));
    let server = place
        .builder()
        .handler("custom_job_event", custom.clone())
        .start()
        .await
        .expect("it starts");
    let registration = server.register_handler("heartbeat", first.clone());

    let mut crawler = place.connect();
    crawler.say("custom_job_event", None, &json!({ "x": 1 }));
    assert_eq!(heard(&mut crawler), r#"{"x":1}"#);
    let api = Api::new(server.http_address());
    assert!(api.crawlers().is_empty(), "a type of somebody's own makes no crawler");
    crawler.introduce(&api);
    assert!(first.count() > 0, "the one with more priority is asked first");
    assert_eq!(
        api.crawlers()[0]["system_status"],
        "idle",
        "and then the one that was there"
    );

    // A panic costs one message.
    crawler.say("custom_job_event", None, &json!({ "panic": true }));
    crawler.say("custom_job_event", None, &json!({ "y": "not for you" }));
    crawler.say("custom_job_event", None, &json!({ "z": 3 }));
    assert_eq!(heard(&mut crawler), r#"{"z":3}"#);
    assert_eq!(custom.count(), 3);
    let codes = wait_until("the errors are logged", || {
        let errors = api.all("/api/v1/errors");
        (errors.len() == 2).then(|| errors.iter().map(|error| error["code"].clone()).collect::<Vec<_>>())
    });
    assert_eq!(codes, ["unknown_type", "handler_panicked"]);

    assert!(server.unregister_handler(registration));
    assert!(!server.unregister_handler(registration));
    let before = first.count();
    crawler.settle(&api);
    assert_eq!(first.count(), before);
    server.stop().await;
}

/// Notes what passes, and refuses or drops what it is told to.
struct Watch {
    name: &'static str,
    priority: i32,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Watch {
    fn note(&self, what: &str, type_name: &str) {
        self.seen
            .lock()
            .expect("no panic")
            .push(format!("{} {what} {type_name}", self.name));
    }
}

impl Middleware for Watch {
    fn name(&self) -> &str {
        self.name
    }

    fn priority(&self) -> i32 {
        self.priority
    }

    fn before_process<'a>(&'a self, _: &'a Peer, message: Inbound) -> BoxFuture<'a, Verdict<Inbound>> {
        self.note("before", message.type_name());
        let verdict = match message.type_name() {
            "refuse_me" => Verdict::Refuse("not today".to_owned()),
            "drop_me" => Verdict::Drop,
            _ => Verdict::Pass(message),
        };
        Box::pin(async { verdict })
    }

    fn after_process<'a>(&'a self, _: &'a Peer, type_name: &'a str, processed: &'a Processed) -> BoxFuture<'a, ()> {
        self.note(if processed.success { "done" } else { "failed" }, type_name);
        Box::pin(async {})
    }

    fn before_send<'a>(
        &'a self,
        _: &'a Peer,
        mut message: Envelope<WebAppMessage>,
    ) -> BoxFuture<'a, Verdict<Envelope<WebAppMessage>>> {
        self.note("sends", message.message.kind().as_str());
        if let WebAppMessage::Shutdown(shutdown) = &mut message.message {
            shutdown.reason = shutdown
                .reason
                .take()
                .map(|reason| format!("{reason}, says {}", self.name));
        }
        Box::pin(async { Verdict::Pass(message) })
    }

    fn after_send<'a>(&'a self, _: &'a Peer, type_name: &'a str, sent: bool) -> BoxFuture<'a, ()> {
        self.note(if sent { "sent" } else { "lost" }, type_name);
        Box::pin(async {})
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn middleware_sees_everything() {
    let place = Place::new();
    let seen = Arc::default();
    let watch = |name, priority| {
        Arc::new(Watch {
            name,
            priority,
            seen: Arc::clone(&seen),
        })
    };
    let server = place
        .builder()
        .middleware(watch("inner", 1))
        .start()
        .await
        .expect("it starts");
    server.add_middleware(watch("outer", 1000));
    let take = || std::mem::take(&mut *seen.lock().expect("no panic"));
    let api = Api::new(server.http_address());
    let mut crawler = place.connect();
    for type_name in ["refuse_me", "drop_me", "nobody_knows_me"] {
        crawler.say(type_name, None, &json!({}));
    }
    crawler.introduce(&api);
    crawler.settle(&api);
    wait_until("all have passed", || {
        let seen = seen.lock().expect("no panic");
        (seen.iter().filter(|it| *it == "outer done heartbeat").count() == 2).then_some(())
    });
    check_order(&take());
    let refused = wait_until("the refusal is logged", || {
        api.all("/api/v1/errors")
            .into_iter()
            .find(|error| error["code"] == "refused_by_middleware")
    });
    assert_eq!(refused["message"], "not today");

    take();
    server
        .send_to_crawler(&crawler.name, notice("soon"))
        .await
        .expect("it is sent");
    assert_eq!(heard(&mut crawler), "soon, says outer, says inner");
    assert_eq!(
        take(),
        [
            "outer sends shutdown",
            "inner sends shutdown",
            "inner sent shutdown",
            "outer sent shutdown"
        ]
    );
    server.stop().await;
}

/// The outer one comes first on the way in and last on the way back, and one that stops a message is the last to see it.
fn check_order(seen: &[String]) {
    for (type_name, hooks) in [
        ("refuse_me", &["outer before", "inner failed", "outer failed"][..]),
        ("drop_me", &["outer before", "inner done", "outer done"]),
        (
            "nobody_knows_me",
            &["outer before", "inner before", "inner failed", "outer failed"],
        ),
        (
            "heartbeat",
            &["outer before", "inner before", "inner done", "outer done"],
        ),
    ] {
        let told = seen
            .iter()
            .filter_map(|line| line.strip_suffix(type_name))
            .map(str::trim_end);
        assert_eq!(told.take(hooks.len()).collect::<Vec<_>>(), hooks, "{type_name}");
    }
    assert_eq!(seen.iter().filter(|line| line.ends_with("_me")).count(), 3 + 3 + 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_to_crawlers() {
    let place = Place::new();
    let server = place.builder().start().await.expect("it starts");
    let unknown = server.send_to_crawler("legacy-0", notice("x")).await;
    assert_eq!(unknown, Err(MessageError::NoSuchCrawler));
    assert_eq!(server.broadcast(&notice("x")).await, Ok(0));
    let mut crawlers = [place.crawler(&server), place.crawler(&server)];
    let _nobody = place.connect();
    server
        .send_to_crawler(&crawlers[1].name, notice("only you"))
        .await
        .expect("it is sent");
    assert_eq!(server.broadcast(&notice("all of you")).await, Ok(2));
    assert_eq!(heard(&mut crawlers[0]), "all of you");
    assert_eq!(heard(&mut crawlers[1]), "only you");
    assert_eq!(heard(&mut crawlers[1]), "all of you");
    let assignment = WebAppMessage::JobAssignment(JobAssignment {
        job_id: "j".to_owned(),
        job_type: JobType::CrawlUser,
        entity_id: None,
        namespace_path: None,
        gitlab_host: "h".to_owned(),
        access_token: AccessToken::new(""),
        priority: 1.0,
        resume: false,
        checkpoint: None,
        counts: None,
        attempt: None,
    });
    assert_eq!(
        server.broadcast(&Envelope::now(assignment)).await,
        Err(MessageError::AssignmentForAll)
    );
    assert!(crawlers.iter_mut().all(|crawler| crawler.try_recv().is_none()));
    server.stop().await;
    assert_eq!(heard(&mut crawlers[0]), "the server is stopping");
    assert!(crawlers[0].recv().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_program_can_see() {
    let place = Place::new();
    let server = place.builder().start().await.expect("it starts");
    let mut events = server.subscribe();
    let status = server.status();
    assert!(status.is_running && status.connections == 0 && status.active_connections == 0);
    assert_eq!(status.config.connection.max_connections, 10);
    assert_eq!(server.aggregate_progress().await, Ok(None));

    let api = Api::new(server.http_address());
    let silent = place.connect();
    let mut crawler = place.crawler(&server);
    let mut bad = place.crawler(&server);
    bad.send_bytes(b"{}\n");
    let stats = wait_until("the bad line was noticed", || {
        Some(server.connection_stats()).filter(|stats| stats.error == 1)
    });
    assert_eq!((stats.total, stats.active, stats.idle), (3, 1, 1));
    assert_eq!(
        (server.status().connections, server.status().active_connections),
        (3, 1)
    );
    drop((silent, bad));

    let jobs = [api.submit("crawl_user"), api.submit("crawl_user")];
    jobs.iter().for_each(|_| drop(crawler.assignment()));
    crawler.progress(&jobs[0], 0.25, 25);
    crawler.progress(&jobs[1], 0.75, 75);
    let all = loop {
        match server.aggregate_progress().await.expect("the database is there") {
            Some(all) if all.active_jobs == 2 => break all,
            // What is written announces itself nowhere.
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert!((all.overall_completion - 0.5).abs() < 1e-9);
    jobs.iter().for_each(|job| crawler.completed(job));
    jobs.iter().for_each(|job| drop(api.await_status(job, "completed")));
    assert_eq!(server.aggregate_progress().await, Ok(None));
    let name = crawler.name.clone();
    drop(crawler);

    let life = life(&mut events, &name, &jobs[0]).await;
    assert_eq!(
        life.iter().filter(|it| *it != "progress").collect::<Vec<_>>(),
        ["opened", "submit", "claim", "start", "finish"]
    );
    assert!(life.contains(&"progress".to_owned()));
    assert!(server.store().ping().await.is_ok());
    server.stop().await;
}

/// What is told of a session and a job of it, until the session ends.
async fn life(events: &mut broadcast::Receiver<Event>, session: &str, job: &str) -> Vec<String> {
    let mut life = Vec::new();
    loop {
        let event = tokio::time::timeout(DEADLINE, events.recv()).await;
        match event.expect("the session closes").expect("an event") {
            Event::SessionOpened { name } if *name == *session => life.push("opened".to_owned()),
            Event::Job(fact) if fact.public_id == job => life.push(fact.arrow.to_string()),
            Event::Progress { public_id, .. } if public_id == job => life.push("progress".to_owned()),
            Event::SessionClosed { name } if *name == *session => return life,
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_place_holds_one_server_at_a_time() {
    let place = Place::new();
    let server = place.builder().start().await.expect("it starts");
    let second = place.builder().start().await;
    assert!(matches!(second, Err(StartError::Listen(_))), "{second:?}");
    let store = server.store();
    let mut crawler = place.crawler(&server);
    let job = Api::new(server.http_address()).submit("crawl_user");
    crawler.assignment();
    let stopping = tokio::time::timeout(Duration::from_secs(2), server.stop());
    stopping.await.expect("it stops soon");
    assert!(store.ping().await.is_err(), "the database is closed");

    // The next server goes on with the job.
    let again = place.builder().start().await.expect("it starts again");
    let mut crawler = place.crawler(&again);
    crawler.completed(&job);
    let ended = Api::new(again.http_address()).await_status(&job, "completed");
    assert_eq!(ended["attempt"], 1);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_tokens_of_ones_own() {
    let place = Place::new();
    let path = |name: &str| place.0.path().join(name);
    certificate(place.0.path(), "own");
    let mut config = place.config();
    config.connection.host = [0, 0, 0, 0].into();
    config.connection.port = Some(0);
    let tls = TlsServer::load(&path("own.pem"), &path("own.key"), None).expect("TLS");
    // What was checked when the configuration was made holds for one that was changed, too.
    let open = Server::builder(config.clone()).tls(tls.clone()).start().await;
    assert!(matches!(open, Err(StartError::TokensNeeded(_))), "{open:?}");
    config.security.require_tokens = true;
    let plain = Server::builder(config.clone()).start().await;
    assert!(matches!(plain, Err(StartError::Listen(_))), "{plain:?}");

    let server = Server::builder(config).tls(tls).start().await.expect("it starts");
    let port = server.endpoints().iter().find_map(|endpoint| match endpoint {
        Endpoint::Tcp { port, .. } => Some(*port),
        Endpoint::Unix(_) => None,
    });
    let address = ([127, 0, 0, 1], port.expect("a TCP listener")).into();
    let connect = || Crawler::tls(address, TlsClient::load(&path("own.pem")).expect("a client")).expect("a handshake");
    let token = server
        .create_token("own", TokenRole::Crawler, "ada")
        .await
        .expect("a token");
    let taken = server.create_token("own", TokenRole::Crawler, "ada").await;
    assert!(matches!(taken, Err(TokenError::Refused { .. })), "{taken:?}");
    let mut crawler = SessionCrawler::begin(connect(), hello_with("far", 1, &token));
    server.revoke_token("own", "ada").await.expect("it is there");
    assert_eq!(crawler.last_words()["data"]["reason"], "token_revoked");
    assert_eq!(refused(connect(), &hello_with("far", 1, &token)).0, "invalid_token");
    server.stop().await;
}
