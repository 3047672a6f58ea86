//! What reports add up to: in the model counted anew each time, in the engine kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use crawlwire_progress::live::AggregateProgress;
use crawlwire_progress::sums::{ScopeSum, Sum, Totals, TreeMilestone, TreeView};
use crawlwire_progress::track::{Milestones, Tracker};
use crawlwire_progress::weight::{Size, Weighed};
use crawlwire_progress::{JobKey, State, Store, Timestamp, TreeStatus};
use crawlwire_protocol::message::{JobProgress, ProgressData};
use proptest::{prop_assert, prop_assert_eq};

use crate::machine::model::Job;
use crate::machine::rows::{account_name, host_name, number};
use crate::machine::step::JobNo;
use crate::machine::store::{Checked, broken};
use crate::machine::world::World;

/// The report with this number: what it says is anything, but the same each time.
pub(crate) fn progress(n: i64) -> Arc<Tracker> {
    let (found, done, open) = said(n);
    let counter = ProgressData {
        estimated_remaining: (!open).then_some(0.0),
        ..ProgressData::new("issues", found.into(), done.into())
    };
    let message = JobProgress {
        progress: vec![counter],
        overall_completion: 0.5.try_into().unwrap(),
        time_elapsed: 1.5.try_into().unwrap(),
        estimated_time_remaining: None,
        job_type: None,
    };
    let mut tracker = Tracker::begin(0, None, Timestamp(0));
    tracker.report(&message, n, Timestamp(n), &Milestones::default());
    Arc::new(tracker)
}

/// Items found, items processed, and whether more may come than anybody can say.
fn said(n: i64) -> (u32, u32, bool) {
    let found = 1 + u32::try_from(n * 7919 % 50).unwrap();
    (found, u32::try_from(n * 31 % 53).unwrap().min(found), n % 3 == 0)
}

/// Items that a job is expected to be when it is made; of some nobody can say.
pub(crate) fn weight(no: JobNo) -> u64 {
    u64::from(no * 13 % 4) * 25
}

/// What these jobs weigh together, and how many do.
pub(crate) fn weighed(jobs: impl Iterator<Item = JobNo>) -> Weighed {
    let weights: Vec<_> = jobs.map(weight).filter(|weight| *weight > 0).collect();
    Weighed {
        jobs: weights.len() as u64,
        items: weights.iter().sum(),
    }
}

/// What the report of a job adds to the sum of a tree.
fn worth(no: JobNo, n: i64) -> Sum {
    let (found, done, open) = said(n);
    let reserve = if open { (found / 10).max(1) } else { 0 };
    let least = if open { weight(no) } else { 0 };
    Sum {
        jobs_reported: 1,
        done: done.into(),
        expected: u64::from(found + reserve).max(least),
        open_jobs: open.into(),
        weighed: weighed([no].into_iter()),
    }
}

pub(crate) fn percents(passed: &[TreeMilestone]) -> Vec<(JobNo, u8)> {
    passed.iter().map(|it| (number(&it.root_id), it.percent)).collect()
}

impl Job {
    /// The newest report: its attempt and number.
    fn newest(&self) -> Option<(i32, i64)> {
        self.reports.last_key_value().map(|(attempt, n)| (*attempt, *n))
    }
}

impl World {
    pub(crate) fn report(&mut self, no: JobNo, n: i64) {
        if let Some(job) = self.job_mut(no) {
            let newest = job.reports.entry(job.attempt).or_insert(n);
            *newest = n.max(*newest);
        }
    }

    fn sum(&self, root: JobNo) -> ScopeSum {
        let jobs: Vec<_> = self.jobs.values().filter(|job| job.root == root).collect();
        let newest = jobs.iter().filter_map(|job| Some((job.no, job.newest()?.1)));
        let size = Size {
            jobs: jobs.len() as u64,
            weighed: weighed(jobs.iter().map(|job| job.no)),
        };
        ScopeSum {
            trees: 1,
            size,
            sum: newest.fold(Sum::default(), |sum, (no, n)| sum + worth(no, n)),
        }
    }

