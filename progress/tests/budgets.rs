//! What an account may have, and what a job asks for itself and hands down to its children.

mod support;

use std::time::Duration;

use crawlwire_progress::discovery::{Budget, Verdict};
use crawlwire_progress::job::JobLimits;
use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::{NewJob, Outcome};
use crawlwire_progress::{Arrow, JobKey, Policy, State};

use support::*;

fn submitted(world: &World, new: NewJob) -> JobKey {
    match world.submit(new) {
        Outcome::Submitted(view) => view.key,
        other => panic!("not submitted: {other:?}"),
    }
}

fn of(account_id: &str, public_id: &str) -> NewJob {
    NewJob {
        account_id: account_id.to_owned(),
        ..new_job(public_id)
    }
}

#[test]
fn an_account_may_have_so_many_jobs_and_ended_ones_make_room() {
    let world = World::new(Policy {
        account_jobs_max: 3,
        ..Policy::default()
    });
    let session = world.open("s", None);
    let (root, waiting) = (world.submitted("root"), world.submitted("waiting"));
    let theirs = submitted(&world, of("other", "theirs"));
    let holder = world.running(root, session);
    let their_holder = world.running(theirs, session);
    let verdicts = |job, holder, entities: &[&str]| match world.store.apply(discover(job, holder, groups(entities))) {
        Outcome::Discovered(verdicts) => verdicts.into_iter().map(|(verdict, _)| verdict).collect::<Vec<_>>(),
        other => panic!("not discovered: {other:?}"),
    };
    let over = Verdict::OverBudget(Budget::Account);
    assert_eq!(verdicts(root, &holder, &["a", "b"]), [Verdict::Accepted, over]);
    assert_eq!(
        verdicts(theirs, &their_holder, &["a", "b"]),
        [Verdict::Accepted; 2],
        "others have their own"
    );
    acted(world.act(waiting, crawlwire_progress::store::Act::Cancel));
    assert_eq!(verdicts(root, &holder, &["b", "c"]), [Verdict::Accepted, over]);
    assert!(
        matches!(world.submit(new_job("more")), Outcome::Submitted(_)),
        "people may submit more"
    );
}

#[test]
fn an_account_may_hold_so_many_jobs_at_a_time() {
    let world = World::new(Policy {
        account_held_max: Some(2),
        ..Policy::default()
    });
    let session = world.open("s", None);
    let mine = ["a", "b", "c"].map(|id| world.submitted(id));
    let theirs = submitted(&world, of("other", "theirs"));
    let outcomes = world.store.apply_all(mine.map(|job| claim(job, session)).to_vec());
    assert_eq!(outcomes[2], refused(Refusal::AccountShare), "within one batch too");
    assert_eq!(
        world.store.apply(claim(mine[2], session)),
        refused(Refusal::AccountShare)
    );
    moved(world.store.apply(claim(theirs, session)));
    let first = holder(session, world.row(mine[0]).fence);
    moved(world.store.apply(complete(mine[0], &first)));
    moved(world.store.apply(claim(mine[2], session)));
}

#[test]
fn a_job_waits_for_its_time() {
    let world = World::new(Policy::default());
    let session = world.open("s", None);
    let run_at = world.now().after(Duration::from_secs(60));
    let later = submitted(
        &world,
        NewJob {
            run_at: Some(run_at),
            ..new_job("later")
        },
    );
    let past = submitted(
        &world,
        NewJob {
            run_at: Some(world.now()),
            ..new_job("past")
        },
    );
    assert_eq!((world.row(past).state, world.row(past).run_at), (State::Queued, None));
    assert_eq!(
        (world.row(later).state, world.row(later).run_at),
        (State::Delayed, Some(run_at))
    );
    assert!(
        world.row(later).due > world.row(past).due,
        "its place in the queue begins at its time"
    );
    assert_eq!(world.store.apply(claim(later, session)), refused(Refusal::NotQueued));
    world.later(Duration::from_secs(60) - Duration::from_millis(1));
    assert_eq!(world.sweep(), []);
    world.later(Duration::from_millis(1));
    assert_eq!(world.sweep()[0].arrow, Arrow::Promote);
    moved(world.store.apply(claim(later, session)));
}

#[test]
fn a_jobs_own_numbers_count_and_go_down_to_its_children() {
    let limits = JobLimits {
        timeout: Some(Duration::from_secs(10)),
        retry_attempts: Some(1),
        retry_delay: Some(Duration::ZERO),
    };
    let world = World::new(Policy::default());
    let session = world.open("s", None);
    let root = submitted(
        &world,
        NewJob {
            limits,
            ..new_job("root")
        },
    );
    let holder = world.running(root, session);
    assert_eq!(
        world.row(root).deadline,
        Some(world.now().after(Duration::from_secs(10)))
    );
    let (child, child_holder) = world.child(root, &holder, "a");
    let (grandchild, _) = world.child(child, &child_holder, "b");
    for job in [root, child, grandchild] {
        assert_eq!(world.view(job).limits, limits);
    }
    assert_eq!(
        world.row(child).deadline,
        Some(world.now().after(Duration::from_secs(10)))
    );
    moved(world.store.apply(fail(child, &child_holder, true)));
    assert_eq!(world.row(child).run_at, Some(world.now()), "tried again at once");
    assert_eq!(world.sweep()[0].arrow, Arrow::Promote);
    let child_holder = world.running(child, session);
    assert_eq!(
        moved(world.store.apply(fail(child, &child_holder, true))).state,
        State::Failed,
        "but once only"
    );
    world.later(Duration::from_secs(10));
    assert_eq!(
        world.sweep().len(),
        2,
        "the root and the grandchild ran longer than they may"
    );

    let plain = world.submitted("plain");
    world.running(plain, session);
    assert_eq!(
        world.row(plain).deadline,
        Some(world.now().after(world.policy.job_timeout))
    );
}

#[test]
fn labels_go_down_to_children_and_make_their_lane() {
    let world = World::new(Policy::default());
    let session = world.open("s", None);
    let labels = vec!["eu".to_owned(), "fast".to_owned()];
    let mut new = new_job("root");
    new.spec.labels.clone_from(&labels);
    let root = submitted(&world, new);
    let holder = world.running(root, session);
    let child = world.found(root, &holder, &["a"])[0];
    assert_eq!(world.view(child).spec.labels, labels);
    world.submitted("without");
    let query = crawlwire_progress::store::ReadyQuery {
        after_lane: None,
        lanes: 10,
        per_lane: 10,
    };
    let jobs = ready(crawlwire_progress::Store::ready(&world.store, query)).unwrap();
    assert_eq!(jobs.len(), 2);
    assert_ne!(jobs[0].lane, jobs[1].lane, "others can run them");
}
