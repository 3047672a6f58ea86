//! How well a connection does: a pure function of a snapshot, thresholds and the time.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::info::{ConnectionId, ConnectionInfo};

/// Three grades (connection management, line 45), from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Health {
    /// Nothing to report.
    Healthy,
    /// Works, but something deserves a look.
    Degraded,
    /// Does not do its work.
    Unhealthy,
}

impl Health {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of thing is wrong (connection management, line 46).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IssueCategory {
    /// A crawler that used to send heartbeats is late.
    Heartbeat,
    /// Many lines of the last minutes could not be accepted.
    ErrorRate,
    /// Writes take long.
    SlowWrites,
    /// The send queue is nearly full.
    Backlog,
}

impl IssueCategory {
    /// The stable name, in snake case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::ErrorRate => "error_rate",
            Self::SlowWrites => "slow_writes",
            Self::Backlog => "backlog",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Its kind.
    pub category: IssueCategory,
    /// How bad it is; never healthy.
    pub level: Health,
    /// In words, with figures.
    pub detail: String,
}

/// The health of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// Which connection.
    pub id: ConnectionId,
    /// The worst of the issues' levels.
    pub health: Health,
    /// At most one of each category.
    pub issues: Vec<Issue>,
    /// It used to send heartbeats and was silent for the whole heartbeat timeout.
    pub is_dead: bool,
}

/// From when on something is an issue.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthThresholds {
    /// How often a crawler sends heartbeats. Half an interval late is degraded. Default 30 s.
    pub heartbeat_interval: Duration,
    /// Silence after which it is unhealthy and dead. Default 90 s (API reference, line 318).
    pub heartbeat_timeout: Duration,
    /// Share of lines in error, 0 to 1, that is degraded. Default 0.1.
    pub error_rate_degraded: f64,
    /// Share of lines in error, 0 to 1, that is unhealthy. Default 0.5.
    pub error_rate_unhealthy: f64,
    /// Fewer lines than this in the last minutes say nothing about a rate. Default 10.
    pub error_rate_min_lines: u64,
    /// A write that takes this long is degraded: the peer hardly reads. Default 1 s.
    pub slow_write: Duration,
    /// A write that takes this long is unhealthy. Default 10 s, a third of the time after which
    /// it closes the connection.
    pub stuck_write: Duration,
    /// Share of the send queue's byte budget in use, 0 to 1, that is degraded. Default 0.8.
    pub backlog: f64,
}

impl Default for HealthThresholds {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(30),
            heartbeat_timeout: Duration::from_secs(90),
            error_rate_degraded: 0.1,
            error_rate_unhealthy: 0.5,
            error_rate_min_lines: 10,
            slow_write: Duration::from_secs(1),
            stuck_write: Duration::from_secs(10),
            backlog: 0.8,
        }
    }
}

/// The health of a connection at `now`, which may be later than its snapshot.
pub fn assess(info: &ConnectionInfo, thresholds: &HealthThresholds, now: Instant) -> HealthReport {
    let silence = heartbeat_silence(info, now);
    let issues: Vec<Issue> = [
        silence.and_then(|silence| late_heartbeat(silence, thresholds)),
        error_rate(info, thresholds, now),
        slow_writes(info, thresholds, now),
        backlog(info, thresholds),
    ]
    .into_iter()
    .flatten()
    .collect();
    HealthReport {
        id: info.id,
        health: issues.iter().map(|issue| issue.level).max().unwrap_or(Health::Healthy),
        issues,
        is_dead: silence.is_some_and(|silence| silence > thresholds.heartbeat_timeout),
    }
}

/// How long a crawler that sends heartbeats has been silent. Any valid message ends silence. Who
/// never sent a heartbeat did not promise any.
fn heartbeat_silence(info: &ConnectionInfo, now: Instant) -> Option<Duration> {
    let last = info.last_heartbeat?.max(info.last_valid?);
    Some(now.saturating_duration_since(last))
}

fn late_heartbeat(silence: Duration, thresholds: &HealthThresholds) -> Option<Issue> {
    let level = if silence > thresholds.heartbeat_timeout {
        Health::Unhealthy
    } else if silence > thresholds.heartbeat_interval + thresholds.heartbeat_interval / 2 {
        Health::Degraded
    } else {
        return None;
    };
    Some(Issue {
        category: IssueCategory::Heartbeat,
        level,
        detail: format!("nothing valid for {:.1} s", silence.as_secs_f64()),
    })
}

fn error_rate(info: &ConnectionInfo, thresholds: &HealthThresholds, now: Instant) -> Option<Issue> {
    let (valid, errors) = info.recent.counts(now);
    let lines = valid + errors;
    // The first line counts towards a rate only with enough others beside it.
    if lines == 0 || lines < thresholds.error_rate_min_lines {
        return None;
    }
    let rate = errors as f64 / lines as f64;
    let level = if rate >= thresholds.error_rate_unhealthy {
        Health::Unhealthy
    } else if rate >= thresholds.error_rate_degraded {
        Health::Degraded
    } else {
        return None;
    };
    Some(Issue {
        category: IssueCategory::ErrorRate,
        level,
        detail: format!("{errors} of the last {lines} lines were not accepted"),
    })
}

