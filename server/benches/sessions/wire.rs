//! A crawler of the session dialect, at the level of its lines: enough of it for a load, and cheap to read.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use uuid::Uuid;

const AT: &str = "2026-01-15T10:30:00Z";

/// Makes a checkpoint a line of about 300 bytes, as a cursor with a page token of some service would.
const PAGE_TOKEN: &str = "eyJpZCI6IjQ4MjE2MzUiLCJ1cGRhdGVkX2F0IjoiMjAyNi0wMS0xNFQyMzo1OTo1OS45OTlaIiwic29ydCI6ImFzYyJ9";

/// A server that says nothing for so long will not say anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A job that a crawler holds.
#[derive(Clone)]
pub(crate) struct Lease {
    pub(crate) job: String,
    fence: u64,
}

/// What a server says that a load has to know.
pub(crate) enum Heard {
    /// Everything up to this number is durable.
    Acked(u64),
    Assigned(Lease),
    /// The job is to be ended.
    Cancel(String),
    Other,
}

pub(crate) struct Session {
    lines: Lines<BufReader<OwnedReadHalf>>,
    out: OwnedWriteHalf,
    /// Lines to be sent with the next flush.
    text: String,
    /// The last number given to a lasting message.
    pub(crate) seq: u64,
    /// Lasting messages that may wait for their acknowledgement.
    pub(crate) window: u64,
    /// Of the jobs that it said it holds, how many are still its own.
    pub(crate) kept: usize,
}

impl Session {
    /// Says hello, and waits for the welcome. A server that refuses is an error.
    pub(crate) async fn connect(socket: &Path, instance: Uuid, slots: usize, holds: &[Lease]) -> io::Result<Self> {
        let (read, mut out) = UnixStream::connect(socket).await?.into_split();
        out.write_all(hello(instance, slots, holds).as_bytes()).await?;
        let mut lines = BufReader::new(read).lines();
        let welcome = timeout(DEADLINE, lines.next_line()).await??;
        let welcome = welcome.ok_or(io::ErrorKind::UnexpectedEof)?;
        match (kind(&welcome), number(&welcome, "high_water_seq")) {
            ("welcome", Some(seq)) => Ok(Self {
                lines,
                out,
                text: String::new(),
                seq,
                window: number(&welcome, "max_in_flight").ok_or(io::ErrorKind::InvalidData)?,
                kept: welcome.matches("\"fence\":").count(),
            }),
            _ => Err(io::Error::other(welcome)),
        }
    }

