//! What a batch decides, and what it leaves alone.

mod support;

use std::sync::Arc;
use std::time::Duration;

use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::{Ending, Op, Outcome, Rejection};
use crawlwire_progress::track::Tracker;
use crawlwire_progress::{Arrow, Fence, JobKey, Policy, SessionKey, State, Store};

use support::*;

#[test]
fn operations_on_one_job_fold_into_one_row_and_one_event() {
    let world = World::new(Policy::default());
    let (job, session) = (world.submitted("job-1"), world.open("s", None));
    let holder = holder(session, Fence(1));
    let finish = Op::Finish {
        job,
        holder: holder.clone(),
        ending: Ending::Completed {
            result: "{}".to_owned(),
        },
        progress: Some(Arc::new(tracker(9))),
    };
    let plan = world.store.plan_of(vec![
        claim(job, session),
        start(job, &holder),
        report(job, holder.lease(), 3),
        finish,
    ]);

    let [changed] = &plan.changed[..] else {
        panic!("{:?}", plan.changed)
    };
    assert_eq!(changed.before, (State::Queued, Fence(0)));
    assert_eq!(
        (changed.job.state, changed.job.fence, changed.job.attempt),
        (State::Completed, Fence(1), 1)
    );
    assert_eq!(changed.result.as_deref(), Some("{}"));
    let [event] = &plan.events[..] else {
        panic!("{:?}", plan.events)
    };
    assert_eq!(event.arrows, [Arrow::Claim, Arrow::Start, Arrow::Finish]);
    assert_eq!(
        (event.state, event.fence, event.attempt),
        (State::Completed, Fence(1), 1)
    );
    assert_eq!(event.session.as_deref(), Some(&*name_of(session)));
    assert!(
        plan.progress
            .iter()
            .all(|(key, view)| *key == job && view.tracker.attempt == 1)
    );
    assert_eq!(plan.progress.values().next().unwrap().tracker.n, 9);
    assert_eq!(plan.backlog_change, -1);
    let facts = plan.outcomes.into_iter().filter_map(|outcome| match outcome {
        Outcome::Moved(fact) => Some((fact.arrow, fact.from, fact.state, fact.session)),
        _ => None,
    });
    let session = Some(session);
    assert_eq!(
        facts.collect::<Vec<_>>(),
        [
            (Arrow::Claim, Some(State::Queued), State::Assigned, session),
            (Arrow::Start, Some(State::Assigned), State::Running, session),
            (Arrow::Finish, Some(State::Running), State::Completed, session),
        ]
    );
}

