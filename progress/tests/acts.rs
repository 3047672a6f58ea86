//! What people do to a job: in every state what happens, or why not; what a crawler that can be asked has to say; and
//! the record of it.

mod support;

use std::time::Duration;

use crawlwire_progress::job::Want;
use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::{Act, Holder};
use crawlwire_progress::{Arrow, Fence, JobKey, PauseReason, Policy, SessionKey, State, Timestamp};

use support::*;

const INSTANT: Duration = Duration::from_millis(1);
const ACTS: [Act; 6] = [
    Act::Cancel,
    Act::Pause,
    Act::Resume,
    Act::Retry,
    Act::Redrive,
    Act::SetPriority(7.0),
];

/// What an act does: the arrows and the state after them, or the refusal.
fn expected(state: State, act: Act) -> Result<(&'static [Arrow], State), Refusal> {
    use State::{Assigned, Cancelled, Completed, Delayed, Failed, Paused, Queued, Running};
    match (act, state) {
        (Act::Cancel, Delayed | Queued | Paused) => Ok((&[Arrow::Cancel], Cancelled)),
        (Act::Cancel, Assigned | Running) => Ok((&[Arrow::WantCancel, Arrow::Force], Cancelled)),
        (Act::Cancel, Completed | Failed) => Err(Refusal::Ended),
        (Act::Cancel, Cancelled) => Err(Refusal::AlreadySo),
        (Act::Pause, Delayed | Queued) => Ok((&[Arrow::Pause], Paused)),
        (Act::Pause, Assigned | Running) => Ok((&[Arrow::WantPause, Arrow::Force], Paused)),
        (Act::Pause, Paused) => Err(Refusal::AlreadySo),
        (Act::Pause, Completed | Failed | Cancelled) => Err(Refusal::Ended),
        (Act::Resume, Paused) => Ok((&[Arrow::Resume], Queued)),
        (Act::Resume, _) => Err(Refusal::NotPaused),
        (Act::Retry, Failed | Cancelled) => Ok((&[Arrow::Retry], Queued)),
        (Act::Retry, _) => Err(Refusal::NotRetryable),
        (Act::Redrive, Failed) => Ok((&[Arrow::Redrive], Queued)),
        (Act::Redrive, _) => Err(Refusal::NotRedrivable),
        (Act::SetPriority(_), Completed | Failed | Cancelled) => Err(Refusal::Ended),
        (Act::SetPriority(_), state) => Ok((&[Arrow::SetPriority], state)),
    }
}

#[test]
fn every_act_in_every_state_is_taken_or_refused_and_audited_when_taken() {
    for state in State::ALL.iter().copied() {
        for act in ACTS {
            let world = World::new(Policy::default());
            let session = world.open("s", None);
            let (job, _) = world.in_state(state, session);
            let (before, audited) = (world.row(job), world.audit().len());
            let outcome = world.act(job, act);
            let after = world.row(job);
            match expected(state, act) {
                Ok((arrows, to)) => {
                    let facts = acted(outcome);
                    let taken: Vec<_> = facts.iter().map(|fact| fact.arrow).collect();
                    assert_eq!((&taken[..], after.state), (arrows, to), "{act:?} when {state}");
                    assert_eq!(facts.last().unwrap().fence, after.fence);
                    let [newest, ..] = &world.audit()[..] else {
                        panic!("not audited")
                    };
                    assert_eq!(world.audit().len(), audited + 1, "{act:?} when {state}");
                    assert_eq!(
                        (&*newest.by, &*newest.act, &*newest.target),
                        (BY, act.as_str(), &*world.view(job).public_id)
                    );
                }
                Err(refusal) => {
                    assert_eq!(outcome, refused(refusal), "{act:?} when {state}");
                    assert_eq!(after, before);
                    assert_eq!(world.audit().len(), audited, "{act:?} when {state}");
                }
            }
        }
    }
}

#[test]
fn an_act_on_nothing_is_refused() {
    let world = World::new(Policy::default());
    for act in ACTS {
        assert_eq!(world.act(JobKey(99), act), refused(Refusal::NotFound));
    }
    assert_eq!(world.audit(), []);
}

#[test]
fn a_quarantined_job_is_redriven_not_resumed() {
    let world = World::new(Policy {
        misses_max: 1,
        ..Policy::default()
    });
    let (job, session) = (world.submitted("job"), world.open("s", None));
    let quarantine = || {
        let holder = world.assigned(job, session);
        moved(world.store.apply(release(job, &holder)));
        assert_eq!(world.row(job).pause_reason, Some(PauseReason::Quarantined));
    };
    quarantine();
    assert_eq!(world.act(job, Act::Pause), refused(Refusal::AlreadySo));
    assert_eq!(world.act(job, Act::Resume), refused(Refusal::NotPaused));
    assert_eq!(world.act(job, Act::Retry), refused(Refusal::NotRetryable));
    acted(world.act(job, Act::Redrive));
    let row = world.row(job);
    assert_eq!((row.state, row.misses), (State::Queued, 0));
    quarantine();
    acted(world.act(job, Act::Cancel));
    assert_eq!(world.row(job).state, State::Cancelled);
}

