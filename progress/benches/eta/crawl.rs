//! Crawls that never were: how much was done after each second of work, and what the crawler knew then.

use crawlwire_progress::track::Remaining;

/// A small generator (splitmix64): the same seed makes the same crawls everywhere.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn even(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn whole(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from + 1)
    }

    /// Evenly over orders of magnitude.
    fn magnitude(&mut self, from: f64, to: f64) -> f64 {
        self.even(from.ln(), to.ln()).exp()
    }

    /// Nearly normal, with mean 0 and deviation 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.even(0.0, 1.0)).sum::<f64>() - 6.0
    }

    /// A factor around 1.
    fn factor(&mut self, deviation: f64) -> f64 {
        (deviation * self.normal()).exp()
    }

    fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.whole(0, among.len() as u64 - 1) as usize]
    }
}

/// What a crawl is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Noise from second to second, and a pace that wanders by up to a quarter.
    Steady,
    /// Fast and slow by turns, 3 to 30 times apart.
    Bursty,
    /// What is found in a place is only known when the crawl comes there, and more places are found on the way. What
    /// remains is an estimate that is mostly too low.
    Growing,
    /// Steady, with waits for a limit to be lifted.
    RateLimited,
    /// A later attempt, from a checkpoint on: steady or bursty, half of them with waits.
    Resumed,
    /// One kind of item after the other, each at a speed of its own, which nobody can know beforehand.
    Shifting,
    /// As growing, but the estimate is taken to be certain.
    Overtrusted,
}

impl Kind {
    /// All, with their names.
    pub(crate) const ALL: [(Self, &'static str); 7] = [
        (Self::Steady, "steady"),
        (Self::Bursty, "bursty"),
        (Self::Growing, "growing"),
        (Self::RateLimited, "rate-limited"),
        (Self::Resumed, "resumed"),
        (Self::Shifting, "(shifting)"),
        (Self::Overtrusted, "(overtrusted)"),
    ];

    /// Whether 80 % of its estimates should be right. The others show what cannot be foreseen.
    pub(crate) fn is_aim(self) -> bool {
        !matches!(self, Self::Shifting | Self::Overtrusted)
    }
}

/// One crawl.
pub(crate) struct Crawl {
    /// Items counted after each second of work, without those of earlier attempts.
    done: Vec<u64>,
    /// When the last one was done, in seconds of work.
    pub(crate) end: f64,
    /// Items of earlier attempts.
    pub(crate) base: u64,
    /// Seconds between two reports.
    pub(crate) every: usize,
    /// Waits: after how much work, and how long, in seconds.
    waits: Vec<(f64, f64)>,
    /// Where totals grow.
    places: Option<Places>,
    total: u64,
}

/// Where things are found, one place after the other.
struct Places {
    sizes: Vec<u64>,
    /// The part of the places that is listed at the begin.
    listed_first: f64,
    /// The part of the work after which all are.
    listed_all_at: f64,
    /// Whether the estimate is taken as one.
    doubted: bool,
}

impl Crawl {
    pub(crate) fn new(kind: Kind, chance: &mut Chance) -> Self {
        let places =
            matches!(kind, Kind::Growing | Kind::Overtrusted).then(|| Places::new(kind == Kind::Growing, chance));
        let mut total = chance.magnitude(300.0, 1e6);
        if let Some(places) = &places {
            total = places.sizes.iter().sum::<u64>() as f64;
        }
        let span = chance.magnitude(60.0, 4.0 * 3600.0);
        let speeds = match kind {
            Kind::Bursty => bursts(span, chance),
            Kind::Shifting => kinds(span, chance),
            Kind::Resumed if chance.whole(0, 1) == 0 => bursts(span, chance),
            _ => even(span, chance),
        };
        let page = chance
            .pick(&[1.0, 1.0, 20.0, 100.0_f64])
            .min((total / 50.0).floor())
            .max(1.0);
        let sum: f64 = speeds.iter().sum();
        let mut cumulative = 0.0;
        let mut exact = Vec::new();
        for speed in &speeds {
            cumulative += speed / sum * total;
            exact.push(cumulative);
        }
        let total = total.floor();
        let last = exact
            .iter()
            .position(|done| *done >= total - 1e-6)
            .unwrap_or(exact.len() - 1);
        let before = if last == 0 { 0.0 } else { exact[last - 1] };
        let end = last as f64 + ((total - before) / (exact[last] - before).max(1e-9)).min(1.0);
        let done = exact[..=last]
            .iter()
            .map(|done| ((done / page).floor() * page).min(total) as u64)
            .collect();
        let base = match kind {
            Kind::Resumed => (total * chance.even(0.25, 4.0)) as u64,
            _ => 0,
        };
        let waits = match kind {
            Kind::RateLimited => waits(end, chance),
            Kind::Resumed if chance.whole(0, 1) == 0 => waits(end, chance),
            _ => Vec::new(),
        };
        Self {
            done,
            end,
            base,
            every: chance.pick(&[1, 1, 5, 10, 30]),
            waits,
            places,
            total: total as u64,
        }
    }

