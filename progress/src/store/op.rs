//! What a store is asked to do.

use std::sync::Arc;
use std::time::Duration;

use crate::admit::{Capabilities, Gate};
use crate::ids::{Fence, JobKey, SessionKey, SessionRef, Timestamp, TokenKey};
use crate::lifecycle::Lease;
use crate::store::{Found, NewCredential, NewJob};
use crate::track::Tracker;
use crate::view::ErrorRow;

/// Who speaks for a lease, with the name that history keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The session.
    pub session: SessionKey,
    /// Its name.
    pub name: Arc<str>,
    /// The fence it was given.
    pub fence: Fence,
}

impl Holder {
    /// Without the name.
    pub fn lease(&self) -> Lease {
        Lease {
            session: self.session,
            fence: self.fence,
        }
    }
}

/// A session to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// `legacy-<connection>` for a base crawler.
    pub name: Arc<str>,
    /// Who the peer is: the same text means the same process. None over TCP.
    pub identity: Option<String>,
    /// The server that holds the connection.
    pub server: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Whether it can be asked to end or pause a job, and says when it did. A crawler of the base protocol cannot.
    pub confirms: bool,
    /// Which crawler it is, if it comes back to the same session; none in the base protocol.
    pub instance: Option<NewInstance>,
}

/// One run of a crawler, which keeps its session through all its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInstance {
    /// Its name for itself: the text of a UUID.
    pub id: String,
    /// The crawler's name, the same for all its runs.
    pub crawler_id: String,
    /// Who it proved to be: `unix:<uid>`, `token:<key>`, or `local`. Nobody else comes back as this instance.
    pub principal: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// Well.
    Completed {
        /// What the crawler said, as JSON text.
        result: String,
    },
    /// Badly.
    Failed {
        /// What the crawler said, as JSON text.
        error: String,
        /// Whether another attempt may help.
        recoverable: bool,
    },
}

/// What somebody does to one job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Act {
    /// End it.
    Cancel,
    /// Hold it back.
    Pause,
    /// Let it go on, from what it had done.
    Resume,
    /// Give it another chance after it failed or was cancelled.
    Retry,
    /// Give it another chance after it was quarantined or failed.
    Redrive,
    /// Change its place in the queue.
    SetPriority(f64),
}

impl Act {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry => "retry",
            Self::Redrive => "redrive",
            Self::SetPriority(_) => "set_priority",
        }
    }
}

/// Which jobs are given another chance together.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RedriveFilter {
    /// Those in quarantine.
    pub quarantined: bool,
    /// Those that failed.
    pub failed: bool,
    /// Of this account only, by name.
    pub account_id: Option<String>,
}

/// Somebody looks at a job, or at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The job's public id, which need not exist; none for all jobs.
    pub job: Option<String>,
    /// Counts for so long from now on, and never for longer than [`WATCHED_FOR`].
    pub lasts: Duration,
}

