//! A job in hand, as the client's task and the author's code share it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crawlwire_protocol::message::{JobAssignment, JobProgress, JobType, ProgressData};
use crawlwire_protocol::{AccessToken, FenceNo};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::RefreshError;

/// Why a job should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// Somebody cancelled the job.
    Cancel,
    /// Somebody paused the job: a later attempt goes on from the last checkpoint.
    Pause,
    /// The job is not this crawler's any more. Nothing said about it counts.
    Lost,
    /// This client is being shut down.
    Shutdown,
}

/// What the author's code reads of a job while the client's task may change it.
#[derive(Debug)]
pub(super) struct Cell {
    /// The token and the reason change rarely and are read in passing: never locked across an await.
    inside: Mutex<Inside>,
    stop: CancellationToken,
    lost: CancellationToken,
}

struct Inside {
    token: AccessToken,
    reason: Option<StopReason>,
}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inside")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl Cell {
    fn new(token: AccessToken) -> Self {
        let inside = Inside { token, reason: None };
        Self {
            inside: Mutex::new(inside),
            stop: CancellationToken::new(),
            lost: CancellationToken::new(),
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn token(&self) -> AccessToken {
        self.inside().token.clone()
    }

    pub(super) fn set_token(&self, token: AccessToken) {
        self.inside().token = token;
    }

    pub(super) fn reason(&self) -> Option<StopReason> {
        self.inside().reason
    }

    pub(super) fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Resolves when the job is not this crawler's any more.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Tells the author's code to stop. A lost job stays lost, otherwise the newest reason counts.
    pub(super) fn stop(&self, reason: StopReason) {
        {
            let mut inside = self.inside();
            if inside.reason != Some(StopReason::Lost) {
                inside.reason = Some(reason);
            }
        }
        if reason == StopReason::Lost {
            self.lost.cancel();
        }
        self.stop.cancel();
    }
}

/// What the server wishes of a running job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Cancel,
    Pause,
}

/// A wait that a host asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limited {
    pub(super) until: Instant,
    pub(super) limit: Option<u64>,
    pub(super) remaining: Option<u64>,
}

/// What came of a token refresh; `None` until something has.
pub(super) type Answer = Option<Result<(), RefreshError>>;

/// A token refresh under way: one per job, whoever waits for it.
#[derive(Debug)]
pub(super) struct Refresh {
    pub(super) flight: u64,
    pub(super) expired: bool,
    pub(super) details: Option<String>,
    /// The number it was asked with on the present connection.
    pub(super) asked: Option<u64>,
    pub(super) answer: watch::Sender<Answer>,
}

impl Refresh {
    pub(super) fn answer(self, answer: Result<(), RefreshError>) {
        self.answer.send_replace(Some(answer));
    }
}

/// Everything the client's task knows of a job, from its assignment until its end is settled.
#[derive(Debug)]
pub(super) struct Held {
    /// This holding of the job, among all of this client.
    pub(super) lease: u64,
    /// The server's number of the same. Jobs of the base protocol have none.
    pub(super) fence: Option<FenceNo>,
    pub(super) job_type: JobType,
    pub(super) namespace_path: Option<String>,
    pub(super) cell: Arc<Cell>,
    /// Until the author takes the job.
    pub(super) untaken: Option<Box<JobAssignment>>,
    /// The end was said, and is not settled.
    pub(super) ended: bool,
    /// A refused end was followed by another: there is no third.
    pub(super) end_refused: bool,
    pub(super) wish: Option<Wish>,
    pub(super) progress: Option<JobProgress>,
    /// The newest progress was not said yet.
    pub(super) progress_is_new: bool,
    pub(super) progress_said: Option<Instant>,
    pub(super) n: u64,
    pub(super) limited: Option<Limited>,
    pub(super) refresh: Option<Refresh>,
}

/// Reports are numbered on from the clock: a crawler that was started again may have the same lease as before, and must
/// not number below what it has said then.
fn since_1970_in_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}

impl Held {
    pub(super) fn new(lease: u64, fence: Option<FenceNo>, assignment: JobAssignment) -> Self {
        Self {
            lease,
            fence,
            job_type: assignment.job_type,
            namespace_path: assignment.namespace_path.clone(),
            cell: Arc::new(Cell::new(assignment.access_token.clone())),
            untaken: Some(Box::new(assignment)),
            ended: false,
            end_refused: false,
            wish: None,
            progress: None,
            progress_is_new: false,
            progress_said: None,
            n: since_1970_in_ms(),
            limited: None,
            refresh: None,
        }
    }

    /// Whether the author's code is at work on it.
    pub(super) fn is_running(&self) -> bool {
        self.untaken.is_none() && !self.ended
    }

    /// When its newest progress may be said, if that was not done yet.
    pub(super) fn progress_due(&self, interval: Duration, now: Instant) -> Option<Instant> {
        let is_due = self.progress_is_new && self.is_running();
        is_due.then(|| self.progress_said.map_or(now, |said| said + interval))
    }

    /// The counts of the newest progress.
    pub(super) fn counts(&self) -> Vec<ProgressData> {
        self.progress
            .as_ref()
            .map(|progress| progress.progress.clone())
            .unwrap_or_default()
    }
}
