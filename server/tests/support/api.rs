//! The HTTP side, as a web application sees it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;

use super::{DEADLINE, LiveStream, history, wait_until};

/// Where requests go.
#[derive(Clone)]
pub(crate) struct Api {
    address: SocketAddr,
    agent: Agent,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of a success.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// The body of an answer that is no success, which always has the same form.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)));
        for part in ["type", "title", "detail"] {
            let text = problem[part].as_str();
            assert!(text.is_some_and(|text| !text.is_empty()), "no {part} in {problem}");
        }
        problem
    }

    /// The places a problem names.
    #[track_caller]
    pub(crate) fn places(&self) -> BTreeSet<String> {
        let problem = self.problem(422, "invalid_request");
        let errors = problem["errors"].as_array().expect("errors");
        let path = |error: &Value| error["path"].as_str().expect("a path").to_owned();
        assert!(errors.iter().all(|error| error["message"].is_string()));
        errors.iter().map(path).collect()
    }
}

impl From<Response<ureq::Body>> for Answer {
    fn from(response: Response<ureq::Body>) -> Self {
        let (parts, mut body) = response.into_parts();
        let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = parts.headers.iter();
        Self {
            status: parts.status.as_u16(),
            headers: headers.map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: body.read_to_string().expect("a body"),
        }
    }
}

impl Api {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(2 * DEADLINE))
            .build();
        Self {
            address,
            agent: config.into(),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        let response = self.agent.get(format!("http://{}{path}", self.address)).call();
        response.unwrap_or_else(|error| panic!("GET {path}: {error}")).into()
    }

    pub(crate) fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        let request = self.agent.post(format!("http://{}{path}", self.address));
        let response = request.header("content-type", content_type).send(body);
        response.unwrap_or_else(|error| panic!("POST {path}: {error}")).into()
    }

    /// A body of JSON, with headers.
    pub(crate) fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = self.agent.post(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.header("content-type", "application/json").send(body);
        response.unwrap_or_else(|error| panic!("POST {path}: {error}")).into()
    }

    /// A request with a body of JSON, or none.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let address = format!("http://{}{path}", self.address);
        let request = match method {
            "POST" => self.agent.post(address),
            "PUT" => self.agent.put(address),
            _ => self.agent.delete(address).force_send_body(),
        };
        let response = match body {
            Some(body) => request.send_json(body),
            None => request.send_empty(),
        };
        response
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
            .into()
    }

    /// Does something to a job, as `POST /api/v1/jobs/{id}/{act}`.
    pub(crate) fn act(&self, id: &str, act: &str, body: &Value) -> Answer {
        self.ask("POST", &format!("/api/v1/jobs/{id}/{act}"), Some(body))
    }

    /// Another form of an answer than JSON.
    pub(crate) fn get_as(&self, path: &str, accept: &str) -> Answer {
        let request = self.agent.get(format!("http://{}{path}", self.address));
        let response = request.header("accept", accept).call();
        response.unwrap_or_else(|error| panic!("GET {path}: {error}")).into()
    }

    /// Sends bytes as they are and reads to the end of the connection.
    pub(crate) fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(2 * DEADLINE)).expect("a timeout");
        stream.write_all(request).expect("it is taken");
        let mut bytes = Vec::new();
        // A server that refuses early may cut off what is still under way.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        Answer {
            status: status.unwrap_or_else(|| panic!("no status: {head:?}")),
            headers: headers
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect(),
            body: body.to_owned(),
        }
    }

    /// Asks for a job.
    pub(crate) fn create(&self, job: &Value) -> Answer {
        self.post("/api/v1/jobs", "application/json", job.to_string().as_bytes())
    }

    /// Submits a job that must be taken; its id.
    #[track_caller]
    pub(crate) fn submit(&self, job_type: &str) -> String {
        let job = json!({ "job_type": job_type, "gitlab_host": "gitlab.example.com", "account_id": "acme" });
        let answer = self.create(&job);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    /// The same with more fields, or others; the job.
    #[track_caller]
    pub(crate) fn submit_with(&self, fields: &Value) -> Value {
        let mut job = json!({ "job_type": "crawl_project", "gitlab_host": "gitlab.example.com", "account_id": "acme" });
        for (field, value) in fields.as_object().expect("an object") {
            job[field] = value.clone();
        }
        let answer = self.create(&job);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    }

    /// Why a job does not move; null when it runs or has ended.
    #[track_caller]
    pub(crate) fn reason(&self, id: &str) -> Value {
        let explained = self.get(&format!("/api/v1/jobs/{id}/explain")).ok();
        let (reason, state) = (&explained["reason"], explained["state"].as_str().expect("a state"));
        let moves = ["running", "completed", "failed", "cancelled"].contains(&state);
        assert_eq!(reason.is_null(), moves, "{explained}");
        for part in ["code", "detail", "cleared_by"] {
            let text = reason[part].as_str();
            assert!(
                moves || text.is_some_and(|text| !text.is_empty()),
                "no {part} in {reason}"
            );
        }
        reason.clone()
    }

    /// Waits until a job waits for this.
    #[track_caller]
    pub(crate) fn await_reason(&self, id: &str, code: &str) -> Value {
        wait_until(&format!("{id} waits for {code}"), || {
            let reason = self.reason(id);
            (reason["code"] == code).then_some(reason)
        })
    }

    /// Submits a job to a server that may go away meanwhile; its id, if it was acknowledged.
    pub(crate) fn try_submit(&self) -> Option<String> {
        let job = json!({ "job_type": "crawl_user", "gitlab_host": "gitlab.example.com", "account_id": "acme" });
        let request = self.agent.post(format!("http://{}/api/v1/jobs", self.address));
        let mut response = request.send_json(&job).ok()?;
        let created: Value = response.body_mut().read_json().ok()?;
        created["id"].as_str().map(str::to_owned)
    }

    #[track_caller]
    pub(crate) fn job(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/jobs/{id}")).ok()
    }

    /// All items of a list, over all its pages.
    #[track_caller]
    pub(crate) fn all(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let joint = if path.contains('?') { '&' } else { '?' };
            let page = self.get(&format!("{path}{joint}cursor={cursor}")).ok();
            items.extend(page["items"].as_array().expect("items").iter().cloned());
            match &page["next_cursor"] {
                Value::String(next) => cursor.clone_from(next),
                _ => return items,
            }
        }
    }

    #[track_caller]
    pub(crate) fn events(&self, id: &str) -> Vec<Value> {
        self.all(&format!("/api/v1/jobs/{id}/events"))
    }

    /// All arrows of a job's life, in order, after a look at whether it was a lawful one.
    #[track_caller]
    pub(crate) fn arrows(&self, id: &str) -> Vec<String> {
        let events = self.events(id);
        history::check(&self.job(id), &events);
        let arrows = events
            .iter()
            .flat_map(|event| event["arrows"].as_array().expect("arrows"));
        arrows.map(|arrow| arrow.as_str().expect("a name").to_owned()).collect()
    }

    #[track_caller]
    pub(crate) fn crawlers(&self) -> Vec<Value> {
        self.all("/api/v1/crawlers")
    }

    /// Waits until a job has this status; the job then.
    #[track_caller]
    pub(crate) fn await_status(&self, id: &str, status: &str) -> Value {
        let mut stream = LiveStream::open(self.address);
        stream.await_job(id, |job| job["status"] == status)
    }
}
