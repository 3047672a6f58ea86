//! A server that does what a test says, for tests of crawlers.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crawlwire_protocol::message::{
    Ack, Counts, Draining, ErrorReply, HeldLease, Hello, JobAssignment, JobCancel, JobPause, JobType, ProgressData,
    ReportPolicy, ServerGoodbye, ServerInfo, TokenRefreshResponse, VERSION, Welcome,
};
use crawlwire_protocol::{
    AccessToken, Category, Count, CrawlerMessage, Cursor, Dialect, FenceNo, JobId, List, Marks, Name, Seq, Severity,
    Version, WebAppMessage, Whole, WireTime, Words,
};
use tokio::sync::mpsc;

use super::bound::{Bound, MemoryConnector};
use super::conversation::{Conversation, Heard, PATIENCE};
use crate::Endpoint;
use crate::client::BoxedStream;

/// Connections that may wait to be accepted by the test.
const WAITING_MAX: usize = 64;

/// A server whose every line a test chooses.
#[derive(Debug)]
pub struct ScriptedServer {
    bound: Bound,
}

impl ScriptedServer {
    /// Listens on a Unix socket in a folder of its own.
    ///
    /// # Panics
    /// When the system does not let it.
    pub async fn unix() -> Self {
        Self { bound: Bound::unix() }
    }

    /// Listens on a free TCP port of this machine.
    ///
    /// # Panics
    /// When the system does not let it.
    pub async fn tcp() -> Self {
        Self {
            bound: Bound::tcp().await,
        }
    }

    /// Listens on an endpoint.
    ///
    /// # Panics
    /// When the system does not let it.
    pub async fn bind(endpoint: &Endpoint) -> Self {
        Self {
            bound: Bound::at(endpoint).await,
        }
    }

    /// Listens in memory: whoever uses the connector reaches it, at any endpoint.
    pub fn in_memory() -> (Self, MemoryConnector) {
        let (to, from) = mpsc::channel(WAITING_MAX);
        let is_down = Arc::new(AtomicBool::new(false));
        let bound = Bound::memory(from);
        (Self { bound }, MemoryConnector { to, is_down })
    }

    /// Where it listens.
    pub fn endpoint(&self) -> Endpoint {
        self.bound.endpoint()
    }

    /// The next connection, as it comes.
    ///
    /// # Panics
    /// When none comes within [`PATIENCE`].
    pub async fn accept(&mut self) -> ScriptedConnection {
        self.accept_within(PATIENCE).await
    }

    /// The same with another patience: waits between attempts may be longer than [`PATIENCE`].
    ///
    /// # Panics
    /// When nobody connects in time.
    pub async fn accept_within(&mut self, patience: Duration) -> ScriptedConnection {
        match tokio::time::timeout(patience, self.bound.accept()).await {
            Ok(stream) => ScriptedConnection::new(stream),
            Err(_) => panic!("scripted server: nobody connected"),
        }
    }

    /// Nobody may connect for this long.
    ///
    /// # Panics
    /// When somebody does.
    pub async fn expect_nobody(&mut self, time: Duration) {
        if tokio::time::timeout(time, self.bound.accept()).await.is_ok() {
            panic!("scripted server: somebody connected");
        }
    }

    /// The next connection, greeted with the default [`welcome`].
    ///
    /// # Panics
    /// When none comes within [`PATIENCE`], or its first line is no hello.
    pub async fn session(&mut self) -> ScriptedConnection {
        self.session_with(welcome(0)).await
    }

    /// The next connection, greeted with this welcome. Jobs that its hello holds are confirmed, unless the welcome
    /// names others.
    ///
    /// # Panics
    /// As [`ScriptedServer::session`].
    pub async fn session_with(&mut self, mut welcome: Welcome) -> ScriptedConnection {
        let mut connection = self.accept().await;
        let hello = connection.expect_hello().await;
        if welcome.leases.is_empty() {
            welcome.leases = hello.holds.unwrap_or_default();
        }
        connection.send(WebAppMessage::Welcome(welcome)).await;
        connection
    }
}

