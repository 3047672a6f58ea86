//! A scripted server, and the crawler running against it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use crawlwire_protocol::message::{
    JobAssignment, JobCompleted, JobFailed, JobType, JobsDiscovered, ProgressData, Shutdown, SystemStatus,
};
use crawlwire_protocol::{AccessToken, CrawlerMessage, Decoded, Envelope, WebAppMessage, decode, encode};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::crawler::{self, Ended};
use crate::fixture::Fixture;
use crate::options::Options;

/// Far longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    listener: UnixListener,
    stop: CancellationToken,
    crawler: JoinHandle<anyhow::Result<Ended>>,
}

impl Server {
    /// Listens, and starts a crawler of the fixture's root with these further arguments.
    pub(crate) fn start(fixture: &Fixture, arguments: &[&str]) -> Self {
        let listener = UnixListener::bind(fixture.beside("s.sock")).unwrap();
        let stop = CancellationToken::new();
        let crawler = tokio::spawn(crawler::run(options(fixture, arguments), stop.clone()));
        Self {
            listener,
            stop,
            crawler,
        }
    }

    /// The crawler's next connection. Its first message is a heartbeat.
    pub(crate) async fn accept(&self) -> Connection {
        let (stream, _) = timeout(PATIENCE, self.listener.accept())
            .await
            .expect("no connection")
            .unwrap();
        let mut connection = Connection::new(stream);
        let first = connection.next().await.message;
        assert!(matches!(first, CrawlerMessage::Heartbeat(_)), "{first:?}");
        connection
    }

    /// Tells the crawler to stop.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// How the crawler ended.
    pub(crate) async fn ended(self) -> Ended {
        timeout(PATIENCE, self.crawler)
            .await
            .expect("the crawler goes on")
            .unwrap()
            .unwrap()
    }
}

pub(crate) fn options(fixture: &Fixture, arguments: &[&str]) -> Options {
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let fixed = [
        "git_crawler".to_owned(),
        format!("--root={}", text(fixture.root())),
        format!("--socket={}", text(fixture.beside("s.sock"))),
        "--quiet".to_owned(),
    ];
    let given = arguments.iter().map(|argument| (*argument).to_owned());
    let mut options = Options::parse_from(fixed.into_iter().chain(given));
    if options.out == crate::options::default_out() {
        options.out = fixture.beside("out");
    }
    options
}

pub(crate) struct Connection {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

/// Everything a job said.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) started: usize,
    pub(crate) completions: Vec<f64>,
    pub(crate) discovered: Vec<JobsDiscovered>,
    pub(crate) completed: Option<JobCompleted>,
    pub(crate) failed: Option<JobFailed>,
}

impl Story {
    fn add(&mut self, message: CrawlerMessage) {
        assert!(!self.has_ended(), "said after the end: {message:?}");
        match message {
            CrawlerMessage::JobStarted(_) => self.started += 1,
            CrawlerMessage::JobProgress(progress) => self.completions.push(progress.overall_completion.get()),
            CrawlerMessage::JobsDiscovered(discovered) => self.discovered.push(discovered),
            CrawlerMessage::JobCompleted(completed) => self.completed = Some(completed),
            CrawlerMessage::JobFailed(failed) => self.failed = Some(failed),
            other => panic!("not about a job: {other:?}"),
        }
    }

    fn has_ended(&self) -> bool {
        self.completed.is_some() || self.failed.is_some()
    }
}

impl Connection {
    fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self {
            lines: BufReader::new(reader).lines(),
            writer,
        }
    }

    /// The next message; every line has to be one.
    pub(crate) async fn next(&mut self) -> Envelope<CrawlerMessage> {
        self.next_or_end().await.expect("the crawler closed the connection")
    }

    /// The next message, or `None` when the crawler has closed.
    pub(crate) async fn next_or_end(&mut self) -> Option<Envelope<CrawlerMessage>> {
        let line = timeout(PATIENCE, self.lines.next_line())
            .await
            .expect("silence")
            .unwrap()?;
        match decode(line.as_bytes()) {
            Ok(Decoded::Known(envelope)) => Some(envelope),
            other => panic!("{other:?}: {line}"),
        }
    }

    /// The next message about a job.
    pub(crate) async fn next_about(&mut self, job: &str) -> CrawlerMessage {
        loop {
            let envelope = self.next().await;
            if envelope.job_id.is_some_and(|id| id.as_str() == job) {
                return envelope.message;
            }
        }
    }

    /// The jobs it speaks of in the next heartbeat with this status.
    pub(crate) async fn active_jobs_when(&mut self, status: SystemStatus) -> u64 {
        loop {
            if let CrawlerMessage::Heartbeat(heartbeat) = self.next().await.message
                && heartbeat.system_status == status
            {
                return heartbeat.active_jobs.get();
            }
        }
    }

    /// Everything about a job up to its end.
    pub(crate) async fn story(&mut self, job: &str) -> Story {
        let mut story = Story::default();
        while !story.has_ended() {
            story.add(self.next_about(job).await);
        }
        story
    }

    pub(crate) async fn send(&mut self, message: WebAppMessage) {
        self.send_line(&encode(&Envelope::now(message)).unwrap()).await;
    }

    pub(crate) async fn send_line(&mut self, line: &[u8]) {
        self.writer.write_all(line).await.unwrap();
    }

    /// Assigns a job with this path.
    pub(crate) async fn assign(&mut self, job: &str, job_type: JobType, path: &str) {
        self.send(WebAppMessage::JobAssignment(JobAssignment {
            job_id: job.to_owned(),
            job_type,
            entity_id: Some(path.to_owned()),
            namespace_path: Some(path.to_owned()),
            gitlab_host: "https://localhost".to_owned(),
            access_token: AccessToken::new("secret"),
            priority: 1.0,
            resume: false,
        }))
        .await;
    }

    /// Assigns a job and hears all of it.
    pub(crate) async fn run(&mut self, job_type: JobType, path: &str) -> Story {
        let job = format!("job {job_type} {path}");
        self.assign(&job, job_type, path).await;
        let story = self.story(&job).await;
        assert_eq!(story.started, 1);
        story
    }

    /// Assigns a job that goes well.
    pub(crate) async fn complete(&mut self, job_type: JobType, path: &str) -> JobCompleted {
        let story = self.run(job_type, path).await;
        assert!(story.failed.is_none(), "{:?}", story.failed);
        assert_eq!(story.completions.last(), Some(&1.0));
        story.completed.unwrap()
    }

    /// Assigns a job that cannot succeed, ever. Returns the error's type and message.
    pub(crate) async fn refuse(&mut self, job_type: JobType, path: &str) -> (String, String) {
        let error = self
            .run(job_type, path)
            .await
            .failed
            .expect("it went well")
            .error_context;
        assert!(!error.is_recoverable, "{error:?}");
        (error.error_type, error.error_message)
    }

    pub(crate) async fn shut_down(&mut self, graceful: bool) {
        self.send(WebAppMessage::Shutdown(Shutdown {
            graceful,
            timeout_seconds: 30.0,
            reason: None,
        }))
        .await;
    }
}

/// How many entities of a kind were done, all of those found.
pub(crate) fn done(counts: &[ProgressData], entity_type: &str) -> u64 {
    let data = counts.iter().find(|data| data.entity_type == entity_type);
    let data = data.unwrap_or_else(|| panic!("no {entity_type} in {counts:?}"));
    assert_eq!(data.total_discovered, data.total_processed, "{entity_type}");
    data.total_processed.get()
}
