//! Jobs: create, list, look at.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use crawlwire_progress::JobKey;
use crawlwire_progress::store::{JobFilter, NewJob, Outcome, Paging, Rejection};
use crawlwire_progress::view::{JobSpec, JobView};
use crawlwire_protocol::explain::Violation;
use crawlwire_protocol::message::JobType;
use crawlwire_protocol::{AccessToken, normalise_host};
use serde_json::{Value, json};
use uuid::Uuid;

use super::body::Fields;
use super::list::{JobListQuery, ListQuery, page};
use super::problem::Problem;
use super::{Api, json};

/// Bounds of what the web app may attach to a job; it is kept as long as the job.
const TAGS_MAX: usize = 50;
const TAG_CHARS_MAX: usize = 100;
const METADATA_BYTES_MAX: usize = 16 * 1024;

/// How long a web app should wait when the queue is full.
const QUEUE_FULL_RETRY_SECONDS: u64 = 5;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/jobs", routing::post(create).get(list))
        .route("/jobs/{id}", routing::get(show))
        .route("/jobs/{id}/events", routing::get(events))
        .route("/jobs/{id}/children", routing::get(children))
        .route("/jobs/{id}/progress", routing::get(progress))
}

async fn create(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    // Any other type could be sent by a form of a foreign page without the browser asking first.
    let json_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
        });
    if !json_type {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "Send the job as JSON with the header Content-Type: application/json.",
        ));
    }
    let value: Value = serde_json::from_slice(&body).map_err(|error| {
        let detail = format!(
            "The body is not JSON: line {}, column {}.",
            error.line(),
            error.column()
        );
        Problem::new(StatusCode::BAD_REQUEST, "not_json", detail)
    })?;
    let Value::Object(object) = value else {
        return Err(Problem::invalid(vec![Violation::new("", "expected an object")]));
    };
    let job = read_job(Fields::new(object)).map_err(Problem::invalid)?;
    match api.router.submit(job).await? {
        Outcome::Submitted(view) => {
            let location = format!("/api/v1/jobs/{}", view.public_id);
            Ok((
                StatusCode::CREATED,
                [(header::LOCATION, location)],
                Json(json::job(&view)),
            )
                .into_response())
        }
        Outcome::Refused(Rejection::QueueFull { limit }) => Err(Problem::too_many(
            "queue_full",
            format!("{limit} jobs wait already (max_queued_jobs). Try again later."),
            QUEUE_FULL_RETRY_SECONDS,
        )),
        Outcome::Refused(Rejection::NameTaken { public_id }) => {
            let detail = format!("The web_app_job_id names job {public_id} already.");
            Err(Problem::new(StatusCode::CONFLICT, "web_app_job_id_taken", detail)
                .at(vec![Violation::new("/web_app_job_id", "is taken")]))
        }
        outcome => {
            tracing::error!(?outcome, "unexpected outcome of a submission");
            Err(Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "The job could not be created.",
            ))
        }
    }
}

fn read_job(mut fields: Fields) -> Result<NewJob, Vec<Violation>> {
    let job_types = JobType::ALL.map(|job_type| (job_type.as_str(), job_type));
    let job_type = fields.required("job_type");
    let job_type = fields.one_of("job_type", job_type, &job_types);
    let account_id = fields.required("account_id");
    let host = fields
        .required("gitlab_host")
        .and_then(|host| match normalise_host(&host) {
            Ok(host) => Some(host),
            Err(error) => {
                fields.refuse("gitlab_host", error.to_string());
                None
            }
        });
    let providers = [("gitlab-onprem", "gitlab-onprem"), ("gitlab-cloud", "gitlab-cloud")];
    let provider = fields.string("provider");
    let provider = fields.one_of("provider", provider, &providers).map(str::to_owned);
    let web_app_job_id = fields.name("web_app_job_id");
    let access_token = fields.string("access_token").map(AccessToken::new);
    let resume = fields.boolean("resume").unwrap_or(false);
    let entity_id = fields.string("entity_id");
    let namespace_path = fields.string("namespace_path");
    let priority = fields.number("priority").unwrap_or(1.0);
    let user_id = fields.string("user_id");
    let created_by_user_id = fields.string("created_by_user_id");
    let tags = fields.strings("tags", TAGS_MAX, TAG_CHARS_MAX);
    let metadata = fields.object("metadata", METADATA_BYTES_MAX);
    let job = job_type
        .zip(account_id)
        .zip(host)
        .map(|((job_type, account_id), host)| NewJob {
            public_id: Uuid::now_v7().to_string(),
            web_app_job_id,
            account_id,
            access_token,
            resume,
            spec: JobSpec {
                job_type,
                host,
                entity_id,
                namespace_path,
                entity_name: None,
                priority,
                provider,
                user_id,
                created_by_user_id,
                tags,
                metadata,
            },
        });
    fields.finish(job)
}

async fn list(State(api): State<Api>, query: JobListQuery) -> Result<Json<Value>, Problem> {
    filtered(&api, query, None).await
}

async fn filtered(api: &Api, query: JobListQuery, parent: Option<JobKey>) -> Result<Json<Value>, Problem> {
    let JobListQuery {
        states,
        account_id,
        paging,
    } = query;
    let filter = JobFilter {
        states,
        account_id,
        parent,
    };
    Ok(page(api.store.jobs(filter, paging).await?, json::job))
}

async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json::job(&find(&api, &id).await?)))
}

async fn events(
    State(api): State<Api>,
    Path(id): Path<String>,
    ListQuery(paging): ListQuery,
) -> Result<Json<Value>, Problem> {
    let job = find(&api, &id).await?;
    Ok(page(api.store.events(job.key, paging).await?, json::event))
}

async fn children(State(api): State<Api>, Path(id): Path<String>, query: JobListQuery) -> Result<Json<Value>, Problem> {
    let job = find(&api, &id).await?;
    filtered(&api, query, Some(job.key)).await
}

async fn progress(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let job = find(&api, &id).await?;
    Ok(Json(current_progress(&api, &job).await?))
}

/// The newest report: from memory while a crawler of this server holds the job, else as it was stored. A job nobody has
/// reported about yet stands at zero.
pub(super) async fn current_progress(api: &Api, job: &JobView) -> Result<Value, Problem> {
    let known = match api.router.progress(job.key) {
        Some(live) => Some(live),
        None => api.store.progress(job.key).await?,
    };
    let mut value = match known {
        Some(view) => json::progress(&job.public_id, &view),
        None => json!({
            "job_id": job.public_id,
            "attempt": job.attempt,
            "overall_completion": 0.0,
            "time_elapsed": 0.0,
            "estimated_time_remaining": null,
            "entities": [],
            "updated_at": null,
        }),
    };
    value["status"] = job.state.web_status().into();
    Ok(value)
}

async fn find(api: &Api, id: &str) -> Result<JobView, Problem> {
    // Nothing is called so, and PostgreSQL refuses to look for it.
    if id.contains('\0') {
        return Err(Problem::not_found("job"));
    }
    api.store.job(id).await?.ok_or_else(|| Problem::not_found("job"))
}

/// Whole page of what a list query asks for, used by the live stream's first event.
pub(super) async fn newest(api: &Api, limit: usize) -> Result<Vec<JobView>, Problem> {
    let paging = Paging { limit, after: None };
    Ok(api.store.jobs(JobFilter::default(), paging).await?.items)
}
