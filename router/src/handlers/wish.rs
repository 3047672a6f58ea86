use crawlwire_progress::Op;
use crawlwire_protocol::message::{Counts, JobCancelled, JobPaused, JobResumed, JobReturned};

use super::job::last_report;
use super::{Speaking, ending, give, handler, speaking};
use crate::context::Context;
use crate::handler::{Handled, Inbound, Processed};

handler!(OnCancelled, JobCancelled, on_cancelled);
handler!(OnPaused, JobPaused, on_paused);
handler!(OnResumed, JobResumed, on_resumed);
handler!(OnReturned, JobReturned, on_returned);

async fn on_cancelled(context: &Context, message: &Inbound, cancelled: &JobCancelled) -> Handled {
    stopped(context, message, cancelled.final_counts.as_ref()).await
}

async fn on_paused(context: &Context, message: &Inbound, paused: &JobPaused) -> Handled {
    stopped(context, message, paused.final_counts.as_ref()).await
}

/// The crawler did what was wished. What that is by now, the row knows.
async fn stopped(context: &Context, message: &Inbound, counts: Option<&Counts>) -> Handled {
    let speaking = match ending(context, message).await {
        Ok(speaking) => speaking,
        Err(refused) => return refused,
    };
    if let Some(counts) = counts {
        report(context, &speaking, counts).await;
    }
    let Speaking { session, held, .. } = &speaking;
    let op = Op::Confirm {
        job: held.key,
        holder: session.holder(held),
    };
    give(context, vec![op], &speaking).await
}

/// Writes the last counts of a job, as long as its lease holds: nobody looks for them afterwards, so that they may be lost
/// while the database is away.
async fn report(context: &Context, speaking: &Speaking, counts: &Counts) {
    let Speaking { session, held, .. } = speaking;
    if let Some(tracker) = last_report(context, speaking, Some(&**counts)).await {
        let report = Op::Progress(vec![(held.key, session.lease(held), tracker)]);
        drop(context.shared.store.enqueue(report).await);
    }
}

/// It goes on, as it was told. There is nothing to be done but to acknowledge it.
async fn on_resumed(context: &Context, message: &Inbound, _: &JobResumed) -> Handled {
    match speaking(context, message).await {
        Ok(_) => Handled::Done(Processed::done()),
        Err(refused) => refused,
    }
}

/// The crawler does not go on with the job. Somebody else will.
async fn on_returned(context: &Context, message: &Inbound, returned: &JobReturned) -> Handled {
    let speaking = match ending(context, message).await {
        Ok(speaking) => speaking,
        Err(refused) => return refused,
    };
    let Speaking { job, session, held } = &speaking;
    let reason = returned.reason.as_ref().map(|reason| reason.as_str());
    tracing::info!(session = %session.name, job = job.as_str(), reason, "job given back");
    let op = Op::Return {
        job: held.key,
        holder: session.holder(held),
    };
    give(context, vec![op], &speaking).await
}
