//! The four types of jobs, one function each. They run on a thread of their own and may block.

use crawlwire_protocol::JobId;
use crawlwire_protocol::message::{JobAssignment, JobType};

use crate::output::Output;
use crate::report::{Reporter, Reporting};
use crate::walk::Root;
use crate::{discover, group, project, user};

/// What every job works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) root: Root,
    pub(crate) output: Output,
}

/// An assignment as far as we need it.
///
/// Reading local repositories needs neither host nor token, so the token is dropped here, at the door. A crawler that
/// does need it should hold it as the `AccessToken` it came in and ask for another with `token_refresh_request`.
/// `resume` is dropped too: reading begins again, as that takes seconds and gives the same files.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) job: JobId,
    pub(crate) job_type: JobType,
    entity_id: Option<String>,
    namespace_path: Option<String>,
}

impl Task {
    /// The task; `None` when the assignment has no job id to answer with.
    pub(crate) fn new(assignment: JobAssignment) -> Option<Self> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Some(Self {
            job: JobId::new(assignment.job_id)?,
            job_type: assignment.job_type,
            entity_id: given(assignment.entity_id),
            namespace_path: given(assignment.namespace_path),
        })
    }

    /// The path it names: what we once sent with `jobs_discovered`, or what somebody submitted.
    pub(crate) fn path(&self) -> Option<&str> {
        self.namespace_path.as_deref().or(self.entity_id.as_deref())
    }

    /// The id it names.
    pub(crate) fn entity(&self) -> Option<&str> {
        self.entity_id.as_deref().or(self.namespace_path.as_deref())
    }

    /// For people.
    pub(crate) fn label(&self) -> String {
        let name = self.path().unwrap_or(".");
        format!("{} {}", self.job_type, name.chars().take(200).collect::<String>())
    }
}

/// Does a job and says how it ended.
pub(crate) fn run(context: &Context, task: &Task, reporting: Reporting) {
    let path = task.path().map(str::to_owned);
    let mut reporter = Reporter::start(reporting, task.job.clone(), task.job_type, path);
    let result = match task.job_type {
        JobType::DiscoverNamespaces => discover::run(context, task, &mut reporter),
        JobType::CrawlProject => project::run(context, task, &mut reporter),
        JobType::CrawlGroup => group::run(context, task, &mut reporter),
        JobType::CrawlUser => user::run(context, task, &mut reporter),
    };
    reporter.finish(result);
}
