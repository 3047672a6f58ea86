//! Why a job ends badly, in the words of `job_failed`.

use std::io;
use std::path::Path;

use crawlwire_protocol::Count;
use crawlwire_protocol::message::ErrorContext;

/// Characters of a message that are sent. Paths and what git says are short; a name in an assignment need not be.
const MESSAGE_CHARS_MAX: usize = 4096;

/// One reason to give up a job.
#[derive(Debug)]
pub(crate) struct Failure {
    error_type: &'static str,
    message: String,
    /// Whether trying again may help. `false` fails the job for good, so say it whenever it is known.
    recoverable: bool,
    advice: Option<&'static str>,
}

impl Failure {
    fn new(error_type: &'static str, recoverable: bool, message: String, advice: Option<&'static str>) -> Self {
        Self {
            error_type,
            message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
            recoverable,
            advice,
        }
    }

    /// There is nothing of that name.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new("NotFound", false, format!("{what} is not there"), None)
    }

    /// The path leaves the folder this crawler was started for.
    pub(crate) fn outside(path: &str) -> Self {
        let message = format!("{path} leads out of the folder this crawler works in");
        Self::new("OutsideRoot", false, message, None)
    }

    /// The assignment does not say what to crawl.
    pub(crate) fn assignment(message: &str) -> Self {
        Self::new("InvalidAssignment", false, message.to_owned(), None)
    }

    /// The folder is there and is not a repository of its own.
    pub(crate) fn not_a_repository(path: &str, reason: &str) -> Self {
        Self::new("NotARepository", false, format!("{path}: {reason}"), None)
    }

    /// git ended badly and said why. The repository will not mend itself, unless git was killed from outside.
    pub(crate) fn git(git_dir: &Path, said: &str, killed: bool) -> Self {
        let message = format!("{}: {said}", git_dir.display());
        Self::new("GitFailed", killed, message, Some("run git fsck in the repository"))
    }

    /// The operating system refused something: a full disk, too many files, no permission. That may change.
    pub(crate) fn io(what: impl std::fmt::Display, error: &io::Error) -> Self {
        Self::new("IoError", true, format!("{what}: {error}"), None)
    }

    /// This crawler is going away; another may do the job.
    pub(crate) fn stopped() -> Self {
        let message = "the crawler was stopped before it had finished".to_owned();
        Self::new("Stopped", true, message, None)
    }

    /// A mistake in this program.
    pub(crate) fn panicked() -> Self {
        Self::new("Panicked", true, "the crawler's own code failed".to_owned(), None)
    }

    /// A sentence for people.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What can be done about it.
    pub(crate) fn advice(&self) -> Option<String> {
        self.advice.map(str::to_owned)
    }

    /// As the wire says it.
    pub(crate) fn to_context(&self) -> ErrorContext {
        ErrorContext {
            error_type: self.error_type.to_owned(),
            error_message: self.message.clone(),
            stack_trace: None,
            request_details: None,
            retry_count: Count::default(),
            is_recoverable: self.recoverable,
        }
    }
}