    /// Milestones that the tree of a job has come to, each told once.
    pub(crate) fn pass_milestones(&mut self, no: JobNo) -> Vec<(JobNo, u8)> {
        let root = self.jobs[&no].root;
        let ScopeSum { sum, .. } = self.sum(root);
        let whole = self.jobs[&root].tree_status == TreeStatus::Completed;
        let reported = sum.jobs_reported;
        let silent = self
            .jobs
            .values()
            .filter(|job| job.root == root && job.newest().is_none());
        // What each of the others weighs, or else the mean of those that have reported.
        let mean = sum.expected.max(reported);
        let silent = silent.map(|job| match weight(job.no) {
            0 => mean,
            weight => weight * reported,
        });
        let (done, all) = (sum.done * reported, sum.expected * reported + silent.sum::<u64>());
        let reached = self.jobs[&root].reached;
        let is_passed = |percent: u64| whole || (percent < 100 && done * 100 >= all * percent);
        let passed: Vec<u8> = [25, 50, 75, 90, 100]
            .into_iter()
            .filter(|percent| reported > 0 && *percent > reached && is_passed(u64::from(*percent)))
            .collect();
        if let (Some(last), Some(root)) = (passed.last(), self.job_mut(root)) {
            root.reached = *last;
        }
        passed.into_iter().map(|percent| (root, percent)).collect()
    }
}

pub(crate) async fn compare_trees(world: &World, key: impl Fn(JobNo) -> JobKey, store: &dyn Store) -> Checked {
    for root in world.jobs.values().filter(|job| job.parent.is_none()) {
        let kept = store.tree_progress(key(root.no)).await.map_err(broken)?;
        let kept = kept.map(|TreeView { sum, reached, .. }| (sum, reached));
        let sum = world.sum(root.no).sum;
        let expected = (sum.jobs_reported > 0).then_some((sum, root.reached));
        prop_assert_eq!(kept, expected, "tree {}", root.no);
    }
    Ok(())
}

pub(crate) async fn compare_totals(world: &World, store: &dyn Store) -> Checked {
    let Totals { fleet, accounts, hosts } = store.totals().await.map_err(broken)?;
    let (mut all, mut by_account, mut by_host) = (ScopeSum::default(), BTreeMap::new(), BTreeMap::new());
    let roots = world.jobs.values().filter(|job| job.parent.is_none());
    for root in roots.filter(|job| job.tree_status == TreeStatus::Open) {
        let sum = world.sum(root.no);
        if sum.sum.jobs_reported > 0 {
            all = all + sum;
            for (scopes, name) in [
                (&mut by_account, account_name(root.account)),
                (&mut by_host, host_name(root.host)),
            ] {
                let scope: &mut ScopeSum = scopes.entry(name).or_default();
                *scope = *scope + sum;
            }
        }
    }
    prop_assert_eq!(fleet, all);
    for (kept, expected) in [(accounts, by_account), (hosts, by_host)] {
        prop_assert!(
            kept.is_sorted_by_key(|(_, scope)| std::cmp::Reverse(scope.size.jobs)),
            "{:?}",
            kept
        );
        prop_assert_eq!(kept.into_iter().collect::<BTreeMap<_, _>>(), expected);
    }
    let now = |job: &&Arc<Job>| job.state == State::Running && job.reports.contains_key(&job.attempt);
    let running = AggregateProgress::of(world.jobs.values().filter(now).count(), 0.0);
    let expected = running.map(|it| AggregateProgress {
        overall_completion: 0.5,
        ..it
    });
    prop_assert_eq!(store.running().await.map_err(broken)?, expected);
    Ok(())
}

/// The newest report, and how each attempt went: the report of this test is a point, and forgets those before it.
pub(crate) async fn compare_reports(job: &Job, key: JobKey, store: &dyn Store) -> Checked {
    let kept = store.progress(key).await.map_err(broken)?;
    let expected = job.newest().map(|(attempt, n)| Tracker {
        attempt,
        ..Tracker::clone(&progress(n))
    });
    prop_assert_eq!(kept, expected, "job {}", job.no);
    let kept = store.histories(key).await.map_err(broken)?;
    let points: Vec<_> = kept
        .iter()
        .map(|(attempt, history)| {
            (
                *attempt,
                history.points().iter().map(|point| point.at.0).collect::<Vec<_>>(),
            )
        })
        .collect();
    let expected: Vec<_> = job.reports.iter().map(|(attempt, n)| (*attempt, vec![*n])).collect();
    prop_assert_eq!(points, expected, "job {}", job.no);
    Ok(())
}
