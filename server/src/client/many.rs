//! `crawlwire submit --file`: a file of jobs, many at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::console::Console;
use super::server::{Refusal, Trouble};
use super::text::{json as as_text, shown};
use super::view::{items, many, text};
use super::{EXIT_DONE, EXIT_FAILED};

/// Jobs and bytes of one request: what the server takes, with room for what stands around them.
const BATCH_JOBS_MAX: usize = 500;
const BATCH_BYTES_MAX: usize = 512 * 1024;

/// Longest line: the longest body of a request.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// How often a job is tried again that the server has no room for now, and after what time.
const TRIES: usize = 60;
const PAUSE: Duration = Duration::from_secs(5);

/// Where many jobs go at a time.
const BATCH: &str = "/api/v1/jobs/batch";

/// A job and the line it stands on.
type Line = (usize, Value);

pub(crate) fn run(path: &Path, console: &mut Console) -> Result<u8, Trouble> {
    let unreadable = |error: io::Error| Trouble::Usage(format!("cannot read {}: {error}", path.display()));
    let file: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(path).map_err(unreadable)?),
    };
    let mut submission = Submission::new(console)?;
    let (mut batch, mut bytes, mut number) = (Vec::new(), 0, 0);
    let mut lines = BufReader::new(file);
    loop {
        let mut line = Vec::new();
        let read = (&mut lines)
            .take(LINE_BYTES_MAX as u64 + 1)
            .read_until(b'\n', &mut line)
            .map_err(unreadable)?;
        if read == 0 {
            break;
        }
        number += 1;
        if line.len() > LINE_BYTES_MAX {
            return Err(Trouble::Usage(format!(
                "line {number} of {} is longer than a job may be",
                path.display()
            )));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Value>(&line) {
            Ok(job @ Value::Object(_)) => {
                bytes += line.len();
                batch.push((number, job));
            }
            Ok(_) => submission.wrong(number, "expected an object", console)?,
            Err(error) => submission.wrong(number, &format!("this is no JSON: {error}"), console)?,
        }
        if batch.len() == BATCH_JOBS_MAX || bytes > BATCH_BYTES_MAX - LINE_BYTES_MAX / 4 {
            submission.send(std::mem::take(&mut batch), console)?;
            bytes = 0;
        }
    }
    submission.send(batch, console)?;
    submission.end(console)
}

/// How it goes.
struct Submission {
    taken: u64,
    refused: u64,
    /// Whether the server takes many jobs in one request.
    in_batches: bool,
    /// Whether somebody looks on.
    watched: bool,
}

impl Submission {
    fn new(console: &mut Console) -> Result<Self, Trouble> {
        if console.json {
            write!(console.out, "{{\"items\":[")?;
        }
        Ok(Self {
            taken: 0,
            refused: 0,
            in_batches: takes_batches(console)?,
            watched: io::stderr().is_terminal(),
        })
    }

    /// Submits jobs, and what finds no room again and again. What comes of them is told in the order of the lines.
    fn send(&mut self, batch: Vec<Line>, console: &mut Console) -> Result<(), Trouble> {
        let mut left = batch;
        let mut told = BTreeMap::new();
        for attempt in 1.. {
            let results = self
                .post(&left, console)
                .map_err(|trouble| self.unknown(&left, trouble))?;
            let mut again = Vec::new();
            for ((number, job), result) in left.into_iter().zip(results) {
                match result {
                    Err(refusal) if attempt < TRIES && is_passing(&refusal) => again.push((number, job)),
                    result => drop(told.insert(number, result)),
                }
            }
            if again.is_empty() {
                break;
            }
            left = again;
            console.flush()?;
            self.progress(&format!(", no room for {} at the moment", left.len()), console);
            rest(PAUSE);
        }
        for (number, result) in told {
            match result {
                Ok(job) => self.took(number, &job, console)?,
                Err(refusal) => self.refused(number, &refusal, console)?,
            }
        }
        self.progress("", console);
        console.flush()
    }

