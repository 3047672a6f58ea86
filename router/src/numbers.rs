//! The numbers of a connection's lasting messages: which one comes next, what was said under those before, and up to
//! where all is settled.
//!
//! A peer that hears that a number was not taken goes back to it and sends it and all after it again. So a line is taken
//! only under the next number; what comes before its turn has no effect, and what comes again has none either.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Numbers whose lines are told apart from others under the same number. Far more than can be on their way.
const REMEMBERED_MAX: usize = 1024;

/// What a number is to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The one that comes next.
    Next,
    /// It was taken before.
    Repeated {
        /// Under another line.
        conflict: bool,
    },
    /// One before it is missing.
    Early,
}

/// A line that was taken under its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    /// The number.
    pub(crate) seq: u64,
    /// Stands for the line.
    pub(crate) fingerprint: i64,
    /// How often the connection had gone back when it was taken.
    generation: u64,
}

/// The numbers of one connection.
#[derive(Debug, Default)]
pub(crate) struct Numbers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The last number that was taken.
    taken: u64,
    /// Fingerprints of the last numbers up to `taken`.
    known: VecDeque<i64>,
    /// The last number that the store has, with all before it.
    durable: u64,
    /// The last number that was concluded as durable or refused for good, with all before it.
    settled: u64,
    /// Whether the peer is to be told of it.
    ack_due: bool,
    /// How often the connection went back.
    generation: u64,
    /// To which number it went back the last time.
    back: u64,
    /// A number is durable, and what became of it is not known here.
    in_doubt: bool,
}

impl Numbers {
    /// Short sections only.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins behind what earlier connections of the instance settled.
    pub(crate) fn begin(&self, high_water: u64, fingerprint: i64) {
        let mut state = self.state();
        (state.taken, state.durable, state.settled) = (high_water, high_water, high_water);
        state.known = if high_water > 0 {
            [fingerprint].into()
        } else {
            VecDeque::new()
        };
    }

    /// What a number is, and what its line would be taken as.
    pub(crate) fn turn(&self, seq: u64, fingerprint: i64) -> (Turn, Number) {
        let state = self.state();
        let number = Number {
            seq,
            fingerprint,
            generation: state.generation,
        };
        let turn = if seq > state.taken {
            if seq == state.taken + 1 {
                Turn::Next
            } else {
                Turn::Early
            }
        } else {
            let back = usize::try_from(state.taken - seq).unwrap_or(usize::MAX);
            let known = state.known.len().checked_sub(back.saturating_add(1));
            let known = known.and_then(|at| state.known.get(at));
            Turn::Repeated {
                conflict: known.is_some_and(|known| *known != fingerprint),
            }
        };
        (turn, number)
    }

    /// The line of the next number was given to the store.
    pub(crate) fn take(&self, number: Number) {
        let mut state = self.state();
        if number.seq != state.taken + 1 {
            return;
        }
        state.taken = number.seq;
        state.known.push_back(number.fingerprint);
        if state.known.len() > REMEMBERED_MAX {
            state.known.pop_front();
        }
    }

    /// The store did not take a number, as far as anybody knows: the next one is that after `taken` again. What was given
    /// behind it fails for the same reason and changes nothing, even if it is told of when the peer has begun anew; and
    /// where it did not fail, the number had been taken after all.
    pub(crate) fn go_back(&self, number: Number, taken: u64) {
        let mut state = self.state();
        if number.generation != state.generation {
            return;
        }
        // One behind it is durable, so it is, too.
        state.in_doubt |= number.seq <= state.durable;
        state.back = number.seq;
        state.generation += 1;
        let taken = taken.max(state.durable);
        let gone = usize::try_from(state.taken.saturating_sub(taken)).unwrap_or(usize::MAX);
        let left = state.known.len().saturating_sub(gone);
        state.known.truncate(left);
        state.taken = taken;
    }

    /// The store has a number, and all before it.
    pub(crate) fn keep(&self, number: Number) {
        let mut state = self.state();
        // So the one is durable that was given up, and the peer is to say it again only because nobody knew.
        state.in_doubt |= number.generation != state.generation && number.seq > state.back;
        state.durable = state.durable.max(number.seq);
        if number.seq > state.taken {
            // It was given up, or one before it was.
            state.taken = number.seq;
            state.known = [number.fingerprint].into();
        }
    }

    /// A line is concluded whose number is durable, as are all before it. The peer is to be told, again if need be.
    pub(crate) fn settle(&self, seq: u64) {
        let mut state = self.state();
        state.settled = state.settled.max(seq);
        state.ack_due = true;
    }

    /// A number that was settled before came again.
    pub(crate) fn repeat(&self, seq: u64) {
        let mut state = self.state();
        state.ack_due |= seq <= state.settled;
    }

    /// A final error told the peer that a number is settled, and with it all before.
    pub(crate) fn told(&self, seq: u64) {
        let mut state = self.state();
        if seq >= state.settled {
            (state.settled, state.ack_due) = (seq, false);
        }
    }

