//! Children: who is the same, what they inherit, how many there may be.

mod support;

use std::collections::BTreeSet;

use crawlwire_progress::discovery::{Budget, Verdict};
use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::{Holder, Op, Outcome};
use crawlwire_progress::{Arrow, Fact, Fence, JobKey, Policy, SessionKey, State, Store};
use crawlwire_protocol::message::{DiscoveredJob, JobType};

use support::*;

type Items = Vec<(String, DiscoveredJob)>;

struct Crawl {
    world: World,
    session: SessionKey,
    root: JobKey,
    holder: Holder,
}

impl Crawl {
    fn new(policy: Policy) -> Self {
        let world = World::new(policy);
        let (root, session) = (world.submitted("root"), world.open("s", None));
        let holder = world.running(root, session);
        Self {
            world,
            session,
            root,
            holder,
        }
    }

    fn found(&self, parent: JobKey, holder: &Holder, items: Items) -> Vec<(Verdict, Option<Fact>)> {
        match self.world.store.apply(discover(parent, holder, items)) {
            Outcome::Discovered(verdicts) => verdicts,
            other => panic!("not discovered: {other:?}"),
        }
    }

    fn verdicts(&self, parent: JobKey, holder: &Holder, items: Items) -> Vec<Verdict> {
        let found = self.found(parent, holder, items);
        found.into_iter().map(|(verdict, _)| verdict).collect()
    }

    /// A child of this parent that runs.
    fn child(&self, parent: JobKey, holder: &Holder, entity: &str) -> (JobKey, Holder) {
        let found = self.found(parent, holder, groups(&[entity]));
        let child = found[0].1.as_ref().expect("accepted").job;
        (child, self.world.running(child, self.session))
    }
}

const ACCEPTED: Verdict = Verdict::Accepted;
const DUPLICATE: Verdict = Verdict::Duplicate;

#[test]
fn a_thing_is_found_once_in_a_crawl() {
    let crawl = Crawl::new(Policy::default());
    let (root, holder) = (crawl.root, &crawl.holder);
    let batch = || groups(&["a", "b", "a"]);
    assert_eq!(crawl.verdicts(root, holder, batch()), [ACCEPTED, ACCEPTED, DUPLICATE]);
    assert_eq!(
        crawl.verdicts(root, holder, batch()),
        [DUPLICATE; 3],
        "the same batch again"
    );
    let again = vec![("self".to_owned(), item(JobType::CrawlGroup, "root"))];
    assert_eq!(crawl.verdicts(root, holder, again), [DUPLICATE], "the root itself");
    let other_type = vec![("other".to_owned(), item(JobType::CrawlProject, "a"))];
    assert_eq!(
        crawl.verdicts(root, holder, other_type),
        [ACCEPTED],
        "another type is another job"
    );

    let (child, child_holder) = crawl.child(root, holder, "c");
    let (sibling, sibling_holder) = crawl.child(root, holder, "d");
    assert_eq!(
        crawl.verdicts(child, &child_holder, groups(&["a", "e"])),
        [DUPLICATE, ACCEPTED]
    );
    moved(crawl.world.store.apply(complete(child, &child_holder)));
    let seen = groups(&["c", "e", "root", "f"]);
    assert_eq!(
        crawl.verdicts(sibling, &sibling_holder, seen),
        [DUPLICATE, DUPLICATE, DUPLICATE, ACCEPTED],
        "across parents, and finished ones too"
    );
    assert_eq!(crawl.world.view(root).tree.children, 5);
    assert_eq!(crawl.world.view(sibling).tree.children, 1);

    let second = crawl.world.submitted("another-crawl");
    let second_holder = crawl.world.running(second, crawl.session);
    assert_eq!(
        crawl.verdicts(second, &second_holder, groups(&["a"])),
        [ACCEPTED],
        "another crawl"
    );
}

#[test]
fn children_inherit_and_are_told() {
    let world = World::new(Policy::default());
    world.submit(with_token("root", "t"));
    let root = ready(world.store.job("root")).unwrap().unwrap();
    let session = world.open("s", None);
    let holder = world.running(root.key, session);
    let crawl = Crawl {
        world,
        session,
        root: root.key,
        holder,
    };
    let found = crawl.found(crawl.root, &crawl.holder, groups(&["a"]));
    let fact = found[0].1.clone().unwrap();
    assert_eq!(
        (fact.arrow, fact.from, fact.state),
        (Arrow::Discover, None, State::Queued)
    );
    assert_eq!((fact.fence, fact.attempt, fact.session), (Fence(0), 0, None));
    let (grandchild, _) = {
        let holder = crawl.world.running(fact.job, crawl.session);
        crawl.child(fact.job, &holder, "b")
    };
    for (key, parent, depth) in [(fact.job, root.public_id.as_str(), 1), (grandchild, &fact.public_id, 2)] {
        let view = crawl.world.view(key);
        assert_eq!((view.parent_id.as_deref(), view.depth), (Some(parent), depth));
        assert_eq!(view.root_id, root.public_id);
        assert_eq!(view.account_id, root.account_id);
        assert_eq!(view.credential, root.credential);
        assert!(view.credential.is_some());
        assert_eq!(view.spec.host, root.spec.host);
        assert_eq!(
            (&view.spec.provider, &view.spec.user_id),
            (&root.spec.provider, &root.spec.user_id)
        );
        assert_eq!(view.web_app_job_id, view.public_id);
        assert_eq!(view.spec.priority, 2.0);
    }
    let events = crawl.world.events(fact.job);
    assert_eq!(events[0].arrows, ["discover"]);
    assert_eq!(events[0].session.as_deref(), Some(&*crawl.holder.name), "who found it");
}

