//! What people do to crawlers and to this server: say something to them, end their connection, give them nothing more. Each
//! act says who does it, and is put on record before it is carried out.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Json, Router, routing};
use crawlwire_progress::Op;
use crawlwire_protocol::explain::{Violation, explain};
use crawlwire_protocol::{Decoded, Dialect, Envelope, WebAppMessage, decode};
use crawlwire_router::SendError;
use crawlwire_transport::CloseReason;
use serde_json::{Value, json};

use super::acts::Caller;
use super::body::Fields;
use super::problem::Problem;
use super::{Api, json};
use crate::connection::connection_id;

/// Messages that people may send. All others go with what this server knows of jobs and numbers, and would contradict it.
const SENDABLE: [&str; 3] = ["shutdown", "report_policy", "draining"];

/// Until when a crawler that is drained has to look for another server, unless somebody says otherwise; and at most.
const DRAIN: Duration = Duration::from_secs(60);
const DRAIN_MS_MAX: u64 = 3_600_000;

/// Characters of the reason that crawlers are told.
const REASON_CHARS_MAX: usize = 200;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/crawlers/broadcast", routing::post(broadcast))
        .route("/crawlers/{id}/message", routing::post(message))
        .route("/crawlers/{id}/disconnect", routing::post(disconnect))
        .route("/crawlers/{id}/drain", routing::post(drain))
        .route("/crawlers/{id}/undrain", routing::post(undrain))
        .route("/server/drain", routing::post(drain_server))
        .route("/server/undrain", routing::post(undrain_server))
}

type Asked = (State<Api>, Path<String>, Caller, HeaderMap, Bytes);
type AskedOfAll = (State<Api>, Caller, HeaderMap, Bytes);

/// A message as a request describes it.
struct Said {
    type_name: String,
    data: Value,
    by: String,
}

impl Said {
    fn read(caller: Caller, headers: &HeaderMap, body: &Bytes) -> Result<Self, Problem> {
        let mut fields = Fields::of(headers, body)?;
        let by = caller.or(&mut fields);
        let type_name = fields.required("type");
        let type_name = fields.one_of("type", type_name, &SENDABLE.map(|name| (name, name)));
        let data = Value::Object(fields.part("data"));
        let type_name = fields.finish_strict(type_name)?.to_owned();
        Ok(Self { type_name, data, by })
    }

    /// In a dialect, by the rules of that dialect.
    fn in_dialect(&self, dialect: Dialect) -> Result<Envelope<WebAppMessage>, Problem> {
        let line = json!({ "type": self.type_name, "timestamp": json::now(), "data": self.data });
        let line = format!("{line}\n");
        match decode::<WebAppMessage>(line.as_bytes(), dialect) {
            Ok(Decoded::Known(envelope)) => Ok(envelope),
            Ok(Decoded::Custom(_)) => {
                let rule = "crawlers of the base protocol do not know it";
                Err(Problem::invalid(vec![Violation::new("/type", rule)]))
            }
            Err(_) => Err(Problem::invalid(explain::<WebAppMessage>(line.as_bytes(), dialect))),
        }
    }

    fn detail(&self) -> Value {
        json!({ "type": self.type_name })
    }
}

async fn message((State(api), Path(id), caller, headers, body): Asked) -> Result<Json<Value>, Problem> {
    let said = Said::read(caller, &headers, &body)?;
    let peer = api.router.peer(&id).ok_or_else(|| Problem::not_found("crawler"))?;
    let message = said.in_dialect(peer.dialect().unwrap_or(Dialect::Base))?;
    record(&api, &said.by, "message", &id, Some(said.detail())).await?;
    match api.router.send(&peer, message).await {
        Ok(()) => Ok(Json(json!({ "sent": 1 }))),
        Err(error) => Err(not_sent(error)),
    }
}

/// To all crawlers of this server that know the message.
async fn broadcast((State(api), caller, headers, body): AskedOfAll) -> Result<Json<Value>, Problem> {
    let said = Said::read(caller, &headers, &body)?;
    let message = said.in_dialect(Dialect::Session)?;
    let base = said.in_dialect(Dialect::Base).ok();
    record(&api, &said.by, "broadcast", "all crawlers", Some(said.detail())).await?;
    let mut sent = 0;
    for peer in api.router.peers() {
        let message = match peer.dialect() {
            Some(Dialect::Session) => Some(message.clone()),
            _ => base.clone(),
        };
        if let Some(message) = message {
            sent += usize::from(api.router.send(&peer, message).await.is_ok());
        }
    }
    Ok(Json(json!({ "sent": sent })))
}

