//! A scripted server, and the crawler running against it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use crawlwire_protocol::message::{Hello, JobCompleted, JobFailed, JobType, JobsDiscovered, ProgressData};
use crawlwire_protocol::{Count, CrawlerMessage, Cursor, Dialect, Envelope, Marks, WebAppMessage};
use crawlwire_transport::Endpoint;
use crawlwire_transport::testing::{ScriptedConnection, ScriptedServer, assignment, fenced, welcome};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::crawler::{self, Ended};
use crate::fixture::Fixture;
use crate::options::Options;

/// Far longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    scripted: ScriptedServer,
    stop: CancellationToken,
    crawler: JoinHandle<anyhow::Result<Ended>>,
}

impl Server {
    /// Listens, and starts a crawler of the fixture's root with these further arguments.
    pub(crate) async fn start(fixture: &Fixture, arguments: &[&str]) -> Self {
        let scripted = ScriptedServer::bind(&Endpoint::Unix(fixture.beside("s.sock"))).await;
        let stop = CancellationToken::new();
        let crawler = tokio::spawn(crawler::run(options(fixture, arguments), stop.clone()));
        Self {
            scripted,
            stop,
            crawler,
        }
    }

    /// Stops the crawler, which is connected, and starts another one; its hello and its connection.
    pub(crate) async fn restart(
        &mut self,
        mut connection: Connection,
        fixture: &Fixture,
        arguments: &[&str],
    ) -> (Hello, Connection) {
        self.stop.cancel();
        while connection.next_or_end().await.is_some() {}
        let settled = connection.settled;
        drop(connection);
        timeout(PATIENCE, &mut self.crawler).await.unwrap().unwrap().unwrap();
        self.stop = CancellationToken::new();
        self.crawler = tokio::spawn(crawler::run(options(fixture, arguments), self.stop.clone()));
        self.accept_after(settled).await
    }

    /// The crawler's next connection, as a session.
    pub(crate) async fn accept(&mut self) -> Connection {
        self.accept_after(0).await.1
    }

    /// The same from a server that has settled these numbers. The jobs the crawler holds stay its own.
    pub(crate) async fn accept_after(&mut self, settled: u64) -> (Hello, Connection) {
        let mut scripted = self.scripted.accept().await;
        let hello = scripted.expect_hello().await;
        let mut welcome = welcome(settled);
        welcome.leases = hello.holds.clone().unwrap_or_default();
        scripted.send(WebAppMessage::Welcome(welcome)).await;
        (hello, Connection::new(scripted))
    }

    /// The crawler's next connection, to a server that understands no hello.
    pub(crate) async fn accept_base(&mut self) -> Connection {
        let mut scripted = self.scripted.accept().await;
        scripted.expect_hello().await;
        scripted.set_dialect(Dialect::Base);
        let first = scripted.next().await.expect("the crawler closed the connection");
        assert!(matches!(first.message(), CrawlerMessage::Heartbeat(_)), "{first:?}");
        Connection::new(scripted)
    }

    /// The next one to the same server, when the crawler has got to know it.
    pub(crate) async fn accept_base_again(&mut self) -> Connection {
        let mut scripted = self.scripted.accept().await;
        scripted.set_dialect(Dialect::Base);
        Connection::new(scripted)
    }

    pub(crate) fn scripted(&mut self) -> &mut ScriptedServer {
        &mut self.scripted
    }

    /// Tells the crawler to stop.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// How the crawler ended.
    pub(crate) async fn ended(self) -> Ended {
        self.result().await.unwrap()
    }

    pub(crate) async fn result(self) -> anyhow::Result<Ended> {
        timeout(PATIENCE, self.crawler)
            .await
            .expect("the crawler goes on")
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
    scripted: ScriptedConnection,
    /// The fence of each job that was given; each is given under a new one.
    fences: BTreeMap<String, i64>,
    next_fence: i64,
    /// The highest number that was acknowledged.
    pub(crate) settled: u64,
}

/// Everything a job said.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) started: usize,
    pub(crate) completions: Vec<f64>,
    /// The commits that each progress spoke of.
    pub(crate) commits: Vec<u64>,
    pub(crate) discovered: Vec<JobsDiscovered>,
    pub(crate) checkpoints: Vec<Cursor>,
    pub(crate) completed: Option<JobCompleted>,
    pub(crate) failed: Option<JobFailed>,
    /// The type of another end.
    pub(crate) left: Option<&'static str>,
}

