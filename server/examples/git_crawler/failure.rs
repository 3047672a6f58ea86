//! Why a job ends before it is done.

use std::fmt;
use std::io;
use std::path::Path;

use crawlwire_transport::client::{self, ReportError};

/// Characters of a message that are sent. Paths and what git says are short; a name in an assignment need not be.
const MESSAGE_CHARS_MAX: usize = 4096;

/// Why a job ends before it is done.
#[derive(Debug)]
pub(crate) enum End {
    /// It was told to stop.
    Stopped,
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<ReportError> for End {
    fn from(error: ReportError) -> Self {
        match error {
            // The job is not ours any more, or there is no way left to speak of it.
            ReportError::Lost | ReportError::Closed(_) => Self::Stopped,
            error => Self::Failed(Failure::new("ReportFailed", false, error.to_string(), None)),
        }
    }
}

/// One reason to give up a job.
#[derive(Debug)]
pub(crate) struct Failure {
    error_type: &'static str,
    message: String,
    /// Whether trying again may help. `false` fails the job for good, so say it whenever it is known.
    pub(crate) recoverable: bool,
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
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::new("IoError", true, format!("{what}: {error}"), None)
    }

    /// A sentence for people.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}: {}", self.error_type, self.message)
    }
}

impl From<Failure> for client::Failure {
    fn from(failure: Failure) -> Self {
        let mut said = Self::new(failure.error_type, failure.message);
        if let Some(advice) = failure.advice {
            said = said.advice(advice);
        }
        if failure.recoverable { said } else { said.permanent() }
    }
}
