//! What counters say, and what follows from them.

use std::borrow::Cow;

use crawlwire_protocol::message::ProgressData;

use super::entity::{Entity, EntityName, EntityStatus};
use super::issue::IssueKind;
use super::milestone::{Milestone, Milestones};
use super::pace::Pace;
use super::tracker::{Changes, Tracker};
use crate::ids::Timestamp;

/// Counters of one job. Crawlers have a handful; what comes on top is not kept, and is an issue.
pub const ENTITIES_MAX: usize = 256;

/// Bytes of each part of a counter's name; it is cut there, since names of a whole line's length would add up.
const NAME_BYTES_MAX: usize = 128;

impl Tracker {
    /// Takes one counter of a report in.
    pub(super) fn count(&mut self, said: &ProgressData, now: Timestamp, changes: &mut Changes) {
        let said: &ProgressData = &within(said);
        let name = || EntityName::of(said);
        if let Some(entity) = self.entities.iter_mut().find(|entity| entity.is(said)) {
            let moved = entity.update(said);
            changes.forward |= moved.on;
            if moved.completed {
                changes.completed.push(name());
            }
            if moved.back {
                self.issue(IssueKind::CounterFell, Some(name()), now);
            }
        } else if self.entities.len() < ENTITIES_MAX {
            let entity = Entity::new(said.clone(), self.mark(&name()));
            changes.forward |= entity.total().items > 0;
            if entity.status() == EntityStatus::Completed {
                changes.completed.push(name());
            }
            changes.discovered.push(name());
            self.entities.push(entity);
        } else {
            self.issue(IssueKind::TooManyEntities, None, now);
        }
        if said.total_processed > said.total_discovered {
            self.issue(IssueKind::ProcessedAboveDiscovered, Some(name()), now);
        }
    }

    /// The highest milestone that a counter passed in an earlier attempt.
    fn mark(&self, name: &EntityName) -> u8 {
        let marks = self.kept.marks.iter().filter(|(marked, _)| marked == name);
        marks.map(|(_, reached)| *reached).max().unwrap_or(0)
    }

    /// Takes the final counts in, and notes where they are not what the reports led to.
    pub(super) fn reconcile(&mut self, finals: &[ProgressData], now: Timestamp, changes: &mut Changes) {
        for said in finals {
            let said: &ProgressData = &within(said);
            let known = self.entities.iter().position(|entity| entity.is(said));
            let index = match known {
                Some(index) => index,
                None if self.entities.len() < ENTITIES_MAX => {
                    let name = EntityName::of(said);
                    self.entities.push(Entity::new(said.clone(), self.mark(&name)));
                    changes.discovered.push(name);
                    self.entities.len() - 1
                }
                None => {
                    self.issue(IssueKind::TooManyEntities, None, now);
                    continue;
                }
            };
            self.close(index, said, false, now, changes);
        }
        for index in 0..self.entities.len() {
            if !self.entities[index].has_ended() {
                // Not spoken of again: it was what it was.
                let last = self.entities[index].said.clone();
                self.close(index, &last, !finals.is_empty(), now, changes);
            }
        }
    }

    /// Takes the last word about a counter. It is `missing` where the crawler gave others and not this one.
    fn close(&mut self, index: usize, said: &ProgressData, missing: bool, now: Timestamp, changes: &mut Changes) {
        let entity = &mut self.entities[index];
        let was_completed = entity.status() == EntityStatus::Completed;
        let wrong = entity.end(said) || missing;
        if !was_completed {
            changes.completed.push(EntityName::of(said));
        }
        if wrong {
            self.issue(IssueKind::TotalsMismatch, Some(EntityName::of(said)), now);
        }
    }

    /// What follows from new counts: pace, completion, milestones.
    pub(super) fn reckon(&mut self, now: Timestamp, milestones: &Milestones, changes: &mut Changes) {
        let work = self.work();
        let worked = self.worked(now);
        let pace = self.kept.pace.get_or_insert_with(|| Pace::new(work.done));
        pace.sample(worked, work.done);
        self.kept.completion = self.millionths();
        let (at, attempt) = (now, self.attempt);
        let reached = self.kept.milestones.last().map_or(0, |milestone| milestone.percent);
        for percent in milestones.passed(reached, self.completion()) {
            let entity = None;
            let milestone = Milestone {
                percent,
                at,
                attempt,
                entity,
            };
            self.kept.milestones.push(milestone.clone());
            changes.milestones.push(milestone);
        }
        for entity in &mut self.entities {
            let Some(completion) = entity.completion() else {
                continue;
            };
            for percent in milestones.passed(entity.reached, completion) {
                entity.reached = percent;
                let entity = Some(EntityName::of(&entity.said));
                changes.milestones.push(Milestone {
                    percent,
                    at,
                    attempt,
                    entity,
                });
            }
        }
    }
}

/// The same counts under a name that is not too long.
fn within(said: &ProgressData) -> Cow<'_, ProgressData> {
    let long = |text: &str| text.len() > NAME_BYTES_MAX;
    if !long(&said.entity_type) && !said.sub_collection.as_deref().is_some_and(long) {
        return Cow::Borrowed(said);
    }
    let cut = |text: &str| text[..text.floor_char_boundary(NAME_BYTES_MAX)].to_owned();
    Cow::Owned(ProgressData {
        entity_type: cut(&said.entity_type),
        sub_collection: said.sub_collection.as_deref().map(cut),
        ..said.clone()
    })
}
