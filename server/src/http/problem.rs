//! What the API says when it says no: problem details (RFC 9457) with a stable `code`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use crawlwire_progress::StoreError;
use crawlwire_protocol::Classify;
use crawlwire_protocol::explain::Violation;
use serde::Serialize;

use super::request_id;

/// An answer that is no success.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Problem {
    /// The HTTP status.
    #[serde(serialize_with = "as_number")]
    pub(crate) status: StatusCode,
    /// A stable name for programs.
    pub(crate) code: &'static str,
    /// A sentence for people: what is wrong and what to do.
    pub(crate) detail: String,
    /// Where in the request, one entry for each rule that is broken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<Violation>,
    #[serde(skip)]
    retry_after_seconds: Option<u64>,
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// A problem with a status, a code and a sentence.
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_seconds: None,
        }
    }

    /// The request breaks these rules.
    pub(crate) fn invalid(errors: Vec<Violation>) -> Self {
        let detail = "The request breaks the rules listed in errors.";
        Self {
            errors,
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail)
        }
    }

    /// There is no such thing.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("There is no such {what}."))
    }

    /// With the places in the request.
    pub(crate) fn at(self, errors: Vec<Violation>) -> Self {
        Self { errors, ..self }
    }

    /// With the places in a part of the request.
    pub(super) fn below(mut self, part: &str) -> Self {
        for error in &mut self.errors {
            error.path.insert_str(0, part);
        }
        self
    }

    /// Too much for now.
    pub(crate) fn too_many(code: &'static str, detail: impl Into<String>, retry_after_seconds: u64) -> Self {
        let retry_after_seconds = Some(retry_after_seconds);
        Self {
            retry_after_seconds,
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail)
        }
    }
}

impl From<StoreError> for Problem {
    /// The reason goes to the log; outside, only the kind is told.
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "request failed");
        match error.retry_after() {
            Some(after) => Self {
                retry_after_seconds: Some(after.as_secs().max(1)),
                ..Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    error.code(),
                    "The database is away. Try again soon.",
                )
            },
            None => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                error.code(),
                "The request could not be carried out.",
            ),
        }
    }
}

impl Problem {
    /// As it is told.
    pub(super) fn document(self) -> Document {
        Document {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            request_id: None,
            problem: self,
        }
    }
}

/// A problem with what every problem document has.
#[derive(Serialize)]
pub(super) struct Document {
    r#type: &'static str,
    title: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(flatten)]
    problem: Problem,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.status, self.retry_after_seconds);
        let document = Document {
            request_id: request_id::current(),
            ..self.document()
        };
        let mut response = (status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Gives answers of the framework itself (a body too long, a path that is no text, a timeout) the form of all others.
pub(super) async fn in_one_form(response: Response) -> Response {
    let status = response.status();
    let failed = status.is_client_error() || status.is_server_error();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let ours = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/"));
    if ours || !failed {
        return response;
    }
    let (code, detail) = match status {
        StatusCode::PAYLOAD_TOO_LARGE => ("body_too_large", "The body is longer than a job may be."),
        StatusCode::SERVICE_UNAVAILABLE => (
            "request_timeout",
            "The request was not complete in time; it may have had its effect.",
        ),
        _ if status.is_client_error() => ("bad_request", "The request cannot be understood."),
        _ => ("internal", "The request could not be carried out."),
    };
    let (mut parts, _) = response.into_parts();
    let (form, body) = Problem::new(status, code, detail).into_response().into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(form.headers);
    Response::from_parts(parts, body)
}
