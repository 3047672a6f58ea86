//! Crawlers and what went wrong.

use axum::extract::{Path, State};
use axum::{Json, Router, routing};
use crawlwire_router::SessionInfo;
use serde_json::{Value, json};

use super::jobs::with_progress;
use super::list::{ErrorListQuery, ListQuery, page};
use super::problem::Problem;
use super::{Api, json};
use crate::connection::connection_id;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/crawlers", routing::get(list))
        .route("/crawlers/{id}", routing::get(show))
        .route("/errors", routing::get(errors))
}

/// The crawlers of this server, oldest first. They are as many as there may be connections, so one page holds them.
async fn list(State(api): State<Api>, ListQuery(paging): ListQuery) -> Json<Value> {
    let after = paging.after.unwrap_or(i64::MIN);
    let sessions = api.router.sessions();
    let mut later = sessions
        .iter()
        .filter(|info| i64::try_from(info.connection).unwrap_or(i64::MAX) > after);
    let items: Vec<_> = later.by_ref().take(paging.limit).collect();
    let next = later.next().and(items.last()).map(|info| info.connection.to_string());
    let items: Vec<_> = items.into_iter().map(|info| shown(&api, info)).collect();
    Json(json!({ "items": items, "next_cursor": next }))
}

/// A crawler as it is shown.
fn shown(api: &Api, info: &SessionInfo) -> Value {
    let mut value = json::session(info);
    let connection = api.pool.get(connection_id(info.connection));
    value["lingering"] = info.lingering.clone().into();
    value["state"] = connection.map(|connection| connection.state().as_str()).into();
    value["draining"] = api.router.is_crawler_drained(&info.name).into();
    value
}

/// The crawlers of this server, oldest first.
pub(super) fn all(api: &Api, most: usize) -> Vec<Value> {
    let sessions = api.router.sessions();
    sessions.iter().take(most).map(|info| shown(api, info)).collect()
}

/// A crawler with its connection and the jobs that it holds, each with its progress.
async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let sessions = api.router.sessions();
    let info = sessions.iter().find(|info| *info.name == *id);
    let info = info.ok_or_else(|| Problem::not_found("crawler"))?;
    let mut value = shown(&api, info);
    let connection = api.pool.get(connection_id(info.connection));
    value["traffic"] = connection
        .map(|handle| json::connection(&handle.info(), Some(info)))
        .into();
    let held = api.store.held(vec![info.key]).await?;
    let jobs = api.store.views(held.iter().map(|job| job.key).collect()).await?;
    let jobs: Vec<_> = jobs.into_values().collect();
    value["held"] = with_progress(&api, &jobs).await?.into();
    Ok(Json(value))
}

async fn errors(State(api): State<Api>, query: ErrorListQuery) -> Result<Json<Value>, Problem> {
    let ErrorListQuery { mut filter, paging } = query;
    if let Some(id) = &filter.job {
        // A job that is gone may have left errors.
        let known = api.store.job(id).await?.map(|job| job.public_id);
        filter.job = known.or(filter.job);
    }
    Ok(page(api.store.errors(filter, paging).await?, json::error))
}
