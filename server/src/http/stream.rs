//! The live stream: one hub per server turns events into JSON once, whatever the number of viewers.
//!
//! A viewer gets a `snapshot`, then `job` and `progress` events, what happens at a moment, the `aggregate`, and a
//! `heartbeat` every ten seconds. One that falls behind gets a new snapshot in place of what it missed.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as SseEvent, Sse};
use axum::{Router, routing};
use crawlwire_progress::JobKey;
use crawlwire_router::Event;
use futures_util::Stream;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::jobs::newest;
use super::problem::Problem;
use super::{Api, json, progress, tracked};

/// Events a viewer may lag behind before it gets a new snapshot.
const FRAMES_KEPT: usize = 1024;

/// Changes are gathered this long, so that a job that changes often is read and told once.
const GATHER: Duration = Duration::from_millis(100);

/// Jobs told of in one round; more make every viewer start anew with a snapshot, which costs less.
const CHANGED_MAX: usize = 500;

/// Moments told of in one round, for the same reason.
const MOMENTS_MAX: usize = 500;

/// Viewers at a time. Each may cost a snapshot of the newest jobs whenever it falls behind.
const VIEWERS_MAX: usize = 256;
const VIEWERS_RETRY_SECONDS: u64 = 10;

const HEARTBEAT: Duration = Duration::from_secs(10);

/// Jobs in a snapshot.
const SNAPSHOT_JOBS: usize = 500;

/// One event, ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    event: &'static str,
    data: Arc<str>,
}

impl Frame {
    fn new(event: &'static str, data: &Value) -> Self {
        Self {
            event,
            data: data.to_string().into(),
        }
    }

    fn sse(&self) -> SseEvent {
        SseEvent::default().event(self.event).data(&*self.data)
    }
}

/// Where viewers listen. It listens itself as long as there are some, so that nobody tells what nobody hears.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    frames: broadcast::Sender<Frame>,
    /// Tells that there may be a first viewer.
    wanted: Arc<Notify>,
    /// Whether it listens.
    listens: watch::Sender<bool>,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self {
            frames: broadcast::Sender::new(FRAMES_KEPT),
            wanted: Arc::default(),
            listens: watch::Sender::new(false),
        }
    }

    fn has_viewers(&self) -> bool {
        self.frames.receiver_count() > 0
    }

    /// A viewer's place. What happens after it was given comes to it.
    async fn join(&self, stop: &CancellationToken) -> broadcast::Receiver<Frame> {
        let frames = self.frames.subscribe();
        self.wanted.notify_one();
        let mut listens = self.listens.subscribe();
        tokio::select! {
            () = stop.cancelled() => {}
            _ = listens.wait_for(|listens| *listens) => {}
        }
        frames
    }

    /// Turns events into frames until told to stop.
    pub(crate) async fn run(&self, api: &Api, stop: CancellationToken) {
        let mut events = None;
        let mut ticks = interval(GATHER);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heartbeats = interval(HEARTBEAT);
        let mut changed = Changed::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wanted.notified(), if events.is_none() => {
                    events = Some(api.router.subscribe());
                    self.listens.send_replace(true);
                }
                event = next(&mut events) => match event {
                    Ok(event) => changed.add(event),
                    Err(RecvError::Lagged(_)) => changed.all = true,
                    Err(RecvError::Closed) => return,
                },
                _ = ticks.tick() => {
                    if self.has_viewers() {
                        api.router.watch_all();
                        self.tell(api, &mut changed).await;
                    } else {
                        changed = Changed::default();
                        events = None;
                        self.listens.send_replace(false);
                    }
                }
                _ = heartbeats.tick() => self.send(Frame::new("heartbeat", &heartbeat(api))),
            }
        }
    }

    /// Nobody listening is fine.
    fn send(&self, frame: Frame) {
        let _ = self.frames.send(frame);
    }

    async fn tell(&self, api: &Api, changed: &mut Changed) {
        let Changed {
            jobs,
            progress: reported,
            moments,
            aggregate,
            all,
        } = std::mem::take(changed);
        if all || jobs.len() > CHANGED_MAX {
            match snapshot(api).await {
                Some(frame) => self.send(frame),
                None => changed.all = true,
            }
            return;
        }
        for id in jobs {
            match api.store.job(&id).await {
                Ok(Some(job)) => {
                    let mut value = json::job(&job);
                    value["progress"] = progress_of(api, &job).await;
                    self.send(Frame::new("job", &value));
                }
                Ok(None) => {}
                Err(_) => changed.all = true,
            }
        }
        for (id, key) in reported {
            if let Some(standing) = api.router.standing_here(key) {
                self.send(Frame::new("progress", &tracked::progress(&id, &standing)));
            }
        }
        for (event, data) in moments {
            self.send(Frame::new(event, &data));
        }
        if aggregate {
            match progress::all(api).await {
                Ok(all) => self.send(Frame::new("aggregate", &all)),
                Err(_) => changed.aggregate = true,
            }
        }
    }
}

