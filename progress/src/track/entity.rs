//! One of the counters that a crawler reports.

use crawlwire_protocol::Count;
use crawlwire_protocol::message::ProgressData;
use serde::{Deserialize, Serialize};

use super::total::{ITEMS_MAX, Total, TotalKind};
use crate::job::named;

/// A counter without an estimate of the crawler counts as estimated once this part of it was processed without anything
/// new being found.
const SETTLED_PART: u64 = 10;

named! {
    /// Where a counter is.
    EntityStatus {
        /// Found, and nothing of it processed.
        Discovering = "discovering",
        /// Some of it is processed.
        Processing = "processing",
        /// All of it is processed, and no more will come.
        Completed = "completed",
    }
}

/// What names a counter: a type of entity, and perhaps a collection below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntityName {
    /// `projects`, `issues` …
    pub entity_type: String,
    /// `notes` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_collection: Option<String>,
}

impl EntityName {
    /// The name of the counter that was reported.
    pub fn of(said: &ProgressData) -> Self {
        Self {
            entity_type: said.entity_type.clone(),
            sub_collection: said.sub_collection.clone(),
        }
    }
}

/// A counter of one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entity {
    /// What the crawler said last.
    #[serde(flatten)]
    pub said: ProgressData,
    /// The most that was ever processed.
    #[serde(default)]
    done: u64,
    /// The most that was ever found.
    #[serde(default)]
    found: u64,
    /// What was processed when something was found the last time.
    #[serde(default)]
    done_when_found: u64,
    /// The highest milestone, of all attempts, in percent.
    #[serde(default)]
    pub(super) reached: u8,
    /// Whether the crawler gave this as a final count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ended: bool,
}

/// What a report changed about a counter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// More was found or processed.
    pub(super) on: bool,
    /// Less was processed than before.
    pub(super) back: bool,
    /// It is all processed now, and was not before.
    pub(super) completed: bool,
}

impl Entity {
    pub(super) fn new(said: ProgressData, reached: u8) -> Self {
        let (found, done) = (items(said.total_discovered), items(said.total_processed));
        Self {
            said,
            done,
            found,
            done_when_found: done,
            reached,
            ended: false,
        }
    }

    pub(super) fn is(&self, said: &ProgressData) -> bool {
        self.said.entity_type == said.entity_type && self.said.sub_collection == said.sub_collection
    }

    pub(super) fn update(&mut self, said: &ProgressData) -> Moved {
        let was = self.status();
        let (found, done) = (items(said.total_discovered), items(said.total_processed));
        let moved = Moved {
            on: done > self.done || found > self.found,
            back: done < items(self.said.total_processed),
            completed: false,
        };
        self.done = self.done.max(done);
        if found > self.found {
            self.found = found;
            self.done_when_found = self.done;
        }
        self.said.clone_from(said);
        Moved {
            completed: was != EntityStatus::Completed && self.status() == EntityStatus::Completed,
            ..moved
        }
    }

    /// Takes the last word about it. Says whether that contradicts what was said before: fewer than were processed already,
    /// or some that were found and not processed.
    pub(super) fn end(&mut self, said: &ProgressData) -> bool {
        let (found, done) = (items(said.total_discovered), items(said.total_processed));
        let contradicts = done < self.done || done < found;
        (self.done, self.found, self.ended) = (done, found, true);
        self.said.clone_from(said);
        contradicts
    }

    /// Whether the last word about it was said.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Items that are processed. Never falls within an attempt, but for the final count.
    pub fn done(&self) -> u64 {
        // A row of an earlier release has nothing but what was said.
        self.done.max(if self.ended {
            0
        } else {
            items(self.said.total_processed)
        })
    }

    /// How many there will be.
    pub fn total(&self) -> Total {
        let done = self.done();
        let found = self.found.max(items(self.said.total_discovered)).max(done);
        let (kind, items) = match self.said.estimated_remaining {
            _ if self.ended => (TotalKind::Known, found),
            Some(0.0) => (TotalKind::Known, found),
            Some(remaining) if remaining > 0.0 => {
                // Saturates, which is far above the bound.
                let remaining = (remaining.ceil() as u64).min(ITEMS_MAX);
                (TotalKind::Estimate, found.max(done.saturating_add(remaining)))
            }
            _ if found == 0 => (TotalKind::Unknown, 0),
            _ if self.is_settled(found, done) => (TotalKind::Estimate, found),
            _ => (TotalKind::AtLeast, found),
        };
        Total { kind, items }
    }

    /// A crawler that never says how much remains has found everything, probably, when it goes on for a while and finds
    /// nothing new; unless it finds things only by processing them.
    fn is_settled(&self, found: u64, done: u64) -> bool {
        let since = done.saturating_sub(self.done_when_found);
        found > self.done_when_found && since >= (found / SETTLED_PART).max(self.page()).max(1)
    }

