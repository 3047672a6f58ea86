//! How far jobs are: one, its course, and all together.

use axum::extract::{Path, Query, State};
use axum::{Json, Router, routing};
use crawlwire_progress::store::Paging;
use crawlwire_progress::view::JobView;
use crawlwire_protocol::explain::Violation;
use serde::Deserialize;
use serde_json::{Value, json};

use super::jobs::find;
use super::problem::Problem;
use super::tracked::{self, Timeline};
use super::{Api, json};

/// Events of a job that a timeline has, the oldest. No job has more that is not tried again day after day.
const EVENTS_MAX: usize = 1000;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/jobs/{id}/progress", routing::get(progress))
        .route("/jobs/{id}/timeline", routing::get(timeline))
        .route("/progress", routing::get(together))
}

/// How much is asked for.
#[derive(Deserialize)]
struct Detail {
    detail: Option<String>,
}

impl Detail {
    fn is_full(&self) -> Result<bool, Problem> {
        match self.detail.as_deref() {
            None | Some("") => Ok(false),
            Some("full") => Ok(true),
            Some(_) => Err(Problem::invalid(vec![Violation::new("/detail", "expected full")])),
        }
    }
}

async fn progress(
    State(api): State<Api>,
    Path(id): Path<String>,
    Query(detail): Query<Detail>,
) -> Result<Json<Value>, Problem> {
    let is_full = detail.is_full()?;
    let job = find(&api, &id).await?;
    api.router.watch(&job.public_id);
    let standing = api.router.standing(&job).await?;
    let mut value = if is_full {
        tracked::in_full(&job, &standing, tree(&api, &job).await?)
    } else {
        tracked::progress(&job.public_id, &standing)
    };
    value["status"] = job.state.web_status().into();
    Ok(Json(value))
}

/// The tree that the job is in.
async fn tree(api: &Api, job: &JobView) -> Result<Option<Value>, Problem> {
    let found = match job.depth {
        0 => Some(job.clone()),
        _ => api.store.job(&job.root_id).await?,
    };
    let Some(root) = found else { return Ok(None) };
    let view = api.store.tree_progress(root.key).await?;
    Ok(Some(tracked::tree(&root, view)))
}

async fn timeline(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let job = find(&api, &id).await?;
    api.router.watch(&job.public_id);
    let standing = api.router.standing(&job).await?;
    let paging = Paging {
        limit: EVENTS_MAX,
        after: None,
    };
    let events = api.store.events(job.key, paging).await?;
    let mut timeline = Timeline::default();
    for event in &events.items {
        timeline.add("event", event.at, json::event(event));
    }
    for (attempt, history) in api.store.histories(job.key).await? {
        // What is in memory goes further.
        if attempt != standing.tracker.attempt {
            timeline.add_history(attempt, &history);
        }
    }
    timeline.add_history(standing.tracker.attempt, &standing.tracker.history);
    timeline.add_marks(&standing);
    Ok(Json(json!({
        "job_id": job.public_id,
        "status": job.state.web_status(),
        "items": timeline.items(),
        "more_events": events.next.is_some(),
    })))
}

async fn together(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    Ok(Json(all(&api).await?))
}

/// What all jobs are together, of all servers.
pub(super) async fn all(api: &Api) -> Result<Value, Problem> {
    let running = api.store.running().await?;
    let totals = api.store.totals().await?;
    Ok(tracked::together(running, &totals))
}
