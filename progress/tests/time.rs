//! Leases, deadlines and what else the clock demands; who may take over from whom.

mod support;

use std::time::Duration;

use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::plan::GRANTS_MAX;
use crawlwire_progress::store::{Act, Op, Outcome, SWEEP_MAX};
use crawlwire_progress::{Arrow, Fact, Fence, JobKey, PauseReason, Policy, SessionKey, State, Store};

use support::*;

const INSTANT: Duration = Duration::from_millis(1);

fn world() -> World {
    World::new(Policy {
        retry_attempts: 1,
        retry_delay: Duration::from_secs(8),
        ..Policy::default()
    })
}

fn steps(facts: &[Fact]) -> Vec<(JobKey, Arrow, State)> {
    facts.iter().map(|fact| (fact.job, fact.arrow, fact.state)).collect()
}

#[test]
fn only_a_live_session_may_claim() {
    let world = world();
    let job = world.submitted("job");
    let (gone, alive) = (world.open("gone", None), world.open("alive", None));
    world.store.apply(disconnect(gone));
    let stale = refused(Refusal::Stale);
    assert_eq!(
        world.store.apply(claim(job, gone)),
        stale,
        "it would never hear of the job"
    );
    assert_eq!(world.store.apply(claim(job, SessionKey(99))), stale);
    world.later(world.policy.lease);
    assert_eq!(world.store.apply(claim(job, alive)), stale, "its lease is over");
    world.store.apply(renew(&[alive]));
    assert_eq!(moved(world.store.apply(claim(job, alive))).fence, Fence(1));
    assert_eq!(world.store.apply(claim(job, alive)), refused(Refusal::NotQueued));
}

#[test]
fn a_sign_of_life_renews_a_lease_but_does_not_bring_a_connection_back() {
    let world = world();
    let session = world.open("s", None);
    let opened = world.now();
    assert_eq!(world.lease_of(session), opened.after(world.policy.lease));
    world.later(Duration::from_secs(10));
    let lost = |lost| Outcome::Renewed { lost };
    assert_eq!(
        world.store.apply(renew(&[session, SessionKey(99)])),
        lost(vec![first(SessionKey(99))])
    );
    assert_eq!(world.lease_of(session), world.now().after(world.policy.lease));

    world.store.apply(disconnect(session));
    let short = world.now().after(world.policy.reattach_grace);
    assert_eq!(world.lease_of(session), short);
    world.later(Duration::from_secs(1));
    assert_eq!(world.store.apply(renew(&[session])), lost(vec![first(session)]));
    world.store.apply(disconnect(session));
    assert_eq!(world.lease_of(session), short, "neither longer nor shorter by now");
    let view = ready(world.store.sessions(10)).unwrap().remove(0);
    assert!(!view.connected);
}

#[test]
fn a_lease_that_is_nearly_over_does_not_grow_by_a_disconnect() {
    let world = world();
    let session = world.open("s", None);
    let end = world.lease_of(session);
    world.later(world.policy.lease - Duration::from_secs(1));
    world.store.apply(disconnect(session));
    assert_eq!(world.lease_of(session), end);
}

#[test]
fn a_running_job_expires_to_the_queue_and_at_the_limit_fails() {
    let world = world();
    let (job, session) = (world.submitted("job"), world.open("s", None));
    let first = world.running(job, session);
    world.later(world.policy.lease - INSTANT);
    assert_eq!(world.sweep(), []);
    world.later(INSTANT);
    let facts = world.sweep();
    assert_eq!(steps(&facts), [(job, Arrow::Expire, State::Queued)]);
    assert_eq!((facts[0].from, facts[0].session), (Some(State::Running), Some(session)));
    let row = world.row(job);
    assert_eq!(
        (row.failures, row.attempt, row.fence, row.resume),
        (1, 1, Fence(2), true)
    );
    assert_eq!(
        world.events(job).last().unwrap().session.as_deref(),
        Some("s"),
        "who lost it"
    );
    assert!(world.view(job).error.unwrap().contains("expire"), "what went wrong");
    assert_eq!(world.store.apply(complete(job, &first)), refused(Refusal::Stale));
    assert_eq!(world.sweep(), [], "once");

    world.store.apply(renew(&[session]));
    world.running(job, session);
    world.later(world.policy.lease);
    assert_eq!(steps(&world.sweep()), [(job, Arrow::Expire, State::Failed)]);
    assert_eq!(world.row(job).finished_at, Some(world.now()));
}

