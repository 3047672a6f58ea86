//! What people do to jobs. Each act says who does it, and is audited.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::{Json, Router, routing};
use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::{Act, RedriveFilter, Rejection};
use crawlwire_progress::view::JobView;
use crawlwire_progress::{PauseReason, State as JobState};
use crawlwire_router::{ActError, Bulk};
use serde_json::{Value, json};

use super::body::Fields;
use super::jobs::find;
use super::list::JobCondition;
use super::problem::Problem;
use super::{Api, json};

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/jobs/{id}/cancel", routing::post(cancel))
        .route("/jobs/{id}/pause", routing::post(pause))
        .route("/jobs/{id}/resume", routing::post(resume))
        .route("/jobs/{id}/retry", routing::post(retry))
        .route("/jobs/{id}/redrive", routing::post(redrive))
        .route("/jobs/{id}/priority", routing::put(set_priority))
        .route("/redrive", routing::post(redrive_many))
        .route("/jobs/bulk", routing::post(bulk))
}

/// Who asks, where the request does not say.
pub(super) struct Caller(String);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let name = peer.map_or_else(
            || "http".to_owned(),
            |ConnectInfo(peer)| format!("http:{}", peer.ip().to_canonical()),
        );
        Ok(Self(name))
    }
}

impl Caller {
    /// Who does what a request asks for.
    pub(super) fn or(self, fields: &mut Fields) -> String {
        fields.by().unwrap_or(self.0)
    }
}

/// What every act is made of: the job, what else the request says, and who asks.
type Asked = (State<Api>, Path<String>, Caller, HeaderMap, Bytes);

async fn cancel((State(api), Path(id), caller, headers, body): Asked) -> Result<Json<Value>, Problem> {
    let mut fields = Fields::of_any(&headers, &body)?;
    let by = caller.or(&mut fields);
    let tree = fields.boolean("tree").unwrap_or(false);
    fields.finish_strict(Some(()))?;
    let job = find(&api, &id).await?;
    if !tree {
        return act(&api, &job, Act::Cancel, &by).await;
    }
    let cancelled = match api.router.cancel_tree(job.key, &by).await {
        Ok(cancelled) => cancelled,
        Err(error) => return Err(refused(error, Some(&job))),
    };
    let job = find(&api, &job.public_id).await?;
    Ok(Json(json!({ "job": json::job(&job), "cancelled": cancelled })))
}

async fn pause(asked: Asked) -> Result<Json<Value>, Problem> {
    simple(asked, Act::Pause).await
}

async fn resume(asked: Asked) -> Result<Json<Value>, Problem> {
    simple(asked, Act::Resume).await
}

async fn retry(asked: Asked) -> Result<Json<Value>, Problem> {
    simple(asked, Act::Retry).await
}

async fn redrive(asked: Asked) -> Result<Json<Value>, Problem> {
    simple(asked, Act::Redrive).await
}

async fn simple((State(api), Path(id), caller, headers, body): Asked, what: Act) -> Result<Json<Value>, Problem> {
    let mut fields = Fields::of_any(&headers, &body)?;
    let by = caller.or(&mut fields);
    fields.finish_strict(Some(()))?;
    let job = find(&api, &id).await?;
    act(&api, &job, what, &by).await
}

async fn set_priority((State(api), Path(id), caller, headers, body): Asked) -> Result<Json<Value>, Problem> {
    let mut fields = Fields::of(&headers, &body)?;
    let by = caller.or(&mut fields);
    let priority = fields.required_number("priority");
    let priority = fields.finish_strict(priority)?;
    let job = find(&api, &id).await?;
    act(&api, &job, Act::SetPriority(priority), &by).await
}

pub(super) async fn delete((State(api), Path(id), caller, headers, body): Asked) -> Result<Json<Value>, Problem> {
    let mut fields = Fields::of_any(&headers, &body)?;
    let by = caller.or(&mut fields);
    fields.finish_strict(Some(()))?;
    let job = find(&api, &id).await?;
    match api.router.delete(job.key, &by).await {
        Ok(deleted) => Ok(Json(json!({ "deleted": deleted }))),
        Err(error) => Err(refused(error, Some(&job))),
    }
}

async fn redrive_many(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let mut fields = Fields::of(&headers, &body)?;
    let by = caller.or(&mut fields);
    let filter = RedriveFilter {
        quarantined: fields.boolean("quarantined").unwrap_or(false),
        failed: fields.boolean("failed").unwrap_or(false),
        account_id: fields.name("account_id"),
    };
    if !filter.quarantined && !filter.failed {
        fields.refuse("quarantined", "this, or failed, or both must be true");
    }
    let filter = fields.finish_strict(Some(filter))?;
    match api.router.redrive(filter, &by).await {
        Ok(redriven) => Ok(Json(json!({ "redriven": redriven }))),
        Err(error) => Err(refused(error, None)),
    }
}

