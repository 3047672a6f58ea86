//! What happens by the clock: leases are renewed, time's demands are met, reports and errors are written.

use crawlwire_progress::store::{Outcome, SWEEP_MAX, StoreError};
use crawlwire_progress::{Op, State};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::context::Shared;

/// Sessions renewed by one operation, so that none grows without bound.
const RENEW_MAX: usize = 500;

/// Renews leases, then meets time's demands, every sweep interval.
///
/// After an outage of the database every session gets one full lease before anything may expire: nobody could renew in
/// the meantime.
pub(crate) async fn sweep(shared: &Shared, stop: CancellationToken) {
    let mut ticks = interval(shared.config.sweep_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut outage = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match sweep_once(shared, outage).await {
            Ok(()) => {
                if outage {
                    tracing::info!("database is back");
                }
                outage = false;
            }
            Err(StoreError::Closed) => return,
            Err(error) => {
                if !outage {
                    tracing::error!(%error, "database is away");
                }
                outage = true;
            }
        }
    }
}

async fn sweep_once(shared: &Shared, after_outage: bool) -> Result<(), StoreError> {
    if after_outage {
        let server = shared.config.server.clone();
        shared
            .store
            .commit(Op::Recover {
                server,
                connected: true,
            })
            .await?;
    }
    let heard: Vec<_> = shared
        .sessions
        .all()
        .into_iter()
        .filter(|session| session.take_heard())
        .collect();
    for group in heard.chunks(RENEW_MAX) {
        let keys = group.iter().map(|session| session.key).collect();
        if let Err(error) = shared.store.commit(Op::Renew(keys)).await {
            // Not renewed, so still to be renewed.
            group.iter().for_each(|session| session.note_unrenewed());
            return Err(error);
        }
    }
    loop {
        let Outcome::Swept(facts) = shared.store.commit(Op::Sweep).await?.into_inner() else {
            return Ok(());
        };
        let count = facts.len();
        for fact in facts {
            if fact.from.is_some_and(State::is_leased) {
                let session = fact.session.map(|key| key.0);
                tracing::warn!(job = fact.public_id, arrow = %fact.arrow, session, state = %fact.state, "lease ended by time");
            }
            shared.publish_fact(fact);
        }
        if count < SWEEP_MAX {
            return Ok(());
        }
    }
}

/// Writes progress and errors, every flush interval, and once more at the end.
pub(crate) async fn flush(shared: &Shared, stop: CancellationToken) {
    let mut ticks = interval(shared.config.flush_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let stopping = tokio::select! {
            () = stop.cancelled() => true,
            _ = ticks.tick() => false,
        };
        flush_once(shared).await;
        if stopping {
            return;
        }
    }
}

async fn flush_once(shared: &Shared) {
    flush_progress(shared).await;
    let errors = shared.take_errors();
    if !errors.is_empty()
        && let Err(error) = shared.store.commit(Op::RecordErrors(errors.clone())).await
    {
        tracing::warn!(%error, errors = errors.len(), "error log not written");
        if matches!(error, StoreError::Unavailable(_)) {
            errors.into_iter().for_each(|row| shared.keep_error(row));
        }
    }
}

/// Writes what was reported since the last time.
pub(crate) async fn flush_progress(shared: &Shared) {
    let groups = shared.live().drain();
    for group in groups {
        if let Err(error) = shared.store.commit(Op::Progress(group.clone())).await {
            tracing::warn!(%error, reports = group.len(), "progress not written");
            shared.live().put_back(&group);
        }
    }
}
