use std::fmt;

use serde::{Deserialize, Serialize};

use super::Counts;
use super::shape::two_shapes;
use crate::scalar::serialize_number;
use crate::{AccessToken, Count, Cursor, present, secret};

/// What there is to crawl (API reference, line 469).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum JobType {
    /// Find groups, projects and users.
    DiscoverNamespaces,
    /// Crawl one user.
    CrawlUser,
    /// Crawl one group.
    CrawlGroup,
    /// Crawl one project.
    CrawlProject,
}

impl JobType {
    /// All four.
    pub const ALL: [Self; 4] = [
        Self::DiscoverNamespaces,
        Self::CrawlUser,
        Self::CrawlGroup,
        Self::CrawlProject,
    ];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DiscoverNamespaces => "discover_namespaces",
            Self::CrawlUser => "crawl_user",
            Self::CrawlGroup => "crawl_group",
            Self::CrawlProject => "crawl_project",
        }
    }

    /// The type with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job_type| job_type.as_str() == name)
    }

    /// The crawl command that the web app knows this type by.
    pub const fn command(self) -> &'static str {
        match self {
            Self::DiscoverNamespaces => "GROUP_PROJECT_DISCOVERY",
            Self::CrawlUser => "users",
            Self::CrawlGroup => "group",
            Self::CrawlProject => "project",
        }
    }
}

impl fmt::Display for JobType {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

two_shapes! {
    /// Do this job (API reference, lines 519 to 528).
    ///
    /// It carries a token, so it has no `Serialize` and its `Debug` leaves the token out. The derived code becomes a plain
    /// function (`remote = "Self"`) that the wire encoder alone calls.
    pub struct JobAssignment, base: BaseJobAssignment as "JobAssignment" {
        /// The job. May be any string on the wire; ours never is empty.
        pub job_id: String,
        /// What to do.
        pub job_type: JobType,
        /// The id on the host.
        #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        pub entity_id: Option<String>,
        /// The path on the host.
        #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        pub namespace_path: Option<String>,
        /// A bare host or a URL; both occur.
        pub gitlab_host: String,
        /// The token to work with.
        #[serde(serialize_with = "secret::expose_on_the_wire")]
        pub access_token: AccessToken,
        /// Higher runs first. Default 1.
        #[serde(default = "default_priority", serialize_with = "serialize_number")]
        pub priority: f64,
        /// Whether to go on where an earlier attempt stopped. Default false.
        #[serde(default)]
        pub resume: bool,
    session {
        /// Where an earlier attempt can be taken up, in the words of the crawler that made it. Session dialect only.
        #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "Cursor"))]
        pub checkpoint: Option<Cursor>,
        /// What was counted when the job was last heard of, as it is stored: it may be ahead of the checkpoint. Session
        /// dialect only.
        #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "Counts"))]
        pub counts: Option<Counts>,
        /// Which attempt this is, from 1. Session dialect only.
        #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "Count"))]
        pub attempt: Option<Count>,
    }
    }
}

pub(super) const fn default_priority() -> f64 {
    1.0
}

impl fmt::Debug for JobAssignment {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter
            .debug_struct("JobAssignment")
            .field("job_id", &self.job_id)
            .field("job_type", &self.job_type)
            .field("entity_id", &self.entity_id)
            .field("namespace_path", &self.namespace_path)
            .field("gitlab_host", &self.gitlab_host)
            .field("priority", &self.priority)
            .field("resume", &self.resume)
            .field("checkpoint", &self.checkpoint)
            .field("counts", &self.counts)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