#[test]
fn a_disconnected_session_keeps_its_jobs_for_the_grace_only() {
    let world = world();
    let (job, session) = (world.submitted("job"), world.open("s", None));
    world.running(job, session);
    world.store.apply(disconnect(session));
    world.later(world.policy.reattach_grace - INSTANT);
    assert_eq!(world.sweep(), []);
    world.later(INSTANT);
    assert_eq!(steps(&world.sweep()), [(job, Arrow::Expire, State::Queued)]);
}

#[test]
fn an_assigned_job_that_expires_counts_a_miss_and_no_failure() {
    let world = world();
    let (job, session) = (world.submitted("job"), world.open("s", None));
    world.assigned(job, session);
    world.store.apply(disconnect(session));
    world.later(world.policy.reattach_grace);
    assert_eq!(steps(&world.sweep()), [(job, Arrow::Expire, State::Queued)]);
    assert_eq!(world.view(job).error, None, "no attempt went wrong");
    let row = world.row(job);
    assert_eq!((row.misses, row.failures, row.attempt, row.fence), (1, 0, 0, Fence(2)));
    assert!(!row.resume, "there is nothing to go on with");
}

#[test]
fn an_assignment_nobody_starts_is_taken_back_and_a_start_forgives_misses() {
    let world = world();
    let (job, session) = (world.submitted("job"), world.open("s", None));
    world.assigned(job, session);
    world.later(world.policy.accept_timeout - INSTANT);
    assert_eq!(world.sweep(), []);
    world.later(INSTANT);
    assert_eq!(steps(&world.sweep()), [(job, Arrow::Release, State::Queued)]);
    assert_eq!(world.row(job).misses, 1);
    let holder = world.running(job, session);
    assert_eq!(world.row(job).misses, 0);
    assert_eq!(
        world.store.apply(release(job, &holder)),
        refused(Refusal::Stale),
        "it runs"
    );
}

#[test]
fn twenty_misses_in_a_row_quarantine_by_whatever_road() {
    let world = world();
    let (job, session) = (world.submitted("job"), world.open("s", None));
    for miss in 1..=20 {
        let holder = world.assigned(job, session);
        if miss % 2 == 0 {
            moved(world.store.apply(release(job, &holder)));
        } else {
            world.later(world.policy.accept_timeout);
            world.store.apply(renew(&[session]));
            assert_eq!(world.sweep().len(), 1);
        }
        let row = world.row(job);
        assert_eq!((row.misses, row.state == State::Paused), (miss, miss == 20));
    }
    assert_eq!(world.row(job).pause_reason, Some(PauseReason::Quarantined));
    assert_eq!(world.row(job).fence, Fence(40), "one up at each claim and at each loss");
    assert_eq!(world.store.apply(claim(job, session)), refused(Refusal::NotQueued));
    world.later(world.policy.lease * 100);
    assert_eq!(world.sweep(), []);
}

#[test]
fn an_attempt_past_its_deadline_is_ended_and_tried_again_after_a_wait() {
    let world = world();
    let (job, session) = (world.submitted("job"), world.open("s", None));
    let holder = world.running(job, session);
    let mut left = world.policy.job_timeout - INSTANT;
    while left > Duration::ZERO {
        let step = left.min(world.policy.lease / 2);
        world.later(step);
        world.store.apply(renew(&[session]));
        assert_eq!(world.sweep(), []);
        left -= step;
    }
    world.later(INSTANT);
    assert_eq!(steps(&world.sweep()), [(job, Arrow::Deadline, State::Delayed)]);
    assert!(world.view(job).error.unwrap().contains("deadline"), "what went wrong");
    let row = world.row(job);
    assert_eq!((row.failures, row.fence, row.resume), (1, Fence(2), true));
    assert_eq!(world.store.apply(complete(job, &holder)), refused(Refusal::Stale));
    assert_eq!(world.store.apply(claim(job, session)), refused(Refusal::NotQueued));

    let wait = row.run_at.unwrap().since(world.now());
    assert!(wait < world.policy.retry_delay, "full jitter: {wait:?}");
    if !wait.is_zero() {
        world.later(wait - INSTANT);
        assert_eq!(world.sweep(), []);
        world.later(INSTANT);
    }
    assert_eq!(steps(&world.sweep()), [(job, Arrow::Promote, State::Queued)]);
    assert_eq!(world.row(job).run_at, None);
}

#[test]
fn a_lost_lease_comes_before_a_passed_deadline() {
    let world = World::new(Policy {
        job_timeout: Duration::from_secs(10),
        ..Policy::default()
    });
    let (job, session) = (world.submitted("job"), world.open("s", None));
    world.running(job, session);
    world.later(world.policy.lease);
    assert_eq!(steps(&world.sweep()), [(job, Arrow::Expire, State::Queued)]);
}

