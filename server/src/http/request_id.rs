//! Each request has a name, so that what a caller saw can be found in the logs.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;
use uuid::Uuid;

/// The header that names a request, in both directions.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of a name that is taken over.
const CHARS_MAX: usize = 128;

tokio::task_local! {
    /// The request that is being answered.
    static CURRENT: HeaderValue;
}

/// Takes the name that a request brings, or makes one; tells it in the answer and to the logs.
pub(super) async fn name(request: Request, next: Next) -> Response {
    let given = request.headers().get(&REQUEST_ID).filter(|given| fits(given));
    let id = given.cloned().unwrap_or_else(made);
    let span = tracing::info_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path()
    );
    let mut response = CURRENT.scope(id.clone(), next.run(request)).instrument(span).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn fits(given: &HeaderValue) -> bool {
    (1..=CHARS_MAX).contains(&given.len()) && given.as_bytes().iter().all(u8::is_ascii_graphic)
}

fn made() -> HeaderValue {
    let id = Uuid::now_v7().to_string();
    // Digits and letters are always a value.
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

/// The name of the request that is being answered; none beside one.
pub(super) fn current() -> Option<String> {
    let id = CURRENT.try_with(|id| id.to_str().map(str::to_owned).ok());
    id.ok().flatten()
}