/// One connection of a [`ScriptedServer`].
#[derive(Debug)]
pub struct ScriptedConnection {
    conversation: Conversation<CrawlerMessage, WebAppMessage>,
}

impl std::ops::Deref for ScriptedConnection {
    type Target = Conversation<CrawlerMessage, WebAppMessage>;

    fn deref(&self) -> &Self::Target {
        &self.conversation
    }
}

impl std::ops::DerefMut for ScriptedConnection {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.conversation
    }
}

impl ScriptedConnection {
    fn new(stream: BoxedStream) -> Self {
        Self {
            conversation: Conversation::over("scripted server", stream, Dialect::Session),
        }
    }

    /// The hello, which must be the next line.
    ///
    /// # Panics
    /// When it is not.
    pub async fn expect_hello(&mut self) -> Hello {
        match self.expect("hello").await.envelope.message {
            CrawlerMessage::Hello(hello) => hello,
            _ => unreachable!("expect looks at the type"),
        }
    }

    /// Gives a job of type `crawl_project`.
    pub async fn assign(&mut self, job: &str, fence: i64) {
        self.send_for(job, fenced(fence), WebAppMessage::JobAssignment(assignment(job)))
            .await;
    }

    /// Gives a job that goes on from a checkpoint, with 75 of 150 `issues` processed.
    ///
    /// # Panics
    /// When the checkpoint is no JSON object.
    pub async fn assign_resumed(&mut self, job: &str, fence: i64, attempt: u32, checkpoint: &str) {
        let mut assignment = assignment(job);
        assignment.resume = true;
        assignment.attempt = Some(Count::from(attempt));
        assignment.checkpoint = Some(Cursor::new(checkpoint).expect("a JSON object"));
        assignment.counts = Some(Counts::cut([ProgressData::new("issues", 150.into(), 75.into())]));
        self.send_for(job, fenced(fence), WebAppMessage::JobAssignment(assignment))
            .await;
    }

    /// Acknowledges all numbers up to this one.
    ///
    /// # Panics
    /// When it is 0.
    pub async fn ack(&mut self, seq: u64) {
        let seq = Seq::new(seq).expect("a number from 1");
        self.send(WebAppMessage::Ack(Ack { seq })).await;
    }

    /// The next message, which must be of this type; it is acknowledged.
    ///
    /// # Panics
    /// As [`Conversation::expect`].
    pub async fn expect_and_ack(&mut self, type_name: &str) -> Heard<CrawlerMessage> {
        let heard = self.expect(type_name).await;
        self.ack(heard.seq()).await;
        heard
    }

    /// Refuses a number for good.
    pub async fn refuse(&mut self, seq: u64, code: &str) {
        self.send(WebAppMessage::Error(error(Some(seq), code))).await;
    }

    /// Refuses a number for now.
    pub async fn retry(&mut self, seq: u64, code: &str, after: Duration) {
        let error = ErrorReply {
            retryable: true,
            retry_after_ms: Some(after.into()),
            ..error(Some(seq), code)
        };
        self.send(WebAppMessage::Error(error)).await;
    }

    /// Wants a job cancelled.
    pub async fn cancel(&mut self, job: &str, fence: i64, reason: &str) {
        let cancel = JobCancel {
            reason: Some(Words::cut(reason)),
            deadline_ms: PATIENCE.into(),
        };
        self.send_for(job, fenced(fence), WebAppMessage::JobCancel(cancel))
            .await;
    }

    /// Wants a job paused.
    pub async fn pause(&mut self, job: &str, fence: i64) {
        let pause = JobPause {
            reason: None,
            deadline_ms: PATIENCE.into(),
        };
        self.send_for(job, fenced(fence), WebAppMessage::JobPause(pause)).await;
    }