#[test]
fn one_sweep_moves_so_many_and_the_next_goes_on() {
    let world = world();
    let session = world.open("s", None);
    for number in 0..SWEEP_MAX + 3 {
        let job = world.submitted(&format!("job-{number}"));
        world.assigned(job, session);
    }
    world.later(world.policy.lease);
    assert_eq!(world.sweep().len(), SWEEP_MAX);
    assert_eq!(world.sweep().len(), 3);
    assert_eq!(world.sweep(), []);
}

#[test]
fn the_same_process_takes_its_job_over_and_nobody_else() {
    let world = world();
    let job = world.submitted("job");
    let old = world.open("old", Some("process-1"));
    let holder = world.running(job, old);
    let new = world.open("new", Some("process-1"));
    let lost = world.open("lost", Some("process-1"));
    world.store.apply(disconnect(lost));
    let another = world.open("another", Some("process-2"));
    let unknown = world.open("tcp", None);
    let theirs = refused(Refusal::HeldByAnother);
    assert_eq!(
        world.store.apply(adopt("job", new)),
        refused(Refusal::StillConnected),
        "the old connection stands"
    );
    assert_eq!(
        world.store.apply(adopt("job", another)),
        theirs,
        "whatever becomes of that connection"
    );
    world.store.apply(disconnect(old));
    assert_eq!(world.store.apply(adopt("job", another)), theirs);
    assert_eq!(world.store.apply(adopt("job", lost)), theirs, "it is gone itself");
    assert_eq!(world.store.apply(adopt("job", unknown)), theirs);
    assert_eq!(world.store.apply(adopt("job", SessionKey(99))), theirs);
    assert_eq!(world.store.apply(adopt("other", new)), refused(Refusal::NotFound));

    let before = world.row(job);
    let fact = moved(world.store.apply(adopt("job", new)));
    assert_eq!(
        (fact.arrow, fact.fence, fact.session),
        (Arrow::Adopt, holder.fence, Some(new))
    );
    let mut expected = before;
    expected.session = Some(new);
    assert_eq!(world.row(job), expected, "no attempt spent, nothing else changed");
    assert_eq!(world.events(job).last().unwrap().session.as_deref(), Some("new"));
    assert_eq!(
        world.store.apply(complete(job, &holder)),
        refused(Refusal::Stale),
        "the old one is out"
    );
    world.later(world.policy.reattach_grace);
    assert_eq!(world.sweep(), [], "the lease is the new session's");
    moved(world.store.apply(complete(job, &support::holder(new, fact.fence))));
    assert_eq!(
        world.store.apply(adopt("job", new)),
        refused(Refusal::Stale),
        "it has ended"
    );
}

#[test]
fn over_tcp_nobody_takes_over() {
    let world = world();
    let job = world.submitted("job");
    let old = world.open("old", None);
    world.running(job, old);
    world.store.apply(disconnect(old));
    let new = world.open("new", None);
    assert_eq!(world.store.apply(adopt("job", new)), refused(Refusal::HeldByAnother));
}

#[test]
fn after_the_grace_it_is_too_late_to_take_over() {
    let world = world();
    let job = world.submitted("job");
    let old = world.open("old", Some("process-1"));
    world.running(job, old);
    world.store.apply(disconnect(old));
    let new = world.open("new", Some("process-1"));
    world.later(world.policy.reattach_grace);
    assert_eq!(world.store.apply(adopt("job", new)), refused(Refusal::HeldByAnother));
    world.sweep();
    assert_eq!(world.store.apply(adopt("job", new)), refused(Refusal::Stale));
}

#[test]
fn a_server_that_starts_lets_its_crawlers_come_back() {
    let world = world();
    let (running, idle) = (world.submitted("job"), world.open("idle", Some("process-2")));
    let old = world.open("old", Some("process-1"));
    world.running(running, old);
    world.later(world.policy.lease * 2);
    world.store.apply(recover(false));
    assert_eq!(world.sweep(), [], "one full lease");
    assert_eq!(world.lease_of(old), world.now().after(world.policy.lease));
    world.store.apply(renew(&[idle]));
    assert_eq!(
        world.store.apply(claim(world.submitted("next"), idle)),
        refused(Refusal::Stale)
    );
    let new = world.open("new", Some("process-1"));
    moved(world.store.apply(adopt("job", new)));
    world.later(world.policy.lease - INSTANT);
    world.store.apply(renew(&[new]));
    world.later(INSTANT);
    assert_eq!(world.sweep(), []);
}

