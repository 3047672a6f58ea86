//! How far one attempt of a job is.

use std::time::Duration;

use crawlwire_protocol::message::{JobCompleted, JobProgress, ProgressData};
use serde::{Deserialize, Serialize};

use super::clock::Thresholds;
use super::counts::ENTITIES_MAX;
use super::entity::{Entity, EntityName};
use super::history::{History, MILLION, Point, share};
use super::issue::{Issue, IssueKind, Issues};
use super::milestone::{Milestone, Milestones};
use super::pace::Pace;
use super::total::{Total, TotalKind};
use crate::ids::Timestamp;
use crate::job::named;

/// Short of the whole, for whatever has not ended well: who sees 1.0 may rely on it.
pub(crate) const COMPLETION_MAX: f64 = 0.99;
const MILLIONTHS_MAX: u32 = (COMPLETION_MAX * MILLION as f64) as u32;

/// A job is slow when its speed is less than its mean by this factor…
const SLOW_FACTOR: f64 = 4.0;

/// … after it has worked for so long.
const SLOW_AFTER: Duration = Duration::from_secs(60);

named! {
    /// Where the work is, as a person would say.
    Phase {
        /// Nothing was said of it yet.
        Initializing = "initializing",
        /// Things were found, none is processed.
        Discovering = "discovering",
        /// Something is processed.
        Processing = "processing",
        /// It is held back.
        Paused = "paused",
        /// All that there is is processed, and the crawler has not said that it is done.
        Completing = "completing",
        /// It ended well.
        Completed = "completed",
        /// It ended badly.
        Failed = "failed",
        /// It ended because somebody wished so.
        Cancelled = "cancelled",
    }
}

/// What the crawler said of the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Said {
    /// Its own estimate, 0 to 1.
    pub overall_completion: f64,
    /// Milliseconds since the attempt began, as it counts.
    pub time_elapsed: f64,
    /// Its own estimate, in milliseconds.
    pub estimated_time_remaining: Option<f64>,
}

/// All that is known of how far one attempt of a job is, and what is kept of the attempts before. This is what is stored,
/// so another server, or this one started anew, goes on where the last one was.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracker {
    /// The attempt.
    pub attempt: i32,
    /// Rises with every report of an attempt; newer wins.
    pub n: i64,
    /// What the crawler said of the whole last.
    pub said: Said,
    /// Its counters, in the order in which it first spoke of them.
    pub entities: Vec<Entity>,
    /// When we last heard a report.
    pub updated_at: Timestamp,
    /// How the attempt went.
    pub history: History,
    /// What nobody outside needs to take apart.
    pub kept: Kept,
}

/// The part of a [`Tracker`] that is stored as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// When the attempt began.
    pub(super) began_at: Timestamp,
    /// When a message last named the job.
    pub(super) worker_at: Timestamp,
    /// When the work last went forward.
    pub(super) work_at: Timestamp,
    /// Time spent working until `counted_until`, in milliseconds.
    pub(super) worked_ms: u64,
    pub(super) counted_until: Timestamp,
    /// Something known keeps it waiting.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) waits: bool,
    /// It was told that it is stalled, and has not gone forward since.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) stalled: bool,
    /// It was noted that it is slow.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) slow: bool,
    /// It ended well.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) completed: bool,
    /// In millionths, so that it is the same after it was stored.
    pub(super) completion: u32,
    /// None until the first report of an attempt that may go on where another stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pace: Option<Pace>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) milestones: Vec<Milestone>,
    /// The highest milestones of counters that this attempt has not spoken of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) marks: Vec<(EntityName, u8)>,
    #[serde(default, skip_serializing_if = "Issues::is_empty")]
    pub(super) issues: Issues,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Kept {
    /// For an attempt that begins now, or was heard of last at that time in a row of an earlier release.
    pub fn new(now: Timestamp) -> Self {
        Self {
            began_at: now,
            worker_at: now,
            work_at: now,
            worked_ms: 0,
            counted_until: now,
            waits: false,
            stalled: false,
            slow: false,
            completed: false,
            completion: 0,
            pace: None,
            milestones: Vec::new(),
            marks: Vec::new(),
            issues: Issues::default(),
        }
    }
}

/// Work that is done and work there will be, in items. What a tree adds up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Items that are processed.
    pub done: u64,
    /// Items there will be; at least `done`.
    pub expected: u64,
    /// Whether more may come than anybody can say.
    pub open: bool,
}

/// What a report changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// From where to where the work went.
    pub phase: Option<(Phase, Phase)>,
    /// Passed now, for the first time in the life of the job.
    pub milestones: Vec<Milestone>,
    /// Counters that this attempt had not spoken of.
    pub discovered: Vec<EntityName>,
    /// Counters that came to their end.
    pub completed: Vec<EntityName>,
    /// Whether the work went forward.
    pub forward: bool,
}

