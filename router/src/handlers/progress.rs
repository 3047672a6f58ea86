use std::sync::atomic::Ordering;

use crawlwire_progress::live::Live;
use crawlwire_protocol::message::JobProgress;

use super::{Speaking, give, handler, implied_start, speaking};
use crate::context::Context;
use crate::event::Event;
use crate::handler::{Handled, Inbound, Processed, marks};
use crate::shared::wall_clock;
use crate::track;

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
    take(context, &speaking, marks(message).n, report).await;
    started.unwrap_or_else(|| Handled::Done(Processed::done()))
}

/// Reports come again: one is dropped when the store cannot be asked where the job was before.
async fn take(context: &Context, speaking: &Speaking, sent: Option<u64>, report: &JobProgress) {
    let Speaking { job, session, held } = speaking;
    let shared = &context.shared;
    if let Err(error) = track::follow(shared, session, job.as_str(), held).await {
        tracing::debug!(%error, job = job.as_str(), "report dropped, the job's earlier progress is not known");
        return;
    }
    let lease = session.lease(held);
    let (changes, items) = {
        let mut live = shared.live();
        let done = |live: &Live| live.get(held.key).map_or(0, |tracker| tracker.work().done);
        let before = done(&live);
        let changes = live.report(held.key, lease, sent, report, wall_clock());
        (changes, done(&live).saturating_sub(before))
    };
    let Some(changes) = changes else { return };
    shared.counters.reports.fetch_add(1, Ordering::Relaxed);
    shared.counters.items.fetch_add(items, Ordering::Relaxed);
    if shared.is_heard() {
        shared.publish(Event::Progress {
            job: held.key,
            public_id: job.to_string(),
        });
    }
    track::tell(shared, held.key, job.as_str(), changes);
}
