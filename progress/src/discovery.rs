//! Children: who is the same, and how many there may be.

use std::fmt::Write;

use crawlwire_protocol::message::JobType;
use sha2::{Digest, Sha256};

use crate::policy::Policy;

/// The identity of a job within a crawl: the same generation, host, type and entity is the same job, finished or not.
///
/// So a batch that is sent twice, or is found again by another parent, creates nothing twice. 128 bits of SHA-256 in hex.
pub fn identity(generation: &str, host: &str, job_type: JobType, entity: &str) -> String {
    digest([generation, host, job_type.as_str(), entity])
        .iter()
        .take(16)
        .fold(String::with_capacity(32), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// A hash of texts, in order.
pub(crate) fn digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        // Lengths keep ("ab", "c") apart from ("a", "bc").
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// What became of one discovered item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is a job now.
    Accepted,
    /// The crawl has it already.
    Duplicate,
    /// One more than the crawl may have.
    OverBudget(Budget),
    /// The parent is being cancelled: what it finds would outlive it.
    Refused,
}

/// Which budget was used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Budget {
    /// Levels below the submitted job.
    Depth,
    /// Children of one job.
    Children,
    /// Jobs below the submitted job.
    Tree,
    /// Jobs of the account that have not ended.
    Account,
}

impl Budget {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Depth => "depth",
            Self::Children => "children",
            Self::Tree => "tree",
            Self::Account => "account",
        }
    }
}

/// What has been used of each budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Levels of the parent below the submitted job.
    pub depth: i32,
    /// Children of the parent.
    pub children: i64,
    /// Jobs below the submitted job.
    pub tree_jobs: i64,
    /// Jobs of the account that have not ended.
    pub account_jobs: i64,
}

/// The budget that stands against one more child, if any.
pub fn over_budget(policy: &Policy, used: Used) -> Option<Budget> {
    let reached = |count: i64, limit: u64| u64::try_from(count).unwrap_or(0) >= limit;
    let budgets = [
        (Budget::Depth, i64::from(used.depth), u64::from(policy.tree_depth_max)),
        (Budget::Children, used.children, policy.children_max),
        (Budget::Tree, used.tree_jobs, policy.tree_jobs_max),
        (Budget::Account, used.account_jobs, policy.account_jobs_max),
    ];
    budgets
        .into_iter()
        .find(|(_, count, limit)| reached(*count, *limit))
        .map(|(budget, ..)| budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_keeps_its_parts_apart() {
        let one = identity("g", "h", JobType::CrawlUser, "1");
        assert_eq!(one, identity("g", "h", JobType::CrawlUser, "1"));
        assert_eq!(one.len(), 32);
        let others = [
            identity("g2", "h", JobType::CrawlUser, "1"),
            identity("g", "h2", JobType::CrawlUser, "1"),
            identity("g", "h", JobType::CrawlGroup, "1"),
            identity("g", "h", JobType::CrawlUser, "2"),
            identity("gh", "", JobType::CrawlUser, "1"),
        ];
        assert!(others.iter().all(|other| *other != one));
    }

    #[test]
    fn the_first_budget_reached_is_named() {
        let policy = Policy {
            tree_depth_max: 2,
            children_max: 3,
            tree_jobs_max: 10,
            account_jobs_max: 20,
            ..Policy::default()
        };
        let within = Used {
            depth: 1,
            children: 2,
            tree_jobs: 9,
            account_jobs: 19,
        };
        assert_eq!(over_budget(&policy, within), None);
        assert_eq!(over_budget(&policy, Used { depth: 2, ..within }), Some(Budget::Depth));
        let wide = Used { children: 3, ..within };
        assert_eq!(over_budget(&policy, wide), Some(Budget::Children));
        let large = Used {
            tree_jobs: 10,
            ..within
        };
        assert_eq!(over_budget(&policy, large), Some(Budget::Tree));
        let many = Used {
            account_jobs: 20,
            ..within
        };
        assert_eq!(over_budget(&policy, many), Some(Budget::Account));
    }
}
