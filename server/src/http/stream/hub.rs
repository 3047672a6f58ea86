//! Where viewers and events meet: one hub per server turns events into frames once, whatever the number of viewers.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crawlwire_progress::State;
use crawlwire_progress::store::{JobFilter, Paging};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::changed::Changed;
use super::filter::{Filter, Scope};
use super::frame::{About, Draft, Frame, Kind};
use super::room::{Bounds, Reason, Room, VIEWERS_MAX, ViewerKey};
use super::teller::Teller;
use crate::http::{Api, json};

/// How often every viewer hears something, so that it knows that it is not cut off. Who watches is remembered by the way.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A viewer that takes nothing for so long loses its place: its connection is dead, and nobody has noticed.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// After the last viewer left, events are told for so long to nobody, so that it may come back and go on.
const LINGER: Duration = Duration::from_secs(60);

/// Running jobs of an account that count as watched while somebody looks at the account.
const WATCHED_OF_ACCOUNT: usize = 100;

/// Frames that are told under one lock, so that viewers need not wait long.
const TOLD_AT_ONCE: usize = 32;

/// A viewer asks for a snapshot.
pub(super) struct Request {
    pub(super) viewer: ViewerKey,
    pub(super) filter: Filter,
    pub(super) answer: oneshot::Sender<Arc<Frame>>,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Inner>);

struct Inner {
    /// Short sections only, never across an await.
    room: Mutex<Room>,
    changed: Mutex<Changed>,
    /// Tells that there is a viewer again.
    wanted: Notify,
    /// Whether the hub hears what happens.
    listens: watch::Sender<bool>,
    requests: mpsc::Sender<Request>,
    /// Taken by whoever runs the hub.
    asked: Mutex<Option<mpsc::Receiver<Request>>>,
    /// WebSockets outlive the requests that they began as.
    sockets: TaskTracker,
}

impl Hub {
    pub(crate) fn new() -> Self {
        // A viewer asks for one snapshot at a time.
        let (requests, asked) = mpsc::channel(VIEWERS_MAX);
        let run = uuid::Uuid::now_v7().simple().to_string();
        Self(Arc::new(Inner {
            // The last digits are random, the first ones are the time.
            room: Mutex::new(Room::new(run[20..].to_owned(), Bounds::default())),
            changed: Mutex::default(),
            wanted: Notify::new(),
            listens: watch::Sender::new(false),
            requests,
            asked: Mutex::new(Some(asked)),
            sockets: TaskTracker::new(),
        }))
    }

    pub(super) fn room(&self) -> MutexGuard<'_, Room> {
        self.0.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changed(&self) -> MutexGuard<'_, Changed> {
        self.0.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it hears what happens.
    pub(super) fn listens(&self) -> bool {
        *self.0.listens.borrow()
    }

    /// Has it listen. Gives whether it did not before.
    pub(super) async fn begin_to_listen(&self) -> bool {
        if self.listens() {
            return false;
        }
        self.0.wanted.notify_one();
        let mut listens = self.0.listens.subscribe();
        // The sender is here.
        let _ = listens.wait_for(|listens| *listens).await;
        true
    }

    /// A snapshot for a viewer; what happens after it waits for the viewer from then on. None when the database is away.
    pub(super) async fn snapshot(&self, viewer: ViewerKey, filter: &Filter) -> Option<Arc<Frame>> {
        let (answer, snapshot) = oneshot::channel();
        let request = Request {
            viewer,
            filter: filter.clone(),
            answer,
        };
        self.0.requests.send(request).await.ok()?;
        snapshot.await.ok()
    }

    /// Tells everybody whom it concerns.
    pub(super) fn tell(&self, drafts: Vec<Draft>) {
        if drafts.is_empty() {
            return;
        }
        let mut drafts = drafts.into_iter().peekable();
        while drafts.peek().is_some() {
            let mut room = self.room();
            drafts.by_ref().take(TOLD_AT_ONCE).for_each(|draft| room.tell(draft));
        }
        self.room().wake();
    }