#[test]
fn a_server_that_starts_again_and_again_does_not_keep_the_jobs_of_a_dead_crawler() {
    let world = world();
    let (job, dead, alive) = (
        world.submitted("job"),
        world.open("dead", None),
        world.open("alive", None),
    );
    world.running(job, dead);
    for _ in 0..GRANTS_MAX {
        world.later(world.policy.lease - INSTANT);
        world.store.apply(recover(true));
        world.store.apply(renew(&[alive]));
        assert_eq!(world.sweep(), []);
    }
    world.later(world.policy.lease - INSTANT);
    world.store.apply(recover(true));
    assert_eq!(
        world.lease_of(alive),
        world.now().after(world.policy.lease),
        "it was heard"
    );
    world.later(INSTANT);
    assert_eq!(world.sweep().len(), 1);
    assert_eq!(world.row(job).session, None);
}

#[test]
fn connections_survive_an_outage_of_the_database() {
    let world = world();
    let (job, session) = (world.submitted("job"), world.open("s", None));
    let holder = world.running(job, session);
    world.later(world.policy.lease * 2);
    world.store.apply(recover(true));
    assert_eq!(world.sweep(), []);
    moved(world.store.apply(complete(job, &holder)));
    moved(world.store.apply(claim(world.submitted("next"), session)));
}

#[test]
fn nobody_could_confirm_during_an_outage() {
    let world = world();
    let (job, session) = (world.submitted("job"), world.open_asked("s"));
    let holder = world.running(job, session);
    acted(world.act(job, Act::Pause));
    world.later(world.policy.want_timeout * 10);
    world.store.apply(recover(true));
    let full = world.now().after(world.policy.lease);
    assert_eq!(world.row(job).want_deadline, Some(full));
    assert_eq!(world.sweep(), []);
    world.store.apply(recover(true));
    assert_eq!(world.row(job).want_deadline, Some(full), "it does not add up");
    moved(world.store.apply(confirm(job, &holder)));
}

#[test]
fn the_connections_of_another_server_are_not_touched_by_a_start() {
    let world = world();
    let session = world.open("s", None);
    world.store.apply(Op::Recover {
        server: "two".to_owned(),
        connected: false,
    });
    moved(world.store.apply(claim(world.submitted("job"), session)));
}

#[test]
fn sessions_are_forgotten_a_day_after_their_end() {
    let remembered = |hours: u64| {
        let world = world();
        let (ended, _) = (world.open("ended", None), world.open("silent", None));
        let standing = world.open("standing", None);
        world.store.apply(disconnect(ended));
        world.later(Duration::from_secs(hours * 3600));
        world.store.apply(renew(&[standing]));
        world.sweep();
        // Shows every session that there is, by giving each a lease.
        world.store.apply(recover(true));
        let views = ready(world.store.sessions(10)).unwrap();
        views.into_iter().map(|view| view.name).collect::<Vec<_>>()
    };
    assert_eq!(remembered(23), ["standing", "silent", "ended"]);
    assert_eq!(remembered(25), ["standing"], "who holds a connection renews its lease");
}

#[test]
fn a_session_that_holds_a_job_is_not_forgotten() {
    let world = World::new(Policy {
        lease: Duration::from_secs(3600),
        ..Policy::default()
    });
    let session = world.open("s", None);
    // More jobs than one sweep moves, so that one is still held after it.
    for number in 0..=SWEEP_MAX {
        world.assigned(world.submitted(&format!("job-{number}")), session);
    }
    world.store.apply(disconnect(session));
    world.later(Duration::from_secs(25 * 3600));
    assert_eq!(world.sweep().len(), SWEEP_MAX);
    let last = world.sweep();
    assert_eq!(last.len(), 1);
    assert_eq!(world.events(last[0].job).last().unwrap().session.as_deref(), Some("s"));
}

#[test]
fn failures_count_to_the_limit_and_a_hopeless_one_ends_it() {
    let world = world();
    let (job, session) = (world.submitted("job"), world.open("s", None));
    let first = world.running(job, session);
    let began = world.now();
    assert_eq!(moved(world.store.apply(fail(job, &first, true))).state, State::Delayed);
    world.later(world.policy.retry_delay);
    assert_eq!(steps(&world.sweep()), [(job, Arrow::Promote, State::Queued)]);
    let second = world.running(job, session);
    assert_eq!(moved(world.store.apply(fail(job, &second, true))).state, State::Failed);
    let view = world.view(job);
    assert_eq!(
        (view.attempt, view.failures, view.finished_at),
        (2, 2, Some(world.now()))
    );
    assert_eq!(view.started_at, Some(began), "when it first began");
    assert!(view.error.is_some());

    let hopeless = world.submitted("hopeless");
    let holder = world.running(hopeless, session);
    assert_eq!(
        moved(world.store.apply(fail(hopeless, &holder, false))).state,
        State::Failed
    );
    assert_eq!(world.row(hopeless).failures, 1);
}
