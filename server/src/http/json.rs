//! Records as the API shows them. Tokens are not among them.

use chrono::{DateTime, SecondsFormat, Utc};
use crawlwire_progress::Timestamp;
use crawlwire_progress::view::{ErrorView, EventView, JobView, ProgressView};
use crawlwire_router::SessionInfo;
use serde_json::{Value, json};

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn time(at: Timestamp) -> String {
    DateTime::<Utc>::from_timestamp_millis(at.0)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}

pub(crate) fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// JSON text that we stored ourselves.
fn stored(text: Option<&String>) -> Value {
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or(Value::Null)
}

pub(crate) fn job(view: &JobView) -> Value {
    let spec = &view.spec;
    json!({
        "id": view.public_id,
        "web_app_job_id": view.web_app_job_id,
        "status": view.state.web_status(),
        "state": view.state.as_str(),
        "pause_reason": view.pause_reason.map(|reason| reason.as_str()),
        "account_id": view.account_id,
        "job_type": spec.job_type,
        "command": spec.job_type.command(),
        "gitlab_host": spec.host,
        "entity_id": spec.entity_id,
        "namespace_path": spec.namespace_path,
        "entity_name": spec.entity_name,
        "priority": spec.priority,
        "provider": spec.provider,
        "user_id": spec.user_id,
        "created_by_user_id": spec.created_by_user_id,
        "tags": spec.tags,
        "metadata": stored(spec.metadata.as_ref()),
        "parent_id": view.parent_id,
        "root_id": view.root_id,
        "depth": view.depth,
        "children": view.children,
        "attempt": view.attempt,
        "failures": view.failures,
        "fence": view.fence,
        "session": view.session,
        "resume": view.resume,
        "run_at": view.run_at.map(time),
        "created_at": time(view.created_at),
        "started_at": view.started_at.map(time),
        "finished_at": view.finished_at.map(time),
        "updated_at": time(view.updated_at),
        "result": stored(view.result.as_ref()),
        "error": stored(view.error.as_ref()),
    })
}

pub(crate) fn event(view: &EventView) -> Value {
    json!({
        "id": view.id,
        "at": time(view.at),
        "arrows": view.arrows,
        "state": view.state.as_str(),
        "fence": view.fence,
        "attempt": view.attempt,
        "session": view.session,
    })
}

pub(crate) fn progress(job_id: &str, view: &ProgressView) -> Value {
    json!({
        "job_id": job_id,
        "attempt": view.attempt,
        "overall_completion": view.overall_completion,
        "time_elapsed": view.time_elapsed,
        "estimated_time_remaining": view.estimated_time_remaining,
        "entities": view.entities,
        "updated_at": time(view.updated_at),
    })
}

pub(crate) fn error(view: &ErrorView) -> Value {
    json!({
        "id": view.id,
        "at": time(view.at),
        "category": view.category,
        "severity": view.severity,
        "code": view.code,
        "job_id": view.job,
        "connection": view.connection,
        "message": view.message,
    })
}

pub(crate) fn session(info: &SessionInfo) -> Value {
    json!({
        "id": &*info.name,
        "connection": info.connection,
        "identity": info.identity,
        "active_jobs": info.active_jobs,
        "system_status": info.system_status,
        "jobs": info.jobs,
        "messages": info.messages,
        "connected_ms": info.open_for.as_millis() as u64,
        "silent_ms": info.silent_for.as_millis() as u64,
    })
}
