//! Lists: `?limit=&cursor=` in, `{"items", "next_cursor"}` out.

use axum::Json;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use crawlwire_progress::store::Paging;
use crawlwire_progress::view::Page;
use crawlwire_protocol::explain::Violation;
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::Problem;

/// Items of a page unless asked otherwise, and at most.
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 500;

/// What a list is asked for.
pub(super) struct ListQuery {
    pub(super) status: Option<String>,
    pub(super) account_id: Option<String>,
    pub(super) paging: Paging,
}

#[derive(Deserialize)]
struct Raw {
    status: Option<String>,
    account_id: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for ListQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(raw) = Query::<Raw>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::invalid(vec![Violation::new("", "the query cannot be read")]))?;
        let mut violations = Vec::new();
        let limit = match raw
            .limit
            .as_deref()
            .filter(|text| !text.is_empty())
            .map(str::parse::<usize>)
        {
            None => LIMIT_DEFAULT,
            Some(Ok(limit)) if (1..=LIMIT_MAX).contains(&limit) => limit,
            Some(_) => {
                violations.push(Violation::new(
                    "/limit",
                    format!("expected a number from 1 to {LIMIT_MAX}"),
                ));
                LIMIT_DEFAULT
            }
        };
        let after = match raw
            .cursor
            .as_deref()
            .filter(|text| !text.is_empty())
            .map(str::parse::<i64>)
        {
            None => None,
            Some(Ok(after)) => Some(after),
            Some(Err(_)) => {
                violations.push(Violation::new("/cursor", "expected the next_cursor of a page"));
                None
            }
        };
        if raw.account_id.as_deref().is_some_and(|id| id.contains('\0')) {
            violations.push(Violation::new("/account_id", "a NUL character cannot be stored"));
        }
        if violations.is_empty() {
            let present = |text: Option<String>| text.filter(|text| !text.is_empty());
            let (status, account_id) = (present(raw.status), present(raw.account_id));
            Ok(Self {
                status,
                account_id,
                paging: Paging { limit, after },
            })
        } else {
            Err(Problem::invalid(violations))
        }
    }
}

/// One page as JSON. The cursor is a string, so that nobody calculates with it.
pub(super) fn page<T>(page: Page<T>, item: impl Fn(&T) -> Value) -> Json<Value> {
    let items: Vec<_> = page.items.iter().map(item).collect();
    Json(json!({ "items": items, "next_cursor": page.next.map(|next| next.to_string()) }))
}
