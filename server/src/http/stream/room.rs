//! Who views, and what each has not seen yet. No clock, no network: the tasks around it bring both.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::filter::Filter;
use super::frame::{Draft, Frame, id, number};
use super::frames::Frames;

/// Viewers at a time. Each may cost a snapshot of the newest jobs whenever it falls behind.
pub(super) const VIEWERS_MAX: usize = 256;

/// Bytes of frames that wait for a viewer. About as much as a snapshot, which it gets when this is too little. Viewers share
/// the frames, so that those who look at the same things cost memory once.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of frames that are kept for viewers who come back.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The number before all. Nobody has seen an event of that number.
const NOTHING: u64 = 0;

/// Why a viewer begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// It did not take what waited for it.
    Slow,
    /// What it has seen last is not known any more.
    UnknownId,
    /// More happened at once than can be told.
    TooMuch,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::UnknownId => "unknown_id",
            Self::TooMuch => "too_much",
        }
    }
}

/// What there is for a viewer.
#[derive(Debug)]
pub(super) enum Taken {
    /// These, in order; nothing, if there are none.
    Frames(Vec<Arc<Frame>>),
    /// It needs a snapshot. With a reason, it is told first why it begins anew.
    Due(Option<Reason>),
    /// It has no place any more.
    Gone,
}

/// What waits for a viewer.
#[derive(Debug)]
enum Waiting {
    Frames(Frames),
    /// Nothing is kept for it: a snapshot will hold all of it.
    Snapshot(Option<Reason>),
}

#[derive(Debug)]
struct Seat {
    filter: Filter,
    waiting: Waiting,
    /// When it last took something, or looked whether there is anything.
    took_at: Instant,
    wake: Arc<Notify>,
}

impl Seat {
    /// Keeps a frame for the viewer. Too many of them, and it begins anew.
    fn offer(&mut self, frame: &Arc<Frame>, most: usize) {
        let Waiting::Frames(frames) = &mut self.waiting else {
            return;
        };
        if self.filter.lets_through(frame) {
            frames.push(frame.clone());
            if frames.bytes() > most {
                self.waiting = Waiting::Snapshot(Some(Reason::Slow));
            }
        }
    }

    fn has_something(&self) -> bool {
        match &self.waiting {
            Waiting::Frames(frames) => !frames.is_empty(),
            Waiting::Snapshot(_) => true,
        }
    }
}

/// Names a viewer.
pub(super) type ViewerKey = u64;

/// Bytes at most: of what waits for one viewer, and of what is kept for those who come back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    waiting: usize,
    kept: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            waiting: WAITING_BYTES_MAX,
            kept: KEPT_BYTES_MAX,
        }
    }
}

/// All viewers of this server.
#[derive(Debug)]
pub(super) struct Room {
    /// Names this run of the server: numbers begin anew with it.
    run: String,
    /// The number of the last frame.
    last: u64,
    /// What was told last, for those who come back.
    kept: Frames,
    /// Whoever has seen this number, or a greater one, finds the rest among what is kept.
    reaches: u64,
    seats: HashMap<ViewerKey, Seat>,
    next: ViewerKey,
    bounds: Bounds,
}

impl Room {
    pub(super) fn new(run: String, bounds: Bounds) -> Self {
        Self {
            run,
            last: NOTHING + 1,
            kept: Frames::default(),
            reaches: NOTHING + 1,
            seats: HashMap::new(),
            next: 0,
            bounds,
        }
    }

    /// The number of the last frame: what a snapshot that is begun now contains.
    pub(super) fn version(&self) -> u64 {
        self.last
    }

    /// How a frame is called.
    pub(super) fn id(&self, n: u64) -> String {
        id(&self.run, n)
    }