#[test]
fn a_crawler_that_cannot_be_asked_loses_the_job_at_once() {
    for start_first in [false, true] {
        let world = World::new(Policy::default());
        let (job, session) = (world.submitted("job"), world.open("s", None));
        let holder = if start_first {
            world.running(job, session)
        } else {
            world.assigned(job, session)
        };
        acted(world.act(job, Act::Cancel));
        let row = world.row(job);
        assert_eq!((row.state, row.fence), (State::Cancelled, holder.fence.next()));
        let last = world.events(job).pop().unwrap();
        assert_eq!(last.arrows, ["want_cancel", "force"], "one event");
        assert_eq!((last.session.as_deref(), last.fence), (Some("s"), row.fence));
        let stale = refused(Refusal::Stale);
        for late in [
            start(job, &holder),
            complete(job, &holder),
            fail(job, &holder, true),
            confirm(job, &holder),
            release(job, &holder),
            discover(job, &holder, groups(&["a"])),
        ] {
            assert_eq!(world.store.apply(late), stale);
        }
        assert_eq!(world.row(job), row);
    }
}

/// A running job whose crawler was asked.
fn asked(world: &World, act: Act) -> (JobKey, SessionKey, Holder) {
    let (job, session) = (world.submitted("job"), world.open_asked("s"));
    let holder = world.running(job, session);
    let facts = acted(world.act(job, act));
    assert_eq!(
        (facts.len(), facts[0].state, facts[0].fence),
        (1, State::Running, holder.fence)
    );
    (job, session, holder)
}

#[test]
fn a_crawler_that_can_be_asked_confirms() {
    for (act, want, state) in [
        (Act::Cancel, Want::Cancel, State::Cancelled),
        (Act::Pause, Want::Pause, State::Paused),
    ] {
        let world = World::new(Policy::default());
        let (job, session, holder) = asked(&world, act);
        let until = world.now().after(world.policy.want_timeout);
        assert_eq!(world.view(job).want, Some((want, until)));
        let fenced = Holder {
            fence: Fence(9),
            ..holder.clone()
        };
        assert_eq!(world.store.apply(confirm(job, &fenced)), refused(Refusal::Stale));
        world.later(world.policy.want_timeout - INSTANT);
        assert_eq!(world.sweep(), []);
        let fact = moved(world.store.apply(confirm(job, &holder)));
        assert_eq!(
            (fact.arrow, fact.state, fact.fence, fact.session),
            (Arrow::Confirm, state, holder.fence, Some(session))
        );
        assert_eq!(world.view(job).want, None);
        assert_eq!(
            world.store.apply(confirm(job, &holder)),
            refused(Refusal::Stale),
            "once"
        );
    }
}

#[test]
fn a_crawler_that_does_not_confirm_in_time_loses_the_job() {
    for (act, state) in [(Act::Cancel, State::Cancelled), (Act::Pause, State::Paused)] {
        let world = World::new(Policy::default());
        let (job, session, holder) = asked(&world, act);
        world.later(world.policy.want_timeout);
        let facts = world.sweep();
        assert_eq!(facts.len(), 1);
        assert_eq!(
            (facts[0].arrow, facts[0].state, facts[0].session),
            (Arrow::Force, state, Some(session))
        );
        assert_eq!(world.row(job).fence, holder.fence.next());
        assert_eq!(world.store.apply(confirm(job, &holder)), refused(Refusal::Stale));
        assert_eq!(world.store.apply(complete(job, &holder)), refused(Refusal::Stale));
    }
}

#[test]
fn what_is_confirmed_after_the_wish_was_taken_back_is_given_back() {
    let world = World::new(Policy::default());
    let (job, _, holder) = asked(&world, Act::Pause);
    acted(world.act(job, Act::Resume));
    assert_eq!(world.view(job).want, None, "taken back");
    world.later(world.policy.want_timeout);
    assert_eq!(world.sweep(), []);
    assert_eq!(world.row(job).state, State::Running);
    let fact = moved(world.store.apply(confirm(job, &holder)));
    assert_eq!((fact.arrow, fact.state), (Arrow::Return, State::Queued));
    let row = world.row(job);
    assert_eq!((row.failures, row.misses, row.resume), (0, 0, true));
    assert_eq!(world.store.apply(confirm(job, &holder)), refused(Refusal::Stale));
}

#[test]
fn a_wish_to_cancel_stands_over_one_to_pause() {
    let world = World::new(Policy::default());
    let (job, _, holder) = asked(&world, Act::Pause);
    assert_eq!(world.act(job, Act::Pause), refused(Refusal::AlreadySo));
    world.later(Duration::from_secs(10));
    acted(world.act(job, Act::Cancel));
    let until = world.now().after(world.policy.want_timeout);
    assert_eq!(
        world.view(job).want,
        Some((Want::Cancel, until)),
        "with a time of its own"
    );
    assert_eq!(world.act(job, Act::Cancel), refused(Refusal::AlreadySo));
    assert_eq!(world.act(job, Act::Pause), refused(Refusal::Cancelling));
    assert_eq!(world.act(job, Act::Resume), refused(Refusal::NotPaused));
    let arrows: Vec<_> = world.audit().into_iter().map(|row| row.act).collect();
    assert_eq!(arrows, ["cancel", "pause"], "the refused ones are not in it");
    moved(world.store.apply(confirm(job, &holder)));
    assert_eq!(world.row(job).state, State::Cancelled);
}

