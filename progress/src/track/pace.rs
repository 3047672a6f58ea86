//! Work over time.
//!
//! A [`Pace`] knows how much was done in each of at most 32 equal slices of the time spent working, whose width doubles
//! when there is no more room, and how much in each five seconds of the last minute. All it keeps are whole
//! numbers, so what is stored and read again answers the same to the last bit.
//!
//! Crawlers count in lumps: a page, or whatever came between two reports. So work that is counted at once was done over
//! the time since the report before, and silence means nothing until it is three times as long as usual.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Slices of the whole attempt, of which at least half are in use once they have doubled. Enough to tell a change of pace
/// from noise, few enough to be stored each second.
pub(super) const SLICES: usize = 32;
/// The least width of a slice: below it, pages and reports are seen rather than a pace.
const WIDTH_MIN_MS: u64 = 1_000;
/// Slices of the last minute, and one that fills.
pub(super) const RECENT: usize = 13;
/// Width of a slice of the last minute.
pub(super) const RECENT_WIDTH_MS: u64 = 5_000;
/// How far the current rate looks back.
const CURRENT_MS: u64 = 30_000;
/// The peak is the best of two slices of the last minute together, so a moment never makes one.
const PEAK_MS: u64 = 2 * RECENT_WIDTH_MS;
/// Silence counts as standing still once it is this many times as long as usual.
const PATIENCE: u64 = 3;
/// Crawlers that nobody watches report about this often.
const REPORT_MS: u64 = 60_000;
/// Less evidence than this many whole slices with time in them says nothing of how even the work is.
pub(super) const EVIDENCE_MIN: usize = 4;
/// More items than all counters of a job together can have, and exact in floating point.
const ITEMS_MAX: u64 = 1_000_000_000_000_000;
/// A century: nothing works longer, and sums of it fit anywhere.
const WORKED_MAX_MS: u64 = 100 * 366 * 24 * 3_600 * 1_000;

/// Work over time spent working, in one attempt.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Pace {
    /// Items when the attempt began.
    base: u64,
    /// Items since.
    gained: u64,
    /// When the last sample came, in milliseconds spent working, like all times here.
    sampled: u64,
    /// When the count rose last.
    moved: u64,
    /// How often it rose.
    moves: u64,
    /// The usual time from one rise to the next.
    gap: u64,
    /// Time in which nothing moved, until `moved`.
    idle: u64,
    /// Most items within [`PEAK_MS`].
    peak: u64,
    whole: Whole,
    recent: Recent,
}

/// Items per second of time spent working, finite and never negative.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rates {
    /// Since the attempt began.
    pub overall: f64,
    /// In the last half minute. Falls to zero when nothing comes.
    pub current: f64,
    /// The most in ten seconds; never below the other two.
    pub peak: f64,
}

impl Pace {
    /// The pace of an attempt that begins with `done` items, which never count as speed: an earlier attempt did them.
    pub fn new(done: u64) -> Self {
        Self {
            base: done,
            ..Self::default()
        }
    }

    /// By now `worked` was spent working and `done` items are processed. To be called for each report of the crawler, also
    /// when nothing rose. Neither falls: a call with less changes nothing.
    pub fn sample(&mut self, worked: Duration, done: u64) {
        let now = millis(worked);
        let gained = done.saturating_sub(self.base).min(ITEMS_MAX);
        if now < self.sampled || done < self.base || gained < self.gained {
            return;
        }
        if gained > self.gained {
            let from = self.begin_of_work(now).max(self.moved);
            let work = Work {
                from,
                to: now,
                items: gained - self.gained,
            };
            self.idle += from - self.moved;
            self.whole.add(work);
            self.peak = self.peak.max(self.recent.add(work));
            self.moves = self.moves.saturating_add(1);
            self.gained = gained;
            self.moved = now;
        }
        self.sampled = now;
    }

    /// When the work that is counted now began, and what that says of the usual time between two counts.
    fn begin_of_work(&mut self, now: u64) -> u64 {
        let silence = now - self.moved;
        // One silence of any length moves what is usual only so far; less so far if reports came in it.
        let step = if self.sampled == self.moved {
            REPORT_MS
        } else {
            WIDTH_MIN_MS
        };
        let gap = silence.min(4 * self.gap + step);
        if self.moves == 0 {
            // Before the first one there may have been much to find.
            self.gap = gap;
            return self.sampled;
        }
        self.gap = (3 * self.gap + gap) / 4;
        self.sampled.min(now.saturating_sub(self.patience()))
    }

    /// The speeds, when `worked` was spent working.
    pub fn rates(&self, worked: Duration) -> Rates {
        let end = self.end(worked);
        let overall = per_second(self.gained as f64, end);
        let current = per_second(self.recent.until(self.moved, end), end.min(CURRENT_MS));
        let peak = per_second(self.peak as f64, PEAK_MS).max(overall).max(current);
        Rates { overall, current, peak }
    }

    /// Share of the time working in which work moved, 0 to 1. None in the first four seconds.
    pub fn efficiency(&self, worked: Duration) -> Option<f64> {
        let end = self.end(worked);
        let idle = self.idle + (end - self.moved);
        (end >= EVIDENCE_MIN as u64 * WIDTH_MIN_MS).then(|| 1.0 - idle as f64 / end as f64)
    }

