//! The live stream: one hub per server turns events into JSON once, whatever the number of viewers.
//!
//! A viewer gets a `snapshot`, then `job` and `progress` events, and a `heartbeat` every ten seconds. One that falls
//! behind gets a new snapshot in place of what it missed.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as SseEvent, Sse};
use axum::{Router, routing};
use crawlwire_router::Event;
use futures_util::Stream;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::jobs::newest;
use super::problem::Problem;
use super::{Api, json};

/// Events a viewer may lag behind before it gets a new snapshot.
const FRAMES_KEPT: usize = 1024;

/// Changes are gathered this long, so that a job that changes often is read and told once.
const GATHER: Duration = Duration::from_millis(100);

/// Jobs told of in one round; more make every viewer start anew with a snapshot, which costs less.
const CHANGED_MAX: usize = 500;

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

/// Where viewers listen.
#[derive(Debug, Clone)]
pub(crate) struct Hub(broadcast::Sender<Frame>);

impl Hub {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(FRAMES_KEPT))
    }

    /// Turns events into frames until told to stop.
    pub(crate) async fn run(&self, api: &Api, stop: CancellationToken) {
        let mut events = api.router.subscribe();
        let mut ticks = interval(GATHER);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heartbeats = interval(HEARTBEAT);
        let mut changed = Changed::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                event = events.recv() => match event {
                    Ok(event) if self.0.receiver_count() > 0 => changed.add(event),
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => changed.all = true,
                    Err(RecvError::Closed) => return,
                },
                _ = ticks.tick() => self.tell(api, &mut changed).await,
                _ = heartbeats.tick() => self.send(Frame::new("heartbeat", &heartbeat(api))),
            }
        }
    }

    /// Nobody listening is fine.
    fn send(&self, frame: Frame) {
        let _ = self.0.send(frame);
    }

    async fn tell(&self, api: &Api, changed: &mut Changed) {
        let Changed { jobs, progress, all } = std::mem::take(changed);
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
        for (id, view) in progress {
            self.send(Frame::new("progress", &json::progress(&id, &view)));
        }
    }
}

/// What changed since the last round.
#[derive(Debug, Default)]
struct Changed {
    jobs: BTreeSet<String>,
    progress: BTreeMap<String, Arc<crawlwire_progress::view::ProgressView>>,
    all: bool,
}

impl Changed {
    fn add(&mut self, event: Event) {
        match event {
            Event::Job(fact) => {
                self.jobs.insert(fact.public_id);
            }
            Event::Progress {
                public_id, progress, ..
            } => {
                self.progress.insert(public_id, progress);
            }
            Event::SessionOpened { .. } | Event::SessionClosed { .. } => {}
        }
    }
}

fn heartbeat(api: &Api) -> Value {
    json!({
        "at": json::now(),
        "connections": api.pool.stats().total,
        "crawlers": api.router.sessions().len(),
    })
}

async fn progress_of(api: &Api, job: &crawlwire_progress::view::JobView) -> Value {
    if let Some(live) = api.router.progress(job.key) {
        return json::progress(&job.public_id, &live);
    }
    // A job that never started has no report.
    if job.attempt == 0 {
        return Value::Null;
    }
    match api.store.progress(job.key).await {
        Ok(Some(stored)) => json::progress(&job.public_id, &stored),
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
    let aggregate = api
        .router
        .aggregate_progress()
        .map(|all| json!({ "overall_completion": all.overall_completion, "active_jobs": all.active_jobs }));
    Some(Frame::new(
        "snapshot",
        &json!({ "jobs": values, "aggregate": aggregate, "at": json::now() }),
    ))
}

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/stream", routing::get(stream))
}

async fn stream(State(api): State<Api>) -> Result<Sse<impl Stream<Item = Result<SseEvent, Infallible>>>, Problem> {
    if api.hub.0.receiver_count() >= VIEWERS_MAX {
        let detail = format!("{VIEWERS_MAX} viewers watch already. Close a page, or try again later.");
        return Err(Problem::too_many("too_many_viewers", detail, VIEWERS_RETRY_SECONDS));
    }
    // Subscribed before the snapshot is taken, so that nothing falls between the two.
    let frames = api.hub.0.subscribe();
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
