//! Jobs that a batch means without naming them: by a condition, or because time has something to say about them.
//!
//! Only their keys are found here, and nothing is locked, so that one statement can then lock everything in order. The
//! roots of trees that are to go are the exception: two servers that tidy up leave each other's alone.

use std::collections::{BTreeMap, BTreeSet};

use crawlwire_progress::plan::{Needs, Selected, Selection};
use crawlwire_progress::store::{RedriveFilter, SELECTED_MAX, SWEEP_MAX};
use crawlwire_progress::{JobKey, PauseReason, Policy, State, Timestamp};
use serde_json::json;

use crate::connection::{Cells, Connection};
use crate::error::Trouble;
use crate::load::{fetch, state};
use crate::sql;

/// Trees that one round of tidying up looks at: as many as it may delete, if they have one job each.
const ROOTS_MAX: usize = SELECTED_MAX;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    /// By every selection.
    pub(crate) selected: BTreeMap<Selection, Selected>,
    /// Jobs to be loaded with their ancestors.
    pub(crate) families: BTreeSet<JobKey>,
}

/// A submitted job whose tree is over.
struct Root {
    key: JobKey,
    state: State,
    has_children: bool,
}

/// Members of trees by their roots, by falling key, one more than a selection takes.
type Trees = BTreeMap<JobKey, Vec<(JobKey, State)>>;

/// Finds what a batch means.
pub(crate) async fn choose(
    connection: &mut Connection,
    needs: &Needs,
    policy: &Policy,
    now: Timestamp,
) -> Result<Chosen, Trouble> {
    let mut chosen = Chosen::default();
    if needs.sweep {
        let accept = i64::try_from(policy.accept_timeout.as_millis()).unwrap_or(i64::MAX);
        let moments = json!({"now": now, "accepted": now.0.saturating_sub(accept), "limit": SWEEP_MAX});
        for row in fetch(connection, sql::CHOOSE_DUE, &moments).await? {
            chosen.families.insert(JobKey(Cells::of(&row).next()?));
        }
    }
    if needs.selections.is_empty() {
        return Ok(chosen);
    }
    below(connection, needs, &mut chosen).await?;
    let mut settled = BTreeMap::new();
    for selection in &needs.selections {
        match selection {
            Selection::Redrivable { filter, after } => {
                let found = redrivable(connection, filter, *after).await?;
                chosen.families.extend(found.jobs.iter().map(|(key, _)| *key));
                chosen.selected.insert(selection.clone(), found);
            }
            Selection::Settled { before } => {
                settled.insert(selection, settled_roots(connection, *before).await?);
            }
            Selection::Tree { root } => {
                chosen.families.insert(*root);
            }
            Selection::Below { .. } => {}
        }
    }
    let asked = needs.selections.iter().filter_map(|selection| match selection {
        Selection::Tree { root } => Some(*root),
        _ => None,
    });
    let with_children = settled
        .values()
        .flat_map(|(roots, _)| roots)
        .filter(|root| root.has_children);
    let roots: BTreeSet<JobKey> = asked.chain(with_children.map(|root| root.key)).collect();
    let mut trees = trees(connection, &roots).await?;
    for selection in &needs.selections {
        let found = match selection {
            Selection::Tree { root } => cut(trees.get(root).cloned().unwrap_or_default(), false),
            Selection::Settled { .. } => {
                let (roots, more) = settled.remove(selection).unwrap_or_default();
                let members = roots.into_iter().flat_map(|root| match trees.remove(&root.key) {
                    Some(members) => members,
                    None => vec![(root.key, root.state)],
                });
                cut(members.collect(), more)
            }
            _ => continue,
        };
        chosen.selected.insert(selection.clone(), found);
    }
    Ok(chosen)
}

/// As many as one selection takes; `more` says whether there are others that were not even looked at.
fn cut(mut jobs: Vec<(JobKey, State)>, more: bool) -> Selected {
    let more = more || jobs.len() > SELECTED_MAX;
    jobs.truncate(SELECTED_MAX);
    let next = jobs.last().map(|(key, _)| *key).filter(|_| more);
    Selected { jobs, next }
}

