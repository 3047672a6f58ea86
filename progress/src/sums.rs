//! What the jobs of a tree, and the trees of an account, a host, or all, add up to.
//!
//! Sums are of whole items, so that adding differences up gives exactly what counting everything anew would.

use std::ops::{Add, Sub};

use crate::ids::{JobKey, Timestamp};
use crate::job::TreeStatus;
use crate::track::{COMPLETION_MAX, ITEMS_MAX, Work};

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
}

impl Sum {
    /// Of one job. No job counts for more than [`ITEMS_MAX`] items: so the sum of a tree fits, and one job that counts
    /// nonsense does not drown all others.
    pub fn of(work: Work) -> Self {
        Self {
            jobs_reported: 1,
            done: work.done.min(ITEMS_MAX),
            expected: work.expected.min(ITEMS_MAX),
            open_jobs: u64::from(work.open),
        }
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
        }
    }
}

/// The completion of `jobs` jobs, 0 to 1, by work. One that has not reported counts as much as those that have on the mean,
/// and nothing of it as done. It is 1 when the tree has ended well and not before.
pub fn completion(sum: Sum, jobs: u64, status: TreeStatus) -> f64 {
    if status == TreeStatus::Completed {
        return 1.0;
    }
    if sum.jobs_reported == 0 || sum.expected == 0 {
        return 0.0;
    }
    // All times the number of those that have reported, so that the mean is whole, too.
    let reported = u128::from(sum.jobs_reported);
    let silent = u128::from(jobs).saturating_sub(reported);
    let (done, expected) = (u128::from(sum.done), u128::from(sum.expected));
    let all = (expected * reported).saturating_add(silent.saturating_mul(expected.max(reported)));
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
    /// Jobs in them, whether they have reported or not.
    pub jobs: u64,
    /// What they add up to.
    pub sum: Sum,
}

impl Add for ScopeSum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            trees: self.trees.saturating_add(other.trees),
            jobs: self.jobs.saturating_add(other.jobs),
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
