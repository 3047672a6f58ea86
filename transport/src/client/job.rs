//! A job in the author's hands.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crawlwire_protocol::message::{
    Checkpoint, DiscoveredJob, DiscoverySummary, JobAssignment, JobType, JobsDiscovered, ProgressData,
};
use crawlwire_protocol::{AccessToken, CrawlerMessage, Cursor, Envelope, FenceNo, JobId, Marks, Seq, WireTime, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::{CheckpointError, RefreshError, Refusal, ReportError};
use super::greet::UNSUPPORTED;
use super::held::{Cell, Held, Limited, StopReason};
use super::outbox::Kind;
use super::report::{self, Completion, Failure, Progress};
use super::shared::Shared;
use super::state::Taken;
use super::words::{End, failed};

/// The longest wait that a host can ask for (the protocol's own bound).
const LIMITED_MAX: Duration = Duration::from_millis(crawlwire_protocol::limits::RETRY_AFTER_MS_MAX);

/// A job this crawler works on. It ends exactly once: by [`Job::complete`], [`Job::fail`], [`Job::give_back`] or
/// [`Job::stopped`].
///
/// A job that is dropped without an end is given back to the queue; if that is because the author's code panicked, it
/// fails and may be tried again, so that a job that always panics does not come back for ever.
///
/// What may be said while it runs is on [`JobHandle`], which it derefs to and which can be cloned for other tasks.
#[derive(Debug)]
#[must_use = "a job that is dropped goes back to the queue"]
pub struct Job {
    handle: JobHandle,
}

/// Speaks for a running job. Cheap to clone; it does not keep the job from ending.
#[derive(Clone)]
pub struct JobHandle {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    id: JobId,
    lease: u64,
    cell: Arc<Cell>,
    assignment: JobAssignment,
    taken: Instant,
}

/// What became of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kept {
    /// It is durable: the next attempt gets it, unless a later one replaces it.
    Durable,
    /// The server keeps no checkpoints. Go on without.
    Unsupported,
}

impl Job {
    pub(super) fn new(shared: Arc<Shared>, taken: Taken) -> Self {
        let Taken {
            id,
            lease,
            cell,
            assignment,
        } = taken;
        let inner = Inner {
            shared,
            id,
            lease,
            cell,
            assignment: *assignment,
            taken: Instant::now(),
        };
        Self {
            handle: JobHandle { inner: Arc::new(inner) },
        }
    }

    /// A handle to speak for this job from elsewhere.
    pub fn handle(&self) -> JobHandle {
        self.handle.clone()
    }

    /// The job ended well. Returns when the server has settled that.
    ///
    /// A finish wins over a wish to cancel or pause that came meanwhile.
    ///
    /// # Errors
    /// [`ReportError::Lost`] when the job was not this crawler's any more: what it did does not count. The job is over
    /// for this crawler in any case. A refusal that is lost with the connection is told on the next one. Only a server that
    /// does not tell then what it refused, as the first ones did not, leaves an end to be taken for settled well.
    ///
    /// # Cancel safety
    /// Dropped while the outbox is full, the job is given back; later, the end reaches the server all the same.
    pub async fn complete(self, completion: impl Into<Completion>) -> Result<(), ReportError> {
        let (job_type, took) = (self.job_type(), self.elapsed());
        let completion = completion.into();
        self.end(|held| End::Completed(completion.into_message(job_type, took, held.counts())))
            .await
    }

    /// The job ended badly. Otherwise as [`Job::complete`].
    ///
    /// # Errors
    /// As [`Job::complete`].
    pub async fn fail(self, failure: impl Into<Failure>) -> Result<(), ReportError> {
        let job_type = self.job_type();
        let failure = failure.into();
        self.end(|held| End::Failed(failure.into_message(job_type, held.counts())))
            .await
    }

    /// Gives the job back to the queue unfinished. That is no failure, and the next attempt goes on from the last
    /// checkpoint. A server of the base protocol has no such word: there the job fails and is tried again.
    ///
    /// # Errors
    /// As [`Job::complete`].
    pub async fn give_back(self) -> Result<(), ReportError> {
        self.end(|_| End::Returned("given back")).await
    }