/// A window of rows that were looked at, and those of them that are meant.
fn window(rows: &[(JobKey, State)], meant: impl Fn(&(JobKey, State)) -> bool) -> Selected {
    let last = rows.last().filter(|_| rows.len() >= SELECTED_MAX);
    Selected {
        next: last.map(|(key, _)| *key),
        jobs: rows.iter().copied().filter(meant).collect(),
    }
}

async fn below(connection: &mut Connection, needs: &Needs, chosen: &mut Chosen) -> Result<(), Trouble> {
    let mut windows = BTreeMap::<(JobKey, JobKey), Vec<_>>::new();
    for selection in &needs.selections {
        if let Selection::Below { root, after } = selection {
            windows.insert((*root, *after), Vec::new());
        }
    }
    if windows.is_empty() {
        return Ok(());
    }
    let trees: Vec<_> = windows
        .keys()
        .map(|(root, after)| json!({"root": root, "after": after}))
        .collect();
    let trees = json!({"trees": trees, "limit": SELECTED_MAX});
    for row in fetch(connection, sql::CHOOSE_BELOW, &trees).await? {
        let mut cells = Cells::of(&row);
        let window = (JobKey(cells.next()?), JobKey(cells.next()?));
        let job = (JobKey(cells.next()?), state(&cells.next::<String>()?)?);
        windows.entry(window).or_default().push(job);
    }
    for ((root, after), rows) in windows {
        let found = window(&rows, |(_, state)| !state.is_terminal());
        chosen.families.extend(found.jobs.iter().map(|(key, _)| *key));
        chosen.selected.insert(Selection::Below { root, after }, found);
    }
    Ok(())
}

async fn redrivable(connection: &mut Connection, filter: &RedriveFilter, after: JobKey) -> Result<Selected, Trouble> {
    let asked = json!({
        "quarantined": filter.quarantined, "failed": filter.failed, "account": filter.account_id, "after": after,
        "limit": SELECTED_MAX,
    });
    let (mut rows, mut held_back) = (Vec::new(), BTreeSet::new());
    for row in fetch(connection, sql::CHOOSE_REDRIVABLE, &asked).await? {
        let mut cells = Cells::of(&row);
        let job = (JobKey(cells.next()?), state(&cells.next::<String>()?)?);
        let reason = cells.next::<Option<String>>()?;
        if reason.as_deref().and_then(PauseReason::named) == Some(PauseReason::Operator) {
            held_back.insert(job.0);
        }
        rows.push(job);
    }
    Ok(window(&rows, |(key, _)| !held_back.contains(key)))
}

/// The oldest roots whose trees are over, as many as are needed to have enough members, and whether there are more.
async fn settled_roots(connection: &mut Connection, before: Timestamp) -> Result<(Vec<Root>, bool), Trouble> {
    let asked = json!({"before": before, "limit": ROOTS_MAX + 1});
    let (mut roots, mut members) = (Vec::new(), 0_i64);
    for row in fetch(connection, sql::CHOOSE_SETTLED, &asked).await? {
        if roots.len() >= ROOTS_MAX || members > SELECTED_MAX as i64 {
            return Ok((roots, true));
        }
        let mut cells = Cells::of(&row);
        let key = JobKey(cells.next()?);
        let state = state(&cells.next::<String>()?)?;
        let (children, below): (i64, i64) = (cells.next()?, cells.next()?);
        members = members.saturating_add(below).saturating_add(1);
        roots.push(Root {
            key,
            state,
            has_children: children > 0,
        });
    }
    Ok((roots, false))
}

async fn trees(connection: &mut Connection, roots: &BTreeSet<JobKey>) -> Result<Trees, Trouble> {
    let mut trees = Trees::new();
    if roots.is_empty() {
        return Ok(trees);
    }
    let asked: Vec<_> = roots.iter().map(|root| json!({"root": root})).collect();
    // One more than is taken says whether there are more.
    let asked = json!({"trees": asked, "limit": SELECTED_MAX + 1});
    for row in fetch(connection, sql::CHOOSE_TREES, &asked).await? {
        let mut cells = Cells::of(&row);
        let root = JobKey(cells.next()?);
        let member = (JobKey(cells.next()?), state(&cells.next::<String>()?)?);
        trees.entry(root).or_default().push(member);
    }
    Ok(trees)
}
