//! What the server wants of a job that is being worked on, what the crawler answers, and where it can go on.

use serde::{Deserialize, Serialize};

use super::ProgressData;
use crate::limits::FINAL_COUNTS_MAX;
use crate::{Cursor, List, Millis, Words, present};

/// The reason of a `job_cancel` for a job that is not, or no more, the crawler's: drop it and confirm nothing.
pub const NOT_YOURS: &str = "not_yours";

/// What was counted of a job, at its end or when it was last heard of.
pub type Counts = List<ProgressData, FINAL_COUNTS_MAX>;

/// Stop this job for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobCancel {
    /// Why, for people; `not_yours` is for programs, see [`NOT_YOURS`].
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Words"))]
    pub reason: Option<Words>,
    /// Time left to confirm.
    pub deadline_ms: Millis,
}

/// Stop this job; it will go on later, perhaps elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobPause {
    /// Why, for people.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Words"))]
    pub reason: Option<Words>,
    /// Time left to confirm.
    pub deadline_ms: Millis,
}

/// The wish to pause was taken back: go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobResume {}

/// The job was stopped as `job_cancel` asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobCancelled {
    /// What had been done by then.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Counts"))]
    pub final_counts: Option<Counts>,
}

/// The job was stopped as `job_pause` asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobPaused {
    /// What had been done by then.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Counts"))]
    pub final_counts: Option<Counts>,
}

/// The crawler goes on as `job_resume` asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobResumed {}

/// The crawler gives a job back unfinished. That is no failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobReturned {
    /// Why, for people.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Words"))]
    pub reason: Option<Words>,
}

/// Where the job can be taken up again. The last one settled goes to the next attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Checkpoint {
    /// The crawler's own words.
    pub cursor: Cursor,
}
