//! Requests to a running server, and what can come of them.

use std::io::{self, Read};
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use ureq::http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use super::text::{encoded, shown};

/// How long a connection may take to come about. Beyond it nobody is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take: the server gives up after thirty seconds and says so.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);

/// The live stream says something at least every ten seconds. One that is silent for longer is dead.
const SILENCE_MAX: Duration = Duration::from_secs(25);

/// How long a look may take at somebody who may not be a server at all.
const GLANCE: Duration = Duration::from_secs(3);

/// Longest answer that is read: 500 jobs with everything that a job may hold.
const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Why a command did not do what it should.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nobody answers.
    Unreachable {
        /// Where somebody should have answered.
        address: String,
        /// What the system says.
        reason: String,
    },
    /// The server said no.
    Refused(Refusal),
    /// Somebody answers, and it is no such server.
    Foreign {
        /// Who.
        address: String,
        /// How one can tell.
        reason: String,
    },
    /// The command line asks for what cannot be done.
    Usage(String),
    /// It did not work out.
    Failed(String),
    /// What is to be said cannot be written.
    Output(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// A problem document.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// As it came.
    pub(crate) document: Value,
    /// The HTTP status.
    pub(crate) status: u16,
    /// When it may be worth trying again.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn of(document: Value) -> Self {
        let status = document["status"]
            .as_u64()
            .and_then(|status| u16::try_from(status).ok());
        Self {
            status: status.unwrap_or(0),
            document,
            retry_after: None,
        }
    }

    pub(crate) fn code(&self) -> &str {
        self.document["code"].as_str().unwrap_or("unknown")
    }

    /// What it says, in lines for people: the sentence, then each broken rule with its place.
    pub(crate) fn lines(&self) -> Vec<String> {
        let detail = self.document["detail"].as_str().unwrap_or("The server refused.");
        let rules = self.document["errors"].as_array().into_iter().flatten().map(|rule| {
            let part = |name: &str| shown(rule[name].as_str().unwrap_or("?"));
            format!("  {}: {}", inner(&part("path")), part("message"))
        });
        std::iter::once(shown(detail)).chain(rules).collect()
    }

    /// Whether a list refused this parameter because it does not have it.
    pub(crate) fn concerns(&self, path: &str) -> bool {
        let mut rules = self.document["errors"].as_array().into_iter().flatten();
        self.status == 422 && rules.any(|rule| rule["path"] == path)
    }
}

/// A place in one job of many, without the number that the job has among them: people count lines.
fn inner(path: &str) -> &str {
    let rest = path
        .strip_prefix("/jobs/")
        .map(|rest| rest.trim_start_matches(|it: char| it.is_ascii_digit()));
    rest.filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

/// Where a server is. Checked when it is made; never ends with a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl(String);

impl ServerUrl {
    /// Reads what somebody typed; `http://` may be left out.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let whole = match text.contains("://") {
            true => text.trim_end_matches('/').to_owned(),
            false => format!("http://{}", text.trim_end_matches('/')),
        };
        let uri: Uri = whole
            .parse()
            .map_err(|_| "expected a URL such as http://127.0.0.1:8090".to_owned())?;
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        match uri.scheme_str() {
            _ if authority.contains('@') => Err("a login does not belong on a command line".to_owned()),
            _ if uri.query().is_some() => Err("expected a URL without a query".to_owned()),
            Some("http" | "https") if !authority.is_empty() => Ok(Self(whole)),
            _ => Err("expected a URL with http or https".to_owned()),
        }
    }

    /// Whether it names this machine.
    fn is_loopback(&self) -> bool {
        let host = self.0.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
        let host = host.unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
    }
}

impl std::fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A server to ask. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    url: ServerUrl,
    agent: Agent,
}

impl Server {
    pub(crate) fn at(url: &ServerUrl) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("crawlwire/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_per_read(Some(SILENCE_MAX.max(ANSWER_TIMEOUT)));
        if url.is_loopback() {
            // What is on this machine is not reached through another one, whatever the environment says.
            config = config.proxy(None);
        }
        Self {
            url: url.clone(),
            agent: config.build().into(),
        }
    }

    /// Whether a server of ours answers there, told within a moment.
    pub(crate) fn is_at(url: &ServerUrl) -> bool {
        let server = Self::at(url);
        let request = server.agent.get(server.place("/health/live"));
        let request = request.config().timeout_global(Some(GLANCE)).build();
        server.read(request.call()).is_ok_and(|live| live["status"] == "ok")
    }

