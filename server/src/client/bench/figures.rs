//! Times, and what to say of them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::args::BenchArgs;
use crate::client::console::Console;
use crate::client::server::Trouble;
use crate::client::table::{Align, Table};
use crate::client::view::many;

/// Times of one kind that are kept: 4 MB. Of a longer run these are the first ones.
const TIMES_MAX: usize = 1_000_000;

/// What was timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// From the request to submit a job to the crawler that has it.
    Assigned,
    /// From a lasting message to the answer that it is settled.
    Acked,
    /// From the message of the end to the live stream.
    Visible,
}

const KINDS: [(Kind, &str, &str); 3] = [
    (Kind::Assigned, "submit_to_assigned", "submit to assigned"),
    (Kind::Acked, "message_to_ack", "message to ack"),
    (Kind::Visible, "end_to_visible", "end to visible"),
];

/// Parts of all times that are told, in percent; the last one is the longest.
const PARTS: [(&str, usize); 4] = [("p50", 50), ("p90", 90), ("p99", 99), ("max", 100)];

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// In microseconds, by kind.
    times: [Vec<u32>; 3],
    pub(super) jobs: u64,
    pub(super) acks: u64,
    pub(super) elapsed: Duration,
}

impl Figures {
    pub(super) fn add(&mut self, kind: Kind, time: Duration) {
        let times = &mut self.times[kind as usize];
        if times.len() < TIMES_MAX {
            times.push(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs == 0
    }

    fn per_second(&self, count: u64) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }

    fn parts(&self, kind: Kind) -> Vec<Option<u32>> {
        let mut times = self.times[kind as usize].clone();
        times.sort_unstable();
        PARTS.iter().map(|(_, percent)| part(&times, *percent)).collect()
    }

    pub(super) fn document(&self, args: &BenchArgs) -> Value {
        let latency = KINDS.map(|(kind, name, _)| {
            let mut parts: serde_json::Map<_, _> = PARTS
                .iter()
                .zip(self.parts(kind))
                .map(|((part, _), time)| ((*part).to_owned(), time.map(milliseconds).into()))
                .collect();
            parts.insert("count".to_owned(), self.times[kind as usize].len().into());
            (name.to_owned(), Value::Object(parts))
        });
        json!({
            "seconds": self.elapsed.as_secs_f64(),
            "crawlers": args.crawlers,
            "slots": args.slots,
            "jobs": self.jobs,
            "jobs_per_second": self.per_second(self.jobs),
            "acks": self.acks,
            "acks_per_second": self.per_second(self.acks),
            "latency_ms": Value::Object(latency.into_iter().collect()),
        })
    }

    pub(super) fn tell(&self, args: &BenchArgs, console: &mut Console) -> Result<(), Trouble> {
        let crawlers = many(args.crawlers as u64, "crawler");
        let at_once = args.crawlers * usize::from(args.slots);
        let seconds = self.elapsed.as_secs_f64();
        console.line(&format!(
            "{seconds:.1} s, {crawlers} with {} slots each, {at_once} jobs at a time",
            args.slots
        ))?;
        for (name, count) in [("jobs", self.jobs), ("acks", self.acks)] {
            console.field(name, &format!("{:.0} a second ({count})", self.per_second(count)))?;
        }
        let right = |name| (name, Align::Right);
        let mut table = Table::new(&[
            ("MILLISECONDS", Align::Left),
            right("P50"),
            right("P90"),
            right("P99"),
            right("MAX"),
            right("TIMES"),
        ]);
        for (kind, _, name) in KINDS {
            let parts = self.parts(kind);
            let cell =
                |index: usize| parts[index].map_or_else(|| "-".to_owned(), |time| format!("{:.1}", milliseconds(time)));
            let count = self.times[kind as usize].len().to_string();
            table.row([
                name.into(),
                cell(0).into(),
                cell(1).into(),
                cell(2).into(),
                cell(3).into(),
                count.into(),
            ]);
        }
        console.table(&mut table)
    }
}

fn milliseconds(micros: u32) -> f64 {
    f64::from(micros) / 1000.0
}

/// The least time that so many percent of all do not exceed.
fn part(sorted: &[u32], percent: usize) -> Option<u32> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_the_nearest_rank() {
        let times: Vec<_> = (1..=200).collect();
        assert_eq!(
            [50, 90, 99, 100].map(|percent| part(&times, percent)),
            [Some(100), Some(180), Some(198), Some(200)]
        );
        assert_eq!(part(&[7], 50), Some(7));
        assert_eq!(part(&[], 50), None);
    }

    #[test]
    fn times_are_bounded() {
        let mut figures = Figures::default();
        figures.add(Kind::Visible, Duration::from_secs(1 << 40));
        assert_eq!(figures.times[Kind::Visible as usize], [u32::MAX]);
        assert!(figures.is_empty());
    }
}
