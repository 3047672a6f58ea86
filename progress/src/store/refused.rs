//! The numbers that had no effect.

use serde::{Deserialize, Serialize};

/// How far back it is known which numbers were refused: as many as a peer may have on their way, because all before them
/// it was told of.
pub const UNTOLD_MAX: u8 = 64;

/// Of the last [`UNTOLD_MAX`] settled numbers of a session, those that were refused for good: by rising number, each with
/// the stable name of the reason. A peer that lost its connection with such an answer can be told again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedNumbers(Vec<(i64, String)>);

impl RefusedNumbers {
    /// A number was settled, the highest so far; and why it had no effect, if it had none.
    pub(crate) fn settled(&mut self, seq: i64, refused: Option<&str>) {
        let known_from = seq.saturating_sub(i64::from(UNTOLD_MAX)) + 1;
        self.0.retain(|(seq, _)| *seq >= known_from);
        self.0.extend(refused.map(|code| (seq, code.to_owned())));
    }

    /// Why a number had no effect, if it had none.
    pub fn of(&self, seq: i64) -> Option<&str> {
        let mut numbers = self.iter();
        numbers.find(|(number, _)| *number == seq).map(|(_, code)| code)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, by rising number.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &str)> {
        self.0.iter().map(|(seq, code)| (*seq, code.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_refusals_are_known_and_no_more() {
        let mut refused = RefusedNumbers::default();
        refused.settled(1, Some("stale"));
        refused.settled(2, None);
        refused.settled(3, Some("not_held"));
        assert_eq!(refused.iter().collect::<Vec<_>>(), [(1, "stale"), (3, "not_held")]);
        assert_eq!((refused.of(3), refused.of(2)), (Some("not_held"), None));
        let window = i64::from(UNTOLD_MAX);
        refused.settled(window, None);
        assert_eq!(refused.of(1), Some("stale"));
        refused.settled(window + 1, None);
        assert_eq!((refused.of(1), refused.of(3)), (None, Some("not_held")));
        (100..1000).for_each(|seq| refused.settled(seq, Some("stale")));
        assert_eq!(refused.iter().count(), usize::from(UNTOLD_MAX));
        refused.settled(i64::MAX, None);
        assert!(refused.is_empty());
    }
}
