//! A new job, from a request body.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use crawlwire_progress::job::JobLimits;
use crawlwire_progress::store::{NewJob, Outcome, Rejection};
use crawlwire_progress::view::JobSpec;
use crawlwire_protocol::AccessToken;
use crawlwire_protocol::explain::Violation;
use crawlwire_protocol::message::JobType;
use uuid::Uuid;

use super::body::Fields;
use super::problem::Problem;
use super::{Api, json};

/// Bounds of what the web app may attach to a job; it is kept as long as the job.
const TAGS_MAX: usize = 50;
const TAG_CHARS_MAX: usize = 100;
const METADATA_BYTES_MAX: usize = 16 * 1024;

/// Words a crawler must have. Each claim compares them, and a list of them makes a lane of the queue.
const LABELS_MAX: usize = 16;
const LABEL_CHARS_MAX: usize = 64;

/// How long a web app should wait when the queue is full.
const QUEUE_FULL_RETRY_SECONDS: u64 = 5;

pub(super) async fn create(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let job = read_job(Fields::of(&headers, &body)?).map_err(Problem::invalid)?;
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
    let host = fields.host("gitlab_host");
    let providers = [("gitlab-onprem", "gitlab-onprem"), ("gitlab-cloud", "gitlab-cloud")];
    let provider = fields.string("provider");
    let provider = fields.one_of("provider", provider, &providers).map(str::to_owned);
    let web_app_job_id = fields.name("web_app_job_id");
    let access_token = fields.string("access_token").map(AccessToken::new);
    let resume = fields.boolean("resume").unwrap_or(false);
    let run_at = fields.time("run_at");
    let entity_id = fields.string("entity_id");
    let namespace_path = fields.string("namespace_path");
    let priority = fields.number("priority").unwrap_or(1.0);
    let labels = fields.words("labels", LABELS_MAX, LABEL_CHARS_MAX);
    let limits = read_limits(&mut fields);
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
            run_at,
            limits,
            spec: JobSpec {
                job_type,
                host,
                entity_id,
                namespace_path,
                entity_name: None,
                priority,
                labels,
                provider,
                user_id,
                created_by_user_id,
                tags,
                metadata,
            },
        });
    fields.finish(job)
}

/// What the job asks for in place of the server's settings of the same names.
fn read_limits(fields: &mut Fields) -> JobLimits {
    JobLimits {
        timeout: fields.duration_in_place_of("job_timeout_ms"),
        retry_attempts: fields
            .in_place_of("retry_attempts")
            .and_then(|attempts| attempts.try_into().ok()),
        retry_delay: fields.duration_in_place_of("retry_delay_ms"),
    }
}