/// One of the session protocol is told whether to come back; its jobs wait for that as after any lost connection.
async fn disconnect((State(api), Path(id), caller, headers, body): Asked) -> Result<Json<Value>, Problem> {
    let mut fields = Fields::of_any(&headers, &body)?;
    let by = caller.or(&mut fields);
    let reconnect = fields.boolean("reconnect").unwrap_or(true);
    fields.finish_strict(Some(()))?;
    let peer = api.router.peer(&id).ok_or_else(|| Problem::not_found("crawler"))?;
    record(&api, &by, "disconnect", &id, Some(json!({ "reconnect": reconnect }))).await?;
    let reason = CloseReason::DisconnectedByOperator;
    api.router.goodbye(&peer, reason.as_str(), reconnect).await;
    if let Some(connection) = api.pool.get(connection_id(peer.connection)) {
        connection.close(reason);
    }
    Ok(Json(json!({ "disconnected": id })))
}

/// How long crawlers may take, and what they are told.
fn read_drain(caller: Caller, headers: &HeaderMap, body: &Bytes) -> Result<(String, Duration, String), Problem> {
    let mut fields = Fields::of_any(headers, body)?;
    let by = caller.or(&mut fields);
    let reason = fields.line("reason", REASON_CHARS_MAX);
    let deadline = fields.whole("deadline_ms", DRAIN_MS_MAX).map(Duration::from_millis);
    fields.finish_strict(Some(()))?;
    let reason = reason.unwrap_or_else(|| "an operator drains it".to_owned());
    Ok((by, deadline.unwrap_or(DRAIN), reason))
}

async fn drain((State(api), Path(id), caller, headers, body): Asked) -> Result<Json<Value>, Problem> {
    let (by, deadline, reason) = read_drain(caller, &headers, &body)?;
    api.router.peer(&id).ok_or_else(|| Problem::not_found("crawler"))?;
    record(&api, &by, "drain_crawler", &id, Some(json!({ "reason": reason }))).await?;
    let told = api.router.drain_crawler(&id, deadline, &reason).await;
    let told = told.ok_or_else(|| Problem::not_found("crawler"))?;
    Ok(Json(json!({ "draining": true, "told": usize::from(told) })))
}

async fn undrain((State(api), Path(id), caller, headers, body): Asked) -> Result<Json<Value>, Problem> {
    let mut fields = Fields::of_any(&headers, &body)?;
    let by = caller.or(&mut fields);
    fields.finish_strict(Some(()))?;
    // It may be gone meanwhile, and come back.
    if api.router.peer(&id).is_none() && !api.router.is_crawler_drained(&id) {
        return Err(Problem::not_found("crawler"));
    }
    record(&api, &by, "undrain_crawler", &id, None).await?;
    api.router.undrain_crawler(&id);
    Ok(Json(json!({ "draining": api.router.is_drained() })))
}

async fn drain_server((State(api), caller, headers, body): AskedOfAll) -> Result<Json<Value>, Problem> {
    let (by, deadline, reason) = read_drain(caller, &headers, &body)?;
    record(&api, &by, "drain_server", &api.name, Some(json!({ "reason": reason }))).await?;
    let told = api.router.drain_here(deadline, &reason).await;
    Ok(Json(json!({ "draining": true, "told": told })))
}

async fn undrain_server((State(api), caller, headers, body): AskedOfAll) -> Result<Json<Value>, Problem> {
    let mut fields = Fields::of_any(&headers, &body)?;
    let by = caller.or(&mut fields);
    fields.finish_strict(Some(()))?;
    record(&api, &by, "undrain_server", &api.name, None).await?;
    api.router.undrain_here();
    Ok(Json(json!({ "draining": false })))
}

fn not_sent(error: SendError) -> Problem {
    let detail = match error {
        SendError::Full => "The crawler does not read what is sent to it.",
        SendError::Closed => "The crawler's connection is gone.",
        SendError::Withheld => "The message was withheld.",
    };
    Problem::new(StatusCode::CONFLICT, "not_sent", detail)
}

async fn record(api: &Api, by: &str, act: &'static str, target: &str, detail: Option<Value>) -> Result<(), Problem> {
    let op = Op::Record {
        by: by.to_owned(),
        act,
        target: target.to_owned(),
        detail: detail.map(|detail| detail.to_string()),
    };
    api.store.commit(op).await?;
    Ok(())
}
