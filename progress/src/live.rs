//! Progress in memory: how far every job is that sessions of this server hold.
//!
//! A report is visible at once and written in groups: [`Live::drain`] hands out what changed since the last time, the
//! newest of each job, so a busy crawler costs the database no more than a slow one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crawlwire_protocol::message::{JobCompleted, JobProgress, JobType, ProgressData};

use crate::ids::{AccountKey, JobKey, Timestamp};
use crate::lifecycle::Lease;
use crate::store::PROGRESS_ROWS_MAX;
use crate::track::{Changes, IssueKind, Milestones, Thresholds, Tracker};

/// Numbers for the reports of one job in one millisecond: more than a crawler sends.
const REPORTS_PER_MS: i64 = 1000;

/// What a job is about, as far as progress depends on it. Never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Its name outside.
    pub public_id: String,
    /// What it does.
    pub job_type: JobType,
    /// Where.
    pub host: String,
    /// Whose it is.
    pub account: AccountKey,
}

/// How far the jobs are that are held. Bounded by the number of those.
#[derive(Debug, Default)]
pub struct Live {
    milestones: Milestones,
    jobs: HashMap<JobKey, Entry>,
    changed: BTreeSet<JobKey>,
}

#[derive(Debug)]
struct Entry {
    about: Arc<About>,
    lease: Lease,
    tracker: Arc<Tracker>,
    /// The sender's own number, if it gives one.
    sent: Option<u64>,
}

/// All active jobs together (API reference, lines 142 to 150).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AggregateProgress {
    /// The mean of what the crawlers said of their jobs, 0 to 1.
    pub overall_completion: f64,
    /// Jobs that are held and have reported.
    pub active_jobs: usize,
}

impl AggregateProgress {
    /// Of so many jobs, whose crawlers' words add up to `said`; none when there are none.
    pub fn of(active_jobs: usize, said: f64) -> Option<Self> {
        (active_jobs > 0).then(|| Self {
            overall_completion: said / active_jobs as f64,
            active_jobs,
        })
    }
}

impl Live {
    /// Nothing yet; these are the milestones of jobs and their counters.
    pub fn new(milestones: Milestones) -> Self {
        Self {
            milestones,
            ..Self::default()
        }
    }

    /// Whether this attempt of the job is known here.
    pub fn knows(&self, job: JobKey, attempt: i32) -> bool {
        self.jobs
            .get(&job)
            .is_some_and(|entry| entry.tracker.attempt == attempt)
    }

    /// Begins to follow an attempt, or goes on with it: `stored` is what the store has of the job. Without effect when it
    /// is known.
    pub fn follow(
        &mut self,
        job: JobKey,
        about: Arc<About>,
        (lease, attempt): (Lease, i32),
        stored: Option<Tracker>,
        now: Timestamp,
    ) {
        if self.knows(job, attempt) {
            return;
        }
        let tracker = match stored {
            Some(stored) if stored.attempt == attempt => stored,
            before => Tracker::begin(attempt, before.as_ref(), now),
        };
        let entry = Entry {
            about,
            lease,
            tracker: Arc::new(tracker),
            sent: None,
        };
        self.jobs.insert(job, entry);
    }

    /// Takes a report in. Whoever calls has checked that the lease holds, and follows the job. Says what it changed.
    ///
    /// A crawler of the session dialect numbers its reports of a job itself: `sent`. One whose number is not above the last
    /// one of the lease is late, and dropped: then there is no answer. The number that is kept with a report is ours all the
    /// same, because the sender's does not go on from one lease to the next.
    pub fn report(
        &mut self,
        job: JobKey,
        lease: Lease,
        sent: Option<u64>,
        message: &JobProgress,
        now: Timestamp,
    ) -> Option<Changes> {
        let entry = self.jobs.get_mut(&job)?;
        let last = entry.sent.filter(|_| entry.lease.fence == lease.fence);
        if sent.is_some() && sent <= last {
            return None;
        }
        entry.lease = lease;
        entry.sent = sent.or(last);
        let n = next_n(&entry.tracker, now);
        let changes = Arc::make_mut(&mut entry.tracker).report(message, n, now, &self.milestones);
        self.changed.insert(job);
        Some(changes)
    }

    /// How a job is that ended well: its totals, and all of it done. For the store; what is in memory stays as it is until
    /// the end is durable.
    pub fn completed(
        &self,
        job: JobKey,
        attempt: i32,
        message: &JobCompleted,
        now: Timestamp,
    ) -> (Arc<Tracker>, Changes) {
        let mut tracker = self.tracker(job, attempt, now);
        let n = next_n(&tracker, now);
        let changes = tracker.complete(message, n, now, &self.milestones);
        (Arc::new(tracker), changes)
    }

