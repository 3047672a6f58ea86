//! One arrow on one job, or why not.
//!
//! ```text
//!            run_at ahead                 claim              start
//!   submit ──────────────▶ delayed ─▶ queued ─────▶ assigned ─────▶ running
//!   discover ────────────────promote──▲  ▲  ▲          │  │            │ │ │
//!                            ▲        │  │  └─release──┘  │            │ │ │
//!                            │        │  └ expire, return ┴────────────┘ │ │
//!                            └────────│── finish (retry), deadline ──────┘ │
//!                                     └─ 20 misses: paused                 └─ finish ▶ completed, failed
//!
//!   held (assigned, running):  want_cancel, want_pause;  then confirm, return or force ▶ cancelled, paused
//!   not held:                  cancel ▶ cancelled;  pause ▶ paused ─ resume, redrive ▶ queued, delayed
//!   ended:                     failed, cancelled ─ retry ▶ queued;  failed ─ redrive ▶ queued
//! ```
//!
//! A recovery never overwrites a finished job, because every arrow asks for a state that is not terminal, but for retry
//! and redrive. Whoever speaks for a lease must name session and fence: anything else is [`Refusal::Stale`] and has no
//! effect. A job that would go back to the queue while something is wished of it goes where it was wished to go.

mod refusal;

pub use self::refusal::Refusal;
use crate::ids::{SessionKey, Timestamp};
use crate::job::{Arrow, Job, PauseReason, State, Want};
use crate::policy::{Guard, Policy};
use crate::{Fence, priority, retry};

/// Who speaks for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The session that holds the job.
    pub session: SessionKey,
    /// The fence it was given.
    pub fence: Fence,
}

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// Give it to a session.
    Claim(SessionKey),
    /// The session began.
    Start(Lease),
    /// The session ended it well.
    Complete(Lease),
    /// The session ended it badly.
    Fail {
        /// Who says so.
        lease: Lease,
        /// Whether another attempt may help.
        recoverable: bool,
        /// Whether it was not the job's fault: its credentials are known to be bad. Then it is tried again and does not
        /// count.
        free: bool,
    },
    /// The assignment could not be delivered, or was never started.
    Release(Lease),
    /// The session does not go on with it. That is nobody's fault, so it counts neither as a failure nor as a miss.
    Return(Lease),
    /// Another connection of the same crawler takes it over. That it is the same one, and that the old connection is
    /// gone, was checked with the sessions at hand.
    Adopt(SessionKey),
    /// The session's lease ran out.
    Expire(SessionKey),
    /// The attempt ran too long.
    Deadline,
    /// The time of a delayed job came.
    Promote,
    /// Somebody wishes it to end or to be held back. Takes effect at once when nobody holds it; else the session has
    /// until `until` to confirm.
    Wish {
        /// What.
        want: Want,
        /// Now, for a session that cannot be asked.
        until: Timestamp,
    },
    /// The session did what was wished. If nothing is wished any more, it has let the job go all the same.
    Confirm(Lease),
    /// The session did not, in time.
    Force,
    /// A held back job may go on.
    Resume,
    /// A job that ended badly gets another chance.
    Retry,
    /// A quarantined job, or one that failed, gets another chance.
    Redrive,
    /// Its place in the queue changes.
    SetPriority(f64),
}

/// Takes one arrow, or leaves the job untouched.
///
/// `chance` in `[0, 1)` spreads retries. Ending a job that was assigned but not started implies the start; the caller
/// marks both arrows.
///
/// # Errors
/// When the guard of the arrow does not hold.
pub fn apply(job: &mut Job, event: Event, policy: &Policy, now: Timestamp, chance: f64) -> Result<Arrow, Refusal> {
    match event {
        Event::Claim(session) => claim(job, session, now),
        Event::Start(lease) => begin(job, lease, policy, now),
        Event::Complete(lease) => complete(job, lease, policy, now),
        Event::Fail {
            lease,
            recoverable,
            free,
        } => {
            held(job, lease, policy)?;
            fail(job, (recoverable, free), policy, now, chance);
            Ok(Arrow::Finish)
        }
        Event::Release(lease) => {
            held(job, lease, policy)?;
            if job.state == State::Running {
                return Err(Refusal::Stale);
            }
            miss(job, policy, now);
            Ok(Arrow::Release)
        }
        Event::Return(lease) => {
            held(job, lease, policy)?;
            Ok(give_back(job, now))
        }
        Event::Adopt(session) => {
            if !job.state.is_leased() {
                return Err(Refusal::Stale);
            }
            job.session = Some(session);
            Ok(Arrow::Adopt)
        }
        Event::Expire(session) => expire(job, session, policy, now),
        Event::Deadline => {
            if job.deadline.is_none_or(|deadline| now < deadline) {
                return Err(Refusal::NotDue);
            }
            job.fence = job.fence.next();
            job.failures += 1;
            retry_or_fail(job, policy, now, chance);
            Ok(Arrow::Deadline)
        }
        Event::Promote => {
            if job.state != State::Delayed || job.run_at.is_none_or(|run_at| now < run_at) {
                return Err(Refusal::NotDue);
            }
            queue(job);
            Ok(Arrow::Promote)
        }
        Event::Wish { want, until } => wish(job, want, until, now),
        Event::Confirm(lease) => {
            held(job, lease, policy)?;
            let Some(want) = job.want else {
                return Ok(give_back(job, now));
            };
            grant(job, want, now);
            Ok(Arrow::Confirm)
        }
        Event::Force => force(job, now),
        Event::Resume => resume(job, now),
        Event::Retry => {
            if !matches!(job.state, State::Failed | State::Cancelled) {
                return Err(Refusal::NotRetryable);
            }
            anew(job);
            Ok(Arrow::Retry)
        }
        Event::Redrive => {
            if job.state != State::Failed && job.pause_reason != Some(PauseReason::Quarantined) {
                return Err(Refusal::NotRedrivable);
            }
            anew(job);
            Ok(Arrow::Redrive)
        }
        Event::SetPriority(value) => set_priority(job, value),
    }
}

