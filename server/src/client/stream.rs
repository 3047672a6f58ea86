//! The live stream of a server: events, read as they come, over as many connections as it takes.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::server::{Server, Trouble};
use super::text::shown;

/// Longest line of a stream that is read: a snapshot of 500 jobs, each with all that it may hold.
const LINE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Events that wait to be shown. The server puts a viewer who does not keep up straight.
const WAITING_MAX: usize = 64;

/// How long to wait before a cut stream is tried again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// How long a server may be away. Beyond it somebody should look.
const PATIENCE: Duration = Duration::from_secs(600);

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Its id, to go on behind it; none from servers whose events have none.
    pub(crate) id: Option<String>,
    pub(crate) name: String,
    pub(crate) data: Value,
}

/// What comes out of a stream.
#[derive(Debug)]
pub(crate) enum Happening {
    Event(Event),
    /// It broke, and why; it is being tried again.
    Cut(String),
    /// It goes on.
    Back,
    /// It does not go on.
    Over(Trouble),
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

/// A stream that is being read.
#[derive(Debug)]
pub(crate) struct Stream(Receiver<Happening>);

impl Stream {
    /// Waits for what comes next.
    pub(crate) fn next(&self) -> Happening {
        self.0.recv().unwrap_or(Happening::Interrupted)
    }

    /// The same, for a while.
    pub(crate) fn next_within(&self, time: Duration) -> Option<Happening> {
        match self.0.recv_timeout(time) {
            Ok(happening) => Some(happening),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Happening::Interrupted),
        }
    }
}

/// Opens the stream and reads it until the program ends.
pub(crate) fn follow(server: &Server, parameters: String) -> Result<Stream, Trouble> {
    let path = format!("/api/v1/stream{parameters}");
    let first = Events::open(server, &path, None)?;
    let (said, heard) = sync_channel(WAITING_MAX);
    let server = server.clone();
    let keyboard = said.clone();
    thread::spawn(move || read_on(&server, &path, first, &said));
    thread::spawn(move || wait_for_interrupt(&keyboard));
    Ok(Stream(heard))
}

/// Nobody listens any more: the program is about to end.
struct Deaf;

fn read_on(server: &Server, path: &str, first: Events, said: &SyncSender<Happening>) {
    let mut events = first;
    loop {
        let reason = match read(&mut events, said) {
            Ok(reason) => reason,
            Err(Deaf) => return,
        };
        if said.send(Happening::Cut(reason)).is_err() {
            return;
        }
        match reopen(server, path, events.last_id.take()) {
            Ok(opened) => events = opened,
            Err(trouble) => return drop(said.send(Happening::Over(trouble))),
        }
        if said.send(Happening::Back).is_err() {
            return;
        }
    }
}

/// Reads until the stream breaks; why it did.
fn read(events: &mut Events, said: &SyncSender<Happening>) -> Result<String, Deaf> {
    loop {
        match events.next() {
            Ok(Some(event)) => said.send(Happening::Event(event)).map_err(|_| Deaf)?,
            Ok(None) => return Ok("the server ended it".to_owned()),
            Err(error) => return Ok(shown(&error.to_string())),
        }
    }
}

fn reopen(server: &Server, path: &str, last_id: Option<String>) -> Result<Events, Trouble> {
    let since = Instant::now();
    let mut pause = PAUSE.0;
    loop {
        rest(pause);
        match Events::open(server, path, last_id.as_deref()) {
            // The server is stopping, starting, or full.
            Err(Trouble::Refused(refusal)) if matches!(refusal.status, 429 | 500..) && since.elapsed() < PATIENCE => {}
            Err(Trouble::Unreachable { .. } | Trouble::Foreign { .. }) if since.elapsed() < PATIENCE => {}
            opened => return opened,
        }
        pause = (pause * 2).min(PAUSE.1);
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, not of a runtime")]
fn rest(time: Duration) {
    thread::sleep(time);
}

fn wait_for_interrupt(said: &SyncSender<Happening>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
        let _ = said.send(Happening::Interrupted);
    }
}

/// Events of one connection.
struct Events {
    lines: BufReader<Box<dyn Read + Send>>,
    last_id: Option<String>,
}

impl Events {
    fn open(server: &Server, path: &str, last_id: Option<&str>) -> Result<Self, Trouble> {
        let body = server.open(path, last_id)?;
        Ok(Self::new(Box::new(body), last_id.map(str::to_owned)))
    }

    fn new(body: Box<dyn Read + Send>, last_id: Option<String>) -> Self {
        Self {
            lines: BufReader::new(body),
            last_id,
        }
    }

    /// The next event; none at the end. One whose data is no JSON is left out.
    fn next(&mut self) -> io::Result<Option<Event>> {
        let (mut name, mut data) = (String::new(), String::new());
        loop {
            let Some(line) = self.line()? else { return Ok(None) };
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut name),
                "id" => self.last_id = Some(value.to_owned()),
                "data" if data.is_empty() => value.clone_into(&mut data),
                "data" => {
                    data.push('\n');
                    data.push_str(value);
                }
                "" if line.is_empty() && !data.is_empty() => match serde_json::from_str(&data) {
                    Ok(data) => {
                        let id = self.last_id.clone();
                        return Ok(Some(Event { id, name, data }));
                    }
                    Err(_) => (name, data) = (String::new(), String::new()),
                },
                _ => {}
            }
        }
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        let read = (&mut self.lines).take(LINE_BYTES_MAX).read_line(&mut line)?;
        if read == 0 {
            return Ok(None);
        }
        if !line.ends_with('\n') {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream broke off"));
        }
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &'static str) -> Events {
        Events::new(Box::new(text.as_bytes()), None)
    }

    #[test]
    fn events_are_read_as_the_standard_has_them() {
        let mut events = events(
            ": a comment\r\n\r\nid: 7-1\nevent: job\ndata: {\"a\":\ndata: 1}\n\nevent: odd\ndata: no json\n\n\
             retry: 10\nevent:job\ndata:{}\n\n",
        );
        let first = events.next().unwrap().unwrap();
        assert_eq!(
            (first.id.as_deref(), &*first.name, &first.data["a"]),
            (Some("7-1"), "job", &Value::from(1))
        );
        let second = events.next().unwrap().unwrap();
        assert_eq!((second.id.as_deref(), &*second.name), (Some("7-1"), "job"));
        assert!(events.next().unwrap().is_none());
    }

    #[test]
    fn half_a_line_is_no_line() {
        let mut events = events("event: job\ndata: {}");
        assert_eq!(events.next().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
