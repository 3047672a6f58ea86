//! How far jobs are: which are followed, what is told of them, and how one stands.

use std::collections::HashMap;
use std::sync::Arc;

use crawlwire_progress::admit::ClosedGate;
use crawlwire_progress::live::About;
use crawlwire_progress::track::{Changes, Facts, NoEstimate, Phase, Range, Said, Snapshot, Thresholds, Tracker};
use crawlwire_progress::view::{ErrorRow, JobView};
use crawlwire_progress::{AccountKey, JobKey, State, StoreError, Timestamp};
use crawlwire_protocol::{Category, Severity};

use crate::event::Event;
use crate::router::Router;
use crate::session::{Held, Session};
use crate::shared::{Shared, wall_clock};

/// Jobs that one sweep begins to follow because nobody has spoken of them yet: each may cost two reads, and a sweep has more
/// to do.
const FOLLOWED_PER_SWEEP: usize = 100;

/// An estimate is news when the likely end moved by more than this part of what remains.
const NEWS_PART: u64 = 4;

/// How a job stands at a moment.
#[derive(Debug, Clone)]
pub struct Standing {
    /// All that is known of how far it is. Where nobody has reported, nothing but its attempt.
    pub tracker: Arc<Tracker>,
    /// What a person sees of it.
    pub snapshot: Snapshot,
    /// The moment.
    pub at: Timestamp,
    /// Until when time counts as spent on it: the moment, or when its crawler last spoke of it, if none works on it now.
    pub until: Timestamp,
    /// Whether anything was ever heard of it.
    pub is_heard: bool,
}

impl Standing {
    /// Whether anybody has ever reported about it.
    pub fn is_reported(&self) -> bool {
        is_reported(&self.tracker)
    }
}

/// Whether a crawler has said how far the job is. A job that is stalled, or has found others, is followed without that.
pub(crate) fn is_reported(tracker: &Tracker) -> bool {
    !tracker.entities.is_empty() || tracker.said != Said::default()
}

/// Begins to follow the attempt of a job that a session holds, or goes on where the store has it. Of a first attempt that
/// was given out here the store has nothing. Without effect when it is followed already.
pub(crate) async fn follow(shared: &Shared, session: &Session, public_id: &str, held: &Held) -> Result<(), StoreError> {
    let attempt = held.current_attempt();
    if shared.live().knows(held.key, attempt) {
        return Ok(());
    }
    let is_new = attempt <= 1 && held.about.is_some();
    let about = match &held.about {
        Some(about) => about.clone(),
        None => match read_about(shared, public_id).await? {
            Some(about) => about,
            None => return Ok(()),
        },
    };
    let stored = if is_new { None } else { stored(shared, held.key).await? };
    session.update(public_id, held.fence, |held| held.about = Some(about.clone()));
    let lease = session.lease(held);
    shared
        .live()
        .follow(held.key, about, (lease, attempt), stored, wall_clock());
    // It may have been taken away meanwhile, and whoever did so found nothing to forget.
    if session.held(public_id).is_none_or(|now| now.fence != held.fence) {
        shared.live().forget(held.key);
    }
    Ok(())
}

async fn read_about(shared: &Shared, public_id: &str) -> Result<Option<Arc<About>>, StoreError> {
    let view = shared.store.job(public_id).await?;
    Ok(view.map(|view| {
        Arc::new(About {
            public_id: view.public_id,
            job_type: view.spec.job_type,
            host: view.spec.host,
            account: view.account,
        })
    }))
}

/// A row that cannot be read shall not stop the reports that would replace it.
async fn stored(shared: &Shared, job: JobKey) -> Result<Option<Tracker>, StoreError> {
    match shared.store.progress(job).await {
        Err(StoreError::Broken(reason)) => {
            tracing::error!(job = job.0, reason, "stored progress not read, it begins anew");
            Ok(None)
        }
        read => read,
    }
}

/// Tells what a report or an end changed. A milestone is written at once.
pub(crate) fn tell(shared: &Shared, job: JobKey, public_id: &str, changes: Changes) {
    if !changes.milestones.is_empty() {
        shared.write_soon(job);
    }
    if !shared.is_heard() {
        return;
    }
    let id = || public_id.to_owned();
    for entity in changes.discovered {
        let public_id = id();
        shared.publish(Event::EntityDiscovered { job, public_id, entity });
    }
    if let Some((from, to)) = changes.phase {
        shared.publish(Event::PhaseChanged {
            job,
            public_id: id(),
            from,
            to,
        });
    }
    for entity in changes.completed {
        let public_id = id();
        shared.publish(Event::EntityCompleted { job, public_id, entity });
    }
    for milestone in changes.milestones {
        let public_id = id();
        shared.publish(Event::Milestone {
            job,
            public_id,
            milestone,
        });
    }
}

