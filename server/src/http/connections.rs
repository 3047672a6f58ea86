//! Connections of crawlers: those that are open, and what became of the others.

use std::collections::{BTreeMap, HashMap};

use axum::extract::State;
use axum::{Json, Router, routing};
use crawlwire_transport::CloseReason;
use serde_json::{Map, Value, json};

use super::list::ListQuery;
use super::{Api, json};

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/connections", routing::get(open))
        .route("/connections/closed", routing::get(closed))
}

/// The open ones, oldest first. They are as many as may be connected, so one page nearly always holds them.
async fn open(State(api): State<Api>, ListQuery(paging): ListQuery) -> Json<Value> {
    let after = paging.after.unwrap_or(i64::MIN);
    let sessions = api.router.sessions();
    let sessions: HashMap<_, _> = sessions.iter().map(|info| (info.connection, info)).collect();
    let infos = api.pool.infos();
    let mut later = infos
        .iter()
        .filter(|info| i64::try_from(info.id.0).unwrap_or(i64::MAX) > after);
    let items: Vec<_> = later.by_ref().take(paging.limit).collect();
    let next = later.next().and(items.last()).map(|info| info.id.0.to_string());
    let items: Vec<_> = items
        .into_iter()
        .map(|info| json::connection(info, sessions.get(&info.id.0).copied()))
        .collect();
    Json(json!({ "items": items, "next_cursor": next }))
}

/// The last ones that closed, and the last that were turned away, newest first; with counts since the start.
async fn closed(State(api): State<Api>) -> Json<Value> {
    let stats = api.pool.stats();
    let items: Vec<_> = stats.recent_closes.iter().rev().map(json::closed).collect();
    let refused: Vec<_> = stats.recent_refusals.iter().rev().map(json::refused).collect();
    let mut turned_away = stats.refused_by_reason;
    if stats.refused > 0 {
        turned_away.insert(CloseReason::ConnectionLimit, stats.refused);
    }
    Json(json!({
        "items": items,
        "next_cursor": null,
        "by_reason": by_reason(&stats.closed),
        "refused": refused,
        "refused_by_reason": by_reason(&turned_away),
    }))
}

/// Every reason that has occurred, with its count.
pub(super) fn by_reason(counts: &BTreeMap<CloseReason, u64>) -> Value {
    let counts = counts
        .iter()
        .map(|(reason, count)| (reason.as_str().to_owned(), (*count).into()));
    Value::Object(counts.collect::<Map<_, _>>())
}