    /// How even the speed is, 0 to 1: 1 / (1 + coefficient of variation) of the speed in equal slices, up to the last work.
    /// None with fewer than four slices.
    pub fn consistency(&self) -> Option<f64> {
        let slices = self.whole.slices(self.moved);
        let counts = slices.counts();
        if counts.len() < EVIDENCE_MIN {
            return None;
        }
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / (counts.len() - 1) as f64;
        (mean > 0.0).then(|| 1.0 / (1.0 + variance.sqrt() / mean))
    }

    /// Items since the attempt began.
    pub(super) fn gained(&self) -> f64 {
        self.gained as f64
    }

    /// How often the count rose.
    pub(super) fn moves(&self) -> u64 {
        self.moves
    }

    /// The usual seconds from one rise of the count to the next.
    pub(super) fn gap(&self) -> f64 {
        self.gap as f64 / 1e3
    }

    /// Milliseconds until which is known what was done: the last rise, or later when the next one is overdue.
    pub(super) fn end(&self, worked: Duration) -> u64 {
        millis(worked).saturating_sub(self.patience()).max(self.moved)
    }

    /// The whole attempt until `end`.
    pub(super) fn whole(&self, end: u64) -> Slices<SLICES> {
        self.whole.slices(end)
    }

    /// The last minute until `end`.
    pub(super) fn recent(&self, end: u64) -> Slices<RECENT> {
        self.recent.slices(end)
    }

    fn patience(&self) -> u64 {
        PATIENCE * self.gap
    }
}

/// Milliseconds of a time spent working.
pub(super) fn millis(worked: Duration) -> u64 {
    u64::try_from(worked.as_millis()).map_or(WORKED_MAX_MS, |millis| millis.min(WORKED_MAX_MS))
}

/// A time below the least width counts as that width: a moment has no speed.
fn per_second(items: f64, millis: u64) -> f64 {
    items * 1e3 / millis.max(WIDTH_MIN_MS) as f64
}

/// Items that were done evenly after `from` and until `to`.
#[derive(Clone, Copy)]
struct Work {
    from: u64,
    to: u64,
    items: u64,
}

impl Work {
    /// Items until a time. Cumulative, so that no item is lost by rounding.
    fn until(self, time: u64) -> u64 {
        if time >= self.to {
            return self.items;
        }
        let share = u128::from(self.items) * u128::from(time.saturating_sub(self.from))
            / u128::from((self.to - self.from).max(1));
        u64::try_from(share).unwrap_or(self.items)
    }

    fn between(self, from: u64, to: u64) -> u64 {
        self.until(to) - self.until(from)
    }

    /// The slices of a width in which it was done; a slice has its end, not its beginning.
    fn slices(self, width: u64) -> (u64, u64) {
        let last = self.to.saturating_sub(1) / width;
        ((self.from / width).min(last), last)
    }
}

/// Equal slices of time, oldest first.
#[derive(Debug)]
pub(super) struct Slices<const N: usize> {
    /// Items in each.
    counts: [f64; N],
    /// How many of them are whole. If there is one more, it fills.
    whole: usize,
    /// The part of the slice after the whole ones that is over, 0 to 1.
    pub(super) part: f64,
    /// Seconds in a slice.
    pub(super) width: f64,
}

impl<const N: usize> Slices<N> {
    pub(super) fn counts(&self) -> &[f64] {
        &self.counts[..self.whole]
    }

    /// Items in the slice that fills.
    pub(super) fn filling(&self) -> f64 {
        self.counts.get(self.whole).copied().unwrap_or(0.0)
    }
}

/// The whole attempt.
#[derive(Debug, Clone, PartialEq)]
struct Whole {
    width: u64,
    counts: [u64; SLICES],
}

impl Default for Whole {
    fn default() -> Self {
        Self {
            width: WIDTH_MIN_MS,
            counts: [0; SLICES],
        }
    }
}

impl Whole {
    fn add(&mut self, work: Work) {
        while work.to > self.width * SLICES as u64 {
            self.double();
        }
        let (first, last) = work.slices(self.width);
        for slice in first..=last {
            if let Some(count) = self.counts.get_mut(slice as usize) {
                let from = if slice == first { work.from } else { slice * self.width };
                *count += if first == last {
                    work.items
                } else {
                    work.between(from, (slice + 1) * self.width)
                };
            }
        }
    }

    fn double(&mut self) {
        self.width *= 2;
        for slice in 0..SLICES {
            let pair = self.counts.get(2 * slice..2 * slice + 2);
            self.counts[slice] = pair.map_or(0, |pair| pair[0] + pair[1]);
        }
    }

    fn slices(&self, end: u64) -> Slices<SLICES> {
        let mut grown;
        let mut this = self;
        if end > self.width * SLICES as u64 {
            grown = self.clone();
            while end > grown.width * SLICES as u64 {
                grown.double();
            }
            this = &grown;
        }
        Slices {
            counts: this.counts.map(|count| count as f64),
            whole: (end / this.width) as usize,
            part: (end % this.width) as f64 / this.width as f64,
            width: this.width as f64 / 1e3,
        }
    }
}