/// Looks at what sessions hold by the clock: who waits behind a gate, and who is stalled.
pub(crate) async fn look(shared: &Shared) -> Result<(), StoreError> {
    let gates: Arc<[ClosedGate]> = shared.store.gates().await?.into();
    shared.note_gates(gates.clone());
    follow_the_silent(shared).await?;
    let now = wall_clock();
    let circumstances = |about: &About| {
        let waits = waits(&gates, about.account, &about.host, now);
        (waits, thresholds(shared, about))
    };
    let stalled = shared.live().look(now, circumstances);
    for (job, about) in stalled {
        note_stalled(shared, job, &about, now);
    }
    Ok(())
}

/// A crawler that began and said nothing more of its job is to be noticed, too.
async fn follow_the_silent(shared: &Shared) -> Result<(), StoreError> {
    let mut silent = Vec::new();
    for session in shared.sessions.all() {
        let live = shared.live();
        let held = session.all_held().into_iter();
        let held = held.filter(|(_, held)| held.started && !held.ending && !live.knows(held.key, held.attempt));
        silent.extend(held.map(|(public_id, held)| (session.clone(), public_id, held)));
    }
    for (session, public_id, held) in silent.into_iter().take(FOLLOWED_PER_SWEEP) {
        follow(shared, &session, &public_id, &held).await?;
    }
    Ok(())
}

fn note_stalled(shared: &Shared, job: JobKey, about: &About, now: Timestamp) {
    let message = "the crawler is there, and the work does not go forward";
    tracing::warn!(job = about.public_id, message);
    shared.keep_error(ErrorRow {
        at: now,
        category: Category::JobProcessing.as_str(),
        severity: Severity::Medium.as_str(),
        code: "job_stalled".to_owned(),
        job: Some(about.public_id.clone()),
        connection: None,
        message: message.to_owned(),
    });
    let public_id = about.public_id.clone();
    shared.publish(Event::Stalled { job, public_id });
}

/// Whether a gate is closed before these jobs behind which a running one can do nothing.
fn waits(gates: &[ClosedGate], account: AccountKey, host: &str, now: Timestamp) -> bool {
    let stops = |closed: &ClosedGate| closed.gate.stops_deadlines() && closed.bars(account, host, now);
    gates.iter().any(stops)
}

fn thresholds(shared: &Shared, about: &About) -> Thresholds {
    shared.config.thresholds(about.job_type)
}

/// What was told last of when jobs end. Bounded by the jobs that are held.
#[derive(Default)]
pub(crate) struct Estimates(HashMap<JobKey, Timestamp>);

impl Estimates {
    /// Tells of the jobs among these whose likely end is another than was told.
    pub(crate) fn tell<'a>(&mut self, shared: &Shared, reported: impl Iterator<Item = (JobKey, &'a Tracker)>) {
        if !shared.is_heard() {
            self.0.clear();
            return;
        }
        let now = wall_clock();
        for (job, tracker) in reported {
            let Some(about) = shared.live().about(job).cloned() else {
                continue;
            };
            let facts = running(shared, (job, &about), tracker.attempt, now);
            let eta = tracker.snapshot(facts, now, thresholds(shared, &about)).eta;
            if self.is_news(job, eta, now) {
                shared.publish(Event::EstimateUpdated {
                    job,
                    public_id: about.public_id.clone(),
                    eta,
                    at: now,
                });
            }
        }
        let live = shared.live();
        self.0.retain(|job, _| live.get(*job).is_some());
    }

    fn is_news(&mut self, job: JobKey, eta: Result<Range, NoEstimate>, now: Timestamp) -> bool {
        let Ok(range) = eta else {
            return self.0.remove(&job).is_some();
        };
        let end = now.after(range.likely);
        let moved = |told: &Timestamp| end.0.abs_diff(told.0).saturating_mul(NEWS_PART) > end.0.abs_diff(now.0);
        let news = self.0.get(&job).is_none_or(moved);
        if news {
            self.0.insert(job, end);
        }
        news
    }
}

impl Router {
    /// How a job stands now: from memory while a crawler of this server holds it, else as it was stored.
    ///
    /// # Errors
    /// When it has to be read, and the database is away.
    pub async fn standing(&self, job: &JobView) -> Result<Standing, StoreError> {
        let shared = &self.shared;
        let heard = match shared.progress(job.key) {
            Some(tracker) => Some(tracker),
            // One that never started has no report.
            None if job.attempt == 0 => None,
            None => shared.store.progress(job.key).await?.map(Arc::new),
        };
        Ok(standing(shared, job, heard))
    }

