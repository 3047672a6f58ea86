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
            free: false,
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
            free: false,
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
                free: false,
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

#[test]
fn a_finish_wins_over_a_wish_and_a_failure_does_not_come_back() {
    let until = Timestamp(100);
    let wish = |want| Event::Wish { want, until };
    let (mut job, lease) = running();
    assert_eq!(take(&mut job, wish(Want::Pause), 1), Ok(Arrow::WantPause));
    assert_eq!(take(&mut job, wish(Want::Cancel), 2), Ok(Arrow::WantCancel));
    assert_eq!(take(&mut job, wish(Want::Pause), 3), Err(Refusal::Cancelling));
    take(&mut job, Event::Complete(lease), 4).unwrap();
    assert_eq!((job.state, job.want), (State::Completed, None));

    let (mut job, lease) = running();
    take(&mut job, wish(Want::Cancel), 1).unwrap();
    let failed = Event::Fail {
        lease,
        recoverable: true,
        free: false,
    };
    take(&mut job, failed, 2).unwrap();
    assert_eq!(job.state, State::Cancelled);
}

#[test]
fn a_wish_is_confirmed_or_forced() {
    let wish = Event::Wish {
        want: Want::Pause,
        until: Timestamp(100),
    };
    let (mut job, lease) = running();
    assert_eq!(take(&mut job, Event::Force, 0), Err(Refusal::NotWanted));
    take(&mut job, wish, 1).unwrap();
    assert_eq!(take(&mut job, Event::Force, 99), Err(Refusal::NotDue));
    take(&mut job, Event::Confirm(lease), 99).unwrap();
    assert_eq!((job.state, job.fence), (State::Paused, lease.fence));
    assert_eq!(job.pause_reason, Some(PauseReason::Operator));
    take(&mut job, Event::Resume, 100).unwrap();
    assert!(job.state == State::Queued && job.resume);

    let (mut job, lease) = running();
    take(&mut job, wish, 1).unwrap();
    take(&mut job, Event::Force, 100).unwrap();
    assert_eq!((job.state, job.fence), (State::Paused, lease.fence.next()));
    assert_eq!(take(&mut job, Event::Complete(lease), 101), Err(Refusal::Stale));
}

#[test]
fn what_is_given_back_costs_nothing_and_goes_where_it_was_wished_to_go() {
    for confirms in [false, true] {
        let event = |lease| {
            if confirms {
                Event::Confirm(lease)
            } else {
                Event::Return(lease)
            }
        };
        let (mut job, lease) = running();
        job.failures = 1;
        assert_eq!(take(&mut job, event(lease), 5), Ok(Arrow::Return));
        assert_eq!(
            (job.state, job.fence, job.resume),
            (State::Queued, lease.fence.next(), true)
        );
        assert_eq!((job.failures, job.misses, job.run_at), (1, 0, None));
        assert_eq!(take(&mut job, event(lease), 6), Err(Refusal::Stale));
    }

    let mut job = queued();
    job.misses = 2;
    take(&mut job, Event::Claim(SessionKey(1)), 1).unwrap();
    let lease = Lease {
        session: SessionKey(1),
        fence: job.fence,
    };
    assert_eq!(take(&mut job, Event::Return(lease), 2), Ok(Arrow::Return));
    assert_eq!(
        (job.state, job.misses, job.resume),
        (State::Queued, 2, false),
        "never begun"
    );

    for (want, state) in [(Want::Cancel, State::Cancelled), (Want::Pause, State::Paused)] {
        let (mut job, lease) = running();
        let until = Timestamp(100);
        take(&mut job, Event::Wish { want, until }, 1).unwrap();
        assert_eq!(take(&mut job, Event::Return(lease), 2), Ok(Arrow::Return));
        assert_eq!((job.state, job.fence), (state, lease.fence.next()));
    }
}

#[test]
fn a_pause_does_not_bring_a_job_forward() {
    let mut job = queued();
    (job.state, job.run_at) = (State::Delayed, Some(Timestamp(1000)));
    let pause = Event::Wish {
        want: Want::Pause,
        until: Timestamp(0),
    };
    take(&mut job, pause, 1).unwrap();
    take(&mut job, Event::Resume, 2).unwrap();
    assert_eq!((job.state, job.run_at), (State::Delayed, Some(Timestamp(1000))));
}

#[test]
fn another_chance_begins_with_a_clean_slate() {
    let (mut job, lease) = running();
    let failed = Event::Fail {
        lease,
        recoverable: false,
        free: false,
    };
    take(&mut job, failed, 1).unwrap();
    take(&mut job, Event::Retry, 2).unwrap();
    assert_eq!((job.state, job.failures, job.resume), (State::Queued, 0, true));
    assert_eq!(take(&mut job, Event::Retry, 3), Err(Refusal::NotRetryable));
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
        (lease.clone(), any::<bool>(), any::<bool>()).prop_map(|(lease, recoverable, free)| Event::Fail {
            lease,
            recoverable,
            free
        }),
        lease.clone().prop_map(Event::Release),
        lease.clone().prop_map(Event::Return),
        lease.prop_map(Event::Confirm),
        (any::<bool>(), 0..40_000_000_i64).prop_map(|(cancel, until)| Event::Wish {
            want: if cancel { Want::Cancel } else { Want::Pause },
            until: Timestamp(until),
        }),
        Just(Event::Force),
        Just(Event::Resume),
        Just(Event::Retry),
        Just(Event::Redrive),
        (0..3_i32).prop_map(|value| Event::SetPriority(value.into())),
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
                Ok(arrow) => prop_assert!(
                    !before.state.is_terminal() || matches!(arrow, Arrow::Retry | Arrow::Redrive),
                    "{before:?} was finished"
                ),
                Err(_) => prop_assert_eq!(&job, &before, "a refusal changed something"),
            }
            prop_assert_eq!(job.check(), Ok(()));
            prop_assert!(job.fence >= before.fence);
            let gave_out = before.state == State::Queued && job.state == State::Assigned;
            prop_assert!(!gave_out || job.fence == before.fence.next());
            let lost = before.session.is_some() && job.session.is_none() && !matches!(event, Event::Complete(_) | Event::Fail { .. } | Event::Confirm(_));
            prop_assert!(!lost || job.fence > before.fence, "a lease was taken away without a new fence");
        }
    }
}