    /// A frame that is not told to everybody.
    pub(super) fn framed(&self, n: u64, draft: Draft) -> Frame {
        Frame::new(&self.run, n, draft)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    pub(super) fn filters(&self) -> impl Iterator<Item = &Filter> {
        self.seats.values().map(|seat| &seat.filter)
    }

    /// Gives a viewer a place: behind what it has seen last, if that is known. None when there is no place.
    pub(super) fn join(
        &mut self,
        filter: Filter,
        last_seen: Option<&str>,
        now: Instant,
    ) -> Option<(ViewerKey, Arc<Notify>)> {
        if self.seats.len() >= VIEWERS_MAX {
            return None;
        }
        let wake = Arc::new(Notify::new());
        let waiting = match last_seen {
            None => Waiting::Snapshot(None),
            Some(id) => match number(&self.run, id).filter(|n| self.has_all_after(*n)) {
                Some(n) => self.replay(&filter, n),
                None => Waiting::Snapshot(Some(Reason::UnknownId)),
            },
        };
        self.next += 1;
        let seat = Seat {
            filter,
            waiting,
            took_at: now,
            wake: wake.clone(),
        };
        self.seats.insert(self.next, seat);
        Some((self.next, wake))
    }

    pub(super) fn leave(&mut self, viewer: ViewerKey) {
        self.seats.remove(&viewer);
    }

    /// Whether all that was told after a frame is kept. Of a frame that was not told yet nobody knows what it means.
    pub(super) fn has_all_after(&self, n: u64) -> bool {
        (self.reaches..=self.last).contains(&n)
    }

    /// What is kept of what a viewer wants that has seen a frame.
    fn replay(&self, filter: &Filter, seen: u64) -> Waiting {
        let mut frames = Frames::default();
        for frame in self.kept.after(seen).filter(|frame| filter.lets_through(frame)) {
            frames.push(frame.clone());
            if frames.bytes() > self.bounds.waiting {
                return Waiting::Snapshot(Some(Reason::TooMuch));
            }
        }
        Waiting::Frames(frames)
    }

    /// A viewer is given a snapshot of this version; what was told since waits for it. False when that is too much, or not
    /// known: then it needs a newer one. A viewer without a place needs none.
    pub(super) fn begin(&mut self, viewer: ViewerKey, version: u64) -> bool {
        let Some(seat) = self.seats.get(&viewer) else {
            return true;
        };
        if !self.has_all_after(version) {
            return false;
        }
        match self.replay(&seat.filter, version) {
            Waiting::Snapshot(_) => false,
            frames @ Waiting::Frames(_) => {
                if let Some(seat) = self.seats.get_mut(&viewer) {
                    seat.waiting = frames;
                }
                true
            }
        }
    }

    /// Takes what there is for a viewer.
    pub(super) fn take(&mut self, viewer: ViewerKey, now: Instant) -> Taken {
        let Some(seat) = self.seats.get_mut(&viewer) else {
            return Taken::Gone;
        };
        seat.took_at = now;
        match &mut seat.waiting {
            Waiting::Frames(frames) => Taken::Frames(frames.take()),
            Waiting::Snapshot(reason) => Taken::Due(*reason),
        }
    }

    /// Tells everybody whom it concerns. Nobody is woken.
    pub(super) fn tell(&mut self, draft: Draft) {
        self.last += 1;
        let frame = Arc::new(Frame::new(&self.run, self.last, draft));
        for seat in self.seats.values_mut() {
            seat.offer(&frame, self.bounds.waiting);
        }
        self.kept.push(frame);
        while self.kept.bytes() > self.bounds.kept
            && let Some(oldest) = self.kept.pop()
        {
            self.reaches = oldest.n;
        }
    }

    /// Wakes those for whom there is something.
    pub(super) fn wake(&self) {
        let waiting = self.seats.values().filter(|seat| seat.has_something());
        waiting.for_each(|seat| seat.wake.notify_one());
    }

    /// Something happened that will not be told: whoever comes back begins anew, and so does everybody who is here.
    pub(super) fn forget(&mut self, why: Reason) {
        self.kept = Frames::default();
        self.last += 1;
        self.reaches = self.last;
        for seat in self.seats.values_mut() {
            if let Waiting::Frames(_) = seat.waiting {
                seat.waiting = Waiting::Snapshot(Some(why));
            }
        }
    }

    /// Takes the places of those who have taken nothing since then.
    pub(super) fn free(&mut self, since: Instant) {
        self.seats.retain(|_, seat| {
            let stays = seat.took_at >= since;
            if !stays {
                seat.wake.notify_one();
            }
            stays
        });
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