/// One operation. Those of one caller are carried out in the order they were given.
#[derive(Debug, Clone)]
pub enum Op {
    /// Create a job. → [`Submitted`](super::Outcome::Submitted), or [`Repeated`](super::Outcome::Repeated)
    Submit(Box<NewJob>),
    /// Create jobs, at most [`SELECTED_MAX`], each by itself; none of them when one repeats a key with another fingerprint.
    /// → [`SubmittedAll`](super::Outcome::SubmittedAll)
    SubmitAll(Vec<NewJob>),
    /// Give a queued job to a session. → [`Moved`](super::Outcome::Moved)
    Claim {
        /// The job.
        job: JobKey,
        /// The session, and the connection that will hear of it.
        session: SessionRef,
        /// The session's name.
        name: Arc<str>,
    },
    /// The session began. → [`Moved`](super::Outcome::Moved)
    Start {
        /// The job.
        job: JobKey,
        /// Who says so.
        holder: Holder,
    },
    /// The session ended the job. → [`Moved`](super::Outcome::Moved)
    Finish {
        /// The job.
        job: JobKey,
        /// Who says so.
        holder: Holder,
        /// How.
        ending: Ending,
        /// The last counts, if the message had any.
        progress: Option<Arc<Tracker>>,
    },
    /// The assignment could not be delivered. → [`Moved`](super::Outcome::Moved)
    Release {
        /// The job.
        job: JobKey,
        /// Who had it.
        holder: Holder,
    },
    /// A connection names a job that an earlier connection of the same process held. → [`Moved`](super::Outcome::Moved)
    Adopt {
        /// The job's public id.
        public_id: String,
        /// The session that takes it over.
        session: SessionKey,
    },
    /// Children of a job that somebody holds. → [`Discovered`](super::Outcome::Discovered)
    Discover {
        /// The parent.
        parent: JobKey,
        /// Who says so.
        holder: Holder,
        /// Found items.
        items: Vec<Found>,
    },
    /// How far jobs are: at most 500 of them, the newest report of each; reports of a lease that is over are dropped.
    /// → [`Progressed`](super::Outcome::Progressed)
    Progress(Vec<(JobKey, Lease, Arc<Tracker>)>),
    /// A peer became known. One that names an instance which has a session gets that one back, with the next epoch, a
    /// whole lease, and what it held; nothing changes about its jobs. → [`SessionOpened`](super::Outcome::SessionOpened)
    OpenSession(NewSession),
    /// These sessions gave a sign of life. → [`Renewed`](super::Outcome::Renewed)
    Renew(Vec<SessionRef>),
    /// A session's connection is gone. Without effect when a later one stands. → [`Done`](super::Outcome::Done)
    Disconnect(SessionRef),
    /// A session said something under a number that rises by one each time. The operations that follow from it, and the
    /// number, are kept together or not at all, so what is sent twice has its effect once. The number is used up
    /// whatever becomes of the operations, which may be none. → [`Said`](super::Outcome::Said)
    Said {
        /// Who.
        session: SessionRef,
        /// The number; the first is 1.
        seq: i64,
        /// Tells whether a repeated number carries the same text.
        fingerprint: i64,
        /// What follows from it: arrows and checkpoints of the session's own jobs.
        ops: Vec<Self>,
        /// Why it has no effect, where that is known before; then nothing follows from it. Kept for a while beside the
        /// number, as is the refusal of the last operation.
        refused: Option<&'static str>,
    },
    /// Keep how far a job got, for the next attempt. Leaves no mark in its history. → [`Done`](super::Outcome::Done)
    Checkpoint {
        /// The job.
        job: JobKey,
        /// Who says so.
        holder: Holder,
        /// As the crawler gave it: JSON text of an object.
        cursor: String,
    },
    /// The session gives a job back that it did not finish. → [`Moved`](super::Outcome::Moved)
    Return {
        /// The job.
        job: JobKey,
        /// Who had it.
        holder: Holder,
    },
    /// A server starts, or its database came back. Every session gets one full lease: nobody could say anything
    /// meanwhile, and other servers may be about to start, too. Until then no deadline passes of the jobs of that
    /// server's sessions, or of all after an outage of the database, and what was assigned has its whole accept time
    /// again. The connections of a server that starts are gone. → [`Done`](super::Outcome::Done)
    Recover {
        /// The server.
        server: String,
        /// Whether connections survived (the database was away, not the server).
        connected: bool,
    },
    /// Do what time demands: expire leases, end attempts past their deadline, take back assignments that were never
    /// started, promote delayed jobs. At most [`SWEEP_MAX`] jobs at a time. → [`Swept`](super::Outcome::Swept)
    Sweep,
    /// Log errors. → [`Done`](super::Outcome::Done)
    RecordErrors(Vec<ErrorRow>),
    /// The session ended or paused the job, as was wished. → [`Moved`](super::Outcome::Moved)
    Confirm {
        /// The job.
        job: JobKey,
        /// Who says so.
        holder: Holder,
    },
    /// Somebody does something to a job. Audited. → [`Acted`](super::Outcome::Acted)
    Act {
        /// The job.
        job: JobKey,
        /// What.
        act: Act,
        /// Who.
        by: String,
    },
    /// Somebody does something to many jobs, at most [`SELECTED_MAX`]; those whose state does not allow it are left as they
    /// are. Audited as one. → [`Acted`](super::Outcome::Acted)
    ActAll {
        /// The jobs.
        jobs: Vec<JobKey>,
        /// What.
        act: Act,
        /// Which jobs are meant, for the record.
        target: String,
        /// Who.
        by: String,
    },
    /// Somebody ends a submitted job and everything below it. Audited. At most [`SELECTED_MAX`] jobs are looked at; the
    /// outcome says where to go on. → [`Acted`](super::Outcome::Acted)
    CancelTree {
        /// The submitted job.
        root: JobKey,
        /// The [`Acted`](super::Outcome::Acted) `next` of the operation before.
        after: Option<JobKey>,
        /// Who.
        by: String,
    },
    /// Somebody gives many jobs another chance. Audited. At most [`SELECTED_MAX`] jobs are looked at; the outcome says
    /// where to go on. → [`Acted`](super::Outcome::Acted)
    Redrive {
        /// Which.
        filter: RedriveFilter,
        /// The [`Acted`](super::Outcome::Acted) `next` of the operation before.
        after: Option<JobKey>,
        /// Who.
        by: String,
    },
    /// Somebody deletes a submitted job with everything below it. Audited. At most [`SELECTED_MAX`] rows go at a time,
    /// the deepest first; the outcome says whether there are more. → [`Deleted`](super::Outcome::Deleted)
    Delete {
        /// The submitted job.
        root: JobKey,
        /// Who.
        by: String,
    },
    /// Somebody closes a gate, or changes until when it is closed. Audited. → [`Done`](super::Outcome::Done)
    CloseGate {
        /// Which.
        gate: Gate,
        /// When it opens by itself.
        until: Option<Timestamp>,
        /// Why, for people.
        reason: Option<String>,
        /// Who.
        by: String,
    },
    /// Somebody opens a gate. Audited. → [`Done`](super::Outcome::Done), whether it was closed or not
    OpenGate {
        /// Which.
        gate: Gate,
        /// Who.
        by: String,
    },
    /// Somebody did something that leaves no other mark in the store. → [`Done`](super::Outcome::Done)
    Record {
        /// Who.
        by: String,
        /// What.
        act: &'static str,
        /// To what.
        target: String,
        /// With what numbers, as JSON text of an object.
        detail: Option<String>,
    },
    /// Somebody gives the token of an account on a host, or has it forgotten. Audited, unless nothing changes.
    /// → [`Done`](super::Outcome::Done)
    KeepCredential {
        /// Which.
        new: NewCredential,
        /// Who.
        by: String,
    },
    /// Somebody lets crawlers in that show a token. Audited. → [`TokenCreated`](super::Outcome::TokenCreated)
    CreateToken {
        /// Its name for people; each is used once.
        name: String,
        /// What its bearers may do.
        role: String,
        /// SHA-256 of the token, in hexadecimal. The token itself is not kept.
        hash: String,
        /// Who.
        by: String,
    },
    /// Somebody takes a token back. Audited, unless it was done before. → [`Done`](super::Outcome::Done)
    RevokeToken {
        /// Its name.
        name: String,
        /// Who.
        by: String,
    },
    /// A crawler showed a token. Given now and then, not each time. → [`Done`](super::Outcome::Done)
    TokenUsed(TokenKey),
    /// Somebody looks at jobs through this server; servers that hold them may want to know. Given when something new is
    /// looked at, and now and then while that goes on. → [`Done`](super::Outcome::Done)
    Watch {
        /// The server. What it gave before counts until its time is over.
        server: String,
        /// At what. More than [`WATCHES_MAX`] jobs count as all.
        watches: Vec<Watch>,
    },
    /// Delete trees that were over before a moment, and errors logged before another. Open trees stay. At most
    /// [`SELECTED_MAX`] rows of each go at a time. → [`Pruned`](super::Outcome::Pruned)
    Prune {
        /// For jobs.
        jobs_before: Timestamp,
        /// For errors.
        errors_before: Timestamp,
    },
}

