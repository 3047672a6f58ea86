//! How long to wait before dialling again: exponential, with full jitter.

use std::time::Duration;

use crate::jitter::Jitter;

/// Waits between attempts. Each is chosen evenly between nothing and a bound that doubles from `min` up to `max`, so
/// that crawlers that lost the same server do not come back at once.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    jitter: Jitter,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration, jitter: Jitter) -> Self {
        Self {
            min,
            max: max.max(min),
            failures: 0,
            jitter,
        }
    }

    /// The next wait, longer on average than the one before.
    pub(super) fn next(&mut self) -> Duration {
        // Beyond 2^31 the bound is the maximum whatever the minimum is.
        let factor = 1_u32 << self.failures.min(31);
        self.failures = self.failures.saturating_add(1);
        let bound = self.min.saturating_mul(factor).min(self.max);
        self.jitter.up_to(bound)
    }

    /// A connection was a good one: waiting begins anew.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_spread_below_a_bound_that_doubles() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut longest = [Duration::ZERO; 8];
        let mut shortest = [Duration::MAX; 8];
        for seed in 0..200 {
            let mut backoff = Backoff::new(min, max, Jitter::seeded(seed));
            for (longest, shortest) in longest.iter_mut().zip(&mut shortest) {
                let wait = backoff.next();
                *longest = wait.max(*longest);
                *shortest = wait.min(*shortest);
            }
        }
        for (failures, (longest, shortest)) in longest.into_iter().zip(shortest).enumerate() {
            let bound = (min * (1 << failures)).min(max);
            assert!(
                longest <= bound && longest > bound.mul_f64(0.9),
                "{failures}: {longest:?}"
            );
            assert!(shortest < bound.mul_f64(0.1), "{failures}: {shortest:?}");
        }
    }

    #[test]
    fn a_good_connection_begins_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_secs(60), Jitter::seeded(1));
        for _ in 0..100 {
            backoff.next();
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(1));
    }
}
