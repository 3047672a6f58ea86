//! A crawler that says what the test wants it to say.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use crawlwire_transport::{Endpoint, Stream, TlsClient};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::server::block_on;
use super::{Api, DEADLINE, server, wait_until};

/// Names the socket for [`relay`].
const RELAY: &str = "CRAWLWIRE_TEST_RELAY";

/// Lines that may wait for the test to look at them.
const LINES_MAX: usize = 10_000;

const TIMESTAMP: &str = "2024-01-15T10:30:00Z";

/// The crawler's side of the base protocol. Dropped, it hangs up.
pub(crate) struct Crawler {
    writer: Box<dyn Write>,
    hang_up: Box<dyn Fn()>,
    lines: Receiver<String>,
    process: Option<Child>,
    /// Messages sent as a session; the server counts them too.
    sent: u64,
    /// How the server calls it, once it is a session.
    pub(crate) name: String,
    /// How often to say that it lives while it waits.
    beat: Option<Duration>,
}

/// A job that was handed over.
#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    pub(crate) id: String,
    pub(crate) data: Value,
}

impl Assignment {
    /// The lease, where the dialect has one.
    #[track_caller]
    pub(crate) fn fence(&self) -> u64 {
        self.data["fence"].as_u64().expect("a fence")
    }
}