    /// Answers a token refresh request. An empty token refuses.
    pub async fn refreshed(&mut self, request: &Heard<CrawlerMessage>, token: &str) {
        let response = TokenRefreshResponse {
            access_token: AccessToken::new(token),
            expires_at: None,
            refresh_successful: !token.is_empty(),
        };
        let job = request.job().to_owned();
        self.send_for(&job, request.marks(), WebAppMessage::TokenRefreshResponse(response))
            .await;
    }

    /// Announces that the server goes.
    pub async fn drain(&mut self, reconnect_after: Duration) {
        let draining = Draining {
            reason: None,
            reconnect_after_ms: reconnect_after.into(),
            deadline_ms: PATIENCE.into(),
        };
        self.send(WebAppMessage::Draining(draining)).await;
    }

    /// Says goodbye.
    pub async fn goodbye(&mut self, reason: &str, reconnect: bool) {
        self.say_goodbye(reason, reconnect, None).await;
    }

    /// Says goodbye, and when to come back.
    pub async fn goodbye_until(&mut self, reason: &str, reconnect_after: Duration) {
        self.say_goodbye(reason, true, Some(reconnect_after)).await;
    }

    async fn say_goodbye(&mut self, reason: &str, reconnect: bool, reconnect_after: Option<Duration>) {
        let goodbye = ServerGoodbye {
            reason: Name::cut(reason),
            reconnect,
            reconnect_after_ms: reconnect_after.map(Into::into),
        };
        self.send(WebAppMessage::Goodbye(goodbye)).await;
    }
}

/// Terms for tests: all features, short intervals, room for 64 messages.
///
/// # Panics
/// When the number is 2^53 or more.
pub fn welcome(high_water: u64) -> Welcome {
    let features = ["cancel", "checkpoint"].map(Name::cut);
    Welcome {
        version: Version::new(VERSION).expect("the version there is"),
        features: List::cut(features),
        session_id: Name::cut("scripted"),
        server: ServerInfo {
            name: Name::cut("scripted"),
            version: Name::cut("1"),
        },
        heartbeat_interval_ms: Duration::from_secs(10).into(),
        heartbeat_timeout_ms: Duration::from_secs(30).into(),
        lease_ms: Duration::from_secs(30).into(),
        max_message_size_bytes: Count::from(1024 * 1024),
        max_in_flight: Count::from(64),
        max_in_flight_bytes: Count::from(1024 * 1024),
        report_policy: ReportPolicy {
            progress_interval_ms: Duration::from_millis(100).into(),
        },
        server_time: WireTime::now(),
        high_water_seq: Whole::new(high_water).expect("a number below 2^53"),
        leases: List::default(),
        refused: Some(List::default()),
    }
}

/// A lease, for a welcome.
///
/// # Panics
/// When the job has no name or the fence is out of range.
pub fn lease(job: &str, fence: i64) -> HeldLease {
    HeldLease {
        job_id: JobId::new(job).expect("a job has a name"),
        fence: FenceNo::new(fence).expect("a fence from 0"),
    }
}

/// The marks of a message about a lease.
///
/// # Panics
/// When the fence is out of range.
pub fn fenced(fence: i64) -> Marks {
    Marks {
        fence: Some(FenceNo::new(fence).expect("a fence from 0")),
        ..Marks::default()
    }
}

/// A job of type `crawl_project` with the token `test-token`.
pub fn assignment(job: &str) -> JobAssignment {
    JobAssignment {
        job_id: job.to_owned(),
        job_type: JobType::CrawlProject,
        entity_id: Some("1".to_owned()),
        namespace_path: Some("group/project".to_owned()),
        gitlab_host: "gitlab.example.com".to_owned(),
        access_token: AccessToken::new("test-token"),
        priority: 1.0,
        resume: false,
        checkpoint: None,
        counts: None,
        attempt: None,
    }
}

/// A final refusal.
///
/// # Panics
/// When the number is 0.
pub fn error(seq: Option<u64>, code: &str) -> ErrorReply {
    ErrorReply {
        seq: seq.map(|seq| Seq::new(seq).expect("a number from 1")),
        ..ErrorReply::new(code, Category::JobProcessing, Severity::Low, code)
    }
}
