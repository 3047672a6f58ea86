//! The order of the queue.

use crawlwire_protocol::message::JobType;

use crate::discovery::digest;
use crate::ids::{AccountKey, Timestamp};

/// How much waiting outweighs one point of priority.
const AGEING_MS: f64 = 60_000.0;

/// Priorities count up to here either way (about two years of waiting), so that no number, however large, starves others.
const POINTS_MAX: f64 = 1_000_000.0;

/// A sortable key, smallest first: the moment of entry minus a bonus for priority.
///
/// Higher priority runs first, and since the key never changes while everybody else gets older, nobody starves and
/// nothing ever needs to be ranked again.
pub fn due(entered: Timestamp, priority: f64) -> i64 {
    entered.0.saturating_sub(bonus(priority))
}

fn bonus(priority: f64) -> i64 {
    (priority.clamp(-POINTS_MAX, POINTS_MAX) * AGEING_MS) as i64
}

/// The key after a change of priority, as if the job had entered with the new one.
pub fn moved(due: i64, before: f64, after: f64) -> i64 {
    due.saturating_add(bonus(before)).saturating_sub(bonus(after))
}

/// The lane of a job: jobs that the same crawlers can run, for the same account. Lanes take turns, so that neither a
/// busy account nor a host that nobody serves stands in the way of others. 63 bits of a hash: two lanes that met in one
/// number would take their turns together, and nothing else.
pub fn lane(account: AccountKey, host: &str, job_type: JobType, labels: &[String]) -> i64 {
    let account = account.0.to_string();
    let parts = [account.as_str(), host, job_type.as_str()];
    let digest = digest(parts.into_iter().chain(labels.iter().map(String::as_str)));
    let head = digest
        .iter()
        .take(8)
        .fold(0_u64, |head, byte| head << 8 | u64::from(*byte));
    i64::try_from(head >> 1).unwrap_or(i64::MAX)
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
        assert_eq!(moved(due(now, 1.5), 1.5, 7.0), due(now, 7.0));
    }

    #[test]
    fn a_lane_is_who_wants_it_and_who_can_run_it() {
        let lane_of = |account, host, labels: &[&str]| {
            let labels: Vec<_> = labels.iter().map(|label| (*label).to_owned()).collect();
            lane(AccountKey(account), host, JobType::CrawlUser, &labels)
        };
        let one = lane_of(1, "a", &[]);
        assert_eq!(one, lane_of(1, "a", &[]));
        for other in [lane_of(2, "a", &[]), lane_of(1, "b", &[]), lane_of(1, "a", &["x"])] {
            assert_ne!(one, other);
            assert!(other >= 0);
        }
    }
}