    /// Items of a page; 0 when there are no pages.
    fn page(&self) -> u64 {
        self.said.items_per_page.map_or(0, items)
    }

    /// What counts as the whole of it.
    pub fn expected(&self) -> u64 {
        self.total().expected(self.page())
    }

    /// The part that is processed, 0 to 1; none while its total is open.
    pub fn completion(&self) -> Option<f64> {
        let total = self.total();
        if total.kind.is_open() {
            return None;
        }
        Some(if total.items == 0 {
            1.0
        } else {
            (self.done() as f64 / total.items as f64).min(1.0)
        })
    }

    /// Where it is.
    pub fn status(&self) -> EntityStatus {
        let total = self.total();
        if total.kind == TotalKind::Known && self.done() >= total.items {
            EntityStatus::Completed
        } else if self.done() == 0 {
            EntityStatus::Discovering
        } else {
            EntityStatus::Processing
        }
    }

    /// The highest milestone that it passed, in percent; 0 for none.
    pub fn milestone(&self) -> u8 {
        self.reached
    }
}

fn items(count: Count) -> u64 {
    count.get().min(ITEMS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(found: u32, done: u32, remaining: Option<f64>) -> ProgressData {
        ProgressData {
            estimated_remaining: remaining,
            ..ProgressData::new("issues", found.into(), done.into())
        }
    }

    fn total(found: u32, done: u32, remaining: Option<f64>) -> (TotalKind, u64) {
        let total = Entity::new(said(found, done, remaining), 0).total();
        (total.kind, total.items)
    }

    #[test]
    fn a_total_is_worth_what_the_crawler_said_of_it() {
        assert_eq!(total(0, 0, None), (TotalKind::Unknown, 0));
        assert_eq!(total(100, 40, None), (TotalKind::AtLeast, 100));
        assert_eq!(
            total(40, 100, None),
            (TotalKind::AtLeast, 100),
            "processed above discovered"
        );
        assert_eq!(total(100, 40, Some(80.0)), (TotalKind::Estimate, 120));
        assert_eq!(total(100, 40, Some(0.5)), (TotalKind::Estimate, 100));
        assert_eq!(total(100, 100, Some(0.0)), (TotalKind::Known, 100));
        assert_eq!(
            total(100, 40, Some(-3.0)),
            (TotalKind::AtLeast, 100),
            "nonsense says nothing"
        );
        assert_eq!(total(1, 1, Some(f64::MAX)), (TotalKind::Estimate, ITEMS_MAX + 1));
    }

    #[test]
    fn going_on_without_finding_more_makes_an_estimate() {
        let mut entity = Entity::new(said(100, 0, None), 0);
        entity.update(&said(100, 9, None));
        assert_eq!(entity.total().kind, TotalKind::AtLeast);
        entity.update(&said(100, 10, None));
        assert_eq!(entity.total().kind, TotalKind::Estimate);
        entity.update(&said(101, 11, None));
        assert_eq!(entity.total().kind, TotalKind::AtLeast, "something new came");

        let mut finds_by_doing = Entity::new(said(1, 1, None), 0);
        for count in 2..100 {
            finds_by_doing.update(&said(count, count, None));
            assert_eq!(finds_by_doing.total().kind, TotalKind::AtLeast);
        }
    }

    #[test]
    fn what_is_done_stays_done_until_the_last_word() {
        let mut entity = Entity::new(said(100, 40, None), 0);
        let moved = entity.update(&said(90, 30, None));
        assert_eq!(
            (moved.on, moved.back, entity.done(), entity.total().items),
            (false, true, 40, 100)
        );
        assert!(!entity.update(&said(90, 30, None)).back, "told once");
        assert!(entity.end(&said(35, 35, None)));
        assert_eq!(
            (entity.done(), entity.total().items, entity.status()),
            (35, 35, EntityStatus::Completed)
        );
        assert!(!Entity::new(said(50, 50, None), 0).end(&said(50, 50, None)));
        assert!(
            Entity::new(said(50, 40, None), 0).end(&said(50, 49, None)),
            "one was found and not processed"
        );
    }

    #[test]
    fn it_is_stored_with_the_words_of_the_wire() {
        let mut entity = Entity::new(said(100, 0, Some(7.0)), 25);
        entity.update(&said(100, 10, None));
        let text = serde_json::to_string(&entity).unwrap();
        assert_eq!(serde_json::from_str::<Entity>(&text).unwrap(), entity);
        let old = r#"{"entity_type":"issues","total_discovered":9,"total_processed":4}"#;
        let entity: Entity = serde_json::from_str(old).unwrap();
        assert_eq!(
            (entity.done(), entity.total().items),
            (4, 9),
            "a row of an earlier release"
        );
    }
}