    /// The job was stopped because [`JobHandle::cancelled`] said so. What that means follows from the reason: the job is
    /// cancelled, paused, or goes back to the queue. Without a reason it is given back.
    ///
    /// # Errors
    /// As [`Job::complete`].
    pub async fn stopped(self) -> Result<(), ReportError> {
        self.end(|_| End::Stopped).await
    }

    async fn end(self, end: impl FnOnce(&Held) -> End) -> Result<(), ReportError> {
        let Inner {
            shared,
            id,
            lease,
            cell,
            ..
        } = &*self.inner;
        // The size is that of the end as it would be now; a word more or less of progress does not matter.
        let (end, size) = {
            let mut state = shared.state();
            let limit = state.line_bytes_max();
            let Some(held) = state.running(id, *lease) else {
                drop(state);
                return Err(shared.unsayable(cell));
            };
            let end = end(held);
            let message = match &end {
                End::Completed(completed) => CrawlerMessage::JobCompleted(completed.clone()),
                End::Failed(failed) => CrawlerMessage::JobFailed(failed.clone()),
                // What the client says of itself is as short as this.
                _ => failed(held, "", ""),
            };
            let size = measure(id, message, limit);
            (end, size)
        };
        let size = match size {
            Ok(size) => size,
            Err(error) => return self.end_unspeakable(error),
        };
        let room = shared.room(size, cell).await?;
        let (settled, line) = oneshot::channel();
        {
            let mut state = shared.state();
            if state.running(id, *lease).is_none() {
                drop(state);
                return Err(shared.unsayable(cell));
            }
            state.end(id, end, Some(settled), Some(room));
        }
        shared.changed();
        shared.settled(line).await
    }

    /// The end does not fit in a message: the server has to hear of one all the same.
    fn end_unspeakable(self, error: ReportError) -> Result<(), ReportError> {
        {
            let mut state = self.inner.shared.state();
            if let Some(held) = state.running(&self.inner.id, self.inner.lease)
                && let CrawlerMessage::JobFailed(mut failed) = failed(held, "unspeakable_end", &error.to_string())
            {
                failed.partial_results = None;
                state.end(&self.inner.id, End::Failed(failed), None, None);
            }
        }
        self.inner.shared.changed();
        Err(error)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.inner.shared.dropped(&self.inner.id, self.inner.lease);
    }
}

impl Deref for Job {
    type Target = JobHandle;

    fn deref(&self) -> &JobHandle {
        &self.handle
    }
}

impl JobHandle {
    /// The server's id of the job.
    pub fn id(&self) -> &JobId {
        &self.inner.id
    }

    /// What to do.
    pub fn job_type(&self) -> JobType {
        self.inner.assignment.job_type
    }

    /// Where: a URL from this project's server, perhaps a bare host from others.
    pub fn host(&self) -> &str {
        &self.inner.assignment.gitlab_host
    }

    /// The id on the host.
    pub fn entity_id(&self) -> Option<&str> {
        self.inner.assignment.entity_id.as_deref()
    }

    /// The path on the host.
    pub fn namespace_path(&self) -> Option<&str> {
        self.inner.assignment.namespace_path.as_deref()
    }

    /// Higher runs first.
    pub fn priority(&self) -> f64 {
        self.inner.assignment.priority
    }

    /// Whether to go on where it stopped: an earlier attempt began it, or this one before the crawler was started again, or
    /// whoever submitted it says so.
    pub fn resume(&self) -> bool {
        self.inner.assignment.resume
    }

    /// Which attempt this is, from 1, where the server says so.
    pub fn attempt(&self) -> Option<u64> {
        self.inner.assignment.attempt.map(|attempt| attempt.get())
    }

    /// The last durable checkpoint of the job before it was given to us: of an earlier attempt, or of this one before the
    /// crawler was started again.
    ///
    /// # Errors
    /// When it is none of type `T`: another version of the crawler may have written it. Start from the beginning then.
    pub fn last_checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>, CheckpointError> {
        let cursor = self.inner.assignment.checkpoint.as_ref();
        Ok(cursor.map(|cursor| serde_json::from_str(cursor.as_str())).transpose()?)
    }

