//! One arrow on one job, or why not.
//!
//! ```text
//!            run_at ahead                 claim              start
//!   submit ──────────────▶ delayed ─▶ queued ─────▶ assigned ─────▶ running
//!   discover ────────────────promote──▲  ▲  ▲          │  │            │ │ │
//!                            ▲        │  │  └─release──┘  │            │ │ │
//!                            │        │  └──── expire ────┴────────────┘ │ │
//!                            └────────│── finish (retry), deadline ──────┘ │
//!                                     └─ 20 misses: paused                 └─ finish ▶ completed, failed
//! ```
//!
//! A recovery never overwrites a finished job, because every arrow but the first asks for a state that is not terminal.
//! Whoever speaks for a lease must name session and fence: anything else is [`Refusal::Stale`] and has no effect.

use crate::ids::{Fence, SessionKey, Timestamp};
use crate::job::{Arrow, Job, PauseReason, State};
use crate::policy::Policy;
use crate::retry;

/// Who speaks for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The session that holds the job.
    pub session: SessionKey,
    /// The fence it was given.
    pub fence: Fence,
}

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    },
    /// The assignment could not be delivered, or was never started.
    Release(Lease),
    /// Another connection of the same crawler takes it over. That it is the same one, and that the old connection is
    /// gone, was checked with the sessions at hand.
    Adopt(SessionKey),
    /// The session's lease ran out.
    Expire(SessionKey),
    /// The attempt ran too long.
    Deadline,
    /// The time of a delayed job came.
    Promote,
}

/// Why an arrow was not taken. A normal answer, not a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// There is no such job.
    #[error("no such job")]
    NotFound,
    /// The lease that the message belongs to is over.
    #[error("the lease is over")]
    Stale,
    /// Somebody else was faster, or the job is held back.
    #[error("the job is not queued")]
    NotQueued,
    /// The time for this arrow has not come.
    #[error("not yet due")]
    NotDue,
    /// The session has said so before.
    #[error("already started")]
    AlreadyStarted,
    /// The job is held by a crawler that cannot be shown to be this one.
    #[error("held by another crawler")]
    HeldByAnother,
}

impl Refusal {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Stale => "stale",
            Self::NotQueued => "not_queued",
            Self::NotDue => "not_due",
            Self::AlreadyStarted => "already_started",
            Self::HeldByAnother => "held_by_another",
        }
    }
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
        Event::Start(lease) => {
            held(job, lease)?;
            if job.state == State::Running {
                return Err(Refusal::AlreadyStarted);
            }
            start(job, policy, now);
            Ok(Arrow::Start)
        }
        Event::Complete(lease) => {
            held(job, lease)?;
            implied_start(job, policy, now);
            end_lease(job);
            finish(job, State::Completed, now);
            Ok(Arrow::Finish)
        }
        Event::Fail { lease, recoverable } => {
            held(job, lease)?;
            implied_start(job, policy, now);
            end_lease(job);
            job.failures += 1;
            if recoverable {
                retry_or_fail(job, policy, now, chance)
            } else {
                finish(job, State::Failed, now)
            }
            Ok(Arrow::Finish)
        }
        Event::Release(lease) => {
            held(job, lease)?;
            if job.state == State::Running {
                return Err(Refusal::Stale);
            }
            miss(job, policy);
            Ok(Arrow::Release)
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
            end_lease(job);
            retry_or_fail(job, policy, now, chance);
            Ok(Arrow::Deadline)
        }
        Event::Promote => {
            if job.run_at.is_none_or(|run_at| now < run_at) {
                return Err(Refusal::NotDue);
            }
            queue(job);
            Ok(Arrow::Promote)
        }
    }
}

/// Starts a job that ends without having said that it started.
fn implied_start(job: &mut Job, policy: &Policy, now: Timestamp) {
    if job.state == State::Assigned {
        start(job, policy, now);
    }
}