/// The next event; never, when nobody is to hear of it.
async fn next(events: &mut Option<broadcast::Receiver<Event>>) -> Result<Event, RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// What changed since the last round.
#[derive(Debug, Default)]
struct Changed {
    jobs: BTreeSet<String>,
    progress: BTreeMap<String, JobKey>,
    /// What happened at a moment, ready to be told.
    moments: Vec<(&'static str, Value)>,
    aggregate: bool,
    all: bool,
}

impl Changed {
    fn add(&mut self, event: Event) {
        match event {
            Event::Job(fact) => {
                self.jobs.insert(fact.public_id);
            }
            Event::Progress { public_id, job } => {
                self.progress.insert(public_id, job);
            }
            Event::AggregateChanged => self.aggregate = true,
            Event::SessionOpened { .. } | Event::SessionClosed { .. } => {}
            // A snapshot tells enough of what is too much to be told.
            _ if self.moments.len() >= MOMENTS_MAX => self.all = true,
            event => self.moments.extend(moment(event)),
        }
    }
}

/// What happened to the work of a job at a moment.
fn moment(event: Event) -> Option<(&'static str, Value)> {
    Some(match event {
        Event::PhaseChanged {
            public_id, from, to, ..
        } => {
            let data = json!({ "job_id": public_id, "from": from.as_str(), "to": to.as_str() });
            ("state", data)
        }
        Event::EntityDiscovered { public_id, entity, .. } => (
            "entity_discovered",
            json!({ "job_id": public_id, "entity": tracked::name(&entity) }),
        ),
        Event::EntityCompleted { public_id, entity, .. } => (
            "entity_completed",
            json!({ "job_id": public_id, "entity": tracked::name(&entity) }),
        ),
        Event::Milestone {
            public_id, milestone, ..
        } => {
            let mut data = tracked::milestone(&milestone);
            data["job_id"] = public_id.into();
            ("milestone", data)
        }
        Event::TreeMilestone(passed) => {
            let data = json!({ "root_id": passed.root_id, "percent": passed.percent, "at": json::time(passed.at) });
            ("tree_milestone", data)
        }
        Event::Stalled { public_id, .. } => ("stalled", json!({ "job_id": public_id })),
        Event::EstimateUpdated { public_id, eta, at, .. } => {
            ("estimate", json!({ "job_id": public_id, "eta": tracked::eta(eta, at) }))
        }
        _ => return None,
    })
}

fn heartbeat(api: &Api) -> Value {
    json!({
        "at": json::now(),
        "connections": api.pool.stats().total,
        "crawlers": api.router.sessions().len(),
    })
}

async fn progress_of(api: &Api, job: &crawlwire_progress::view::JobView) -> Value {
    match api.router.standing(job).await {
        Ok(standing) if standing.is_reported() => tracked::progress(&job.public_id, &standing),
        _ => Value::Null,
    }
}

async fn snapshot(api: &Api) -> Option<Frame> {
    let jobs = newest(api, SNAPSHOT_JOBS).await.ok()?;
    let mut values = Vec::with_capacity(jobs.len());
    for job in &jobs {
        let mut value = json::job(job);
        value["progress"] = progress_of(api, job).await;
        values.push(value);
    }
    let aggregate = progress::all(api).await.ok()?;
    Some(Frame::new(
        "snapshot",
        &json!({ "jobs": values, "aggregate": aggregate, "at": json::now() }),
    ))
}

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/stream", routing::get(stream))
}

async fn stream(State(api): State<Api>) -> Result<Sse<impl Stream<Item = Result<SseEvent, Infallible>>>, Problem> {
    if api.hub.frames.receiver_count() >= VIEWERS_MAX {
        let detail = format!("{VIEWERS_MAX} viewers watch already. Close a page, or try again later.");
        return Err(Problem::too_many("too_many_viewers", detail, VIEWERS_RETRY_SECONDS));
    }
    // Subscribed before the snapshot is taken, so that nothing falls between the two.
    let frames = api.hub.join(&api.stop).await;
    let viewer = Viewer {
        frames,
        fresh: true,
        api,
    };
    Ok(Sse::new(futures_util::stream::unfold(
        viewer,
        |mut viewer| async move {
            let frame = viewer.next().await?;
            Some((Ok(frame.sse()), viewer))
        },
    )))
}

struct Viewer {
    frames: broadcast::Receiver<Frame>,
    /// Whether a snapshot is due.
    fresh: bool,
    api: Api,
}

impl Viewer {
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if self.fresh {
                // When the database is away the page says so by itself: it tries to connect again.
                let frame = snapshot(&self.api).await?;
                self.fresh = false;
                return Some(frame);
            }
            tokio::select! {
                () = self.api.stop.cancelled() => return None,
                received = self.frames.recv() => match received {
                    Ok(frame) => return Some(frame),
                    Err(RecvError::Lagged(_)) => self.fresh = true,
                    Err(RecvError::Closed) => return None,
                }
            }
        }
    }
}
