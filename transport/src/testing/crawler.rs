//! A crawler that does what a test says, line by line, for tests of servers.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crawlwire_protocol::message::{
    Checkpoint, CrawlerId, DiscoveredJob, DiscoverySummary, ErrorContext, Feature, Heartbeat, HeldLease, Hello,
    InstanceId, JobAssignment, JobCancelled, JobCompleted, JobFailed, JobPaused, JobProgress, JobReturned, JobStarted,
    JobsDiscovered, ProgressData, Role, SystemStatus, TokenRefreshRequest, VERSION, Welcome,
};
use crawlwire_protocol::{
    Count, CrawlerMessage, Cursor, Dialect, FenceNo, Fraction, JobId, List, Marks, Message as _, Millis, Name, Seq,
    Version, WebAppMessage, Whole, WireTime,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::conversation::{Conversation, Heard, PATIENCE};
use crate::client::BoxedStream;
use crate::{Endpoint, Stream};

/// How long it waits between two attempts to connect.
const CONNECT_EVERY: Duration = Duration::from_millis(10);

/// A crawler of either dialect whose every line a test chooses. In a session it counts its numbers and remembers the
/// fences of its assignments; what it does not do is react by itself.
#[derive(Debug)]
pub struct ScriptedCrawler {
    conversation: Conversation<WebAppMessage, CrawlerMessage>,
    instance: Uuid,
    next_seq: u64,
    n: u64,
    fences: BTreeMap<String, FenceNo>,
}

impl Deref for ScriptedCrawler {
    type Target = Conversation<WebAppMessage, CrawlerMessage>;

    fn deref(&self) -> &Self::Target {
        &self.conversation
    }
}

impl DerefMut for ScriptedCrawler {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.conversation
    }
}

