//! A ledger beside the store: what batches said that they write is added up, and all that is counted is recounted.

use std::collections::{BTreeMap, BTreeSet};

use crawlwire_progress::admit::Gate;
use crawlwire_progress::job::{Tree, TreeStatus};
use crawlwire_progress::plan::{AccountCounts, Plan};
use crawlwire_progress::store::{Op, Outcome};
use crawlwire_progress::sums::{Sum, completion};
use crawlwire_progress::view::JobView;
use crawlwire_progress::weight::Weighed;
use crawlwire_progress::{AccountKey, JobKey, State, Store, Timestamp};
use crawlwire_protocol::message::JobType;
use proptest::prelude::*;

use super::{World, ready, weight};

/// Account, host, kind, entity.
type Place = (String, String, &'static str, String);

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    backlog: i64,
    accounts: BTreeMap<AccountKey, AccountCounts>,
    gates: BTreeMap<Gate, Option<Timestamp>>,
    audits: usize,
    /// Places with the newest path.
    areas: BTreeMap<Place, String>,
}

impl Ledger {
    /// Carries operations out in one batch and checks everything that can be checked.
    pub(crate) fn carry_out(&mut self, world: &World, ops: Vec<Op>) -> Result<Vec<Outcome>, TestCaseError> {
        let plan = world.store.plan_of(ops.clone());
        let parents = world.views();
        each_row_once(&plan)?;
        rows_are_as_they_were(world, &plan)?;
        self.backlog += plan.backlog_change;
        for (account, change) in &plan.account_changes {
            let counts = self.accounts.entry(*account).or_default();
            counts.open += change.open;
            counts.held += change.held;
        }
        let outcomes = world.store.apply_all(ops.clone());
        prop_assert_eq!(&outcomes, &plan.outcomes);
        for (op, outcome) in ops.iter().zip(&outcomes) {
            self.audits += self.audited(op, outcome, world.now());
            self.found(op, outcome, &parents);
        }
        sound(world)?;
        self.compare(world)?;
        Ok(outcomes)
    }

    /// How many rows of the audit an operation adds; follows the gates on its way.
    fn audited(&mut self, op: &Op, outcome: &Outcome, now: Timestamp) -> usize {
        let effect = match (op, outcome) {
            (Op::Act { .. } | Op::Delete { .. }, outcome) => !matches!(outcome, Outcome::Refused(_)),
            (Op::CancelTree { .. } | Op::Redrive { .. }, Outcome::Acted { facts, .. }) => !facts.is_empty(),
            (Op::CloseGate { gate, until, .. }, Outcome::Done) => {
                self.gates.insert(gate.clone(), *until);
                true
            }
            (Op::OpenGate { gate, .. }, _) => self.gates.remove(gate).is_some(),
            (Op::Submit(new), Outcome::Submitted(_)) if new.access_token.is_some() => {
                let (account_id, host) = (new.account_id.clone(), new.spec.host.clone());
                self.gates.remove(&Gate::Credentials { account_id, host }).is_some()
            }
            (Op::Sweep, _) => {
                self.gates.retain(|_, until| until.is_none_or(|until| now < until));
                false
            }
            _ => false,
        };
        usize::from(effect)
    }

    fn found(&mut self, op: &Op, outcome: &Outcome, views: &[JobView]) {
        let (Op::Discover { parent, items, .. }, Outcome::Discovered(_)) = (op, outcome) else {
            return;
        };
        let parent = views.iter().find(|view| view.key == *parent).unwrap();
        for item in items.iter().map(|found| &found.item) {
            let kind = match item.job_type {
                JobType::CrawlUser => "user",
                JobType::CrawlGroup => "group",
                JobType::CrawlProject => "project",
                JobType::DiscoverNamespaces => continue,
            };
            let (host, entity) = (parent.spec.host.clone(), item.entity_id.clone());
            let here = (parent.account_id.clone(), host.clone(), kind, entity.clone());
            self.areas.insert(here, String::new());
            // Who saw the place before sees its newest path.
            for (place, path) in &mut self.areas {
                if (&place.1, place.2, &place.3) == (&host, kind, &entity) {
                    path.clone_from(&item.namespace_path);
                }
            }
        }
    }