    /// Counts a WebSocket until its task is through.
    pub(super) fn sockets(&self) -> &TaskTracker {
        &self.0.sockets
    }

    /// Waits until every WebSocket has said goodbye, once the server stops.
    pub(crate) async fn sockets_closed(&self) {
        self.0.sockets.close();
        self.0.sockets.wait().await;
    }

    /// Turns events into frames until told to stop. Only once.
    pub(crate) async fn run(&self, api: &Api, stop: CancellationToken) {
        let asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(asked) = asked else { return };
        let work = async { tokio::join!(self.listen(api), self.beat(api), Teller::new(api).run(asked)) };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = work => {}
        }
    }

    /// Gathers what happens, while somebody wants to know. Waits for nothing else, so that nothing is missed.
    async fn listen(&self, api: &Api) {
        loop {
            self.0.wanted.notified().await;
            let mut events = api.router.subscribe();
            self.0.listens.send_replace(true);
            let mut looks = interval(Duration::from_secs(1));
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut left = None;
            loop {
                tokio::select! {
                    event = events.recv() => match event {
                        Ok(event) => self.changed().add(event),
                        Err(RecvError::Lagged(_)) => self.changed().lost(),
                        Err(RecvError::Closed) => return,
                    },
                    _ = looks.tick() => if self.is_left(&mut left) {
                        break;
                    }
                }
            }
        }
    }

    /// Whether nobody has viewed for long. Then it is as if nothing had ever been told.
    fn is_left(&self, left: &mut Option<Instant>) -> bool {
        let mut room = self.room();
        if !room.is_empty() {
            *left = None;
            return false;
        }
        let since = *left.get_or_insert_with(Instant::now);
        let is_left = since.elapsed() >= LINGER;
        if is_left {
            room.forget(Reason::UnknownId);
            *self.changed() = Changed::default();
            // While the room is locked: whoever comes next finds that nobody listens.
            self.0.listens.send_replace(false);
        }
        is_left
    }

    async fn beat(&self, api: &Api) {
        let mut beats = interval(HEARTBEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            api.meter.sample(api.router.stats());
            let watched: HashSet<Scope> = {
                let mut room = self.room();
                if let Some(since) = Instant::now().checked_sub(STUCK_AFTER) {
                    room.free(since);
                }
                if room.is_empty() {
                    continue;
                }
                let id = room.id(room.version() + 1);
                room.tell(heartbeat(api, &id));
                room.wake();
                let watching = room.filters().filter(|filter| filter.watches());
                watching.map(|filter| filter.scope.clone()).collect()
            };
            for scope in &watched {
                watch(api, scope).await;
            }
        }
    }
}

fn heartbeat(api: &Api, id: &str) -> Draft {
    let data = json!({
        "at": json::now(),
        "version": id,
        "connections": api.pool.stats().total,
        "crawlers": api.router.sessions().len(),
    });
    Draft {
        kind: Kind::Heartbeat,
        about: About::All,
        of: Some(0),
        data: data.to_string(),
    }
}

/// Somebody looks: crawlers are asked for more reports about it for a while.
pub(super) async fn watch(api: &Api, scope: &Scope) {
    match scope {
        Scope::All => api.router.watch_all(),
        Scope::Tree { root_id, .. } => api.router.watch(root_id),
        Scope::Job { id, .. } => api.router.watch(id),
        Scope::Account(name) => {
            let filter = JobFilter {
                states: vec![State::Running],
                account_id: Some(name.clone()),
                ..JobFilter::default()
            };
            let paging = Paging {
                limit: WATCHED_OF_ACCOUNT,
                after: None,
            };
            // While the database is away nobody can say what the account has, and nothing is lost.
            if let Ok(running) = api.store.jobs(filter, paging).await {
                running.items.iter().for_each(|job| api.router.watch(&job.public_id));
            }
        }
    }
}