    /// How a job is that ended badly: the counts the crawler gave at the end, the rest as it said before. For the store.
    pub fn failed(&self, job: JobKey, attempt: i32, partial: Option<&[ProgressData]>, now: Timestamp) -> Arc<Tracker> {
        let mut tracker = self.tracker(job, attempt, now);
        let n = next_n(&tracker, now);
        tracker.fail(partial, n, now);
        Arc::new(tracker)
    }

    fn tracker(&self, job: JobKey, attempt: i32, now: Timestamp) -> Tracker {
        let known = self.jobs.get(&job).filter(|entry| entry.tracker.attempt == attempt);
        known.map_or_else(
            || Tracker::begin(attempt, None, now),
            |entry| Tracker::clone(&entry.tracker),
        )
    }

    /// A message other than a report named the job; `forward` if it shows that the work goes on.
    pub fn named(&mut self, job: JobKey, forward: bool, now: Timestamp) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            let tracker = Arc::make_mut(&mut entry.tracker);
            tracker.named(now);
            if forward {
                tracker.forward(now);
                tracker.n = tracker.n.saturating_add(1);
                self.changed.insert(job);
            }
        }
    }

    /// Looks at every job by the clock. `circumstances` says whether a job waits, and from when on silence means something.
    /// Gives those that became stalled just now.
    pub fn look(
        &mut self,
        now: Timestamp,
        circumstances: impl Fn(&About) -> (bool, Thresholds),
    ) -> Vec<(JobKey, Arc<About>)> {
        let mut stalled = Vec::new();
        for (job, entry) in &mut self.jobs {
            let (waits, thresholds) = circumstances(&entry.about);
            let newly = Arc::make_mut(&mut entry.tracker).look(now, waits, thresholds);
            if newly.is_some() {
                self.changed.insert(*job);
            }
            if newly == Some(IssueKind::Stalled) {
                stalled.push((*job, entry.about.clone()));
            }
        }
        stalled.sort_unstable_by_key(|(job, _)| *job);
        stalled
    }

    /// How far a job is.
    pub fn get(&self, job: JobKey) -> Option<&Arc<Tracker>> {
        self.jobs.get(&job).map(|entry| &entry.tracker)
    }

    /// Forgets a job that nobody holds any more.
    pub fn forget(&mut self, job: JobKey) {
        self.jobs.remove(&job);
        self.changed.remove(&job);
    }

    /// What a job that is followed is about.
    pub fn about(&self, job: JobKey) -> Option<&Arc<About>> {
        self.jobs.get(&job).map(|entry| &entry.about)
    }

    /// The lease under which a job that is followed was last heard.
    pub fn lease(&self, job: JobKey) -> Option<Lease> {
        self.jobs.get(&job).map(|entry| entry.lease)
    }

    /// What changed since the last time, in groups no larger than one statement carries.
    pub fn drain(&mut self) -> Vec<Vec<(JobKey, Lease, Arc<Tracker>)>> {
        let changed = std::mem::take(&mut self.changed);
        self.handed_out(changed)
    }

    /// The same of these jobs alone, which cannot wait.
    pub fn drain_these(&mut self, jobs: &BTreeSet<JobKey>) -> Vec<Vec<(JobKey, Lease, Arc<Tracker>)>> {
        let (these, others) = std::mem::take(&mut self.changed)
            .into_iter()
            .partition(|job| jobs.contains(job));
        self.changed = others;
        self.handed_out(these)
    }

    fn handed_out(&self, changed: BTreeSet<JobKey>) -> Vec<Vec<(JobKey, Lease, Arc<Tracker>)>> {
        let changed: Vec<_> = changed
            .into_iter()
            .filter_map(|key| {
                self.jobs
                    .get(&key)
                    .map(|entry| (key, entry.lease, entry.tracker.clone()))
            })
            .collect();
        changed.chunks(PROGRESS_ROWS_MAX).map(<[_]>::to_vec).collect()
    }

    /// Marks jobs as changed again, when writing them did not work.
    pub fn put_back(&mut self, reports: &[(JobKey, Lease, Arc<Tracker>)]) {
        self.changed.extend(reports.iter().map(|(job, ..)| *job));
    }
}

