//! New jobs, from a request body.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use crawlwire_progress::job::JobLimits;
use crawlwire_progress::store::{self, NewJob, Outcome, Rejection, SELECTED_MAX};
use crawlwire_progress::view::{JobSpec, JobView};
use crawlwire_protocol::AccessToken;
use crawlwire_protocol::explain::Violation;
use crawlwire_protocol::message::JobType;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::body::Fields;
use super::jobs::find;
use super::problem::Problem;
use super::{Api, json};

/// Bounds of what the web app may attach to a job; it is kept as long as the job.
const TAGS_MAX: usize = 50;
const TAG_CHARS_MAX: usize = 100;
const METADATA_BYTES_MAX: usize = 16 * 1024;

/// Words a crawler must have. Each claim compares them, and a list of them makes a lane of the queue.
const LABELS_MAX: usize = 16;
const LABEL_CHARS_MAX: usize = 64;

/// Jobs of one request: as many as one transaction should take.
const BATCH_JOBS_MAX: usize = SELECTED_MAX;

/// How long a web app should wait when the queue is full.
const QUEUE_FULL_RETRY_SECONDS: u64 = 5;

/// The header by which a repeated submission is known, and the one that says that it was repeated.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Characters of a key.
const KEY_CHARS_MAX: usize = 255;

pub(super) async fn create(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let once = Once::of(&headers, &body)?;
    let mut job = read_job(Fields::of(&headers, &body)?).map_err(Problem::invalid)?;
    job.once = once.map(|once| once.of_one());
    let outcome = api.router.submit(job).await?;
    let (job, replayed) = created(&api, outcome).await?;
    let location = format!("/api/v1/jobs/{}", job.public_id);
    let mut response = (
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        Json(json::job(&job)),
    )
        .into_response();
    if replayed {
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Many jobs in one request, each taken or refused by itself.
pub(super) async fn create_all(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let once = Once::of(&headers, &body)?;
    let mut fields = Fields::of(&headers, &body)?;
    let items = fields.items("jobs", BATCH_JOBS_MAX);
    let items = fields.finish_strict(Some(items))?;
    let mut jobs = Vec::with_capacity(items.len());
    let mut refused = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        match read_item(item) {
            Ok(job) => jobs.push(NewJob {
                once: once.as_ref().map(|once| once.of_item(index)),
                ..job
            }),
            Err(problem) => drop(refused.insert(index, problem)),
        }
    }
    let outcomes = match api.router.submit_all(jobs).await? {
        Outcome::SubmittedAll(outcomes) => outcomes,
        other => return Err(not_created(&other)),
    };
    let mut outcomes = outcomes.into_iter();
    let (mut answers, mut any_replayed) = (Vec::with_capacity(items.len()), false);
    for index in 0..items.len() {
        let created = match refused.remove(&index) {
            Some(problem) => Err(problem),
            // One for each that was given.
            None => match outcomes.next() {
                Some(outcome) => created(&api, outcome).await,
                None => break,
            },
        };
        answers.push(match created {
            Ok((job, replayed)) => {
                any_replayed |= replayed;
                json!({ "job": json::job(&job) })
            }
            Err(problem) => json!({ "problem": problem.below(&format!("/jobs/{index}")).document() }),
        });
    }
    let mut response = Json(json!({ "items": answers })).into_response();
    if any_replayed {
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn read_item(item: &Value) -> Result<NewJob, Problem> {
    match item {
        Value::Object(object) => read_job(Fields::new(object.clone())).map_err(Problem::invalid),
        _ => Err(Problem::invalid(vec![Violation::new("", "expected an object")])),
    }
}

/// The job that a submission made, or an earlier one with the same key.
async fn created(api: &Api, outcome: Outcome) -> Result<(JobView, bool), Problem> {
    match outcome {
        Outcome::Submitted(view) => Ok((*view, false)),
        Outcome::Repeated { public_id } => Ok((find(api, &public_id).await?, true)),
        other => Err(not_created(&other)),
    }
}

fn not_created(outcome: &Outcome) -> Problem {
    match outcome {
        Outcome::Refused(Rejection::QueueFull { limit }) => Problem::too_many(
            "queue_full",
            format!("{limit} jobs wait already (max_queued_jobs). Try again later."),
            QUEUE_FULL_RETRY_SECONDS,
        ),
        Outcome::Refused(Rejection::NameTaken { public_id }) => {
            let detail = format!("The web_app_job_id names job {public_id} already.");
            Problem::new(StatusCode::CONFLICT, "web_app_job_id_taken", detail)
                .at(vec![Violation::new("/web_app_job_id", "is taken")])
        }
        Outcome::Refused(Rejection::KeyReused) => {
            let detail = "The Idempotency-Key was used for a request with another body. Take a new key.";
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
        }
        outcome => {
            tracing::error!(?outcome, "unexpected outcome of a submission");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "The job could not be created.",
            )
        }
    }
}

/// What a request says of being repeated.
struct Once {
    key: String,
    fingerprint: i64,
}

impl Once {
    /// None without the header.
    fn of(headers: &HeaderMap, body: &Bytes) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let key = value
            .to_str()
            .ok()
            .filter(|key| (1..=KEY_CHARS_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()));
        let (Some(key), None) = (key, values.next()) else {
            let rule =
                format!("the header Idempotency-Key: expected 1 to {KEY_CHARS_MAX} visible characters of ASCII, once");
            return Err(Problem::invalid(vec![Violation::new("", rule)]));
        };
        Ok(Some(Self {
            key: key.to_owned(),
            fingerprint: fingerprint(body),
        }))
    }

    /// A space keeps the two kinds apart, since no key has one.
    fn of_one(&self) -> store::Once {
        self.named(format!("job {}", self.key))
    }

    fn of_item(&self, index: usize) -> store::Once {
        self.named(format!("{index} {}", self.key))
    }

    fn named(&self, key: String) -> store::Once {
        store::Once {
            key,
            fingerprint: self.fingerprint,
        }
    }
}

/// The first 64 bits of the SHA-256 of what a body says, however it is written.
fn fingerprint(body: &Bytes) -> i64 {
    let value = serde_json::from_slice::<Value>(body);
    let hash = Sha256::digest(value.map_or_else(|_| body.to_vec(), |value| value.to_string().into_bytes()));
    hash.iter().take(8).fold(0, |bits, byte| bits << 8 | i64::from(*byte))
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
            // Set by the header, if at all.
            once: None,
            // The router knows better.
            weight: 0,
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
