//! The live stream, as the page sees it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use tokio::time::Instant;
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::{Message, WebSocket};

use super::DEADLINE;

/// A viewer. HTTP/1.0, so that the answer is the plain text of the events.
pub(crate) struct LiveStream {
    lines: BufReader<TcpStream>,
    /// The name of the last event.
    pub(crate) last: String,
}

impl LiveStream {
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::asking(address, "", None)
    }

    /// With a query, and the name of the last event that it has seen.
    pub(crate) fn asking(address: SocketAddr, query: &str, last_seen: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let last_seen = last_seen.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        write!(
            stream,
            "GET /api/v1/stream{query} HTTP/1.0\r\nHost: {address}\r\n{last_seen}\r\n"
        )
        .expect("it is taken");
        let mut viewer = Self {
            lines: BufReader::new(stream),
            last: String::new(),
        };
        let status = viewer.line().expect("an answer");
        assert!(status.contains(" 200 "), "{status}");
        let mut headers = Vec::new();
        while let Some(line) = viewer.line().filter(|line| !line.is_empty()) {
            headers.push(line.to_lowercase());
        }
        assert!(
            headers.contains(&"content-type: text/event-stream".to_owned()),
            "{headers:?}"
        );
        viewer
    }

    /// None at the end of the stream, also where it ends in the middle because the server was killed.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            read => {
                let read = read.expect("an event before the deadline");
                (read > 0).then(|| line.trim_end().to_owned())
            }
        }
    }

    /// The next event: its name and what it says. None at the end of the stream.
    pub(crate) fn next(&mut self) -> Option<(String, Value)> {
        let (mut name, mut data) = (String::new(), String::new());
        loop {
            let line = self.line()?;
            match line.split_once(": ") {
                Some(("event", value)) => value.clone_into(&mut name),
                Some(("data", value)) => value.clone_into(&mut data),
                Some(("id", value)) => value.clone_into(&mut self.last),
                _ if line.is_empty() && !data.is_empty() => {
                    return Some((name, serde_json::from_str(&data).expect("JSON")));
                }
                _ => {}
            }
        }
    }

    /// Waits for an event that shows what is looked for.
    #[track_caller]
    pub(crate) fn await_event<T>(&mut self, what: &str, mut look: impl FnMut(&str, &Value) -> Option<T>) -> T {
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            let (name, data) = self.next().unwrap_or_else(|| panic!("the stream ended before {what}"));
            if let Some(seen) = look(&name, &data) {
                return seen;
            }
        }
        panic!("waited in vain for {what}");
    }

    /// Waits until a job is as it should be, whether a snapshot or a change says so.
    #[track_caller]
    pub(crate) fn await_job(&mut self, id: &str, done: impl Fn(&Value) -> bool) -> Value {
        self.await_event(&format!("job {id}"), |name, data| {
            let told: &[Value] = match name {
                "snapshot" => data["jobs"].as_array().expect("jobs"),
                "job" => std::slice::from_ref(data),
                _ => &[],
            };
            told.iter().find(|job| job["id"] == id && done(job)).cloned()
        })
    }

    /// All events up to the next heartbeat, but for those that say how the whole is.
    #[track_caller]
    pub(crate) fn until_heartbeat(&mut self) -> Vec<(String, Value)> {
        let mut seen = Vec::new();
        loop {
            let (name, data) = self.next().expect("a heartbeat, and not the end");
            match &*name {
                "heartbeat" => return seen,
                "statistics" | "aggregate" => {}
                _ => seen.push((name, data)),
            }
        }
    }
}

/// A viewer over a WebSocket.
pub(crate) struct Socket(WebSocket<TcpStream>);

impl Socket {
    /// Why there is none: the status of the answer.
    pub(crate) fn open(address: SocketAddr, query: &str, origin: Option<&str>) -> Result<Self, u16> {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let mut request = format!("ws://{address}/api/v1/ws{query}")
            .into_client_request()
            .expect("an address");
        if let Some(origin) = origin {
            let origin = origin.parse().expect("an origin");
            request.headers_mut().insert("origin", origin);
        }
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                Err(answer.status().as_u16())
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn send(&mut self, text: &str) {
        // A server that has hung up shows when it is read from.
        let _ = self.0.send(Message::text(text));
    }

    /// The next event with its name of its own; at the end, how the server said goodbye.
    pub(crate) fn next(&mut self) -> Result<Value, Option<(u16, String)>> {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Ok(Message::Close(goodbye)) => {
                    let said = |CloseFrame { code, reason }| (u16::from(code), reason.to_string());
                    return Err(goodbye.map(said));
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    panic!("no event before the deadline")
                }
                Err(_) => return Err(None),
            }
        }
    }
}

/// What is shown of a job: its status, and how far it is.
pub(crate) type Shown = (String, Value);

/// What a page makes of what it is told.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) jobs: BTreeMap<String, Shown>,
}

impl Page {
    /// Jobs with their progress, as they are listed.
    pub(crate) fn of(jobs: &[Value]) -> Self {
        let mut page = Self::default();
        jobs.iter().for_each(|job| page.put(job));
        page
    }

    fn put(&mut self, job: &Value) {
        let status = text(&job["status"]);
        let shown = (status, job["progress"]["completion"].clone());
        self.jobs.insert(text(&job["id"]), shown);
    }

    pub(crate) fn apply(&mut self, event: &str, data: &Value) {
        match event {
            "snapshot" => *self = Self::of(data["jobs"].as_array().expect("jobs")),
            "job" => self.put(data),
            "progress" => {
                if let Some((_, completion)) = self.jobs.get_mut(&text(&data["job_id"])) {
                    *completion = data["completion"].clone();
                }
            }
            "deleted" => {
                self.jobs.remove(&text(&data["job_id"]));
            }
            _ => {}
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