impl Op {
    /// Whether the operation waits in its place while the database is away. It does when it carries what a crawler
    /// said or is told once: a crawler of the base protocol cannot be asked to say it again, and its operations must
    /// not overtake each other.
    pub fn is_patient(&self) -> bool {
        match self {
            Self::Start { .. }
            | Self::Finish { .. }
            | Self::Release { .. }
            | Self::Adopt { .. }
            | Self::Discover { .. }
            | Self::Confirm { .. }
            | Self::Return { .. }
            | Self::Checkpoint { .. }
            | Self::Said { .. }
            | Self::OpenSession(_)
            | Self::Disconnect(_) => true,
            // Repeated by whoever gives them: the web app, or the next round of a timer.
            Self::Submit(_)
            | Self::SubmitAll(_)
            | Self::Claim { .. }
            | Self::Progress(_)
            | Self::Renew(_)
            | Self::Recover { .. }
            | Self::Sweep
            | Self::RecordErrors(_)
            | Self::Act { .. }
            | Self::Record { .. }
            | Self::KeepCredential { .. }
            | Self::ActAll { .. }
            | Self::CancelTree { .. }
            | Self::Redrive { .. }
            | Self::Delete { .. }
            | Self::CloseGate { .. }
            | Self::OpenGate { .. }
            | Self::CreateToken { .. }
            | Self::RevokeToken { .. }
            | Self::TokenUsed(_)
            | Self::Watch { .. }
            | Self::Prune { .. } => false,
        }
    }
}

/// Jobs one sweep moves at most, so that it never holds the writer for long; the next sweep goes on.
pub const SWEEP_MAX: usize = 500;

/// Rows that one operation over many jobs looks at, for the same reason.
pub const SELECTED_MAX: usize = 500;

/// A look at a job counts for so long: whoever watches looks again before.
pub const WATCHED_FOR: Duration = Duration::from_secs(15);

/// Jobs that are watched at a time through one server, and that one server is told of. More than that is as good as all.
pub const WATCHES_MAX: usize = 1024;

/// Gates that may be closed at a time: every claim looks at all of them.
pub const GATES_MAX: usize = 1000;

/// Rows one progress statement carries at most.
pub const PROGRESS_ROWS_MAX: usize = 500;
