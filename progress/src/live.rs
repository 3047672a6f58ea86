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
    pub fn report(
        &mut self,
        job: JobKey,
        lease: Lease,
        attempt: i32,
        message: &JobProgress,
        now: Timestamp,
    ) -> ProgressView {
        let n = self.next_n(job, lease);
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
            },
        );
        self.changed.insert(job);
        view
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
            n: self.next_n(job, lease),
            overall_completion: 1.0,
            time_elapsed: message.total_duration.get(),
            estimated_time_remaining: Some(0.0),
            entities: message.final_counts.clone(),
            updated_at: now,
        }
    }

    /// The last report of a job that ended badly, if the crawler said how far it came.
    pub fn failed(&mut self, job: JobKey, lease: Lease, partial: &[ProgressData], now: Timestamp) -> ProgressView {
        let n = self.next_n(job, lease);
        let last = self.get(job).cloned();
        ProgressView {
            n,
            entities: partial.to_vec(),
            updated_at: now,
            attempt: last.as_ref().map_or(0, |view| view.attempt),
            overall_completion: last.as_ref().map_or(0.0, |view| view.overall_completion),
            time_elapsed: last.as_ref().map_or(0.0, |view| view.time_elapsed),
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
        self.changed.extend(reports.iter().map(|(job, ..)| *job).filter(|job| self.jobs.contains_key(job)));
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

    /// Reports are numbered within a lease, so that a late write of an older one can be told.
    fn next_n(&self, job: JobKey, lease: Lease) -> i64 {
        self.jobs
            .get(&job)
            .filter(|report| report.lease.fence == lease.fence)
            .map_or(1, |report| report.view.n + 1)
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

    #[test]
    fn only_the_newest_report_is_handed_out_and_only_once() {
        let mut live = Live::default();
        let lease = Lease {
            session: SessionKey(1),
            fence: Fence(1),
        };
        for completion in [0.1, 0.2, 0.3] {
            live.report(JobKey(1), lease, 1, &message(completion), Timestamp(0));
        }
        live.report(JobKey(2), lease, 1, &message(0.5), Timestamp(0));
        let groups = live.drain();
        assert_eq!(groups.len(), 1);
        let rows: Vec<_> = groups[0]
            .iter()
            .map(|(key, _, view)| (key.0, view.n, view.overall_completion))
            .collect();
        assert_eq!(rows, [(1, 3, 0.3), (2, 1, 0.5)]);
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
}
