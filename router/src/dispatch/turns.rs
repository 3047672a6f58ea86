//! Who is next: lanes take turns.
//!
//! This is deficit round robin with a quantum of one job: in each turn a lane has credit for one. Who has used it waits
//! until those have had theirs whom the free slots could serve as well; then it has credit again. A lane that no free
//! crawler can run keeps its credit, and who has gone without for longest goes first. Credit does not add up: lanes that
//! wait for the same crawlers wait alike, so more of it would change nothing between them, and would have to be bounded
//! where the bound makes all alike again.
//!
//! The lanes that have queued jobs are read in pages, in the order of their numbers, from a place that moves round. If the
//! slots run out before a page is through, the next round goes on with it.

use std::collections::{BTreeMap, BTreeSet};

use crawlwire_progress::store::ReadyQuery;

/// Lanes whose last turn is remembered. The one that was served longest ago is forgotten first: it goes first then, as it
/// would anyway.
const REMEMBERED_MAX: usize = 4096;

/// Lanes of the first page, as long as nobody knows how many there are.
const LANES_AT_FIRST: usize = 10;

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    /// Jobs that are in memory at a time.
    size: usize,
    /// Lanes up to this one are behind us; none at the beginning.
    behind: Option<i64>,
    /// The last lane of the page that was read; none when no lane is behind it.
    end: Option<i64>,
    /// Lanes of a page: one more than there are if that many fit, so that one page shows that it is all.
    lanes: usize,
    /// Lanes in the page, and in those that were passed since the beginning.
    in_page: usize,
    counted: usize,
    /// Lanes that were served and still have jobs. See [`REMEMBERED_MAX`].
    last: BTreeMap<i64, Last>,
    /// The same by the order in which they were served.
    order: BTreeMap<u64, i64>,
    served: u64,
    /// Lanes that could be served if they had not used their credit. Among those in `last`.
    skipped: BTreeSet<i64>,
}

/// When a lane was served last.
#[derive(Debug, Clone, Copy)]
struct Last {
    /// Higher is later.
    number: u64,
    /// Whether its credit of this turn is used up.
    spent: bool,
}

/// Once round all lanes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lap {
    start: Option<i64>,
    wrapped: bool,
}

impl Turns {
    pub(super) fn new(size: usize) -> Self {
        let size = size.max(1);
        Self {
            size,
            behind: None,
            end: None,
            lanes: LANES_AT_FIRST.min(size),
            in_page: 0,
            counted: 0,
            last: BTreeMap::new(),
            order: BTreeMap::new(),
            served: 0,
            skipped: BTreeSet::new(),
        }
    }

    /// Begins once round all lanes, from where we are.
    pub(super) fn lap(&mut self) -> Lap {
        self.skipped.clear();
        Lap {
            start: self.behind,
            wrapped: false,
        }
    }

    /// What to read next, when so many slots are free.
    pub(super) fn query(&self, free: usize) -> ReadyQuery {
        ReadyQuery {
            after_lane: self.behind,
            lanes: self.lanes,
            per_lane: (self.size / self.lanes).clamp(1, free.max(1)),
        }
    }

    /// These lanes have queued jobs, in order, as [`query`](Self::query) asked. Those that have none begin anew later.
    pub(super) fn read(&mut self, lanes: &[i64]) {
        let full = lanes.len() >= self.lanes;
        self.end = lanes.last().copied().filter(|_| full);
        self.in_page = lanes.len();
        let (behind, end) = (self.behind, self.end);
        let in_page = |lane: i64| behind.is_none_or(|behind| behind < lane) && end.is_none_or(|end| lane <= end);
        let known = self.last.keys().copied();
        let gone: Vec<_> = known
            .filter(|lane| in_page(*lane) && lanes.binary_search(lane).is_err())
            .collect();
        gone.into_iter().for_each(|lane| self.forget(lane));
    }

    fn forget(&mut self, lane: i64) {
        if let Some(last) = self.last.remove(&lane) {
            self.order.remove(&last.number);
        }
        self.skipped.remove(&lane);
    }

    /// The next of some lanes, each with the due key of its best job: those with credit, who was served longest ago first,
    /// then who waits longest.
    pub(super) fn next(&self, waiting: impl Iterator<Item = (i64, i64)>) -> Option<i64> {
        let with_credit = waiting.filter_map(|(lane, due)| match self.last.get(&lane) {
            Some(Last { spent: true, .. }) => None,
            last => Some((last.map_or(0, |last| last.number), due, lane)),
        });
        with_credit.min().map(|(.., lane)| lane)
    }

