//! Jobs: list, look at, and ask why one does not move.

use axum::extract::{Path, State};
use axum::{Json, Router, routing};
use crawlwire_progress::JobKey;
use crawlwire_progress::store::{JobFilter, Paging};
use crawlwire_progress::view::JobView;
use serde_json::{Value, json};

use super::list::{JobListQuery, ListQuery, page};
use super::problem::Problem;
use super::{Api, acts, json, reason, submit};

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/jobs", routing::post(submit::create).get(list))
        .route("/jobs/{id}", routing::get(show).delete(acts::delete))
        .route("/jobs/{id}/events", routing::get(events))
        .route("/jobs/{id}/children", routing::get(children))
        .route("/jobs/{id}/explain", routing::get(explain))
}

async fn list(State(api): State<Api>, query: JobListQuery) -> Result<Json<Value>, Problem> {
    filtered(&api, query, None).await
}

async fn filtered(api: &Api, query: JobListQuery, parent: Option<JobKey>) -> Result<Json<Value>, Problem> {
    let JobListQuery {
        states,
        account_id,
        paging,
    } = query;
    let filter = JobFilter {
        states,
        account_id,
        parent,
    };
    Ok(page(api.store.jobs(filter, paging).await?, json::job))
}

async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json::job(&find(&api, &id).await?)))
}

async fn events(
    State(api): State<Api>,
    Path(id): Path<String>,
    ListQuery(paging): ListQuery,
) -> Result<Json<Value>, Problem> {
    let job = find(&api, &id).await?;
    Ok(page(api.store.events(job.key, paging).await?, json::event))
}

async fn children(State(api): State<Api>, Path(id): Path<String>, query: JobListQuery) -> Result<Json<Value>, Problem> {
    let job = find(&api, &id).await?;
    filtered(&api, query, Some(job.key)).await
}

async fn explain(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let job = find(&api, &id).await?;
    let reason = api.router.explain(&job).await?;
    Ok(Json(json!({
        "job_id": job.public_id,
        "status": job.state.web_status(),
        "state": job.state.as_str(),
        "reason": reason.as_ref().map(reason::reason),
    })))
}

pub(super) async fn find(api: &Api, id: &str) -> Result<JobView, Problem> {
    // Nothing is called so, and PostgreSQL refuses to look for it.
    if id.contains('\0') {
        return Err(Problem::not_found("job"));
    }
    api.store.job(id).await?.ok_or_else(|| Problem::not_found("job"))
}

/// Whole page of what a list query asks for, used by the live stream's first event.
pub(super) async fn newest(api: &Api, limit: usize) -> Result<Vec<JobView>, Problem> {
    let paging = Paging { limit, after: None };
    Ok(api.store.jobs(JobFilter::default(), paging).await?.items)
}