    fn compare(&self, world: &World) -> Result<(), TestCaseError> {
        let rows = world.store.rows();
        let views = world.views();
        let waiting = rows.iter().filter(|row| row.state.is_backlog()).count();
        prop_assert_eq!(self.backlog, waiting as i64);
        let mut recounted = BTreeMap::<AccountKey, AccountCounts>::new();
        for view in &views {
            let counts = recounted.entry(view.account).or_default();
            counts.open += i64::from(!view.state.is_terminal());
            counts.held += i64::from(view.state.is_leased());
        }
        let booked = self
            .accounts
            .iter()
            .filter(|(_, counts)| **counts != AccountCounts::default());
        recounted.retain(|_, counts| *counts != AccountCounts::default());
        prop_assert_eq!(
            booked.map(|(key, counts)| (*key, *counts)).collect::<BTreeMap<_, _>>(),
            recounted
        );
        prop_assert_eq!(world.audit().len(), self.audits, "{:?}", world.audit());
        let closed = ready(world.store.gates()).unwrap();
        let closed: Vec<_> = closed.into_iter().map(|closed| (closed.gate, closed.until)).collect();
        prop_assert_eq!(closed, self.gates.clone().into_iter().collect::<Vec<_>>());
        let accounts: BTreeSet<_> = self.areas.keys().map(|place| place.0.clone()).collect();
        for account in accounts {
            let seen = world.areas(&account).into_iter();
            let seen: BTreeMap<_, _> = seen.map(|it| ((it.host, it.kind, it.entity_id), it.path)).collect();
            let mine = self.areas.iter().filter(|(place, _)| place.0 == account);
            let mine: BTreeMap<_, _> = mine
                .map(|((_, host, kind, entity), path)| {
                    ((host.clone(), (*kind).to_owned(), entity.clone()), path.clone())
                })
                .collect();
            prop_assert_eq!(seen, mine);
        }
        Ok(())
    }
}

/// What one statement could not write: a row twice.
fn each_row_once(plan: &Plan) -> Result<(), TestCaseError> {
    fn once<T: Ord>(rows: impl Iterator<Item = T>) -> bool {
        let mut rows: Vec<_> = rows.collect();
        let all = rows.len();
        rows.sort();
        rows.dedup();
        rows.len() == all
    }
    prop_assert!(once(plan.changed.iter().map(|changed| changed.job.key)));
    prop_assert!(once(plan.sessions.iter().map(|session| session.key)));
    prop_assert!(once(plan.credentials.iter().map(|write| write.key)));
    prop_assert!(once(plan.new_jobs.iter().map(|new| new.job.key)));
    prop_assert!(once(plan.new_jobs.iter().map(|new| new.identity.clone())));
    prop_assert!(once(plan.new_accounts.iter().map(|(_, name)| name.clone())));
    prop_assert!(once(plan.closings.iter().map(|closed| closed.gate.clone())));
    prop_assert!(once(plan.deleted.iter().map(|(job, _)| *job)));
    prop_assert!(once(plan.deleted_errors.iter().copied()));
    prop_assert!(once(plan.events.iter().map(|event| event.job)));
    prop_assert!(plan.events.iter().all(|event| !event.arrows.is_empty()));
    Ok(())
}

/// Rows are changed and deleted from the state in which they are, and none is written after it was deleted.
fn rows_are_as_they_were(world: &World, plan: &Plan) -> Result<(), TestCaseError> {
    let rows: BTreeMap<JobKey, _> = world.store.rows().into_iter().map(|row| (row.key, row)).collect();
    let deleted: BTreeMap<_, _> = plan.deleted.iter().copied().collect();
    for changed in &plan.changed {
        let row = &rows[&changed.job.key];
        prop_assert_eq!((row.state, row.fence), changed.before);
        prop_assert!(!deleted.contains_key(&changed.job.key));
    }
    for (job, state) in &deleted {
        prop_assert_eq!(rows[job].state, *state);
    }
    Ok(())
}

/// Everything that can be seen of a store fits together.
pub(crate) fn sound(world: &World) -> Result<(), TestCaseError> {
    for row in world.store.rows() {
        prop_assert_eq!(row.check(), Ok(()), "{:?}", row);
    }
    let views = world.views();
    trees_add_up(&views)?;
    reports_add_up(world, &views)?;
    counts_add_up(world, &views)?;
    let mut identities = BTreeSet::new();
    for view in views {
        let same = (view.root_id, view.spec.host, view.spec.job_type, view.spec.entity_id);
        prop_assert!(identities.insert(same), "a thing is twice in a crawl");
    }
    Ok(())
}

