//! What happens by the clock: leases are renewed, time's demands are met, reports and errors are written.

use crawlwire_progress::store::{Outcome, SWEEP_MAX, StoreError};
use crawlwire_progress::{Op, State, Timestamp};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::context::{Shared, wall_clock};

/// Sessions renewed by one operation, so that none grows without bound.
const RENEW_MAX: usize = 500;

/// Renews leases, then meets time's demands, every sweep interval.
///
/// After a time in which nobody could renew, every session gets one full lease before anything may expire: when the
/// database was away or hung, and when this machine slept or its clock jumped.
pub(crate) async fn sweep(shared: &Shared, stop: CancellationToken) {
    let mut ticks = interval(shared.config.sweep_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut away = false;
    let mut last = wall_clock();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match sweep_once(shared, away, last).await {
            Ok(()) => {
                if away {
                    tracing::info!("database is back");
                }
                away = false;
                last = wall_clock();
            }
            Err(StoreError::Closed) => return,
            Err(error) => {
                if !away {
                    tracing::error!(%error, "database is away");
                }
                away = true;
            }
        }
    }
}

/// Whether so much time has passed since the last sweep that leases may have run out without anybody's fault.
fn was_long(shared: &Shared, last: Timestamp) -> bool {
    let config = &shared.config;
    wall_clock().since(last) > (config.heartbeat_timeout / 2).max(config.sweep_interval * 3)
}

async fn recover(shared: &Shared) -> Result<(), StoreError> {
    let server = shared.config.server.clone();
    let recover = Op::Recover {
        server,
        connected: true,
    };
    shared.commit(recover).await.map(drop)
}

async fn sweep_once(shared: &Shared, away: bool, last: Timestamp) -> Result<(), StoreError> {
    let late = away || was_long(shared, last);
    if late {
        recover(shared).await?;
    }
    let heard: Vec<_> = shared
        .sessions
        .all()
        .into_iter()
        .filter(|session| session.take_heard())
        .collect();
    for group in heard.chunks(RENEW_MAX) {
        let keys = group.iter().map(|session| session.key).collect();
        if let Err(error) = shared.commit(Op::Renew(keys)).await {
            // Not renewed, so still to be renewed.
            group.iter().for_each(|session| session.note_unrenewed());
            return Err(error);
        }
        if group.iter().filter(|session| session.note_renewed()).count() > 0 {
            shared.wake.notify_one();
        }
    }
    if !late && was_long(shared, last) {
        // The renewal itself took too long: who was heard meanwhile is not among the renewed.
        recover(shared).await?;
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