impl Crawler {
    /// A connection of this process; all of these are one crawler to the server.
    pub(crate) fn unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the server listens");
        let clone = || stream.try_clone().expect("a handle");
        let (reader, writer, other) = (clone(), clone(), clone());
        Self::over(reader, writer, move || drop(other.shutdown(Shutdown::Both)))
    }

    /// A connection over TCP, which tells the server nothing about its process.
    pub(crate) fn tcp(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        let clone = || stream.try_clone().expect("a handle");
        let (reader, writer, other) = (clone(), clone(), clone());
        Self::over(reader, writer, move || drop(other.shutdown(Shutdown::Both)))
    }

    /// A connection with TLS; why there is none, if the handshake fails.
    pub(crate) fn tls(address: SocketAddr, tls: TlsClient) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        let (done, result) = sync_channel(1);
        std::thread::spawn(move || {
            block_on(async move {
                let host = address.ip().to_string();
                let endpoint = Endpoint::Tcp {
                    host,
                    port: address.port(),
                };
                let connected = Stream::connect_tls(&endpoint, &tls).await;
                let stream = connected.and_then(|stream| Ok((stream, tokio::net::UnixStream::from_std(theirs)?)));
                let (mut stream, mut theirs) = match stream {
                    Ok(both) => both,
                    Err(error) => return drop(done.send(Err(error))),
                };
                let _ = done.send(Ok(()));
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut theirs).await;
            });
        });
        result.recv_timeout(DEADLINE).expect("an end of the handshake")?;
        let (reader, writer, other) = (ours.try_clone()?, ours.try_clone()?, ours);
        Ok(Self::over(reader, writer, move || drop(other.shutdown(Shutdown::Both))))
    }

    /// A connection of a process of its own, which dies when this is dropped.
    pub(crate) fn process(path: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "support::crawler::relay", "--ignored", "--nocapture"])
            .env(RELAY, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let writer = process.stdin.take().expect("it is piped");
        let reader = process.stdout.take().expect("it is piped");
        let mut crawler = Self::over(reader, writer, || {});
        crawler.process = Some(process);
        crawler
    }

    /// Over anything that reads and writes.
    pub(crate) fn over(
        reader: impl Read + Send + 'static,
        writer: impl Write + 'static,
        hang_up: impl Fn() + 'static,
    ) -> Self {
        let (received, lines) = sync_channel(LINES_MAX);
        std::thread::spawn(move || {
            let lines = BufReader::new(reader).lines().map_while(Result::ok);
            // The process in between says a few words of its own before.
            let messages = lines.filter_map(|line| line.find('{').map(|at| line[at..].to_owned()));
            messages
                .take_while(|line| received.send(line.clone()).is_ok())
                .for_each(drop);
        });
        Self {
            writer: Box::new(writer),
            hang_up: Box::new(hang_up),
            lines,
            process: None,
            sent: 0,
            name: String::new(),
            beat: None,
        }
    }

    /// Goes away without a word.
    pub(crate) fn hang_up(&self) {
        (self.hang_up)();
    }

    /// From now on it sends a heartbeat this often while it waits for something.
    pub(crate) fn beating(mut self, every: Duration) -> Self {
        self.beat = Some(every);
        self
    }

    /// Sends bytes as they are. That the server does not take them any more is its business.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.writer.write_all(bytes).and_then(|()| self.writer.flush());
    }

    pub(crate) fn send_line(&mut self, line: &str) {
        self.send_bytes(format!("{line}\n").as_bytes());
        self.sent += 1;
    }

    pub(crate) fn say(&mut self, type_name: &str, job: Option<&str>, data: &Value) {
        self.send_line(&message(type_name, job, data));
    }

    pub(crate) fn heartbeat(&mut self) {
        let data = json!({ "active_jobs": 0, "last_activity": TIMESTAMP, "system_status": "idle" });
        self.say("heartbeat", None, &data);
    }

    pub(crate) fn started(&mut self, job: &str) {
        self.say("job_started", Some(job), &json!({ "job_type": "crawl_project" }));
    }

    pub(crate) fn progress(&mut self, job: &str, completion: f64, processed: u64) {
        let counts = json!([{ "entity_type": "issues", "total_discovered": 100, "total_processed": processed }]);
        let data = json!({ "progress": counts, "overall_completion": completion, "time_elapsed": 1500 });
        self.say("job_progress", Some(job), &data);
    }

    pub(crate) fn completed(&mut self, job: &str) {
        let counts = json!([{ "entity_type": "issues", "total_discovered": 100, "total_processed": 100 }]);
        let data = json!({
            "job_type": "crawl_project", "final_counts": counts, "total_duration": 4000,
            "output_files": ["issues.jsonl"], "summary": "100 issues",
        });
        self.say("job_completed", Some(job), &data);
    }

    pub(crate) fn failed(&mut self, job: &str, recoverable: bool) {
        let error = json!({ "error_type": "HttpError", "error_message": "503", "is_recoverable": recoverable });
        let data = json!({ "job_type": "crawl_project", "error_context": error });
        self.say("job_failed", Some(job), &data);
    }

    pub(crate) fn discovered(&mut self, job: &str, items: &[(&str, &str)]) {
        let item = |(job_type, entity): &(&str, &str)| {
            json!({
                "job_type": job_type, "entity_id": entity, "namespace_path": format!("group/{entity}"),
                "entity_name": format!("The {entity}"), "priority": 2,
            })
        };
        let items: Vec<_> = items.iter().map(item).collect();
        let data = json!({ "discovered_jobs": items, "discovery_summary": {} });
        self.say("jobs_discovered", Some(job), &data);
    }

    /// Everything a crawler can say about a job, as if it held it; how many lines that is.
    pub(crate) fn say_everything(&mut self, job: &str) -> usize {
        self.started(job);
        self.progress(job, 0.99, 99);
        self.discovered(job, &[("crawl_project", "of a ghost")]);
        let expired = json!({ "current_token_expired": true });
        self.say("token_refresh_request", Some(job), &expired);
        self.failed(job, false);
        self.completed(job);
        6
    }

    /// The next message. None when the server has hung up.
    #[track_caller]
    pub(crate) fn recv(&mut self) -> Option<Value> {
        let line = self.recv_line()?;
        Some(serde_json::from_str(&line).expect("the server speaks JSON"))
    }

    /// The same as it came, without its newline.
    #[track_caller]
    pub(crate) fn recv_line(&mut self) -> Option<String> {
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(self.beat.unwrap_or(left).min(left)) {
                Ok(line) => return Some(line),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if left.is_zero() => panic!("nothing came"),
                Err(RecvTimeoutError::Timeout) => self.heartbeat(),
            }
        }
    }

    /// What has come by now, if anything.
    pub(crate) fn try_recv(&mut self) -> Option<Value> {
        let line = self.lines.try_recv().ok()?;
        Some(serde_json::from_str(&line).expect("the server speaks JSON"))
    }

    #[track_caller]
    pub(crate) fn assignment(&mut self) -> Assignment {
        let message = self.recv().expect("an assignment, and not the end");
        assert_eq!(message["type"], "job_assignment", "{message}");
        assert_eq!(message["job_id"], message["data"]["job_id"]);
        let id = message["data"]["job_id"].as_str().expect("an id").to_owned();
        let data = message["data"].clone();
        Assignment { id, data }
    }

    /// Says that it is ready, and learns its name. Not for two at a time.
    #[track_caller]
    pub(crate) fn introduce(&mut self, api: &Api) {
        let known = api.crawlers();
        self.heartbeat();
        let unknown = || {
            api.crawlers()
                .into_iter()
                .find(|crawler| !known.iter().any(|it| it["id"] == crawler["id"]))
        };
        let session = wait_until("it is a session", unknown);
        self.name = session["id"].as_str().expect("a name").to_owned();
        // What came before made no session, so nobody counted it.
        self.sent = 1;
    }

    /// Waits until the server has taken everything that was sent; the session then.
    #[track_caller]
    pub(crate) fn settle(&mut self, api: &Api) -> Value {
        // Messages are counted when they are taken up, one after the other.
        self.heartbeat();
        wait_until("everything was taken", || {
            let session = api.crawlers().into_iter().find(|crawler| crawler["id"] == self.name)?;
            (session["messages"].as_u64()? >= self.sent).then_some(session)
        })
    }

    /// Waits until the server has hung up; messages before that are thrown away.
    #[track_caller]
    pub(crate) fn await_end(&mut self) {
        while self.recv().is_some() {}
    }

    /// Sends a signal to its process.
    pub(crate) fn signal(&self, signal: &str) {
        server::signal(self.process.as_ref().expect("a process of its own"), signal);
    }

    /// A crawler that dies without a word.
    pub(crate) fn kill(mut self) {
        self.signal("KILL");
        let mut process = self.process.take().expect("a process of its own");
        process.wait().expect("an end");
    }
}

