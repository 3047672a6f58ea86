//! The live stream, as the page sees it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use tokio::time::Instant;

use super::DEADLINE;

/// A viewer. HTTP/1.0, so that the answer is the plain text of the events.
pub(crate) struct LiveStream {
    lines: BufReader<TcpStream>,
}

impl LiveStream {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        write!(stream, "GET /api/v1/stream HTTP/1.0\r\nHost: {address}\r\n\r\n").expect("it is taken");
        let mut viewer = Self {
            lines: BufReader::new(stream),
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

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).expect("an event before the deadline");
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event: its name and what it says. None at the end of the stream.
    pub(crate) fn next(&mut self) -> Option<(String, Value)> {
        let (mut name, mut data) = (String::new(), String::new());
        loop {
            let line = self.line()?;
            match line.split_once(": ") {
                Some(("event", value)) => value.clone_into(&mut name),
                Some(("data", value)) => value.clone_into(&mut data),
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
}
