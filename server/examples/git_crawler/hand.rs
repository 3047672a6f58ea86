//! The jobs in hand: assignments become work, work becomes messages.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crawlwire_protocol::message::{Heartbeat, JobAssignment, JobType, Shutdown, SystemStatus};
use crawlwire_protocol::{Count, CrawlerMessage, Decoded, Envelope, JobId, WebAppMessage, WireTime, decode, encode};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::console;
use crate::jobs::{self, Context, Task};
use crate::options::Options;
use crate::outbox::{BUFFER_BYTES, Outbox};
use crate::report::{Reporting, Said};
use crate::summary::Summary;

/// Messages of jobs on their way to the connection. Small, because it is emptied at all times; a full one makes the job
/// wait.
const SAID_MAX: usize = 64;

/// Assignments that wait for a free place. A server gives a crawler a few jobs at a time; what comes beyond this is left
/// to it to take back.
const WAITING_MAX: usize = 64;

/// Everything that outlives a connection.
pub(crate) struct Hand {
    options: Options,
    context: Arc<Context>,
    /// For jobs to speak through, and where it comes out.
    reporting: Reporting,
    said: mpsc::Receiver<Said>,
    outbox: Outbox,
    /// Jobs being done, at most `--jobs` of them.
    running: BTreeMap<JobId, Running>,
    waiting: VecDeque<Task>,
    pub(crate) summary: Summary,
    /// Since when there could have been an assignment and was none.
    idle_since: Instant,
    last_activity: WireTime,
}

struct Running {
    job_type: JobType,
    label: String,
}

impl Hand {
    pub(crate) fn new(options: Options, context: Context, stop: CancellationToken) -> Self {
        let (to, said) = mpsc::channel(SAID_MAX);
        let slow = options.slow_ms;
        Self {
            options,
            context: Arc::new(context),
            reporting: Reporting { to, stop, slow },
            said,
            outbox: Outbox::default(),
            running: BTreeMap::new(),
            waiting: VecDeque::new(),
            summary: Summary::default(),
            idle_since: Instant::now(),
            last_activity: WireTime::now(),
        }
    }

    /// There is a new connection, and nothing was said on it yet.
    pub(crate) fn connected(&mut self) {
        self.outbox.start_over();
        self.idle_since = Instant::now();
    }

    /// The connection is gone. What has not begun is the server's again; what has begun goes on.
    pub(crate) fn disconnected(&mut self) {
        self.waiting.clear();
    }

    /// Adds what has to be said to a connection's buffer. Says whether that was all.
    pub(crate) fn speak(&mut self, buffer: &mut Vec<u8>) -> bool {
        self.outbox.fill(buffer, Instant::now());
        !self.outbox.is_waiting()
    }

    /// Whether a job is being done.
    pub(crate) fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// When `--once` has what it wants, as things stand.
    pub(crate) fn satisfied_at(&self) -> Option<Instant> {
        let is_done = self.options.once && self.summary.ended() > 0 && !self.is_busy() && self.waiting.is_empty();
        is_done.then(|| self.idle_since + self.options.once_idle_ms)
    }

    /// Adds a heartbeat to a connection's buffer. One that has to wait behind 64 KiB is of no use.
    pub(crate) fn heartbeat(&self, buffer: &mut Vec<u8>) {
        if buffer.len() >= BUFFER_BYTES {
            return;
        }
        let discovers = |running: &Running| running.job_type == JobType::DiscoverNamespaces;
        let system_status = if self.running.values().any(discovers) {
            SystemStatus::Discovering
        } else if self.is_busy() {
            SystemStatus::Crawling
        } else {
            SystemStatus::Idle
        };
        let heartbeat = Heartbeat {
            active_jobs: Count::try_from((self.running.len() + self.waiting.len()) as u64).unwrap_or_default(),
            last_activity: self.last_activity.clone(),
            system_status,
        };
        match encode(&Envelope::now(CrawlerMessage::Heartbeat(heartbeat))) {
            Ok(line) => buffer.extend_from_slice(&line),
            Err(error) => console::warn(format_args!("a heartbeat cannot be written: {error}")),
        }
    }

    /// Acts on a line of the server. A shutdown is for the connection's owner.
    pub(crate) fn hear(&mut self, line: &[u8]) -> Option<Shutdown> {
        match decode::<WebAppMessage>(line) {
            Ok(Decoded::Known(envelope)) => match envelope.message {
                WebAppMessage::JobAssignment(assignment) => self.assign(assignment),
                WebAppMessage::Shutdown(shutdown) => return Some(shutdown),
                // We never ask for a token.
                WebAppMessage::TokenRefreshResponse(_) => {}
            },
            // A later server may say more than we know.
            Ok(Decoded::Custom(_)) => {}
            // The error names the place and never the text, which may hold a token.
            Err(error) => console::warn(format_args!("a line that is no message: {error}")),
        }
        None
    }

    fn assign(&mut self, assignment: JobAssignment) {
        let Some(task) = Task::new(assignment) else {
            return console::warn("an assignment without a job id");
        };
        self.idle_since = Instant::now();
        if self.running.contains_key(&task.job) {
            // The server forgot that we have it, and remembers when it hears of it.
            self.outbox.repeat(&task.job);
        } else if self.waiting.iter().any(|waiting| waiting.job == task.job) {
            // It will have its turn.
        } else if self.running.len() < usize::from(self.options.jobs) {
            self.begin(task);
        } else if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(task);
        } else {
            console::warn(format_args!("{} left to the server: too many wait", task.label()));
        }
    }

    fn begin(&mut self, task: Task) {
        // A job may come back after it ended: tried again, or run again from the beginning.
        self.outbox.forget(&task.job);
        self.last_activity = WireTime::now();
        let running = Running {
            job_type: task.job_type,
            label: task.label(),
        };
        self.running.insert(task.job.clone(), running);
        let (context, reporting) = (self.context.clone(), self.reporting.clone());
        tokio::task::spawn_blocking(move || jobs::run(&context, &task, reporting));
    }

    /// The next message of a job. Cancel safe.
    pub(crate) async fn listen(&mut self) -> Said {
        match self.said.recv().await {
            Some(said) => said,
            // Not before `reporting` is dropped, and we hold that.
            None => std::future::pending().await,
        }
    }

    /// Takes a message of a job.
    pub(crate) fn take(&mut self, (job, message): Said) {
        self.last_activity = WireTime::now();
        if matches!(message, CrawlerMessage::JobCompleted(_) | CrawlerMessage::JobFailed(_))
            && let Some(running) = self.running.remove(&job)
        {
            self.idle_since = Instant::now();
            self.summary.note(running.job_type, &message);
            if !self.options.quiet {
                tell(&running.label, &message);
            }
        }
        self.outbox.add(job, message);
        if self.running.len() < usize::from(self.options.jobs)
            && !self.reporting.stop.is_cancelled()
            && let Some(task) = self.waiting.pop_front()
        {
            self.begin(task);
        }
    }
}

/// One line for people about the end of a job.
fn tell(label: &str, message: &CrawlerMessage) {
    match message {
        CrawlerMessage::JobCompleted(completed) => {
            let seconds = completed.total_duration.as_duration().as_secs_f64();
            console::say(format_args!(
                "completed {label}: {} in {seconds:.2} s",
                completed.summary
            ));
        }
        CrawlerMessage::JobFailed(failed) => {
            let error = &failed.error_context;
            console::say(format_args!(
                "failed    {label}: {}: {}",
                error.error_type, error.error_message
            ));
        }
        _ => {}
    }
}
