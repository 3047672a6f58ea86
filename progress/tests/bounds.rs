//! What is kept of a job depends on how many counters it has, and not on how much was said of them.

use std::time::Duration;

use crawlwire_progress::Timestamp;
use crawlwire_progress::track::{
    ENTITIES_MAX, ISSUES_MAX, ITEMS_MAX, MILESTONES_MAX, Milestones, POINTS_MAX, Thresholds, Tracker,
};
use crawlwire_protocol::message::{JobProgress, ProgressData};
use proptest::prelude::*;

/// Bytes of each part of a name that are kept.
const NAME_BYTES: usize = 128;

/// Bytes that a byte of a name may become in JSON.
const ESCAPED: usize = 6;

/// Bytes of a row that has so many counters, whose names take so many: with numbers as long as they get, and names of
/// fields. Counters that an attempt has not spoken of are remembered by their name.
fn bytes_max(counters: usize, name: usize) -> usize {
    let (point, issue, milestone, counter, rest) = (80, 200, 100, 400, 4096);
    POINTS_MAX * point
        + ISSUES_MAX * (issue + name)
        + MILESTONES_MAX * milestone
        + counters * (counter + name)
        + ENTITIES_MAX.min(counters) * (100 + name)
        + rest
}

fn bytes(tracker: &Tracker) -> usize {
    let [entities, kept, history] = [
        serde_json::to_string(&tracker.entities),
        serde_json::to_string(&tracker.kept),
        serde_json::to_string(&tracker.history),
    ];
    [entities, kept, history]
        .map(|text| text.expect("plain data").len())
        .iter()
        .sum()
}

fn count(name: String, part: Option<String>, found: u64, done: u64, remaining: Option<f64>) -> ProgressData {
    ProgressData {
        sub_collection: part,
        estimated_remaining: remaining,
        current_page: Some(done.try_into().unwrap()),
        items_per_page: Some(found.try_into().unwrap()),
        ..ProgressData::new(name, found.try_into().unwrap(), done.try_into().unwrap())
    }
}

fn say(tracker: &mut Tracker, counts: Vec<ProgressData>, now: i64) {
    let message = JobProgress {
        progress: counts,
        overall_completion: (1.0_f64 / 3.0).try_into().unwrap(),
        time_elapsed: (1.0e300_f64 / 3.0).try_into().unwrap(),
        estimated_time_remaining: None,
        job_type: None,
    };
    tracker.report(&message, now, Timestamp(now), &Milestones::default());
}

/// A report about one of three counters, and how long after the one before it came.
#[derive(Debug, Clone)]
struct Said {
    which: usize,
    found: u64,
    done: u64,
    remaining: Option<f64>,
    pause: i64,
    /// Whether the attempt ends with it, and another one begins.
    last: bool,
}

const NAMES: [&str; 3] = ["users", "groups", "projects"];

fn said() -> impl Strategy<Value = Said> {
    let number = 0..5000_u64;
    let remaining = prop::option::of(prop_oneof![Just(0.0), Just(f64::MAX), 0.0..1000.0]);
    let pause = prop_oneof![Just(20), 0..2000_i64, 0..10_000_000_i64];
    let last = prop::bool::weighted(0.02);
    (0..NAMES.len(), number.clone(), number, remaining, pause, last).prop_map(
        |(which, found, done, remaining, pause, last)| Said {
            which,
            found,
            done,
            remaining,
            pause,
            last,
        },
    )
}

const THRESHOLDS: Thresholds = Thresholds {
    quiet_after: Duration::from_secs(60),
    stalled_after: Duration::from_secs(300),
    lost_after: Duration::from_secs(30),
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Thousands of reports, looks by the clock between them, and attempts.
    #[test]
    fn a_row_does_not_grow_with_what_is_said(
        all in prop::collection::vec(said(), 1..60),
        times in 1..100_u64,
        before in prop_oneof![Just(0), Just(ITEMS_MAX - 1_000_000)],
    ) {
        let mut tracker = Tracker::begin(1, None, Timestamp(0));
        let (mut now, mut done_before) = (1_700_000_000_000, before);
        for said in (0..times).flat_map(|_| &all) {
            now += said.pause;
            // Counters rise on the whole, and sometimes fall.
            done_before += 100;
            let (found, done) = (done_before + said.found, done_before + said.done);
            let counts = vec![count(NAMES[said.which].to_owned(), None, found, done, said.remaining)];
            say(&mut tracker, counts, now);
            tracker.look(Timestamp(now + said.pause), said.which == 0, THRESHOLDS);
            if said.last {
                tracker.fail(None, now + 1, Timestamp(now + 1));
                tracker = Tracker::begin(tracker.attempt + 1, Some(&tracker), Timestamp(now));
            }
        }
        let (bytes, most) = (bytes(&tracker), bytes_max(NAMES.len(), 10));
        prop_assert!(bytes <= most, "{bytes} bytes, not {most}, after {} reports", times * all.len() as u64);
    }
}

/// As many counters as are kept, with names as long as they get, others in each attempt.
#[test]
fn a_row_does_not_grow_with_attempts_either() {
    let mut tracker = Tracker::begin(1, None, Timestamp(0));
    let most = bytes_max(ENTITIES_MAX, 2 * NAME_BYTES * ESCAPED);
    let mut now = 1_700_000_000_000;
    for attempt in 1..=20_i32 {
        let name = |number: usize| format!("{attempt}-{number}-{}", "\u{1}".repeat(NAME_BYTES * 2));
        for found in [u64::MAX / 2, u64::MAX / 4] {
            for done in [0, found] {
                let counts =
                    (0..ENTITIES_MAX + 10).map(|number| count(name(number), Some(name(number)), found, done, None));
                now += 300_000;
                say(&mut tracker, counts.collect(), now);
            }
        }
        assert_eq!(tracker.entities.len(), ENTITIES_MAX);
        assert_eq!(tracker.issues().len(), ISSUES_MAX);
        let bytes = bytes(&tracker);
        assert!(bytes <= most, "{bytes} bytes, not {most}, in attempt {attempt}");
        tracker = Tracker::begin(attempt + 1, Some(&tracker), Timestamp(now));
    }
}