/// Whether a lease is the one under which a job is held.
///
/// # Errors
/// [`Refusal::Stale`] when it is not.
pub(crate) fn held(job: &Job, lease: Lease, policy: &Policy) -> Result<(), Refusal> {
    let fence = job.fence == lease.fence || !policy.has(Guard::Fence);
    let held = job.state.is_leased() && job.session == Some(lease.session) && fence;
    if held { Ok(()) } else { Err(Refusal::Stale) }
}

fn claim(job: &mut Job, session: SessionKey, now: Timestamp) -> Result<Arrow, Refusal> {
    if job.state != State::Queued {
        return Err(Refusal::NotQueued);
    }
    job.state = State::Assigned;
    job.fence = job.fence.next();
    job.session = Some(session);
    job.assigned_at = Some(now);
    Ok(Arrow::Claim)
}

fn begin(job: &mut Job, lease: Lease, policy: &Policy, now: Timestamp) -> Result<Arrow, Refusal> {
    held(job, lease, policy)?;
    if job.state == State::Running {
        return Err(Refusal::AlreadyStarted);
    }
    start(job, policy, now);
    Ok(Arrow::Start)
}

fn start(job: &mut Job, policy: &Policy, now: Timestamp) {
    job.state = State::Running;
    job.attempt += 1;
    job.misses = 0;
    job.deadline = Some(now.after(job.limits.timeout.unwrap_or(policy.job_timeout)));
    job.started_at = job.started_at.or(Some(now));
}

/// Starts a job that ends without having said that it started.
fn implied_start(job: &mut Job, policy: &Policy, now: Timestamp) {
    if job.state == State::Assigned {
        start(job, policy, now);
    }
}

fn complete(job: &mut Job, lease: Lease, policy: &Policy, now: Timestamp) -> Result<Arrow, Refusal> {
    held(job, lease, policy)?;
    implied_start(job, policy, now);
    match job.want {
        Some(want) if !policy.has(Guard::FinishOverWant) => grant(job, want, now),
        _ => finish(job, State::Completed, now),
    }
    Ok(Arrow::Finish)
}

fn fail(job: &mut Job, (recoverable, free): (bool, bool), policy: &Policy, now: Timestamp, chance: f64) {
    implied_start(job, policy, now);
    if free {
        put_off(job, policy, now, chance);
        return;
    }
    job.failures += 1;
    if recoverable {
        retry_or_fail(job, policy, now, chance);
    } else {
        finish(job, State::Failed, now);
    }
}

fn expire(job: &mut Job, session: SessionKey, policy: &Policy, now: Timestamp) -> Result<Arrow, Refusal> {
    if job.session != Some(session) {
        return Err(Refusal::Stale);
    }
    if job.state == State::Assigned {
        miss(job, policy, now);
        return Ok(Arrow::Expire);
    }
    job.fence = job.fence.next();
    job.failures += 1;
    if !retry::again(policy, &job.limits, job.failures) {
        finish(job, State::Failed, now);
    } else if let Some(want) = job.want {
        grant(job, want, now);
    } else {
        job.resume = true;
        queue(job);
    }
    Ok(Arrow::Expire)
}

/// Its crawler has let it go.
fn give_back(job: &mut Job, now: Timestamp) -> Arrow {
    job.fence = job.fence.next();
    job.resume |= job.state == State::Running;
    match job.want {
        Some(want) => grant(job, want, now),
        None => queue(job),
    }
    Arrow::Return
}

