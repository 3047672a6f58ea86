//! Trees: what a job says of everything below it, while that ends and begins anew.

mod support;

use std::time::Duration;

use crawlwire_progress::job::{Tree, TreeStatus};
use crawlwire_progress::store::{Act, Holder, Op};
use crawlwire_progress::weight::Weighed;
use crawlwire_progress::{JobKey, Policy, SessionKey, State};

use support::*;

/// A root, a child and a grandchild, all running.
struct Family {
    world: World,
    session: SessionKey,
    jobs: [(JobKey, Holder); 3],
}

impl Family {
    fn new() -> Self {
        let world = World::new(Policy::default());
        let (root, session) = (world.submitted("root"), world.open("s", None));
        let holder = world.running(root, session);
        let (child, child_holder) = world.child(root, &holder, "child");
        let grandchild = world.child(child, &child_holder, "grandchild");
        let jobs = [(root, holder), (child, child_holder), grandchild];
        Self { world, session, jobs }
    }

    fn complete(&self, place: usize) {
        let (job, holder) = &self.jobs[place];
        moved(self.world.store.apply(complete(*job, holder)));
    }

    fn fail(&self, place: usize) {
        let (job, holder) = &self.jobs[place];
        moved(self.world.store.apply(fail(*job, holder, false)));
    }

    fn act(&self, place: usize, act: Act) {
        acted(self.world.act(self.jobs[place].0, act));
    }

    /// Runs a job once more, to a good end.
    fn again(&self, place: usize) {
        let job = self.jobs[place].0;
        let holder = self.world.running(job, self.session);
        moved(self.world.store.apply(complete(job, &holder)));
    }

    fn statuses(&self) -> [TreeStatus; 3] {
        support::ledger::sound(&self.world).unwrap();
        [0, 1, 2].map(|place: usize| self.world.tree(self.jobs[place].0).status)
    }
}

use TreeStatus::{Cancelled, Completed, Failed, Open};

#[test]
fn a_tree_is_over_when_the_last_below_it_is() {
    let family = Family::new();
    let root = family.jobs[0].0;
    // What jobs weigh is recounted with the statuses.
    let weighed = family.world.tree(root).weighed;
    let counted = |children, jobs, open_children| Tree {
        children,
        jobs,
        weighed: if jobs > 0 { weighed } else { Weighed::NONE },
        open_children,
        ..Tree::NEW
    };
    assert_eq!(
        family.world.tree(root),
        counted(1, 2, 1),
        "jobs are counted on all levels, at the root"
    );
    assert_eq!(family.world.tree(family.jobs[1].0), counted(1, 0, 1));
    family.complete(0);
    family.complete(1);
    assert_eq!(family.statuses(), [Open; 3]);
    assert_eq!(
        family.world.row(root).state,
        State::Completed,
        "its own state waits for nobody"
    );
    family.world.later(Duration::from_secs(9));
    family.complete(2);
    assert_eq!(family.statuses(), [Completed; 3]);
    assert_eq!(
        family.world.tree(root).settled_at,
        Some(family.world.now()),
        "when the last one ended"
    );
    assert_eq!(family.world.events(root).len(), 4, "no step of the root's own life");
}

#[test]
fn what_fails_far_below_shows_at_the_top() {
    let family = Family::new();
    family.fail(2);
    assert_eq!(family.statuses(), [Open, Open, Failed]);
    family.complete(1);
    family.complete(0);
    assert_eq!(family.statuses(), [Failed; 3]);
    assert_eq!(family.world.tree(family.jobs[0].0).failed_children, 1);
}

#[test]
fn a_cancelled_job_makes_its_own_tree_cancelled_and_that_above_failed() {
    let family = Family::new();
    family.act(1, Act::Cancel);
    assert_eq!(family.statuses(), [Open; 3], "below it something is still to be done");
    family.complete(2);
    family.complete(0);
    assert_eq!(family.statuses(), [Failed, Cancelled, Completed]);

    let family = Family::new();
    family.fail(2);
    family.complete(1);
    family.act(0, Act::Cancel);
    assert_eq!(family.statuses(), [Cancelled, Failed, Failed]);
}

#[test]
fn another_chance_far_below_opens_all_above() {
    for act in [Act::Retry, Act::Redrive] {
        let family = Family::new();
        family.fail(2);
        family.complete(1);
        family.complete(0);
        family.act(2, act);
        assert_eq!(family.statuses(), [Open; 3], "{act:?}");
        let trees = family.jobs.each_ref().map(|(job, _)| family.world.tree(*job));
        assert!(
            trees
                .iter()
                .all(|tree| tree.settled_at.is_none() && tree.failed_children == 0)
        );
        family.again(2);
        assert_eq!(family.statuses(), [Completed; 3], "{act:?}");
    }
}

#[test]
fn another_chance_for_the_middle_leaves_what_is_below_alone() {
    let family = Family::new();
    family.fail(2);
    family.fail(1);
    family.complete(0);
    family.act(1, Act::Retry);
    assert_eq!(family.statuses(), [Open, Open, Failed]);
    family.again(1);
    assert_eq!(family.statuses(), [Failed; 3], "the grandchild still failed");
    family.act(2, Act::Retry);
    family.again(2);
    assert_eq!(family.statuses(), [Completed; 3]);
}

#[test]
fn a_paused_job_keeps_its_tree_open() {
    let family = Family::new();
    family.act(2, Act::Pause);
    family.complete(1);
    family.complete(0);
    assert_eq!(family.statuses(), [Open; 3]);
    family.act(2, Act::Cancel);
    assert_eq!(family.statuses(), [Failed, Failed, Cancelled]);
}

#[test]
fn several_that_end_in_one_batch_are_all_counted() {
    for turned in [false, true] {
        let world = World::new(Policy::default());
        let (root, session) = (world.submitted("root"), world.open("s", None));
        let holder = world.running(root, session);
        let children = world.found(root, &holder, &["a", "b", "c"]);
        let mut ops = vec![complete(root, &holder)];
        for (number, child) in children.iter().enumerate() {
            let holder = world.running(*child, session);
            ops.push(match number {
                0 => fail(*child, &holder, false),
                _ => complete(*child, &holder),
            });
        }
        if turned {
            ops.reverse();
        }
        ops.push(act_by(children[0], Act::Retry));
        world.store.apply_all(ops);
        let tree = world.tree(root);
        assert_eq!((tree.status, tree.open_children, tree.failed_children), (Open, 1, 0));
        let holder = world.running(children[0], session);
        world
            .store
            .apply_all(vec![fail(children[0], &holder, false), Op::Sweep]);
        let tree = world.tree(root);
        assert_eq!((tree.status, tree.open_children, tree.failed_children), (Failed, 0, 1));
        support::ledger::sound(&world).unwrap();
    }
}

#[test]
fn time_ends_trees_too() {
    let family = Family::new();
    family.complete(1);
    family.complete(0);
    let (grandchild, _) = family.jobs[2];
    for _ in 0..=family.world.policy.retry_attempts {
        family.world.later(family.world.policy.lease);
        family.world.sweep();
        family.world.store.apply(renew(&[family.session]));
        if family.world.row(grandchild).state == State::Queued {
            family.world.running(grandchild, family.session);
        }
    }
    assert_eq!(family.statuses(), [Failed; 3]);
}