/// Reports are numbered within an attempt, so that a late write of an older one can be told. The numbers follow the time,
/// so they go on rising when a later connection, or a later run of this server, takes the job over.
fn next_n(tracker: &Tracker, now: Timestamp) -> i64 {
    now.0.saturating_mul(REPORTS_PER_MS).max(tracker.n.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Fence, SessionKey};

    fn message(completion: f64) -> JobProgress {
        JobProgress {
            progress: vec![],
            overall_completion: completion.try_into().unwrap(),
            time_elapsed: 5.0.try_into().unwrap(),
            estimated_time_remaining: None,
            job_type: None,
        }
    }

    const LEASE: Lease = Lease {
        session: SessionKey(1),
        fence: Fence(1),
    };

    fn about() -> Arc<About> {
        Arc::new(About {
            public_id: "job".to_owned(),
            job_type: JobType::CrawlUser,
            host: "https://gitlab.example".to_owned(),
            account: AccountKey(1),
        })
    }

    fn report(live: &mut Live, job: i64, lease: Lease, completion: f64, now: i64) -> i64 {
        let (job, now) = (JobKey(job), Timestamp(now));
        live.follow(job, about(), (lease, 1), None, now);
        live.report(job, lease, None, &message(completion), now).unwrap();
        live.get(job).unwrap().n
    }

    #[test]
    fn only_the_newest_report_is_handed_out_and_only_once() {
        let mut live = Live::default();
        for completion in [0.1, 0.2, 0.3] {
            report(&mut live, 1, LEASE, completion, 0);
        }
        report(&mut live, 2, LEASE, 0.5, 0);
        let groups = live.drain();
        assert_eq!(groups.len(), 1);
        let rows: Vec<_> = groups[0]
            .iter()
            .map(|(key, _, tracker)| (key.0, tracker.n, tracker.said.overall_completion))
            .collect();
        assert_eq!(rows, [(1, 3, 0.3), (2, 1, 0.5)]);
        assert!(live.drain().is_empty());
    }

    #[test]
    fn what_was_handed_out_does_not_change_with_the_next_report() {
        let mut live = Live::default();
        report(&mut live, 1, LEASE, 0.1, 0);
        let groups = live.drain();
        report(&mut live, 1, LEASE, 0.2, 1);
        assert_eq!(groups[0][0].2.said.overall_completion, 0.1);
        assert_eq!(live.drain()[0][0].2.said.overall_completion, 0.2);
    }

    #[test]
    fn numbers_rise_through_a_takeover_and_a_clock_that_steps_back() {
        let mut live = Live::default();
        let first = report(&mut live, 1, LEASE, 0.1, 1_000);
        let second = report(&mut live, 1, LEASE, 0.2, 900);
        assert!(second > first);
        live.forget(JobKey(1));
        let taken_over = Lease {
            session: SessionKey(2),
            ..LEASE
        };
        assert!(report(&mut live, 1, taken_over, 0.3, 1_500) > second);
    }

    #[test]
    fn a_report_that_was_overtaken_is_dropped_within_its_lease() {
        let mut live = Live::default();
        live.follow(JobKey(1), about(), (LEASE, 1), None, Timestamp(0));
        let mut said = |fence, sent, completion| {
            let lease = Lease {
                fence: Fence(fence),
                ..LEASE
            };
            let taken = live.report(JobKey(1), lease, sent, &message(completion), Timestamp(0));
            let shown = live.get(JobKey(1)).map(|tracker| tracker.said.overall_completion);
            (taken.is_some(), shown)
        };
        assert_eq!(said(1, Some(0), 0.1), (true, Some(0.1)));
        assert_eq!(said(1, Some(7), 0.7), (true, Some(0.7)));
        for late in [0, 6, 7] {
            assert_eq!(said(1, Some(late), 0.2), (false, Some(0.7)), "{late}");
        }
        assert_eq!(
            said(1, None, 0.75),
            (true, Some(0.75)),
            "one without a number is never late"
        );
        assert_eq!(said(1, Some(7), 0.2), (false, Some(0.75)));
        assert_eq!(said(2, Some(0), 0.3), (true, Some(0.3)), "a new lease begins anew");
    }

    #[test]
    fn an_attempt_goes_on_where_the_store_has_it_and_the_next_one_begins_anew() {
        let mut live = Live::default();
        report(&mut live, 1, LEASE, 0.4, 0);
        let stored = live.get(JobKey(1)).map(|tracker| Tracker::clone(tracker));
        live.forget(JobKey(1));
        live.follow(JobKey(1), about(), (LEASE, 1), stored.clone(), Timestamp(9));
        assert_eq!(live.get(JobKey(1)).map(|tracker| Tracker::clone(tracker)), stored);
        live.follow(JobKey(1), about(), (LEASE, 2), stored, Timestamp(9));
        let tracker = live.get(JobKey(1)).unwrap();
        assert_eq!((tracker.attempt, tracker.said.overall_completion), (2, 0.0));
    }

    #[test]
    fn what_could_not_be_written_is_handed_out_again_unless_it_is_forgotten() {
        let mut live = Live::default();
        for job in 0..PROGRESS_ROWS_MAX as i64 + 1 {
            report(&mut live, job, LEASE, 0.5, 0);
        }
        let groups = live.drain();
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [PROGRESS_ROWS_MAX, 1]);
        live.put_back(&groups[1]);
        live.put_back(&groups[0][..2]);
        live.forget(JobKey(0));
        report(&mut live, 1, LEASE, 0.75, 1);
        let again: Vec<_> = live
            .drain()
            .concat()
            .into_iter()
            .map(|(job, _, tracker)| (job.0, tracker.n))
            .collect();
        assert_eq!(
            again,
            [(1, REPORTS_PER_MS), (PROGRESS_ROWS_MAX as i64, 1)],
            "the newest of each"
        );
    }
}
