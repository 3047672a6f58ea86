//! What an author says of a job: plain types with defaults, turned into messages where they are sent.

use std::time::Duration;

use crawlwire_protocol::message::{
    DiscoveredJob, DiscoverySummary, ErrorContext, JobCompleted, JobFailed, JobProgress, JobType, JobsDiscovered,
    ProgressData, RequestDetails,
};
use crawlwire_protocol::{Count, Fraction, Millis};

use super::error::ReportError;

/// Bytes of one `jobs_discovered` line: large enough that few are needed, small enough that several are on their way
/// at once.
const DISCOVERED_LINE_BYTES: usize = 256 * 1024;

/// What a `jobs_discovered` line has around its items, generously.
const AROUND_ITEMS_BYTES: usize = 1024;

/// How far a job is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    completion: f64,
    counts: Vec<ProgressData>,
    remaining: Option<Duration>,
}

impl Progress {
    /// A share of the whole, 0 to 1; what is outside is taken for the nearest end, and what is no number for 0.
    pub fn new(completion: f64) -> Self {
        Self {
            completion,
            ..Self::default()
        }
    }

    /// Counts per kind of entity.
    #[must_use]
    pub fn counts(mut self, counts: impl IntoIterator<Item = ProgressData>) -> Self {
        self.counts = counts.into_iter().collect();
        self
    }

    /// How long it may still take.
    #[must_use]
    pub fn remaining(mut self, remaining: Duration) -> Self {
        self.remaining = Some(remaining);
        self
    }

    pub(super) fn into_message(self, job_type: JobType, elapsed: Duration) -> JobProgress {
        // `clamp` passes on what is no number, and that is no fraction.
        let completion = Fraction::try_from(self.completion.clamp(0.0, 1.0)).unwrap_or_default();
        JobProgress {
            progress: self.counts,
            overall_completion: completion,
            time_elapsed: elapsed.into(),
            estimated_time_remaining: self.remaining.map(Millis::from),
            job_type: Some(job_type.to_string()),
        }
    }
}

impl From<f64> for Progress {
    fn from(completion: f64) -> Self {
        Self::new(completion)
    }
}

/// How a job ended well.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Completion {
    summary: String,
    counts: Option<Vec<ProgressData>>,
    files: Vec<String>,
}

impl Completion {
    /// A sentence for people.
    pub fn new(summary: impl Into<String>) -> Self {
        Self {
            summary: summary.into(),
            ..Self::default()
        }
    }

    /// The totals. Default: the counts of the newest progress.
    #[must_use]
    pub fn counts(mut self, counts: impl IntoIterator<Item = ProgressData>) -> Self {
        self.counts = Some(counts.into_iter().collect());
        self
    }

    /// Files that were written, as you name them.
    #[must_use]
    pub fn files(mut self, files: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.files = files.into_iter().map(Into::into).collect();
        self
    }

    pub(super) fn into_message(self, job_type: JobType, took: Duration, newest: Vec<ProgressData>) -> JobCompleted {
        JobCompleted {
            job_type: job_type.to_string(),
            final_counts: self.counts.unwrap_or(newest),
            total_duration: took.into(),
            output_files: self.files,
            summary: self.summary,
        }
    }
}

impl From<&str> for Completion {
    fn from(summary: &str) -> Self {
        Self::new(summary)
    }
}

impl From<String> for Completion {
    fn from(summary: String) -> Self {
        Self::new(summary)
    }
}

/// How a job ended badly.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    context: ErrorContext,
    partial: Option<Vec<ProgressData>>,
    advice: Option<String>,
}

impl Failure {
    /// A short name such as `HttpError`, and a sentence for people. Trying again may help, unless said otherwise.
    pub fn new(error_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            context: ErrorContext {
                error_type: error_type.into(),
                error_message: message.into(),
                stack_trace: None,
                request_details: None,
                retry_count: Count::default(),
                is_recoverable: true,
            },
            partial: None,
            advice: None,
        }
    }

    /// Trying again will not help: the job fails for good.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.context.is_recoverable = false;
        self
    }

    /// The request that failed. Leave secrets out.
    #[must_use]
    pub fn request(mut self, request: RequestDetails) -> Self {
        self.context.request_details = Some(request);
        self
    }

    /// How often you tried yourself.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.context.retry_count = retries.into();
        self
    }

    /// Where in your code.
    #[must_use]
    pub fn stack_trace(mut self, trace: impl Into<String>) -> Self {
        self.context.stack_trace = Some(trace.into());
        self
    }

    /// What had been done by then. Default: the counts of the newest progress.
    #[must_use]
    pub fn partial_results(mut self, counts: impl IntoIterator<Item = ProgressData>) -> Self {
        self.partial = Some(counts.into_iter().collect());
        self
    }

    /// Advice for people.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    pub(super) fn into_message(self, job_type: JobType, newest: Vec<ProgressData>) -> JobFailed {
        JobFailed {
            job_type: job_type.to_string(),
            error_context: self.context,
            partial_results: self.partial.or_else(|| (!newest.is_empty()).then_some(newest)),
            recovery_suggestion: self.advice,
        }
    }
}

