//! Trees: what a job says of everything below it, and the end of whole trees.

use std::collections::BTreeSet;

use super::batch::{Batch, touch};
use super::{NewAudit, Selected, Selection};
use crate::ids::{JobKey, Timestamp};
use crate::job::{State, TreeStatus};
use crate::lifecycle::Refusal;
use crate::store::Outcome;

impl Batch<'_> {
    /// Brings trees up to date after a job ended or began anew: its own, its parent's, and so on while one changes.
    pub(super) fn settle(&mut self, key: JobKey) {
        let mut key = key;
        loop {
            let Some(loaded) = self.snapshot.jobs.get_mut(&key) else {
                return;
            };
            let before = loaded.tree.status;
            let after = loaded.tree.status_with(loaded.job.state);
            if before == after {
                return;
            }
            loaded.tree.status = after;
            loaded.tree.settled_at = (after != TreeStatus::Open).then_some(self.now);
            let unchanged = (loaded.job.state, loaded.job.fence);
            let parent = loaded.lineage.parent;
            touch(&mut self.touched, key, unchanged);
            let Some(parent) = parent else { return };
            let Some(loaded) = self.snapshot.jobs.get_mut(&parent) else {
                return;
            };
            loaded.tree.open_children += is(after, TreeStatus::Open) - is(before, TreeStatus::Open);
            loaded.tree.failed_children += is_bad(after) - is_bad(before);
            touch(&mut self.touched, parent, (loaded.job.state, loaded.job.fence));
            key = parent;
        }
    }

    pub(super) fn delete(&mut self, root: JobKey, by: String) -> Outcome {
        let Some(loaded) = self.snapshot.jobs.get(&root) else {
            return Outcome::Refused(Refusal::NotFound.into());
        };
        if loaded.lineage.parent.is_some() {
            return Outcome::Refused(Refusal::NotRoot.into());
        }
        if loaded.tree.status == TreeStatus::Open {
            return Outcome::Refused(Refusal::TreeOpen.into());
        }
        let target = loaded.public_id.clone();
        let selected = self.snapshot.selected.remove(&Selection::Tree { root });
        // What an operation before took, it may not have taken to the end.
        let more = selected.as_ref().is_none_or(|selected| selected.next.is_some());
        let deleted = self.remove(selected.unwrap_or_default().jobs);
        let detail = Some(serde_json::json!({ "jobs": deleted }).to_string());
        self.plan.audits.push(NewAudit {
            by,
            act: "delete",
            target,
            detail,
        });
        Outcome::Deleted { jobs: deleted, more }
    }

    /// What was over when it was chosen may have begun anew in this batch; then it waits for the next time. So does the
    /// tree that the selection did not get to the end of.
    pub(super) fn prune(&mut self, before: Timestamp) -> Outcome {
        let selected = self.snapshot.selected.remove(&Selection::Settled { before });
        let taken = selected.is_none();
        let Selected { jobs, next } = selected.unwrap_or_default();
        let errors = std::mem::take(&mut self.snapshot.old_errors);
        let mut chosen = jobs.iter().map(|(key, _)| *key).chain(next);
        let stirred = chosen.any(|key| self.touched.contains_key(&key));
        let removed = if stirred { 0 } else { self.remove(jobs) };
        let outcome = Outcome::Pruned {
            jobs: removed,
            errors: errors.len(),
            more: taken || stirred || next.is_some() || errors.len() >= crate::store::SELECTED_MAX,
        };
        self.plan.deleted_errors.extend(errors);
        outcome
    }

    /// Removes the rows that no operation before removed; says how many.
    fn remove(&mut self, mut jobs: Vec<(JobKey, State)>) -> usize {
        let gone: BTreeSet<_> = self.plan.deleted.iter().map(|(key, _)| *key).collect();
        jobs.retain(|(key, _)| !gone.contains(key));
        for (key, _) in &jobs {
            self.snapshot.jobs.remove(key);
            self.touched.remove(key);
            self.snapshot.trees.remove(key);
        }
        let removed = jobs.len();
        self.plan.deleted.extend(jobs);
        removed
    }
}

fn is(status: TreeStatus, other: TreeStatus) -> i64 {
    i64::from(status == other)
}

fn is_bad(status: TreeStatus) -> i64 {
    i64::from(matches!(status, TreeStatus::Failed | TreeStatus::Cancelled))
}
