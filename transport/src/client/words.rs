//! From what the author means to messages, in the words of either dialect.

use crawlwire_protocol::limits::LEASES_MAX;
use crawlwire_protocol::message::{
    ErrorContext, Heartbeat, HeldLease, JobCancelled, JobCompleted, JobFailed, JobPaused, JobReturned, JobStarted,
    SystemStatus,
};
use crawlwire_protocol::{
    Count, CrawlerMessage, Dialect, Envelope, FenceNo, JobId, List, Marks, Seq, Text, WireTime, encode,
};

use super::held::{Held, Wish};
use super::outbox::Kind;

/// The longest `namespace_path` that is said back: the longest path an operating system knows.
const PATH_BYTES_MAX: usize = 4096;

/// How a job ends for this crawler.
#[derive(Debug)]
pub(super) enum End {
    Completed(JobCompleted),
    Failed(JobFailed),
    /// It stopped because it was told to.
    Stopped,
    /// It goes back to the queue.
    Returned(&'static str),
    /// The author's code panicked.
    Panicked,
}

/// The end in the words of a dialect. The base protocol has no word for giving a job back: there it fails, and may be
/// tried again.
pub(super) fn end(end: End, held: &Held, dialect: Dialect) -> (Kind, CrawlerMessage) {
    let returned = |reason: &'static str| match dialect {
        Dialect::Session => {
            let reason = Some(Text::cut(reason));
            (Kind::SessionEnd, CrawlerMessage::JobReturned(JobReturned { reason }))
        }
        Dialect::Base => (Kind::End, failed(held, "given_back", reason)),
    };
    match end {
        End::Completed(completed) => (Kind::End, CrawlerMessage::JobCompleted(completed)),
        End::Failed(failed) => (Kind::End, CrawlerMessage::JobFailed(failed)),
        End::Panicked => (
            Kind::End,
            failed(held, "panic", "the crawler's code for this job panicked"),
        ),
        End::Returned(reason) => returned(reason),
        End::Stopped => {
            let final_counts = Some(List::cut(held.counts())).filter(|counts| !counts.is_empty());
            match (held.wish, dialect) {
                (Some(Wish::Cancel), Dialect::Session) => {
                    let cancelled = JobCancelled { final_counts };
                    (Kind::SessionEnd, CrawlerMessage::JobCancelled(cancelled))
                }
                (Some(Wish::Pause), Dialect::Session) => {
                    let paused = JobPaused { final_counts };
                    (Kind::SessionEnd, CrawlerMessage::JobPaused(paused))
                }
                _ => returned("stopped"),
            }
        }
    }
}

/// A failure that the client speaks of itself. Trying again may help.
pub(super) fn failed(held: &Held, error_type: &str, message: &str) -> CrawlerMessage {
    let counts = held.counts();
    CrawlerMessage::JobFailed(JobFailed {
        job_type: held.job_type.to_string(),
        error_context: ErrorContext {
            error_type: error_type.to_owned(),
            error_message: message.to_owned(),
            stack_trace: None,
            request_details: None,
            retry_count: Count::default(),
            is_recoverable: true,
        },
        partial_results: (!counts.is_empty()).then_some(counts),
        recovery_suggestion: None,
    })
}

pub(super) fn started(held: &Held) -> CrawlerMessage {
    let path = held.namespace_path.clone();
    CrawlerMessage::JobStarted(JobStarted {
        job_type: held.job_type.to_string(),
        entity_type: None,
        namespace_path: path.filter(|path| path.len() <= PATH_BYTES_MAX),
        estimated_duration: None,
    })
}

pub(super) fn heartbeat(
    jobs: usize,
    status: SystemStatus,
    last_activity: &WireTime,
    leases: Option<List<HeldLease, LEASES_MAX>>,
) -> CrawlerMessage {
    CrawlerMessage::Heartbeat(Heartbeat {
        active_jobs: Count::try_from(jobs as u64).unwrap_or_default(),
        last_activity: last_activity.clone(),
        system_status: status,
        jobs: leases,
    })
}

/// The marks of a message about a job.
pub(super) fn marks(fence: Option<FenceNo>, seq: Option<u64>, n: Option<u64>) -> Marks {
    Marks {
        seq: seq.and_then(Seq::new),
        fence,
        n,
    }
}

/// One line. `None` when it holds what JSON cannot say, which is logged.
pub(super) fn line(job: Option<&JobId>, marks: Marks, message: CrawlerMessage) -> Option<Vec<u8>> {
    let envelope = Envelope {
        timestamp: WireTime::now(),
        job_id: job.cloned(),
        marks,
        message,
    };
    encode(&envelope)
        .inspect_err(|error| tracing::error!(%error, "a message cannot be written"))
        .ok()
}