fn slow_writes(info: &ConnectionInfo, thresholds: &HealthThresholds, now: Instant) -> Option<Issue> {
    let pending = info
        .output
        .write_since
        .map(|since| now.saturating_duration_since(since));
    // A slow write long ago says nothing about now.
    let recent = info
        .output
        .last_write
        .filter(|(ended, _)| now.saturating_duration_since(*ended) <= thresholds.heartbeat_interval);
    let slowest = pending.max(recent.map(|(_, took)| took))?;
    let level = if slowest >= thresholds.stuck_write {
        Health::Unhealthy
    } else if slowest >= thresholds.slow_write {
        Health::Degraded
    } else {
        return None;
    };
    Some(Issue {
        category: IssueCategory::SlowWrites,
        level,
        detail: format!("a write took {:.1} s or more", slowest.as_secs_f64()),
    })
}

fn backlog(info: &ConnectionInfo, thresholds: &HealthThresholds) -> Option<Issue> {
    let (queued, max) = (info.output.queued_bytes, info.output.max_queued_bytes);
    let nearly_full = max > 0 && queued as f64 >= thresholds.backlog * max as f64 && queued > 0;
    nearly_full.then(|| Issue {
        category: IssueCategory::Backlog,
        level: Health::Degraded,
        detail: format!("{queued} of {max} bytes of the send queue are in use"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Connection;
    use crate::limits::Limits;

    fn fresh() -> (ConnectionInfo, Instant) {
        let (connection, _peer) = Connection::pair(Limits::default());
        let info = connection.handle.info();
        let opened = info.opened;
        (info, opened)
    }

    fn levels(info: &ConnectionInfo, now: Instant) -> Vec<(IssueCategory, Health)> {
        let report = assess(info, &HealthThresholds::default(), now);
        let worst = report.issues.iter().map(|i| i.level).max();
        assert_eq!(report.health, worst.unwrap_or(Health::Healthy));
        report.issues.iter().map(|i| (i.category, i.level)).collect()
    }

    const fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn silence_counts_only_after_a_heartbeat_and_any_message_ends_it() {
        use IssueCategory::Heartbeat;
        let (mut info, start) = fresh();
        assert_eq!(levels(&info, start + secs(100_000)), []);
        info.last_valid = Some(start);
        assert_eq!(levels(&info, start + secs(100_000)), []);
        info.last_heartbeat = Some(start);
        assert_eq!(levels(&info, start + secs(45)), []);
        assert_eq!(levels(&info, start + secs(46)), [(Heartbeat, Health::Degraded)]);
        assert_eq!(levels(&info, start + secs(90)), [(Heartbeat, Health::Degraded)]);
        assert_eq!(levels(&info, start + secs(91)), [(Heartbeat, Health::Unhealthy)]);
        let dead = |info: &_, at| assess(info, &HealthThresholds::default(), at).is_dead;
        assert!(!dead(&info, start + secs(90)));
        assert!(dead(&info, start + secs(91)));
        info.last_valid = Some(start + secs(60));
        assert_eq!(levels(&info, start + secs(91)), []);
        assert!(!dead(&info, start + secs(150)));
    }

    #[test]
    fn an_error_rate_needs_enough_lines_and_fades() {
        use IssueCategory::ErrorRate;
        let (mut info, start) = fresh();
        for n in 0..9 {
            info.recent.note(start, true);
            assert_eq!(levels(&info, start), [], "{n}");
        }
        info.recent.note(start, true);
        assert_eq!(levels(&info, start), [(ErrorRate, Health::Unhealthy)]);
        for _ in 0..11 {
            info.recent.note(start, false);
        }
        assert_eq!(levels(&info, start), [(ErrorRate, Health::Degraded)]);
        for _ in 0..80 {
            info.recent.note(start, false);
        }
        assert_eq!(levels(&info, start), [], "10 of 101");
        info.recent.note(start, true);
        assert_eq!(levels(&info, start), [(ErrorRate, Health::Degraded)]);
        assert_eq!(levels(&info, start + secs(120)), []);
    }

    #[test]
    fn slow_writes_are_the_one_under_way_or_a_recent_one() {
        use IssueCategory::SlowWrites;
        let (mut info, start) = fresh();
        info.output.write_since = Some(start);
        assert_eq!(levels(&info, start + Duration::from_millis(999)), []);
        assert_eq!(levels(&info, start + secs(1)), [(SlowWrites, Health::Degraded)]);
        assert_eq!(levels(&info, start + secs(10)), [(SlowWrites, Health::Unhealthy)]);
        info.output.write_since = None;
        info.output.last_write = Some((start + secs(10), secs(10)));
        assert_eq!(levels(&info, start + secs(40)), [(SlowWrites, Health::Unhealthy)]);
        assert_eq!(levels(&info, start + secs(41)), []);
    }

    #[test]
    fn a_nearly_full_queue_is_degraded() {
        let (mut info, start) = fresh();
        info.output.max_queued_bytes = 100;
        info.output.queued_bytes = 79;
        assert_eq!(levels(&info, start), []);
        info.output.queued_bytes = 80;
        assert_eq!(levels(&info, start), [(IssueCategory::Backlog, Health::Degraded)]);
    }
}
