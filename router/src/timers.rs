//! What happens by the clock: leases are renewed, time's demands are met, reports and errors are written.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crawlwire_progress::lifecycle::Lease;
use crawlwire_progress::store::{Outcome, SWEEP_MAX, StoreError};
use crawlwire_progress::track::Tracker;
use crawlwire_progress::{JobKey, Op, State, Timestamp};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::event::Event;
use crate::reconcile::reconcile;
use crate::sessions;
use crate::shared::{Shared, wall_clock};
use crate::track::{self, Estimates};
use crate::wishes;

/// Sessions renewed by one operation, so that none grows without bound.
const RENEW_MAX: usize = 500;

/// Between two looks at the held jobs because of what other servers do, however much that is. The dispatcher does not wait
/// for them.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Renews leases, then meets time's demands, every sweep interval; and looks what became of jobs that are held here,
/// when another server did something.
///
/// After a time in which nobody could renew, every session gets one full lease before anything may expire: when the
/// database was away or hung, and when this machine slept or its clock jumped.
pub(crate) async fn sweep(shared: &Shared, stop: CancellationToken) {
    let mut ticks = interval(shared.config.sweep_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut away = false;
    let mut last = wall_clock();
    // The earliest next look at the held jobs, and whether there is a reason for it.
    let (mut look_at, mut look) = (Instant::now(), false);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
            () = shared.store.woken() => {
                shared.wake.notify_one();
                look = true;
                continue;
            }
            () = sleep_until(look_at), if look => {
                reconcile(shared).await;
                (look_at, look) = (Instant::now() + LOOK_PAUSE, false);
                continue;
            }
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
            // It answers, so nobody was kept from renewing a lease.
            Err(StoreError::Broken(reason)) => tracing::error!(reason, "the database refuses what time demands"),
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
    wall_clock().since(last) > (config.policy.lease / 2).max(config.sweep_interval * 3)
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
    renew(shared).await?;
    if !late && was_long(shared, last) {
        // The renewal itself took too long: who was heard meanwhile is not among the renewed.
        recover(shared).await?;
    }
    loop {
        let Outcome::Swept(facts) = shared.commit(Op::Sweep).await? else {
            break;
        };
        let count = facts.len();
        for fact in facts {
            if fact.from.is_some_and(State::is_leased) {
                let session = fact.session.map(|key| key.0);
                tracing::warn!(job = fact.public_id, arrow = %fact.arrow, session, state = %fact.state, "lease ended by time");
            }
            wishes::announce(shared, fact).await;
        }
        if count < SWEEP_MAX {
            break;
        }
    }
    reconcile(shared).await;
    track::look(shared).await
}

/// Renews the leases of the sessions that were heard.
async fn renew(shared: &Shared) -> Result<(), StoreError> {
    let mut heard = shared.sessions.all();
    heard.retain(|session| session.take_heard());
    for group in heard.chunks(RENEW_MAX) {
        let heard = group.iter().map(|session| session.reference()).collect();
        let lost = match shared.commit(Op::Renew(heard)).await {
            Ok(Outcome::Renewed { lost }) => lost,
            Ok(_) => Vec::new(),
            Err(error) => {
                // Not renewed, so still to be renewed.
                group.iter().for_each(|session| session.note_unrenewed());
                return Err(error);
            }
        };
        for session in group {
            if !lost.contains(&session.reference()) {
                if session.note_renewed() {
                    shared.wake.notify_one();
                }
            } else if !session.is_leaving() {
                sessions::lost(shared, session).await;
            }
        }
    }
    Ok(())
}

/// Between two tellings that all jobs together are not what they were: each costs a look at all trees.
const AGGREGATE_EVERY: Duration = Duration::from_secs(1);

/// Writes progress and errors, every flush interval, and once more at the end; and progress that cannot wait at once. Tells
/// what follows from it.
pub(crate) async fn flush(shared: &Shared, stop: CancellationToken) {
    let mut ticks = interval(shared.config.flush_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut estimates = Estimates::default();
    let mut aggregate_at = Instant::now();
    loop {
        let stopping = tokio::select! {
            biased;
            () = stop.cancelled() => true,
            _ = ticks.tick() => false,
            () = shared.write.notified() => {
                let groups = shared.live().drain_these(&shared.take_urgent());
                write_progress(shared, &groups).await;
                continue;
            }
        };
        let groups = flush_progress(shared).await;
        let reported = groups.iter().flatten();
        estimates.tell(shared, reported.map(|(job, _, tracker)| (*job, &**tracker)));
        if Instant::now() >= aggregate_at && shared.aggregate_changed.swap(false, Ordering::Relaxed) {
            shared.publish(Event::AggregateChanged);
            aggregate_at = Instant::now() + AGGREGATE_EVERY;
        }
        flush_errors(shared).await;
        if stopping {
            return;
        }
    }
}

async fn flush_errors(shared: &Shared) {
    let errors = shared.take_errors();
    if errors.is_empty() {
        return;
    }
    match shared.store.commit(Op::RecordErrors(errors.clone())).await {
        Ok(_) => {
            shared
                .tally
                .count(errors.iter().map(|row| row.category), Instant::now());
            shared.publish(Event::ErrorsLogged);
        }
        Err(error) => {
            tracing::warn!(%error, errors = errors.len(), "error log not written");
            if matches!(error, StoreError::Unavailable(_)) {
                errors.into_iter().for_each(|row| shared.keep_error(row));
            }
        }
    }
}

/// What is written in one statement.
type Reports = Vec<(JobKey, Lease, Arc<Tracker>)>;

/// Writes what was reported since the last time, and says what that was.
pub(crate) async fn flush_progress(shared: &Shared) -> Vec<Reports> {
    let groups = shared.live().drain();
    write_progress(shared, &groups).await;
    groups
}

/// A report that comes too late shows that its job is not held any more.
async fn write_progress(shared: &Shared, groups: &[Reports]) {
    for group in groups {
        shared.aggregate_changed.store(true, Ordering::Relaxed);
        match shared.commit(Op::Progress(group.clone())).await {
            Ok(Outcome::Progressed { stale, passed }) => {
                shared.publish_passed(passed);
                let late = group.iter().filter(|(job, ..)| stale.contains(job));
                late.for_each(|(job, lease, report)| forget_late(shared, *job, *lease, report));
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, reports = group.len(), "progress not written");
                shared.live().put_back(group);
            }
        }
    }
}

/// In the session dialect a start may have failed and be on its way again; whether a job is lost there is told by the rows
/// alone.
fn forget_late(shared: &Shared, job: JobKey, lease: Lease, report: &Tracker) {
    if let Some(session) = shared.sessions.get(lease.session)
        && let Some(public_id) = session.name_of(job).filter(|_| !session.peer.speaks_session())
    {
        shared.lose(&session, &public_id, lease.fence);
    }
    // Whoever holds the job now may have been heard meanwhile.
    let mut live = shared.live();
    if live.get(job).is_some_and(|newest| newest.n == report.n) {
        live.forget(job);
    }
}

/// Between two prunings of one run, so that others get their turn at the writer.
const PRUNE_PAUSE: Duration = Duration::from_millis(50);

/// Before the first run. Not at once, since a start has better things to do; but soon, so that a server that is started
/// anew more often than the interval is long keeps its database small too.
const PRUNE_FIRST: Duration = Duration::from_secs(60);

/// Deletes what was over long ago, every retention interval.
pub(crate) async fn prune(shared: &Shared, stop: CancellationToken) {
    let every = shared.config.retention.interval;
    let mut ticks = interval_at(Instant::now() + every.min(PRUNE_FIRST), every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = prune_once(shared) => {}
        }
    }
}

