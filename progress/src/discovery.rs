//! Children: who is the same, and how many there may be.

use std::fmt::Write;

use crawlwire_protocol::message::JobType;
use sha2::{Digest, Sha256};

use crate::policy::Policy;

/// The identity of a job within a crawl: the same generation, host, type and entity is the same job, finished or not.
///
/// So a batch that is sent twice, or is found again by another parent, creates nothing twice. 128 bits of SHA-256 in hex.
pub fn identity(generation: &str, host: &str, job_type: JobType, entity: &str) -> String {
    let mut hash = Sha256::new();
    for part in [generation, host, job_type.as_str(), entity] {
        // Lengths keep ("ab", "c") apart from ("a", "bc").
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .take(16)
        .fold(String::with_capacity(32), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
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
}

impl Budget {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Depth => "depth",
            Self::Children => "children",
            Self::Tree => "tree",
        }
    }
}

/// The budget that stands against one more child, if any.
pub fn over_budget(policy: &Policy, parent_depth: i32, children: i64, tree_jobs: i64) -> Option<Budget> {
    let reached = |count: i64, limit: u64| u64::try_from(count).unwrap_or(0) >= limit;
    if reached(parent_depth.into(), policy.tree_depth_max.into()) {
        Some(Budget::Depth)
    } else if reached(children, policy.children_max) {
        Some(Budget::Children)
    } else if reached(tree_jobs, policy.tree_jobs_max) {
        Some(Budget::Tree)
    } else {
        None
    }
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
            ..Policy::default()
        };
        assert_eq!(over_budget(&policy, 1, 2, 9), None);
        assert_eq!(over_budget(&policy, 2, 2, 9), Some(Budget::Depth));
        assert_eq!(over_budget(&policy, 1, 3, 9), Some(Budget::Children));
        assert_eq!(over_budget(&policy, 1, 2, 10), Some(Budget::Tree));
    }
}
