//! Jobs: list, look at with what is kept about them, and ask why one does not move.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use crawlwire_progress::store::ErrorFilter;
use crawlwire_progress::view::{JobView, Page};
use crawlwire_progress::{JobKey, StoreError};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::list::{JobListQuery, ListQuery, Shown, page};
use super::problem::Problem;
use super::{Api, acts, json, reason, submit, tracked};

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/jobs", routing::post(submit::create).get(list))
        .route("/jobs/batch", routing::post(submit::create_all))
        .route("/jobs/{id}", routing::get(show).delete(acts::delete))
        .route("/jobs/{id}/events", routing::get(events))
        .route("/jobs/{id}/children", routing::get(children))
        .route("/jobs/{id}/tree", routing::get(tree))
        .route("/jobs/{id}/errors", routing::get(errors))
        .route("/jobs/{id}/checkpoint", routing::get(checkpoint))
        .route("/jobs/{id}/explain", routing::get(explain))
}

async fn list(State(api): State<Api>, query: JobListQuery) -> Result<Json<Value>, Problem> {
    filtered(&api, query, None).await
}

async fn filtered(api: &Api, query: JobListQuery, parent: Option<JobKey>) -> Result<Json<Value>, Problem> {
    let JobListQuery {
        mut filter,
        root_id,
        shown,
    } = query;
    filter.parent = parent;
    if let Some(id) = root_id {
        match api.store.job(&id).await? {
            Some(root) => filter.root = Some(root.key),
            None => {
                let nothing = Page {
                    items: Vec::new(),
                    next: None,
                };
                return show_all(api, nothing, shown).await;
            }
        }
    }
    show_all(api, api.store.jobs(filter, shown.paging).await?, shown).await
}

/// A page of jobs, with the progress of each if it is asked for.
async fn show_all(api: &Api, jobs: Page<JobView>, shown: Shown) -> Result<Json<Value>, Problem> {
    if !shown.with_progress {
        return Ok(page(jobs, json::job));
    }
    let next = jobs.next;
    let items = with_progress(api, &jobs.items).await?;
    Ok(page(Page { items, next }, Value::clone))
}

/// Jobs as they are shown, each with its `progress`, or null where nothing was reported. The database is asked once.
pub(super) async fn with_progress(api: &Api, jobs: &[JobView]) -> Result<Vec<Value>, StoreError> {
    let standings = api.router.standings(jobs).await?;
    let shown = jobs.iter().zip(&standings).map(|(job, standing)| {
        let mut value = json::job(job);
        let progress = standing
            .is_reported()
            .then(|| tracked::progress(&job.public_id, standing));
        value["progress"] = progress.into();
        value
    });
    Ok(shown.collect())
}

async fn tree(State(api): State<Api>, Path(id): Path<String>, shown: Shown) -> Result<Json<Value>, Problem> {
    let job = find(&api, &id).await?;
    show_all(&api, api.store.tree(job.key, shown.paging).await?, shown).await
}

async fn errors(
    State(api): State<Api>,
    Path(id): Path<String>,
    ListQuery(paging): ListQuery,
) -> Result<Json<Value>, Problem> {
    let filter = ErrorFilter {
        job: Some(find(&api, &id).await?.public_id),
        ..ErrorFilter::default()
    };
    Ok(page(api.store.errors(filter, paging).await?, json::error))
}

/// How far the job got, in the words of its crawler.
async fn checkpoint(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Problem> {
    let job = find(&api, &id).await?;
    let Some(checkpoint) = api.store.checkpoint(job.key).await? else {
        let detail = "Its crawlers have kept no checkpoint of the job.";
        return Err(Problem::new(StatusCode::NOT_FOUND, "no_checkpoint", detail));
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], checkpoint).into_response())
}

/// Whoever has it as it is, is told just that.
async fn show(State(api): State<Api>, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let job = json::job(&find(&api, &id).await?).to_string();
    let hash = Sha256::digest(&job);
    let tag: String = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    // Digits and letters in quotes are always a value.
    let tag = HeaderValue::try_from(format!("\"{tag}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""));
    if super::page::is_known(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let headers = [
        (header::ETAG, tag),
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
    ];
    Ok((headers, job).into_response())
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