#[test]
fn each_budget_is_named_and_holds_exactly() {
    let policy = Policy {
        tree_depth_max: 2,
        children_max: 3,
        tree_jobs_max: 5,
        ..Policy::default()
    };
    let crawl = Crawl::new(policy);
    let (root, holder) = (crawl.root, &crawl.holder);
    let over = Verdict::OverBudget;
    let (child, child_holder) = crawl.child(root, holder, "a");
    assert_eq!(
        crawl.verdicts(root, holder, groups(&["b", "a", "c", "d", "a"])),
        [ACCEPTED, DUPLICATE, ACCEPTED, over(Budget::Children), DUPLICATE],
        "a duplicate costs no budget"
    );
    let (grandchild, deepest) = crawl.child(child, &child_holder, "e");
    assert_eq!(
        crawl.verdicts(grandchild, &deepest, groups(&["f"])),
        [over(Budget::Depth)]
    );
    assert_eq!(
        crawl.verdicts(child, &child_holder, groups(&["f", "g"])),
        [ACCEPTED, over(Budget::Tree)],
        "five jobs below the root"
    );
    assert_eq!(crawl.world.view(root).tree.children, 3);
    assert_eq!(crawl.world.view(child).tree.children, 2);
    assert_eq!(crawl.world.store.rows().len(), 6);
}

#[test]
fn only_who_runs_the_job_finds_anything() {
    let crawl = Crawl::new(Policy::default());
    let stale = refused(Refusal::Stale);
    let world = &crawl.world;
    let assigned = world.submitted("assigned");
    let not_started = world.assigned(assigned, crawl.session);
    let find = |parent, holder: &Holder| world.store.apply(discover(parent, holder, groups(&["x"])));
    assert_eq!(find(assigned, &not_started), stale);
    moved(world.store.apply(complete(crawl.root, &crawl.holder)));
    assert_eq!(find(crawl.root, &crawl.holder), stale, "it has ended");
    assert_eq!(find(JobKey(99), &crawl.holder), refused(Refusal::NotFound));
    assert_eq!(world.store.rows().len(), 2);
}

#[test]
fn two_parents_of_a_tree_in_one_batch_share_its_budget() {
    let world = World::new(Policy {
        tree_jobs_max: 4,
        ..Policy::default()
    });
    let (root, session) = (world.submitted("root"), world.open("s", None));
    let one = holder(session, Fence(1));
    world.store.apply_all(vec![
        claim(root, session),
        start(root, &one),
        discover(root, &one, groups(&["a", "b"])),
    ]);
    let rows = world.store.rows();
    let children: Vec<_> = rows.iter().map(|row| row.key).filter(|key| *key != root).collect();
    let mut ops: Vec<_> = children
        .iter()
        .flat_map(|key| [claim(*key, session), start(*key, &one)])
        .collect();
    ops.push(discover(children[0], &one, groups(&["c", "d"])));
    ops.push(discover(children[1], &one, groups(&["c", "e"])));
    ops.push(discover(root, &one, groups(&["e"])));
    let plan = world.store.plan_of(ops.clone());
    let roots = plan.changed.iter().filter(|changed| changed.job.key == root);
    assert_eq!(roots.map(|changed| changed.tree.jobs).collect::<Vec<_>>(), [4]);
    assert_eq!(plan.new_jobs.len(), 2);
    let identities: BTreeSet<_> = plan.new_jobs.iter().map(|new| &new.identity).collect();
    assert_eq!(identities.len(), 2);
    assert!(
        plan.events.iter().all(|event| event.job != root),
        "counting children is no step of the root's life"
    );
    let verdicts: Vec<Vec<_>> = plan
        .outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Discovered(verdicts) => Some(verdicts.iter().map(|(verdict, _)| *verdict).collect()),
            _ => None,
        })
        .collect();
    let over = Verdict::OverBudget(Budget::Tree);
    assert_eq!(verdicts, [vec![ACCEPTED, ACCEPTED], vec![DUPLICATE, over], vec![over]]);

    world.store.apply_all(ops);
    let again: Vec<Op> = vec![discover(children[0], &one, groups(&["c", "d", "a"]))];
    assert!(
        world.store.plan_of(again).changed.is_empty(),
        "nothing new, nothing written"
    );
}
