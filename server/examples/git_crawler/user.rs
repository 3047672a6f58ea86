//! `crawl_user`: the commits of one author, in all repositories below the root.

use crate::discover::EMAIL_BYTES_MAX;
use crate::failure::Failure;
use crate::jobs::{Context, Task};
use crate::output::NdjsonFile;
use crate::record::Commit;
use crate::report::{Done, Reporter};
use crate::walk::Project;

pub(crate) fn run(context: &Context, task: &Task, reporter: &mut Reporter) -> Result<Done, Failure> {
    let email = task.entity().filter(|email| email.len() <= EMAIL_BYTES_MAX);
    let email = email.ok_or_else(|| Failure::assignment("it names no user"))?;
    let mut found = context.root.walk(context.root.path(), reporter.stop())?;
    reporter.expect("projects", found.projects.len() as u64);

    let mut file = context.output.file("user", email, "commits")?;
    for project in std::mem::take(&mut found.projects) {
        match copy(&project, email, &mut file, reporter)? {
            Ok(()) => reporter.step("projects")?,
            Err(failure) => found.skip(project.path.clone(), failure.message()),
        }
        reporter.pause();
    }
    let commits = reporter.processed("commits");
    if commits == 0 {
        return Err(Failure::not_found(&format!("a commit by {email}")));
    }
    let mut summary = format!(
        "{commits} commits by {email} in {} projects",
        reporter.processed("projects")
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

/// Writes the author's commits of one repository. The outer error ends the job, the inner one is the repository's.
fn copy(
    project: &Project,
    email: &str,
    file: &mut NdjsonFile,
    reporter: &mut Reporter,
) -> Result<Result<(), Failure>, Failure> {
    let mut records = match project.repository.commits() {
        Ok(records) => records,
        Err(failure) => return Ok(Err(failure)),
    };
    loop {
        let mut commit = match records.next() {
            Ok(Some(record)) => Commit::read(record),
            Ok(None) => return Ok(Ok(())),
            Err(failure) => return Ok(Err(failure)),
        };
        if reporter.stop().is_cancelled() {
            return Err(Failure::stopped());
        }
        // Compared here and not with git's --author, which takes a pattern and asks the mailmap.
        if commit.author.email == email {
            commit.project = Some(&project.path);
            file.write(&commit)?;
            reporter.step("commits")?;
        }
    }
}
