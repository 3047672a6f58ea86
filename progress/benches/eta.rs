//! How good estimates are, on crawls that never were: `cargo bench -p crawlwire-progress --bench eta [-- SEED]`.
//!
//! Each crawl of each kind is looked at whenever another 5 % of its time of work is over; its reports come every 1 to 30
//! seconds, and count single items or pages. Truth is the time of work that remains: an estimate promises nothing about
//! waits to come. `error` is the mean of |likely - truth| / truth; `width` the median of (high - low) / truth; `inside` the
//! share of estimates with low <= truth <= high, which should be about 80 %.
//!
//! Beside it: `plain`, time by the clock from the begin of the attempt to the last report x remaining / done, less the time
//! since that report; `plain, clock`, the same against the time by the clock that remains, waits to come included;
//! `crawler`, time by the clock x (1 - overall) / overall with overall = processed / discovered, as crawlers do. Then what
//! a sample and an estimate cost.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

#[path = "eta/crawl.rs"]
mod crawl;

use std::hint::black_box;
use std::time::{Duration, Instant};

use crawl::{Chance, Crawl, Kind};
use crawlwire_progress::track::{Confidence, Pace, Range, Rates, Remaining, estimate};

const SEED: u64 = 2_026;
const CRAWLS: u64 = 400;
const LOOKS: usize = 19;
const SAMPLES: u64 = 2_000_000;

/// Of estimates: how many, how many were right, and how wrong they were.
#[derive(Default)]
struct Score {
    looks: usize,
    inside: usize,
    errors: Vec<f64>,
    widths: Vec<f64>,
    plain: Vec<f64>,
    plain_clock: Vec<f64>,
    crawler: Vec<f64>,
}

fn main() {
    // `cargo test --benches` only asks whether this runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let crawls = if is_bench { CRAWLS } else { 2 };
    let seed = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(SEED);
    println!("seed {seed}, {crawls} crawls of each kind, {LOOKS} looks at each; all figures in %\n");
    println!(
        "{:<14} {:>9} {:>7} {:>7} {:>7} {:>7} {:>8} {:>13} {:>8}",
        "kind", "estimated", "inside", "error", "median", "width", "plain", "plain, clock", "crawler"
    );
    let mut by_confidence = Confidence::ALL.iter().map(|_| Score::default()).collect::<Vec<_>>();
    for (index, (kind, name)) in Kind::ALL.into_iter().enumerate() {
        let mut score = Score::default();
        for number in 0..crawls {
            let mut chance = Chance(seed ^ (number << 20) ^ ((index as u64) << 50));
            replay(
                &Crawl::new(kind, &mut chance),
                &mut score,
                kind.is_aim().then_some(&mut by_confidence),
            );
        }
        show(name, score);
    }
    println!("\nkinds without brackets, by confidence");
    for (confidence, score) in Confidence::ALL.iter().zip(by_confidence) {
        show(confidence.as_str(), score);
    }
    println!();
    costs(if is_bench { SAMPLES } else { 1_000 });
}

fn replay(crawl: &Crawl, score: &mut Score, mut by_confidence: Option<&mut [Score]>) {
    let mut pace = Pace::new(crawl.base);
    let mut last = 0.0;
    for look in 1..=LOOKS {
        let worked = crawl.end * look as f64 / (LOOKS + 1) as f64;
        for (second, done) in crawl.reports(last, worked) {
            pace.sample(Duration::from_secs(second as u64), done);
        }
        last = worked;
        score.looks += 1;
        let Some((range, look)) = Look::new(crawl, &pace, worked) else {
            continue;
        };
        score.add(look);
        // Kinds in brackets are no aim.
        if let Some(all) = by_confidence
            .as_deref_mut()
            .and_then(|all| all.get_mut(range.confidence as usize))
        {
            all.looks += 1;
            all.add(look);
        }
    }
}

/// How right estimates were at a moment, as parts of the truth.
#[derive(Clone, Copy)]
struct Look {
    inside: bool,
    error: f64,
    width: f64,
    plain: f64,
    plain_clock: f64,
    crawler: f64,
}

impl Look {
    fn new(crawl: &Crawl, pace: &Pace, worked: f64) -> Option<(Range, Self)> {
        let heard = worked as usize / crawl.every * crawl.every;
        let done = crawl.done_at(heard);
        let (found, remaining) = crawl.known(done);
        let range = estimate(pace, Duration::from_secs_f64(worked), remaining).ok()?;
        let truth = crawl.end - worked;
        let [low, likely, high] = [range.low, range.likely, range.high].map(|time| time.as_secs_f64());
        let error = |estimate: f64, truth: f64| (estimate - truth).abs() / truth;
        let elapsed = crawl.clock(heard as f64);
        let processed = (crawl.base + done).max(1) as f64;
        let plain = (elapsed * remaining.likely as f64 / processed - (worked - heard as f64)).max(0.0);
        let now = crawl.clock(worked);
        let overall = (processed / found.max(1) as f64).min(1.0);
        let look = Self {
            inside: low <= truth && truth <= high,
            error: error(likely, truth),
            width: (high - low) / truth,
            plain: error(plain, truth),
            plain_clock: error(plain, crawl.clock(crawl.end) - now),
            crawler: error(now * (1.0 - overall) / overall, truth),
        };
        Some((range, look))
    }
}

impl Score {
    fn add(&mut self, look: Look) {
        self.inside += usize::from(look.inside);
        self.errors.push(look.error);
        self.widths.push(look.width);
        self.plain.push(look.plain);
        self.plain_clock.push(look.plain_clock);
        self.crawler.push(look.crawler);
    }
}

fn show(name: &str, mut score: Score) {
    let some = score.errors.len();
    let share = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
    println!(
        "{name:<14} {:>9.1} {:>7.1} {:>7.1} {:>7.1} {:>7.1} {:>8.1} {:>13.1} {:>8.1}",
        share(some, score.looks),
        share(score.inside, some),
        mean(&score.errors),
        median(&mut score.errors),
        median(&mut score.widths),
        mean(&score.plain),
        mean(&score.plain_clock),
        mean(&score.crawler),
    );
}

fn mean(values: &[f64]) -> f64 {
    100.0 * values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    100.0 * values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn costs(samples: u64) {
    let mut pace = Pace::new(0);
    let at = |sample: u64| Duration::from_millis(100 * sample);
    let begun = Instant::now();
    for sample in 1..=samples {
        pace.sample(black_box(at(sample)), black_box(3 * sample));
    }
    per_call("sample", begun.elapsed(), samples);
    let calls = samples / 10;
    let remaining = Remaining::estimated(samples);
    let begun = Instant::now();
    for call in 0..calls {
        let _ = black_box(estimate(&pace, black_box(at(samples + call % 16)), remaining));
    }
    per_call("estimate", begun.elapsed(), calls);
    let begun = Instant::now();
    for call in 0..calls {
        let _: Rates = black_box(pace.rates(black_box(at(samples + call % 16))));
    }
    per_call("rates", begun.elapsed(), calls);
    let stored = serde_json::to_string(&pace).expect("a pace is plain data");
    println!(
        "{:<9} {:>6} bytes in memory, {} stored",
        "pace",
        size_of::<Pace>(),
        stored.len()
    );
}

fn per_call(name: &str, took: Duration, calls: u64) {
    println!("{name:<9} {:>6.0} ns", took.as_nanos() as f64 / calls as f64);
}
