//! Lists: `?limit=&cursor=` in, `{"items", "next_cursor"}` out.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use crawlwire_progress::State as JobState;
use crawlwire_progress::store::{ErrorFilter, JobFilter, Paging, SEARCH_CHARS_MAX};
use crawlwire_progress::view::Page;
use crawlwire_protocol::explain::Violation;
use crawlwire_protocol::message::JobType;
use crawlwire_protocol::{Category, Severity, normalise_host};
use serde_json::{Map, Value, json};

use super::problem::Problem;

/// Items of a page unless asked otherwise, and at most.
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 500;

/// Characters that the record keeps of a condition.
const CONDITION_CHARS_MAX: usize = 1000;

/// What a job's `status` may be.
const STATUSES: [&str; 7] = [
    "queued",
    "assigned",
    "running",
    "paused",
    "completed",
    "failed",
    "cancelled",
];

/// Where a list goes on.
pub(super) struct ListQuery(pub(super) Paging);

/// Which jobs a list shows, and where it goes on.
pub(super) struct JobListQuery {
    pub(super) filter: JobFilter,
    /// A submitted job, by name; its row belongs into the filter.
    pub(super) root_id: Option<String>,
    pub(super) shown: Shown,
}

/// Where a list of jobs goes on, and what it shows of each.
#[derive(Clone, Copy)]
pub(super) struct Shown {
    pub(super) paging: Paging,
    /// Whether each job has its progress beside it.
    pub(super) with_progress: bool,
}

/// Which errors a list shows, and where it goes on. The job is named as the request names it.
pub(super) struct ErrorListQuery {
    pub(super) filter: ErrorFilter,
    pub(super) paging: Paging,
}

impl<S: Send + Sync> FromRequestParts<S> for ListQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut query = Parameters::read(parts, state).await?;
        let paging = query.paging();
        query.finish(Self(paging))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for JobListQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut query = Parameters::read(parts, state).await?;
        let (filter, root_id) = query.job_filter();
        let shown = query.shown();
        query.finish(Self { filter, root_id, shown })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Shown {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut query = Parameters::read(parts, state).await?;
        let shown = query.shown();
        query.finish(shown)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ErrorListQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut query = Parameters::read(parts, state).await?;
        let filter = ErrorFilter {
            categories: query.words("category", &Category::ALL.map(|it| (it.as_str(), it))),
            severities: query.words("severity", &Severity::ALL.map(|it| (it.as_str(), it))),
            job: query.text("job_id"),
        };
        let paging = query.paging();
        query.finish(Self { filter, paging })
    }
}

/// Which jobs an act is about, as a part of its body says it in the words of a list.
pub(super) struct JobCondition {
    pub(super) filter: JobFilter,
    pub(super) root_id: Option<String>,
    /// The same as text, for the record.
    pub(super) text: String,
}

impl JobCondition {
    /// Reads the object `part` of a body.
    pub(super) fn read(part: &str, object: Map<String, Value>) -> Result<Self, Vec<Violation>> {
        let mut query = Parameters {
            place: format!("/{part}"),
            given: BTreeMap::new(),
            violations: Vec::new(),
        };
        for (name, value) in object {
            match value {
                Value::Null => {}
                Value::String(text) => drop(query.given.insert(name, text)),
                _ => query.refuse(&name, "expected a string"),
            }
        }
        query.given.retain(|_, text| !text.is_empty());
        let words: Vec<_> = query
            .given
            .iter()
            .map(|(name, text)| format!("{name}={text}"))
            .collect();
        if words.is_empty() && query.violations.is_empty() {
            query
                .violations
                .push(Violation::new(format!("/{part}"), "expected a condition at least"));
        }
        let (filter, root_id) = query.job_filter();
        let text = words.join(" ").chars().take(CONDITION_CHARS_MAX).collect();
        query.check(Self { filter, root_id, text })
    }
}

/// The parameters of a query. One that is empty counts as absent; one that nobody takes is refused, since a filter with a
/// slip in its name would show everything.
pub(super) struct Parameters {
    /// Where they are in the request.
    place: String,
    given: BTreeMap<String, String>,
    violations: Vec<Violation>,
}