/// By the clock of the store: a machine whose own is wrong must not delete what is young.
async fn prune_once(shared: &Shared) {
    let now = match shared.store.now().await {
        Ok(now) => now,
        Err(error) => {
            tracing::warn!(%error, "what is old was not deleted; the next run goes on");
            return;
        }
    };
    let retention = &shared.config.retention;
    let before = |age: Duration| Timestamp(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)));
    let op = Op::Prune {
        jobs_before: before(retention.max_job_age),
        errors_before: before(retention.max_error_age),
    };
    let (mut all_jobs, mut all_errors) = (0, 0);
    loop {
        match shared.commit(op.clone()).await {
            Ok(Outcome::Pruned { jobs, errors, more }) => {
                (all_jobs, all_errors) = (all_jobs + jobs, all_errors + errors);
                // What is left is another server's at the moment, if nothing went.
                if !more || jobs + errors == 0 {
                    break;
                }
            }
            Ok(_) => break,
            Err(error) => {
                tracing::warn!(%error, "what is old was not deleted; the next run goes on");
                break;
            }
        }
        tokio::time::sleep(PRUNE_PAUSE).await;
    }
    if all_jobs + all_errors > 0 {
        tracing::info!(jobs = all_jobs, errors = all_errors, "what is old was deleted");
    }
    if all_jobs > 0 {
        shared.publish(Event::Pruned);
    }
}
