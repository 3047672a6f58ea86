//! Milestones: parts of the whole that are told when they are passed, once.

use serde::{Deserialize, Serialize};

use super::entity::EntityName;
use crate::ids::Timestamp;

/// Milestones that may be configured: more would not be milestones.
pub const MILESTONES_MAX: usize = 16;

/// The parts of the whole that are milestones, in percent, rising, each from 1 to 100 (decision X16).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Milestones(Vec<u8>);

impl Default for Milestones {
    fn default() -> Self {
        Self(vec![25, 50, 75, 90, 100])
    }
}

/// Why these cannot be milestones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadMilestones {
    /// A milestone is a part of the whole.
    #[error("a milestone is a number of percent from 1 to 100")]
    OutOfRange,
    /// See [`MILESTONES_MAX`].
    #[error("there are at most {MILESTONES_MAX} milestones")]
    TooMany,
}

impl TryFrom<Vec<u8>> for Milestones {
    type Error = BadMilestones;

    fn try_from(mut percents: Vec<u8>) -> Result<Self, BadMilestones> {
        percents.sort_unstable();
        percents.dedup();
        if percents.iter().any(|percent| !(1..=100).contains(percent)) {
            Err(BadMilestones::OutOfRange)
        } else if percents.len() > MILESTONES_MAX {
            Err(BadMilestones::TooMany)
        } else {
            Ok(Self(percents))
        }
    }
}

impl Milestones {
    /// Them all, rising.
    pub fn percents(&self) -> &[u8] {
        &self.0
    }

    /// Those above `reached` that a completion has come to. The last one, 100, is for what has ended well.
    pub(crate) fn passed(&self, reached: u8, completion: f64) -> impl Iterator<Item = u8> {
        let past = move |percent: &u8| *percent > reached && completion >= f64::from(*percent) / 100.0;
        self.0.iter().copied().filter(past)
    }
}

/// A milestone that was passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Milestone {
    /// How much of the whole.
    pub percent: u8,
    /// When.
    pub at: Timestamp,
    /// In which attempt.
    pub attempt: i32,
    /// Of this counter; of the whole job when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<EntityName>,
}

impl Milestone {
    /// As people call it (API reference, line 911).
    pub fn name(&self) -> String {
        format!("{}% completion", self.percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_between_are_passed_in_order() {
        let milestones = Milestones::default();
        let passed = |reached, completion| milestones.passed(reached, completion).collect::<Vec<_>>();
        assert!(passed(0, 0.24).is_empty());
        assert_eq!(passed(0, 0.76), [25, 50, 75]);
        assert_eq!(passed(50, 0.76), [75]);
        assert_eq!(passed(75, 0.99), [90]);
        assert_eq!(passed(90, 1.0), [100]);
    }

    #[test]
    fn what_is_configured_is_looked_at() {
        assert_eq!(Milestones::try_from(vec![80, 10, 10]).unwrap().percents(), [10, 80]);
        assert_eq!(Milestones::try_from(vec![0]), Err(BadMilestones::OutOfRange));
        assert_eq!(Milestones::try_from(vec![101]), Err(BadMilestones::OutOfRange));
        assert_eq!(
            Milestones::try_from((1..=17).collect::<Vec<_>>()),
            Err(BadMilestones::TooMany)
        );
        assert_eq!(Milestones::try_from(vec![]).unwrap().percents(), [0_u8; 0]);
    }
}
