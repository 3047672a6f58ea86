//! Progress in memory: the newest report of every job, and what they add up to.
//!
//! A report is visible at once and written in groups: [`Live::drain`] hands out what changed since the last time, the
//! newest report of each job, so a busy crawler costs the database no more than a slow one.

use std::collections::{BTreeSet, HashMap};

use crawlwire_protocol::message::{JobCompleted, JobProgress, ProgressData};

use crate::ids::{JobKey, Timestamp};
use crate::lifecycle::Lease;
use crate::store::PROGRESS_ROWS_MAX;
use crate::view::ProgressView;

/// Numbers for the reports of one job in one millisecond: more than a crawler sends.
const REPORTS_PER_MS: i64 = 1000;

/// The newest reports of the jobs that are held. Bounded by the number of those.
#[derive(Debug, Default)]
pub struct Live {
    jobs: HashMap<JobKey, Report>,
    changed: BTreeSet<JobKey>,
}

#[derive(Debug, Clone)]
struct Report {
    lease: Lease,
    view: ProgressView,
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

impl Live {
    /// Takes a report in. Whoever calls has checked that the lease holds.
    ///
    /// A crawler of the session dialect numbers its reports of a job itself: `sent`. One whose number is not above the last
    /// one of the lease is late, and dropped: then there is no view. The number that is kept with a report is ours all the
    /// same, because the sender's does not go on from one lease to the next.
    pub fn report(
        &mut self,
        job: JobKey,
        (lease, attempt): (Lease, i32),
        sent: Option<u64>,
        message: &JobProgress,
        now: Timestamp,
    ) -> Option<ProgressView> {
        let last = self.jobs.get(&job).filter(|report| report.lease.fence == lease.fence);
        let last = last.and_then(|report| report.sent);
        if sent.is_some() && sent <= last {
            return None;
        }
        let n = self.next_n(job, lease, now);
        let view = ProgressView {
            attempt,
            n,
            overall_completion: message.overall_completion.get(),
            time_elapsed: message.time_elapsed.get(),
            estimated_time_remaining: message.estimated_time_remaining.map(|span| span.get()),
            entities: message.progress.clone(),
            updated_at: now,
        };
        self.jobs.insert(
            job,
            Report {
                lease,
                view: view.clone(),
                sent: sent.or(last),
            },
        );
        self.changed.insert(job);
        Some(view)
    }

    /// The last report of a job that ended well: its totals, and all of it done.
    pub fn completed(
        &mut self,
        job: JobKey,
        lease: Lease,
        attempt: i32,
        message: &JobCompleted,
        now: Timestamp,
    ) -> ProgressView {
        ProgressView {
            attempt,
            n: self.next_n(job, lease, now),
            overall_completion: 1.0,
            time_elapsed: message.total_duration.get(),
            estimated_time_remaining: Some(0.0),
            entities: message.final_counts.clone(),
            updated_at: now,
        }
    }

    /// The last report of a job that ended badly: the counts the crawler gave at the end, the rest as it said `before`.
    pub fn failed(
        &mut self,
        job: JobKey,
        lease: Lease,
        partial: &[ProgressData],
        before: Option<&ProgressView>,
        now: Timestamp,
    ) -> ProgressView {
        ProgressView {
            n: self.next_n(job, lease, now),
            entities: partial.to_vec(),
            updated_at: now,
            attempt: before.map_or(0, |view| view.attempt),
            overall_completion: before.map_or(0.0, |view| view.overall_completion),
            time_elapsed: before.map_or(0.0, |view| view.time_elapsed),
            estimated_time_remaining: None,
        }
    }

    /// The newest report of a job.
    pub fn get(&self, job: JobKey) -> Option<&ProgressView> {
        self.jobs.get(&job).map(|report| &report.view)
    }

    /// Forgets a job that nobody holds any more.
    pub fn forget(&mut self, job: JobKey) {
        self.jobs.remove(&job);
        self.changed.remove(&job);
    }

    /// What changed since the last time, in groups no larger than one statement carries.
    pub fn drain(&mut self) -> Vec<Vec<(JobKey, Lease, ProgressView)>> {
        let changed: Vec<_> = std::mem::take(&mut self.changed)
            .into_iter()
            .filter_map(|key| {
                self.jobs
                    .get(&key)
                    .map(|report| (key, report.lease, report.view.clone()))
            })
            .collect();
        changed.chunks(PROGRESS_ROWS_MAX).map(<[_]>::to_vec).collect()
    }

    /// Marks reports as changed again, when writing them did not work.
    pub fn put_back(&mut self, reports: &[(JobKey, Lease, ProgressView)]) {
        self.changed.extend(reports.iter().map(|(job, ..)| *job));
    }

    /// All active jobs together; none when there are none.
    pub fn aggregate(&self) -> Option<AggregateProgress> {
        let active_jobs = self.jobs.len();
        let sum: f64 = self.jobs.values().map(|report| report.view.overall_completion).sum();
        (active_jobs > 0).then(|| AggregateProgress {
            overall_completion: sum / active_jobs as f64,
            active_jobs,
        })
    }

    /// Reports are numbered within a lease, so that a late write of an older one can be told. The numbers follow the
    /// time, so they go on rising when a later connection, or a later run of this server, takes the lease over.
    fn next_n(&self, job: JobKey, lease: Lease, now: Timestamp) -> i64 {
        let first = now.0.saturating_mul(REPORTS_PER_MS);
        self.jobs
            .get(&job)
            .filter(|report| report.lease.fence == lease.fence)
            .map_or(first, |report| first.max(report.view.n + 1))
    }
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

    fn report(live: &mut Live, job: i64, lease: Lease, completion: f64, now: i64) -> i64 {
        let report = live.report(JobKey(job), (lease, 1), None, &message(completion), Timestamp(now));
        assert_eq!(live.get(JobKey(job)), report.as_ref());
        report.unwrap().n
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
            .map(|(key, _, view)| (key.0, view.n, view.overall_completion))
            .collect();
        assert_eq!(rows, [(1, 2, 0.3), (2, 0, 0.5)]);
        assert!(live.drain().is_empty());
        assert_eq!(
            live.aggregate(),
            Some(AggregateProgress {
                overall_completion: 0.4,
                active_jobs: 2
            })
        );
        live.forget(JobKey(1));
        live.forget(JobKey(2));
        assert_eq!(live.aggregate(), None);
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
        let mut said = |fence, sent, completion| {
            let lease = Lease {
                fence: Fence(fence),
                ..LEASE
            };
            let taken = live.report(JobKey(1), (lease, 1), sent, &message(completion), Timestamp(0));
            let shown = live.get(JobKey(1)).map(|view| view.overall_completion);
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
            .map(|(job, _, view)| (job.0, view.n))
            .collect();
        assert_eq!(
            again,
            [(1, REPORTS_PER_MS), (PROGRESS_ROWS_MAX as i64, 0)],
            "the newest of each"
        );
    }
}
