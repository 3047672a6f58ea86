//! Records as the API shows them. Tokens are not among them.

use chrono::{DateTime, SecondsFormat, Utc};
use crawlwire_progress::Timestamp;
use crawlwire_progress::admit::{ClosedGate, Gate};
use crawlwire_progress::job::Tree;
use crawlwire_progress::view::{AreaView, AuditView, ErrorView, EventView, JobView, ProgressView};
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
    let mut value = about(view);
    if let (Value::Object(fields), Value::Object(life)) = (&mut value, life(view)) {
        fields.extend(life);
    }
    value
}

/// What the job is about, and what it asks for.
fn about(view: &JobView) -> Value {
    let spec = &view.spec;
    json!({
        "id": view.public_id,
        "web_app_job_id": view.web_app_job_id,
        "account_id": view.account_id,
        "job_type": spec.job_type,
        "command": spec.job_type.command(),
        "gitlab_host": spec.host,
        "entity_id": spec.entity_id,
        "namespace_path": spec.namespace_path,
        "entity_name": spec.entity_name,
        "priority": spec.priority,
        "labels": spec.labels,
        "job_timeout_ms": view.limits.timeout.map(|timeout| timeout.as_millis() as u64),
        "retry_attempts": view.limits.retry_attempts,
        "retry_delay_ms": view.limits.retry_delay.map(|delay| delay.as_millis() as u64),
        "provider": spec.provider,
        "user_id": spec.user_id,
        "created_by_user_id": spec.created_by_user_id,
        "tags": spec.tags,
        "metadata": stored(spec.metadata.as_ref()),
        "parent_id": view.parent_id,
        "root_id": view.root_id,
        "depth": view.depth,
        "created_at": time(view.created_at),
    })
}

/// Where the job is in its life.
fn life(view: &JobView) -> Value {
    json!({
        "status": view.state.web_status(),
        "state": view.state.as_str(),
        "pause_reason": view.pause_reason.map(|reason| reason.as_str()),
        "children": view.tree.children,
        "tree_status": view.tree.status.as_str(),
        "tree": tree(&view.tree),
        "attempt": view.attempt,
        "failures": view.failures,
        "misses": view.misses,
        "fence": view.fence,
        "session": view.session,
        "resume": view.resume,
        "want": view.want.map(|(want, until)| json!({ "want": want.as_str(), "until": time(until) })),
        "run_at": view.run_at.map(time),
        "assigned_at": view.assigned_at.map(time),
        "deadline": view.deadline.map(time),
        "started_at": view.started_at.map(time),
        "finished_at": view.finished_at.map(time),
        "updated_at": time(view.updated_at),
        "result": stored(view.result.as_ref()),
        "error": stored(view.error.as_ref()),
    })
}

fn tree(tree: &Tree) -> Value {
    json!({
        "status": tree.status.as_str(),
        "children": tree.children,
        "jobs": tree.jobs,
        "open_children": tree.open_children,
        "failed_children": tree.failed_children,
        "settled_at": tree.settled_at.map(time),
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

pub(crate) fn audit(view: &AuditView) -> Value {
    json!({
        "id": view.id,
        "at": time(view.at),
        "by": view.by,
        "act": view.act,
        "target": view.target,
        "detail": stored(view.detail.as_ref()),
    })
}

pub(crate) fn area(view: &AreaView) -> Value {
    json!({
        "id": view.id,
        "gitlab_host": view.host,
        "kind": view.kind,
        "entity_id": view.entity_id,
        "path": view.path,
        "name": view.name,
        "since": time(view.since),
    })
}

/// The part of a gate that names it.
fn gate_name(gate: &Gate) -> (Option<&str>, Option<&str>) {
    match gate {
        Gate::Queue => (None, None),
        Gate::Host(host) => (None, Some(host)),
        Gate::Credentials { account_id, host } => (Some(account_id), Some(host)),
    }
}

pub(crate) fn closed_gate(closed: &ClosedGate) -> Value {
    let mut value = open_gate(&closed.gate);
    value["closed"] = true.into();
    value["closed_at"] = time(closed.closed_at).into();
    value["until"] = closed.until.map(time).into();
    value["reason"] = closed.reason.clone().into();
    value["by"] = closed.by.clone().into();
    value
}

pub(crate) fn open_gate(gate: &Gate) -> Value {
    let (account_id, host) = gate_name(gate);
    json!({
        "kind": gate.kind(),
        "account_id": account_id,
        "gitlab_host": host,
        "closed": false,
        "closed_at": null,
        "until": null,
        "reason": null,
        "by": null,
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