    /// How jobs stand now, in their order. What is not in memory is read together, without the course of the attempts.
    ///
    /// # Errors
    /// When something has to be read, and the database is away.
    pub async fn standings(&self, jobs: &[JobView]) -> Result<Vec<Standing>, StoreError> {
        let shared = &self.shared;
        let mut heard: HashMap<JobKey, Arc<Tracker>> = HashMap::new();
        let mut unknown = Vec::new();
        for job in jobs {
            match shared.progress(job.key) {
                Some(tracker) => drop(heard.insert(job.key, tracker)),
                None if job.attempt == 0 => {}
                None => unknown.push(job.key),
            }
        }
        if !unknown.is_empty() {
            let stored = shared.store.trackers(unknown).await?;
            heard.extend(stored.into_iter().map(|(job, tracker)| (job, Arc::new(tracker))));
        }
        let standings = jobs.iter().map(|job| standing(shared, job, heard.remove(&job.key)));
        Ok(standings.collect())
    }

    /// How a job stands that a crawler of this server works on and has reported about: without a look at the database, so
    /// attempts that went wrong before are not known.
    pub fn standing_here(&self, job: JobKey) -> Option<Standing> {
        let shared = &self.shared;
        let (tracker, about) = {
            let live = shared.live();
            let tracker = live.get(job).filter(|tracker| is_reported(tracker))?;
            (tracker.clone(), live.about(job)?.clone())
        };
        let at = wall_clock();
        let facts = running(shared, (job, &about), tracker.attempt, at);
        let snapshot = tracker.snapshot(facts, at, thresholds(shared, &about));
        Some(Standing {
            tracker,
            snapshot,
            at,
            until: at,
            is_heard: true,
        })
    }
}

/// How a job stands of which this was heard last.
fn standing(shared: &Shared, job: &JobView, heard: Option<Arc<Tracker>>) -> Standing {
    let is_heard = heard.is_some();
    let tracker = match heard {
        // Whoever works on it now has not reported: what is stored is of an attempt that is over.
        Some(before) if job.state == State::Running && before.attempt < job.attempt => {
            Arc::new(Tracker::begin(job.attempt, Some(&before), begun_at(job)))
        }
        Some(tracker) => tracker,
        None => Arc::new(Tracker::begin(job.attempt, None, begun_at(job))),
    };
    let at = wall_clock();
    let until = if is_heard && job.state == State::Running {
        at
    } else {
        tracker.worker_at()
    };
    let facts = Facts {
        state: job.state,
        attempt: job.attempt,
        failures: job.failures,
        link_at: heard_at(shared, job.key, at),
        waits: waits(&shared.gates(), job.account, &job.spec.host, at),
    };
    let snapshot = tracker.snapshot(facts, at, shared.config.thresholds(job.spec.job_type));
    Standing {
        tracker,
        snapshot,
        at,
        until,
        is_heard,
    }
}

/// What is known here of a job that a crawler of this server works on.
fn running(shared: &Shared, (job, about): (JobKey, &About), attempt: i32, now: Timestamp) -> Facts {
    Facts {
        state: State::Running,
        attempt,
        failures: 0,
        link_at: heard_at(shared, job, now),
        waits: waits(&shared.gates(), about.account, &about.host, now),
    }
}

/// About when the present attempt of a job began, or will.
fn begun_at(job: &JobView) -> Timestamp {
    job.assigned_at.unwrap_or(job.created_at)
}

/// When anything was last heard of the session of this server that works on a job.
fn heard_at(shared: &Shared, job: JobKey, now: Timestamp) -> Option<Timestamp> {
    let lease = shared.live().lease(job)?;
    let session = shared.sessions.get(lease.session)?;
    let silent = i64::try_from(session.silent_for().as_millis()).unwrap_or(i64::MAX);
    Some(Timestamp(now.0.saturating_sub(silent)))
}

/// Where the work of a job is that is in this state, as [`Tracker::snapshot`] says it.
pub(crate) fn phase(shared: &Shared, job: JobKey, state: State) -> Phase {
    let live = shared.live();
    let work = || live.get(job).map_or(Phase::Initializing, |tracker| tracker.phase());
    Phase::of(state, work)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crawlwire_progress::track::Confidence;

    use super::*;

    #[test]
    fn an_estimate_is_news_when_the_end_moves_by_much() {
        let mut estimates = Estimates::default();
        let mut is_news = |now: i64, seconds: u64| {
            let likely = Duration::from_secs(seconds);
            let range = Range {
                low: likely,
                likely,
                high: likely,
                confidence: Confidence::Low,
            };
            let eta = if seconds == 0 {
                Err(NoEstimate::TotalOpen)
            } else {
                Ok(range)
            };
            estimates.is_news(JobKey(1), eta, Timestamp(now * 1000))
        };
        assert!(!is_news(0, 0), "nobody was told anything");
        assert!(is_news(0, 100));
        assert!(!is_news(10, 90), "it ends when it was told");
        assert!(!is_news(10, 115));
        assert!(is_news(10, 125));
        assert!(!is_news(110, 25));
        assert!(is_news(110, 0));
        assert!(!is_news(111, 0));
        assert!(is_news(112, 25), "it can be told again");
    }
}
