//! The handler table, the middleware chain, and the panic guard around both.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use crawlwire_progress::live::AggregateProgress;
use crawlwire_progress::store::{BoxFuture, NewJob, Outcome, StoreError};
use crawlwire_progress::view::ProgressView;
use crawlwire_progress::{Fact, JobKey, Op, Store};
use crawlwire_protocol::{Category, Decoded, Envelope, JobId, Message, Severity, WebAppMessage, encode};
use futures_util::FutureExt;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, RouterConfig, Shared, Stats};
use crate::event::Event;
use crate::handler::{Handled, Handler, Inbound, Processed, job_id};
use crate::middleware::{Middleware, Verdict};
use crate::peer::{Peer, SendError};
use crate::session::SessionInfo;
use crate::{dispatch, handlers, sessions, timers};

/// What is left of a message after [`Router::call`]: resolves when its effect is durable. Must be polled to the end,
/// since middleware hears of the result there; the peer's answer, if any, is sent by then.
pub type Pending = BoxFuture<'static, Processed>;

/// Names a handler that was registered, to take it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Registration(u64);

type Entry = (Registration, i32, Arc<dyn Handler>);
type Chain = Arc<[Arc<dyn Middleware>]>;

/// Messages to handlers, jobs to crawlers. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    pub(crate) shared: Arc<Shared>,
    /// Handlers by type, highest priority first. Read for every message, written rarely.
    handlers: Arc<RwLock<HashMap<String, Vec<Entry>>>>,
    middleware: Arc<RwLock<Chain>>,
    registrations: Arc<AtomicU64>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter
            .debug_struct("Router")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

impl Router {
    /// A router with the built-in handlers and no middleware.
    pub fn new(store: Arc<dyn Store>, config: RouterConfig) -> Self {
        let router = Self {
            shared: Arc::new(Shared::new(store, config)),
            handlers: Arc::default(),
            middleware: Arc::new(RwLock::new(Arc::from([]))),
            registrations: Arc::default(),
        };
        for (kind, handler) in handlers::built_in() {
            router.register_handler(kind.as_str(), handler);
        }
        router
    }

    /// Adds a handler for a type, of the protocol or of your own. Among equals, who came first is asked first.
    pub fn register_handler(&self, type_name: &str, handler: Arc<dyn Handler>) -> Registration {
        let registration = Registration(self.registrations.fetch_add(1, Ordering::Relaxed));
        let mut table = self.handlers.write().unwrap_or_else(PoisonError::into_inner);
        let entries = table.entry(type_name.to_owned()).or_default();
        entries.push((registration, handler.priority(), handler));
        entries.sort_by_key(|(_, priority, _)| std::cmp::Reverse(*priority));
        registration
    }

    /// Takes a handler back. Says whether it was there.
    pub fn unregister_handler(&self, registration: Registration) -> bool {
        let mut table = self.handlers.write().unwrap_or_else(PoisonError::into_inner);
        let mut found = false;
        table.retain(|_, entries| {
            let before = entries.len();
            entries.retain(|(known, ..)| *known != registration);
            found |= entries.len() < before;
            !entries.is_empty()
        });
        found
    }

    /// Adds middleware to the chain.
    pub fn add_middleware(&self, middleware: Arc<dyn Middleware>) {
        let mut chain = self.middleware.write().unwrap_or_else(PoisonError::into_inner);
        let mut longer: Vec<_> = chain.iter().cloned().chain([middleware]).collect();
        longer.sort_by_key(|middleware| std::cmp::Reverse(middleware.priority()));
        *chain = longer.into();
    }

    /// Takes one message of a peer. When this returns, its place in the order of the peer's messages is taken; the rest
    /// follows in [`Pending`].
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped half-way, the message may or may not have its effect.
    pub async fn call(&self, peer: &Arc<Peer>, message: Inbound) -> Pending {
        let type_name = message.type_name().to_owned();
        let job = job_id(&message).cloned();
        let handled = match AssertUnwindSafe(self.process(peer, message)).catch_unwind().await {
            Ok(handled) => handled,
            Err(_) => Handled::Done(self.panicked(peer, &type_name, job.as_ref())),
        };
        let router = self.clone();
        let peer = peer.clone();
        Box::pin(async move {
            let processed = match handled {
                Handled::Done(processed) => processed,
                Handled::Pending(pending) => AssertUnwindSafe(pending)
                    .catch_unwind()
                    .await
                    .unwrap_or_else(|_| router.panicked(&peer, &type_name, job.as_ref())),
            };
            router.conclude(&peer, &type_name, processed).await
        })
    }

