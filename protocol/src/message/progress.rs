use serde::{Deserialize, Serialize};

use crate::scalar::serialize_optional_number;
use crate::{Count, Fraction, Millis, present};

/// How far a job is (API reference, lines 404 to 414). The newest one counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobProgress {
    /// Counts per kind of entity.
    pub progress: Vec<ProgressData>,
    /// The crawler's own estimate of the whole.
    pub overall_completion: Fraction,
    /// Since the job started.
    pub time_elapsed: Millis,
    /// The crawler's own estimate.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Millis"))]
    pub estimated_time_remaining: Option<Millis>,
    /// The type of the job, in the crawler's words.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub job_type: Option<String>,
}

/// Counts of one kind of entity (API reference, lines 416 to 424).
///
/// More processed than discovered is accepted: collections shrink while they are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self")]
pub struct ProgressData {
    /// `projects`, `issues`, `commits` …
    pub entity_type: String,
    /// Found so far.
    pub total_discovered: Count,
    /// Done so far.
    pub total_processed: Count,
    /// The page being read.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Count"))]
    pub current_page: Option<Count>,
    /// Entities on a page.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Count"))]
    pub items_per_page: Option<Count>,
    /// A collection below the entity, such as the notes of an issue.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub sub_collection: Option<String>,
    /// Entities still to do, as the crawler guesses.
    #[serde(
        default,
        deserialize_with = "present::some",
        skip_serializing_if = "Option::is_none",
        serialize_with = "serialize_optional_number"
    )]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub estimated_remaining: Option<f64>,
}

impl ProgressData {
    /// Counts of an entity type, nothing more.
    pub fn new(entity_type: impl Into<String>, total_discovered: Count, total_processed: Count) -> Self {
        Self {
            entity_type: entity_type.into(),
            total_discovered,
            total_processed,
            current_page: None,
            items_per_page: None,
            sub_collection: None,
            estimated_remaining: None,
        }
    }
}
