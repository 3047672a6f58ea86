//! The error taxonomy: twelve categories and four severities (API reference, lines 568 to 588), with stable codes.
//!
//! Severity decides who is told; category and code decide the answer. A code is a promise: it is never renamed or used
//! for something else.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which part of the system an error comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// A connection could not be made or kept.
    Connection,
    /// A line is not JSON.
    MessageParsing,
    /// A message breaks a rule.
    MessageValidation,
    /// The database.
    Database,
    /// Work on a job.
    JobProcessing,
    /// Who somebody is, or what they may do.
    Authentication,
    /// Too much in too short a time.
    RateLimiting,
    /// The network between us and somebody else.
    Network,
    /// Something took too long.
    Timeout,
    /// Memory, disk, file handles, queue places.
    Resource,
    /// A setting.
    Configuration,
    /// A defect of ours.
    Internal,
}

impl Category {
    /// All twelve, in the order of the taxonomy.
    pub const ALL: [Self; 12] = [
        Self::Connection,
        Self::MessageParsing,
        Self::MessageValidation,
        Self::Database,
        Self::JobProcessing,
        Self::Authentication,
        Self::RateLimiting,
        Self::Network,
        Self::Timeout,
        Self::Resource,
        Self::Configuration,
        Self::Internal,
    ];

    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::MessageParsing => "message_parsing",
            Self::MessageValidation => "message_validation",
            Self::Database => "database",
            Self::JobProcessing => "job_processing",
            Self::Authentication => "authentication",
            Self::RateLimiting => "rate_limiting",
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::Resource => "resource",
            Self::Configuration => "configuration",
            Self::Internal => "internal",
        }
    }
}

/// How bad an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Expected now and then; nobody needs to look.
    Low,
    /// Worth a look when it repeats.
    Medium,
    /// Somebody should look today.
    High,
    /// Somebody should look now.
    Critical,
}

impl Severity {
    /// All four, the mildest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// What every error of ours can say of itself.
pub trait Classify: std::error::Error {
    /// Where it comes from.
    fn category(&self) -> Category;

    /// How bad it is.
    fn severity(&self) -> Severity;

    /// A stable name for programs, in snake case.
    fn code(&self) -> &'static str;

    /// When trying again may help, and no sooner than after this long; `None` when it will not.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}