impl Tracker {
    /// An attempt that begins now. `before` is what is known of the one before it.
    pub fn begin(attempt: i32, before: Option<&Self>, now: Timestamp) -> Self {
        let mut kept = Kept::new(now);
        if let Some(before) = before {
            kept.milestones.clone_from(&before.kept.milestones);
            kept.issues.clone_from(&before.kept.issues);
            let reached = before.entities.iter().filter(|entity| entity.reached > 0);
            kept.marks = reached
                .map(|entity| (EntityName::of(&entity.said), entity.reached))
                .collect();
            let spoken_of = |name: &EntityName| {
                before
                    .entities
                    .iter()
                    .any(|entity| EntityName::of(&entity.said) == *name)
            };
            let older = before.kept.marks.iter().filter(|(name, _)| !spoken_of(name));
            kept.marks.extend(older.cloned());
            kept.marks.truncate(ENTITIES_MAX);
        }
        // Whoever goes on where another stopped begins with counts that are not his work.
        kept.pace = (attempt <= 1).then(|| Pace::new(0));
        Self {
            attempt,
            n: 0,
            said: Said::default(),
            entities: Vec::new(),
            updated_at: now,
            history: History::default(),
            kept,
        }
    }

    /// Takes a report in. Whoever calls has seen that it is newer than the last.
    pub fn report(&mut self, message: &JobProgress, n: i64, now: Timestamp, milestones: &Milestones) -> Changes {
        let phase = self.phase();
        self.n = n;
        self.updated_at = now;
        self.named(now);
        self.said = Said {
            overall_completion: message.overall_completion.get(),
            time_elapsed: message.time_elapsed.get(),
            estimated_time_remaining: message.estimated_time_remaining.map(|span| span.get()),
        };
        let mut changes = Changes::default();
        for said in &message.progress {
            self.count(said, now, &mut changes);
        }
        if changes.forward {
            self.forward(now);
        }
        self.reckon(now, milestones, &mut changes);
        if self.history.points().is_empty() || changes.forward {
            self.history.add(self.point(now));
        }
        changes.phase = Some((phase, self.phase())).filter(|(before, after)| before != after);
        changes
    }

    /// Takes the last word of a job that ended well: its totals, and all of it done (API reference, lines 478 to 489).
    /// Counters that it does not give again, or that contradict what was said before, are an issue.
    pub fn complete(&mut self, message: &JobCompleted, n: i64, now: Timestamp, milestones: &Milestones) -> Changes {
        let phase = self.phase();
        self.n = n;
        self.updated_at = now;
        self.named(now);
        self.said = Said {
            overall_completion: 1.0,
            time_elapsed: message.total_duration.get(),
            estimated_time_remaining: Some(0.0),
        };
        let mut changes = Changes::default();
        self.reconcile(&message.final_counts, now, &mut changes);
        self.kept.completed = true;
        self.reckon(now, milestones, &mut changes);
        self.history.end(self.point(now));
        changes.phase = Some((phase, Phase::Completed));
        changes
    }

    /// Takes the last word of a job that ended badly: the counts that the crawler gave at the end, if it gave any.
    pub fn fail(&mut self, partial: Option<&[ProgressData]>, n: i64, now: Timestamp) {
        self.n = n;
        self.updated_at = now;
        self.named(now);
        self.said.estimated_time_remaining = None;
        let mut changes = Changes::default();
        for said in partial.unwrap_or_default() {
            self.count(said, now, &mut changes);
        }
        if changes.forward {
            self.forward(now);
        }
        self.history.end(self.point(now));
    }

    /// A message named the job.
    pub fn named(&mut self, now: Timestamp) {
        self.pass_time(now);
        self.kept.worker_at = self.kept.worker_at.max(now);
    }

    /// The work went forward: a counter rose, a checkpoint was kept, something was discovered.
    pub fn forward(&mut self, now: Timestamp) {
        self.kept.work_at = self.kept.work_at.max(now);
        (self.kept.stalled, self.kept.slow) = (false, false);
    }

    /// Looks at it by the clock: whether it `waits`, and whether it is stalled or slow. Says what it became just now; that
    /// counts as news, so it is stored.
    pub fn look(&mut self, now: Timestamp, waits: bool, thresholds: Thresholds) -> Option<IssueKind> {
        self.pass_time(now);
        if self.kept.waits && !waits {
            // Nobody could go forward meanwhile.
            self.kept.work_at = self.kept.work_at.max(now);
        }
        self.kept.waits = waits;
        if waits {
            return None;
        }
        let stalled = now.since(self.kept.work_at) >= thresholds.stalled_after;
        let newly = if stalled && !self.kept.stalled {
            self.kept.stalled = true;
            IssueKind::Stalled
        } else if !stalled && !self.kept.slow && self.is_slow(now) {
            self.kept.slow = true;
            IssueKind::Slow
        } else {
            return None;
        };
        self.issue(newly, None, now);
        self.n = self.n.saturating_add(1);
        Some(newly)
    }