#[test]
fn a_finish_wins_over_a_wish() {
    for act in [Act::Cancel, Act::Pause] {
        let world = World::new(Policy::default());
        let (job, _, holder) = asked(&world, act);
        assert_eq!(moved(world.store.apply(complete(job, &holder))).state, State::Completed);

        let world = World::new(Policy::default());
        let (job, _, holder) = asked(&world, act);
        assert_eq!(moved(world.store.apply(fail(job, &holder, false))).state, State::Failed);
    }
}

#[test]
fn what_would_go_back_to_the_queue_goes_where_it_was_wished_to() {
    let roads: [fn(&World, JobKey, &Holder) -> Arrow; 4] = [
        |world, job, holder| moved(world.store.apply(fail(job, holder, true))).arrow,
        |world, _, holder| {
            world.store.apply(disconnect(holder.session));
            world.later(world.policy.reattach_grace);
            world.sweep()[0].arrow
        },
        |world, _, _| {
            world.later(world.policy.job_timeout);
            world.sweep()[0].arrow
        },
        |world, job, holder| moved(world.store.apply(release(job, holder))).arrow,
    ];
    let arrows = [Arrow::Finish, Arrow::Expire, Arrow::Deadline, Arrow::Release];
    for (act, state) in [(Act::Cancel, State::Cancelled), (Act::Pause, State::Paused)] {
        for (road, arrow) in roads.into_iter().zip(arrows) {
            let world = World::new(Policy {
                job_timeout: Duration::from_secs(20),
                ..Policy::default()
            });
            let (job, session) = (world.submitted("job"), world.open_asked("s"));
            let holder = match arrow {
                Arrow::Release => world.assigned(job, session),
                _ => world.running(job, session),
            };
            acted(world.act(job, act));
            assert_eq!(road(&world, job, &holder), arrow);
            let row = world.row(job);
            assert_eq!((row.state, row.want), (state, None), "{act:?}, then {arrow}");
        }
    }
}

#[test]
fn a_pause_keeps_the_time_before_which_a_job_may_not_run() {
    let world = World::new(Policy::default());
    let run_at = world.now().after(Duration::from_secs(100));
    world.submit(run_later("job", run_at));
    let job = world.store.rows()[0].key;
    acted(world.act(job, Act::Pause));
    assert_eq!(
        (world.row(job).state, world.row(job).run_at),
        (State::Paused, Some(run_at))
    );
    acted(world.act(job, Act::Resume));
    assert_eq!(
        (world.row(job).state, world.row(job).run_at),
        (State::Delayed, Some(run_at))
    );
    acted(world.act(job, Act::Pause));
    world.later(Duration::from_secs(100));
    assert_eq!(world.sweep(), [], "what is held back is not promoted");
    acted(world.act(job, Act::Resume));
    assert_eq!(
        (world.row(job).state, world.row(job).run_at),
        (State::Queued, None),
        "its time came"
    );
}

fn run_later(public_id: &str, run_at: Timestamp) -> crawlwire_progress::store::NewJob {
    crawlwire_progress::store::NewJob {
        run_at: Some(run_at),
        ..new_job(public_id)
    }
}

#[test]
fn a_job_goes_on_where_it_was_held_back() {
    let world = World::new(Policy::default());
    let session = world.open("s", None);
    for (state, resumes) in [(State::Queued, false), (State::Assigned, false), (State::Running, true)] {
        let (job, _) = world.in_state(state, session);
        acted(world.act(job, Act::Pause));
        acted(world.act(job, Act::Resume));
        assert_eq!(world.row(job).resume, resumes, "paused when {state}");
    }
}

#[test]
fn a_job_with_a_higher_priority_overtakes() {
    let world = World::new(Policy::default());
    let (first, second) = (world.submitted("first"), world.submitted("second"));
    let query = crawlwire_progress::store::ReadyQuery {
        after_lane: None,
        lanes: 10,
        per_lane: 10,
    };
    let order = || {
        let jobs = ready(crawlwire_progress::Store::ready(&world.store, query)).unwrap();
        jobs.into_iter().map(|job| job.key).collect::<Vec<_>>()
    };
    assert_eq!(order(), [first, second]);
    acted(world.act(second, Act::SetPriority(2.5)));
    assert_eq!(order(), [second, first]);
    assert_eq!(world.view(second).spec.priority, 2.5);
    assert_eq!(world.audit()[0].detail.as_deref(), Some(r#"{"priority":2.5}"#));
    assert_eq!(world.act(second, Act::SetPriority(2.5)), refused(Refusal::AlreadySo));
    acted(world.act(second, Act::SetPriority(1.0)));
    assert_eq!(order(), [first, second], "as if it had never been otherwise");
}
