//! The four types of jobs, one function each. They run on a thread of their own and may block.

use std::time::Duration;

use crawlwire_protocol::message::JobType;
use crawlwire_transport::client::{Completion, Job, JobHandle, ReportError, StopReason};
use tokio::runtime::Handle;

use crate::failure::End;
use crate::output::Output;
use crate::report::{Done, Reporter, Tally};
use crate::walk::Root;
use crate::{discover, group, project, user};

/// What every job works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) root: Root,
    pub(crate) output: Output,
    /// The pause after some entities.
    pub(crate) slow: Duration,
}

/// What became of a job.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done {
        summary: String,
        counts: Vec<Tally>,
        took: Duration,
    },
    /// Why, for people.
    Failed(String),
    /// It was cancelled or paused, or is somebody else's now; which, for people.
    Left(String),
}

/// The path that a job names: what we once reported as discovered, or what somebody submitted.
pub(crate) fn path(job: &JobHandle) -> Option<&str> {
    given(job.namespace_path()).or(given(job.entity_id()))
}

/// The id that a job names.
pub(crate) fn entity(job: &JobHandle) -> Option<&str> {
    given(job.entity_id()).or(given(job.namespace_path()))
}

fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// A job's name for people.
pub(crate) fn label(job: &JobHandle) -> String {
    let name = path(job).unwrap_or(".");
    format!("{} {}", job.job_type(), name.chars().take(200).collect::<String>())
}

/// Does a job and says how it ended. Should this panic, the client says so.
///
/// Reading local repositories needs neither `job.host()` nor `job.access_token()`.
pub(crate) fn run(context: &Context, job: Job) -> Outcome {
    let runtime = Handle::current();
    let mut reporter = Reporter::new(job.handle(), context.slow);
    let result = match job.job_type() {
        JobType::DiscoverNamespaces => discover::run(context, &job, &mut reporter),
        JobType::CrawlProject => project::run(context, &job, &mut reporter),
        JobType::CrawlGroup => group::run(context, &job, &mut reporter),
        JobType::CrawlUser => user::run(context, &job, &mut reporter),
    };
    reporter.progress();
    let took = job.elapsed();
    let (outcome, settled) = match result {
        Ok(Done { summary, output_files }) => {
            let completion = Completion::new(&summary).files(output_files);
            let counts = reporter.into_counts();
            let outcome = Outcome::Done { summary, counts, took };
            (outcome, runtime.block_on(job.complete(completion)))
        }
        Err(End::Failed(failure)) => {
            let outcome = Outcome::Failed(failure.to_string());
            (outcome, runtime.block_on(job.fail(failure)))
        }
        Err(End::Stopped) => {
            let why = match job.stop_reason() {
                Some(StopReason::Cancel) => "cancelled",
                Some(StopReason::Pause) => "paused",
                _ => "given back",
            };
            (Outcome::Left(why.to_owned()), runtime.block_on(job.stopped()))
        }
    };
    match settled {
        Ok(()) => outcome,
        Err(ReportError::Lost) => Outcome::Left("it is another crawler's by now".to_owned()),
        Err(error) => Outcome::Left(error.to_string()),
    }
}
