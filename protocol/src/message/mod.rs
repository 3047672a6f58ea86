//! Every message, one file per conversation.
//!
//! Facts about fields come from the API reference (lines 373 to 560); the bodies that it leaves open
//! (`job_started`, `job_completed`, `job_failed`, `token_refresh_request`, `shutdown`) follow what crawlers send.
//! What the session dialect adds is our own. In all of them unknown fields are ignored, an optional field may be absent
//! but not `null`, and a known key may not appear twice.

mod assignment;
mod discovery;
mod heartbeat;
mod hello;
mod job;
mod progress;
mod session;
mod shape;
mod shutdown;
mod token;
mod wish;

use assignment::BaseJobAssignment;
pub use assignment::{JobAssignment, JobType};
pub use discovery::{DiscoveredJob, DiscoverySummary, JobsDiscovered};
use heartbeat::BaseHeartbeat;
pub use heartbeat::{Heartbeat, SystemStatus};
pub use hello::{
    CrawlerId, Feature, HeldLease, Hello, HighWater, InstanceId, RefusedNumber, Role, ServerInfo, Slots, Software,
    VERSION, Welcome,
};
pub use job::{ErrorContext, JobCompleted, JobFailed, JobStarted, RequestDetails};
pub use progress::{JobProgress, ProgressData};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
pub use session::{
    Ack, ApiLimited, BrokenRule, Compressed, Draining, ErrorReply, Goodbye, JobRequest, Nonce, Ping, Pong,
    ReportPolicy, ServerGoodbye, ZSTD,
};
pub use shutdown::Shutdown;
pub use token::{TokenRefreshRequest, TokenRefreshResponse};
pub use wish::{
    Checkpoint, Counts, JobCancel, JobCancelled, JobPause, JobPaused, JobResume, JobResumed, JobReturned, NOT_YOURS,
};

use crate::dialect::{Dialect, Mark};
use crate::envelope::Message;
use crate::strict::{Strict, strict};

strict!(
    BrokenRule,
    DiscoveredJob,
    DiscoverySummary,
    ErrorContext,
    HeldLease,
    JobType,
    ProgressData,
    RefusedNumber,
    ReportPolicy,
    RequestDetails,
    ServerInfo,
    Software,
    SystemStatus
);

/// The messages of one direction: the enum, its kinds, and the table that ties names, rules and bodies together.
macro_rules! message_set {
    (
        $(#[$set_doc:meta])* $set:ident, $(#[$kind_doc:meta])* $kind:ident {
            $(
                $(#[$doc:meta])*
                $variant:ident($body:ident $(, base: $base:ident)?) = $name:literal in $dialects:ident,
                job_id: $rule:ident, marks: [$($mark:ident),*];
            )+
        }
    ) => {
        $(#[$set_doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $set {
            $($(#[$doc])* $variant($body),)+
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

            fn kind_named(name: &str, dialect: Dialect) -> Option<$kind> {
                let kind = match name {
                    $($name => $kind::$variant,)+
                    _ => return None,
                };
                (dialect == Dialect::Session || !Self::is_extension(kind)).then_some(kind)
            }

            fn name_of(kind: $kind) -> &'static str {
                kind.as_str()
            }

            fn is_extension(kind: $kind) -> bool {
                match kind {
                    $($kind::$variant => message_set!(@$dialects),)+
                }
            }

            fn job_id_required(kind: $kind) -> bool {
                match kind {
                    $($kind::$variant => message_set!(@$rule),)+
                }
            }

            fn marks(kind: $kind) -> &'static [Mark] {
                match kind {
                    $($kind::$variant => &[$(Mark::$mark),*],)+
                }
            }

            fn read_body<'de, D: Deserializer<'de>>(
                kind: $kind,
                dialect: Dialect,
                deserializer: D,
            ) -> Result<Self, D::Error> {
                match (kind, dialect) {
                    $(
                        $(($kind::$variant, Dialect::Base) => {
                            $base::deserialize(Strict(deserializer)).map(|body| Self::$variant(body.into()))
                        })?
                        ($kind::$variant, _) => $body::deserialize(Strict(deserializer)).map(Self::$variant),
                    )+
                }
            }

            fn write_body<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                // For bodies with a secret this is their own function, not the trait's: see `JobAssignment`.
                match self {
                    $(Self::$variant(body) => $body::serialize(body, serializer),)+
                }
            }

            #[cfg(feature = "schema")]
            fn body_schema(
                kind: $kind,
                dialect: Dialect,
                generator: &mut schemars::SchemaGenerator,
            ) -> schemars::Schema {
                match (kind, dialect) {
                    $(
                        $(($kind::$variant, Dialect::Base) => generator.subschema_for::<$base>(),)?
                        ($kind::$variant, _) => generator.subschema_for::<$body>(),
                    )+
                }
            }
        }
    };
    (@both) => { false };
    (@session) => { true };
    (@required) => { true };
    (@optional) => { false };
}

