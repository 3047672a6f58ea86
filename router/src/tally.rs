//! How many errors were logged lately.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What counts as lately, and how exactly.
const LATELY: Duration = Duration::from_secs(3600);
const STEP: Duration = Duration::from_secs(60);

/// Counts by category, a minute each. Bounded by the minutes and the categories.
#[derive(Debug, Default)]
pub(crate) struct ErrorTally(Mutex<VecDeque<(Instant, BTreeMap<&'static str, u64>)>>);

impl ErrorTally {
    fn lock(&self, now: Instant) -> MutexGuard<'_, VecDeque<(Instant, BTreeMap<&'static str, u64>)>> {
        let mut minutes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while minutes.front().is_some_and(|(since, _)| *since + LATELY <= now) {
            minutes.pop_front();
        }
        minutes
    }

    pub(crate) fn count(&self, categories: impl Iterator<Item = &'static str>, now: Instant) {
        let mut minutes = self.lock(now);
        if minutes.back().is_none_or(|(since, _)| *since + STEP <= now) {
            minutes.push_back((now, BTreeMap::new()));
        }
        if let Some((_, counts)) = minutes.back_mut() {
            categories.for_each(|category| *counts.entry(category).or_default() += 1);
        }
    }

    pub(crate) fn lately(&self, now: Instant) -> BTreeMap<&'static str, u64> {
        let mut all = BTreeMap::new();
        for (category, count) in self.lock(now).iter().flat_map(|(_, counts)| counts) {
            *all.entry(*category).or_default() += count;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_count_for_an_hour() {
        let (tally, start) = (ErrorTally::default(), Instant::now());
        assert!(tally.lately(start).is_empty());
        tally.count(["database", "database", "network"].into_iter(), start);
        let later = start + LATELY / 2;
        tally.count(["database"].into_iter(), later);
        assert_eq!(tally.lately(later), BTreeMap::from([("database", 3), ("network", 1)]));
        assert_eq!(tally.lately(start + LATELY), BTreeMap::from([("database", 1)]));
        assert!(tally.lately(later + LATELY).is_empty());
        for minute in 0..600 {
            tally.count(["database"].into_iter(), later + STEP * minute);
        }
        assert_eq!(tally.lately(later + STEP * 599), BTreeMap::from([("database", 60)]));
        assert!(tally.lock(later + STEP * 599).len() <= 60);
    }
}
