//! Pace and estimates, from outside.

use std::time::Duration;

use crawlwire_progress::track::{Confidence, NoEstimate, Pace, Range, Remaining, estimate};
use proptest::prelude::*;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// So many items per second, told each second.
fn steady(span: u64, speed: u64) -> Pace {
    let mut pace = Pace::new(0);
    for second in 1..=span {
        pace.sample(seconds(second), speed * second);
    }
    pace
}

fn near(is: f64, wanted: f64) {
    assert!(
        (is - wanted).abs() <= 1e-3 * wanted.abs().max(1e-3),
        "{is}, not {wanted}"
    );
}

fn likely(pace: &Pace, worked: u64, left: u64) -> f64 {
    let range = estimate(pace, seconds(worked), Remaining::known(left)).unwrap();
    range.likely.as_secs_f64()
}

#[test]
fn a_steady_crawl_ends_when_its_speed_says() {
    let pace = steady(600, 7);
    let range = estimate(&pace, seconds(600), Remaining::known(4_200)).unwrap();
    near(range.likely.as_secs_f64(), 600.0);
    assert_eq!(range.confidence, Confidence::High);
    assert!(range.high - range.low < seconds(300), "{range:?}");
    let rates = pace.rates(seconds(600));
    for rate in [rates.overall, rates.current, rates.peak] {
        near(rate, 7.0);
    }
    near(pace.efficiency(seconds(600)).unwrap(), 1.0);
    assert!(pace.consistency().unwrap() > 0.99);
}

#[test]
fn what_an_earlier_attempt_did_is_no_speed() {
    let mut resumed = Pace::new(1_000_000);
    for second in 1..=60 {
        resumed.sample(seconds(second), 1_000_000 + 5 * second);
    }
    let fresh = steady(60, 5);
    let left = Remaining::known(300);
    assert_eq!(resumed.rates(seconds(60)), fresh.rates(seconds(60)));
    assert_eq!(
        estimate(&resumed, seconds(60), left),
        estimate(&fresh, seconds(60), left)
    );
    assert_eq!(resumed.consistency(), fresh.consistency());
    let before = resumed.clone();
    resumed.sample(seconds(70), 5);
    assert_eq!(resumed, before, "less than at the begin");
}

#[test]
fn between_two_reports_it_counts_down_and_silence_slows_it_only_when_it_lasts() {
    let mut pace = Pace::new(0);
    for report in 1..=20 {
        pace.sample(seconds(30 * report), 300 * report);
    }
    near(likely(&pace, 600, 1_000), 100.0);
    near(likely(&pace, 620, 1_000), 80.0);
    near(pace.rates(seconds(620)).current, 10.0);
    let late = pace.rates(seconds(1_200));
    assert_eq!(late.current, 0.0);
    near(late.peak, 10.0);
    assert!(late.overall < 6.5, "{late:?}");
    assert!(likely(&pace, 1_200, 1_000) > likely(&pace, 620, 1_000));
    assert!(pace.efficiency(seconds(1_200)).unwrap() < 0.65);
}

#[test]
fn a_stall_counts_as_standing_still() {
    let mut pace = steady(100, 10);
    for second in 101..=300 {
        pace.sample(seconds(second), 1_000);
    }
    pace.sample(seconds(301), 1_010);
    near(pace.rates(seconds(301)).overall, 1_010.0 / 301.0);
    let efficiency = pace.efficiency(seconds(301)).unwrap();
    assert!((0.3..0.4).contains(&efficiency), "{efficiency}");
    assert!(pace.consistency().unwrap() < 0.6);
}

#[test]
fn pages_that_come_at_once_were_worked_on_since_the_last_one() {
    let mut pace = Pace::new(0);
    for second in 1..=300 {
        pace.sample(seconds(second), second / 10 * 100);
    }
    let rates = pace.rates(seconds(300));
    near(rates.current, 10.0);
    assert!(rates.peak < 15.0, "{rates:?}");
    // Until it has learned how far apart pages are, it takes a part of the time for standing still.
    assert!(pace.efficiency(seconds(300)).unwrap() > 0.9);
    assert!(pace.consistency().unwrap() > 0.9);
}

