//! Which rows a list shows.

use crawlwire_protocol::error::{Category, Severity};
use crawlwire_protocol::message::JobType;

use crate::ids::JobKey;
use crate::job::State;
use crate::view::{ErrorView, JobView};

/// Rows that are looked at for one page, where each has to be looked at: few enough that a page takes some milliseconds
/// however many rows rest, many enough that a million of them are a hundred pages.
pub const LOOKED_AT_MAX: usize = 10_000;

/// Characters of a text that is searched for. No name is longer.
pub const SEARCH_CHARS_MAX: usize = 255;

/// Which jobs a list shows: those that all of these fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// In one of these states; any when empty.
    pub states: Vec<State>,
    /// Of this account, by name.
    pub account_id: Option<String>,
    /// Children of this job.
    pub parent: Option<JobKey>,
    /// This submitted job, and all below it.
    pub root: Option<JobKey>,
    /// Of one of these types; any when empty.
    pub job_types: Vec<JobType>,
    /// On this host, in the one form of [`normalise_host`](crawlwire_protocol::normalise_host).
    pub host: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// With this text in the public id, the web app's name for it, the entity's id or path, or the account's name. Letters of
    /// ASCII count as the same, large or small.
    pub text: Option<String>,
}

impl JobFilter {
    /// Whether a job fits. `parent` and `root` are the rows of those.
    pub fn fits(&self, job: &JobView, parent: Option<JobKey>, root: JobKey) -> bool {
        let spec = &job.spec;
        (self.states.is_empty() || self.states.contains(&job.state))
            && (self.job_types.is_empty() || self.job_types.contains(&spec.job_type))
            && self.parent.is_none_or(|meant| parent == Some(meant))
            && self.root.is_none_or(|meant| root == meant)
            && is_or_any(&self.account_id, &job.account_id)
            && is_or_any(&self.host, &spec.host)
            && self.tag.as_ref().is_none_or(|tag| spec.tags.contains(tag))
            && self.text.as_ref().is_none_or(|text| holds(job, text))
    }
}

fn is_or_any(meant: &Option<String>, is: &str) -> bool {
    meant.as_deref().is_none_or(|meant| meant == is)
}

fn holds(job: &JobView, text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let spec = &job.spec;
    let names = [&job.public_id, &job.web_app_job_id, &job.account_id].into_iter();
    let mut names = names.chain(&spec.entity_id).chain(&spec.namespace_path);
    names.any(|name| name.to_ascii_lowercase().contains(&text))
}

/// Which errors a list shows: those that all of these fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorFilter {
    /// Of one of these categories; any when empty.
    pub categories: Vec<Category>,
    /// Of one of these severities; any when empty.
    pub severities: Vec<Severity>,
    /// Of this job, by its public id.
    pub job: Option<String>,
}

impl ErrorFilter {
    /// Whether an error fits.
    pub fn fits(&self, error: &ErrorView) -> bool {
        let mut categories = self.categories.iter();
        let mut severities = self.severities.iter();
        (self.categories.is_empty() || categories.any(|category| category.as_str() == error.category))
            && (self.severities.is_empty() || severities.any(|severity| severity.as_str() == error.severity))
            && (self.job.is_none() || self.job == error.job)
    }
}
