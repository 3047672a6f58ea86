//! Gates: what they hold back, how they open, and that nobody pays for the time they were closed.

mod support;

use std::time::Duration;

use crawlwire_progress::admit::Gate;
use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::{GATES_MAX, Op, Outcome, Rejection, SWEEP_MAX};
use crawlwire_progress::{Arrow, JobKey, Policy, SessionKey, State, Store, Timestamp};

use support::*;

const MINUTE: Duration = Duration::from_secs(60);

fn host() -> Gate {
    Gate::Host(HOST.to_owned())
}

fn credentials(account_id: &str) -> Gate {
    Gate::Credentials {
        account_id: account_id.to_owned(),
        host: HOST.to_owned(),
    }
}

fn elsewhere() -> Gate {
    Gate::Host("other.example".to_owned())
}

/// A world in which attempts may run for a minute, and leases for long.
fn world() -> World {
    World::new(Policy {
        lease: Duration::from_secs(3600),
        job_timeout: MINUTE,
        ..Policy::default()
    })
}

fn started(world: &World) -> (JobKey, SessionKey) {
    let (job, session) = (world.submitted("job"), world.open("s", None));
    world.running(job, session);
    (job, session)
}

fn deadline(world: &World, job: JobKey) -> Timestamp {
    world.row(job).deadline.unwrap()
}

#[test]
fn nobody_gets_a_job_behind_a_closed_gate() {
    let world = world();
    let (job, session) = (world.submitted("job"), world.open("s", None));
    let mut other = new_job("other");
    other.account_id = "other".to_owned();
    world.submit(other);
    for (gate, barred) in [(Gate::Queue, true), (host(), true), (credentials("acme"), true)]
        .into_iter()
        .chain([(elsewhere(), false), (credentials("other"), false)])
    {
        assert_eq!(world.close(gate.clone(), None), Outcome::Done);
        let outcome = world.store.apply(claim(job, session));
        if barred {
            assert_eq!(outcome, refused(Refusal::GateClosed), "{gate:?}");
        } else {
            let holder = holder(session, moved(outcome).fence);
            moved(world.store.apply(release(job, &holder)));
        }
        world.reopen(gate);
    }
    world.close(host(), Some(world.now().after(MINUTE)));
    world.later(MINUTE);
    moved(world.store.apply(claim(job, session)));
    assert_eq!(
        ready(world.store.gates()).unwrap().len(),
        1,
        "open by its time, before any sweep"
    );
}

#[test]
fn what_is_held_goes_on_behind_a_closed_gate() {
    let world = world();
    let (job, session) = (world.submitted("job"), world.open("s", None));
    let holder = world.assigned(job, session);
    world.close(Gate::Queue, None);
    moved(world.store.apply(start(job, &holder)));
    moved(world.store.apply(complete(job, &holder)));
}

#[test]
fn a_deadline_stands_still_behind_a_gate_and_moves_by_the_time_it_was_closed() {
    for gate in [host(), credentials("acme")] {
        let world = world();
        let (job, session) = started(&world);
        let before = deadline(&world, job);
        world.later(Duration::from_secs(20));
        world.close(gate.clone(), None);
        world.later(MINUTE * 10);
        world.store.apply(renew(&[session]));
        assert_eq!(world.sweep(), [], "{gate:?}");
        world.reopen(gate);
        assert_eq!(deadline(&world, job), before.after(MINUTE * 10));
        assert_eq!(world.sweep(), []);
        world.later(Duration::from_secs(40));
        assert_eq!(
            world.sweep()[0].arrow,
            Arrow::Deadline,
            "what was left of its time is over"
        );
    }
}

#[test]
fn the_deadlines_of_others_do_not_stand_still() {
    for gate in [Gate::Queue, elsewhere()] {
        let world = world();
        let (job, _) = started(&world);
        let before = deadline(&world, job);
        world.close(gate.clone(), None);
        world.later(Duration::from_secs(30));
        world.reopen(gate.clone());
        assert_eq!(deadline(&world, job), before);
        world.close(gate, None);
        world.later(Duration::from_secs(30));
        assert_eq!(world.sweep()[0].arrow, Arrow::Deadline);
    }
}

#[test]
fn a_gate_opens_by_itself() {
    let world = world();
    let (job, _) = started(&world);
    let before = deadline(&world, job);
    world.close(host(), Some(world.now().after(MINUTE)));
    world.later(MINUTE - Duration::from_millis(1));
    world.sweep();
    assert_eq!(ready(world.store.gates()).unwrap().len(), 1);
    world.later(MINUTE);
    assert_eq!(world.sweep(), []);
    assert_eq!(ready(world.store.gates()).unwrap(), []);
    assert_eq!(
        deadline(&world, job),
        before.after(MINUTE),
        "not by the time until somebody noticed"
    );
    assert_eq!(world.audit().len(), 1, "nobody opened it");
}

