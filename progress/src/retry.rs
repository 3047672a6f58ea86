//! How long to wait before trying again.

use std::time::Duration;

use crate::policy::Policy;

/// The delay after this many failures: doubling from `retry_delay`, capped, with full jitter.
///
/// `chance` is uniform in `[0, 1)`. Full jitter spreads the retries of jobs that failed together over the whole span,
/// so that a host that came back is not overrun.
pub fn delay(policy: &Policy, failures: i32, chance: f64) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(0).min(31);
    let span = policy
        .retry_delay
        .saturating_mul(1 << doublings)
        .min(policy.retry_delay_max);
    span.mul_f64(chance.clamp(0.0, 1.0))
}

/// Whether a job that failed this often is tried again.
pub fn again(policy: &Policy, failures: i32) -> bool {
    i64::from(failures) <= i64::from(policy.retry_attempts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap() {
        let policy = Policy {
            retry_delay_max: Duration::from_secs(12),
            ..Policy::default()
        };
        let whole: Vec<_> = (1..5).map(|failures| delay(&policy, failures, 1.0).as_secs()).collect();
        assert_eq!(whole, [5, 10, 12, 12]);
        assert_eq!(delay(&policy, 3, 0.0), Duration::ZERO);
        assert_eq!(delay(&policy, i32::MAX, 0.5), Duration::from_secs(6));
    }

    #[test]
    fn the_limit_is_one_attempt_and_the_retries() {
        let policy = Policy {
            retry_attempts: 3,
            ..Policy::default()
        };
        assert!(again(&policy, 3) && !again(&policy, 4));
    }
}