    /// A job of the lane is given out.
    pub(super) fn spend(&mut self, lane: i64) {
        self.forget(lane);
        self.served += 1;
        let last = Last {
            number: self.served,
            spent: true,
        };
        self.last.insert(lane, last);
        self.order.insert(last.number, lane);
        while self.last.len() > REMEMBERED_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.forget(oldest);
        }
    }

    /// It was not, after all.
    pub(super) fn give_back(&mut self, lane: i64) {
        self.forget(lane);
    }

    /// The lane could be served if it had credit.
    pub(super) fn skip(&mut self, lane: i64) {
        if self.last.contains_key(&lane) {
            self.skipped.insert(lane);
        }
    }

    /// Begins the next turn of the lanes that were skipped. Says whether there are any.
    pub(super) fn renew(&mut self) -> bool {
        let skipped = std::mem::take(&mut self.skipped);
        for lane in &skipped {
            if let Some(last) = self.last.get_mut(lane) {
                last.spent = false;
            }
        }
        !skipped.is_empty()
    }

    /// Whether the page that was read shows all lanes there are.
    pub(super) fn sees_all(&self) -> bool {
        self.behind.is_none() && self.end.is_none()
    }

    /// Goes on behind the page; behind the last one, at the beginning. Says whether the lap is over.
    pub(super) fn pass(&mut self, lap: &mut Lap) -> bool {
        self.counted += std::mem::take(&mut self.in_page);
        self.behind = self.end.take();
        let last = self.behind.is_none();
        let lanes = if last {
            std::mem::take(&mut self.counted) + 1
        } else {
            self.lanes * 2
        };
        self.lanes = lanes.max(2).min(self.size);
        let round = lap.wrapped || lap.start.is_none();
        lap.wrapped |= last;
        if last {
            round
        } else {
            lap.wrapped && self.behind >= lap.start
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waiting(lanes: &[i64]) -> impl Iterator<Item = (i64, i64)> + '_ {
        lanes.iter().map(|lane| (*lane, 0))
    }

    #[test]
    fn who_waits_longest_goes_first_then_who_was_served_longest_ago() {
        let mut turns = Turns::new(100);
        let lanes = [(1, 30), (2, 10), (3, 20)];
        turns.read(&[1, 2, 3]);
        for _ in 0..3 {
            for expected in [2, 3, 1] {
                assert_eq!(turns.next(lanes.into_iter()), Some(expected));
                turns.spend(expected);
            }
            assert_eq!(turns.next(lanes.into_iter()), None, "each had its turn");
            [1, 2, 3].into_iter().for_each(|lane| turns.skip(lane));
            assert!(turns.renew() && !turns.renew());
        }
    }

    #[test]
    fn a_lane_that_nobody_could_serve_keeps_its_credit_while_others_begin_their_next_turn() {
        let mut turns = Turns::new(100);
        turns.read(&[1, 2, 3]);
        [1, 2, 3].into_iter().for_each(|lane| turns.spend(lane));
        // Only 3 can be served for a while, and then 1 and 2 once more.
        for _ in 0..3 {
            turns.skip(3);
            assert!(turns.renew());
            assert_eq!(turns.next(waiting(&[1, 2, 3])), Some(3));
            turns.spend(3);
        }
        [1, 2].into_iter().for_each(|lane| turns.skip(lane));
        turns.renew();
        assert_eq!(turns.next(waiting(&[1, 2, 3])), Some(1));
    }

    #[test]
    fn what_was_not_given_out_after_all_costs_nothing() {
        let mut turns = Turns::new(100);
        turns.read(&[1]);
        turns.spend(1);
        assert_eq!(turns.next(waiting(&[1])), None);
        turns.give_back(1);
        assert_eq!(turns.next(waiting(&[1])), Some(1));
    }

    #[test]
    fn pages_fit_the_lanes_there_are() {
        let mut turns = Turns::new(100);
        turns.read(&[7]);
        let mut lap = turns.lap();
        assert!(turns.sees_all() && turns.pass(&mut lap));
        let query = turns.query(80);
        assert_eq!((query.lanes, query.per_lane), (2, 50), "one more shows that it is all");
        assert_eq!(turns.query(3).per_lane, 3, "no more than can be given out");
        let (mut pages, mut lap) = (0, turns.lap());
        loop {
            let query = turns.query(80);
            assert!(query.lanes * query.per_lane <= 100);
            let first = query.after_lane.map_or(0, |after| after + 1);
            let page: Vec<_> = (first..1000).take(query.lanes).collect();
            turns.read(&page);
            assert!(!turns.sees_all());
            pages += 1;
            if turns.pass(&mut lap) {
                break;
            }
        }
        assert!(pages < 20, "{pages}");
        assert_eq!(turns.query(80).lanes, 100);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_only_of_lanes_with_jobs() {
        let mut turns = Turns::new(100);
        let lanes = REMEMBERED_MAX as i64 + 10;
        for lane in 0..lanes {
            turns.spend(lane);
        }
        turns.spend(10);
        assert_eq!((turns.last.len(), turns.order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        assert!(!turns.last.contains_key(&9), "served longest ago");
        assert_eq!(turns.next(waiting(&[8, 10, 11, 12])), Some(8));
        turns.read(&[12]);
        assert_eq!(turns.last.keys().copied().collect::<Vec<_>>(), [12]);
        assert_eq!(turns.order.len(), 1);
    }

    /// Jobs in memory, lanes with jobs beyond number and the kind of crawler that each needs, and how many slots of each
    /// kind are free in each round.
    type Situation = (usize, Vec<usize>, Vec<[usize; 2]>);

    fn situation() -> impl Strategy<Value = Situation> {
        let lanes = prop::collection::vec(0..2_usize, 1..30);
        let free = prop::collection::vec([0..4_usize, 0..4_usize], 50..200);
        (1..40_usize, lanes, free)
    }

    /// A round as the dispatcher does it, with nothing else.
    fn round(turns: &mut Turns, kinds: &[usize], free: &mut [usize; 2], served: &mut [usize]) {
        let (mut lap, mut idle) = (turns.lap(), true);
        while *free != [0, 0] {
            let query = turns.query(free.iter().sum());
            let first = query.after_lane.map_or(0, |after| after + 1);
            let lanes: Vec<_> = (first..kinds.len() as i64).take(query.lanes).collect();
            turns.read(&lanes);
            let mut jobs: BTreeMap<_, _> = lanes.into_iter().map(|lane| (lane, query.per_lane)).collect();
            while *free != [0, 0] {
                let able = |lane: i64, free: &[usize; 2]| free[kinds[lane as usize]] > 0;
                let Some(lane) = turns.next(jobs.keys().map(|lane| (*lane, 0))) else {
                    jobs.retain(|lane, _| able(*lane, free));
                    jobs.keys().for_each(|lane| turns.skip(*lane));
                    if turns.sees_all() && turns.renew() {
                        continue;
                    }
                    break;
                };
                let left = jobs.get_mut(&lane).unwrap();
                if able(lane, free) {
                    free[kinds[lane as usize]] -= 1;
                    served[lane as usize] += 1;
                    turns.spend(lane);
                    idle = false;
                    *left -= 1;
                } else {
                    *left = 0;
                }
                if *left == 0 {
                    jobs.remove(&lane);
                }
            }
            if *free != [0, 0] && turns.pass(&mut lap) {
                if idle && !turns.renew() {
                    return;
                }
                (lap, idle) = (turns.lap(), true);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn lanes_are_served_alike_and_no_slot_stays_free_that_somebody_could_use((size, kinds, free) in situation()) {
            let mut turns = Turns::new(size);
            let mut served = vec![0_usize; kinds.len()];
            let mut usable = 0;
            for mut free in free {
                usable += (0..2).filter(|kind| kinds.contains(kind)).map(|kind| free[kind]).sum::<usize>();
                round(&mut turns, &kinds, &mut free, &mut served);
                prop_assert_eq!(served.iter().sum::<usize>(), usable);
                for kind in 0..2 {
                    let of_kind = || (0..kinds.len()).filter(|lane| kinds[*lane] == kind).map(|lane| served[lane]);
                    let (least, most) = (of_kind().min().unwrap_or(0), of_kind().max().unwrap_or(0));
                    // One, but for what happens where pages change their size.
                    prop_assert!(most - least <= 2, "{:?} of {:?}", served, kinds);
                }
            }
        }
    }
}
