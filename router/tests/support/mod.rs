//! A router over a store in memory, and crawlers that are only a queue of lines.
#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod say;
pub(crate) mod store;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use crawlwire_progress::admit::Capabilities;
use crawlwire_progress::store::{BoxFuture, ErrorFilter, NewJob, Outcome, Paging};
use crawlwire_progress::track::Tracker;
use crawlwire_progress::view::{ErrorView, EventView, JobSpec, JobView};
use crawlwire_progress::{Arrow, Fact, Policy, Store};
use crawlwire_protocol::message::{JobAssignment, JobType, TokenRefreshResponse};
use crawlwire_protocol::{
    AccessToken, CrawlerMessage, Decoded, Dialect, Envelope, WebAppMessage, decode, fingerprint, peek,
};
use crawlwire_router::{
    Closing, Event, Origin, Outbound, Peer, Pending, Processed, Received, Router, RouterConfig, SendError,
};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::store::Probe;

/// Longer than anything here takes; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lines a crawler may leave unread.
const LINES: usize = 64;

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Waits until something holds that nobody tells of.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Short intervals, so that what the clock does is done at once. The store's clock is moved by hand.
pub(crate) fn config() -> RouterConfig {
    RouterConfig {
        server: "one".to_owned(),
        slots_per_crawler: 2,
        sweep_interval: Duration::from_millis(5),
        flush_interval: Duration::from_millis(5),
        ..RouterConfig::default()
    }
}

pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) store: Arc<Probe>,
    pub(crate) policy: Policy,
    events: broadcast::Receiver<Event>,
    connections: AtomicU64,
    stop: CancellationToken,
    running: JoinHandle<Result<(), crawlwire_progress::StoreError>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(config(), Policy::default())
    }

    pub(crate) fn with(config: RouterConfig, policy: Policy) -> Self {
        Self::over(Arc::new(Probe::new(policy.clone())), config, policy)
    }

    pub(crate) fn over(store: Arc<Probe>, config: RouterConfig, policy: Policy) -> Self {
        let config = RouterConfig {
            policy: policy.clone(),
            ..config
        };
        let router = Router::new(store.clone(), config);
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let (router, stop) = (router.clone(), stop.clone());
            async move { router.run(stop).await }
        });
        Self {
            events: router.subscribe(),
            router,
            store,
            policy,
            connections: AtomicU64::new(1),
            stop,
            running,
        }
    }

    /// A server whose clock does nothing: what happens, happens because of something else.
    pub(crate) async fn by_hand(config: RouterConfig) -> Self {
        Self::by_hand_with(config, Policy::default()).await
    }

    pub(crate) async fn by_hand_with(config: RouterConfig, policy: Policy) -> Self {
        let config = RouterConfig {
            sweep_interval: Duration::from_secs(3600),
            ..config
        };
        let server = Self::with(config, policy);
        // The first one is at once.
        server.store.reaches("Sweep", 1).await;
        server
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        soon("the router to stop", self.running).await.unwrap().unwrap();
    }

    /// A connection that has said nothing yet.
    pub(crate) fn connect(&self, identity: Option<&str>) -> Crawler {
        self.connect_as(|number, out| Peer::new(number, identity.map(str::to_owned), out))
    }

    /// A connection whose crawler said what it can do.
    pub(crate) fn connect_able(&self, capabilities: Capabilities, confirms: bool) -> Crawler {
        self.connect_as(|number, out| Peer::able(number, None, out, Arc::new(capabilities), confirms))
    }

    /// A connection from somewhere.
    pub(crate) fn connect_from(&self, origin: Origin) -> Crawler {
        self.connect_as(|number, out| Peer::from(number, None, origin, out))
    }

    fn connect_as(&self, peer: impl FnOnce(u64, Arc<Line>) -> Arc<Peer>) -> Crawler {
        let (sender, lines) = mpsc::channel(LINES);
        let out = Arc::new(Line {
            sender,
            full: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            closing: OnceLock::new(),
        });
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        Crawler {
            peer: peer(number, out.clone()),
            router: self.router.clone(),
            out,
            lines,
        }
    }

    /// A crawler that has said it is there.
    pub(crate) async fn crawler(&self) -> Crawler {
        let crawler = self.connect(None);
        done(crawler.say(say::heartbeat()).await);
        crawler
    }

    pub(crate) async fn submit(&self, id: &str) {
        self.submit_job(new_job(id)).await;
    }

    pub(crate) async fn submit_job(&self, new: NewJob) {
        let outcome = self.router.submit(new).await.unwrap();
        assert!(matches!(outcome, Outcome::Submitted(_)), "{outcome:?}");
    }

    pub(crate) async fn job(&self, id: &str) -> JobView {
        self.store.job(id).await.unwrap().expect("a job")
    }

    pub(crate) async fn history(&self, id: &str) -> Vec<EventView> {
        let job = self.job(id).await.key;
        let all = Paging {
            limit: 1_000,
            after: None,
        };
        self.store.events(job, all).await.unwrap().items
    }

    pub(crate) async fn arrows(&self, id: &str) -> Vec<String> {
        self.history(id)
            .await
            .into_iter()
            .flat_map(|event| event.arrows)
            .collect()
    }

    /// The next event that fits. Those before it are skipped.
    pub(crate) async fn event<T>(&mut self, what: &str, mut fits: impl FnMut(Event) -> Option<T>) -> T {
        soon(what, async {
            loop {
                let event = self.events.recv().await.expect("events go on");
                if let Some(found) = fits(event) {
                    return found;
                }
            }
        })
        .await
    }

    pub(crate) async fn arrow(&mut self, id: &str, arrow: Arrow) -> Fact {
        let what = format!("{arrow} of {id}");
        self.event(&what, |event| match event {
            Event::Job(fact) if fact.public_id == id && fact.arrow == arrow => Some(fact),
            _ => None,
        })
        .await
    }

    /// Waits until what was heard so far has renewed leases.
    pub(crate) async fn renewed(&self) {
        self.store.wrote("Sweep").await;
        self.store.wrote("Sweep").await;
    }

    /// What the error log holds, when it holds at least so many.
    pub(crate) async fn errors(&self, at_least: usize) -> Vec<ErrorView> {
        let all = Paging {
            limit: 1_000,
            after: None,
        };
        let written = async {
            loop {
                let errors = self.store.errors(ErrorFilter::default(), all).await.unwrap().items;
                if errors.len() >= at_least {
                    return errors;
                }
                self.store.wrote("RecordErrors").await;
            }
        };
        soon("the error log", written).await
    }

    /// The stored report about a job, when it fits.
    pub(crate) async fn stored_progress(&self, id: &str, fits: impl Fn(&Tracker) -> bool) -> Tracker {
        let job = self.job(id).await.key;
        let written = async {
            loop {
                if let Some(report) = self.store.progress(job).await.unwrap().filter(&fits) {
                    return report;
                }
                self.store.wrote("Progress").await;
            }
        };
        soon("the report to be written", written).await
    }
}