    fn panicked(&self, peer: &Peer, type_name: &str, job: Option<&JobId>) -> Processed {
        tracing::error!(peer = peer.name(), type_name, "a handler panicked");
        let kind = (Category::Internal, Severity::High);
        let message = "a handler or middleware panicked";
        self.shared
            .log_error(peer, kind, "handler_panicked", job.map(JobId::as_str), message);
        Processed::failed("internal error")
    }

    async fn process(&self, peer: &Arc<Peer>, message: Inbound) -> Handled {
        let type_name = message.type_name().to_owned();
        let message = match self.before_process(peer, message).await {
            Verdict::Pass(message) => message,
            Verdict::Drop => return Handled::Done(Processed::done()),
            Verdict::Refuse(reason) => {
                refused(&self.shared, peer, &reason);
                return Handled::Done(Processed::failed(reason));
            }
        };
        // Only a message of the protocol makes a peer a crawler that may be given work.
        if matches!(message, Decoded::Known(_))
            && let Err(error) = sessions::open(&self.shared, peer).await
        {
            return Handled::Done(Processed::failed(error.to_string()));
        }
        let context = Context {
            shared: self.shared.clone(),
            peer: peer.clone(),
            session: peer.session(),
        };
        if let Some(session) = &context.session {
            session.heard();
        }
        self.first_success(&context, &message, &type_name).await
    }

    async fn before_process(&self, peer: &Peer, mut message: Inbound) -> Verdict<Inbound> {
        for middleware in self.chain().iter() {
            match middleware.before_process(peer, message).await {
                Verdict::Pass(passed) => message = passed,
                other => return other,
            }
        }
        Verdict::Pass(message)
    }

    async fn first_success(&self, context: &Context, message: &Inbound, type_name: &str) -> Handled {
        let entries = self
            .handlers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(message.type_name())
            .cloned();
        let mut last = None;
        for (_, _, handler) in entries.unwrap_or_default() {
            if !handler.can_handle(message) {
                continue;
            }
            match handler.handle(context, message).await {
                Handled::Done(processed) if !processed.success => last = Some(processed),
                handled => return handled,
            }
        }
        Handled::Done(last.unwrap_or_else(|| {
            if context.peer.may_log_unknown_type() {
                tracing::info!(peer = context.peer.name(), type_name, "nobody handles this type");
                context.log_error(
                    Category::MessageValidation,
                    Severity::Low,
                    "unknown_type",
                    None,
                    "a type that nobody handles".to_owned(),
                );
            }
            Processed::failed("nobody handles this type")
        }))
    }

