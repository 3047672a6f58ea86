//! What other servers on the same database do. Nobody tells of it: rows are read, and compared with those of before.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crawlwire_progress::track::{EntityName, EntityStatus, IssueKind, Milestone, Phase, Tracker};
use crawlwire_progress::view::FeedCursor;
use crawlwire_progress::{JobKey, StoreError, Timestamp};
use serde_json::{Value, json};

use super::frame::Kind;
use crate::http::{Api, tracked};

/// Rows that are read at a time, and how often in one look. What is more comes with the next one.
const ROWS: usize = 500;
const READS: usize = 10;

/// Reports are stored a little later than they are heard, by clocks that do not agree to the second. So each look begins so
/// long before the last report of the one before.
const BEFORE: Duration = Duration::from_secs(5);

/// Of a job that was not seen before, only what happened so lately is news: the rest was told where it was seen.
const NEWS: Duration = Duration::from_secs(10);

/// Jobs of which the last report is remembered.
const SEEN_MAX: usize = 20_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Elsewhere {
    feed: Option<FeedCursor>,
    heard: Timestamp,
    seen: HashMap<JobKey, Seen>,
}

#[derive(Debug)]
struct Seen {
    tracker: Arc<Tracker>,
    phase: Phase,
}

/// What is to be looked at.
#[derive(Debug, Default)]
pub(super) struct News {
    /// These may be other than they were, through whichever server.
    pub(super) jobs: BTreeSet<JobKey>,
    /// Crawlers of other servers have reported about these.
    pub(super) reported: BTreeSet<JobKey>,
}

impl Elsewhere {
    /// From here on.
    pub(super) async fn at(api: &Api, now: Timestamp) -> Self {
        Self {
            // Where the database is away, it begins when it is back; there are no viewers with a snapshot before.
            feed: api.store.feed_end().await.ok(),
            heard: now,
            seen: HashMap::new(),
        }
    }

    /// What has come up since the last look.
    pub(super) async fn look(&mut self, api: &Api) -> Result<News, StoreError> {
        let mut news = News::default();
        let mut cursor = match self.feed {
            Some(cursor) => cursor,
            None => api.store.feed_end().await?,
        };
        for _ in 0..READS {
            let feed = api.store.feed(cursor, ROWS).await?;
            cursor = feed.next;
            news.jobs.extend(feed.items.iter().map(|item| item.job));
            if feed.items.len() < ROWS {
                break;
            }
        }
        self.feed = Some(cursor);
        let mut after = (before(self.heard, BEFORE), JobKey(0));
        for _ in 0..READS {
            let heard = api.store.progress_elsewhere(&api.name, after, ROWS).await?;
            for report in &heard {
                let at = report.tracker.updated_at;
                after = (at, report.job);
                self.heard = at.max(self.heard);
                let known = self.seen.get(&report.job);
                if known.is_none_or(|seen| is_newer(&report.tracker, &seen.tracker)) {
                    news.reported.insert(report.job);
                }
            }
            if heard.len() < ROWS {
                break;
            }
        }
        Ok(news)
    }

    /// What happened to the work of a job that is so now.
    pub(super) fn compare(
        &mut self,
        job: JobKey,
        id: &str,
        (tracker, phase): (&Arc<Tracker>, Phase),
        now: Timestamp,
    ) -> Vec<(Kind, Value)> {
        let known = self
            .seen
            .get(&job)
            .filter(|seen| seen.tracker.attempt == tracker.attempt);
        let since = match known {
            Some(_) => Timestamp(i64::MIN),
            None => before(now, NEWS),
        };
        let mut told = Vec::new();
        if let Some(seen) = self.seen.get(&job).filter(|seen| seen.phase != phase) {
            let data = json!({ "job_id": id, "from": seen.phase.as_str(), "to": phase.as_str() });
            told.push((Kind::State, data));
        }
        let known = known.map(|seen| &*seen.tracker);
        told.extend(entities(id, known, tracker, since));
        for milestone in new_milestones(known, tracker, since) {
            let mut data = tracked::milestone(milestone);
            data["job_id"] = id.into();
            told.push((Kind::Milestone, data));
        }
        if stalled(tracker).is_some_and(|(at, times)| {
            let before = known.and_then(stalled).map_or(0, |(_, times)| times);
            times > before && at >= since
        }) {
            told.push((Kind::Stalled, json!({ "job_id": id })));
        }
        if self.seen.len() >= SEEN_MAX {
            self.seen.clear();
        }
        let tracker = tracker.clone();
        self.seen.insert(job, Seen { tracker, phase });
        told
    }
}

fn before(at: Timestamp, span: Duration) -> Timestamp {
    Timestamp(at.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
}

fn is_newer(report: &Tracker, seen: &Tracker) -> bool {
    (report.attempt, report.n) > (seen.attempt, seen.n)
}

/// Counters that came up, and those that came to their end.
fn entities(id: &str, known: Option<&Tracker>, now: &Tracker, since: Timestamp) -> Vec<(Kind, Value)> {
    if known.is_none() && now.began_at() < since {
        return Vec::new();
    }
    let of_before = known.map_or(&[][..], |known| &known.entities);
    let mut told = Vec::new();
    for entity in &now.entities {
        let name = EntityName::of(&entity.said);
        let before = of_before.iter().find(|before| EntityName::of(&before.said) == name);
        let data = json!({ "job_id": id, "entity": tracked::name(&name) });
        if before.is_none() {
            told.push((Kind::EntityDiscovered, data.clone()));
        }
        let was = before.map(|before| before.status());
        if entity.status() == EntityStatus::Completed && was != Some(EntityStatus::Completed) {
            told.push((Kind::EntityCompleted, data));
        }
    }
    told
}

fn new_milestones<'a>(known: Option<&Tracker>, now: &'a Tracker, since: Timestamp) -> Vec<&'a Milestone> {
    let of_before = known.map_or(&[][..], |known| known.milestones());
    let is_new = |passed: &&Milestone| {
        let mut before = of_before.iter();
        passed.at >= since && !before.any(|it| (it.percent, &it.entity) == (passed.percent, &passed.entity))
    };
    now.milestones().iter().filter(is_new).collect()
}

/// When the work was last found not to go forward, and how often.
fn stalled(tracker: &Tracker) -> Option<(Timestamp, u64)> {
    let mut issues = tracker.issues().iter();
    let issue = issues.find(|issue| issue.kind == IssueKind::Stalled && issue.entity.is_none())?;
    Some((issue.last_at, issue.times))
}