impl<E: std::error::Error> From<&E> for Failure {
    /// The error with all its causes. Its type's name becomes the name of the failure.
    fn from(error: &E) -> Self {
        let name = std::any::type_name::<E>().rsplit("::").next().unwrap_or_default();
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Self::new(name, message)
    }
}

/// Found jobs in messages that each fit in a line of `line_bytes_max`. The summary goes with the last one.
pub(super) fn discovered(
    jobs: Vec<DiscoveredJob>,
    summary: DiscoverySummary,
    line_bytes_max: usize,
) -> Result<Vec<JobsDiscovered>, ReportError> {
    let room = line_bytes_max
        .min(DISCOVERED_LINE_BYTES)
        .saturating_sub(AROUND_ITEMS_BYTES);
    let mut messages = Vec::new();
    let (mut items, mut bytes) = (Vec::new(), 0);
    for job in jobs {
        let size = size_of_item(&job)?;
        if size > line_bytes_max.saturating_sub(AROUND_ITEMS_BYTES) {
            return Err(ReportError::TooLarge {
                bytes: size,
                limit: line_bytes_max,
            });
        }
        if bytes + size > room && !items.is_empty() {
            messages.push(message(std::mem::take(&mut items), DiscoverySummary::default()));
            bytes = 0;
        }
        bytes += size;
        items.push(job);
    }
    messages.push(message(items, summary));
    Ok(messages)
}

fn message(discovered_jobs: Vec<DiscoveredJob>, discovery_summary: DiscoverySummary) -> JobsDiscovered {
    JobsDiscovered {
        discovered_jobs,
        discovery_summary,
    }
}

/// Bytes of one item in a line, with its comma.
fn size_of_item(job: &DiscoveredJob) -> Result<usize, ReportError> {
    let mut counted = Counted(0);
    DiscoveredJob::serialize(job, &mut serde_json::Serializer::new(&mut counted))
        .map_err(|error| ReportError::NotWritable(error.to_string()))?;
    Ok(counted.0 + 1)
}

/// Counts what is written.
struct Counted(usize);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: usize) -> DiscoveredJob {
        DiscoveredJob {
            job_type: JobType::CrawlProject,
            entity_id: number.to_string(),
            namespace_path: format!("group/{}", "x".repeat(number % 700)),
            entity_name: "A \"name\"".to_owned(),
            priority: 1.0,
            estimated_size: None,
        }
    }

    #[test]
    fn found_jobs_are_cut_into_lines_that_fit() {
        let jobs: Vec<_> = (0..1000).map(job).collect();
        let summary = DiscoverySummary {
            total_projects: Some(1000_u32.into()),
            ..DiscoverySummary::default()
        };
        for limit in [4096, 65_536, 1 << 20] {
            let messages = discovered(jobs.clone(), summary.clone(), limit).unwrap();
            let sizes = messages.iter().map(|it| serde_json::to_vec(it).unwrap().len() + 400);
            assert!(sizes.into_iter().all(|size| size < limit), "{limit}");
            let (last, others) = messages.split_last().unwrap();
            assert_eq!(last.discovery_summary, summary);
            assert!(
                others
                    .iter()
                    .all(|it| it.discovery_summary == DiscoverySummary::default())
            );
            let all: Vec<_> = messages.into_iter().flat_map(|it| it.discovered_jobs).collect();
            assert_eq!(all, jobs, "{limit}");
        }
    }

    #[test]
    fn one_job_that_fits_nowhere_is_told() {
        let mut huge = job(1);
        huge.entity_name = "x".repeat(5000);
        let refused = discovered(vec![huge], DiscoverySummary::default(), 4096);
        assert!(matches!(refused, Err(ReportError::TooLarge { limit: 4096, .. })));
        assert_eq!(
            discovered(Vec::new(), DiscoverySummary::default(), 4096).unwrap().len(),
            1
        );
    }

    #[test]
    fn completion_is_a_share_whatever_is_said() {
        let of = |completion| {
            let message = Progress::new(completion).into_message(JobType::CrawlUser, Duration::ZERO);
            message.overall_completion.get()
        };
        assert_eq!([of(-1.0), of(0.5), of(7.0), of(f64::NAN)], [0.0, 0.5, 1.0, 0.0]);
    }

    #[test]
    fn an_error_becomes_a_failure_with_its_causes() {
        let error = super::super::InstanceError::Io {
            path: "a".into(),
            error: std::io::Error::other("full"),
        };
        let failure = Failure::from(&error)
            .permanent()
            .into_message(JobType::CrawlUser, Vec::new());
        assert_eq!(failure.error_context.error_type, "InstanceError");
        assert_eq!(failure.error_context.error_message, "a: full");
        assert!(!failure.error_context.is_recoverable);
    }
}
