//! A crawler in a process of its own, on the client that crawler authors use. It writes down what it was told is kept, so
//! that this can be compared with what is there in the end.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crawlwire_protocol::message::{DiscoveredJob, DiscoverySummary, JobType};
use crawlwire_transport::Endpoint;
use crawlwire_transport::client::{Client, ClientOptions, Job, Kept, ReportError};
use serde_json::json;

use crate::support::server::{block_on, signal};
use crate::support::wait_until;

/// Names the directory and the socket for [`work`].
const DIR: &str = "CRAWLWIRE_TEST_WORKER";
const SOCKET: &str = "CRAWLWIRE_TEST_WORKER_SOCKET";

/// Checkpoints of each job.
pub(crate) const CHECKPOINTS: usize = 4;

/// Jobs that a discovery finds.
pub(crate) const FOUND: usize = 3;

const STEP: Duration = Duration::from_millis(15);

/// Something that the server has acknowledged, or something that must not be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Word {
    Checkpoint(String, usize),
    Discovered(String),
    Completed(String),
    Wrong(String),
}

impl Word {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Checkpoint(..) => "checkpoint",
            Self::Discovered(_) => "discovered",
            Self::Completed(_) => "completed",
            Self::Wrong(_) => "wrong",
        }
    }

    fn to_line(&self) -> String {
        let rest = match self {
            Self::Checkpoint(job, place) => format!("{job} {place}"),
            Self::Discovered(text) | Self::Completed(text) | Self::Wrong(text) => text.clone(),
        };
        format!("{} {rest}\n", self.kind())
    }

    fn of_line(line: &str) -> Self {
        let (kind, rest) = line.split_once(' ').expect("a kind and more");
        match (kind, rest.split_once(' ')) {
            ("checkpoint", Some((job, place))) => Self::Checkpoint(job.to_owned(), place.parse().expect("a number")),
            ("discovered", _) => Self::Discovered(rest.to_owned()),
            ("completed", _) => Self::Completed(rest.to_owned()),
            _ => Self::Wrong(rest.to_owned()),
        }
    }
}

/// What all crawlers of a directory have written down. Each word is one write, so that a kill cuts none in two.
pub(crate) fn words(dir: &Path) -> Vec<(PathBuf, Word)> {
    let mut words = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "words") {
            let text = std::fs::read_to_string(&path).expect("words");
            words.extend(text.lines().map(|line| (path.clone(), Word::of_line(line))));
        }
    }
    words
}

/// A crawler that can be killed and started again, as the same instance.
pub(crate) struct Process {
    base: PathBuf,
    socket: PathBuf,
    child: Option<Child>,
}

impl Process {
    pub(crate) fn start(dir: &Path, number: usize, socket: &Path) -> Self {
        let mut process = Self {
            base: dir.join(format!("worker-{number}")),
            socket: socket.to_owned(),
            child: None,
        };
        process.restart();
        process
    }

    /// Starts it if it does not run.
    pub(crate) fn restart(&mut self) {
        if self.child.is_some() {
            return;
        }
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "worker::work", "--ignored", "--nocapture"])
            .env(DIR, &self.base)
            .env(SOCKET, &self.socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        self.child = Some(child.expect("this program starts"));
    }

    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("a signal");
        child.wait().expect("an end");
    }

    /// In good order.
    pub(crate) fn stop(mut self) {
        let mut child = self.child.take().expect("it runs");
        signal(&child, "TERM");
        let status = wait_until("the crawler ends", || child.try_wait().expect("a child"));
        assert!(status.success(), "the crawler ended with {status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a process has written down, and writes down.
pub(crate) struct Book {
    file: File,
    /// The last checkpoint of each job that was acknowledged, also to an earlier process.
    checkpoints: BTreeMap<String, usize>,
}

impl Book {
    pub(crate) fn open(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut checkpoints = BTreeMap::new();
        for word in text.lines().map(Word::of_line) {
            if let Word::Checkpoint(job, place) = word {
                checkpoints.insert(job, place);
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        Self {
            file: file.expect("a file for words"),
            checkpoints,
        }
    }

    fn write(&mut self, word: Word) {
        self.file
            .write_all(word.to_line().as_bytes())
            .expect("a word is written");
        if let Word::Checkpoint(job, place) = word {
            self.checkpoints.insert(job, place);
        }
    }
}

pub(crate) type Shared = Arc<Mutex<Book>>;

pub(crate) fn note(book: &Shared, word: Word) {
    book.lock().unwrap_or_else(PoisonError::into_inner).write(word);
}

/// A process of its own, started by [`Process`].
#[test]
#[ignore = "run by other tests as a process of its own"]
fn work() {
    let Some(base) = std::env::var_os(DIR).map(PathBuf::from) else {
        return;
    };
    let socket = std::env::var_os(SOCKET).map(PathBuf::from).expect("a socket");
    block_on(crawl(&base, &socket));
}

async fn crawl(base: &Path, socket: &Path) {
    let book = Arc::new(Mutex::new(Book::open(&base.with_extension("words"))));
    let options = ClientOptions::new("worker")
        .slots(4)
        .instance_file(base.with_extension("instance"))
        .backoff(Duration::from_millis(10), Duration::from_millis(200));
    let endpoint = Endpoint::Unix(socket.to_owned());
    let (client, mut jobs) = Client::connect(endpoint, options).await.expect("a server");
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("a signal");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            job = jobs.next() => match job {
                Some(job) => drop(tokio::spawn(run(job, book.clone()))),
                None => {
                    note(&book, Word::Wrong(format!("the client ended: {}", client.closed().await)));
                    return;
                }
            },
        }
    }
    let stopped = client.shutdown(Duration::from_secs(10)).await;
    assert_eq!(stopped.unsettled, 0, "{stopped:?}");
}

/// Works on a job to its end.
pub(crate) async fn run(job: Job, book: Shared) {
    let id = job.id().to_string();
    if let Err(error) = live(job, &id, &book).await {
        note(&book, Word::Wrong(format!("{id}: {error}")));
    }
}

async fn live(job: Job, id: &str, book: &Shared) -> Result<(), ReportError> {
    let known = book
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .checkpoints
        .get(id)
        .copied();
    let given = job.last_checkpoint::<serde_json::Value>().ok().flatten();
    let given = given.and_then(|given| given["place"].as_u64()).unwrap_or(0) as usize;
    if known.is_some_and(|known| given < known) {
        let wrong = format!("{id} was given back checkpoint {given}, and {known:?} was acknowledged");
        note(book, Word::Wrong(wrong));
    }
    for place in given + 1..=CHECKPOINTS {
        tokio::time::sleep(STEP).await;
        job.progress(place as f64 / CHECKPOINTS as f64);
        match job.checkpoint(&json!({ "place": place })).await? {
            Kept::Durable => note(book, Word::Checkpoint(id.to_owned(), place)),
            Kept::Unsupported => note(book, Word::Wrong(format!("{id}: no checkpoints"))),
        }
    }
    if job.job_type() == JobType::DiscoverNamespaces {
        let found = (0..FOUND).map(|number| DiscoveredJob {
            job_type: JobType::CrawlProject,
            entity_id: format!("{id}-{number}"),
            namespace_path: format!("group/{number}"),
            entity_name: number.to_string(),
            priority: 1.0,
            estimated_size: None,
        });
        job.discovered(found.collect::<Vec<_>>(), DiscoverySummary::default())
            .await?;
        note(book, Word::Discovered(id.to_owned()));
    }
    job.complete("all of it").await?;
    note(book, Word::Completed(id.to_owned()));
    Ok(())
}