    pub(crate) fn address(&self) -> &ServerUrl {
        &self.url
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, Trouble> {
        let request = self.agent.get(self.place(path)).header(ACCEPT, "application/json");
        self.read(request.call())
    }

    /// The same for what servers of some versions do not have: none then.
    pub(crate) fn get_if_there(&self, path: &str) -> Result<Option<Value>, Trouble> {
        match self.get(path) {
            Err(Trouble::Refused(refusal)) if refusal.status == 404 => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// Health, which answers 503 when there is something to say.
    pub(crate) fn health(&self, path: &str) -> Result<Value, Trouble> {
        match self.get(path) {
            Err(Trouble::Refused(refusal)) if refusal.status == 503 && refusal.document["status"].is_string() => {
                Ok(refusal.document)
            }
            answer => answer,
        }
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        self.read(self.agent.post(self.place(path)).send_json(body))
    }

    pub(crate) fn delete(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        let request = self.agent.delete(self.place(path)).force_send_body();
        self.read(request.send_json(body))
    }

    /// Opens what does not end, to be read line by line.
    pub(crate) fn open(&self, path: &str, last_event_id: Option<&str>) -> Result<impl Read + Send + 'static, Trouble> {
        let mut request = self.agent.get(self.place(path)).header(ACCEPT, "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let request = request.config().timeout_per_read(Some(SILENCE_MAX)).build();
        let response = request.call().map_err(|error| self.unanswered(&error))?;
        let kind = header(&response, CONTENT_TYPE.as_str());
        if response.status() != 200 || !kind.starts_with("text/event-stream") {
            return Err(match self.read(Ok(response)) {
                Err(trouble) => trouble,
                Ok(_) => self.foreign("it does not answer with a stream of events"),
            });
        }
        Ok(response.into_body().into_reader())
    }

    fn place(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn read(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Value, Trouble> {
        let mut response = answer.map_err(|error| self.unanswered(&error))?;
        let status = response.status();
        let kind = header(&response, CONTENT_TYPE.as_str());
        if !(kind.starts_with("application/json") || kind.starts_with("application/problem+json")) {
            return Err(self.foreign(&format!("it answers {status} with {kind:?}")));
        }
        let retry_after = header(&response, RETRY_AFTER.as_str())
            .parse()
            .ok()
            .map(Duration::from_secs);
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).reader();
        let document: Value = serde_json::from_reader(io::BufReader::new(body))
            .map_err(|error| self.foreign(&format!("its answer cannot be read: {error}")))?;
        if status.is_success() {
            return Ok(document);
        }
        Err(Trouble::Refused(Refusal {
            document,
            status: status.as_u16(),
            retry_after,
        }))
    }

    fn unanswered(&self, error: &ureq::Error) -> Trouble {
        match error {
            ureq::Error::Protocol(error) => self.foreign(&error.to_string()),
            ureq::Error::Io(error) => self.unreachable(error.to_string()),
            error => self.unreachable(error.to_string()),
        }
    }

    fn unreachable(&self, reason: String) -> Trouble {
        Trouble::Unreachable {
            address: self.url.to_string(),
            reason,
        }
    }

    fn foreign(&self, reason: &str) -> Trouble {
        Trouble::Foreign {
            address: self.url.to_string(),
            reason: shown(reason),
        }
    }
}

fn header(response: &Response<Body>, name: &str) -> String {
    let value = response.headers().get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// The address of a job, whatever its name holds.
pub(crate) fn job_path(id: &str) -> String {
    format!("/api/v1/jobs/{}", encoded(id))
}

/// Parameters of a request; those without value are left out.
pub(crate) fn query(parameters: &[(&str, Option<&str>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some((name, (*value)?)));
    let parts: Vec<_> = given
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    match parts.is_empty() {
        true => String::new(),
        false => format!("?{}", parts.join("&")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_urls_of_http() {
        for (given, kept) in [
            ("http://127.0.0.1:8090", "http://127.0.0.1:8090"),
            ("http://127.0.0.1:8090/", "http://127.0.0.1:8090"),
            ("localhost:1", "http://localhost:1"),
            ("https://jobs.example.com/crawl", "https://jobs.example.com/crawl"),
        ] {
            assert_eq!(ServerUrl::parse(given).unwrap().to_string(), kept);
        }
        for wrong in [
            "",
            "ftp://x",
            "http://",
            "http://me:secret@host",
            "http://x?y=1",
            "http://a b",
        ] {
            let refused = ServerUrl::parse(wrong).unwrap_err();
            assert!(!refused.contains("secret"), "{refused}");
        }
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for (url, here) in [
            ("http://localhost:1", true),
            ("http://127.0.0.2:1", true),
            ("http://[::1]:1", true),
            ("http://[::ffff:127.0.0.1]:1", true),
            ("http://10.0.0.1:1", false),
            ("https://localhost.example.com", false),
        ] {
            assert_eq!(ServerUrl::parse(url).unwrap().is_loopback(), here, "{url}");
        }
    }

    #[test]
    fn queries_hold_what_is_given() {
        assert_eq!(query(&[("a", None)]), "");
        assert_eq!(
            query(&[("a", Some("x y&z")), ("b", None), ("c", Some("ü"))]),
            "?a=x%20y%26z&c=%C3%BC"
        );
        assert_eq!(job_path("a/b?c"), "/api/v1/jobs/a%2Fb%3Fc");
    }

    #[test]
    fn a_refusal_lists_its_rules() {
        let document = serde_json::json!({
            "status": 422, "code": "invalid_request", "detail": "The request\u{1b}[31m breaks rules.",
            "errors": [{ "path": "/job_type", "message": "is required" }]
        });
        let refusal = Refusal::of(document);
        assert_eq!(
            refusal.lines(),
            ["The request\\x1b[31m breaks rules.", "  /job_type: is required"]
        );
        assert!(refusal.concerns("/job_type") && !refusal.concerns("/host"));
        assert_eq!(
            (inner("/jobs/12/tags/0"), inner("/jobs"), inner("/tags")),
            ("/tags/0", "/jobs", "/tags")
        );
    }
}