/// The last minute. The last slice is the one in which work moved last.
#[derive(Debug, Clone, PartialEq, Default)]
struct Recent {
    /// The number of the last slice, counted from the begin of the attempt.
    index: u64,
    counts: [u64; RECENT],
}

impl Recent {
    /// Returns the most that two slices together had which became whole by this.
    fn add(&mut self, work: Work) -> u64 {
        let (first, last) = work.slices(RECENT_WIDTH_MS);
        let mut peak = 0;
        let mut slice = first.max(self.index);
        while slice <= last {
            peak = peak.max(self.advance(slice));
            let from = work.from.max(slice * RECENT_WIDTH_MS);
            let items = if first == last {
                work.items
            } else {
                work.between(from, (slice + 1) * RECENT_WIDTH_MS)
            };
            self.counts[RECENT - 1] += items;
            // What is forgotten at once need not be written.
            slice = (slice + 1).max((last + 1).saturating_sub(RECENT as u64));
        }
        peak
    }

    fn advance(&mut self, index: u64) -> u64 {
        let steps = (index - self.index).min(RECENT as u64) as usize;
        if steps == 0 {
            return 0;
        }
        let pair = if self.index == 0 {
            0
        } else {
            self.counts[RECENT - 1] + self.counts[RECENT - 2]
        };
        self.counts.rotate_left(steps);
        self.counts[RECENT - steps..].fill(0);
        self.index = index;
        pair
    }

    /// Items of the last half minute before `end`, which is not before `moved`.
    fn until(&self, moved: u64, end: u64) -> f64 {
        let begin = end.saturating_sub(CURRENT_MS);
        let slices = self.counts.iter().rev().zip(0..=self.index);
        slices
            .map(|(count, age)| {
                let from = (self.index - age) * RECENT_WIDTH_MS;
                let to = (from + RECENT_WIDTH_MS).min(moved.max(from + 1));
                *count as f64 * to.saturating_sub(from.max(begin)) as f64 / (to - from) as f64
            })
            .sum()
    }

    fn slices(&self, end: u64) -> Slices<RECENT> {
        let mut grown = self.clone();
        grown.advance((end / RECENT_WIDTH_MS).max(self.index));
        let whole = grown.index.min(RECENT as u64 - 1) as usize;
        grown.counts.rotate_left(RECENT - 1 - whole);
        Slices {
            counts: grown.counts.map(|count| count as f64),
            whole,
            part: (end % RECENT_WIDTH_MS) as f64 / RECENT_WIDTH_MS as f64,
            width: RECENT_WIDTH_MS as f64 / 1e3,
        }
    }
}

/// The stored shape: numbers in order, without what is zero at an end.
#[derive(Serialize, Deserialize)]
struct Stored([u64; 8], u64, Vec<u64>, Vec<u64>);

impl From<Pace> for Stored {
    fn from(pace: Pace) -> Self {
        let used = pace
            .whole
            .counts
            .iter()
            .rposition(|count| *count > 0)
            .map_or(0, |last| last + 1);
        let recent = pace.recent.counts.iter().position(|count| *count > 0).unwrap_or(RECENT);
        Self(
            [
                pace.base,
                pace.gained,
                pace.sampled,
                pace.moved,
                pace.moves,
                pace.gap,
                pace.idle,
                pace.peak,
            ],
            pace.whole.width / WIDTH_MIN_MS,
            pace.whole.counts[..used].to_vec(),
            pace.recent.counts[recent..].to_vec(),
        )
    }
}

impl From<Stored> for Pace {
    /// Whatever was stored becomes a pace that can be worked with: nothing larger than its bound, no time out of order.
    fn from(Stored(numbers, width, whole, recent): Stored) -> Self {
        let [base, gained, sampled, moved, moves, gap, idle, peak] = numbers;
        let sampled = sampled.min(WORKED_MAX_MS);
        let moved = moved.min(sampled);
        let mut pace = Self {
            base,
            gained: gained.min(ITEMS_MAX),
            sampled,
            moved,
            moves,
            gap: gap.min(WORKED_MAX_MS),
            idle: idle.min(moved),
            peak: peak.min(ITEMS_MAX),
            ..Self::default()
        };
        for (to, from) in pace.whole.counts.iter_mut().zip(whole) {
            *to = from.min(ITEMS_MAX);
        }
        for (to, from) in pace.recent.counts.iter_mut().rev().zip(recent.into_iter().rev()) {
            *to = from.min(ITEMS_MAX);
        }
        pace.recent.index = moved.saturating_sub(1) / RECENT_WIDTH_MS;
        let width = width
            .checked_next_power_of_two()
            .map_or(WORKED_MAX_MS, |width| width.saturating_mul(WIDTH_MIN_MS));
        pace.whole.width = width.clamp(WIDTH_MIN_MS, WORKED_MAX_MS);
        while moved > pace.whole.width * SLICES as u64 {
            pace.whole.double();
        }
        pace
    }
}
