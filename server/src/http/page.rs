//! The dashboard: files that are part of the binary, served at `/` and below `/assets/`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};

use super::Api;
use super::problem::Problem;

/// What the page may do: run scripts and styles of this server, and talk to it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What is served at `/`.
const INDEX: &str = "index.html";

/// The name and content of each file.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_bytes!(concat!("../../assets/", $name)).as_slice())),*]
    };
}

/// Every file of the dashboard.
static FILES: LazyLock<Vec<File>> =
    LazyLock::new(|| NAMED.iter().map(|(name, content)| File::new(name, content)).collect());

const NAMED: &[(&str, &[u8])] = &files![
    "acts.js",
    "api.js",
    "app.js",
    "areas-tree.js",
    "attempts.js",
    "badge.js",
    "bar.js",
    "base.css",
    "crawlers-connections.js",
    "dialog.js",
    "dom.js",
    "fetcher.js",
    "format.js",
    "icons.js",
    "index.html",
    "job-entities.js",
    "job-errors.js",
    "job-facts.js",
    "job-history.js",
    "job-progress.js",
    "job-tree.js",
    "job-wait.js",
    "jobs-filter.js",
    "jobs-older.js",
    "jobs-row.js",
    "keys.js",
    "live.js",
    "log-line.js",
    "overview-cards.js",
    "parts.css",
    "prefs.js",
    "router.js",
    "shell.js",
    "spark.js",
    "state.js",
    "store.js",
    "submit-fields.js",
    "theme.js",
    "toast.js",
    "view-areas.js",
    "view-crawlers.js",
    "view-errors.js",
    "view-job.js",
    "view-jobs.js",
    "view-log.js",
    "view-nowhere.js",
    "view-overview.js",
    "view-queue.js",
    "view-submit.js",
    "views.css",
    "virtual.js",
    "words.js",
];

/// A file of the dashboard.
struct File {
    name: &'static str,
    content: &'static [u8],
    content_type: HeaderValue,
    /// Changes with the content.
    tag: HeaderValue,
}

impl File {
    fn new(name: &'static str, content: &'static [u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let tag = HeaderValue::from_str(&format!("\"{:016x}\"", hasher.finish()));
        Self {
            name,
            content,
            content_type: HeaderValue::from_static(content_type(name)),
            tag: tag.unwrap_or(HeaderValue::from_static("\"\"")),
        }
    }

    fn named(name: &str) -> Option<&'static Self> {
        FILES.iter().find(|file| file.name == name)
    }

    /// The file, unless whoever asks has it already.
    fn answer(&self, asked: &HeaderMap) -> Response {
        let headers = [
            (header::ETAG, self.tag.clone()),
            // Kept, but asked about: another binary may have another page.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        ];
        if self.is_known_to(asked) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let of_type = [(header::CONTENT_TYPE, self.content_type.clone())];
        (headers, of_type, self.content).into_response()
    }

    fn is_known_to(&self, asked: &HeaderMap) -> bool {
        is_known(asked, &self.tag)
    }
}

/// Whether `If-None-Match` names the content of this tag (RFC 9110, section 13.1.2).
pub(super) fn is_known(asked: &HeaderMap, tag: &HeaderValue) -> bool {
    let given = asked.get_all(header::IF_NONE_MATCH).iter();
    let mut tags = given
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tags.any(|known| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known).as_bytes() == tag.as_bytes()
    })
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    }
}

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/", routing::get(async |headers: HeaderMap| file(INDEX, &headers)))
        .route("/assets/{file}", routing::get(asset))
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    file(&name, &headers)
}

fn file(name: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let file = File::named(name).ok_or_else(|| Problem::not_found("page"))?;
    Ok(file.answer(headers))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_is_served_with_a_type() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/assets");
        let there = std::fs::read_dir(directory).unwrap();
        let there: BTreeSet<_> = there
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let served: BTreeSet<_> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(there, served);
        for file in FILES.iter() {
            assert_ne!(file.content_type, "application/octet-stream", "{}", file.name);
        }
    }

    #[test]
    fn what_is_known_is_not_sent_again() {
        let file = File::named(INDEX).unwrap();
        let tag = file.tag.to_str().unwrap();
        let status = |asked: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, asked.parse().unwrap());
            file.answer(&headers).status()
        };
        for known in [tag, &format!("W/{tag}"), &format!("\"other\", {tag}"), "*"] {
            assert_eq!(status(known), StatusCode::NOT_MODIFIED, "{known}");
        }
        for other in ["\"other\"", "", &tag[1..]] {
            assert_eq!(status(other), StatusCode::OK, "{other}");
        }
        assert_eq!(file.answer(&HeaderMap::new()).headers()[header::ETAG], file.tag);
        assert_ne!(File::new("a.css", b"a").tag, File::new("a.css", b"b").tag);
    }
}
