//! When a job will end, as a range.
//!
//! The speed of the whole attempt comes first. How much the newer slices count above the older ones is learned from the
//! crawl itself: ways to weigh them are tried on what it did so far, and those that foretold it better count more. What
//! was seen in a time tells of about as long a time to come, so each difference from the overall speed fades with the
//! distance of the end. The range comes from how wrong those trials were, how much long stretches of the crawl differ from
//! each other, and how unsure the number of items is. `cargo bench --bench eta` shows how often it is right.

use std::time::Duration;

use super::pace::{EVIDENCE_MIN, Pace, SLICES, Slices, millis};
use crate::job::named;

/// Items that remain. They differ where totals are estimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// There will hardly be fewer. At most `likely`; more counts as `likely`.
    pub low: u64,
    /// The best guess.
    pub likely: u64,
    /// There will hardly be more. At least `likely`; less counts as `likely`.
    pub high: u64,
}

impl Remaining {
    /// What remains of totals that are known.
    pub const fn known(left: u64) -> Self {
        Self {
            low: left,
            likely: left,
            high: left,
        }
    }

    /// What remains of totals that crawlers estimate. They grow more often than they shrink; a third fewer to half more
    /// held four of five of the growing totals of the benchmark.
    pub const fn estimated(left: u64) -> Self {
        Self {
            low: left - left / 3,
            likely: left,
            high: left.saturating_add(left / 2),
        }
    }

    /// What remains of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            low: self.low.saturating_add(other.low),
            likely: self.likely.saturating_add(other.likely),
            high: self.high.saturating_add(other.high),
        }
    }
}

/// Time of work that remains: pauses and waits to come are not in it. `low <= likely <= high`, each at most
/// a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// One job in ten ends sooner.
    pub low: Duration,
    /// The best guess.
    pub likely: Duration,
    /// One job in ten ends later.
    pub high: Duration,
    /// How much it rests on.
    pub confidence: Confidence,
}

named! {
    /// How much an estimate rests on.
    Confidence {
        /// Work was seen in few slices of time, or little is done, or the range is wide.
        Low = "low",
        /// Work in at least six slices of time, and the range no wider than the likely time.
        Medium = "medium",
        /// Work in at least twelve slices, a quarter of the attempt's items done, and the range no wider than half the likely time.
        High = "high",
    }
}

named! {
    /// Why there is no estimate.
    NoEstimate {
        /// The job has not begun.
        NotStarted = "not_started",
        /// Fewer than four slices of time (the first are a second wide), or the count rose fewer than three times.
        TooEarly = "too_early",
        /// Nothing was done in this attempt.
        NoSpeed = "no_speed",
        /// How much there is to do is not known.
        TotalOpen = "total_open",
        /// Waits for its gate or for a limit of the host.
        Waiting = "waiting",
        /// Paused.
        Paused = "paused",
        /// It works, but nothing has moved for too long.
        Stalled = "stalled",
        /// The end, or the far end of its range, is further away than a year.
        TooFar = "too_far",
        /// It has ended.
        Finished = "finished",
    }
}

/// The furthest end that is told: a year.
const FAR_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);
/// The count must have risen this often: two lumps make no speed.
const MOVES_MIN: u64 = 3;
/// Slices with work in them for [`Confidence::Medium`].
const MEDIUM_SLICES: usize = 6;
/// Slices with work in them for [`Confidence::High`].
const HIGH_SLICES: usize = 12;

// What follows was tuned with the benchmark, over several seeds.

/// Deviations from the middle of a normal distribution within which 80 % of it lie.
const DEVIATIONS: f64 = 1.28;
/// Ways to weigh slices: each slice counts this much less than the one after it.
const FADES: [f64; 4] = [0.0, 0.1, 0.25, 0.5];
/// How much more the plain mean, the first way, is believed than any other at first.
const PLAIN_PRIOR: f64 = 10.0;
/// What is assumed of a slice's deviation before anything is seen, relative to the mean …
const DEVIATION_PRIOR: f64 = 0.15;
/// … and how many trials that is worth.
const PRIOR_TRIALS: f64 = 2.0;
/// Each way foretells, from each slice on, this part of the slices.
const TRIAL_PART: usize = 4;
/// Less than this part of a slice varies no more.
const SLICE_PART_MIN: f64 = 0.05;
/// Long stretches that are compared: quarters of the attempt.
const STRETCHES: usize = 4;
/// How much a difference between stretches counts.
const STRETCH_WEIGHT: f64 = 2.0;
/// What is yet to come is never quite like what was: relative deviation when very much is to come …
const UNSEEN: f64 = 0.09;
/// … and when nearly nothing is.
const NOISE: f64 = 0.01;
/// Bounds of what newer slices, and the last minute, may change the speed by. More items never end sooner, because the
/// logarithms of both together are below 4, and `x^(1 / (1 + far))` falls with `far` no faster than its power of `ln x / 4`.
const TREND_MAX: f64 = 3.0;
const RECENT_MAX: f64 = 18.0;
/// The seconds over which the speed of the last minute fades.
const RECENT_FADE: f64 = 20.0;
/// A bound is at most this many times the likely time, or this part of it, but for doubt of the items.
const FACTOR_MAX: f64 = 10.0;

