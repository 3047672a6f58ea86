//! Records as the API shows them. Tokens are not among them.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use crawlwire_progress::Timestamp;
use crawlwire_progress::admit::{ClosedGate, Gate};
use crawlwire_progress::job::Tree;
use crawlwire_progress::view::{AreaView, AuditView, ErrorView, EventView, JobView};
use crawlwire_protocol::Dialect;
use crawlwire_router::SessionInfo;
use crawlwire_transport::{ClosedRecord, ConnectionInfo, Refused};
use serde_json::{Value, json};

use crate::connection::DIALECT;

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn time(at: Timestamp) -> String {
    DateTime::<Utc>::from_timestamp_millis(at.0)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The same of the machine's clock.
fn wall_clock(at: SystemTime) -> String {
    DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Millis, true)
}

pub(crate) fn now() -> String {
    wall_clock(SystemTime::now())
}

/// The machine's clock, as moments are counted.
pub(crate) fn clock() -> Timestamp {
    Timestamp(Utc::now().timestamp_millis())
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
    let greeting = info.greeting.as_ref();
    json!({
        "id": &*info.name,
        "connection": info.connection,
        "identity": info.identity,
        "dialect": info.dialect.map(Dialect::as_str),
        "crawler_id": greeting.map(|greeting| &greeting.crawler_id),
        "instance_id": greeting.map(|greeting| &greeting.instance_id),
        "role": greeting.map(|greeting| greeting.role.as_str()),
        "principal": greeting.map(|greeting| &greeting.principal),
        "software": greeting.and_then(|greeting| greeting.software.as_deref()),
        "features": features(info),
        "high_water_seq": info.high_water,
        "epoch": info.epoch.0,
        "active_jobs": info.active_jobs,
        "system_status": info.system_status,
        "jobs": info.jobs,
        "messages": info.messages,
        "connected_ms": info.open_for.as_millis() as u64,
        "silent_ms": info.silent_for.as_millis() as u64,
    })
}

/// What both sides can do beyond the core of the session protocol.
fn features(info: &SessionInfo) -> Vec<&'static str> {
    let features = info.greeting.iter().flat_map(|greeting| &greeting.features);
    features.map(|feature| feature.as_str()).collect()
}

/// An open connection, and the session it is, if it is one by now.
pub(crate) fn connection(info: &ConnectionInfo, session: Option<&SessionInfo>) -> Value {
    let silent = info.last_activity.map(|at| info.as_of.saturating_duration_since(at));
    let traffic = info.traffic;
    json!({
        "connection": info.id.0,
        "peer": info.peer.to_string(),
        "state": info.state.as_str(),
        "dialect": info.metadata.get(DIALECT),
        "session": session.map(|session| &*session.name),
        "role": session.and_then(|session| session.greeting.as_ref()).map(|greeting| greeting.role.as_str()),
        "features": session.map(features),
        "connected_ms": info.uptime().as_millis() as u64,
        "silent_ms": silent.unwrap_or(info.uptime()).as_millis() as u64,
        "messages_received": traffic.messages_received,
        "messages_sent": traffic.messages_sent,
        "bytes_received": traffic.bytes_received,
        "bytes_sent": traffic.bytes_sent,
        "errors": traffic.errors,
        "last_error": info.last_error,
        "queued_messages": info.output.queued_messages,
        "queued_bytes": info.output.queued_bytes,
    })
}

/// A connection that has closed.
pub(crate) fn closed(record: &ClosedRecord) -> Value {
    json!({
        "connection": record.id.0,
        "at": wall_clock(record.at),
        "reason": record.reason.as_str(),
        "session": record.crawler_id.as_deref(),
        "peer": record.peer.to_string(),
        "connected_ms": record.lived.as_millis() as u64,
        "messages_received": record.traffic.messages_received,
        "messages_sent": record.traffic.messages_sent,
        "messages_undelivered": record.traffic.messages_undelivered,
        "errors": record.traffic.errors,
    })
}

/// Somebody who was not let in.
pub(crate) fn refused(refused: &Refused) -> Value {
    json!({
        "at": wall_clock(refused.at),
        "reason": refused.reason.as_str(),
        "peer": refused.peer.to_string(),
        "detail": refused.detail,
    })
}
