//! Every message, one file per conversation.
//!
//! Facts about fields come from the API reference (lines 373 to 560); the bodies that it leaves open
//! (`job_started`, `job_completed`, `job_failed`, `token_refresh_request`, `shutdown`) follow what crawlers send.
//! In all of them unknown fields are ignored, an optional field may be absent but not `null`, and a known key may
//! not appear twice.

mod assignment;
mod discovery;
mod heartbeat;
mod job;
mod progress;
mod shutdown;
mod token;

pub use assignment::{JobAssignment, JobType};
pub use discovery::{DiscoveredJob, DiscoverySummary, JobsDiscovered};
pub use heartbeat::{Heartbeat, SystemStatus};
pub use job::{ErrorContext, JobCompleted, JobFailed, JobStarted, RequestDetails};
pub use progress::{JobProgress, ProgressData};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
pub use shutdown::Shutdown;
pub use token::{TokenRefreshRequest, TokenRefreshResponse};

use crate::envelope::Message;
use crate::strict::{Strict, strict};

strict!(
    DiscoveredJob,
    DiscoverySummary,
    ErrorContext,
    JobType,
    ProgressData,
    RequestDetails,
    SystemStatus
);

/// The messages of one direction: the enum, its kinds, and the table that ties names, rules and bodies together.
macro_rules! message_set {
    (
        $(#[$set_doc:meta])* $set:ident, $(#[$kind_doc:meta])* $kind:ident {
            $($(#[$doc:meta])* $variant:ident = $name:literal, job_id: $rule:ident;)+
        }
    ) => {
        $(#[$set_doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $set {
            $($(#[$doc])* $variant($variant),)+
        }

        $(#[$kind_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $kind {
            $($(#[$doc])* $variant,)+
        }

        impl $kind {
            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        impl Message for $set {
            type Kind = $kind;

            const KINDS: &'static [$kind] = &[$($kind::$variant),+];

            fn kind(&self) -> $kind {
                match self {
                    $(Self::$variant(_) => $kind::$variant,)+
                }
            }

            fn kind_named(name: &str) -> Option<$kind> {
                match name {
                    $($name => Some($kind::$variant),)+
                    _ => None,
                }
            }

            fn name_of(kind: $kind) -> &'static str {
                kind.as_str()
            }

            fn job_id_required(kind: $kind) -> bool {
                match kind {
                    $($kind::$variant => message_set!(@$rule),)+
                }
            }

            fn read_body<'de, D: Deserializer<'de>>(kind: $kind, deserializer: D) -> Result<Self, D::Error> {
                match kind {
                    $($kind::$variant => $variant::deserialize(Strict(deserializer)).map(Self::$variant),)+
                }
            }

            fn write_body<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                // For bodies with a secret this is their own function, not the trait's: see `JobAssignment`.
                match self {
                    $(Self::$variant(body) => $variant::serialize(body, serializer),)+
                }
            }

            #[cfg(feature = "schema")]
            fn body_schema(kind: $kind, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                match kind {
                    $($kind::$variant => generator.subschema_for::<$variant>(),)+
                }
            }
        }
    };
    (@required) => { true };
    (@optional) => { false };
}

message_set! {
    /// What a crawler says to the server.
    CrawlerMessage,
    /// The type of a [`CrawlerMessage`].
    CrawlerKind {
        /// The crawler is alive.
        Heartbeat = "heartbeat", job_id: optional;
        /// Work on a job began.
        JobStarted = "job_started", job_id: required;
        /// How far a job is.
        JobProgress = "job_progress", job_id: required;
        /// A job ended well.
        JobCompleted = "job_completed", job_id: required;
        /// A job ended badly.
        JobFailed = "job_failed", job_id: required;
        /// A job found more work.
        JobsDiscovered = "jobs_discovered", job_id: required;
        /// The token of a job stopped working.
        TokenRefreshRequest = "token_refresh_request", job_id: required;
    }
}

message_set! {
    /// What the server says to a crawler.
    WebAppMessage,
    /// The type of a [`WebAppMessage`].
    WebAppKind {
        /// Do this job.
        JobAssignment = "job_assignment", job_id: optional;
        /// The answer to a token refresh request; the envelope's job id says which job's.
        TokenRefreshResponse = "token_refresh_response", job_id: optional;
        /// The server is going away.
        Shutdown = "shutdown", job_id: optional;
    }
}