/// When a job will end that has spent `worked` and has so many items left. Returns [`NoEstimate::TooEarly`],
/// [`NoEstimate::NoSpeed`] or [`NoEstimate::TooFar`]; the other reasons are for those who know more of the job.
pub fn estimate(pace: &Pace, worked: Duration, remaining: Remaining) -> Result<Range, NoEstimate> {
    let end = pace.end(worked);
    let whole = pace.whole(end);
    if whole.counts().len() < EVIDENCE_MIN {
        return Err(NoEstimate::TooEarly);
    }
    if pace.gained() <= 0.0 {
        return Err(NoEstimate::NoSpeed);
    }
    if pace.moves() < MOVES_MIN {
        return Err(NoEstimate::TooEarly);
    }
    let likely = remaining.likely as f64;
    let outlook = Outlook::new(pace, &whole, end, likely);
    let (low, high) = (
        remaining.low.min(remaining.likely) as f64,
        remaining.high.max(remaining.likely) as f64,
    );
    // Items are counted in lumps, so the end is seen sooner or later than it is by half the time of one.
    let lump = pace.gap() / 2.0;
    let middle = likely / outlook.speed;
    let factor = (DEVIATIONS * outlook.deviation).exp().min(FACTOR_MAX);
    let down = [middle - middle / factor, (likely - low) / outlook.speed, lump];
    let up = [middle * factor - middle, (high - likely) / outlook.speed, lump];
    // All of this begins with the last thing that is known; the time since then has passed.
    let since = (millis(worked) - end.min(millis(worked))) as f64 / 1e3;
    let time = |seconds: f64| {
        let time = Duration::try_from_secs_f64((seconds - since).max(0.0));
        time.ok().filter(|time| *time <= FAR_MAX).ok_or(NoEstimate::TooFar)
    };
    let (low, likely, high) = (time(middle - length(down))?, time(middle)?, time(middle + length(up))?);
    let confidence = confidence(&whole, pace.gained(), remaining, (high - low).as_secs_f64() / middle);
    Ok(Range {
        low,
        likely,
        high,
        confidence,
    })
}

fn length(parts: [f64; 3]) -> f64 {
    parts.iter().map(|part| part * part).sum::<f64>().sqrt()
}

fn confidence(whole: &Slices<SLICES>, gained: f64, remaining: Remaining, width: f64) -> Confidence {
    let worked = whole.counts().iter().filter(|count| **count > 0.0).count();
    // Nothing left: no width to judge by.
    let width = if remaining.likely == 0 { 0.0 } else { width };
    if worked >= HIGH_SLICES && width <= 0.5 && gained * 3.0 >= remaining.likely as f64 {
        Confidence::High
    } else if worked >= MEDIUM_SLICES && width <= 1.0 {
        Confidence::Medium
    } else {
        Confidence::Low
    }
}

/// What is expected of the time to come.
struct Outlook {
    /// Items per second.
    speed: f64,
    /// Relative deviation of the time that it takes.
    deviation: f64,
}

impl Outlook {
    fn new(pace: &Pace, whole: &Slices<SLICES>, end: u64, items: f64) -> Self {
        let mean = pace.gained() * 1e3 / end as f64;
        let far = items / mean;
        let ahead = far * 1e3 / end as f64;
        let share_ahead = ahead / (1.0 + ahead);
        let trend = Trend::new(whole, mean);
        let expected = mean * trend.ratio.clamp(TREND_MAX.recip(), TREND_MAX);
        let mut speed = mean * (expected / mean).powf(1.0 - share_ahead);
        let stretches = STRETCH_WEIGHT * stretches(whole.counts(), mean * whole.width);
        let mut variance = trend.variance(far / whole.width) + stretches * (0.5 + share_ahead);

        let recent = pace.recent(end);
        let last = recent.counts().iter().sum::<f64>() / (recent.counts().len().max(1) as f64 * recent.width);
        // A young attempt has slices that are finer than those of the last minute.
        if whole.width > recent.width && last > 0.0 {
            let weight = 1.0 / (1.0 + far / RECENT_FADE);
            speed *= (last / expected).clamp(RECENT_MAX.recip(), RECENT_MAX).powf(weight);
            let recently = Trend::new(&recent, last).variance(far / recent.width);
            variance += (recently - variance) * weight;
        }
        variance += UNSEEN * UNSEEN * share_ahead + NOISE * NOISE;
        Self {
            speed,
            deviation: variance.sqrt(),
        }
    }
}

