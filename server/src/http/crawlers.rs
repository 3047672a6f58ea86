//! Crawlers and what went wrong.

use axum::extract::State;
use axum::{Json, Router, routing};
use serde_json::{Value, json};

use super::list::{ListQuery, page};
use super::problem::Problem;
use super::{Api, json};
use crate::connection::connection_id;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/crawlers", routing::get(list))
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
    let items: Vec<_> = items
        .into_iter()
        .map(|info| {
            let mut value = json::session(info);
            let connection = api.pool.get(connection_id(info.connection));
            value["lingering"] = api.router.peer(&info.name).map(|peer| peer.lingering()).into();
            value["state"] = connection.map(|connection| connection.state().as_str()).into();
            value
        })
        .collect();
    Json(json!({ "items": items, "next_cursor": next }))
}

async fn errors(State(api): State<Api>, ListQuery(paging): ListQuery) -> Result<Json<Value>, Problem> {
    Ok(page(api.store.errors(paging).await?, json::error))
}
