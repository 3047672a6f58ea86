use std::sync::Arc;

use crawlwire_progress::Op;
use crawlwire_progress::store::Ending;
use crawlwire_progress::track::{Changes, Tracker};
use crawlwire_protocol::message::{JobCompleted, JobFailed, JobStarted, ProgressData};
use crawlwire_protocol::{Category, Severity};
use serde_json::json;

use super::{Speaking, ending, give, handler, implied_start, speaking};
use crate::context::Context;
use crate::handler::{Handled, Inbound, Processed};
use crate::shared::wall_clock;
use crate::track;

/// What is kept of a job's end, in bytes: it is shown in lists, and a line may be a thousand times longer.
const NAME_BYTES_MAX: usize = 256;
const TEXT_BYTES_MAX: usize = 8 * 1024;
const FILES_BYTES_MAX: usize = 32 * 1024;

handler!(OnStarted, JobStarted, on_started);
handler!(OnCompleted, JobCompleted, on_completed);
handler!(OnFailed, JobFailed, on_failed);

async fn on_started(context: &Context, message: &Inbound, _: &JobStarted) -> Handled {
    let speaking = match speaking(context, message).await {
        Ok(speaking) => speaking,
        Err(refused) => return refused,
    };
    let Some(start) = implied_start(&speaking) else {
        return Handled::Done(Processed::done());
    };
    let given = give(context, vec![start], &speaking).await;
    followed(context, &speaking).await;
    given
}

/// Follows the job, if it is not followed yet. Without the store, what a crawler said before is not known; then the sweep
/// tries again, and an end is kept with what it says itself.
async fn followed(context: &Context, speaking: &Speaking) {
    let Speaking { job, session, held } = speaking;
    if let Err(error) = track::follow(&context.shared, session, job.as_str(), held).await {
        tracing::debug!(%error, job = job.as_str(), "not followed");
    }
}

async fn on_completed(context: &Context, message: &Inbound, completed: &JobCompleted) -> Handled {
    let speaking = match ending(context, message).await {
        Ok(speaking) => speaking,
        Err(refused) => return refused,
    };
    followed(context, &speaking).await;
    let (session, held) = (&speaking.session, &speaking.held);
    let (progress, changes) =
        context
            .shared
            .live()
            .completed(held.key, held.current_attempt(), completed, wall_clock());
    // The fact tells of the phase.
    let changes = Changes { phase: None, ..changes };
    let files = within(&completed.output_files, FILES_BYTES_MAX);
    let result = json!({
        "summary": cut(&completed.summary, TEXT_BYTES_MAX),
        "output_files": files,
        "output_files_total": completed.output_files.len(),
        "total_duration": completed.total_duration,
    });
    let op = Op::Finish {
        job: held.key,
        holder: session.holder(held),
        ending: Ending::Completed {
            result: result.to_string(),
        },
        progress: Some(progress),
    };
    match give(context, vec![op], &speaking).await {
        Handled::Pending(pending) => {
            let shared = context.shared.clone();
            Handled::Pending(Box::pin(async move {
                let processed = pending.await;
                if processed.success {
                    track::tell(&shared, speaking.held.key, speaking.job.as_str(), changes);
                }
                processed
            }))
        }
        done => done,
    }
}

async fn on_failed(context: &Context, message: &Inbound, failed: &JobFailed) -> Handled {
    let speaking = match ending(context, message).await {
        Ok(speaking) => speaking,
        Err(refused) => return refused,
    };
    let progress = last_report(context, &speaking, failed.partial_results.as_deref()).await;
    let (session, held) = (&speaking.session, &speaking.held);
    let error = &failed.error_context;
    let told = json!({
        "error_type": cut(&error.error_type, NAME_BYTES_MAX),
        "error_message": cut(&error.error_message, TEXT_BYTES_MAX),
        "retry_count": error.retry_count,
        "is_recoverable": error.is_recoverable,
        "status_code": error.request_details.as_ref().and_then(|details| details.status_code),
        "recovery_suggestion": failed.recovery_suggestion.as_deref().map(|text| cut(text, TEXT_BYTES_MAX)),
    });
    context.log_error(
        Category::JobProcessing,
        if error.is_recoverable {
            Severity::Medium
        } else {
            Severity::High
        },
        "job_failed",
        Some(speaking.job.as_str()),
        // The crawler's own words are with the job; they may quote anything.
        format!("attempt {} failed, recoverable: {}", held.attempt, error.is_recoverable),
    );
    let op = Op::Finish {
        job: held.key,
        holder: session.holder(held),
        ending: Ending::Failed {
            error: told.to_string(),
            recoverable: error.is_recoverable,
        },
        progress,
    };
    give(context, vec![op], &speaking).await
}

/// The last report of a job that went wrong: what the crawler says at the end, or else what it said before, which may not
/// be written yet.
pub(super) async fn last_report(
    context: &Context,
    speaking: &Speaking,
    counts: Option<&[ProgressData]>,
) -> Option<Arc<Tracker>> {
    followed(context, speaking).await;
    let held = &speaking.held;
    let live = context.shared.live();
    let heard = live.get(held.key).is_some_and(|tracker| track::is_reported(tracker));
    (heard || counts.is_some()).then(|| live.failed(held.key, held.current_attempt(), counts, wall_clock()))
}

/// The beginning of a text.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// The first of some texts, as many as fit.
fn within(texts: &[String], bytes_max: usize) -> &[String] {
    let mut bytes = 0;
    let fits = |text: &&String| {
        bytes += text.len();
        bytes <= bytes_max
    };
    &texts[..texts.iter().take_while(fits).count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_an_end_is_bounded() {
        assert_eq!(cut("ßß", 3), "ß");
        assert_eq!(cut("a", 3), "a");
        let texts = ["aa".to_owned(), "b".to_owned(), "c".to_owned()];
        assert_eq!(within(&texts, 3), ["aa", "b"]);
        assert_eq!(within(&texts, 1), Vec::<String>::new());
    }
}