/// What is kept of every tree is what its jobs' reports add up to, and a completion follows that is one.
fn reports_add_up(world: &World, views: &[JobView]) -> Result<(), TestCaseError> {
    for root in views.iter().filter(|view| view.depth == 0) {
        let jobs = views.iter().filter(|view| view.root_id == root.public_id);
        let sums = jobs.filter_map(|view| {
            let report = ready(world.store.progress(view.key)).unwrap()?;
            Some(Sum::of(report.work(), weight(&view.public_id)))
        });
        let recounted = sums.fold(Sum::default(), |one, other| one + other);
        let kept = ready(world.store.tree_progress(root.key)).unwrap();
        let sum = kept.map(|tree| tree.sum).unwrap_or_default();
        prop_assert_eq!(sum, recounted, "{:?}", root);
        let completion = completion(sum, root.tree.size(), root.tree.status);
        prop_assert!((0.0..=1.0).contains(&completion), "{}", completion);
        prop_assert_eq!(completion == 1.0, root.tree.status == TreeStatus::Completed);
    }
    Ok(())
}

/// What is below a job and itself, as seen from the bottom.
#[derive(Clone, Copy)]
struct Below {
    over: bool,
    well: bool,
    jobs: i64,
    weighed: Weighed,
}

/// Every job's tree is what a recount of the rows says, by the plain meaning of the words: open while anything in it is,
/// else completed if everything is, else what became of the job.
fn trees_add_up(views: &[JobView]) -> Result<(), TestCaseError> {
    let mut below = BTreeMap::<&str, Below>::new();
    let mut statuses = BTreeMap::<&str, Vec<TreeStatus>>::new();
    // Newest first: children before their parents.
    for view in views {
        let mine = below.get(&*view.public_id).copied().unwrap_or(Below {
            over: true,
            well: true,
            jobs: 0,
            weighed: Weighed::NONE,
        });
        let children = statuses.remove(&*view.public_id).unwrap_or_default();
        let whole = Below {
            over: mine.over && view.state.is_terminal(),
            well: mine.well && view.state == State::Completed,
            jobs: mine.jobs + 1,
            weighed: mine.weighed + Weighed::of(weight(&view.public_id)),
        };
        let status = match view.state {
            _ if !whole.over => TreeStatus::Open,
            State::Cancelled => TreeStatus::Cancelled,
            _ if whole.well => TreeStatus::Completed,
            _ => TreeStatus::Failed,
        };
        let count = |wanted: &[TreeStatus]| children.iter().filter(|status| wanted.contains(status)).count() as i64;
        let recounted = Tree {
            children: children.len() as i64,
            jobs: if view.depth == 0 { mine.jobs } else { 0 },
            weighed: if view.depth == 0 { whole.weighed } else { Weighed::NONE },
            open_children: count(&[TreeStatus::Open]),
            failed_children: count(&[TreeStatus::Failed, TreeStatus::Cancelled]),
            status,
            settled_at: view.tree.settled_at,
        };
        prop_assert_eq!(view.tree, recounted, "{:?}", view);
        prop_assert_eq!(view.tree.settled_at.is_some(), status != TreeStatus::Open);
        prop_assert_eq!(view.parent_id.is_some(), view.depth > 0, "a child without its parent");
        if let Some(parent) = &view.parent_id {
            let above = below.entry(parent).or_insert(Below {
                over: true,
                well: true,
                jobs: 0,
                weighed: Weighed::NONE,
            });
            above.over &= whole.over;
            above.well &= whole.well;
            above.jobs += whole.jobs;
            above.weighed = above.weighed + whole.weighed;
            statuses.entry(parent).or_default().push(status);
        }
    }
    prop_assert!(statuses.is_empty(), "children without their parents: {:?}", statuses);
    Ok(())
}

fn counts_add_up(world: &World, views: &[JobView]) -> Result<(), TestCaseError> {
    let mut counts = BTreeMap::new();
    let mut held = BTreeMap::new();
    for view in views {
        *counts.entry(view.state).or_insert(0) += 1;
        if view.state.is_leased() {
            *held.entry(view.account).or_insert(0) += 1;
        }
    }
    prop_assert_eq!(ready(world.store.counts()).unwrap(), counts);
    let accounts = views.iter().map(|view| view.account).collect();
    let mut told = ready(world.store.held_by_account(accounts)).unwrap();
    told.retain(|_, held| *held > 0);
    prop_assert_eq!(told, held);
    let sessions = ready(world.store.sessions(1000)).unwrap();
    for session in sessions {
        let held = ready(world.store.held(vec![session.key])).unwrap();
        prop_assert_eq!(held.len(), session.held);
        for job in held {
            let row = world.row(job.key);
            prop_assert_eq!(
                (row.session, row.fence, row.want),
                (Some(job.session), job.fence, job.want)
            );
        }
    }
    Ok(())
}
