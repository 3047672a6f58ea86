//! What a job is expected to be before it says so itself: by the word of who found it, or the history of its type.
//!
//! A weight is given to a job when it is made, in whole items, and never changes: so what weights add up to can be counted
//! along, and is what counting anew would give. 0 stands for no weight.

use std::collections::BTreeMap;
use std::ops::{Add, Sub};

use crawlwire_protocol::message::{DiscoveredJob, JobType};

use crate::track::ITEMS_MAX;

/// Jobs that the history of types looks at: the newest that ended well. Enough for a mean that holds, and read in an instant.
pub const HISTORY_JOBS_MAX: usize = 5000;

/// Jobs of a type below which its history says nothing.
pub const HISTORY_JOBS_MIN: u64 = 3;

/// What the newest jobs of one type were that ended well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TypeHistory {
    /// How many.
    pub jobs: u64,
    /// Items they processed, all together.
    pub items: u64,
}

impl TypeHistory {
    /// What the next job of the type is expected to be: the mean, one item at least; none if too few jobs tell.
    fn weight(self) -> Option<u64> {
        let mean = self.items.saturating_add(self.jobs / 2).checked_div(self.jobs)?;
        (self.jobs >= HISTORY_JOBS_MIN).then_some(mean.clamp(1, ITEMS_MAX))
    }
}

/// What jobs of each type are expected to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weights(BTreeMap<JobType, u64>);

impl Weights {
    /// Takes in what was read of the history. A type of which that says nothing stays what it was: those before the newest
    /// may all be of other types.
    pub fn learn(&mut self, history: &BTreeMap<JobType, TypeHistory>) {
        let told = history.iter();
        self.0
            .extend(told.filter_map(|(job_type, of_type)| Some((*job_type, of_type.weight()?))));
    }

    /// What a job of this type is expected to be, 1 to [`ITEMS_MAX`]; 0 when nobody can say.
    pub fn of(&self, job_type: JobType) -> u64 {
        self.0.get(&job_type).copied().unwrap_or(0)
    }

    /// The same of a job that would crawl this item. Who found it may have said how large it is (API reference, line 474):
    /// that knows better.
    pub fn of_found(&self, item: &DiscoveredJob) -> u64 {
        let sizes = item.estimated_size.as_ref().filter(|sizes| !sizes.is_empty());
        sizes.map_or_else(
            || self.of(item.job_type),
            |sizes| {
                let items: f64 = sizes.values().map(|size| size.max(0.0)).sum();
                (items.round() as u64).clamp(1, ITEMS_MAX)
            },
        )
    }
}

/// Jobs that have a weight, and what their weights add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weighed {
    /// How many.
    pub jobs: u64,
    /// All together.
    pub items: u64,
}

impl Weighed {
    /// Nothing.
    pub const NONE: Self = Self { jobs: 0, items: 0 };

    /// Of one job.
    pub fn of(weight: u64) -> Self {
        Self {
            jobs: u64::from(weight > 0),
            items: weight.min(ITEMS_MAX),
        }
    }
}

impl Add for Weighed {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            jobs: self.jobs.saturating_add(other.jobs),
            items: self.items.saturating_add(other.items),
        }
    }
}

impl Sub for Weighed {
    type Output = Self;

    /// What is taken away was added before, so nothing falls below zero.
    fn sub(self, other: Self) -> Self {
        Self {
            jobs: self.jobs.saturating_sub(other.jobs),
            items: self.items.saturating_sub(other.items),
        }
    }
}

/// How large a tree is, or several: all its jobs, whether they have reported or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// How many.
    pub jobs: u64,
    /// Those that have a weight.
    pub weighed: Weighed,
}

impl Add for Size {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            jobs: self.jobs.saturating_add(other.jobs),
            weighed: self.weighed + other.weighed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(jobs: u64, items: u64) -> BTreeMap<JobType, TypeHistory> {
        [(JobType::CrawlProject, TypeHistory { jobs, items })].into()
    }

    #[test]
    fn a_weight_is_the_mean_of_three_jobs_at_least() {
        for (jobs, items, expected) in [
            (0, 0, 0),
            (2, 100, 0),
            (3, 100, 33),
            (3, 101, 34),
            (3, 0, 1),
            (5000, 5000 * ITEMS_MAX, ITEMS_MAX),
            (3, u64::MAX, ITEMS_MAX),
        ] {
            let mut weights = Weights::default();
            weights.learn(&history(jobs, items));
            assert_eq!(
                weights.of(JobType::CrawlProject),
                expected,
                "{jobs} jobs, {items} items"
            );
            assert_eq!(weights.of(JobType::CrawlUser), 0);
        }
    }

    #[test]
    fn who_finds_an_item_knows_better_than_history() {
        let mut weights = Weights::default();
        weights.learn(&history(3, 30));
        for (sizes, expected) in [
            (None, 10),
            (Some(&[][..]), 10),
            (Some(&[("issues", 500.0), ("merge_requests", 200.4)]), 700),
            (Some(&[("issues", 0.0)]), 1),
            (Some(&[("issues", -1e308), ("notes", 3.0)]), 3),
            (Some(&[("issues", 1e308), ("notes", 1e308)]), ITEMS_MAX),
        ] {
            let sizes = sizes.map(|sizes| sizes.iter().map(|(what, many)| ((*what).to_owned(), *many)).collect());
            let item = DiscoveredJob {
                job_type: JobType::CrawlProject,
                entity_id: "1".to_owned(),
                namespace_path: "p".to_owned(),
                entity_name: "p".to_owned(),
                priority: 1.0,
                estimated_size: sizes,
            };
            assert_eq!(weights.of_found(&item), expected, "{:?}", item.estimated_size);
        }
    }

    #[test]
    fn what_the_newest_jobs_do_not_tell_stays_known() {
        let mut weights = Weights::default();
        weights.learn(&history(3, 30));
        for silent in [history(2, 2000), BTreeMap::new()] {
            weights.learn(&silent);
            assert_eq!(weights.of(JobType::CrawlProject), 10);
        }
        weights.learn(&history(4, 80));
        assert_eq!(weights.of(JobType::CrawlProject), 20);
    }
}
