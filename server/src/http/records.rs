//! What was done by whom, and the places that accounts may see.

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use crawlwire_progress::StoreError;
use crawlwire_progress::store::Paging;
use crawlwire_progress::view::{AuditView, Page};
use futures_util::stream;
use serde_json::Value;

use super::list::{ListQuery, page};
use super::problem::Problem;
use super::{Api, json};

const NDJSON: &str = "application/x-ndjson";

/// Rows of the record that an export reads at a time, whatever its length.
const EXPORT_ROWS: usize = 500;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/audit", routing::get(audit))
        .route("/accounts/{account_id}/areas", routing::get(areas))
}

/// One page, or all of it from here on as lines of JSON.
async fn audit(State(api): State<Api>, headers: HeaderMap, ListQuery(paging): ListQuery) -> Result<Response, Problem> {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let as_lines = accepts.is_some_and(|accepts| {
        accepts
            .split(',')
            .any(|kind| kind.split(';').next().unwrap_or_default().trim() == NDJSON)
    });
    if !as_lines {
        return Ok(page(api.store.audit(paging).await?, json::audit).into_response());
    }
    let paging = Paging {
        limit: EXPORT_ROWS,
        ..paging
    };
    // The first page is read before the answer begins, so that a database that is away is still an answer.
    let first = api.store.audit(paging).await?;
    Ok(([(header::CONTENT_TYPE, NDJSON)], export(api, first)).into_response())
}

/// Page after page, as fast as the reader takes them. An error on the way breaks the connection off, so that half of the
/// record is not taken for the whole.
fn export(api: Api, first: Page<AuditView>) -> Body {
    Body::from_stream(stream::try_unfold(Some(Ok(first)), move |page| {
        let api = api.clone();
        async move {
            let page = match page {
                None => return Ok::<_, StoreError>(None),
                Some(Ok(first)) => first,
                Some(Err(after)) => {
                    let paging = Paging {
                        limit: EXPORT_ROWS,
                        after: Some(after),
                    };
                    api.store.audit(paging).await?
                }
            };
            let lines: String = page
                .items
                .iter()
                .map(|entry| format!("{}\n", json::audit(entry)))
                .collect();
            Ok(Some((Bytes::from(lines), page.next.map(Err))))
        }
    }))
}

async fn areas(
    State(api): State<Api>,
    Path(account_id): Path<String>,
    ListQuery(paging): ListQuery,
) -> Result<Json<Value>, Problem> {
    // Nobody is called so, and PostgreSQL refuses to look for it.
    if account_id.contains('\0') {
        return Err(Problem::not_found("account"));
    }
    Ok(page(api.store.areas(&account_id, paging).await?, json::area))
}
