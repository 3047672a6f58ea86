use crawlwire_progress::Op;
use crawlwire_progress::store::Ending;
use crawlwire_protocol::message::{JobCompleted, JobFailed, JobStarted};
use crawlwire_protocol::{Category, Severity};
use serde_json::json;

use super::{ensure_started, give, handler, speaking};
use crate::context::{Context, wall_clock};
use crate::handler::{Handled, Inbound, Processed};

handler!(OnStarted, JobStarted, on_started);
handler!(OnCompleted, JobCompleted, on_completed);
handler!(OnFailed, JobFailed, on_failed);

async fn on_started(context: &Context, message: &Inbound, _: &JobStarted) -> Handled {
    let speaking = match speaking(context, message).await {
        Ok(speaking) => speaking,
        Err(refused) => return refused,
    };
    ensure_started(context, &speaking)
        .await
        .unwrap_or_else(|| Handled::Done(Processed::done()))
}

async fn on_completed(context: &Context, message: &Inbound, completed: &JobCompleted) -> Handled {
    let speaking = match speaking(context, message).await {
        Ok(speaking) => speaking,
        Err(refused) => return refused,
    };
    let (session, held) = (&speaking.session, &speaking.held);
    let lease = session.lease(held);
    let progress = context
        .shared
        .live()
        .completed(held.key, lease, held.attempt, completed, wall_clock());
    let result = json!({
        "summary": completed.summary,
        "output_files": completed.output_files,
        "total_duration": completed.total_duration,
    });
    let op = Op::Finish {
        job: held.key,
        holder: context.holder(session, held),
        ending: Ending::Completed {
            result: result.to_string(),
        },
        progress: Some(progress),
    };
    give(context, op, &speaking).await
}

async fn on_failed(context: &Context, message: &Inbound, failed: &JobFailed) -> Handled {
    let speaking = match speaking(context, message).await {
        Ok(speaking) => speaking,
        Err(refused) => return refused,
    };
    let (session, held) = (&speaking.session, &speaking.held);
    let lease = session.lease(held);
    let counts = failed.partial_results.as_deref();
    let progress = counts.map(|counts| context.shared.live().failed(held.key, lease, counts, wall_clock()));
    let error = &failed.error_context;
    let told = json!({
        "error_type": error.error_type,
        "error_message": error.error_message,
        "retry_count": error.retry_count,
        "is_recoverable": error.is_recoverable,
        "status_code": error.request_details.as_ref().and_then(|details| details.status_code),
        "recovery_suggestion": failed.recovery_suggestion,
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
        format!("{}: {}", error.error_type, error.error_message),
    );
    let op = Op::Finish {
        job: held.key,
        holder: context.holder(session, held),
        ending: Ending::Failed {
            error: told.to_string(),
            recoverable: error.is_recoverable,
        },
        progress,
    };
    give(context, op, &speaking).await
}