#[test]
fn a_moment_makes_no_peak() {
    let mut pace = steady(100, 10);
    pace.sample(Duration::from_millis(100_001), 1_100);
    pace.sample(seconds(120), 1_200);
    let rates = pace.rates(seconds(120));
    assert!((10.0..=20.0).contains(&rates.peak), "{rates:?}");

    let mut young = Pace::new(0);
    young.sample(Duration::from_millis(1), 50);
    young.sample(Duration::from_millis(2), 100);
    let rates = young.rates(Duration::from_millis(2));
    assert_eq!((rates.overall, rates.current, rates.peak), (100.0, 100.0, 100.0));
}

#[test]
fn the_newer_speed_counts_where_the_older_foretold_worse() {
    let mut slowed = steady(600, 100);
    for second in 601..=1_200 {
        slowed.sample(seconds(second), 60_000 + 20 * (second - 600));
    }
    // 60 items per second overall, 20 for ten minutes.
    let end = likely(&slowed, 1_200, 6_000);
    assert!((150.0..=310.0).contains(&end), "{end}");
    let far = likely(&slowed, 1_200, 6_000_000);
    assert!(
        (95_000.0..110_000.0).contains(&far),
        "{far}: what lies far ahead is like the whole"
    );
}

#[test]
fn more_items_never_end_sooner_after_a_crash_of_speed() {
    let mut pace = steady(3_600, 1_000);
    for second in 3_601..=3_700 {
        pace.sample(seconds(second), 3_600_000 + second - 3_600);
    }
    let ends = (0..60).map(|step| likely(&pace, 3_700, 50 * 13_u64.pow(step / 10) * (10 + u64::from(step % 10))));
    let ends = ends.collect::<Vec<_>>();
    assert!(ends.is_sorted(), "{ends:?}");
    // At the speed of the whole it would take 6.5 seconds; what was seen last counts, too.
    assert!(ends[10] > 50.0, "{ends:?}");
}

#[test]
fn each_reason_has_its_case() {
    let ask = |pace: &Pace, worked, left| estimate(pace, seconds(worked), Remaining::known(left)).unwrap_err();
    assert_eq!(ask(&steady(3, 10), 3, 100), NoEstimate::TooEarly, "three slices");
    assert!(estimate(&steady(4, 10), seconds(4), Remaining::known(100)).is_ok());
    let mut two_lumps = Pace::new(0);
    for second in 1..=100 {
        two_lumps.sample(seconds(second), second / 50 * 10);
    }
    assert_eq!(ask(&two_lumps, 100, 100), NoEstimate::TooEarly, "it rose twice");
    assert_eq!(ask(&Pace::new(7), 3, 100), NoEstimate::TooEarly);
    assert_eq!(ask(&Pace::new(7), 4, 100), NoEstimate::NoSpeed);
    assert_eq!(ask(&steady(100, 1), 100, 400 * 24 * 3_600), NoEstimate::TooFar);
    assert_eq!(ask(&steady(100, 1), 100, u64::MAX), NoEstimate::TooFar);
    let high = Remaining {
        high: u64::MAX,
        ..Remaining::known(10)
    };
    assert_eq!(estimate(&steady(100, 1), seconds(100), high), Err(NoEstimate::TooFar));
    assert!(estimate(&steady(100, 1), seconds(100), Remaining::known(100 * 24 * 3_600)).is_ok());
}

#[test]
fn names_are_stable() {
    let reasons = NoEstimate::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>();
    let wanted = [
        "not_started",
        "too_early",
        "no_speed",
        "total_open",
        "waiting",
        "paused",
        "stalled",
        "too_far",
        "finished",
    ];
    assert_eq!(reasons, wanted);
    let confidences = Confidence::ALL.iter().map(|one| one.as_str()).collect::<Vec<_>>();
    assert_eq!(confidences, ["low", "medium", "high"]);
}

#[test]
fn doubt_about_the_items_widens_the_range_and_lowers_the_confidence() {
    let pace = steady(600, 7);
    let at = |remaining| estimate(&pace, seconds(600), remaining).unwrap();
    let (known, estimated) = (at(Remaining::known(4_200)), at(Remaining::estimated(4_200)));
    assert_eq!(known.likely, estimated.likely);
    assert!(estimated.low < known.low && estimated.high > known.high);
    assert!(estimated.confidence < known.confidence);
    assert!(estimated.high >= seconds(900) && estimated.low <= seconds(400));
    let crossed = Remaining {
        low: 9_000,
        likely: 4_200,
        high: 10,
    };
    assert_eq!(at(crossed), known);
    assert_eq!(at(Remaining::known(0)).likely, Duration::ZERO);
}

