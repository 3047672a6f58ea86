//! What jobs say of everything below them, in the model.

use crawlwire_progress::job::Tree;
use crawlwire_progress::{State, TreeStatus};

use crate::machine::model::Job;
use crate::machine::sums::weighed;
use crate::machine::world::World;

impl World {
    /// What a job says of everything below it.
    pub(crate) fn tree(&self, job: &Job) -> Tree {
        let children: Vec<_> = self
            .jobs
            .values()
            .filter(|child| child.parent == Some(job.no))
            .collect();
        let count = |meant: &dyn Fn(&Job) -> bool| children.iter().filter(|child| meant(child)).count() as i64;
        let is_root = job.parent.is_none();
        let whole = self.jobs.values().filter(|other| is_root && other.root == job.no);
        let whole: Vec<_> = whole.map(|other| other.no).collect();
        Tree {
            children: children.len() as i64,
            jobs: whole.iter().filter(|no| **no != job.no).count() as i64,
            weighed: weighed(whole.into_iter()),
            open_children: count(&|child| child.tree_status == TreeStatus::Open),
            failed_children: count(&|child| matches!(child.tree_status, TreeStatus::Failed | TreeStatus::Cancelled)),
            status: job.tree_status,
            settled_at: job.settled_at.map(crawlwire_progress::Timestamp),
        }
    }

    /// Looks at every tree anew, the deepest first.
    pub(crate) fn settle(&mut self) {
        for depth in (0..=self.rules.depth_max).rev() {
            for no in self.all(|job| job.depth == depth) {
                let tree = self.tree(&self.jobs[&no]);
                let (now, job) = (self.now, &self.jobs[&no]);
                let status = match job.state {
                    State::Completed if tree.open_children + tree.failed_children == 0 => TreeStatus::Completed,
                    State::Completed | State::Failed if tree.open_children == 0 => TreeStatus::Failed,
                    State::Cancelled if tree.open_children == 0 => TreeStatus::Cancelled,
                    _ => TreeStatus::Open,
                };
                if job.tree_status != status
                    && let Some(job) = self.job_mut(no)
                {
                    job.tree_status = status;
                    job.settled_at = (status != TreeStatus::Open).then_some(now);
                }
            }
        }
    }
}