impl ScriptedCrawler {
    /// Connects, and goes on trying while the server starts. It speaks the base protocol until it says hello.
    ///
    /// # Panics
    /// When nobody listens within [`PATIENCE`].
    pub async fn connect(endpoint: &Endpoint) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Stream::connect(endpoint).await {
                Ok(stream) => return Self::over(Box::new(stream)),
                Err(error) if Instant::now() >= deadline => panic!("scripted crawler: {endpoint}: {error}"),
                Err(_) => tokio::time::sleep(CONNECT_EVERY).await,
            }
        }
    }

    /// Speaks over a stream of any kind.
    pub fn over(stream: BoxedStream) -> Self {
        Self {
            conversation: Conversation::over("scripted crawler", stream, Dialect::Base),
            instance: Uuid::now_v7(),
            next_seq: 1,
            n: 0,
            fences: BTreeMap::new(),
        }
    }

    /// The same crawler over a new connection: same instance, same numbers, same fences. Say hello again.
    ///
    /// # Panics
    /// As [`ScriptedCrawler::connect`].
    pub async fn reconnect(self, endpoint: &Endpoint) -> Self {
        let fresh = Self::connect(endpoint).await;
        Self {
            conversation: fresh.conversation,
            ..self
        }
    }

    /// The instance id that its hello names.
    pub fn instance(&self) -> Uuid {
        self.instance
    }

    /// The fence of a job's assignment.
    pub fn fence(&self, job: &str) -> Option<FenceNo> {
        self.fences.get(job).copied()
    }

    /// The number that the next lasting message gets.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// From now on numbers go on from this one.
    pub fn set_next_seq(&mut self, seq: u64) {
        self.next_seq = seq;
    }

    /// A hello with all features, one slot and this name, holding what was assigned and has not ended.
    ///
    /// # Panics
    /// When the name is empty or longer than 128 characters.
    pub fn hello(&self, crawler_id: &str) -> Hello {
        let holds = self.fences.iter().filter_map(|(job, fence)| {
            let (job_id, fence) = (JobId::new(job.clone())?, *fence);
            Some(HeldLease { job_id, fence })
        });
        Hello {
            versions: List::new(Vec::from_iter(Version::new(VERSION))).expect("one version"),
            features: List::cut([Feature::Cancel, Feature::Checkpoint].map(|feature| Name::cut(feature.as_str()))),
            role: Name::cut(Role::Crawler.as_str()),
            crawler_id: CrawlerId::new(crawler_id).expect("1 to 128 characters"),
            instance_id: InstanceId::new(self.instance.to_string()).expect("a UUID"),
            token: None,
            job_types: None,
            hosts: None,
            slots: Whole::clamped(1),
            labels: None,
            software: None,
            holds: (!self.fences.is_empty()).then(|| List::cut(holds)),
        }
    }

    /// Says hello, and returns the welcome. Numbers go on after its high water.
    ///
    /// # Panics
    /// When something else is answered.
    pub async fn greet(&mut self, hello: Hello) -> Welcome {
        self.send_hello(hello).await;
        let heard = self.expect("welcome").await;
        let WebAppMessage::Welcome(welcome) = heard.envelope.message else {
            unreachable!("expect looks at the type")
        };
        self.next_seq = self.next_seq.max(welcome.high_water_seq.get() + 1);
        welcome
    }

    /// Says hello, and leaves the answer to the test. Lines are in the session dialect from here on.
    pub async fn send_hello(&mut self, hello: Hello) {
        self.conversation.set_dialect(Dialect::Session);
        self.send(CrawlerMessage::Hello(hello)).await;
    }

    /// A sign of life.
    pub async fn send_heartbeat(&mut self) {
        let jobs = self.fences.len() as u32;
        let status = if jobs == 0 {
            SystemStatus::Idle
        } else {
            SystemStatus::Crawling
        };
        self.send(CrawlerMessage::Heartbeat(Heartbeat {
            active_jobs: Count::from(jobs),
            last_activity: WireTime::now(),
            system_status: status,
            jobs: None,
        }))
        .await;
    }

    /// The next assignment. Its fence is remembered.
    ///
    /// # Panics
    /// When something else comes.
    pub async fn expect_assignment(&mut self) -> JobAssignment {
        let heard = self.expect("job_assignment").await;
        let fence = heard.marks().fence;
        let WebAppMessage::JobAssignment(assignment) = heard.envelope.message else {
            unreachable!("expect looks at the type")
        };
        if let Some(fence) = fence {
            self.fences.insert(assignment.job_id.clone(), fence);
        }
        assignment
    }

    /// An acknowledgement of this number or a later one.
    ///
    /// # Panics
    /// When something else comes.
    pub async fn expect_ack(&mut self, seq: u64) {
        loop {
            let heard = self.expect("ack").await;
            match heard.message() {
                WebAppMessage::Ack(ack) if ack.seq.get() >= seq => return,
                _ => {}
            }
        }
    }

    /// Says anything about a job, with the marks that its type needs in a session: the next number, the remembered
    /// fence, the next `n`. Returns the number, if it has one.
    pub async fn say(&mut self, job: &str, message: CrawlerMessage) -> Option<u64> {
        let mut marks = Marks::default();
        let mut number = None;
        if self.conversation.dialect() == Dialect::Session {
            let kind = message.kind();
            if CrawlerMessage::lasting(kind) {
                number = Some(self.next_seq);
                marks.seq = Seq::new(self.next_seq);
                self.next_seq += 1;
            }
            if CrawlerMessage::needs_fence(kind) {
                marks.fence = self.fences.get(job).copied().or(FenceNo::new(0));
            }
            if CrawlerMessage::needs_n(kind) {
                self.n += 1;
                marks.n = Some(self.n);
            }
        }
        self.send_for(job, marks, message).await;
        number
    }

    /// Work on a job began.
    pub async fn send_job_started(&mut self, job: &str) -> Option<u64> {
        let started = JobStarted {
            job_type: "crawl_project".to_owned(),
            entity_type: None,
            namespace_path: None,
            estimated_duration: None,
        };
        self.say(job, CrawlerMessage::JobStarted(started)).await
    }

    /// How far a job is, 0 to 1.
    ///
    /// # Panics
    /// When it is outside.
    pub async fn send_job_progress(&mut self, job: &str, completion: f64) {
        let progress = JobProgress {
            progress: vec![ProgressData::new(
                "projects",
                Count::from(100),
                Count::from((completion * 100.0) as u32),
            )],
            overall_completion: Fraction::try_from(completion).expect("a share from 0 to 1"),
            time_elapsed: Millis::default(),
            estimated_time_remaining: None,
            job_type: None,
        };
        self.say(job, CrawlerMessage::JobProgress(progress)).await;
    }

    /// A job ended well. Its fence is forgotten.
    pub async fn send_job_completed(&mut self, job: &str) -> Option<u64> {
        let completed = JobCompleted {
            job_type: "crawl_project".to_owned(),
            final_counts: Vec::new(),
            total_duration: Millis::default(),
            output_files: Vec::new(),
            summary: "done".to_owned(),
        };
        let number = self.say(job, CrawlerMessage::JobCompleted(completed)).await;
        self.fences.remove(job);
        number
    }

    /// A job ended badly. Its fence is forgotten.
    pub async fn send_job_failed(&mut self, job: &str, is_recoverable: bool) -> Option<u64> {
        let failed = JobFailed {
            job_type: "crawl_project".to_owned(),
            error_context: ErrorContext {
                error_type: "TestError".to_owned(),
                error_message: "told to".to_owned(),
                stack_trace: None,
                request_details: None,
                retry_count: Count::default(),
                is_recoverable,
            },
            partial_results: None,
            recovery_suggestion: None,
        };
        let number = self.say(job, CrawlerMessage::JobFailed(failed)).await;
        self.fences.remove(job);
        number
    }

    /// A job found more work.
    pub async fn send_jobs_discovered(&mut self, job: &str, found: Vec<DiscoveredJob>) -> Option<u64> {
        let discovered = JobsDiscovered {
            discovered_jobs: found,
            discovery_summary: DiscoverySummary::default(),
        };
        self.say(job, CrawlerMessage::JobsDiscovered(discovered)).await
    }

    /// A place to go on from.
    ///
    /// # Panics
    /// When it is no JSON object.
    pub async fn send_checkpoint(&mut self, job: &str, cursor: &str) -> Option<u64> {
        let cursor = Cursor::new(cursor).expect("a JSON object");
        self.say(job, CrawlerMessage::Checkpoint(Checkpoint { cursor })).await
    }

    /// The token of a job stopped working. The request is what the answer refers to.
    pub async fn send_token_refresh_request(&mut self, job: &str) {
        let request = TokenRefreshRequest {
            current_token_expired: true,
            last_successful_request: None,
            error_details: None,
        };
        self.say(job, CrawlerMessage::TokenRefreshRequest(request)).await;
    }

    /// Confirms that a job was cancelled. Its fence is forgotten.
    pub async fn send_job_cancelled(&mut self, job: &str) -> Option<u64> {
        let cancelled = JobCancelled { final_counts: None };
        let number = self.say(job, CrawlerMessage::JobCancelled(cancelled)).await;
        self.fences.remove(job);
        number
    }

    /// Confirms that a job was paused. Its fence is forgotten.
    pub async fn send_job_paused(&mut self, job: &str) -> Option<u64> {
        let paused = JobPaused { final_counts: None };
        let number = self.say(job, CrawlerMessage::JobPaused(paused)).await;
        self.fences.remove(job);
        number
    }

    /// Gives a job back. Its fence is forgotten.
    pub async fn send_job_returned(&mut self, job: &str) -> Option<u64> {
        let number = self
            .say(job, CrawlerMessage::JobReturned(JobReturned { reason: None }))
            .await;
        self.fences.remove(job);
        number
    }

    /// The next error, and its code.
    ///
    /// # Panics
    /// When something else comes.
    pub async fn expect_error(&mut self, code: &str) -> Heard<WebAppMessage> {
        let heard = self.expect("error").await;
        match heard.message() {
            WebAppMessage::Error(error) if error.code.as_str() == code => heard,
            _ => panic!("scripted crawler: expected the error {code}, heard {heard:?}"),
        }
    }
}