message_set! {
    /// What a crawler says to the server.
    CrawlerMessage,
    /// The type of a [`CrawlerMessage`].
    CrawlerKind {
        /// The crawler is alive.
        Heartbeat(Heartbeat, base: BaseHeartbeat) = "heartbeat" in both, job_id: optional, marks: [];
        /// Work on a job began.
        JobStarted(JobStarted) = "job_started" in both, job_id: required, marks: [Seq, Fence];
        /// How far a job is.
        JobProgress(JobProgress) = "job_progress" in both, job_id: required, marks: [Fence, N];
        /// A job ended well.
        JobCompleted(JobCompleted) = "job_completed" in both, job_id: required, marks: [Seq, Fence];
        /// A job ended badly.
        JobFailed(JobFailed) = "job_failed" in both, job_id: required, marks: [Seq, Fence];
        /// A job found more work.
        JobsDiscovered(JobsDiscovered) = "jobs_discovered" in both, job_id: required, marks: [Seq, Fence];
        /// The token of a job stopped working.
        TokenRefreshRequest(TokenRefreshRequest) = "token_refresh_request" in both,
        job_id: required, marks: [Fence, N];
        /// The first line of a session.
        Hello(Hello) = "hello" in session, job_id: optional, marks: [];
        /// How many jobs the crawler wants.
        JobRequest(JobRequest) = "job_request" in session, job_id: optional, marks: [];
        /// Where a job can be taken up again.
        Checkpoint(Checkpoint) = "checkpoint" in session, job_id: required, marks: [Seq, Fence];
        /// A job was stopped for good, as asked.
        JobCancelled(JobCancelled) = "job_cancelled" in session, job_id: required, marks: [Seq, Fence];
        /// A job was stopped for a while, as asked.
        JobPaused(JobPaused) = "job_paused" in session, job_id: required, marks: [Seq, Fence];
        /// A job goes on, as asked.
        JobResumed(JobResumed) = "job_resumed" in session, job_id: required, marks: [Seq, Fence];
        /// A job is given back unfinished.
        JobReturned(JobReturned) = "job_returned" in session, job_id: required, marks: [Seq, Fence];
        /// The host of a job limits requests.
        ApiLimited(ApiLimited) = "api_limited" in session, job_id: required, marks: [Fence];
        /// The crawler leaves.
        Goodbye(Goodbye) = "goodbye" in session, job_id: optional, marks: [];
        /// Asks for a pong.
        Ping(Ping) = "ping" in session, job_id: optional, marks: [];
        /// Answers a ping.
        Pong(Pong) = "pong" in session, job_id: optional, marks: [];
        /// Another line, made smaller.
        Compressed(Compressed) = "compressed" in session, job_id: optional, marks: [];
    }
}

message_set! {
    /// What the server says to a crawler.
    WebAppMessage,
    /// The type of a [`WebAppMessage`].
    WebAppKind {
        /// Do this job.
        JobAssignment(JobAssignment, base: BaseJobAssignment) = "job_assignment" in both,
        job_id: optional, marks: [Fence];
        /// The answer to a token refresh request; the envelope's job id says which job's.
        TokenRefreshResponse(TokenRefreshResponse) = "token_refresh_response" in both,
        job_id: optional, marks: [Fence, N];
        /// The server is going away.
        Shutdown(Shutdown) = "shutdown" in both, job_id: optional, marks: [];
        /// The terms of the session.
        Welcome(Welcome) = "welcome" in session, job_id: optional, marks: [];
        /// What is settled.
        Ack(Ack) = "ack" in session, job_id: optional, marks: [];
        /// A message was refused.
        Error(ErrorReply) = "error" in session, job_id: optional, marks: [];
        /// Stop a job for good.
        JobCancel(JobCancel) = "job_cancel" in session, job_id: required, marks: [Fence];
        /// Stop a job for a while.
        JobPause(JobPause) = "job_pause" in session, job_id: required, marks: [Fence];
        /// The pause was taken back.
        JobResume(JobResume) = "job_resume" in session, job_id: required, marks: [Fence];
        /// How often to report.
        ReportPolicy(ReportPolicy) = "report_policy" in session, job_id: optional, marks: [];
        /// The server is about to stop.
        Draining(Draining) = "draining" in session, job_id: optional, marks: [];
        /// The last line before the server closes the connection.
        Goodbye(ServerGoodbye) = "goodbye" in session, job_id: optional, marks: [];
        /// Asks for a pong.
        Ping(Ping) = "ping" in session, job_id: optional, marks: [];
        /// Answers a ping.
        Pong(Pong) = "pong" in session, job_id: optional, marks: [];
        /// Another line, made smaller.
        Compressed(Compressed) = "compressed" in session, job_id: optional, marks: [];
    }
}
