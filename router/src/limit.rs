//! How much a peer may say in a time.
//!
//! Nobody is refused for saying too much. What was said is handled, and whoever owns the connection does not read on
//! before it is time: the peer feels that its lines are not taken, and saying more costs the server nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crawlwire_protocol::{CrawlerKind, Decoded, Message};
use tokio::time::Instant;

use crate::handler::Inbound;

/// What one connection may say of one type. Off when `per_second` is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// Messages a second, in the long run.
    pub per_second: u32,
    /// Messages that may come at once before that holds; at least 1.
    pub burst: u32,
}

/// What one connection may say that is no message, whatever it may say else. To find out what is wrong with a line, to
/// answer it and to log it costs a hundred times as much as to take a good one. A crawler with a defect needs no more to
/// be told of it, and one that wants to be closed for it has to wait for that.
const INVALID: RateLimit = RateLimit {
    per_second: 10,
    burst: 20,
};

/// By what lines are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Known(CrawlerKind),
    /// Of all types that we do not know: else there would be as many counts as names.
    Unknown,
    Invalid,
}

impl Sort {
    pub(crate) fn of(message: &Inbound) -> Self {
        match message {
            Decoded::Known(envelope) => Self::Known(envelope.message.kind()),
            Decoded::Custom(_) => Self::Unknown,
        }
    }
}

/// How fast a connection speaks.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<State>);

/// Locked for a few comparisons, never across an await.
#[derive(Debug, Default)]
struct State {
    /// For each sort that was heard, when its whole burst may come again. As many as there are types, and two.
    rested: Vec<(Sort, Instant)>,
    /// When reading may go on.
    held_until: Option<Instant>,
}

impl Pace {
    /// Counts one line. Its effect, or that it has none, is another matter.
    pub(crate) fn note(&self, sort: Sort, limit: RateLimit) {
        let limit = if sort == Sort::Invalid { INVALID } else { limit };
        let Some(every) = Duration::from_secs(1).checked_div(limit.per_second) else {
            return;
        };
        let now = Instant::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { rested, held_until } = &mut *state;
        let known = rested.iter().position(|(known, _)| *known == sort);
        let at = known.unwrap_or_else(|| {
            rested.push((sort, now));
            rested.len() - 1
        });
        let rested = &mut rested[at].1;
        *rested = (*rested).max(now) + every;
        // The next one is in time when the rest of the burst is.
        let ahead = (*rested - now).saturating_sub(every * limit.burst.saturating_sub(1));
        if ahead > Duration::ZERO {
            *held_until = (*held_until).max(Some(now + ahead));
        }
    }

    /// When reading may go on, if not now.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Said until it is over, so that the clock is asked only while it matters.
        let at = state.held_until?;
        if at > Instant::now() {
            return Some(at);
        }
        state.held_until = None;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: RateLimit = RateLimit {
        per_second: 10,
        burst: 3,
    };

    const TENTH: Duration = Duration::from_millis(100);

    async fn pass(time: Duration) {
        tokio::time::advance(time).await;
    }

    /// Says so many lines, and how long the peer is held then.
    fn say(pace: &Pace, sort: Sort, count: usize) -> Duration {
        (0..count).for_each(|_| pace.note(sort, LIMIT));
        pace.held_until().map_or(Duration::ZERO, |at| at - Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_what_follows_waits_its_turn() {
        let pace = Pace::default();
        assert_eq!(say(&pace, Sort::Unknown, 2), Duration::ZERO);
        assert_eq!(say(&pace, Sort::Unknown, 1), TENTH);
        pass(TENTH).await;
        assert_eq!(pace.held_until(), None);
        assert_eq!(say(&pace, Sort::Unknown, 1), TENTH, "one a tenth");
        assert_eq!(
            say(&pace, Sort::Unknown, 2),
            3 * TENTH,
            "who reads on all the same waits longer"
        );
        pass(4 * TENTH).await;
        assert_eq!(say(&pace, Sort::Unknown, 1), Duration::ZERO);
        assert_eq!(say(&pace, Sort::Unknown, 1), TENTH, "two have rested");
        pass(60 * TENTH).await;
        assert_eq!(say(&pace, Sort::Unknown, 3), TENTH, "no more than a burst is saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn sorts_are_counted_apart_and_hold_together() {
        let pace = Pace::default();
        let ping = Sort::Known(CrawlerKind::Ping);
        assert_eq!(say(&pace, Sort::Unknown, 2), Duration::ZERO);
        assert_eq!(say(&pace, ping, 3), TENTH);
        assert_eq!(say(&pace, Sort::Unknown, 2), 2 * TENTH);
        pass(2 * TENTH).await;
        assert_eq!(say(&pace, ping, 1), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_message_is_limited_whatever_else_is_not() {
        let pace = Pace::default();
        let unlimited = RateLimit::default();
        for _ in 0..100_000 {
            pace.note(Sort::Unknown, unlimited);
        }
        assert_eq!(pace.held_until(), None);
        for _ in 0..INVALID.burst - 1 {
            pace.note(Sort::Invalid, unlimited);
        }
        assert_eq!(pace.held_until(), None);
        pace.note(Sort::Invalid, unlimited);
        assert!(pace.held_until().is_some());
    }
}
