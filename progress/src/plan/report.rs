//! Reports, and what they add up to.

use std::sync::Arc;

use super::batch::Batch;
use super::{KeptReport, NewReport};
use crate::ids::JobKey;
use crate::job::TreeStatus;
use crate::policy::Guard;
use crate::sums::{Sum, TreeMilestone, completion};
use crate::track::Tracker;

impl Batch<'_> {
    /// Keeps a report of a job that is at hand, unless a newer one is kept, and adds what it changes to the job's tree.
    /// `last` if the attempt ended with it.
    pub(super) fn keep_report(&mut self, key: JobKey, mut report: Arc<Tracker>, last: bool) {
        let Some(loaded) = self.snapshot.jobs.get(&key) else {
            return;
        };
        // The attempt is what the row says: whoever reported may not have known it yet.
        let attempt = loaded.job.attempt;
        if report.attempt != attempt {
            Arc::make_mut(&mut report).attempt = attempt;
        }
        let before = self.snapshot.reports.get(&key).copied();
        let late = before.is_some_and(|before| (before.attempt, before.n) >= (attempt, report.n));
        if late && self.policy.has(Guard::NewerReport) {
            return;
        }
        let counted = before.filter(|before| {
            let same = before.attempt == attempt;
            self.policy.has(if same {
                Guard::ReportBefore
            } else {
                Guard::AttemptBefore
            })
        });
        let counted = counted.and_then(|before| before.sum).unwrap_or_default();
        let sum = Sum::of(report.work(), loaded.weight);
        let tree = self.snapshot.trees.entry(loaded.lineage.root).or_default();
        tree.sum = tree.sum - counted + sum;
        self.counted.insert(loaded.lineage.root);
        // Whatever is added to a history is as young as the report that it is added with.
        let same = before.filter(|before| before.attempt == attempt && !last);
        let newest = report.history.points().last();
        if newest.is_some_and(|point| same.is_none_or(|before| point.at > before.updated_at)) {
            self.plan.histories.insert((key, attempt), report.clone());
        }
        let kept = KeptReport {
            attempt,
            n: report.n,
            updated_at: report.updated_at,
            sum: Some(sum),
        };
        self.snapshot.reports.insert(key, kept);
        self.plan.progress.insert(key, NewReport { tracker: report, sum });
    }

    /// The milestones that a job's tree has come to and that were not told before.
    pub(super) fn pass_milestones(&mut self, key: JobKey) -> Vec<TreeMilestone> {
        let jobs = &self.snapshot.jobs;
        let Some(lineage) = jobs.get(&key).map(|loaded| &loaded.lineage) else {
            return Vec::new();
        };
        let root = jobs.get(&lineage.root).map(|root| root.tree);
        let Some(tree) = self.snapshot.trees.get_mut(&lineage.root) else {
            return Vec::new();
        };
        if tree.sum.jobs_reported == 0 {
            return Vec::new();
        }
        // Whoever reports is running, so if the root is not at hand, its tree is open.
        let size = root.map_or(tree.size, |tree| tree.size());
        let status = root.map_or(TreeStatus::Open, |tree| tree.status);
        let share = completion(tree.sum, size, status);
        let passed = self.policy.milestones.passed(tree.reached, share);
        let passed: Vec<_> = passed
            .map(|percent| TreeMilestone {
                root: lineage.root,
                root_id: lineage.generation.clone(),
                percent,
                at: self.now,
            })
            .collect();
        if let Some(last) = passed.last() {
            tree.reached = last.percent;
            self.counted.insert(lineage.root);
        }
        passed
    }

    /// Puts the trees that changed into the plan.
    pub(super) fn write_trees(&mut self) {
        for (root, tree) in &mut self.snapshot.trees {
            let counted = self.counted.contains(root);
            let known = self.snapshot.jobs.get(root).map(|root| root.tree.status);
            let is_open = known.map_or(tree.is_open || counted, |status| status == TreeStatus::Open);
            let turned = is_open != tree.is_open && tree.sum.jobs_reported > 0;
            tree.is_open = is_open;
            if counted || turned {
                self.plan.trees.insert(*root, *tree);
            }
        }
    }
}