/// It was given out and never started.
fn miss(job: &mut Job, policy: &Policy, now: Timestamp) {
    job.fence = job.fence.next();
    job.misses += 1;
    if let Some(want) = job.want {
        grant(job, want, now);
    } else if job.misses >= policy.misses_max {
        pause(job, PauseReason::Quarantined);
    } else {
        queue(job);
    }
}

fn retry_or_fail(job: &mut Job, policy: &Policy, now: Timestamp, chance: f64) {
    if retry::again(policy, &job.limits, job.failures) {
        put_off(job, policy, now, chance);
    } else {
        finish(job, State::Failed, now);
    }
}

/// Tries it again later, unless something is wished of it.
fn put_off(job: &mut Job, policy: &Policy, now: Timestamp, chance: f64) {
    job.resume = true;
    if let Some(want) = job.want {
        grant(job, want, now);
        return;
    }
    end_lease(job);
    job.state = State::Delayed;
    job.run_at = Some(now.after(retry::delay(policy, &job.limits, job.failures, chance)));
}

fn wish(job: &mut Job, want: Want, until: Timestamp, now: Timestamp) -> Result<Arrow, Refusal> {
    if job.state.is_terminal() {
        let so = job.state == State::Cancelled && want == Want::Cancel;
        return Err(if so { Refusal::AlreadySo } else { Refusal::Ended });
    }
    if job.state.is_leased() {
        match (job.want, want) {
            (Some(Want::Cancel), Want::Pause) => return Err(Refusal::Cancelling),
            (Some(wished), want) if wished == want => return Err(Refusal::AlreadySo),
            _ => {}
        }
        job.want = Some(want);
        job.want_deadline = Some(until);
        return Ok(match want {
            Want::Cancel => Arrow::WantCancel,
            Want::Pause => Arrow::WantPause,
        });
    }
    if want == Want::Pause && job.state == State::Paused {
        return Err(Refusal::AlreadySo);
    }
    grant(job, want, now);
    Ok(match want {
        Want::Cancel => Arrow::Cancel,
        Want::Pause => Arrow::Pause,
    })
}

fn force(job: &mut Job, now: Timestamp) -> Result<Arrow, Refusal> {
    let want = job.want.ok_or(Refusal::NotWanted)?;
    if job.want_deadline.is_none_or(|until| now < until) {
        return Err(Refusal::NotDue);
    }
    job.fence = job.fence.next();
    grant(job, want, now);
    Ok(Arrow::Force)
}

/// Does what was wished.
fn grant(job: &mut Job, want: Want, now: Timestamp) {
    match want {
        Want::Cancel => finish(job, State::Cancelled, now),
        Want::Pause => {
            job.resume |= job.attempt > 0;
            pause(job, PauseReason::Operator);
        }
    }
}

fn resume(job: &mut Job, now: Timestamp) -> Result<Arrow, Refusal> {
    if job.want == Some(Want::Pause) {
        job.want = None;
        job.want_deadline = None;
        return Ok(Arrow::Resume);
    }
    if job.pause_reason != Some(PauseReason::Operator) {
        return Err(Refusal::NotPaused);
    }
    job.pause_reason = None;
    if job.run_at.is_some_and(|run_at| now < run_at) {
        job.state = State::Delayed;
    } else {
        queue(job);
    }
    Ok(Arrow::Resume)
}

/// Another chance, with a clean slate. What was done before is not done again.
fn anew(job: &mut Job) {
    job.failures = 0;
    job.misses = 0;
    job.finished_at = None;
    job.resume |= job.attempt > 0;
    queue(job);
}

fn set_priority(job: &mut Job, value: f64) -> Result<Arrow, Refusal> {
    if job.state.is_terminal() {
        return Err(Refusal::Ended);
    }
    if job.priority.to_bits() == value.to_bits() {
        return Err(Refusal::AlreadySo);
    }
    job.due = priority::moved(job.due, job.priority, value);
    job.priority = value;
    Ok(Arrow::SetPriority)
}

fn queue(job: &mut Job) {
    end_lease(job);
    job.state = State::Queued;
    job.pause_reason = None;
    job.run_at = None;
}

/// What is paused keeps the time before which it may not run.
fn pause(job: &mut Job, reason: PauseReason) {
    end_lease(job);
    job.state = State::Paused;
    job.pause_reason = Some(reason);
}

fn finish(job: &mut Job, state: State, now: Timestamp) {
    end_lease(job);
    job.state = state;
    job.pause_reason = None;
    job.run_at = None;
    job.finished_at = Some(now);
}

fn end_lease(job: &mut Job) {
    job.session = None;
    job.assigned_at = None;
    job.deadline = None;
    job.want = None;
    job.want_deadline = None;
}

#[cfg(test)]
mod tests;