/// The other end of a connection.
pub(crate) struct Line {
    sender: mpsc::Sender<Bytes>,
    pub(crate) full: AtomicBool,
    pub(crate) closed: AtomicBool,
    /// Why the router ended the connection.
    pub(crate) closing: OnceLock<Closing>,
}

impl Outbound for Line {
    fn close(&self, why: Closing) {
        let _ = self.closing.set(why);
    }

    fn try_send(&self, line: Bytes) -> Result<(), SendError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(SendError::Closed);
        }
        if self.full.load(Ordering::Relaxed) {
            return Err(SendError::Full);
        }
        self.sender.try_send(line).map_err(|_| SendError::Full)
    }
}

pub(crate) struct Crawler {
    pub(crate) peer: Arc<Peer>,
    pub(crate) out: Arc<Line>,
    pub(crate) router: Router,
    lines: mpsc::Receiver<Bytes>,
}

impl Crawler {
    /// Says one line; what comes of it is left to be awaited.
    pub(crate) async fn begin(&self, line: String) -> BoxFuture<'static, Processed> {
        let pending = self.take(&line).await;
        let (router, peer) = (self.router.clone(), self.peer.clone());
        Box::pin(async move {
            let processed = router.conclude(&peer, pending.await).await;
            router.acknowledge(&peer).await;
            processed
        })
    }

    /// Says one line as a connection does it, which concludes it later.
    pub(crate) async fn take(&self, line: &str) -> Pending {
        let dialect = self.peer.decide(peek(line.as_bytes()).type_name.as_deref());
        let received = Received {
            message: decode::<CrawlerMessage>(line.as_bytes(), dialect).expect("a valid line"),
            fingerprint: Some(fingerprint(line.as_bytes())),
        };
        soon("the router to take a line", self.router.call(&self.peer, received)).await
    }

    /// Says one line and waits for what comes of it.
    pub(crate) async fn say(&self, line: String) -> Processed {
        let pending = self.begin(line).await;
        soon("the effect of a line", pending).await
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.peer.dialect().unwrap_or(Dialect::Base)
    }

    /// The next line that the server sends, read by the rules of the protocol.
    pub(crate) async fn hear(&mut self) -> Envelope<WebAppMessage> {
        let line = soon("a line of the server", self.lines.recv()).await.expect("a line");
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
        match decode::<WebAppMessage>(&line, self.dialect()) {
            Ok(Decoded::Known(envelope)) => envelope,
            other => panic!("not a message: {other:?}"),
        }
    }

    pub(crate) async fn assignment(&mut self) -> JobAssignment {
        let envelope = self.hear().await;
        match envelope.message {
            WebAppMessage::JobAssignment(assignment) => {
                assert_eq!(envelope.job_id.unwrap().as_str(), assignment.job_id);
                assignment
            }
            other => panic!("not an assignment: {other:?}"),
        }
    }

    /// An assignment that is there already; other lines are skipped.
    pub(crate) fn try_hear(&mut self) -> Option<JobAssignment> {
        while let Ok(line) = self.lines.try_recv() {
            if let Ok(Decoded::Known(Envelope {
                message: WebAppMessage::JobAssignment(assignment),
                ..
            })) = decode(&line, self.dialect())
            {
                return Some(assignment);
            }
        }
        None
    }

    pub(crate) async fn token(&mut self) -> (String, TokenRefreshResponse) {
        let envelope = self.hear().await;
        match envelope.message {
            WebAppMessage::TokenRefreshResponse(response) => (envelope.job_id.unwrap().to_string(), response),
            other => panic!("not a token: {other:?}"),
        }
    }

    /// The next line as it is.
    pub(crate) async fn raw(&mut self) -> String {
        let line = soon("a line of the server", self.lines.recv()).await.expect("a line");
        String::from_utf8(line.to_vec()).unwrap()
    }

    /// The next line, if one is there already.
    pub(crate) fn try_line(&mut self) -> Option<Envelope<WebAppMessage>> {
        let line = self.lines.try_recv().ok()?;
        match decode::<WebAppMessage>(&line, self.dialect()) {
            Ok(Decoded::Known(envelope)) => Some(envelope),
            other => panic!("not a message: {other:?}"),
        }
    }

    /// Whether nothing was sent that is not read yet.
    pub(crate) fn heard_nothing(&mut self) -> bool {
        self.lines.try_recv().is_err()
    }

    pub(crate) fn name(&self) -> String {
        self.peer.name()
    }

    pub(crate) fn holds(&self) -> Vec<String> {
        self.peer
            .session()
            .map(|session| session.info().jobs)
            .unwrap_or_default()
    }

    /// Jobs that were taken from it and that it still works on.
    pub(crate) fn lingering(&self) -> Vec<String> {
        self.peer.lingering()
    }

    pub(crate) async fn leave(self) {
        soon("a disconnect", self.router.disconnected(&self.peer)).await;
    }
}

/// The message had its effect.
pub(crate) fn done(processed: Processed) {
    assert!(processed.success, "{processed:?}");
}

/// The message had none; says why.
pub(crate) fn failed(processed: Processed) -> String {
    assert!(!processed.success, "{processed:?}");
    processed.error.expect("a reason")
}

pub(crate) fn new_job(id: &str) -> NewJob {
    let spec = JobSpec {
        entity_id: Some(format!("entity-{id}")),
        namespace_path: Some("group".to_owned()),
        ..JobSpec::new(JobType::CrawlGroup, "gitlab.example")
    };
    NewJob::new(id, "acme", spec)
}

/// A job of another account.
pub(crate) fn of_account(account: &str, id: &str) -> NewJob {
    NewJob {
        account_id: account.to_owned(),
        ..new_job(id)
    }
}

pub(crate) fn with_token(id: &str, token: &str) -> NewJob {
    NewJob {
        access_token: Some(AccessToken::new(token)),
        ..new_job(id)
    }
}
