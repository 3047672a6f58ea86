//! Jobs and tokens that a store is given.

use crawlwire_protocol::AccessToken;
use crawlwire_protocol::message::DiscoveredJob;

use crate::ids::Timestamp;
use crate::job::JobLimits;
use crate::view::JobSpec;

/// A job to be created.
#[derive(Clone)]
pub struct NewJob {
    /// Its name outside, made by the caller (a UUIDv7).
    pub public_id: String,
    /// The web app's own name for it.
    pub web_app_job_id: Option<String>,
    /// The account's name; created when unknown.
    pub account_id: String,
    /// What it is about.
    pub spec: JobSpec,
    /// A token for this account and host; replaces an earlier one.
    pub access_token: Option<AccessToken>,
    /// Whether the first assignment already asks to go on.
    pub resume: bool,
    /// When it may run; at once when none, or past.
    pub run_at: Option<Timestamp>,
    /// Its own numbers.
    pub limits: JobLimits,
    /// By which a repeated submission is known; none when each is a new one.
    pub once: Option<Once>,
    /// What it is expected to be, in items, by the history of its type; 0 if nobody can say.
    pub weight: u64,
}

/// A token for an account on a host, in place of the one that is kept.
#[derive(Clone)]
pub struct NewCredential {
    /// The account's name; created when unknown.
    pub account_id: String,
    /// The host.
    pub host: String,
    /// The token; none to forget the one that is kept.
    pub token: Option<AccessToken>,
}

impl std::fmt::Debug for NewCredential {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter
            .debug_struct("NewCredential")
            .field("account_id", &self.account_id)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// What makes a submission that is repeated the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// Unique over all jobs, as long as the job is there.
    pub key: String,
    /// Tells whether the same is asked for again.
    pub fingerprint: i64,
}

impl NewJob {
    /// A job to be run at once, without a token, with the server's numbers, of which nothing is expected.
    pub fn new(public_id: impl Into<String>, account_id: impl Into<String>, spec: JobSpec) -> Self {
        Self {
            public_id: public_id.into(),
            web_app_job_id: None,
            account_id: account_id.into(),
            spec,
            access_token: None,
            resume: false,
            run_at: None,
            limits: JobLimits::default(),
            once: None,
            weight: 0,
        }
    }
}

impl std::fmt::Debug for NewJob {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter
            .debug_struct("NewJob")
            .field("public_id", &self.public_id)
            .finish_non_exhaustive()
    }
}

/// An item that a job found, and that may become a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The public id it gets if it becomes one.
    pub public_id: String,
    /// What was found.
    pub item: DiscoveredJob,
    /// What such a job is expected to be, in items, by the history of its type; 0 if nobody can say.
    pub weight: u64,
}
