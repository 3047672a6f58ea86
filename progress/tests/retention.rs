//! What happens to many jobs at once, in steps: cancelled trees, redriven jobs, deleted and old trees.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::{Act, ErrorFilter, Holder, Op, Outcome, RedriveFilter, SELECTED_MAX};
use crawlwire_progress::view::ErrorRow;
use crawlwire_progress::{JobKey, Policy, State, Store, Timestamp};

use support::*;

/// One more than two steps can look at, the root not counted.
const MANY: usize = SELECTED_MAX * 2 + 1;

struct Crawl {
    world: World,
    root: JobKey,
    holder: Holder,
}

/// A root that runs, with so many children below the first of its children.
fn crawl(below: usize) -> Crawl {
    let world = World::new(Policy::default());
    let (root, session) = (world.submitted("root"), world.open("s", None));
    let holder = world.running(root, session);
    let (child, child_holder) = world.child(root, &holder, "child");
    let names: Vec<_> = (1..below).map(|number| number.to_string()).collect();
    world.found(
        child,
        &child_holder,
        &names.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    moved(world.store.apply(complete(child, &child_holder)));
    Crawl { world, root, holder }
}

impl Crawl {
    /// One that is over: its jobs cancelled, the first child completed.
    fn over(below: usize) -> Self {
        let crawl = crawl(below);
        cancelled(&crawl.world, crawl.root);
        crawl
    }

    fn delete(&self) -> Outcome {
        let by = BY.to_owned();
        self.world.store.apply(Op::Delete { root: self.root, by })
    }
}

fn cancel_tree(root: JobKey, after: Option<JobKey>) -> Op {
    let by = BY.to_owned();
    Op::CancelTree { root, after, by }
}

/// Cancels a tree; how many steps it took.
fn cancelled(world: &World, root: JobKey) -> usize {
    steps(world, |after| cancel_tree(root, after)).len()
}

/// The arrows that each step took.
fn steps(world: &World, op: impl Fn(Option<JobKey>) -> Op) -> Vec<usize> {
    let mut taken = Vec::new();
    let mut after = None;
    loop {
        let Outcome::Acted { facts, next } = world.store.apply(op(after)) else {
            panic!("refused")
        };
        assert!(next > after || next.is_none(), "it goes on");
        taken.push(facts.len());
        if next.is_none() {
            return taken;
        }
        after = next;
    }
}

fn prune(before: Timestamp) -> Op {
    Op::Prune {
        jobs_before: before,
        errors_before: before,
    }
}

fn unfinished(world: &World) -> usize {
    world.store.rows().iter().filter(|row| !row.state.is_terminal()).count()
}

#[test]
fn a_cancelled_tree_is_cancelled_to_the_last_job() {
    let crawl = crawl(MANY);
    let world = &crawl.world;
    let bystander = world.submitted("bystander");
    let taken = steps(world, |after| cancel_tree(crawl.root, after));
    assert_eq!(taken.len(), 3);
    // The root was running: its cancellation is two arrows. The completed child is none.
    assert_eq!(taken.iter().sum::<usize>(), MANY + 1);
    assert_eq!((unfinished(world), world.row(bystander).state), (1, State::Queued));
    assert_eq!(world.row(crawl.root).state, State::Cancelled);
    let found = world
        .store
        .apply(discover(crawl.root, &crawl.holder, groups(&["late"])));
    assert_eq!(found, refused(Refusal::Stale), "and finds nothing more");
    assert_eq!(world.audit().len(), 3, "each step");
    assert_eq!(steps(world, |after| cancel_tree(crawl.root, after)), [0; 3]);
    assert_eq!(world.audit().len(), 3, "nothing more was done");
    support::ledger::sound(world).unwrap();
}

#[test]
fn only_a_whole_tree_is_cancelled_or_deleted() {
    let crawl = Crawl::over(3);
    let child = crawl.world.store.rows()[1].key;
    let by = || BY.to_owned();
    let audited = crawl.world.audit().len();
    for (key, refusal) in [(child, Refusal::NotRoot), (JobKey(99_999), Refusal::NotFound)] {
        assert_eq!(crawl.world.store.apply(cancel_tree(key, None)), refused(refusal));
        assert_eq!(
            crawl.world.store.apply(Op::Delete { root: key, by: by() }),
            refused(refusal)
        );
    }
    assert_eq!(crawl.world.audit().len(), audited);
}

#[test]
fn all_that_failed_are_redriven_and_no_others() {
    let world = World::new(Policy {
        misses_max: 1,
        ..Policy::default()
    });
    let session = world.open("s", None);
    for number in 0..=SELECTED_MAX {
        let job = world.submitted(&format!("job-{number}"));
        let holder = world.running(job, session);
        moved(world.store.apply(fail(job, &holder, false)));
    }
    let quarantined = world.submitted("quarantined");
    let holder = world.assigned(quarantined, session);
    moved(world.store.apply(release(quarantined, &holder)));
    let (paused, _) = world.in_state(State::Paused, session);
    let (cancelled, _) = world.in_state(State::Cancelled, session);
    let mut new = new_job("other");
    new.account_id = "other".to_owned();
    world.submit(new);
    let other = world.store.rows().last().unwrap().key;
    let holder = world.running(other, session);
    moved(world.store.apply(fail(other, &holder, false)));
    let redrive = |quarantined, failed, account: &str| {
        let account_id = Some(account.to_owned()).filter(|name| !name.is_empty());
        let filter = RedriveFilter {
            quarantined,
            failed,
            account_id,
        };
        steps(&world, |after| Op::Redrive {
            filter: filter.clone(),
            after,
            by: BY.to_owned(),
        })
    };
    assert_eq!(redrive(false, false, "").iter().sum::<usize>(), 0);
    assert_eq!(redrive(true, true, "nobody").iter().sum::<usize>(), 0);
    let audited = world.audit().len();
    assert_eq!(redrive(false, true, "acme"), [SELECTED_MAX, 1]);
    assert_eq!(world.row(other).state, State::Failed);
    assert_eq!(world.row(quarantined).state, State::Paused);
    assert_eq!(redrive(true, false, ""), [1]);
    assert_eq!(redrive(true, true, ""), [1]);
    assert_eq!(
        world.audit().len(),
        audited + 4,
        "the last three, the first in two steps"
    );
    let states = [quarantined, other, paused, cancelled].map(|job| world.row(job).state);
    assert_eq!(states, [State::Queued, State::Queued, State::Paused, State::Cancelled]);
}

/// No child is there without its parent, whenever one looks.
fn nobody_is_an_orphan(world: &World) {
    let views = world.views();
    let ids: BTreeSet<_> = views.iter().map(|view| view.public_id.clone()).collect();
    for view in &views {
        assert_eq!(view.parent_id.is_some(), view.depth > 0, "{}", view.public_id);
        assert!(view.parent_id.as_ref().is_none_or(|parent| ids.contains(parent)) && ids.contains(&view.root_id));
    }
}

#[test]
fn a_tree_is_deleted_from_the_bottom_to_the_last_row() {
    let crawl = Crawl::over(MANY);
    let world = &crawl.world;
    let bystander = world.submitted("bystander");
    let mut sizes = Vec::new();
    loop {
        let Outcome::Deleted { jobs, more } = crawl.delete() else {
            panic!("refused")
        };
        sizes.push(jobs);
        nobody_is_an_orphan(world);
        if !more {
            break;
        }
    }
    assert_eq!(sizes, [SELECTED_MAX, SELECTED_MAX, 2]);
    assert_eq!(
        world.store.rows().iter().map(|row| row.key).collect::<Vec<_>>(),
        [bystander]
    );
    assert_eq!(world.events(crawl.root), [], "with all that belongs to it");
    assert_eq!(crawl.delete(), refused(Refusal::NotFound));
}

#[test]
fn two_who_delete_the_same_tree_both_hear_that_there_is_more() {
    let crawl = Crawl::over(MANY);
    let delete = || Op::Delete {
        root: crawl.root,
        by: BY.to_owned(),
    };
    let outcomes = crawl.world.store.apply_all(vec![delete(), delete()]);
    assert_eq!(
        outcomes[0],
        Outcome::Deleted {
            jobs: SELECTED_MAX,
            more: true
        }
    );
    assert!(
        matches!(outcomes[1], Outcome::Deleted { more: true, .. }),
        "{:?}",
        outcomes[1]
    );
}

#[test]
fn nothing_of_an_open_tree_is_deleted() {
    let crawl = crawl(3);
    let world = &crawl.world;
    assert_eq!(crawl.delete(), refused(Refusal::TreeOpen));
    moved(world.store.apply(complete(crawl.root, &crawl.holder)));
    assert_eq!(
        crawl.delete(),
        refused(Refusal::TreeOpen),
        "children are still to be done"
    );
    cancelled(world, crawl.root);
    let outcomes = world.store.apply_all(vec![
        act_by(world.store.rows()[2].key, Act::Retry),
        Op::Delete {
            root: crawl.root,
            by: BY.to_owned(),
        },
    ]);
    assert_eq!(outcomes[1], refused(Refusal::TreeOpen), "one began anew just before");
    assert_eq!(world.store.rows().len(), 4);
}

#[test]
fn old_trees_go_and_open_and_young_ones_stay() {
    let crawl = Crawl::over(MANY);
    let world = &crawl.world;
    let session = world.open("s", None);
    let open = world.submitted("open");
    let holder = world.running(open, session);
    let (below, below_holder) = world.child(open, &holder, "a");
    moved(world.store.apply(complete(open, &holder)));
    world.later(Duration::from_secs(60));
    let before = world.now();
    let (young, _) = world.in_state(State::Completed, world.open("t", None));
    let mut gone = Vec::new();
    loop {
        let Outcome::Pruned { jobs, more, .. } = world.store.apply(prune(before)) else {
            panic!("refused")
        };
        gone.push(jobs);
        nobody_is_an_orphan(world);
        if !more {
            break;
        }
    }
    assert_eq!(gone, [SELECTED_MAX, SELECTED_MAX, 2]);
    let left: Vec<_> = world.store.rows().iter().map(|row| row.key).collect();
    assert_eq!(left, [open, below, young], "its own end does not make a tree old");
    world.store.apply(renew(&[below_holder.session]));
    moved(world.store.apply(complete(below, &below_holder)));
    world.later(Duration::from_millis(1));
    let all = world.store.apply(prune(world.now()));
    assert_eq!(
        all,
        Outcome::Pruned {
            jobs: 3,
            errors: 0,
            more: false
        }
    );
}

#[test]
fn a_tree_that_begins_anew_in_the_batch_is_not_pruned() {
    for below in [3, SELECTED_MAX + 3] {
        let crawl = Crawl::over(below);
        let world = &crawl.world;
        world.later(Duration::from_secs(1));
        let outcomes = world
            .store
            .apply_all(vec![act_by(crawl.root, Act::Retry), prune(world.now())]);
        let none = Outcome::Pruned {
            jobs: 0,
            errors: 0,
            more: true,
        };
        assert_eq!(outcomes[1], none, "a tree of {below}");
        assert_eq!(world.store.rows().len(), below + 1);
    }
}

#[test]
fn what_is_deleted_is_not_pruned_as_well() {
    let crawl = Crawl::over(3);
    let world = &crawl.world;
    world.later(Duration::from_secs(1));
    let ops = vec![
        Op::Delete {
            root: crawl.root,
            by: BY.to_owned(),
        },
        prune(world.now()),
    ];
    let plan = world.store.plan_of(ops);
    assert_eq!(plan.deleted.len(), 4, "each row once");
    assert_eq!(plan.outcomes[0], Outcome::Deleted { jobs: 4, more: false });
    assert!(
        matches!(plan.outcomes[1], Outcome::Pruned { jobs: 0, .. }),
        "{:?}",
        plan.outcomes[1]
    );
}

#[test]
fn old_errors_go_in_steps() {
    let world = World::new(Policy::default());
    let error = |at| ErrorRow {
        at,
        category: "database",
        severity: "low",
        code: "x".to_owned(),
        job: None,
        connection: None,
        message: String::new(),
    };
    world
        .store
        .apply(Op::RecordErrors(vec![error(world.now()); SELECTED_MAX + 1]));
    world.later(Duration::from_secs(1));
    world.store.apply(Op::RecordErrors(vec![error(world.now())]));
    let before = world.now();
    let step = |errors, more| {
        assert_eq!(
            world.store.apply(prune(before)),
            Outcome::Pruned { jobs: 0, errors, more }
        )
    };
    step(SELECTED_MAX, true);
    step(1, false);
    step(0, false);
    assert_eq!(
        ready(world.store.errors(ErrorFilter::default(), ALL))
            .unwrap()
            .items
            .len(),
        1,
        "the young one stays"
    );
}