/// Does something to all jobs that fit a condition, or says how many they are.
async fn bulk(State(api): State<Api>, caller: Caller, headers: HeaderMap, body: Bytes) -> Result<Json<Value>, Problem> {
    let mut fields = Fields::of(&headers, &body)?;
    let by = caller.or(&mut fields);
    let name = fields.required("act");
    let priority = match name.as_deref() {
        Some("set_priority") => fields.required_number("priority"),
        _ => None,
    };
    let acts = [Act::Cancel, Act::Pause, Act::Resume, Act::Retry, Act::Redrive]
        .into_iter()
        .chain([Act::SetPriority(priority.unwrap_or_default())]);
    let acts: Vec<_> = acts.map(|act| (act.as_str(), act)).collect();
    let act = fields.one_of("act", name, &acts);
    let dry_run = fields.boolean("dry_run").unwrap_or(false);
    let condition = JobCondition::read("filter", fields.part("filter"));
    let condition = condition.map_err(|violations| fields.refuse_all(violations)).ok();
    let (act, condition) = fields.finish_strict(act.zip(condition))?;
    let JobCondition {
        mut filter,
        root_id,
        text,
    } = condition;
    if let Some(id) = root_id {
        filter.root = Some(find(&api, &id).await?.key);
    }
    if dry_run {
        let matched = api.router.count_fitting(&filter).await?;
        return Ok(Json(json!({ "matched": matched, "changed": 0 })));
    }
    match api.router.act_all(filter, act, &text, &by).await {
        Ok(Bulk { matched, changed }) => Ok(Json(json!({ "matched": matched, "changed": changed }))),
        Err(error) => Err(refused(error, None)),
    }
}

/// Does it, and shows the job as it is then. What is so already is a success: whoever repeats a request shall not care.
async fn act(api: &Api, job: &JobView, act: Act, by: &str) -> Result<Json<Value>, Problem> {
    match api.router.act(job.key, act, by).await {
        Ok(_) | Err(ActError::Refused(Rejection::Job(Refusal::AlreadySo))) => {
            Ok(Json(json::job(&find(api, &job.public_id).await?)))
        }
        // The job may have moved since it was looked at; the refusal speaks of what it is now.
        Err(error) => {
            let now = find(api, &job.public_id).await?;
            Err(refused(error, Some(&now)))
        }
    }
}

/// A refusal, with what to do instead.
pub(super) fn refused(error: ActError, job: Option<&JobView>) -> Problem {
    let rejection = match error {
        ActError::Store(error) => return error.into(),
        ActError::Refused(rejection) => rejection,
    };
    match rejection {
        Rejection::Job(Refusal::NotFound) => Problem::not_found("job"),
        Rejection::Job(refusal) => {
            let detail = job.map_or_else(|| refusal.to_string(), |job| instead(refusal, job));
            Problem::new(StatusCode::CONFLICT, refusal.as_str(), detail)
        }
        Rejection::NoSuchAccount => Problem::not_found("account"),
        Rejection::NoSuchCredential => Problem::not_found("token"),
        Rejection::TooManyGates { limit } => {
            let detail = format!("{limit} gates are closed already. Open one that is not needed any more.");
            Problem::new(StatusCode::CONFLICT, "too_many_gates", detail)
        }
        rejection @ (Rejection::QueueFull { .. }
        | Rejection::NameTaken { .. }
        | Rejection::KeyReused
        | Rejection::InstanceTaken
        | Rejection::TokenNameTaken
        | Rejection::NoSuchToken) => {
            tracing::error!(?rejection, "unexpected refusal of an act");
            let detail = "The request could not be carried out.";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
        }
    }
}

/// What stands in the way, and the act that would help.
fn instead(refusal: Refusal, job: &JobView) -> String {
    let is = match job.pause_reason {
        Some(PauseReason::Quarantined) => "quarantined",
        _ => job.state.web_status(),
    };
    match refusal {
        Refusal::Ended if job.state == JobState::Completed => "The job is completed. Submit a new one.".to_owned(),
        Refusal::Ended => format!("The job is {is}. Retry it first, or submit a new one."),
        Refusal::Cancelling => "The job is being cancelled. Retry it once it is cancelled.".to_owned(),
        Refusal::NotPaused if is == "quarantined" => "The job is quarantined, not paused. Redrive it.".to_owned(),
        Refusal::NotPaused => format!("The job is {is}; only one that somebody paused can be resumed."),
        Refusal::NotRetryable if is == "quarantined" => "The job is quarantined. Redrive it.".to_owned(),
        Refusal::NotRetryable => format!("The job is {is}; only one that failed or was cancelled can be retried."),
        Refusal::NotRedrivable if job.state == JobState::Paused => "Somebody paused the job. Resume it.".to_owned(),
        Refusal::NotRedrivable if job.state == JobState::Cancelled => "The job is cancelled. Retry it.".to_owned(),
        Refusal::NotRedrivable => format!("The job is {is}; only one that is quarantined or failed can be redriven."),
        Refusal::NotRoot => format!(
            "The job was discovered by another. Name the submitted job at the top of its tree, {}.",
            job.root_id
        ),
        Refusal::TreeOpen => {
            "The job, or something below it, has not ended. Cancel it first, with \"tree\": true.".to_owned()
        }
        other => format!("The job is {is}: {other}."),
    }
}
