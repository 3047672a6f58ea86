//! The router itself: its handler table, what runs in it, and what can be asked of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crawlwire_progress::store::{NewJob, Outcome, StoreError};
use crawlwire_progress::track::Tracker;
use crawlwire_progress::view::JobView;
use crawlwire_progress::{Fact, JobKey, Op, Store};
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::RouterConfig;
use crate::event::Event;
use crate::handler::Handler;
use crate::middleware::Middleware;
use crate::peer::Peer;
use crate::roles::Authorise;
use crate::session::SessionInfo;
use crate::shared::{Shared, Stats};
use crate::{dispatch, handlers, liveness, sessions, timers, track, watch, weights};

/// Names a handler that was registered, to take it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Registration(u64);

type Entry = (Registration, i32, Arc<dyn Handler>);

/// Messages to handlers, jobs to crawlers. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    pub(crate) shared: Arc<Shared>,
    /// Handlers by type, highest priority first. Read for every message, written rarely.
    handlers: Arc<RwLock<HashMap<String, Vec<Entry>>>>,
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
    /// A router with the built-in handlers, and the middleware that knows who may say what.
    pub fn new(store: Arc<dyn Store>, config: RouterConfig) -> Self {
        let router = Self {
            shared: Arc::new(Shared::new(store, config)),
            handlers: Arc::default(),
            registrations: Arc::default(),
        };
        for (kind, handler) in handlers::built_in() {
            router.register_handler(kind.as_str(), handler);
        }
        let config = &router.shared.config;
        router.add_middleware(Arc::new(Authorise {
            tokens_required: config.hello.tokens_required,
        }));
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
        self.shared.add_middleware(middleware);
    }

    /// The handlers of a type, in the order in which they are asked.
    pub(crate) fn handlers_of(&self, type_name: &str) -> Vec<Arc<dyn Handler>> {
        let table = self.handlers.read().unwrap_or_else(PoisonError::into_inner);
        let entries = table.get(type_name).into_iter().flatten();
        entries.map(|(.., handler)| handler.clone()).collect()
    }

    /// A peer's connection is gone: its lease shortens to the reattach grace.
    pub async fn disconnected(&self, peer: &Arc<Peer>) {
        sessions::close(&self.shared, peer).await;
    }

    /// Creates a job and tells the dispatcher. One without a weight gets that of its type.
    ///
    /// # Errors
    /// When the database is away. That the job was refused is an [`Outcome`].
    ///
    /// # Cancel safety
    /// Dropped, the job may be created or not; if it is, it is published all the same.
    pub async fn submit(&self, mut job: NewJob) -> Result<Outcome, StoreError> {
        self.shared.weights.weigh(&mut job);
        self.submitted(Op::Submit(Box::new(job))).await
    }

    /// Creates many jobs, each by itself, in one transaction; at most [`SELECTED_MAX`](crawlwire_progress::store::SELECTED_MAX).
    ///
    /// # Errors
    /// When the database is away; then none was created.
    ///
    /// # Cancel safety
    /// As [`submit`](Self::submit).
    pub async fn submit_all(&self, mut jobs: Vec<NewJob>) -> Result<Outcome, StoreError> {
        jobs.iter_mut().for_each(|job| self.shared.weights.weigh(job));
        self.submitted(Op::SubmitAll(jobs)).await
    }

    async fn submitted(&self, op: Op) -> Result<Outcome, StoreError> {
        let shared = self.shared.clone();
        let submitted = tokio::spawn(async move {
            let outcome = shared.commit(op).await?;
            let all = match &outcome {
                Outcome::SubmittedAll(all) => all.as_slice(),
                one => std::slice::from_ref(one),
            };
            for outcome in all {
                if let Outcome::Submitted(view) = outcome {
                    shared.publish_fact(creation(view));
                }
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
            biased;
            () = stop.cancelled() => return Ok(()),
            recovered = self.shared.insist(recover) => recovered,
        };
        // Set even if the store is broken: whoever waits shall hear of it too.
        let _ = self.shared.recovered.set(());
        recovered?;
        tokio::join!(
            dispatch::run(&self.shared, stop.clone()),
            liveness::watch(&self.shared, stop.clone()),
            timers::sweep(&self.shared, stop.clone()),
            watch::share(&self.shared, stop.clone()),
            timers::prune(&self.shared, stop.clone()),
            weights::learn(&self.shared, stop.clone()),
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

    /// How far a job is that a crawler of this server holds; none before it has reported.
    pub fn progress(&self, job: JobKey) -> Option<Arc<Tracker>> {
        self.shared.progress(job).filter(|tracker| track::is_reported(tracker))
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// How many errors this server has logged in the last hour, by category. Those without any are left out.
    pub fn errors_lately(&self) -> BTreeMap<&'static str, u64> {
        self.shared.tally.lately(Instant::now())
    }
}

/// The fact that a job was submitted.
fn creation(view: &JobView) -> Fact {
    Fact {
        job: view.key,
        public_id: view.public_id.clone(),
        arrow: crawlwire_progress::Arrow::Submit,
        from: None,
        state: view.state,
        fence: view.fence,
        attempt: view.attempt,
        session: None,
        at: view.created_at,
        passed: Vec::new(),
    }
}
