//! What a run added up to.

use std::collections::BTreeMap;
use std::fmt;

use crawlwire_protocol::CrawlerMessage;
use crawlwire_protocol::message::{JobType, ProgressData};

/// Totals over the jobs that ended in this run. A job that ran twice counts twice.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// Jobs done and failed, by type.
    jobs: BTreeMap<JobType, (u64, u64)>,
    commits: u64,
    branches: u64,
    tags: u64,
    files: u64,
    authors: u64,
}

impl Summary {
    /// Notes the end of a job. Other messages change nothing.
    pub(crate) fn note(&mut self, job_type: JobType, message: &CrawlerMessage) {
        let (done, failed) = self.jobs.entry(job_type).or_default();
        match message {
            CrawlerMessage::JobCompleted(completed) => {
                *done += 1;
                let counts = &completed.final_counts;
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
            CrawlerMessage::JobFailed(_) => *failed += 1,
            _ => {}
        }
    }

    /// Jobs that ended, well or badly.
    pub(crate) fn ended(&self) -> u64 {
        self.jobs.values().map(|(done, failed)| done + failed).sum()
    }

    /// Jobs that ended badly.
    pub(crate) fn failed(&self) -> u64 {
        self.jobs.values().map(|(_, failed)| failed).sum()
    }
}

fn processed(counts: &[ProgressData], entity_type: &str) -> u64 {
    let found = counts.iter().find(|data| data.entity_type == entity_type);
    found.map_or(0, |data| data.total_processed.get())
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let (ended, failed) = (self.ended(), self.failed());
        write!(formatter, "{} jobs done, {failed} failed", ended - failed)?;
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
