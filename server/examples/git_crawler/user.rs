//! `crawl_user`: the commits of one author, in all repositories below the root.
//!
//! The checkpoint is the place in the file after a repository: a later attempt goes on with the next one.

use crawlwire_transport::client::JobHandle;
use serde::{Deserialize, Serialize};

use crate::discover::EMAIL_BYTES_MAX;
use crate::failure::{End, Failure};
use crate::jobs::{self, Context};
use crate::output::{Mark, NdjsonFile};
use crate::record::Commit;
use crate::report::{Done, Reporter};
use crate::walk::{Found, Project};

/// Where to go on.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    /// The last repository that is in the file up to the mark.
    after: String,
    projects: u64,
    commits: u64,
    mark: Mark,
}

pub(crate) fn run(context: &Context, job: &JobHandle, reporter: &mut Reporter) -> Result<Done, End> {
    let email = jobs::entity(job).filter(|email| email.len() <= EMAIL_BYTES_MAX);
    let email = email.ok_or_else(|| Failure::assignment("it names no user"))?;
    let mut found = context.root.walk(context.root.path(), reporter.stop())?;
    reporter.expect("projects", found.projects.len() as u64);

    let place = job.last_checkpoint::<Place>().ok().flatten();
    let begun = place.and_then(|place| {
        let file = context.output.go_on("user", email, "commits", &place.mark)?;
        Some((place, file))
    });
    let mut file = match begun {
        Some((place, file)) => {
            found.projects.retain(|project| project.path > place.after);
            reporter.go_on("projects", Some(place.projects));
            reporter.go_on("commits", Some(place.commits));
            file
        }
        None => context.output.file("user", email, "commits")?,
    };
    if let Err(end) = copy_all(&mut found, email, &mut file, reporter) {
        if reporter.may_go_on_after(&end) {
            file.leave();
        }
        return Err(end);
    }
    let commits = reporter.processed("commits");
    if commits == 0 {
        return Err(Failure::not_found(&format!("a commit by {email}")).into());
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

fn copy_all(found: &mut Found, email: &str, file: &mut NdjsonFile, reporter: &mut Reporter) -> Result<(), End> {
    for project in std::mem::take(&mut found.projects) {
        match copy(&project, email, file, reporter)? {
            Ok(()) => {
                let (projects, commits) = (reporter.processed("projects") + 1, reporter.processed("commits"));
                reporter.step_at("projects", || {
                    Ok(Place {
                        after: project.path.clone(),
                        projects,
                        commits,
                        mark: file.mark()?,
                    })
                })?;
            }
            Err(failure) => found.skip(project.path.clone(), failure.message()),
        }
        reporter.pause();
    }
    Ok(())
}

/// Writes the author's commits of one repository. The outer error ends the job, the inner one is the repository's.
fn copy(
    project: &Project,
    email: &str,
    file: &mut NdjsonFile,
    reporter: &mut Reporter,
) -> Result<Result<(), Failure>, End> {
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
            return Err(End::Stopped);
        }
        // Compared here and not with git's --author, which takes a pattern and asks the mailmap.
        if commit.author.email == email {
            commit.project = Some(&project.path);
            file.write(&commit)?;
            reporter.step("commits")?;
        }
    }
}
