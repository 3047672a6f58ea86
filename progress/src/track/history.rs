//! How an attempt went: a few points, as far apart as it is long.

use serde::{Deserialize, Serialize};

use crate::ids::Timestamp;

/// Points that are kept of one attempt: enough for a curve on a screen.
pub const POINTS_MAX: usize = 64;

/// Between the first points, in milliseconds.
const FIRST_STEP_MS: i64 = 1000;

/// How far an attempt was at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Row", into = "Row")]
pub struct Point {
    /// When.
    pub at: Timestamp,
    /// Items that were processed.
    pub done: u64,
    /// Items there would be, as it looked then.
    pub expected: u64,
    /// Our completion in millionths: [`Point::completion`].
    pub millionths: u32,
}

/// A point as it is stored: without the names, which would be most of it.
type Row = (Timestamp, u64, u64, u32);

impl From<Row> for Point {
    fn from((at, done, expected, millionths): Row) -> Self {
        Self {
            at,
            done,
            expected,
            millionths,
        }
    }
}

impl From<Point> for Row {
    fn from(point: Point) -> Self {
        (point.at, point.done, point.expected, point.millionths)
    }
}

impl Point {
    /// Our completion, 0 to 1.
    pub fn completion(&self) -> f64 {
        share(self.millionths)
    }
}

/// Completion is kept in so many parts, because floats are not what they were once they were stored as text.
pub(super) const MILLION: u32 = 1_000_000;

pub(super) fn share(millionths: u32) -> f64 {
    f64::from(millionths) / f64::from(MILLION)
}

/// The points of one attempt. When there are too many, every other one goes, and the step between them doubles; so the
/// number of times it changes grows with the logarithm of the time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    step_ms: i64,
    points: Vec<Point>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            step_ms: FIRST_STEP_MS,
            points: Vec::new(),
        }
    }
}

impl History {
    /// The points, by time.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Takes a point in, unless the last one is too near. Says whether it did.
    pub(super) fn add(&mut self, point: Point) -> bool {
        let near = |last: &Point| point.at.0.saturating_sub(last.at.0) < self.step_ms;
        if self.points.last().is_some_and(near) {
            return false;
        }
        self.push(point);
        true
    }

    /// Takes the last point in, however near the one before it is.
    pub(super) fn end(&mut self, point: Point) {
        if self.points.last().is_some_and(|last| last.at >= point.at) {
            self.points.pop();
        }
        self.push(point);
    }

    fn push(&mut self, point: Point) {
        if self.points.len() >= POINTS_MAX {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
            self.step_ms = self.step_ms.saturating_mul(2);
        }
        self.points.push(point);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at: i64) -> Point {
        Point {
            at: Timestamp(at),
            done: 1,
            expected: 2,
            millionths: 500_000,
        }
    }

    #[test]
    fn points_spread_over_the_whole_attempt() {
        let mut history = History::default();
        let mut changes = 0;
        for at in (0..24 * 3600 * 1000).step_by(100) {
            changes += usize::from(history.add(point(at)));
        }
        let points = history.points();
        assert!(
            (POINTS_MAX / 2..=POINTS_MAX).contains(&points.len()),
            "{}",
            points.len()
        );
        assert_eq!(points[0].at.0, 0);
        let steps: Vec<_> = points.windows(2).map(|pair| pair[1].at.0 - pair[0].at.0).collect();
        let (least, most) = (steps.iter().min().unwrap(), steps.iter().max().unwrap());
        assert!(most <= &(least * 2), "{steps:?}");
        assert!(changes < 1000, "{changes}");
    }

    #[test]
    fn the_last_point_is_always_kept() {
        let mut history = History::default();
        assert!(history.add(point(0)));
        assert!(!history.add(point(999)));
        history.end(point(999));
        history.end(point(500));
        let at: Vec<_> = history.points().iter().map(|point| point.at.0).collect();
        assert_eq!(at, [0, 500], "a clock that stepped back");
    }
}
