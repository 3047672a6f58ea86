//! The machine below: its clock, and what it lets a process have.

use chrono::{DateTime, Utc};
use rustix::process::{Resource, getrlimit};

use super::Check;
use crate::config::Config;

/// No server of ours ran before.
const FIRST_DAY: &str = "2026-01-01T00:00:00Z";

/// Files besides connections and the database: listeners, live streams, requests, logs.
const OTHER_FILES: u64 = 400;

pub(super) fn examine(config: &Config) -> Vec<Check> {
    let connections = config.connection.max_connections as u64;
    let pool = u64::from(config.database.connection_pool);
    vec![
        clock(Utc::now()),
        files(connections, pool, getrlimit(Resource::Nofile).current),
    ]
}

fn clock(now: DateTime<Utc>) -> Check {
    let first_day = DateTime::parse_from_rfc3339(FIRST_DAY)
        .map(|day| day.to_utc())
        .unwrap_or_default();
    let shown = now.format("%Y-%m-%dT%H:%M:%SZ");
    match now < first_day {
        true => Check::problem(
            "clock",
            format!("this machine says {shown}"),
            "set its clock (chrony, systemd-timesyncd)",
        ),
        false => Check::ok("clock", format!("this machine says {shown}")),
    }
}

/// Each connection is an open file, and so is each connection of the pool.
fn files(connections: u64, pool: u64, limit: Option<u64>) -> Check {
    const NAME: &str = "open files";
    let wanted = connections + pool + OTHER_FILES;
    match limit {
        Some(limit) if limit < wanted => Check::problem(
            NAME,
            format!("this process may open {limit}, {connections} connections want {wanted}"),
            "raise the limit (ulimit -n, LimitNOFILE= of systemd), or lower max_connections",
        ),
        Some(limit) => Check::ok(NAME, format!("{limit} allowed, {wanted} wanted")),
        None => Check::ok(NAME, "no limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_clock_of_another_time_is_a_problem() {
        assert_eq!(clock(DateTime::UNIX_EPOCH).verdict, Verdict::Problem);
        assert_eq!(clock(Utc::now()).verdict, Verdict::Ok);
    }

    #[test]
    fn files_are_compared_with_connections() {
        assert_eq!(files(10, 10, Some(64)).verdict, Verdict::Problem);
        assert_eq!(files(10, 10, Some(1024)).verdict, Verdict::Ok);
        assert_eq!(files(10, 10, None).verdict, Verdict::Ok);
    }
}