impl Parameters {
    pub(super) async fn read<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(given) = Query::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::invalid(vec![Violation::new("", "the query cannot be read")]))?;
        Ok(Self {
            place: String::new(),
            given,
            violations: Vec::new(),
        })
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.given.remove(name).filter(|text| !text.is_empty())
    }

    pub(super) fn refuse(&mut self, name: &str, message: impl Into<String>) {
        self.violations
            .push(Violation::new(format!("{}/{name}", self.place), message));
    }

    fn paging(&mut self) -> Paging {
        let limit = match self.take("limit").map(|text| text.parse()) {
            None => LIMIT_DEFAULT,
            Some(Ok(limit)) if (1..=LIMIT_MAX).contains(&limit) => limit,
            Some(_) => {
                self.refuse("limit", format!("expected a number from 1 to {LIMIT_MAX}"));
                LIMIT_DEFAULT
            }
        };
        let after = match self.take("cursor").map(|text| text.parse()) {
            None => None,
            Some(Ok(after)) => Some(after),
            Some(Err(_)) => {
                self.refuse("cursor", "expected the next_cursor of a page");
                None
            }
        };
        Paging { limit, after }
    }

    /// A text that can be looked for.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let text = self.take(name)?;
        let fits = !text.contains('\0');
        if !fits {
            self.refuse(name, "a NUL character cannot be stored");
        }
        fits.then_some(text)
    }

    fn host(&mut self, name: &str) -> Option<String> {
        let host = normalise_host(&self.text(name)?);
        host.map_err(|error| self.refuse(name, error.to_string())).ok()
    }

    /// Words between commas, each one of those that are known.
    pub(super) fn words<T: Copy>(&mut self, name: &str, known: &[(&str, T)]) -> Vec<T> {
        let text = self.take(name).unwrap_or_default();
        let words = text.split(',').filter(|word| !word.is_empty());
        let find = |word: &str| known.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        let found: Option<Vec<_>> = words.map(find).collect();
        found.unwrap_or_else(|| {
            let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            self.refuse(
                name,
                format!("expected one of {}, or some between commas", names.join(", ")),
            );
            Vec::new()
        })
    }

    /// Each status stands for one state or two.
    fn states(&mut self) -> Vec<JobState> {
        let statuses = STATUSES.map(|status| (status, status));
        let statuses: BTreeSet<_> = self.words("status", &statuses).into_iter().collect();
        statuses.into_iter().flat_map(JobState::with_web_status).collect()
    }

    fn shown(&mut self) -> Shown {
        let with_progress = match self.take("progress").as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                self.refuse("progress", "expected true or false");
                false
            }
        };
        Shown {
            paging: self.paging(),
            with_progress,
        }
    }

    /// What a list of jobs can be asked for, and the name of the submitted job, whose row the filter wants.
    fn job_filter(&mut self) -> (JobFilter, Option<String>) {
        let filter = JobFilter {
            states: self.states(),
            account_id: self.text("account_id"),
            job_types: self.words("job_type", &JobType::ALL.map(|it| (it.as_str(), it))),
            host: self.host("gitlab_host"),
            tag: self.text("tag"),
            text: self.text("q"),
            parent: None,
            root: None,
        };
        let length = filter.text.as_ref().map_or(0, |text| text.chars().count());
        if length > SEARCH_CHARS_MAX {
            self.refuse("q", format!("expected at most {SEARCH_CHARS_MAX} characters"));
        }
        (filter, self.text("root_id"))
    }

    pub(super) fn finish<T>(self, query: T) -> Result<T, Problem> {
        self.check(query).map_err(Problem::invalid)
    }

    fn check<T>(mut self, query: T) -> Result<T, Vec<Violation>> {
        let left: Vec<_> = self.given.keys().cloned().collect();
        for name in left {
            self.refuse(
                &name.replace('~', "~0").replace('/', "~1"),
                "there is no such parameter",
            );
        }
        if self.violations.is_empty() {
            Ok(query)
        } else {
            Err(self.violations)
        }
    }
}

/// One page as JSON. The cursor is a string, so that nobody calculates with it.
pub(super) fn page<T>(page: Page<T>, item: impl Fn(&T) -> Value) -> Json<Value> {
    let items: Vec<_> = page.items.iter().map(item).collect();
    Json(json!({ "items": items, "next_cursor": page.next.map(|next| next.to_string()) }))
}
