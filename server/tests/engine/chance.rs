//! Chance from a seed that is printed.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::time::Duration;

/// Numbers that look random: splitmix64.
pub(crate) struct Chance(u64);

impl Chance {
    /// `CRAWLWIRE_CRASH_SEED`, or another one each time.
    pub(crate) fn seed() -> u64 {
        let given = std::env::var("CRAWLWIRE_CRASH_SEED").ok();
        given.map_or_else(
            || RandomState::new().build_hasher().finish(),
            |seed| seed.parse().expect("CRAWLWIRE_CRASH_SEED is a number"),
        )
    }

    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another one, whose numbers do not depend on how often this one is asked.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    pub(crate) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.next() % (range.end - range.start))
    }

    /// One of these, if there is one.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        (!items.is_empty()).then(|| &items[self.below(items.len())])
    }
}