#[test]
fn a_long_attempt_stays_small() {
    let mut pace = Pace::new(u64::MAX / 2);
    let mut done = u64::MAX / 2;
    for step in 1..=40_000 {
        done += 20_000_000_000 + step % 7;
        pace.sample(seconds(step * 3), done);
    }
    let stored = serde_json::to_string(&pace).unwrap();
    assert!(stored.len() <= 700, "{} bytes: {stored}", stored.len());
    assert!(size_of::<Pace>() <= 1_024);
    let usual = serde_json::to_string(&steady(20_000, 40)).unwrap();
    assert!(usual.len() <= 400, "{} bytes: {usual}", usual.len());
}

/// Steps of a crawl: milliseconds on, and items more.
fn steps() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let time = prop_oneof![4 => 0..3_000u64, 2 => 0..120_000u64, 1 => 0..20_000_000u64];
    let items = prop_oneof![2 => Just(0), 4 => 0..50u64, 1 => 0..100_000u64];
    proptest::collection::vec((time, items), 1..120)
}

fn crawl(base: u64, steps: &[(u64, u64)], times: u64) -> (Pace, Duration) {
    let (mut pace, mut worked, mut done) = (Pace::new(base), Duration::ZERO, base);
    for (time, items) in steps {
        worked += Duration::from_millis(*time);
        done += items * times;
        pace.sample(worked, done);
    }
    (pace, worked)
}

fn sound(range: Result<Range, NoEstimate>) {
    if let Ok(range) = range {
        assert!(
            range.low <= range.likely && range.likely <= range.high && range.high <= YEAR,
            "{range:?}"
        );
    }
}

fn sound_pace(pace: &Pace, worked: Duration) {
    let rates = pace.rates(worked);
    for rate in [rates.overall, rates.current, rates.peak] {
        assert!(rate.is_finite() && rate >= 0.0 && rate <= rates.peak, "{rates:?}");
    }
    for share in [pace.efficiency(worked), pace.consistency()].into_iter().flatten() {
        assert!((0.0..=1.0).contains(&share), "{share} of {pace:?}");
    }
}

fn extreme() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        any::<u64>(),
        0..1_000_000u64,
        (0..64u32).prop_map(|bits| 1 << bits)
    ]
}

fn extreme_time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::MAX),
        extreme().prop_map(Duration::from_secs),
        extreme().prop_map(Duration::from_millis),
        extreme().prop_map(Duration::from_nanos),
    ]
}

