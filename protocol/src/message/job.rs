use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ProgressData;
use crate::scalar::serialize_optional_number;
use crate::{Count, Millis, present};

/// Work on an assigned job began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobStarted {
    /// The type of the job, in the crawler's words.
    pub job_type: String,
    /// What kind of entity is crawled first.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub entity_type: Option<String>,
    /// The path of the group or project.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub namespace_path: Option<String>,
    /// How long the crawler thinks it will take.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Millis"))]
    pub estimated_duration: Option<Millis>,
}

/// A job ended well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobCompleted {
    /// The type of the job, in the crawler's words.
    pub job_type: String,
    /// The totals.
    pub final_counts: Vec<ProgressData>,
    /// From start to end.
    pub total_duration: Millis,
    /// Files the crawler wrote, as it names them.
    pub output_files: Vec<String>,
    /// A sentence for people.
    pub summary: String,
}

/// A job ended badly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobFailed {
    /// The type of the job, in the crawler's words.
    pub job_type: String,
    /// What went wrong.
    pub error_context: ErrorContext,
    /// What had been done by then.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<ProgressData>"))]
    pub partial_results: Option<Vec<ProgressData>>,
    /// Advice for people.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub recovery_suggestion: Option<String>,
}

/// What went wrong in a crawl.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self")]
pub struct ErrorContext {
    /// A short name, such as `HttpError`.
    pub error_type: String,
    /// A sentence for people.
    pub error_message: String,
    /// Where in the crawler's code.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub stack_trace: Option<String>,
    /// The request that failed.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "RequestDetails"))]
    pub request_details: Option<RequestDetails>,
    /// Retries the crawler itself made. Default 0.
    #[serde(default)]
    pub retry_count: Count,
    /// Whether trying the job again may help; `false` fails it for good. Default true.
    #[serde(default = "recoverable_by_default")]
    pub is_recoverable: bool,
}

const fn recoverable_by_default() -> bool {
    true
}

/// The request that failed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self")]
pub struct RequestDetails {
    /// `GET`, `POST` …
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub method: Option<String>,
    /// Where to.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub url: Option<String>,
    /// The HTTP status; any number is taken.
    #[serde(
        default,
        deserialize_with = "present::some",
        skip_serializing_if = "Option::is_none",
        serialize_with = "serialize_optional_number"
    )]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub status_code: Option<f64>,
    /// Headers of the answer.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, String>"))]
    pub response_headers: Option<BTreeMap<String, String>>,
}
