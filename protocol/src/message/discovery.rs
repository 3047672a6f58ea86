use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::JobType;
use crate::scalar::{serialize_number, serialize_optional_numbers};
use crate::{Count, present};

/// A job found more work (API reference, lines 458 to 467). Each item becomes a child job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobsDiscovered {
    /// What was found.
    pub discovered_jobs: Vec<DiscoveredJob>,
    /// Totals for people.
    pub discovery_summary: DiscoverySummary,
}

/// One thing to crawl (API reference, lines 468 to 475).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self")]
pub struct DiscoveredJob {
    /// How to crawl it.
    pub job_type: JobType,
    /// Its id on the host.
    pub entity_id: String,
    /// Its path on the host.
    pub namespace_path: String,
    /// Its name for people.
    pub entity_name: String,
    /// Higher runs first; 0 to 10 is usual. Default 1.
    #[serde(default = "super::assignment::default_priority", serialize_with = "serialize_number")]
    pub priority: f64,
    /// Entity type to how many the crawler expects.
    #[serde(
        default,
        deserialize_with = "present::some",
        skip_serializing_if = "Option::is_none",
        serialize_with = "serialize_optional_numbers"
    )]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, f64>"))]
    pub estimated_size: Option<BTreeMap<String, f64>>,
}

/// Totals of a discovery (API reference, lines 498 to 503; the implementation summary has two of them only).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self")]
pub struct DiscoverySummary {
    /// Users found.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Count"))]
    pub total_users: Option<Count>,
    /// Groups found.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Count"))]
    pub total_groups: Option<Count>,
    /// Projects found.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Count"))]
    pub total_projects: Option<Count>,
    /// Levels of groups below the start.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Count"))]
    pub hierarchy_depth: Option<Count>,
}