fn held(job: &Job, lease: Lease) -> Result<(), Refusal> {
    let held = job.state.is_leased() && job.session == Some(lease.session) && job.fence == lease.fence;
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

fn start(job: &mut Job, policy: &Policy, now: Timestamp) {
    job.state = State::Running;
    job.attempt += 1;
    job.misses = 0;
    job.deadline = Some(now.after(policy.job_timeout));
    job.started_at = job.started_at.or(Some(now));
}

fn expire(job: &mut Job, session: SessionKey, policy: &Policy, now: Timestamp) -> Result<Arrow, Refusal> {
    if job.session != Some(session) {
        return Err(Refusal::Stale);
    }
    if job.state == State::Assigned {
        miss(job, policy);
        return Ok(Arrow::Expire);
    }
    job.fence = job.fence.next();
    job.failures += 1;
    end_lease(job);
    if retry::again(policy, job.failures) {
        job.resume = true;
        queue(job);
    } else {
        finish(job, State::Failed, now);
    }
    Ok(Arrow::Expire)
}

fn miss(job: &mut Job, policy: &Policy) {
    job.fence = job.fence.next();
    job.misses += 1;
    end_lease(job);
    if job.misses >= policy.misses_max {
        job.state = State::Paused;
        job.pause_reason = Some(PauseReason::Quarantined);
    } else {
        queue(job);
    }
}

fn retry_or_fail(job: &mut Job, policy: &Policy, now: Timestamp, chance: f64) {
    if retry::again(policy, job.failures) {
        job.state = State::Delayed;
        job.run_at = Some(now.after(retry::delay(policy, job.failures, chance)));
        job.resume = true;
    } else {
        finish(job, State::Failed, now);
    }
}

fn queue(job: &mut Job) {
    job.state = State::Queued;
    job.run_at = None;
}

fn end_lease(job: &mut Job) {
    job.session = None;
    job.assigned_at = None;
    job.deadline = None;
}

fn finish(job: &mut Job, state: State, now: Timestamp) {
    job.state = state;
    job.finished_at = Some(now);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::JobKey;

    const SESSION: SessionKey = SessionKey(1);

    fn queued() -> Job {
        Job::queued(JobKey(1), false)
    }

    fn take(job: &mut Job, event: Event, now: i64) -> Result<Arrow, Refusal> {
        apply(job, event, &Policy::default(), Timestamp(now), 0.5)
    }

    fn running() -> (Job, Lease) {
        let mut job = queued();
        take(&mut job, Event::Claim(SESSION), 0).unwrap();
        let lease = Lease {
            session: SESSION,
            fence: job.fence,
        };
        take(&mut job, Event::Start(lease), 0).unwrap();
        (job, lease)
    }

    #[test]
    fn a_plain_life() {
        let (mut job, lease) = running();
        assert_eq!((job.state, job.attempt, job.fence), (State::Running, 1, Fence(1)));
        take(&mut job, Event::Complete(lease), 7).unwrap();
        assert_eq!((job.state, job.finished_at), (State::Completed, Some(Timestamp(7))));
    }

    #[test]
    fn an_old_fence_has_no_effect() {
        let (mut job, lease) = running();
        take(&mut job, Event::Expire(SESSION), 1).unwrap();
        assert_eq!(job.state, State::Queued);
        take(&mut job, Event::Claim(SESSION), 2).unwrap();
        let before = job.clone();
        for event in [
            Event::Start(lease),
            Event::Complete(lease),
            Event::Fail {
                lease,
                recoverable: true,
            },
        ] {
            assert_eq!(take(&mut job, event, 3), Err(Refusal::Stale));
        }
        assert_eq!(job, before);
    }

    #[test]
    fn failures_are_retried_until_the_limit_and_the_hopeless_are_not() {
        let (mut job, lease) = running();
        take(
            &mut job,
            Event::Fail {
                lease,
                recoverable: false,
            },
            1,
        )
        .unwrap();
        assert_eq!(job.state, State::Failed);

        let mut job = queued();
        for attempt in 1..=4 {
            take(&mut job, Event::Claim(SESSION), 0).unwrap();
            let lease = Lease {
                session: SESSION,
                fence: job.fence,
            };
            take(
                &mut job,
                Event::Fail {
                    lease,
                    recoverable: true,
                },
                0,
            )
            .unwrap();
            assert_eq!((job.attempt, job.failures), (attempt, attempt));
            if attempt < 4 {
                assert_eq!(job.state, State::Delayed);
                assert_eq!(take(&mut job, Event::Promote, 0), Err(Refusal::NotDue));
                take(&mut job, Event::Promote, i64::MAX).unwrap();
            }
        }
        assert_eq!(job.state, State::Failed);
    }

    #[test]
    fn twenty_misses_in_a_row_quarantine() {
        let mut job = queued();
        for _ in 0..20 {
            take(&mut job, Event::Claim(SESSION), 0).unwrap();
            let lease = Lease {
                session: SESSION,
                fence: job.fence,
            };
            take(&mut job, Event::Release(lease), 0).unwrap();
        }
        assert_eq!(
            (job.state, job.pause_reason),
            (State::Paused, Some(PauseReason::Quarantined))
        );
        assert_eq!((job.attempt, job.failures), (0, 0));
    }

    fn event() -> impl Strategy<Value = Event> {
        let lease = (1..3_i64, 0..6_i64).prop_map(|(session, fence)| Lease {
            session: SessionKey(session),
            fence: Fence(fence),
        });
        let session = (1..3_i64).prop_map(SessionKey);
        prop_oneof![
            session.clone().prop_map(Event::Claim),
            lease.clone().prop_map(Event::Start),
            lease.clone().prop_map(Event::Complete),
            (lease.clone(), any::<bool>()).prop_map(|(lease, recoverable)| Event::Fail { lease, recoverable }),
            lease.prop_map(Event::Release),
            session.clone().prop_map(Event::Adopt),
            session.prop_map(Event::Expire),
            Just(Event::Deadline),
            Just(Event::Promote),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_the_rules_hold(events in prop::collection::vec((event(), 0..4_000_000_i64), 1..60)) {
            let mut job = queued();
            let mut now = 0;
            for (event, elapsed) in events {
                now += elapsed;
                let before = job.clone();
                match take(&mut job, event, now) {
                    Ok(_) => prop_assert!(!before.state.is_terminal(), "{before:?} was finished"),
                    Err(_) => prop_assert_eq!(&job, &before, "a refusal changed something"),
                }
                prop_assert_eq!(job.check(), Ok(()));
                prop_assert!(job.fence >= before.fence);
                let gave_out = before.state == State::Queued && job.state == State::Assigned;
                prop_assert!(!gave_out || job.fence == before.fence.next());
                let lost = before.session.is_some() && job.session.is_none() && !matches!(event, Event::Complete(_) | Event::Fail { .. });
                prop_assert!(!lost || job.fence > before.fence, "a lease was taken away without a new fence");
            }
        }
    }
}
