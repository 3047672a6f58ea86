//! The dispatcher: gives queued jobs to sessions with free slots. Woken by facts; the clock is only a safety net.

mod assign;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio_util::sync::CancellationToken;

use crate::context::Shared;
use crate::middleware::Middleware;
use crate::session::Session;

/// The chain of middleware as it is now.
type Chain<'a> = &'a (dyn Fn() -> Arc<[Arc<dyn Middleware>]> + Send + Sync);

pub(crate) async fn run(shared: &Shared, chain: Chain<'_>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(shared.config.sweep_interval) => {}
        }
        // Each round gives out at least one job or ends; jobs that are refused or cannot be sent end it too.
        while shared.dispatching.load(Ordering::Relaxed) && round(shared, chain).await > 0 {
            if stop.is_cancelled() {
                return;
            }
        }
    }
}

/// One round: as many of the best jobs as there are free slots. Says how many were handed over.
async fn round(shared: &Shared, chain: Chain<'_>) -> usize {
    let mut places = free_places(shared).into_iter();
    if places.len() == 0 {
        return 0;
    }
    // Jobs that cannot be given out must not stand in the way of those behind them.
    let wide = shared.passing_over.load(Ordering::Relaxed);
    let queue = shared.config.job_queue_size;
    let limit = if wide { queue } else { places.len().min(queue) };
    let ready = match shared.store.ready(limit).await {
        Ok(ready) => ready,
        Err(error) => {
            tracing::warn!(%error, "queue not read");
            return 0;
        }
    };
    let mut claims = Vec::with_capacity(ready.len());
    let mut passed_over = false;
    for job in ready {
        let Some(token) = assign::token(shared, &job).await else {
            passed_over = true;
            continue;
        };
        let Some(session) = places.next() else { break };
        claims.push(assign::claim(shared, job, session, token).await);
    }
    shared.passing_over.store(passed_over, Ordering::Relaxed);
    if passed_over && !wide {
        shared.wake.notify_one();
    }
    let chain = chain();
    let mut handed_over = 0;
    for claim in claims {
        handed_over += usize::from(claim.hand_over(shared, &chain).await);
    }
    handed_over
}

/// Free slots, one entry each, so that the least busy sessions come first and take turns.
fn free_places(shared: &Shared) -> Vec<Arc<Session>> {
    let slots = shared.config.slots_per_crawler;
    let mut places = Vec::new();
    for session in shared.sessions.all() {
        if !session.is_resting() && session.silent_for() < shared.config.heartbeat_timeout {
            let held = session.held_count();
            places.extend((held..slots).map(|load| (load, session.clone())));
        }
    }
    places.sort_by_key(|(load, session)| (*load, session.key));
    places.into_iter().map(|(_, session)| session).collect()
}