    /// Reports until a time of work: when, and what was counted, earlier attempts included.
    pub(crate) fn reports(&self, from: f64, to: f64) -> impl Iterator<Item = (usize, u64)> {
        let first = (from.floor() as usize / self.every + 1) * self.every;
        (first..=to.floor() as usize)
            .step_by(self.every)
            .map(|second| (second, self.base + self.done_at(second)))
    }

    pub(crate) fn done_at(&self, second: usize) -> u64 {
        if second == 0 {
            0
        } else {
            self.done[(second - 1).min(self.done.len() - 1)]
        }
    }

    /// Time by the clock when so much was worked.
    pub(crate) fn clock(&self, worked: f64) -> f64 {
        worked
            + self
                .waits
                .iter()
                .filter(|(at, _)| *at <= worked)
                .map(|(_, wait)| wait)
                .sum::<f64>()
    }

    /// What the crawler knew when it had done this many: found in all, and what remained.
    pub(crate) fn known(&self, done: u64) -> (u64, Remaining) {
        match &self.places {
            Some(places) => places.known(done, self.total),
            None => (self.base + self.total, Remaining::known(self.total - done)),
        }
    }
}

impl Places {
    fn new(doubted: bool, chance: &mut Chance) -> Self {
        let (deviation, mean) = (chance.even(0.3, 1.3), chance.magnitude(20.0, 2000.0));
        let count = chance.magnitude(20.0, 400.0) as usize;
        Self {
            sizes: (0..count)
                .map(|_| (mean * chance.factor(deviation)).ceil() as u64)
                .collect(),
            listed_first: chance.even(0.2, 0.9),
            listed_all_at: chance.even(0.1, 0.7),
            doubted,
        }
    }

    /// The rest of the open places, and as much in each other that is listed as in the mean of those.
    fn known(&self, done: u64, total: u64) -> (u64, Remaining) {
        let (mut open, mut found) = (0, 0);
        while open < self.sizes.len() && found <= done {
            found += self.sizes[open];
            open += 1;
        }
        let part = (done as f64 / total as f64 / self.listed_all_at).min(1.0);
        let listed = (self.sizes.len() as f64 * (self.listed_first + (1.0 - self.listed_first) * part)) as usize;
        let closed = listed.max(open) - open;
        let left = found - done + (closed as f64 * found as f64 / open as f64) as u64;
        let remaining = if self.doubted {
            Remaining::estimated(left)
        } else {
            Remaining::known(left)
        };
        (found, remaining)
    }
}

/// Speeds of each second: noise from second to second, and a pace that wanders.
fn even(span: f64, chance: &mut Chance) -> Vec<f64> {
    let (noise, wander, memory) = (
        chance.even(0.1, 0.5),
        chance.even(0.0, 0.25),
        span * chance.even(0.03, 0.3),
    );
    let keep = (-1.0 / memory).exp();
    let mut state = chance.normal() * wander;
    (0..span as usize)
        .map(|_| {
            state = state * keep + chance.normal() * wander * (1.0 - keep * keep).sqrt();
            state.exp() * chance.factor(noise)
        })
        .collect()
}

/// Fast and slow by turns.
fn bursts(span: f64, chance: &mut Chance) -> Vec<f64> {
    let (fast, slow) = (chance.magnitude(3.0, span / 12.0), chance.magnitude(3.0, span / 12.0));
    let ratio = chance.magnitude(3.0, 30.0);
    let mut speeds = Vec::new();
    let mut is_fast = chance.whole(0, 1) == 0;
    while speeds.len() < span as usize {
        let length = (if is_fast { fast } else { slow } * -chance.even(1e-9, 1.0).ln()).ceil();
        let speed = if is_fast { ratio } else { 1.0 } * chance.factor(0.3);
        speeds.extend((0..length as usize).map(|_| speed));
        is_fast = !is_fast;
    }
    speeds.truncate(span as usize);
    speeds.into_iter().map(|speed| speed * chance.factor(0.2)).collect()
}

/// One kind of item after the other, each at its own speed.
fn kinds(span: f64, chance: &mut Chance) -> Vec<f64> {
    let count = chance.whole(3, 8);
    let mut speeds = Vec::new();
    for _ in 0..count {
        let share = chance.even(0.3, 1.7) / count as f64;
        let speed = chance.factor(0.5);
        speeds.extend((0..(share * span) as usize).map(|_| speed * chance.factor(0.3)));
    }
    speeds
}

/// Waits for a limit to be lifted: about 2 to 20 of them, of 1 to 15 minutes each.
fn waits(end: f64, chance: &mut Chance) -> Vec<(f64, f64)> {
    let every = end / chance.even(2.0, 20.0);
    let mut at = every * chance.even(0.3, 1.0);
    let mut waits = Vec::new();
    while at < end {
        waits.push((at, chance.even(60.0, 900.0)));
        at += every * chance.factor(0.3);
    }
    waits
}
