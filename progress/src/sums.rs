//! What the jobs of a tree, and the trees of an account, a host, or all, add up to.
//!
//! Sums are of whole items, so that adding differences up gives exactly what counting everything anew would.

use std::ops::{Add, Sub};

use crate::ids::{JobKey, Timestamp};
use crate::job::TreeStatus;
use crate::track::{COMPLETION_MAX, ITEMS_MAX, Work};
use crate::weight::{Size, Weighed};

/// What reports of jobs add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Jobs that have reported.
    pub jobs_reported: u64,
    /// Items that are processed.
    pub done: u64,
    /// Items there will be, of the jobs that have reported.
    pub expected: u64,
    /// Jobs that have reported, of which more may come than anybody can say.
    pub open_jobs: u64,
    /// What was expected of the jobs that have reported before they did.
    pub weighed: Weighed,
}

impl Sum {
    /// Of one job with a weight. No job counts for more than [`ITEMS_MAX`] items: so the sum of a tree fits, and one job
    /// that counts nonsense does not drown all others.
    ///
    /// A job without a total is expected to be as large as its weight at least: the first page that it finds is not all
    /// there is.
    pub fn of(work: Work, weight: u64) -> Self {
        let least = if work.open { weight } else { 0 };
        Self {
            jobs_reported: 1,
            done: work.done.min(ITEMS_MAX),
            expected: work.expected.max(least).min(ITEMS_MAX),
            open_jobs: u64::from(work.open),
            weighed: Weighed::of(weight),
        }
    }

    /// Items that are expected of the jobs that have not reported, times the number of those that have, so that it is
    /// whole: what those with a weight weigh, and for each of the others the mean of those that have reported.
    fn silent_times_reported(self, size: Size) -> u128 {
        let reported = u128::from(self.jobs_reported);
        let weighed = size.weighed - self.weighed;
        let silent = u128::from(size.jobs).saturating_sub(reported);
        let others = silent.saturating_sub(u128::from(weighed.jobs));
        let mean = u128::from(self.expected).max(reported);
        (u128::from(weighed.items) * reported).saturating_add(others.saturating_mul(mean))
    }

    /// Items that are expected of the jobs of a tree that have not reported, rounded up. Before any has, those without a
    /// weight count as much as those with one on the mean; none if there is none of these either.
    pub fn expected_silent(self, size: Size) -> Option<u64> {
        let (items, parts) = if self.jobs_reported > 0 {
            (self.silent_times_reported(size), self.jobs_reported)
        } else {
            let items = u128::from(size.weighed.items) * u128::from(size.jobs);
            (items, size.weighed.jobs)
        };
        let whole = (parts > 0).then(|| items.div_ceil(u128::from(parts)))?;
        Some(u64::try_from(whole).unwrap_or(u64::MAX))
    }
}

impl Add for Sum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            jobs_reported: self.jobs_reported.saturating_add(other.jobs_reported),
            done: self.done.saturating_add(other.done),
            expected: self.expected.saturating_add(other.expected),
            open_jobs: self.open_jobs.saturating_add(other.open_jobs),
            weighed: self.weighed + other.weighed,
        }
    }
}

impl Sub for Sum {
    type Output = Self;

    /// What is taken away was added before, so nothing falls below zero.
    fn sub(self, other: Self) -> Self {
        Self {
            jobs_reported: self.jobs_reported.saturating_sub(other.jobs_reported),
            done: self.done.saturating_sub(other.done),
            expected: self.expected.saturating_sub(other.expected),
            open_jobs: self.open_jobs.saturating_sub(other.open_jobs),
            weighed: self.weighed - other.weighed,
        }
    }
}

/// The completion of a tree, 0 to 1, by work. A job that has not reported counts as much as it weighs, or else as much as
/// those that have on the mean, and nothing of it as done. It is 1 when the tree has ended well and not before.
pub fn completion(sum: Sum, size: Size, status: TreeStatus) -> f64 {
    if status == TreeStatus::Completed {
        return 1.0;
    }
    if sum.jobs_reported == 0 || sum.expected == 0 {
        return 0.0;
    }
    // All times the number of those that have reported, so that the mean is whole, too.
    let reported = u128::from(sum.jobs_reported);
    let (done, expected) = (u128::from(sum.done), u128::from(sum.expected));
    let all = (expected * reported).saturating_add(sum.silent_times_reported(size));
    ((done * reported) as f64 / all as f64).min(COMPLETION_MAX)
}

/// How far a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeView {
    /// What its jobs add up to.
    pub sum: Sum,
    /// The highest milestone that it passed, in percent; 0 for none.
    pub reached: u8,
    /// When the sum changed last.
    pub updated_at: Timestamp,
}

/// A tree passed a milestone, for the first time in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeMilestone {
    /// The submitted job at its top.
    pub root: JobKey,
    /// Its name outside.
    pub root_id: String,
    /// How much of the whole.
    pub percent: u8,
    /// When.
    pub at: Timestamp,
}

