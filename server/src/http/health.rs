//! Whether the server lives, is ready, and how its socket does (implementation summary, lines 335 to 343; deployment
//! guide, lines 391 to 412).

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Json, Router, routing};
use serde_json::json;

use super::connections::by_reason;
use super::{Api, json};

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/health/live", routing::get(live))
        .route("/health/ready", routing::get(ready))
        .route("/health/socket", routing::get(socket))
}

/// The process answers.
async fn live() -> impl IntoResponse {
    Json(json!({ "status": "ok", "timestamp": json::now() }))
}

/// Work can be taken: the database answers and the listeners stand. Needs no crawler.
async fn ready(State(api): State<Api>) -> impl IntoResponse {
    let database = api.store.ping().await.is_ok();
    let listeners = api.status.is_running();
    let (code, status) = if database && listeners {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    };
    let body = json!({
        "status": status,
        "checks": { "database": database, "listeners": listeners },
        "timestamp": json::now(),
    });
    (code, Json(body))
}

/// How the socket server does.
async fn socket(State(api): State<Api>) -> impl IntoResponse {
    let stats = api.pool.stats();
    let running = api.status.is_running();
    let (code, status) = if running {
        (StatusCode::OK, "healthy")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unhealthy")
    };
    let queued_bytes: usize = api.pool.infos().iter().map(|info| info.output.queued_bytes).sum();
    let uptime_seconds = api.status.uptime().as_secs_f64();
    let body = json!({
        "status": status,
        "connections": stats.total,
        "uptime": uptime_seconds,
        "socket_server": {
            "running": running,
            "connections": stats.total,
            "active_connections": stats.active,
            "sessions": api.router.sessions().len(),
            "queued_bytes": queued_bytes,
            "closed_by_reason": by_reason(&stats.closed),
            "uptime": uptime_seconds,
        },
        "timestamp": json::now(),
    });
    (code, Json(body))
}
