//! How many items there will be, as far as anybody knows.

use crate::job::named;

/// Items that are believed of one counter at most. Far above every crawl, and a sum of all counters of all jobs fits.
pub const ITEMS_MAX: u64 = 1_000_000_000_000;

/// An open total is taken to be larger than what was found by this part of it.
const RESERVE_PART: u64 = 10;

named! {
    /// What a total is worth. From best to worst, so that a sum is worth what its worst part is.
    TotalKind {
        /// There will be no more.
        Known = "known",
        /// About so many.
        Estimate = "estimate",
        /// So many were found, and more may come.
        AtLeast = "at_least",
        /// Nobody said anything.
        Unknown = "unknown",
    }
}

impl TotalKind {
    /// Whether more may come than anybody can say.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::AtLeast | Self::Unknown)
    }
}

/// How many items there will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    /// What the number is worth.
    pub kind: TotalKind,
    /// The number.
    pub items: u64,
}

impl Total {
    /// What counts as the whole when a share of it is to be told. An open total has a reserve: a page of `page` items, or a
    /// tenth of what was found, whichever is more, so that what was found is never all of it.
    pub fn expected(self, page: u64) -> u64 {
        if self.kind.is_open() {
            let reserve = page.min(ITEMS_MAX).max(self.items / RESERVE_PART).max(1);
            self.items.saturating_add(reserve)
        } else {
            self.items
        }
    }

    /// The total of things that have these totals.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            kind: self.kind.max(other.kind),
            items: self.items.saturating_add(other.items),
        }
    }
}