/// What the order of slices tells.
struct Trend {
    /// The speed to go on with, relative to the mean.
    ratio: f64,
    /// Relative variance of one slice.
    own: f64,
    /// Relative variance of the speed to go on with.
    error: f64,
}

impl Trend {
    fn new<const N: usize>(slices: &Slices<N>, speed: f64) -> Self {
        let mean = speed * slices.width;
        let distance = (slices.counts().len() / TRIAL_PART).max(1);
        let trials = (slices.counts().len() as f64 / distance as f64 - 1.0).max(1.0);
        let mut all = Self {
            ratio: 0.0,
            own: 0.0,
            error: 0.0,
        };
        let mut weights = 0.0;
        for (way, fade) in FADES.into_iter().enumerate() {
            let trial = Trial::new(slices, fade, distance, mean);
            // How likely what happened was, if this way is right: the smaller its errors the more.
            let weight = trial.variance.powf(-0.5 * trials) * if way == 0 { PLAIN_PRIOR } else { 1.0 };
            all.ratio += weight * trial.next / mean;
            all.own += weight * trial.variance;
            all.error += weight * trial.variance / memory(fade, slices.counts().len());
            weights += weight;
        }
        Self {
            ratio: all.ratio / weights,
            own: all.own / weights,
            error: all.error / weights,
        }
    }

    /// Relative variance of the time that so many slices to come take.
    fn variance(&self, slices: f64) -> f64 {
        self.own / slices.max(SLICE_PART_MIN) + self.error
    }
}

/// How many of so many slices count, in effect.
fn memory(fade: f64, slices: usize) -> f64 {
    let slices = slices as f64;
    if fade > 0.0 {
        ((2.0 - fade) / fade).min(slices)
    } else {
        slices
    }
}

/// A way to weigh slices, tried on what is known.
struct Trial {
    /// Items of the next slice.
    next: f64,
    /// Relative variance of one slice, if all that was foretold wrong comes from slices that vary independently.
    variance: f64,
}

impl Trial {
    fn new<const N: usize>(slices: &Slices<N>, fade: f64, distance: usize, mean: f64) -> Self {
        let counts = slices.counts();
        let (mut items, mut weight) = (0.0, 0.0);
        let (mut errors, mut trials) = (0.0, 0.0);
        for (index, count) in counts.iter().enumerate() {
            if let Some(next) = counts.get(index..index + distance).filter(|_| index >= 2) {
                let error = (next.iter().sum::<f64>() / distance as f64 - items / weight) / mean;
                errors += error * error / (1.0 / distance as f64 + 1.0 / memory(fade, index));
                trials += 1.0;
            }
            items = items * (1.0 - fade) + count;
            weight = weight * (1.0 - fade) + 1.0;
        }
        let part = slices.part;
        items = items * (1.0 - fade * part) + slices.filling();
        weight = weight * (1.0 - fade * part) + part;
        // Trials overlap: those of one distance are worth one.
        let worth = 1.0 / distance as f64;
        let prior = PRIOR_TRIALS * DEVIATION_PRIOR * DEVIATION_PRIOR;
        Self {
            next: items / weight,
            variance: (errors * worth + prior) / (trials * worth + PRIOR_TRIALS),
        }
    }
}

/// Relative variance of long stretches, above what the variance of their slices explains. Zero with too few slices.
fn stretches(counts: &[f64], mean: f64) -> f64 {
    let long = counts.len() / STRETCHES;
    if long < 2 {
        return 0.0;
    }
    let counts = &counts[counts.len() - long * STRETCHES..];
    let all = counts.iter().sum::<f64>() / counts.len() as f64;
    let (mut between, mut within) = (0.0, 0.0);
    for stretch in counts.chunks_exact(long) {
        let own = stretch.iter().sum::<f64>() / long as f64;
        between += (own - all).powi(2);
        within += stretch.iter().map(|count| (count - own).powi(2)).sum::<f64>();
    }
    let between = between / (STRETCHES - 1) as f64;
    let within = within / ((long - 1) * STRETCHES * long) as f64;
    (between - within).max(0.0) / (mean * mean)
}
