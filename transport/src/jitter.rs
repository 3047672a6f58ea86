//! Randomness for waits and for faults: small, seeded, not for secrets.

use std::time::Duration;

/// SplitMix64: one word of state, every seed good.
#[derive(Debug, Clone)]
pub(crate) struct Jitter {
    state: u64,
}

impl Jitter {
    /// The same numbers for the same seed.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A seed from the operating system.
    pub(crate) fn seed() -> u64 {
        // Without randomness crawlers would come back together, which is worse only under load: use the clock.
        getrandom::u64().unwrap_or_else(|_| {
            let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            since.as_nanos() as u64
        })
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// Evenly from 0 to 1, 1 excluded.
    pub(crate) fn fraction(&mut self) -> f64 {
        // 53 bits are what a double holds.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly from nothing up to `bound`.
    pub(crate) fn up_to(&mut self, bound: Duration) -> Duration {
        bound.mul_f64(self.fraction())
    }
}