    /// What was counted when the server last heard of the job, before it was given to us: where [`JobHandle::progress`] may count
    /// on from. It may be ahead of the checkpoint. Empty for a job that begins, and where the server does not say.
    pub fn last_counts(&self) -> &[ProgressData] {
        self.inner.assignment.counts.as_deref().unwrap_or_default()
    }

    /// The token to work with, as it is now: a refresh replaces it.
    pub fn access_token(&self) -> AccessToken {
        self.inner.cell.token()
    }

    /// For how long the job has been in hand.
    pub fn elapsed(&self) -> Duration {
        self.inner.taken.elapsed()
    }

    /// Fires when the job should stop: await it beside the work, or look at it between two steps. Then stop, and say
    /// [`Job::stopped`]; any other end is right too.
    pub fn cancelled(&self) -> &CancellationToken {
        self.inner.cell.stop_token()
    }

    /// Why the job should stop, once [`JobHandle::cancelled`] has fired. It may become a stronger one.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.inner.cell.reason()
    }

    /// Says how far the job is. As often as you like and from any thread: the server hears the newest, as often as it
    /// wants, and the last one before the end.
    pub fn progress(&self, progress: impl Into<Progress>) {
        let message = progress.into().into_message(self.job_type(), self.elapsed());
        let Inner { shared, id, lease, .. } = &*self.inner;
        let was_new = {
            let mut state = shared.state();
            state.last_activity = WireTime::now();
            let Some(held) = state.running(id, *lease) else { return };
            held.progress = Some(message);
            std::mem::replace(&mut held.progress_is_new, true)
        };
        if !was_new {
            shared.changed();
        }
    }

    /// Keeps a place to go on from: a JSON object of at most 64 KiB in your own words. Returns when it is durable.
    ///
    /// # Errors
    /// [`ReportError::Lost`] when the job is not this crawler's any more.
    ///
    /// # Cancel safety
    /// Dropped while the outbox is full, nothing was said; later, the checkpoint reaches the server all the same.
    pub async fn checkpoint<T: Serialize + ?Sized>(&self, cursor: &T) -> Result<Kept, ReportError> {
        let text = serde_json::to_string(cursor).map_err(|error| ReportError::NotWritable(error.to_string()))?;
        let cursor = Cursor::new(text)
            .ok_or_else(|| ReportError::NotWritable("a checkpoint is a JSON object of at most 64 KiB".to_owned()))?;
        let is_supported = {
            let state = self.inner.shared.state();
            // Without a connection the next one will tell.
            state.live.as_ref().is_none_or(|live| live.checkpoints)
        };
        if !is_supported {
            return Ok(Kept::Unsupported);
        }
        let message = CrawlerMessage::Checkpoint(Checkpoint { cursor });
        let line = self.say(Kind::SessionReport, message).await?;
        match self.inner.shared.settled(line).await {
            Ok(()) => Ok(Kept::Durable),
            Err(ReportError::Refused(refusal)) if is_unsupported(&refusal) => Ok(Kept::Unsupported),
            Err(error) => Err(error),
        }
    }

    /// Hands over found work; each item becomes a job of its own. As many messages as needed are made of it. Returns
    /// when all of it is durable.
    ///
    /// # Errors
    /// [`ReportError::Lost`] when the job is not this crawler's any more, [`ReportError::TooLarge`] when one item does
    /// not fit in a message: then nothing was said.
    ///
    /// # Cancel safety
    /// Dropped in the middle, what was said until then reaches the server. Saying it again is harmless.
    pub async fn discovered(
        &self,
        jobs: impl IntoIterator<Item = DiscoveredJob>,
        summary: DiscoverySummary,
    ) -> Result<(), ReportError> {
        let messages = report::discovered(jobs.into_iter().collect(), summary, self.line_bytes_max())?;
        let mut lines = Vec::with_capacity(messages.len());
        for message in messages {
            lines.push(self.say_discovered(message).await?);
        }
        for line in lines {
            self.inner.shared.settled(line).await?;
        }
        Ok(())
    }

    async fn say_discovered(&self, found: JobsDiscovered) -> Result<Line, ReportError> {
        self.say(Kind::Report, CrawlerMessage::JobsDiscovered(found)).await
    }

    /// The host refused the token: asks the server for another, and returns it. From then on
    /// [`JobHandle::access_token`] is the new one. Several callers share one request, which survives a reconnect.
    ///
    /// `details` is what the host answered, for people; leave secrets out.
    ///
    /// # Errors
    /// [`RefreshError`]; after [`RefreshError::Refused`] there is no way on, so fail the job.
    ///
    /// # Cancel safety
    /// A dropped call leaves the request under way, for the next one to join.
    pub async fn refresh_token(&self, details: Option<&str>) -> Result<AccessToken, RefreshError> {
        let Inner {
            shared,
            id,
            lease,
            cell,
            ..
        } = &*self.inner;
        let flight = shared.state().refresh(id, *lease, true, details.map(cut));
        let Some((flight, mut answer)) = flight else {
            return Err(match shared.closed_now() {
                Some(closed) => RefreshError::Closed(closed),
                None => RefreshError::Lost,
            });
        };
        shared.changed();
        let waited = tokio::time::timeout(shared.options.request_timeout, answer.wait_for(Option::is_some)).await;
        match waited {
            Ok(Ok(answer)) => match answer.clone() {
                Some(Err(error)) => Err(error),
                _ => Ok(cell.token()),
            },
            // Somebody else ran out of patience first.
            Ok(Err(_)) => Err(RefreshError::TimedOut),
            Err(_) => {
                shared.state().forget_refresh(id, *lease, flight);
                Err(RefreshError::TimedOut)
            }
        }
    }

    /// The host limits requests: no job for its account and host is started for this long (a day at most; below a second
    /// nothing happens). Meanwhile the clock of those that run stands still, and what fails is tried again and does not
    /// count. Best effort: a server of the base protocol is told nothing.
    pub fn api_limited(&self, retry_after: Duration, limit: Option<u64>, remaining: Option<u64>) {
        let Inner { shared, id, lease, .. } = &*self.inner;
        {
            let mut state = shared.state();
            let Some(held) = state.running(id, *lease) else { return };
            held.limited = Some(Limited {
                until: Instant::now() + retry_after.min(LIMITED_MAX),
                limit,
                remaining,
            });
        }
        shared.changed();
    }

    /// Says something lasting, once there is room for it.
    async fn say(&self, kind: Kind, message: CrawlerMessage) -> Result<Line, ReportError> {
        let Inner {
            shared,
            id,
            lease,
            cell,
            ..
        } = &*self.inner;
        let size = measure(id, message.clone(), self.line_bytes_max())?;
        let room = shared.room(size, cell).await?;
        let (settled, line) = oneshot::channel();
        {
            let mut state = shared.state();
            if state.running(id, *lease).is_none() {
                drop(state);
                return Err(shared.unsayable(cell));
            }
            state.say(id, kind, message, Some(settled), Some(room));
        }
        shared.changed();
        Ok(line)
    }

    fn line_bytes_max(&self) -> usize {
        self.inner.shared.state().line_bytes_max()
    }
}

