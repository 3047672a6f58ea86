//! What a run added up to.

use std::collections::BTreeMap;
use std::fmt;

use crawlwire_protocol::message::JobType;

use crate::jobs::Outcome;
use crate::report::Tally;

/// Totals over the jobs that ended in this run. A job that ran twice counts twice.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// Jobs done and failed, by type.
    jobs: BTreeMap<JobType, (u64, u64)>,
    /// Jobs that were left before their end: cancelled, paused, or somebody else's.
    left: u64,
    commits: u64,
    branches: u64,
    tags: u64,
    files: u64,
    authors: u64,
}

impl Summary {
    /// Notes what became of a job.
    pub(crate) fn note(&mut self, job_type: JobType, outcome: &Outcome) {
        match outcome {
            Outcome::Done { counts, .. } => {
                self.jobs.entry(job_type).or_default().0 += 1;
                match job_type {
                    JobType::CrawlProject => {
                        self.commits += processed(counts, "commits");
                        self.branches += processed(counts, "branches");
                        self.tags += processed(counts, "tags");
                        self.files += processed(counts, "files");
                    }
                    JobType::DiscoverNamespaces => self.authors += processed(counts, "users"),
                    JobType::CrawlGroup | JobType::CrawlUser => {}
                }
            }
            Outcome::Failed(_) => self.jobs.entry(job_type).or_default().1 += 1,
            Outcome::Left(_) => self.left += 1,
        }
    }

    /// Jobs that ended, in whatever way.
    pub(crate) fn ended(&self) -> u64 {
        self.done() + self.failed() + self.left
    }

    fn done(&self) -> u64 {
        self.jobs.values().map(|(done, _)| done).sum()
    }

    /// Jobs that ended badly.
    pub(crate) fn failed(&self) -> u64 {
        self.jobs.values().map(|(_, failed)| failed).sum()
    }
}

fn processed(counts: &[Tally], entity_type: &str) -> u64 {
    let found = counts.iter().find(|tally| tally.entity_type == entity_type);
    found.map_or(0, |tally| tally.processed)
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{} jobs done, {} failed", self.done(), self.failed())?;
        if self.left > 0 {
            write!(formatter, ", {} left", self.left)?;
        }
        for (job_type, (done, failed)) in &self.jobs {
            write!(formatter, "; {job_type} {done}")?;
            if *failed > 0 {
                write!(formatter, " (and {failed} failed)")?;
            }
        }
        write!(
            formatter,
            "; {} commits, {} branches, {} tags, {} files, {} authors",
            self.commits, self.branches, self.tags, self.files, self.authors
        )
    }
}
