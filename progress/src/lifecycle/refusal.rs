//! Why arrows are not taken.

/// Why an arrow was not taken. A normal answer, not a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// There is no such job.
    #[error("no such job")]
    NotFound,
    /// The lease that the message belongs to is over.
    #[error("the lease is over")]
    Stale,
    /// Somebody else was faster, or the job is held back.
    #[error("the job is not queued")]
    NotQueued,
    /// The time for this arrow has not come.
    #[error("not yet due")]
    NotDue,
    /// The session has said so before.
    #[error("already started")]
    AlreadyStarted,
    /// The job is held by a crawler that cannot be shown to be this one.
    #[error("held by another crawler")]
    HeldByAnother,
    /// The job is held by an earlier connection of this crawler, whose end is not known yet.
    #[error("an earlier connection of this crawler still holds it")]
    StillConnected,
    /// A gate is closed before the job.
    #[error("a gate is closed before the job")]
    GateClosed,
    /// The job's account holds as many jobs as it may.
    #[error("the account holds as many jobs as it may")]
    AccountShare,
    /// The session does not run such jobs.
    #[error("the session does not run such jobs")]
    NotCapable,
    /// Nobody wishes that.
    #[error("nothing was wished of the job")]
    NotWanted,
    /// It is so already.
    #[error("it is so already")]
    AlreadySo,
    /// The job has ended.
    #[error("the job has ended")]
    Ended,
    /// The job is to be cancelled.
    #[error("the job is being cancelled")]
    Cancelling,
    /// Only what is paused can go on.
    #[error("the job is not paused by anybody")]
    NotPaused,
    /// Only what failed or was cancelled can be tried again.
    #[error("the job has neither failed nor been cancelled")]
    NotRetryable,
    /// Only what is quarantined or failed can be given out anew.
    #[error("the job is neither quarantined nor failed")]
    NotRedrivable,
    /// Only a submitted job can be treated with everything below it.
    #[error("the job was discovered by another; name the submitted job at the top")]
    NotRoot,
    /// Something in the tree is still to be done.
    #[error("the job, or something below it, has not ended")]
    TreeOpen,
}

impl Refusal {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Stale => "stale",
            Self::NotQueued => "not_queued",
            Self::NotDue => "not_due",
            Self::AlreadyStarted => "already_started",
            Self::HeldByAnother => "held_by_another",
            Self::StillConnected => "still_connected",
            Self::GateClosed => "gate_closed",
            Self::AccountShare => "account_share",
            Self::NotCapable => "not_capable",
            Self::NotWanted => "not_wanted",
            Self::AlreadySo => "already_so",
            Self::Ended => "job_ended",
            Self::Cancelling => "cancelling",
            Self::NotPaused => "not_paused",
            Self::NotRetryable => "not_retryable",
            Self::NotRedrivable => "not_redrivable",
            Self::NotRoot => "not_root",
            Self::TreeOpen => "tree_open",
        }
    }
}