    fn is_slow(&self, now: Timestamp) -> bool {
        let worked = self.worked(now);
        let rates = self.kept.pace.as_ref().map(|pace| pace.rates(worked));
        worked >= SLOW_AFTER && rates.is_some_and(|rates| rates.current * SLOW_FACTOR < rates.overall)
    }

    pub(super) fn issue(&mut self, kind: IssueKind, entity: Option<EntityName>, now: Timestamp) {
        self.kept.issues.note(kind, entity, self.attempt, now);
    }

    fn pass_time(&mut self, now: Timestamp) {
        let kept = &mut self.kept;
        if !kept.waits {
            let span = u64::try_from(now.since(kept.counted_until).as_millis()).unwrap_or(u64::MAX);
            kept.worked_ms = kept.worked_ms.saturating_add(span);
        }
        kept.counted_until = kept.counted_until.max(now);
    }

    fn point(&self, now: Timestamp) -> Point {
        let work = self.work();
        Point {
            at: now,
            done: work.done,
            expected: work.expected,
            millionths: self.millionths(),
        }
    }
}

/// What can be read of it.
impl Tracker {
    /// Our completion, 0 to 1, by work: items processed of all there will be. Never falls within an attempt, and is 1 when
    /// the job has ended well and not before.
    pub fn completion(&self) -> f64 {
        share(self.millionths())
    }

    pub(super) fn millionths(&self) -> u32 {
        if self.kept.completed {
            return MILLION;
        }
        let work = self.work();
        let part = u128::from(work.done) * u128::from(MILLION) / u128::from(work.expected.max(1));
        let part = u32::try_from(part).unwrap_or(MILLIONTHS_MAX);
        part.min(MILLIONTHS_MAX).max(self.kept.completion)
    }

    /// The work of the attempt so far. Of a job that ended well all is done, and it counts as one item at least.
    pub fn work(&self) -> Work {
        let sum = |items: fn(&Entity) -> u64| self.entities.iter().map(items).fold(0, u64::saturating_add);
        if self.kept.completed {
            let all = sum(|entity| entity.total().items).max(1);
            return Work {
                done: all,
                expected: all,
                open: false,
            };
        }
        Work {
            done: sum(Entity::done),
            expected: sum(Entity::expected),
            open: self.total().kind.is_open(),
        }
    }

    /// How many items there will be, and what that number is worth.
    pub fn total(&self) -> Total {
        let totals = self.entities.iter().map(Entity::total);
        totals.reduce(Total::and).unwrap_or(Total {
            kind: if self.kept.completed {
                TotalKind::Known
            } else {
                TotalKind::Unknown
            },
            items: 0,
        })
    }

    /// Where the work is. That the job is paused or ended by others is not known here.
    pub fn phase(&self) -> Phase {
        let work = self.work();
        if self.kept.completed {
            Phase::Completed
        } else if work.done == 0 && self.total().items == 0 {
            Phase::Initializing
        } else if work.done == 0 {
            Phase::Discovering
        } else if !work.open && work.done >= work.expected {
            Phase::Completing
        } else {
            Phase::Processing
        }
    }

    /// Time spent working until now: what was waited is not in it.
    pub fn worked(&self, now: Timestamp) -> Duration {
        let since = if self.kept.waits {
            Duration::ZERO
        } else {
            now.since(self.kept.counted_until)
        };
        Duration::from_millis(self.kept.worked_ms).saturating_add(since)
    }

    /// Time spent waiting since the attempt began.
    pub fn waited(&self, now: Timestamp) -> Duration {
        now.since(self.kept.began_at).saturating_sub(self.worked(now))
    }

    /// When the attempt began.
    pub fn began_at(&self) -> Timestamp {
        self.kept.began_at
    }

    /// When a message last named the job.
    pub fn worker_at(&self) -> Timestamp {
        self.kept.worker_at
    }

    /// When the work last went forward.
    pub fn work_at(&self) -> Timestamp {
        self.kept.work_at
    }

    /// Speed and its course; none before the first report of a later attempt.
    pub fn pace(&self) -> Option<&Pace> {
        self.kept.pace.as_ref()
    }

    /// Milestones that the job passed, in all its attempts, in order.
    pub fn milestones(&self) -> &[Milestone] {
        &self.kept.milestones
    }

    /// What people should look at, in all its attempts.
    pub fn issues(&self) -> &[Issue] {
        self.kept.issues.all()
    }
}
