//! Keeps foreign web pages away from an API that needs no password on this machine.
//!
//! A page of another site can make a browser send requests to loopback addresses, and by rebinding its own name to such
//! an address it can read the answers too. So a request that names an origin must come from our own pages or a listed
//! one, and on a loopback address the `Host` header must name this machine. Browsers let a page of another origin send
//! JSON and read answers only when we tell them that it may (the Fetch standard, "CORS protocol").

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::problem::Problem;

/// How long a browser may remember what we allow, in seconds.
const ALLOWED_FOR: HeaderValue = HeaderValue::from_static("600");

pub(super) async fn own_pages_only(State(api): State<Api>, request: Request, next: Next) -> Response {
    let origin = match judge(request.headers(), api.http_is_loopback, &api.allowed_origins) {
        Ok(origin) => origin.cloned(),
        Err(problem) => return problem.into_response(),
    };
    let asks_first =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let Some(origin) = origin else {
        return next.run(request).await;
    };
    let mut response = if asks_first {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    allow(&origin, asks_first, response.headers_mut());
    response
}

/// Tells the browser that pages of this origin may use the API.
fn allow(origin: &HeaderValue, asks_first: bool, headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if asks_first {
        let (methods, names) = (
            "GET, POST, PUT, DELETE",
            "content-type, idempotency-key, if-none-match, x-request-id",
        );
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(names));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, ALLOWED_FOR);
    } else {
        let names = HeaderValue::from_static("etag, idempotency-replayed, location, retry-after, x-request-id");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, names);
    }
}

/// Whether the request may go on. The origin, if it is one of another site that is listed.
fn judge<'a>(headers: &'a HeaderMap, loopback: bool, allowed: &[String]) -> Result<Option<&'a HeaderValue>, Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default().to_ascii_lowercase();
    let listed = |name: &str| {
        allowed
            .iter()
            .any(|origin| origin.split_once("://").is_some_and(|(_, host)| host == name))
    };
    if loopback && !host.is_empty() && !names_this_machine(&host) && !listed(&host) {
        let detail = "The Host header names another machine. Use localhost, or add the origin to allowed_origins.";
        return Err(Problem::new(StatusCode::FORBIDDEN, "foreign_host", detail));
    }
    let Some(origin) = text(header::ORIGIN).map(str::to_ascii_lowercase) else {
        return Ok(None);
    };
    if origin.split_once("://").is_some_and(|(_, authority)| authority == host) {
        return Ok(None);
    }
    if allowed.contains(&origin) {
        return Ok(headers.get(header::ORIGIN));
    }
    let detail = "Pages of this origin may not use the API. Add it to allowed_origins.";
    Err(Problem::new(StatusCode::FORBIDDEN, "foreign_origin", detail))
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    #[test]
    fn own_pages_and_programs_pass() {
        for (host, origin) in [
            ("localhost:8090", None),
            ("127.0.0.1:8090", Some("http://127.0.0.1:8090")),
            ("[::1]:8090", Some("http://[::1]:8090")),
        ] {
            assert!(judge(&headers(host, origin), true, &[]).is_ok(), "{host} {origin:?}");
        }
    }

    #[test]
    fn foreign_pages_do_not() {
        let listed = ["https://app.example.com".to_owned()];
        let code = |host, origin, allowed: &[String]| {
            let judged = judge(&headers(host, origin), true, allowed).map(drop);
            judged.map_err(|problem| problem.code)
        };
        assert_eq!(
            code("localhost:8090", Some("https://evil.example"), &[]),
            Err("foreign_origin")
        );
        assert_eq!(code("localhost:8090", Some("null"), &[]), Err("foreign_origin"));
        assert_eq!(code("evil.example", None, &[]), Err("foreign_host"));
        assert_eq!(code("127.0.0.1.evil.example:8090", None, &[]), Err("foreign_host"));
        assert_eq!(code("localhost:8090", Some("https://app.example.com"), &listed), Ok(()));
        assert_eq!(code("app.example.com", None, &listed), Ok(()));
    }
}
