//! `crawl_group`: what the repositories below a folder add up to.

use crawlwire_transport::client::JobHandle;
use serde::Serialize;

use crate::failure::{End, Failure};
use crate::jobs::{self, Context};
use crate::report::{Done, Reporter};
use crate::walk::Project;

/// A line of `projects.ndjson`.
#[derive(Debug, Serialize)]
struct Size<'a> {
    path: &'a str,
    commits: u64,
    size_bytes: u64,
}

pub(crate) fn run(context: &Context, job: &JobHandle, reporter: &mut Reporter) -> Result<Done, End> {
    let start = context.root.resolve(jobs::path(job).unwrap_or("."))?;
    let mut found = context.root.walk(&start.folder, reporter.stop())?;
    reporter.expect("projects", found.projects.len() as u64);

    let mut file = context.output.file("group", &start.name, "projects")?;
    let (mut commits, mut size_bytes) = (0, 0);
    for project in std::mem::take(&mut found.projects) {
        match measure(&project) {
            Ok(size) => {
                commits += size.commits;
                size_bytes += size.size_bytes;
                file.write(&size)?;
                reporter.step("projects")?;
            }
            // One broken repository does not spoil the sum; it stays discovered and not processed.
            Err(failure) => found.skip(project.path.clone(), failure.message()),
        }
        reporter.pause();
    }
    let mut summary = format!(
        "{} projects, {commits} commits, {} KiB",
        reporter.processed("projects"),
        size_bytes / 1024
    );
    if let Some(first) = found.skipped.first() {
        summary += &format!(
            "; {} places skipped ({}: {})",
            found.skipped_total, first.path, first.reason
        );
    }
    let output_files = vec![file.finish()?];
    Ok(Done { summary, output_files })
}

fn measure(project: &Project) -> Result<Size<'_>, Failure> {
    Ok(Size {
        path: &project.path,
        commits: project.repository.count_commits()?,
        size_bytes: project.repository.size_bytes()?,
    })
}
