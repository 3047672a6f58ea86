//! `discover_namespaces`: folders, repositories and authors become `crawl_group`, `crawl_project` and `crawl_user` jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use crawlwire_protocol::Count;
use crawlwire_protocol::message::{DiscoveredJob, DiscoverySummary, JobType};
use crawlwire_transport::client::JobHandle;
use tokio::time::Instant;

use crate::failure::{End, Failure};
use crate::jobs::{self, Context};
use crate::report::{Done, Reporter};
use crate::repository::Repository;
use crate::walk::Found;

/// Found items are handed over when there are so many, or after this long, so that others can begin while we still look.
const BATCH_ITEMS_MAX: usize = 1000;
const BATCH_EVERY: Duration = Duration::from_secs(1);

/// Authors of one discovery: as many as a server takes as children of one job, unless it is told otherwise.
const USERS_MAX: usize = 100_000;

/// A longer e-mail address is none.
pub(crate) const EMAIL_BYTES_MAX: usize = 1024;

pub(crate) fn run(context: &Context, job: &JobHandle, reporter: &mut Reporter) -> Result<Done, End> {
    let start = context.root.resolve(jobs::path(job).unwrap_or("."))?;
    let mut found = context.root.walk(&start.folder, reporter.stop())?;
    reporter.expect("groups", found.groups.len() as u64);
    reporter.expect("projects", found.projects.len() as u64);

    let mut batch = Batch::new(&found);
    for (path, projects) in &found.groups {
        batch.add(
            reporter,
            item(
                JobType::CrawlGroup,
                path,
                context.root.title(path),
                Some(("projects", *projects)),
            ),
        )?;
        reporter.step("groups")?;
    }
    let mut users = Users::default();
    for project in std::mem::take(&mut found.projects) {
        let commits = match users.count(&project.repository, reporter)? {
            Ok(commits) => Some(("commits", commits)),
            // Its own job will say what is wrong with it.
            Err(failure) => {
                found.skip(
                    project.path.clone(),
                    format!("authors not counted: {}", failure.message()),
                );
                None
            }
        };
        batch.add(
            reporter,
            item(
                JobType::CrawlProject,
                &project.path,
                context.root.title(&project.path),
                commits,
            ),
        )?;
        reporter.step("projects")?;
        reporter.expect("users", users.commits.len() as u64);
        reporter.pause();
    }
    batch.summary.total_users = Count::try_from(users.commits.len() as u64).ok();
    for (email, commits) in &users.commits {
        batch.add(
            reporter,
            item(JobType::CrawlUser, email, email.clone(), Some(("commits", *commits))),
        )?;
        reporter.step("users")?;
    }
    batch.send(reporter)?;
    Ok(finish(context, &start.name, &found, &users, reporter)?)
}

fn finish(context: &Context, start: &str, found: &Found, users: &Users, reporter: &Reporter) -> Result<Done, Failure> {
    let mut output_files = Vec::new();
    if !found.skipped.is_empty() {
        let mut file = context.output.file("discovery", start, "skipped")?;
        found.skipped.iter().try_for_each(|skipped| file.write(skipped))?;
        output_files.push(file.finish()?);
    }
    let count = |entity_type| reporter.processed(entity_type);
    let mut summary = format!(
        "{} groups, {} projects, {} users",
        count("groups"),
        count("projects"),
        count("users")
    );
    if found.skipped_total > 0 {
        let first = found.skipped.first();
        let example = first.map_or(String::new(), |first| format!(" ({}: {})", first.path, first.reason));
        summary += &format!("; {} places skipped{example}", found.skipped_total);
    }
    if users.left_out > 0 {
        summary += &format!("; {} commits without a usable e-mail address", users.left_out);
    }
    Ok(Done { summary, output_files })
}

/// An entity as a job. Paths and e-mail addresses stay the same from one discovery to the next, so the server recognises
/// what it has already.
fn item(job_type: JobType, id: &str, entity_name: String, size: Option<(&str, u64)>) -> DiscoveredJob {
    DiscoveredJob {
        job_type,
        entity_id: id.to_owned(),
        namespace_path: id.to_owned(),
        entity_name,
        priority: 1.0,
        estimated_size: size.map(|(what, number)| BTreeMap::from([(what.to_owned(), number as f64)])),
    }
}

/// Found items on their way.
struct Batch {
    items: Vec<DiscoveredJob>,
    sent: Instant,
    summary: DiscoverySummary,
}

impl Batch {
    fn new(found: &Found) -> Self {
        Self {
            items: Vec::new(),
            sent: Instant::now(),
            summary: DiscoverySummary {
                total_users: None,
                total_groups: Count::try_from(found.groups.len() as u64).ok(),
                total_projects: Count::try_from(found.projects.len() as u64).ok(),
                hierarchy_depth: Some(found.depth.into()),
            },
        }
    }

    fn add(&mut self, reporter: &Reporter, item: DiscoveredJob) -> Result<(), End> {
        self.items.push(item);
        if self.items.len() >= BATCH_ITEMS_MAX || self.sent.elapsed() >= BATCH_EVERY {
            self.send(reporter)?;
        }
        Ok(())
    }

    fn send(&mut self, reporter: &Reporter) -> Result<(), End> {
        if !self.items.is_empty() {
            reporter.discovered(std::mem::take(&mut self.items), self.summary.clone())?;
        }
        self.sent = Instant::now();
        Ok(())
    }
}

/// Authors by e-mail address.
#[derive(Default)]
struct Users {
    commits: BTreeMap<String, u64>,
    /// Commits whose author cannot become a job.
    left_out: u64,
}

impl Users {
    /// Adds the authors of a repository and says how many commits it has. The outer error ends the job, the inner one is
    /// the repository's.
    fn count(&mut self, repository: &Repository, reporter: &Reporter) -> Result<Result<u64, Failure>, End> {
        let mut emails = match repository.author_emails() {
            Ok(emails) => emails,
            Err(failure) => return Ok(Err(failure)),
        };
        let mut commits = 0;
        loop {
            match emails.next() {
                Ok(Some(email)) => self.add(&String::from_utf8_lossy(email)),
                Ok(None) => return Ok(Ok(commits)),
                Err(failure) => return Ok(Err(failure)),
            }
            commits += 1;
            if reporter.stop().is_cancelled() {
                return Err(End::Stopped);
            }
        }
    }

    fn add(&mut self, email: &str) {
        if let Some(commits) = self.commits.get_mut(email) {
            *commits += 1;
        } else if email.is_empty() || email.len() > EMAIL_BYTES_MAX || self.commits.len() >= USERS_MAX {
            self.left_out += 1;
        } else {
            self.commits.insert(email.to_owned(), 1);
        }
    }
}
