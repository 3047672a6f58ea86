//! How long to wait before trying again.

use std::time::Duration;

use crate::job::JobLimits;
use crate::policy::Policy;

/// The delay after this many failures: doubling from `retry_delay` (the job's own, if it has one), capped, with full jitter.
///
/// `chance` is uniform in `[0, 1)`. Full jitter spreads the retries of jobs that failed together over the whole span,
/// so that a host that came back is not overrun.
pub fn delay(policy: &Policy, limits: &JobLimits, failures: i32, chance: f64) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(0).min(31);
    let first = limits.retry_delay.unwrap_or(policy.retry_delay);
    // A job that asks for a longer first wait than the cap gets it.
    let span = first
        .saturating_mul(1 << doublings)
        .min(policy.retry_delay_max.max(first));
    span.mul_f64(chance.clamp(0.0, 1.0))
}

/// Whether a job that failed this often is tried again.
pub fn again(policy: &Policy, limits: &JobLimits, failures: i32) -> bool {
    i64::from(failures) <= i64::from(limits.retry_attempts.unwrap_or(policy.retry_attempts))
}

/// A number in `[0, 1)`, for [`delay`]: a step of SplitMix64 from a seed that the caller keeps. It spreads retries; nothing
/// secret depends on it.
pub fn chance(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bits = *seed;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: JobLimits = JobLimits {
        timeout: None,
        retry_attempts: None,
        retry_delay: None,
    };

    #[test]
    fn a_jobs_own_numbers_go_before_the_servers() {
        let limits = JobLimits {
            retry_attempts: Some(0),
            retry_delay: Some(Duration::from_secs(7200)),
            ..NONE
        };
        let policy = Policy::default();
        assert!(!again(&policy, &limits, 1));
        assert_eq!(delay(&policy, &limits, 1, 1.0), Duration::from_secs(7200));
    }

    #[test]
    fn chance_stays_in_range_and_differs() {
        let mut seed = 1;
        let numbers: Vec<_> = (0..1000).map(|_| chance(&mut seed)).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        assert!(numbers.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn delays_double_up_to_the_cap() {
        let policy = Policy {
            retry_delay_max: Duration::from_secs(12),
            ..Policy::default()
        };
        let whole: Vec<_> = (1..5)
            .map(|failures| delay(&policy, &NONE, failures, 1.0).as_secs())
            .collect();
        assert_eq!(whole, [5, 10, 12, 12]);
        assert_eq!(delay(&policy, &NONE, 3, 0.0), Duration::ZERO);
        assert_eq!(delay(&policy, &NONE, i32::MAX, 0.5), Duration::from_secs(6));
    }

    #[test]
    fn the_limit_is_one_attempt_and_the_retries() {
        let policy = Policy {
            retry_attempts: 3,
            ..Policy::default()
        };
        assert!(again(&policy, &NONE, 3) && !again(&policy, &NONE, 4));
    }
}
