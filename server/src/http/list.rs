//! Lists: `?limit=&cursor=` in, `{"items", "next_cursor"}` out.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use crawlwire_progress::State as JobState;
use crawlwire_progress::store::Paging;
use crawlwire_progress::view::Page;
use crawlwire_protocol::explain::Violation;
use serde_json::{Value, json};

use super::problem::Problem;

/// Items of a page unless asked otherwise, and at most.
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 500;

/// Where a list goes on.
pub(super) struct ListQuery(pub(super) Paging);

/// Which jobs a list shows, and where it goes on.
pub(super) struct JobListQuery {
    /// Any state when empty.
    pub(super) states: Vec<JobState>,
    pub(super) account_id: Option<String>,
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
        let states = query.states();
        let account_id = query.take("account_id");
        if account_id.as_deref().is_some_and(|id| id.contains('\0')) {
            query.refuse("account_id", "a NUL character cannot be stored");
        }
        let paging = query.paging();
        query.finish(Self {
            states,
            account_id,
            paging,
        })
    }
}

/// The parameters of a query. One that is empty counts as absent; one that nobody takes is refused, since a filter with a
/// slip in its name would show everything.
struct Parameters {
    given: BTreeMap<String, String>,
    violations: Vec<Violation>,
}

impl Parameters {
    async fn read<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(given) = Query::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::invalid(vec![Violation::new("", "the query cannot be read")]))?;
        Ok(Self {
            given,
            violations: Vec::new(),
        })
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.given.remove(name).filter(|text| !text.is_empty())
    }

    fn refuse(&mut self, name: &str, message: impl Into<String>) {
        self.violations.push(Violation::new(format!("/{name}"), message));
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

    fn states(&mut self) -> Vec<JobState> {
        let Some(status) = self.take("status") else {
            return Vec::new();
        };
        let states = JobState::with_web_status(&status);
        if states.is_empty() {
            let words = "expected one of queued, assigned, running, paused, completed, failed, cancelled";
            self.refuse("status", words);
        }
        states
    }

    fn finish<T>(mut self, query: T) -> Result<T, Problem> {
        let left: Vec<_> = self.given.keys().cloned().collect();
        for name in left {
            self.refuse(&name, "this list has no such parameter");
        }
        if self.violations.is_empty() {
            Ok(query)
        } else {
            Err(Problem::invalid(self.violations))
        }
    }
}

/// One page as JSON. The cursor is a string, so that nobody calculates with it.
pub(super) fn page<T>(page: Page<T>, item: impl Fn(&T) -> Value) -> Json<Value> {
    let items: Vec<_> = page.items.iter().map(item).collect();
    Json(json!({ "items": items, "next_cursor": page.next.map(|next| next.to_string()) }))
}