proptest! {
    #[test]
    fn bounds_are_in_order(base in 0..1_000u64, steps in steps(), later in 0..100_000u64, left in 0..1_000_000u64, doubt in 0..1_000_000u64) {
        let (pace, worked) = crawl(base, &steps, 1);
        let worked = worked + Duration::from_millis(later);
        sound_pace(&pace, worked);
        let remaining = Remaining { low: left.saturating_sub(doubt), likely: left, high: left + doubt };
        sound(estimate(&pace, worked, remaining));
    }

    #[test]
    fn more_items_never_end_sooner(steps in steps(), left in 1..1_000_000u64, more in 0..1_000_000u64) {
        let (pace, worked) = crawl(0, &steps, 1);
        let at = |left| estimate(&pace, worked, Remaining::known(left));
        if let (Ok(few), Ok(many)) = (at(left), at(left + more)) {
            prop_assert!(few.likely <= many.likely, "{few:?} {many:?}");
        }
        // More doubt, on either side, never narrows.
        let doubted = |doubt: u64| estimate(&pace, worked, Remaining { low: left.saturating_sub(doubt), likely: left, high: left + doubt });
        if let (Ok(less), Ok(much)) = (doubted(more / 2), doubted(more)) {
            prop_assert!(much.low <= less.low && less.high <= much.high && much.likely == less.likely);
        }
    }

    #[test]
    fn twice_the_items_at_twice_the_speed_end_at_the_same_time(steps in steps(), left in 1_000..1_000_000u64) {
        // A thousand at once, so that rounding to whole items is far below what is compared.
        let (once, worked) = crawl(0, &steps, 1_000);
        let (twice, _) = crawl(0, &steps, 2_000);
        let at = |pace: &Pace, times: u64| estimate(pace, worked, Remaining::estimated(left * 1_000 * times));
        match (at(&once, 1), at(&twice, 2)) {
            (Ok(one), Ok(two)) => {
                for (one, two) in [(one.low, two.low), (one.likely, two.likely), (one.high, two.high)] {
                    let (one, two) = (one.as_secs_f64(), two.as_secs_f64());
                    prop_assert!((one - two).abs() <= 0.02 * one.max(two) + 0.05, "{one} {two}");
                }
            }
            (Err(one), Err(two)) => prop_assert_eq!(one, two),
            // One of them lies just within a year.
            (one, two) => prop_assert!(one.err().or(two.err()) == Some(NoEstimate::TooFar)),
        }
    }

    #[test]
    fn what_is_stored_goes_on_as_if_it_had_never_been(base in 0..1_000u64, steps in steps(), cut in 0..120usize, left in 0..1_000_000u64) {
        let cut = cut.min(steps.len());
        let (mut there, mut worked) = crawl(base, &steps[..cut], 1);
        let stored = serde_json::to_string(&there).unwrap();
        prop_assert!(stored.len() <= 600, "{stored}");
        let mut back: Pace = serde_json::from_str(&stored).unwrap();
        prop_assert_eq!(&back, &there);
        let mut done = base + steps[..cut].iter().map(|(_, items)| items).sum::<u64>();
        for (time, items) in &steps[cut..] {
            worked += Duration::from_millis(*time);
            done += items;
            there.sample(worked, done);
            back.sample(worked, done);
        }
        prop_assert_eq!(&back, &there);
        let remaining = Remaining::estimated(left);
        prop_assert_eq!(estimate(&back, worked, remaining), estimate(&there, worked, remaining));
        prop_assert_eq!(back.rates(worked), there.rates(worked));
    }

    #[test]
    fn less_time_or_fewer_items_change_nothing(steps in steps(), time in 0..1_000_000u64, items in 0..1_000u64) {
        let (pace, worked) = crawl(1_000, &steps, 1);
        let done = 1_000 + steps.iter().map(|(_, items)| items).sum::<u64>();
        let mut after = pace.clone();
        after.sample(worked.saturating_sub(Duration::from_millis(time + 1)), done + items);
        after.sample(worked + Duration::from_millis(time), done - items.min(done) .max(1));
        after.sample(worked, done);
        prop_assert_eq!(after, pace);
    }

    #[test]
    fn nothing_is_too_extreme(
        base in extreme(),
        samples in proptest::collection::vec((extreme_time(), extreme()), 0..20),
        worked in extreme_time(),
        left in (extreme(), extreme(), extreme()),
    ) {
        let mut pace = Pace::new(base);
        for (worked, done) in samples {
            pace.sample(worked, done);
            sound_pace(&pace, worked);
        }
        sound_pace(&pace, worked);
        sound(estimate(&pace, worked, Remaining { low: left.0, likely: left.1, high: left.2 }));
        let stored = serde_json::to_string(&pace).unwrap();
        prop_assert_eq!(serde_json::from_str::<Pace>(&stored).unwrap(), pace);
    }

    #[test]
    fn whatever_is_stored_can_be_worked_with(
        numbers in proptest::array::uniform8(extreme()),
        width in extreme(),
        whole in proptest::collection::vec(extreme(), 0..40),
        recent in proptest::collection::vec(extreme(), 0..20),
        samples in proptest::collection::vec((extreme_time(), extreme()), 0..10),
        worked in extreme_time(),
        left in extreme(),
    ) {
        let stored = serde_json::to_string(&(numbers, width, whole, recent)).unwrap();
        let mut pace: Pace = serde_json::from_str(&stored).unwrap();
        sound_pace(&pace, worked);
        sound(estimate(&pace, worked, Remaining::known(left)));
        for (worked, done) in samples {
            pace.sample(worked, done);
            sound_pace(&pace, worked);
        }
    }
}
