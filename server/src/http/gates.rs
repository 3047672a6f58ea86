//! Gates: barriers before all jobs, those of a host, or those of an account on a host. The one before all is the pause of
//! the queue.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Json, Router, routing};
use chrono::Utc;
use crawlwire_progress::admit::{ClosedGate, Gate};
use crawlwire_progress::{State as JobState, Timestamp};
use serde_json::{Map, Value, json};

use super::acts::{Caller, refused};
use super::body::Fields;
use super::problem::Problem;
use super::{Api, json};

/// Why a gate is closed, in characters.
const REASON_CHARS_MAX: usize = 500;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/queue", routing::get(queue))
        .route("/queue/pause", routing::post(pause))
        .route("/queue/resume", routing::post(resume))
        .route("/gates", routing::get(list))
        .route("/gates/close", routing::post(close))
        .route("/gates/open", routing::post(open))
}

/// The closed gates, widest first. They are at most [`GATES_MAX`](crawlwire_progress::store::GATES_MAX), so one page
/// holds them.
async fn list(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    let gates = api.router.gates().await?;
    let items: Vec<_> = gates.iter().map(json::closed_gate).collect();
    Ok(Json(json!({ "items": items, "next_cursor": null })))
}

async fn queue(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    let gates = api.router.gates().await?;
    let closed = gates.iter().find(|closed| closed.gate == Gate::Queue);
    let counts = api.store.counts().await?;
    let count = |state: &JobState| counts.get(state).copied().unwrap_or(0);
    let jobs: Map<_, _> = JobState::ALL
        .iter()
        .map(|state| (state.as_str().to_owned(), count(state).into()))
        .collect();
    Ok(Json(json!({
        "paused": closed.is_some(),
        "gate": closed.map(json::closed_gate),
        "jobs": jobs,
    })))
}

async fn pause(state: State<Api>, caller: Caller, headers: HeaderMap, body: Bytes) -> Result<Json<Value>, Problem> {
    let fields = Fields::of_any(&headers, &body)?;
    close_with(state, caller, fields, |_| Some(Gate::Queue)).await
}

async fn resume(state: State<Api>, caller: Caller, headers: HeaderMap, body: Bytes) -> Result<Json<Value>, Problem> {
    let fields = Fields::of_any(&headers, &body)?;
    open_with(state, caller, fields, |_| Some(Gate::Queue)).await
}

async fn close(state: State<Api>, caller: Caller, headers: HeaderMap, body: Bytes) -> Result<Json<Value>, Problem> {
    let fields = Fields::of(&headers, &body)?;
    close_with(state, caller, fields, read_gate).await
}

async fn open(state: State<Api>, caller: Caller, headers: HeaderMap, body: Bytes) -> Result<Json<Value>, Problem> {
    let fields = Fields::of(&headers, &body)?;
    open_with(state, caller, fields, read_gate).await
}

async fn close_with(
    State(api): State<Api>,
    caller: Caller,
    mut fields: Fields,
    read: impl FnOnce(&mut Fields) -> Option<Gate>,
) -> Result<Json<Value>, Problem> {
    let by = caller.or(&mut fields);
    let gate = read(&mut fields);
    let reason = fields.line("reason", REASON_CHARS_MAX);
    let until = fields.time("until");
    if until.is_some_and(|until| until <= Timestamp(Utc::now().timestamp_millis())) {
        fields.refuse("until", "expected a time that has not come yet");
    }
    let gate = fields.finish_strict(gate)?;
    if let Err(error) = api.router.close_gate(gate.clone(), until, reason, &by).await {
        return Err(refused(error, None));
    }
    Ok(Json(as_it_is(&api, &gate).await?))
}

async fn open_with(
    State(api): State<Api>,
    caller: Caller,
    mut fields: Fields,
    read: impl FnOnce(&mut Fields) -> Option<Gate>,
) -> Result<Json<Value>, Problem> {
    let by = caller.or(&mut fields);
    let gate = read(&mut fields);
    let gate = fields.finish_strict(gate)?;
    if let Err(error) = api.router.open_gate(gate.clone(), &by).await {
        return Err(refused(error, None));
    }
    Ok(Json(as_it_is(&api, &gate).await?))
}

async fn as_it_is(api: &Api, gate: &Gate) -> Result<Value, Problem> {
    let gates = api.router.gates().await?;
    let closed: Option<&ClosedGate> = gates.iter().find(|closed| closed.gate == *gate);
    Ok(closed.map_or_else(|| json::open_gate(gate), json::closed_gate))
}

/// Which gate a request means.
fn read_gate(fields: &mut Fields) -> Option<Gate> {
    #[derive(Clone, Copy)]
    enum Kind {
        Queue,
        Host,
        Credentials,
    }
    let kinds = [
        ("queue", Kind::Queue),
        ("host", Kind::Host),
        ("credentials", Kind::Credentials),
    ];
    let kind = fields.required("kind");
    match fields.one_of("kind", kind, &kinds) {
        Some(Kind::Queue) => Some(Gate::Queue),
        Some(Kind::Host) => fields.host("gitlab_host").map(Gate::Host),
        Some(Kind::Credentials) => {
            let (account_id, host) = (fields.required("account_id"), fields.host("gitlab_host"));
            let (account_id, host) = account_id.zip(host)?;
            Some(Gate::Credentials { account_id, host })
        }
        None => {
            // What belongs to a kind is no slip while the kind itself is one.
            let _ = (fields.string("account_id"), fields.string("gitlab_host"));
            None
        }
    }
}