#[test]
fn a_new_token_opens_the_gate_of_its_credentials() {
    let world = world();
    let (job, _) = started(&world);
    let mut other = with_token("other", "t");
    other.account_id = "other".to_owned();
    world.submit(other);
    world.submit(with_token("known", "old"));
    let before = deadline(&world, job);
    for gate in [host(), credentials("acme"), credentials("other")] {
        world.close(gate, None);
    }
    world.later(MINUTE);
    world.submit(new_job("without"));
    world.submit(with_token("empty", ""));
    assert_eq!(ready(world.store.gates()).unwrap().len(), 3, "no token, no effect");
    world.submit(with_token("again", "old"));
    assert_eq!(
        ready(world.store.gates()).unwrap().len(),
        3,
        "the token that it had before"
    );
    world.submit(with_token("with", "fresh"));
    let left: Vec<_> = ready(world.store.gates())
        .unwrap()
        .into_iter()
        .map(|closed| closed.gate)
        .collect();
    assert_eq!(left, [host(), credentials("other")]);
    assert_eq!(deadline(&world, job), before.after(MINUTE));
    let newest = world.audit().remove(0);
    assert_eq!((&*newest.by, &*newest.act), ("a new token", "open_gate"));
    assert_eq!(newest.target, format!("credentials acme {HOST}"));
}

#[test]
fn a_failure_behind_a_gate_of_credentials_is_free() {
    let world = world();
    let session = world.open("s", None);
    for (gate, free) in [(credentials("acme"), true), (host(), false), (Gate::Queue, false)] {
        for recoverable in [true, false] {
            let job = world.submitted(&format!("job-{}", world.store.rows().len()));
            let holder = world.running(job, session);
            world.close(gate.clone(), None);
            let fact = moved(world.store.apply(fail(job, &holder, recoverable)));
            world.reopen(gate.clone());
            let expected = if recoverable || free {
                State::Delayed
            } else {
                State::Failed
            };
            assert_eq!(
                (fact.state, world.row(job).failures),
                (expected, i32::from(!free)),
                "{gate:?}"
            );
            assert!(world.view(job).error.is_some());
        }
    }
}

#[test]
fn a_gate_closed_again_was_closed_all_the_time() {
    let world = world();
    let (job, _) = started(&world);
    let before = deadline(&world, job);
    let closed_at = world.now();
    world.close(host(), None);
    world.later(MINUTE);
    let until = world.now().after(MINUTE);
    world.close(host(), Some(until));
    let gates = ready(world.store.gates()).unwrap();
    assert_eq!(
        (gates.len(), gates[0].closed_at, gates[0].until),
        (1, closed_at, Some(until))
    );
    assert_eq!(gates[0].by, BY);
    world.later(MINUTE);
    world.sweep();
    assert_eq!(deadline(&world, job), before.after(MINUTE * 2));
    assert_eq!(world.audit().len(), 2);
}

#[test]
fn opening_and_closing_in_one_batch_forgets_no_time() {
    let world = world();
    let (job, _) = started(&world);
    let before = deadline(&world, job);
    world.close(host(), None);
    world.later(MINUTE);
    let by = BY.to_owned();
    world
        .store
        .apply_all(vec![Op::OpenGate { gate: host(), by }, close_gate(host(), None)]);
    assert_eq!(deadline(&world, job), before.after(MINUTE));
    let gates = ready(world.store.gates()).unwrap();
    assert_eq!((gates.len(), gates[0].closed_at), (1, world.now()));
    world.later(MINUTE);
    world.reopen(host());
    assert_eq!(deadline(&world, job), before.after(MINUTE * 2));
}

#[test]
fn opening_what_is_open_is_done_and_not_audited() {
    let world = world();
    assert_eq!(world.reopen(Gate::Queue), Outcome::Done);
    assert_eq!(world.audit(), []);
}

#[test]
fn so_many_gates_and_none_of_an_account_that_nobody_knows() {
    let world = world();
    assert_eq!(
        world.close(credentials("nobody"), None),
        Outcome::Refused(Rejection::NoSuchAccount)
    );
    let gate = |number: usize| Gate::Host(format!("host-{number}"));
    let ops: Vec<_> = (0..GATES_MAX).map(|number| close_gate(gate(number), None)).collect();
    assert!(
        world
            .store
            .apply_all(ops)
            .iter()
            .all(|outcome| *outcome == Outcome::Done)
    );
    let full = Outcome::Refused(Rejection::TooManyGates { limit: GATES_MAX });
    assert_eq!(world.close(gate(GATES_MAX), None), full);
    assert_eq!(
        world.close(gate(0), Some(world.now())),
        Outcome::Done,
        "it is closed already"
    );
    world.reopen(gate(1));
    assert_eq!(world.close(gate(GATES_MAX), None), Outcome::Done);
    assert_eq!(world.audit().len(), GATES_MAX + 3, "what was refused is not in it");
}

#[test]
fn an_attempt_that_was_over_before_the_gate_closed_is_over() {
    let world = world();
    let (job, _) = started(&world);
    world.later(MINUTE);
    world.close(host(), None);
    let facts = world.sweep();
    assert_eq!(
        facts.iter().map(|fact| (fact.job, fact.arrow)).collect::<Vec<_>>(),
        [(job, Arrow::Deadline)]
    );
}

#[test]
fn those_who_wait_behind_a_gate_do_not_keep_time_from_others() {
    let world = world();
    let session = world.open("s", None);
    for number in 0..SWEEP_MAX {
        world.running(world.submitted(&format!("waits-{number}")), session);
    }
    world.close(host(), None);
    let mut other = new_job("other");
    other.spec.host = "other.example".to_owned();
    let Outcome::Submitted(other) = world.submit(other) else {
        panic!("not submitted")
    };
    world.running(other.key, session);
    world.later(MINUTE);
    let facts = world.sweep();
    assert_eq!(facts.iter().map(|fact| fact.job).collect::<Vec<_>>(), [other.key]);
}
