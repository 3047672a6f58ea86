//! Frames in order, of each thing the newest one only.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::frame::{Frame, Slot};

/// Frames by their numbers. A newer frame of a slot takes the place of the older one, but not its position: so whoever
/// reads them in order ends where it would have ended with all of them, and their numbers rise.
#[derive(Debug, Default)]
pub(super) struct Frames {
    by_number: BTreeMap<u64, Arc<Frame>>,
    slots: HashMap<Slot, u64>,
    bytes: usize,
}

impl Frames {
    /// Adds a frame, which is the newest of all.
    pub(super) fn push(&mut self, frame: Arc<Frame>) {
        self.bytes += frame.bytes();
        let older = frame.slot.and_then(|slot| self.slots.insert(slot, frame.n));
        if let Some(older) = older.and_then(|older| self.by_number.remove(&older)) {
            self.bytes -= older.bytes();
        }
        self.by_number.insert(frame.n, frame);
    }

    /// Takes the oldest one out.
    pub(super) fn pop(&mut self) -> Option<Arc<Frame>> {
        let (n, frame) = self.by_number.pop_first()?;
        self.bytes -= frame.bytes();
        if let Some(slot) = frame.slot
            && self.slots.get(&slot) == Some(&n)
        {
            self.slots.remove(&slot);
        }
        Some(frame)
    }

    /// Takes all of them, in order.
    pub(super) fn take(&mut self) -> Vec<Arc<Frame>> {
        std::mem::take(self).by_number.into_values().collect()
    }

    /// Those with greater numbers, in order.
    pub(super) fn after(&self, n: u64) -> impl Iterator<Item = &Arc<Frame>> {
        self.by_number.range(n.saturating_add(1)..).map(|(_, frame)| frame)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{About, Draft, Kind};
    use super::*;

    fn frame(n: u64, kind: Kind, of: Option<i64>) -> Arc<Frame> {
        let draft = Draft {
            kind,
            about: About::All,
            of,
            data: format!("{{\"n\":{n}}}"),
        };
        Arc::new(Frame::new("run", n, draft))
    }

    fn numbers(frames: &[Arc<Frame>]) -> Vec<u64> {
        frames.iter().map(|frame| frame.n).collect()
    }

    #[test]
    fn the_newest_of_each_thing_is_kept_in_the_order_of_numbers() {
        let mut frames = Frames::default();
        let pushed = [
            frame(1, Kind::Job, Some(1)),
            frame(2, Kind::Progress, Some(1)),
            frame(3, Kind::Milestone, None),
            frame(4, Kind::Job, Some(1)),
            frame(5, Kind::Job, Some(2)),
            frame(6, Kind::Milestone, None),
            frame(7, Kind::Progress, Some(1)),
        ];
        for frame in &pushed {
            frames.push(frame.clone());
        }
        assert_eq!(frames.after(3).map(|frame| frame.n).collect::<Vec<_>>(), [4, 5, 6, 7]);
        let there: usize = [2, 3, 4, 5, 6].map(|at| pushed[at].bytes()).iter().sum();
        assert_eq!(frames.bytes(), there);
        assert_eq!(frames.pop().map(|frame| frame.n), Some(3));
        assert_eq!(frames.pop().map(|frame| frame.n), Some(4));
        // What left is not replaced any more.
        frames.push(frame(8, Kind::Job, Some(1)));
        assert_eq!(numbers(&frames.take()), [5, 6, 7, 8]);
        assert_eq!((frames.bytes(), frames.is_empty()), (0, true));
        frames.push(frame(9, Kind::Job, Some(2)));
        assert_eq!(numbers(&frames.take()), [9]);
    }
}