    /// Whether a number is durable of which nobody here can say whether it was refused. Then nothing more may be told of any
    /// number, because that would tell of this one, too. The store knows, and tells the next connection.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.state().in_doubt
    }

    /// The number to acknowledge, if the peer is to be told something; once.
    pub(crate) fn ack(&self) -> Option<u64> {
        let mut state = self.state();
        let due = std::mem::take(&mut state.ack_due) && state.settled > 0 && !state.in_doubt;
        due.then_some(state.settled)
    }

    /// Up to where all is settled.
    pub(crate) fn settled(&self) -> u64 {
        self.state().settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(numbers: &Numbers, seq: u64) -> Number {
        let (turn, number) = numbers.turn(seq, seq as i64 * 10);
        assert_eq!(turn, Turn::Next, "{seq}");
        numbers.take(number);
        number
    }

    const AGAIN: Turn = Turn::Repeated { conflict: false };
    const OTHER: Turn = Turn::Repeated { conflict: true };

    #[test]
    fn numbers_are_taken_in_order_and_told_apart() {
        let numbers = Numbers::default();
        numbers.begin(7, 70);
        assert_eq!((numbers.turn(7, 70).0, numbers.turn(7, 71).0), (AGAIN, OTHER));
        assert_eq!(numbers.turn(6, 1).0, AGAIN, "nobody knows what that was");
        assert_eq!(numbers.turn(9, 90).0, Turn::Early);
        (8..2000).for_each(|seq| _ = take(&numbers, seq));
        assert_eq!((numbers.turn(1999, 19990).0, numbers.turn(1998, 1).0), (AGAIN, OTHER));
        let first_known = 2000 - REMEMBERED_MAX as u64;
        assert_eq!(numbers.turn(first_known, 1).0, OTHER);
        assert_eq!(numbers.turn(first_known - 1, 1).0, AGAIN);
        assert_eq!(numbers.state().known.len(), REMEMBERED_MAX);
        assert_eq!(numbers.turn(u64::MAX, 1).0, Turn::Early);
    }

    #[test]
    fn going_back_begins_anew_at_the_number_that_failed() {
        let numbers = Numbers::default();
        let given: Vec<_> = (1..=5).map(|seq| take(&numbers, seq)).collect();
        numbers.go_back(given[2], 2);
        assert_eq!(numbers.turn(2, 20).0, AGAIN);
        assert_eq!(numbers.turn(4, 40).0, Turn::Early);
        take(&numbers, 3);
        // News of what was given behind the one that failed come late.
        numbers.go_back(given[3], 2);
        assert_eq!(numbers.turn(4, 40).0, Turn::Next);
        assert_eq!((numbers.turn(3, 30).0, numbers.turn(3, 31).0), (AGAIN, OTHER));
    }

    #[test]
    fn a_number_in_doubt_was_taken_if_the_next_one_was() {
        for first in [true, false] {
            let numbers = Numbers::default();
            let given: Vec<_> = (1..=3).map(|seq| take(&numbers, seq)).collect();
            if first {
                numbers.go_back(given[0], 0);
            }
            numbers.keep(given[1]);
            if !first {
                numbers.go_back(given[0], 0);
            }
            assert_eq!(
                (numbers.turn(1, 1).0, numbers.turn(2, 20).0, numbers.turn(2, 1).0),
                (if first { AGAIN } else { OTHER }, AGAIN, OTHER)
            );
            take(&numbers, 3);
            numbers.settle(2);
            assert!(numbers.is_in_doubt());
            assert_eq!(numbers.ack(), None, "it would tell of 1, too");
        }
    }

    #[test]
    fn a_number_that_is_said_again_in_time_is_in_no_doubt() {
        let numbers = Numbers::default();
        let given: Vec<_> = (1..=2).map(|seq| take(&numbers, seq)).collect();
        numbers.go_back(given[0], 0);
        numbers.go_back(given[1], 1);
        for seq in 1..=2 {
            let again = take(&numbers, seq);
            numbers.keep(again);
            numbers.settle(seq);
        }
        assert!(!numbers.is_in_doubt());
        assert_eq!(numbers.ack(), Some(2));
        // What the database does not take is kept without effect, under the number it went back to.
        let refused = take(&numbers, 3);
        numbers.go_back(refused, 2);
        numbers.keep(refused);
        assert!(!numbers.is_in_doubt());
    }

    #[test]
    fn the_peer_is_told_once_unless_it_asks_again() {
        let numbers = Numbers::default();
        assert_eq!(numbers.ack(), None);
        numbers.settle(1);
        numbers.settle(2);
        assert_eq!((numbers.ack(), numbers.ack()), (Some(2), None));
        numbers.repeat(3);
        assert_eq!(numbers.ack(), None, "it is not durable");
        numbers.repeat(1);
        assert_eq!(numbers.ack(), Some(2));
        numbers.settle(3);
        numbers.told(4);
        assert_eq!((numbers.ack(), numbers.settled()), (None, 4));
    }
}
