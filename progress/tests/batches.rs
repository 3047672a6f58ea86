//! A batch has the effect that its operations have one by one, so it does not matter what arrived together; and
//! whatever it is made of, all counts stay right.

mod support;

use crawlwire_progress::admit::ClosedGate;
use crawlwire_progress::store::{Op, Outcome};
use crawlwire_progress::track::Tracker;
use crawlwire_progress::view::{AreaView, AuditView, JobView, SessionView};
use crawlwire_progress::{Job, Policy, Store};
use proptest::prelude::*;

use support::ledger::Ledger;
use support::play::{Play, tight};
use support::step::{Step, step};
use support::*;

/// Everything that can be seen of a store, but for how the arrows of a job were put into events.
#[derive(Debug, PartialEq)]
struct Everything {
    rows: Vec<Job>,
    views: Vec<JobView>,
    arrows: Vec<Vec<String>>,
    progress: Vec<Option<Tracker>>,
    tokens: Vec<Option<String>>,
    sessions: Vec<SessionView>,
    gates: Vec<ClosedGate>,
    audit: Vec<AuditView>,
    areas: Vec<AreaView>,
}

fn everything(world: &World) -> Everything {
    let views = world.views();
    let arrows = |view: &JobView| {
        world
            .events(view.key)
            .into_iter()
            .flat_map(|event| event.arrows)
            .collect()
    };
    let token = |view: &JobView| {
        let (token, _) = ready(world.store.token(view.credential?)).unwrap()?;
        Some(token.expose().to_owned())
    };
    let mut areas: Vec<_> = ["acme", "other"]
        .into_iter()
        .flat_map(|account| world.areas(account))
        .collect();
    for area in &mut areas {
        area.id = 0;
    }
    areas.sort_by_key(|area| (area.entity_id.clone(), area.since));
    Everything {
        rows: world.store.rows(),
        arrows: views.iter().map(arrows).collect(),
        progress: views.iter().map(|view| world.progress(view.key)).collect(),
        tokens: views.iter().map(token).collect(),
        views,
        sessions: ready(world.store.sessions(1000)).unwrap(),
        gates: ready(world.store.gates()).unwrap(),
        audit: world.audit(),
        areas,
    }
}

/// Steps that are carried out together.
fn batches(many: bool) -> impl Strategy<Value = Vec<Vec<Step>>> {
    let fits = move |step: &Step| many || !matches!(step, Step::Many(_) | Step::Recover { connected: false });
    let step = step().prop_filter("what chooses its jobs sees what was before the batch", fits);
    prop::collection::vec(prop::collection::vec(step, 1..12), 1..16)
}

fn learn(play: &mut Play, ops: &[Op], outcomes: &[Outcome]) {
    for (op, outcome) in ops.iter().zip(outcomes) {
        play.learn(op, outcome);
    }
}

fn may_open_a_gate(op: &Op) -> bool {
    matches!(op, Op::OpenGate { .. } | Op::Submit(_) | Op::Sweep)
}

fn policy() -> Policy {
    Policy {
        retry_attempts: 1,
        ..tight()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_is_its_operations_one_by_one(batches in batches(false)) {
        let mut together = Play::new(policy());
        let single = World::new(policy());
        let opening = together.opening();
        let outcomes = together.world.store.apply_all(opening.clone());
        learn(&mut together, &opening, &outcomes);
        single.store.apply_all(opening);
        for steps in batches {
            let mut ops: Vec<_> = steps.iter().flat_map(|step| together.ops(step)).collect();
            // Of a gate that opens and an outage that ends, deadlines get both; the order says how much, and either is fair.
            if ops.iter().any(may_open_a_gate) {
                ops.retain(|op| !matches!(op, Op::Recover { .. }));
            }
            single.later(together.world.now().since(single.now()));
            let at_once = together.world.store.apply_all(ops.clone());
            learn(&mut together, &ops, &at_once);
            let one_by_one: Vec<_> = ops.into_iter().map(|op| single.store.apply(op)).collect();
            prop_assert_eq!(at_once, one_by_one);
            prop_assert_eq!(everything(&together.world), everything(&single));
        }
    }

    #[test]
    fn all_counts_stay_right_whatever_comes_together(batches in batches(true)) {
        let mut play = Play::new(policy());
        let mut ledger = Ledger::default();
        let opening = play.opening();
        let outcomes = ledger.carry_out(&play.world, opening.clone())?;
        learn(&mut play, &opening, &outcomes);
        for steps in batches {
            let ops: Vec<_> = steps.iter().flat_map(|step| play.ops(step)).collect();
            let outcomes = ledger.carry_out(&play.world, ops.clone())?;
            learn(&mut play, &ops, &outcomes);
        }
    }
}