    /// What the server says next. An error or a goodbye of the server is an error: whoever works in good order gets none.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> io::Result<Heard> {
        let line = self.lines.next_line().await?;
        let line = line.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(match kind(&line) {
            "ack" => number(&line, "seq").map_or(Heard::Other, Heard::Acked),
            "job_assignment" => lease(&line).map_or(Heard::Other, Heard::Assigned),
            "job_cancel" => lease(&line).map_or(Heard::Other, |lease| Heard::Cancel(lease.job)),
            "ping" => {
                let nonce = text(&line, "nonce").map(|nonce| format!("\"nonce\":\"{nonce}\""));
                let nonce = nonce.unwrap_or_default();
                self.push(&format!(
                    "{{\"type\":\"pong\",\"timestamp\":\"{AT}\",\"data\":{{{nonce}}}}}\n"
                ));
                Heard::Other
            }
            "error" | "goodbye" => return Err(io::Error::other(line)),
            _ => Heard::Other,
        })
    }

    /// Waits for a job, and says that it has begun. Returns when that is durable.
    pub(crate) async fn begin(&mut self) -> io::Result<Lease> {
        let lease = loop {
            if let Heard::Assigned(lease) = timeout(DEADLINE, self.next()).await?? {
                break lease;
            }
        };
        self.start(&lease);
        self.flush().await?;
        self.settled().await?;
        Ok(lease)
    }

    /// Waits until everything that was sent is durable.
    pub(crate) async fn settled(&mut self) -> io::Result<()> {
        loop {
            if let Heard::Acked(seq) = timeout(DEADLINE, self.next()).await??
                && seq >= self.seq
            {
                return Ok(());
            }
        }
    }

    /// Adds that the job has begun.
    pub(crate) fn start(&mut self, lease: &Lease) {
        self.lasting("job_started", lease, "\"job_type\":\"crawl_project\"");
    }

    /// Adds how far the crawler has come.
    pub(crate) fn checkpoint(&mut self, lease: &Lease) {
        let page = self.seq;
        let cursor = format!(
            "\"cursor\":{{\"collection\":\"issues\",\"page\":{page},\"per_page\":100,\"after\":\"{PAGE_TOKEN}\"}}"
        );
        self.lasting("checkpoint", lease, &cursor);
    }

    /// Adds that the job was ended as asked.
    pub(crate) fn cancelled(&mut self, lease: &Lease) {
        self.lasting("job_cancelled", lease, "");
    }

    fn lasting(&mut self, kind: &str, Lease { job, fence }: &Lease, data: &str) {
        self.seq += 1;
        let seq = self.seq;
        self.push(&format!(
            "{{\"type\":\"{kind}\",\"timestamp\":\"{AT}\",\"job_id\":\"{job}\",\"seq\":{seq},\"fence\":{fence},\
             \"data\":{{{data}}}}}\n"
        ));
    }

    /// Adds a report of progress, the so-and-so-manyth.
    pub(crate) fn progress(&mut self, Lease { job, fence }: &Lease, n: u64) {
        self.push(&format!(
            "{{\"type\":\"job_progress\",\"timestamp\":\"{AT}\",\"job_id\":\"{job}\",\"fence\":{fence},\"n\":{n},\
             \"data\":{{\"progress\":[{{\"entity_type\":\"issues\",\"total_discovered\":1000000,\
             \"total_processed\":{n}}}],\"overall_completion\":0.5,\"time_elapsed\":{n}}}}}\n"
        ));
    }

    /// Adds a sign of life.
    pub(crate) fn heartbeat(&mut self) {
        self.push(&heartbeat());
    }

    fn push(&mut self, line: &str) {
        self.text.push_str(line);
    }

    /// Sends what was added.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(self.text.as_bytes()).await?;
        self.text.clear();
        Ok(())
    }
}

/// The first line of a session.
pub(crate) fn hello(instance: Uuid, slots: usize, holds: &[Lease]) -> String {
    let holds: Vec<_> = holds
        .iter()
        .map(|Lease { job, fence }| format!("{{\"job_id\":\"{job}\",\"fence\":{fence}}}"))
        .collect();
    format!(
        "{{\"type\":\"hello\",\"timestamp\":\"{AT}\",\"data\":{{\"versions\":[1],\
         \"features\":[\"cancel\",\"checkpoint\"],\"role\":\"crawler\",\"crawler_id\":\"bench-{instance}\",\
         \"instance_id\":\"{instance}\",\"slots\":{slots},\"holds\":[{}]}}}}\n",
        holds.join(",")
    )
}

pub(crate) fn heartbeat() -> String {
    format!(
        "{{\"type\":\"heartbeat\",\"timestamp\":\"{AT}\",\
         \"data\":{{\"active_jobs\":0,\"last_activity\":\"{AT}\",\"system_status\":\"idle\"}}}}\n"
    )
}

/// A question that is answered at once.
pub(crate) fn ping() -> String {
    format!("{{\"type\":\"ping\",\"timestamp\":\"{AT}\",\"data\":{{\"nonce\":\"how-are-you\"}}}}\n")
}

fn lease(line: &str) -> Option<Lease> {
    let job = text(line, "job_id")?.to_owned();
    let fence = number(line, "fence")?;
    Some(Lease { job, fence })
}

fn kind(line: &str) -> &str {
    text(line, "type").unwrap_or_default()
}

/// The first text of this name.
fn text<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    after(line, name)?.strip_prefix('"')?.split('"').next()
}

/// The first whole number of this name.
pub(crate) fn number(line: &str, name: &str) -> Option<u64> {
    let rest = after(line, name)?;
    let end = rest
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// What stands behind a name. The server writes no blanks.
fn after<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.match_indices(name).find_map(|(at, _)| {
        let named = line[..at].ends_with('"');
        let rest = line[at + name.len()..].strip_prefix("\":")?;
        named.then_some(rest)
    })
}
