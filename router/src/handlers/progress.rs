use std::sync::Arc;

use crawlwire_protocol::message::JobProgress;

use super::{give, handler, implied_start, speaking};
use crate::context::Context;
use crate::event::Event;
use crate::handler::{Handled, Inbound, Processed, marks};
use crate::shared::wall_clock;

handler!(OnProgress, JobProgress, on_progress);

/// Takes a report into memory, where it is visible at once; the flush writes it. A first report implies the start.
async fn on_progress(context: &Context, message: &Inbound, report: &JobProgress) -> Handled {
    let speaking = match speaking(context, message).await {
        Ok(speaking) => speaking,
        Err(refused) => return refused,
    };
    let started = match implied_start(&speaking) {
        Some(start) => Some(give(context, vec![start], &speaking).await),
        None => None,
    };
    let held = &speaking.held;
    let lease = speaking.session.lease(held);
    // A start that was just given counts already.
    let attempt = speaking
        .session
        .held(speaking.job.as_str())
        .map_or(held.attempt, |held| held.attempt);
    let view = context
        .shared
        .live()
        .report(held.key, (lease, attempt), marks(message).n, report, wall_clock());
    if let Some(view) = view {
        context.shared.publish(Event::Progress {
            job: held.key,
            public_id: speaking.job.to_string(),
            progress: Arc::new(view),
        });
    }
    started.unwrap_or_else(|| Handled::Done(Processed::done()))
}