    fn post(&self, batch: &[Line], console: &Console) -> Result<Vec<Result<Value, Refusal>>, Trouble> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        if self.in_batches {
            let jobs: Vec<_> = batch.iter().map(|(_, job)| job).collect();
            return match console.server.post(BATCH, &json!({ "jobs": jobs })) {
                Err(Trouble::Refused(refusal)) => Ok(vec![Err(refusal); batch.len()]),
                answer => {
                    let results = answer?;
                    let results = items(&results).iter().map(|item| match &item["job"] {
                        Value::Null => Err(Refusal::of(item["problem"].clone())),
                        job => Ok(job.clone()),
                    });
                    Ok(results.collect())
                }
            };
        }
        let one = |(_, job): &Line| match console.server.post("/api/v1/jobs", job) {
            Err(Trouble::Refused(refusal)) => Ok(Err(refusal)),
            answer => answer.map(Ok),
        };
        batch.iter().map(one).collect()
    }

    /// Where nobody answers, some of them may have been taken.
    fn unknown(&self, batch: &[Line], trouble: Trouble) -> Trouble {
        match (trouble, batch.first(), batch.last()) {
            (Trouble::Unreachable { address, reason }, Some((first, _)), Some((last, _))) => Trouble::Unreachable {
                address,
                reason: format!(
                    "{reason}. {} taken before; whether any of lines {first} to {last} were is not known. Jobs with a \
                     web_app_job_id can be submitted again without fear",
                    many(self.taken, "job")
                ),
            },
            (trouble, _, _) => trouble,
        }
    }

    fn took(&mut self, line: usize, job: &Value, console: &mut Console) -> Result<(), Trouble> {
        match console.json {
            true => self.item(&json!({ "line": line, "job": job }), console)?,
            false => console.line(&shown(text(job, "id")))?,
        }
        self.taken += 1;
        Ok(())
    }

    fn refused(&mut self, line: usize, refusal: &Refusal, console: &mut Console) -> Result<(), Trouble> {
        if console.json {
            self.item(&json!({ "line": line, "problem": refusal.document }), console)?;
        }
        self.refused += 1;
        for words in refusal.lines() {
            self.say(&format!("line {line}: {}", words.trim_start()), console);
        }
        Ok(())
    }

    /// A line that is not even sent.
    fn wrong(&mut self, line: usize, detail: &str, console: &mut Console) -> Result<(), Trouble> {
        self.refused(
            line,
            &Refusal::of(json!({ "status": 400, "code": "not_json", "detail": detail })),
            console,
        )
    }

    fn item(&self, item: &Value, console: &mut Console) -> Result<(), Trouble> {
        let comma = if self.taken + self.refused > 0 { "," } else { "" };
        Ok(write!(console.out, "{comma}{}", as_text(item))?)
    }

    /// A line for people, above the one that counts.
    fn say(&self, words: &str, console: &Console) {
        console.note(&format!("{}{words}", if self.watched { "\r\u{1b}[K" } else { "" }));
    }

    fn progress(&self, more: &str, console: &Console) {
        if self.watched {
            console.murmur(&format!(
                "\r\u{1b}[K{} submitted, {} refused{more}",
                self.taken, self.refused
            ));
        }
    }

    fn end(&self, console: &mut Console) -> Result<u8, Trouble> {
        if console.json {
            console.line("]}")?;
        }
        console.flush()?;
        self.say(&format!("{} submitted, {} refused", self.taken, self.refused), console);
        Ok(if self.refused == 0 { EXIT_DONE } else { EXIT_FAILED })
    }
}

/// Servers of some versions take one job at a time. Asked without a body: one that is refused unread may cost its answer,
/// and nobody would know what became of the jobs in it.
fn takes_batches(console: &Console) -> Result<bool, Trouble> {
    match console.server.get(BATCH) {
        // There is such an address, and it takes other requests.
        Err(Trouble::Refused(refusal)) => Ok(refusal.status == 405),
        answer => answer.map(|_| false),
    }
}

/// Whether it may be otherwise in a moment, and surely nothing was done.
fn is_passing(refusal: &Refusal) -> bool {
    matches!(refusal.code(), "queue_full" | "database_unavailable")
}

#[expect(clippy::disallowed_methods, reason = "a command that waits, no runtime")]
fn rest(time: Duration) {
    thread::sleep(time);
}
