//! The HTTP side: jobs, crawlers, health, the live stream and the page.

mod accounts;
mod acts;
mod body;
mod connections;
mod crawlers;
mod gates;
mod guard;
mod health;
mod jobs;
pub(crate) mod json;
mod list;
mod page;
mod problem;
mod progress;
mod reason;
mod records;
mod request_id;
mod statistics;
mod steer;
mod stream;
mod submit;
mod tracked;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use crawlwire_progress::Store;
use crawlwire_transport::Pool;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use self::problem::Problem;
pub(crate) use self::statistics::Meter;
pub(crate) use self::stream::Hub;
use crate::status::Status;

/// Bytes of a request body. A job is a few hundred.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Time for one request. The live stream begins to answer at once, so it is not cut.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What the handlers of requests share.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) router: crawlwire_router::Router,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) pool: Pool,
    pub(crate) status: Arc<Status>,
    pub(crate) hub: Hub,
    pub(crate) meter: Arc<Meter>,
    /// This server's name among those that share the database.
    pub(crate) name: Arc<str>,
    /// What the database is.
    pub(crate) database: &'static str,
    pub(crate) allowed_origins: Arc<[String]>,
    pub(crate) http_is_loopback: bool,
    /// Ends the live streams, so that the server can stop.
    pub(crate) stop: CancellationToken,
}

/// Every route.
pub(crate) fn routes(api: Api) -> Router {
    let v1 = Router::new()
        .merge(jobs::routes())
        .merge(acts::routes())
        .merge(progress::routes())
        .merge(gates::routes())
        .merge(records::routes())
        .merge(crawlers::routes())
        .merge(steer::routes())
        .merge(accounts::routes())
        .merge(connections::routes())
        .merge(statistics::routes())
        .merge(stream::routes());
    Router::new()
        .merge(page::routes())
        .merge(health::routes())
        .nest("/api/v1", v1)
        .fallback(|| async { Problem::not_found("page") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "This address takes other methods.",
            )
        })
        .layer(axum::middleware::from_fn_with_state(api.clone(), guard::own_pages_only))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(TimeoutLayer::with_status_code(
            // Not 408, which invites a client to repeat at once a request that may have had its effect.
            StatusCode::SERVICE_UNAVAILABLE,
            REQUEST_TIMEOUT,
        ))
        .layer(axum::middleware::map_response(problem::in_one_form))
        .layer(CatchPanicLayer::custom(|_| {
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "The request could not be carried out.",
            )
            .into_response()
        }))
        .layer(axum::middleware::from_fn(request_id::name))
        .with_state(api)
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};
    use axum::http::{Request, header};
    use crawlwire_progress::memory::MemoryStore;
    use crawlwire_progress::{Policy, Timestamp};
    use crawlwire_router::RouterConfig;
    use futures_util::stream;
    use tower::Service;

    use super::*;

    fn api() -> Api {
        let store = Arc::new(MemoryStore::new(Policy::default(), Box::new(|| Timestamp(0))));
        Api {
            router: crawlwire_router::Router::new(store.clone(), RouterConfig::default()),
            store,
            pool: Pool::starting_at(1, 1),
            status: Arc::new(Status::started()),
            hub: Hub::new(),
            meter: Arc::default(),
            name: "test".into(),
            database: "sqlite",
            allowed_origins: Arc::from([]),
            http_is_loopback: true,
            stop: CancellationToken::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_end_is_given_up() {
        let endless = stream::pending::<Result<Bytes, std::convert::Infallible>>();
        let request = Request::post("/api/v1/jobs")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from_stream(endless))
            .unwrap();
        let response = routes(api()).call(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let body = axum::body::to_bytes(response.into_body(), BODY_BYTES_MAX)
            .await
            .unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["code"], "request_timeout");
    }
}