/// Bytes of the line that a message becomes, at most.
fn measure(id: &JobId, message: CrawlerMessage, limit: usize) -> Result<usize, ReportError> {
    let largest = crawlwire_protocol::limits::WHOLE_MAX;
    let envelope = Envelope {
        timestamp: WireTime::now(),
        job_id: Some(id.clone()),
        marks: Marks {
            seq: Seq::new(largest),
            fence: FenceNo::new(largest as i64),
            n: None,
        },
        message,
    };
    let line = encode(&envelope).map_err(|error| ReportError::NotWritable(error.to_string()))?;
    let bytes = line.len() - 1;
    if bytes > limit {
        return Err(ReportError::TooLarge { bytes, limit });
    }
    Ok(bytes)
}

/// Resolves when a line is settled.
type Line = oneshot::Receiver<Result<(), Refusal>>;

fn is_unsupported(refusal: &Refusal) -> bool {
    refusal.code == UNSUPPORTED
}

/// What is for people need not be long.
fn cut(text: &str) -> String {
    text.chars().take(1000).collect()
}

impl fmt::Debug for JobHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An assignment's own `Debug` leaves the token out.
        f.debug_struct("Job")
            .field("assignment", &self.inner.assignment)
            .field("stop_reason", &self.stop_reason())
            .finish_non_exhaustive()
    }
}