#[test]
fn an_end_without_a_start_marks_both() {
    let world = World::new(Policy::default());
    let (job, session) = (world.submitted("job-1"), world.open("s", None));
    let plan = world.store.plan_of(vec![
        claim(job, session),
        fail(job, &holder(session, Fence(1)), true),
        claim(job, session),
    ]);
    assert_eq!(plan.events[0].arrows, [Arrow::Claim, Arrow::Start, Arrow::Finish]);
    assert_eq!(plan.events[0].state, State::Delayed);
    assert_eq!(plan.outcomes[2], refused(Refusal::NotQueued));
    assert_eq!(plan.backlog_change, 0, "queued before, delayed after: both wait");
    assert_eq!(plan.changed[0].error.as_deref(), Some(r#"{"error_type":"HttpError"}"#));
}

#[test]
fn an_event_keeps_the_last_one_who_did_something() {
    let world = World::new(Policy {
        retry_delay: Duration::ZERO,
        ..Policy::default()
    });
    let (job, session) = (world.submitted("job-1"), world.open("s", None));
    let plan = world.store.plan_of(vec![
        claim(job, session),
        fail(job, &holder(session, Fence(1)), true),
        Op::Sweep,
    ]);
    let arrows = [Arrow::Claim, Arrow::Start, Arrow::Finish, Arrow::Promote];
    assert_eq!(plan.events[0].arrows, arrows);
    assert_eq!(
        plan.events[0].session.as_deref(),
        Some(&*name_of(session)),
        "nobody promotes a job"
    );
}

#[test]
fn jobs_of_a_batch_are_written_in_the_order_of_their_keys() {
    let world = World::new(Policy::default());
    let session = world.open("s", None);
    let jobs = ["a", "b", "c"].map(|id| world.submitted(id));
    let plan = world
        .store
        .plan_of([2, 0, 1].map(|place| claim(jobs[place], session)).to_vec());
    let keys: Vec<_> = plan.changed.iter().map(|changed| changed.job.key).collect();
    assert_eq!(keys, jobs);
}

#[test]
fn what_is_refused_leaves_no_trace() {
    let world = World::new(Policy::default());
    let (job, session, other) = (
        world.submitted("job-1"),
        world.open("s", None),
        world.open("other", None),
    );
    world
        .store
        .apply_all(vec![claim(job, session), start(job, &holder(session, Fence(1)))]);
    let unknown = JobKey(99);
    let mut ops = Vec::new();
    for (job, who) in [
        (job, holder(session, Fence(0))),
        (job, holder(session, Fence(2))),
        (job, holder(other, Fence(1))),
        (job, holder(SessionKey(99), Fence(1))),
        (unknown, holder(session, Fence(1))),
    ] {
        let completed = Op::Finish {
            job,
            holder: who.clone(),
            ending: Ending::Completed { result: String::new() },
            progress: Some(Arc::new(tracker(100))),
        };
        ops.extend([
            start(job, &who),
            completed,
            fail(job, &who, false),
            release(job, &who),
            discover(job, &who, groups(&["a", "b"])),
            report(job, who.lease(), 100),
        ]);
    }
    ops.extend([
        claim(job, other),
        claim(unknown, other),
        adopt("job-1", other),
        adopt("nobody", other),
    ]);
    let plan = world.store.plan_of(ops);
    assert!(plan.changed.is_empty() && plan.events.is_empty() && plan.progress.is_empty());
    assert!(plan.new_jobs.is_empty() && plan.sessions.is_empty() && plan.credentials.is_empty());
    assert_eq!(plan.backlog_change, 0);
    let without_effect = |outcome: &Outcome| match outcome {
        Outcome::Progressed { stale, .. } => stale.len() == 1,
        outcome => matches!(outcome, Outcome::Refused(_)),
    };
    assert!(plan.outcomes.iter().all(without_effect), "{:?}", plan.outcomes);
}

#[test]
fn a_late_report_is_dropped_and_a_good_one_gets_its_attempt() {
    let world = World::new(Policy::default());
    let (job, session) = (world.submitted("job"), world.open("s", None));
    let first = world.assigned(job, session);
    world.store.apply(report(job, first.lease(), 1));
    assert_eq!(world.progress(job), None, "assigned, not started");
    world.store.apply(start(job, &first));
    world.store.apply(report(job, first.lease(), 2));
    let kept = |world: &World| world.progress(job).map(|Tracker { attempt, n, .. }| (attempt, n));
    assert_eq!(kept(&world), Some((1, 2)));
    world.store.apply(report(job, first.lease(), 1));
    assert_eq!(kept(&world), Some((1, 2)), "an older one never replaces a newer");

    moved(world.store.apply(fail(job, &first, true)));
    world.later(world.policy.retry_delay_max);
    world.store.apply(renew(&[session]));
    world.sweep();
    let second = world.running(job, session);
    world.store.apply(report(job, first.lease(), 50));
    assert_eq!(kept(&world), Some((1, 2)), "the first lease is over");
    world.store.apply(report(job, second.lease(), 1));
    assert_eq!(kept(&world), Some((2, 1)), "a new attempt counts from the start");
    world.store.apply(complete(job, &second));
    world.store.apply(report(job, second.lease(), 51));
    assert_eq!(kept(&world), Some((2, 1)), "nothing more after the end");
}

#[test]
fn an_account_is_created_once_and_each_token_is_a_new_version() {
    let world = World::new(Policy::default());
    let token = |job: &str| {
        let credential = ready(world.store.job(job)).unwrap().unwrap().credential;
        credential.map(|key| {
            let (token, version) = ready(world.store.token(key)).unwrap().unwrap();
            (token.expose().to_owned(), version)
        })
    };
    world.submitted("without");
    assert_eq!(token("without"), None);
    world.submit(with_token("first", "t1"));
    world.submitted("inherits");
    world.submit(with_token("empty", ""));
    assert_eq!(token("first"), Some(("t1".to_owned(), 1)));
    assert_eq!(token("inherits"), token("first"), "the account's token for this host");
    assert_eq!(token("empty"), token("first"), "an empty token is none");
    world.submit(with_token("second", "t2"));
    assert_eq!(token("first"), Some(("t2".to_owned(), 2)), "one credential for all");
    assert_eq!(token("without"), None);
    let mut elsewhere = with_token("elsewhere", "t3");
    elsewhere.spec.host = "other.example".to_owned();
    world.submit(elsewhere);
    assert_eq!(token("elsewhere"), Some(("t3".to_owned(), 1)));

    let world = World::new(Policy::default());
    let stranger = |id: &str| {
        let mut new = with_token(id, id);
        new.account_id = "stranger".to_owned();
        Op::Submit(Box::new(new))
    };
    let plan = world.store.plan_of(vec![stranger("a"), stranger("b")]);
    assert_eq!(plan.new_accounts.len(), 1);
    assert_eq!(plan.new_jobs[0].lineage.account, plan.new_accounts[0].0);
    assert_eq!(plan.new_jobs[1].lineage, {
        let mut lineage = plan.new_jobs[0].lineage.clone();
        lineage.root = plan.new_jobs[1].job.key;
        lineage.generation = "b".to_owned();
        lineage
    });
    let [write] = &plan.credentials[..] else {
        panic!("one row is written once: {:?}", plan.credentials)
    };
    assert_eq!((write.token.expose(), write.version), ("b", 1), "a new row begins at 1");
    world.store.apply_all(vec![stranger("c")]);
    world.store.apply_all(vec![stranger("d")]);
    let accounts: Vec<_> = world.views().iter().map(|view| view.account).collect();
    assert_eq!(accounts[0], accounts[1], "known from then on");
}

#[test]
fn a_name_is_taken_once() {
    let world = World::new(Policy::default());
    world.submit(named("one", "web-1"));
    let taken = |by: &str| {
        Outcome::Refused(Rejection::NameTaken {
            public_id: by.to_owned(),
        })
    };
    assert_eq!(world.submit(named("two", "web-1")), taken("one"));
    assert_eq!(ready(world.store.job("two")).unwrap(), None);

    let world = World::new(Policy::default());
    let mut second = named("two", "web-1");
    second.access_token = Some(crawlwire_protocol::AccessToken::new("t"));
    let plan = world.store.plan_of(vec![
        Op::Submit(Box::new(named("one", "web-1"))),
        Op::Submit(Box::new(second)),
    ]);
    assert_eq!(plan.outcomes[1], taken("one"), "within one batch too");
    assert_eq!(
        (plan.new_jobs.len(), plan.credentials.len(), plan.backlog_change),
        (1, 0, 1)
    );
    let unnamed = Op::Submit(Box::new(new_job("web-2")));
    let outcomes = world
        .store
        .apply_all(vec![unnamed, Op::Submit(Box::new(named("three", "web-2")))]);
    assert_eq!(
        outcomes[1],
        taken("web-2"),
        "a job without a name has its public id for one"
    );
}

fn waiting(world: &World) -> usize {
    let rows = world.store.rows();
    rows.iter().filter(|row| row.state.is_backlog()).count()
}

#[test]
fn a_full_queue_refuses_submissions_within_a_batch_too() {
    let world = World::new(Policy {
        queued_jobs_max: 2,
        ..Policy::default()
    });
    let (job, session) = (world.submitted("job-1"), world.open("s", None));
    let submit = |id: &str| Op::Submit(Box::new(new_job(id)));
    let full = Outcome::Refused(Rejection::QueueFull { limit: 2 });
    let outcomes = world.store.apply_all(vec![
        submit("a"),
        submit("b"),
        claim(job, session),
        submit("c"),
        submit("d"),
    ]);
    assert!(matches!(outcomes[0], Outcome::Submitted(_)));
    assert_eq!(outcomes[1], full);
    assert!(matches!(outcomes[3], Outcome::Submitted(_)), "a claim made room");
    assert_eq!(outcomes[4], full);
    assert_eq!(waiting(&world), 2);

    let lease = holder(session, Fence(1));
    let outcomes = world.store.apply_all(vec![
        start(job, &lease),
        discover(job, &lease, groups(&["a", "b", "c"])),
        submit("e"),
    ]);
    let Outcome::Discovered(verdicts) = &outcomes[1] else {
        panic!("{outcomes:?}")
    };
    assert!(
        verdicts.iter().all(|(_, fact)| fact.is_some()),
        "what a crawl finds is never held back"
    );
    assert_eq!(outcomes[2], full);
    assert_eq!(waiting(&world), 5);
}

#[test]
fn a_recovery_reaches_the_operations_behind_it_in_the_batch() {
    let world = World::new(Policy::default());
    let (job, session) = (world.submitted("job-1"), world.open("s", None));
    world
        .store
        .apply_all(vec![claim(job, session), start(job, &holder(session, Fence(1)))]);
    world.later(world.policy.lease);
    let full = world.now().after(world.policy.lease);
    let outcomes = world.store.apply_all(vec![recover(true), Op::Sweep]);
    assert_eq!(outcomes[1], Outcome::Swept(vec![]), "nothing expires after an outage");
    assert_eq!(world.lease_of(session), full);

    world.later(world.policy.lease / 2);
    let full = world.now().after(world.policy.lease);
    world.store.apply_all(vec![disconnect(session), recover(true)]);
    assert_eq!(world.lease_of(session), full, "the last one counts");
    let row = world.row(job);
    assert_eq!((row.session, row.fence), (Some(session), Fence(1)), "nobody lost it");
}
