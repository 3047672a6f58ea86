//! Accounts, and the tokens that are kept for them. A token can be given and forgotten; nothing shows one.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::{Json, Router, routing};
use crawlwire_progress::store::NewCredential;
use crawlwire_progress::view::{AccountView, CredentialView};
use crawlwire_protocol::AccessToken;
use serde_json::{Value, json};

use super::acts::{Caller, refused};
use super::body::Fields;
use super::list::{ListQuery, page};
use super::problem::Problem;
use super::{Api, json};

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/accounts", routing::get(list)).route(
        "/accounts/{account_id}/credentials",
        routing::get(credentials).put(keep).delete(forget),
    )
}

type Asked = (State<Api>, Path<String>, Caller, HeaderMap, Bytes);

async fn list(State(api): State<Api>, ListQuery(paging): ListQuery) -> Result<Json<Value>, Problem> {
    Ok(page(api.store.accounts(paging).await?, account))
}

fn account(view: &AccountView) -> Value {
    json!({
        "account_id": view.account_id,
        "created_at": json::time(view.created_at),
        "open_jobs": view.open_jobs,
        "held_jobs": view.held_jobs,
    })
}

async fn find(api: &Api, account_id: &str) -> Result<AccountView, Problem> {
    // Nobody is called so, and PostgreSQL refuses to look for it.
    if account_id.contains('\0') {
        return Err(Problem::not_found("account"));
    }
    let found = api.store.account(account_id).await?;
    found.ok_or_else(|| Problem::not_found("account"))
}

async fn credentials(
    State(api): State<Api>,
    Path(account_id): Path<String>,
    ListQuery(paging): ListQuery,
) -> Result<Json<Value>, Problem> {
    let account = find(&api, &account_id).await?;
    Ok(page(api.store.credentials(account.key, paging).await?, credential))
}

fn credential(view: &CredentialView) -> Value {
    let token = match view.is_set {
        Some(true) => "set",
        Some(false) => "removed",
        None => "unreadable",
    };
    json!({
        "gitlab_host": view.host,
        "token": token,
        "version": view.version,
        "updated_at": json::time(view.updated_at),
    })
}

/// An account is made when it is new, as by a submission.
async fn keep((State(api), Path(account_id), caller, headers, body): Asked) -> Result<Json<Value>, Problem> {
    let mut fields = Fields::of(&headers, &body)?;
    let by = caller.or(&mut fields);
    let host = fields.host("gitlab_host");
    let token = fields.string("access_token").filter(|token| !token.is_empty());
    if token.is_none() {
        fields.refuse("access_token", "is required");
    }
    let account_id = fields.checked_name("account_id", account_id);
    let ((host, token), account_id) = fields.finish_strict(host.zip(token).zip(account_id))?;
    let new = NewCredential {
        account_id,
        host: host.clone(),
        token: Some(AccessToken::new(token)),
    };
    api.router
        .keep_credential(new, &by)
        .await
        .map_err(|error| refused(error, None))?;
    Ok(Json(json!({ "gitlab_host": host, "token": "set" })))
}

async fn forget((State(api), Path(account_id), caller, headers, body): Asked) -> Result<Json<Value>, Problem> {
    let mut fields = Fields::of(&headers, &body)?;
    let by = caller.or(&mut fields);
    let host = fields.host("gitlab_host");
    let host = fields.finish_strict(host)?;
    let new = NewCredential {
        account_id: find(&api, &account_id).await?.account_id,
        host: host.clone(),
        token: None,
    };
    api.router
        .keep_credential(new, &by)
        .await
        .map_err(|error| refused(error, None))?;
    Ok(Json(json!({ "gitlab_host": host, "token": "removed" })))
}