impl Drop for Crawler {
    fn drop(&mut self) {
        (self.hang_up)();
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// One line without its newline, the type first as the protocol advises.
pub(crate) fn message(type_name: &str, job: Option<&str>, data: &Value) -> String {
    let job = job.map_or(String::new(), |job| format!(r#""job_id":{},"#, json!(job)));
    format!(r#"{{"type":"{type_name}","timestamp":"{TIMESTAMP}",{job}"data":{data}}}"#)
}

/// Not a test: what [`Crawler::process`] runs, a connection between standard input and output and the socket.
#[test]
#[ignore = "started by other tests as a process of its own"]
fn relay() {
    let Some(path) = std::env::var_os(RELAY) else { return };
    let stream = UnixStream::connect(path).expect("the server listens");
    let up = stream.try_clone().expect("a handle");
    std::thread::spawn(move || {
        pass_on(std::io::stdin().lock(), &up);
        let _ = up.shutdown(Shutdown::Both);
    });
    // Past the buffer of the standard output, which the test harness uses too.
    let down = std::io::stdout().as_fd().try_clone_to_owned().expect("a handle");
    pass_on(&stream, File::from(down));
    std::process::exit(0);
}

/// Passes bytes on as they come, until either side ends.
fn pass_on(mut from: impl Read, mut to: impl Write) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(1..) = from
        .read(&mut buffer)
        .and_then(|read| to.write_all(&buffer[..read]).map(|()| read))
    {}
}