    async fn conclude(&self, peer: &Arc<Peer>, type_name: &str, mut processed: Processed) -> Processed {
        let counters = &self.shared.counters;
        let counter = if processed.success {
            &counters.processed
        } else {
            &counters.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(reply) = processed.reply.take()
            && let Err(error) = self.send(peer, reply).await
        {
            tracing::debug!(peer = peer.name(), %error, "answer not sent");
        }
        for middleware in self.chain().iter().rev() {
            guarded(&**middleware, async {
                middleware.after_process(peer, type_name, &processed).await
            })
            .await;
        }
        processed
    }

    /// Sends one message to a peer, through the middleware.
    ///
    /// # Errors
    /// When the connection's queue is full or the connection is gone, or middleware withheld the message.
    pub async fn send(&self, peer: &Arc<Peer>, message: Envelope<WebAppMessage>) -> Result<(), SendError> {
        send(&self.shared, &self.chain(), peer, message).await
    }

    fn chain(&self) -> Chain {
        self.middleware.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A peer's connection is gone: its lease shortens to the reattach grace.
    pub async fn disconnected(&self, peer: &Arc<Peer>) {
        sessions::close(&self.shared, peer).await;
    }

    /// A line that was no message: counted and put into the error log by place and rule.
    pub fn note_invalid_line(&self, peer: &Peer, category: Category, code: &str, message: String) {
        self.shared.counters.invalid.fetch_add(1, Ordering::Relaxed);
        self.shared
            .log_error(peer, (category, Severity::Low), code, None, &message);
    }

    /// Creates a job and tells the dispatcher.
    ///
    /// # Errors
    /// When the database is away. That the job was refused is an [`Outcome`].
    ///
    /// # Cancel safety
    /// Dropped, the job may be created or not; if it is, it is published all the same.
    pub async fn submit(&self, job: NewJob) -> Result<Outcome, StoreError> {
        let shared = self.shared.clone();
        let submitted = tokio::spawn(async move {
            let outcome = shared.commit(Op::Submit(Box::new(job))).await?;
            if let Outcome::Submitted(view) = &outcome {
                shared.publish_fact(Fact {
                    job: view.key,
                    public_id: view.public_id.clone(),
                    arrow: crawlwire_progress::Arrow::Submit,
                    from: None,
                    state: view.state,
                    fence: view.fence,
                    attempt: view.attempt,
                    session: None,
                    at: view.created_at,
                });
            }
            Ok(outcome)
        });
        // A task that is not aborted and does not panic always has a result.
        submitted.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Runs dispatcher and timers until told to stop; then writes what is still in memory.
    ///
    /// # Errors
    /// When leases cannot be given back their time at the start, because the database refuses.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), StoreError> {
        let recover = Op::Recover {
            server: self.shared.config.server.clone(),
            connected: false,
        };
        let recovered = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            recovered = self.shared.insist(recover) => recovered,
        };
        // Set even if the store is broken: whoever waits shall hear of it too.
        let _ = self.shared.recovered.set(());
        recovered?;
        let router = self.clone();
        let sending = move || router.chain();
        tokio::join!(
            dispatch::run(&self.shared, &sending, stop.clone()),
            timers::sweep(&self.shared, stop.clone()),
            timers::prune(&self.shared, stop.clone()),
            timers::flush(&self.shared, stop),
        );
        Ok(())
    }

    /// Gives out no more jobs from here on.
    pub fn stop_dispatching(&self) {
        self.shared.dispatching.store(false, Ordering::Relaxed);
    }

    /// Everything that is published from here on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// The sessions of this server, oldest first.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.shared
            .sessions
            .all()
            .iter()
            .map(|session| session.info())
            .collect()
    }

    /// The peer behind a session's name.
    pub fn peer(&self, session: &str) -> Option<Arc<Peer>> {
        self.shared
            .sessions
            .all()
            .into_iter()
            .find(|known| &*known.name == session)
            .map(|known| known.peer.clone())
    }

    /// Every peer that is a session.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.shared
            .sessions
            .all()
            .into_iter()
            .map(|session| session.peer.clone())
            .collect()
    }

    /// The newest report about a job that this server heard, if a crawler of it holds the job.
    pub fn progress(&self, job: JobKey) -> Option<ProgressView> {
        self.shared.progress(job)
    }

    /// All active jobs of this server together; none when there are none.
    pub fn aggregate_progress(&self) -> Option<AggregateProgress> {
        self.shared.aggregate()
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }
}

/// Sends one message through a chain of middleware.
pub(crate) async fn send(
    shared: &Shared,
    chain: &[Arc<dyn Middleware>],
    peer: &Arc<Peer>,
    mut message: Envelope<WebAppMessage>,
) -> Result<(), SendError> {
    let type_name = message.message.kind().as_str();
    for middleware in chain {
        match guarded(&**middleware, async { middleware.before_send(peer, message).await }).await {
            Some(Verdict::Pass(passed)) => message = passed,
            Some(Verdict::Drop) | None => return Err(SendError::Withheld),
            Some(Verdict::Refuse(reason)) => {
                refused(shared, peer, &reason);
                return Err(SendError::Withheld);
            }
        }
    }
    let sent = match encode(&message) {
        Ok(line) => peer.outbound().try_send(Bytes::from(line)),
        Err(error) => {
            tracing::error!(%error, type_name, "message cannot be written");
            Err(SendError::Closed)
        }
    };
    for middleware in chain.iter().rev() {
        guarded(&**middleware, async {
            middleware.after_send(peer, type_name, sent.is_ok()).await
        })
        .await;
    }
    sent
}

fn refused(shared: &Shared, peer: &Peer, reason: &str) {
    let kind = (Category::Authentication, Severity::Low);
    shared.log_error(peer, kind, "refused_by_middleware", None, reason);
}

/// Calls a hook; None when it panicked, in the call itself or in its future.
async fn guarded<T>(middleware: &dyn Middleware, hook: impl Future<Output = T>) -> Option<T> {
    let outcome = AssertUnwindSafe(hook).catch_unwind().await;
    outcome
        .inspect_err(|_| tracing::error!(middleware = middleware.name(), "middleware panicked"))
        .ok()
}
