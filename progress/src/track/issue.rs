//! What people should look at.

use serde::{Deserialize, Serialize};

use super::entity::EntityName;
use crate::ids::Timestamp;
use crate::job::named;

/// Issues that are kept of a job. There are few kinds, and a job with more has one problem, not many.
pub const ISSUES_MAX: usize = 32;

named! {
    /// What is wrong, or looks so.
    IssueKind {
        /// Much slower at present than it was.
        Slow = "slow",
        /// Half of its attempts or more went wrong.
        HighErrorRate = "high_error_rate",
        /// Its crawler is there, and nothing was done for long.
        Stalled = "stalled",
        /// More was processed than discovered. Collections shrink while they are read; a miscount looks the same.
        ProcessedAboveDiscovered = "processed_above_discovered",
        /// A counter fell within an attempt.
        CounterFell = "counter_fell",
        /// The final counts are not what the reports led to.
        TotalsMismatch = "totals_mismatch",
        /// More counters were reported than are kept.
        TooManyEntities = "too_many_entities",
    }
}

impl Serialize for IssueKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for IssueKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| serde::de::Error::custom("not an issue"))
    }
}

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// What.
    pub kind: IssueKind,
    /// With which counter; with the whole job when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<EntityName>,
    /// In which attempt it was seen last.
    pub attempt: i32,
    /// When it was seen first.
    pub first_at: Timestamp,
    /// When it was seen last.
    pub last_at: Timestamp,
    /// How often it was seen.
    pub times: u64,
}

/// The issues of a job, of all its attempts, in the order in which they came up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Issues(Vec<Issue>);

impl Issues {
    pub(super) fn all(&self) -> &[Issue] {
        &self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn note(&mut self, kind: IssueKind, entity: Option<EntityName>, attempt: i32, now: Timestamp) {
        let known = self
            .0
            .iter_mut()
            .find(|issue| issue.kind == kind && issue.entity == entity);
        if let Some(issue) = known {
            issue.last_at = now;
            issue.attempt = attempt;
            issue.times = issue.times.saturating_add(1);
        } else if self.0.len() < ISSUES_MAX {
            self.0.push(Issue {
                kind,
                entity,
                attempt,
                first_at: now,
                last_at: now,
                times: 1,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issue_is_there_once_and_counted() {
        let mut issues = Issues::default();
        let name = |entity_type: String| {
            Some(EntityName {
                entity_type,
                sub_collection: None,
            })
        };
        for now in 0..3 {
            issues.note(IssueKind::Stalled, None, 1, Timestamp(now));
            issues.note(IssueKind::CounterFell, name("issues".into()), 1, Timestamp(now));
        }
        let stalled = &issues.all()[0];
        assert_eq!((stalled.first_at.0, stalled.last_at.0, stalled.times), (0, 2, 3));
        assert_eq!(issues.all().len(), 2);
        for number in 0..100 {
            issues.note(IssueKind::CounterFell, name(number.to_string()), 1, Timestamp(9));
        }
        assert_eq!(issues.all().len(), ISSUES_MAX);
        let text = serde_json::to_string(&issues).unwrap();
        assert_eq!(serde_json::from_str::<Issues>(&text).unwrap(), issues);
    }
}