impl Story {
    fn add(&mut self, message: CrawlerMessage) {
        assert!(!self.has_ended(), "said after the end: {message:?}");
        match message {
            CrawlerMessage::JobStarted(_) => self.started += 1,
            CrawlerMessage::JobProgress(progress) => {
                self.completions.push(progress.overall_completion.get());
                let commits = progress.progress.iter().find(|data| data.entity_type == "commits");
                self.commits.extend(commits.map(|data| data.total_processed.get()));
            }
            CrawlerMessage::JobsDiscovered(discovered) => self.discovered.push(discovered),
            CrawlerMessage::Checkpoint(checkpoint) => self.checkpoints.push(checkpoint.cursor),
            CrawlerMessage::JobCompleted(completed) => self.completed = Some(completed),
            CrawlerMessage::JobFailed(failed) => self.failed = Some(failed),
            CrawlerMessage::JobCancelled(_) => self.left = Some("job_cancelled"),
            CrawlerMessage::JobPaused(_) => self.left = Some("job_paused"),
            CrawlerMessage::JobReturned(_) => self.left = Some("job_returned"),
            other => panic!("not about a job: {other:?}"),
        }
    }

    fn has_ended(&self) -> bool {
        self.completed.is_some() || self.failed.is_some() || self.left.is_some()
    }
}

impl Connection {
    fn new(scripted: ScriptedConnection) -> Self {
        Self {
            scripted,
            fences: BTreeMap::new(),
            next_fence: 1,
            settled: 0,
        }
    }

    /// The next message; every line has to be one.
    pub(crate) async fn next(&mut self) -> Envelope<CrawlerMessage> {
        self.next_or_end().await.expect("the crawler closed the connection")
    }

    /// The next message, or `None` when the crawler has closed. What has to be acknowledged is.
    pub(crate) async fn next_or_end(&mut self) -> Option<Envelope<CrawlerMessage>> {
        let heard = timeout(PATIENCE, self.scripted.next()).await.expect("silence")?;
        if let Some(seq) = heard.marks().seq {
            self.settled = seq.get();
            self.scripted.ack(self.settled).await;
        }
        Some(heard.envelope)
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

    /// The last words of a crawler.
    pub(crate) async fn await_goodbye(&mut self) {
        while !matches!(self.next().await.message, CrawlerMessage::Goodbye(_)) {}
    }

    /// Everything about a job up to its end.
    pub(crate) async fn story(&mut self, job: &str) -> Story {
        let mut story = Story::default();
        self.go_on(job, &mut story, Story::has_ended).await;
        story
    }

    /// More about a job, up to a point.
    pub(crate) async fn go_on(&mut self, job: &str, story: &mut Story, until: impl Fn(&Story) -> bool) {
        while !until(story) {
            story.add(self.next_about(job).await);
        }
    }

    fn fence(&mut self, job: &str) -> i64 {
        self.fences[job]
    }

    /// Assigns a job with this path.
    pub(crate) async fn assign(&mut self, job: &str, job_type: JobType, path: &str) {
        self.assign_from(job, job_type, path, None).await;
    }

    /// Assigns a job that goes on from a checkpoint.
    pub(crate) async fn assign_from(&mut self, job: &str, job_type: JobType, path: &str, checkpoint: Option<&Cursor>) {
        let mut assignment = assignment(job);
        assignment.job_type = job_type;
        assignment.entity_id = Some(path.to_owned());
        assignment.namespace_path = Some(path.to_owned());
        assignment.resume = checkpoint.is_some();
        let mut marks = Marks::default();
        if self.scripted.dialect() == Dialect::Session {
            assignment.checkpoint = checkpoint.cloned();
            assignment.attempt = Some(Count::from(1_u32));
            marks = fenced(self.next_fence);
        }
        self.fences.insert(job.to_owned(), self.next_fence);
        self.next_fence += 1;
        let message = WebAppMessage::JobAssignment(assignment);
        self.scripted.send_for(job, marks, message).await;
    }

    pub(crate) async fn cancel(&mut self, job: &str) {
        let fence = self.fence(job);
        self.scripted.cancel(job, fence, "somebody clicked").await;
    }

    pub(crate) async fn pause(&mut self, job: &str) {
        let fence = self.fence(job);
        self.scripted.pause(job, fence).await;
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
}

/// How many entities of a kind were done, all of those found.
pub(crate) fn done(counts: &[ProgressData], entity_type: &str) -> u64 {
    let data = counts.iter().find(|data| data.entity_type == entity_type);
    let data = data.unwrap_or_else(|| panic!("no {entity_type} in {counts:?}"));
    assert_eq!(data.total_discovered, data.total_processed, "{entity_type}");
    data.total_processed.get()
}
