//! What is asked of the engine and what it answers, in words of the test: jobs and sessions have numbers that mean the
//! same in the model and in every store.

use crawlwire_progress::job::JobLimits;
use crawlwire_progress::store::Act;
use crawlwire_progress::{Arrow, State, Want};

pub(crate) type JobNo = u32;
pub(crate) type SessionNo = u32;

/// Nobody makes a job or a session with this number.
pub(crate) const NOBODY: u32 = 999_999;

/// Time passes, then operations are given together to one server.
#[derive(Debug, Clone)]
pub(crate) struct Transition {
    /// Milliseconds.
    pub(crate) wait: i64,
    /// Which of the servers, where there are several.
    pub(crate) server: usize,
    pub(crate) steps: Vec<Step>,
}

/// Who says something about a job. What it comes to is looked up when it is said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Speaker {
    /// Whoever holds it, or held it last.
    Holder,
    /// Whoever held it so many leases before, with the fence of then.
    Late(usize),
    /// Whoever holds it, with a fence that is off by so much.
    Forged(i64),
    /// A session that does not hold it, with the right fence.
    Foreign(SessionNo),
}

/// Which gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Door {
    Queue,
    Host(u8),
    Credentials { account: u8, host: u8 },
}

/// A job to be submitted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Submission {
    pub(crate) job: JobNo,
    pub(crate) account: u8,
    pub(crate) host: u8,
    /// The web app's own name.
    pub(crate) theirs: Option<u8>,
    pub(crate) token: bool,
    pub(crate) priority: f64,
    /// Milliseconds from now.
    pub(crate) delay: Option<i64>,
    pub(crate) resume: bool,
    pub(crate) limits: JobLimits,
}

/// An item of a discovery: the number it gets if it becomes a job, what it is, and its priority.
pub(crate) type Item = (JobNo, u8, f64);

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    Submit(Submission),
    Open {
        session: SessionNo,
        identity: Option<u8>,
        confirms: bool,
        server: u8,
        /// As whom, for a crawler that comes back to the same session.
        instance: Option<u8>,
    },
    Claim {
        job: JobNo,
        session: SessionNo,
        /// So many connections before the last one.
        behind: i64,
    },
    Start(JobNo, Speaker),
    /// With the last counts, or without.
    Complete(JobNo, Speaker, Option<i64>),
    Fail {
        job: JobNo,
        by: Speaker,
        recoverable: bool,
    },
    Release(JobNo, Speaker),
    Confirm(JobNo, Speaker),
    Return(JobNo, Speaker),
    /// With a cursor.
    Checkpoint(JobNo, Speaker, u8),
    Adopt {
        job: JobNo,
        session: SessionNo,
    },
    Discover(JobNo, Speaker, Vec<Item>),
    Report(JobNo, Speaker, i64),
    /// By the last connections, or by ones so many before.
    Renew(Vec<SessionNo>, i64),
    Disconnect(SessionNo, i64),
    /// Under the number that is so far ahead of the last settled one.
    Said {
        session: SessionNo,
        behind: i64,
        ahead: i64,
        /// Whether the text is another than that which goes with the number.
        other: bool,
        steps: Vec<Self>,
    },
    Recover {
        server: u8,
        connected: bool,
    },
    Sweep,
    Act(JobNo, Act),
    CancelTree(JobNo),
    Redrive {
        quarantined: bool,
        failed: bool,
        account: Option<u8>,
    },
    Delete(JobNo),
    CloseGate(Door, Option<i64>),
    OpenGate(Door),
    /// Trees that have been over for so many milliseconds.
    Prune(i64),
}

impl Step {
    /// The name in the table of what was taken.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Submit(_) => "submit",
            Self::Open { .. } => "open",
            Self::Claim { .. } => "claim",
            Self::Start(..) => "start",
            Self::Complete(..) => "complete",
            Self::Fail { .. } => "fail",
            Self::Release(..) => "release",
            Self::Confirm(..) => "confirm",
            Self::Return(..) => "return",
            Self::Checkpoint(..) => "checkpoint",
            Self::Said { .. } => "said",
            Self::Adopt { .. } => "adopt",
            Self::Discover(..) => "discover",
            Self::Report(..) => "report",
            Self::Renew(..) => "renew",
            Self::Disconnect(..) => "disconnect",
            Self::Recover { .. } => "recover",
            Self::Sweep => "sweep",
            Self::Act(_, act) => act.as_str(),
            Self::CancelTree(_) => "cancel_tree",
            Self::Redrive { .. } => "redrive_many",
            Self::Delete(_) => "delete",
            Self::CloseGate(..) => "close_gate",
            Self::OpenGate(_) => "open_gate",
            Self::Prune(_) => "prune",
        }
    }
}

/// A step as it was given: who spoke, looked up.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) step: Step,
    /// Session and fence, where a speaker is named.
    pub(crate) lease: (SessionNo, i64),
    /// By which connection of each session that is named.
    pub(crate) epochs: Vec<i64>,
    /// The number, and the fingerprint, of what was said.
    pub(crate) said: (i64, i64),
    /// What follows from it.
    pub(crate) inner: Vec<Self>,
}

/// An arrow that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) job: JobNo,
    pub(crate) arrow: Arrow,
    pub(crate) from: Option<State>,
    pub(crate) state: State,
    pub(crate) fence: i64,
    pub(crate) attempt: i32,
    pub(crate) session: Option<SessionNo>,
    pub(crate) at: i64,
    /// Milestones that its tree passed by it: the root, and percent.
    pub(crate) passed: Vec<(JobNo, u8)>,
}

/// A session that was opened, perhaps again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) epoch: i64,
    pub(crate) high_water: i64,
    pub(crate) fingerprint: i64,
    /// Numbers, and why they had no effect.
    pub(crate) refused: Vec<(i64, String)>,
    /// Job, fence, attempt, state and wish.
    pub(crate) leases: Vec<(JobNo, i64, i32, State, Option<Want>)>,
}

/// What became of what was said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    Applied(Vec<Answer>),
    Repeated { conflict: bool, refused: Option<String> },
    Gap(i64),
    Replaced,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Submitted(JobNo, State),
    Opened(Opened),
    Said(Said),
    Moved(Fact),
    /// By job; arrows of one job in order.
    Facts(Vec<Fact>),
    Discovered(Vec<(&'static str, Option<Fact>)>),
    Renewed(Vec<SessionNo>),
    /// Those that came too late, and milestones that trees passed.
    Reported(Vec<JobNo>, Vec<(JobNo, u8)>),
    Gone(usize),
    Done,
    Refused(&'static str),
    NameTaken(JobNo),
}
