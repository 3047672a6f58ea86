//! The order of the queue.

use crate::ids::Timestamp;

/// How much waiting outweighs one point of priority.
const AGEING_MS: f64 = 60_000.0;

/// Priorities count up to here either way (about two years of waiting), so that no number, however large, starves others.
const POINTS_MAX: f64 = 1_000_000.0;

/// A sortable key, smallest first: the moment of entry minus a bonus for priority.
///
/// Higher priority runs first, and since the key never changes while everybody else gets older, nobody starves and
/// nothing ever needs to be ranked again.
pub fn due(entered: Timestamp, priority: f64) -> i64 {
    let bonus = priority.clamp(-POINTS_MAX, POINTS_MAX) * AGEING_MS;
    entered.0.saturating_sub(bonus as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_priority_first_and_waiting_counts() {
        let now = Timestamp(1_000_000);
        assert!(due(now, 5.0) < due(now, 1.0));
        assert!(due(now, 1.0) < due(Timestamp(now.0 + 1), 1.0));
        let later = Timestamp(now.0 + 10 * AGEING_MS as i64);
        assert!(
            due(now, 1.0) < due(later, 10.0),
            "ten minutes of waiting outweigh nine points"
        );
        assert!(due(now, f64::MAX) < due(now, 0.0));
    }
}