/// What some trees add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScopeSum {
    /// How many trees.
    pub trees: u64,
    /// How large they are.
    pub size: Size,
    /// What they add up to.
    pub sum: Sum,
}

impl Add for ScopeSum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            trees: self.trees.saturating_add(other.trees),
            size: self.size + other.size,
            sum: self.sum + other.sum,
        }
    }
}

/// Accounts and hosts that are shown at most: the largest, as many as a person reads.
pub const SCOPES_MAX: usize = 100;

/// What all trees add up to that are not over and of which something was reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// All of them.
    pub fleet: ScopeSum,
    /// By the names of accounts: the [`SCOPES_MAX`] with most jobs, by falling number of jobs.
    pub accounts: Vec<(String, ScopeSum)>,
    /// The same by hosts.
    pub hosts: Vec<(String, ScopeSum)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: TreeStatus = TreeStatus::Open;

    fn work(done: u64, expected: u64) -> Work {
        Work {
            done,
            expected,
            open: false,
        }
    }

    /// A tree of jobs with these weights.
    fn size(weights: &[u64]) -> Size {
        let weighed = weights.iter().map(|weight| Weighed::of(*weight));
        Size {
            jobs: weights.len() as u64,
            weighed: weighed.fold(Weighed::NONE, |all, one| all + one),
        }
    }

    #[test]
    fn a_small_job_that_is_through_does_not_hide_a_large_one_that_is_silent() {
        let sum = Sum::of(work(10, 10), 10);
        assert_eq!(completion(sum, size(&[10, 990]), OPEN), 0.01);
        assert_eq!(sum.expected_silent(size(&[10, 990])), Some(990));
        // Without a history it counts as much as the other.
        assert_eq!(completion(sum, size(&[10, 0]), OPEN), 0.5);
        assert_eq!(sum.expected_silent(size(&[10, 0])), Some(10));
    }

    #[test]
    fn silent_jobs_without_a_weight_count_as_much_as_those_that_reported_on_the_mean() {
        let sum = Sum::of(work(5, 10), 0) + Sum::of(work(5, 20), 100);
        // 30 of the two, 45 of the third, and twice 15.
        assert_eq!(completion(sum, size(&[0, 100, 45, 0, 0]), OPEN), 10.0 / 105.0);
        assert_eq!(sum.expected_silent(size(&[0, 100, 45, 0, 0])), Some(75));
        // One that found nothing counts as one item.
        let sum = Sum::of(work(0, 0), 0);
        assert_eq!(sum.expected_silent(size(&[0, 0, 7])), Some(8));
    }

    #[test]
    fn before_anything_was_reported_the_weights_alone_tell() {
        let nothing = Sum::default();
        assert_eq!(completion(nothing, size(&[10, 20]), OPEN), 0.0);
        assert_eq!(nothing.expected_silent(size(&[10, 20])), Some(30));
        assert_eq!(nothing.expected_silent(size(&[10, 21, 0])), Some(47));
        assert_eq!(nothing.expected_silent(size(&[0, 0])), None);
    }

    #[test]
    fn a_job_without_a_total_is_as_large_as_its_weight_at_least() {
        let found = |expected| Work {
            open: true,
            ..work(20, expected)
        };
        assert_eq!(Sum::of(found(40), 1000).expected, 1000);
        assert_eq!(Sum::of(found(1001), 1000).expected, 1001);
        // Its own word is better than any history.
        assert_eq!(Sum::of(work(20, 40), 1000).expected, 40);
        assert_eq!(completion(Sum::of(found(40), 1000), size(&[1000]), OPEN), 0.02);
    }

    #[test]
    fn a_tree_is_whole_when_it_has_ended_well_and_not_before() {
        let sum = Sum::of(work(10, 10), 5);
        assert_eq!(completion(sum, size(&[5]), OPEN), COMPLETION_MAX);
        assert_eq!(completion(sum, size(&[5]), TreeStatus::Failed), COMPLETION_MAX);
        assert_eq!(completion(sum, size(&[5, 7]), TreeStatus::Completed), 1.0);
    }

    #[test]
    fn no_number_of_jobs_is_too_large() {
        let full = Sum {
            jobs_reported: u64::MAX,
            done: u64::MAX,
            expected: u64::MAX,
            open_jobs: 0,
            weighed: Weighed::NONE,
        };
        let weighed = Weighed {
            jobs: u64::MAX,
            items: u64::MAX,
        };
        let size = Size {
            jobs: u64::MAX,
            weighed,
        };
        for sum in [full, Sum::of(work(1, ITEMS_MAX), 0), Sum::default()] {
            let completion = completion(sum, size, OPEN);
            assert!((0.0..1.0).contains(&completion), "{completion}");
            assert!(sum.expected_silent(size).is_some());
        }
    }
}
