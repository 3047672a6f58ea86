//! A batch of operations over loaded rows → the rows to write.
//!
//! A store carries out a batch in one transaction, in four steps:
//! 1. [`Needs::of`] says which rows the operations speak of; the store loads and locks them (jobs in the order of their
//!    keys, so that two servers cannot lock each other out) into a [`Snapshot`].
//! 2. [`Snapshot::identities`] says which identities discovered items would have; the store adds those that exist.
//! 3. [`plan`] decides everything, in memory, in order. Several operations on one job fold into one row and one event.
//! 4. The store writes the [`Plan`] with a constant number of statements and commits.

mod batch;
mod create;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crawlwire_protocol::AccessToken;
use crawlwire_protocol::message::JobType;

pub use self::batch::plan;
use crate::discovery::identity;
use crate::ids::{AccountKey, CredentialKey, Fence, JobKey, SessionKey, Timestamp};
use crate::job::{Arrow, Job, State};
use crate::store::{NewSession, Op, Outcome};
use crate::view::{ErrorRow, JobSpec, Lineage, ProgressView};

/// What a batch of operations speaks of.
#[derive(Debug, Default, PartialEq)]
pub struct Needs {
    /// Jobs by row.
    pub jobs: BTreeSet<JobKey>,
    /// Jobs by public id.
    pub public_ids: BTreeSet<String>,
    /// Jobs whose root is needed too.
    pub parents: BTreeSet<JobKey>,
    /// Sessions. Those that hold a loaded job are needed as well.
    pub sessions: BTreeSet<SessionKey>,
    /// Accounts by name.
    pub accounts: BTreeSet<String>,
    /// Credentials by account name and host.
    pub credentials: BTreeSet<(String, String)>,
    /// Names of the web app that must be free.
    pub web_app_job_ids: BTreeSet<String>,
    /// Whether jobs that time has something to say about are needed, up to [`SWEEP_MAX`](crate::store::SWEEP_MAX): held
    /// ones whose session's lease, deadline or accept time is over, and delayed ones that are due.
    pub sweep: bool,
    /// How many new rows there may be, of all kinds together: so many fresh keys are needed.
    pub keys: usize,
}

impl Needs {
    /// What these operations speak of.
    pub fn of(ops: &[Op]) -> Self {
        let mut needs = Self::default();
        for op in ops {
            needs.add(op);
        }
        needs
    }

    fn add(&mut self, op: &Op) {
        match op {
            Op::Submit(job) => {
                self.accounts.insert(job.account_id.clone());
                self.keys += 3;
                self.web_app_job_ids.extend(job.web_app_job_id.clone());
                self.credentials.insert((job.account_id.clone(), job.spec.host.clone()));
            }
            Op::Claim { job, session, .. } => {
                self.jobs.insert(*job);
                self.sessions.insert(*session);
            }
            Op::Start { job, .. } | Op::Finish { job, .. } | Op::Release { job, .. } => {
                self.jobs.insert(*job);
            }
            Op::Adopt { public_id, session } => {
                self.public_ids.insert(public_id.clone());
                self.sessions.insert(*session);
            }
            Op::Discover { parent, items, .. } => {
                self.jobs.insert(*parent);
                self.parents.insert(*parent);
                self.keys += items.len();
            }
            Op::Progress(reports) => self.jobs.extend(reports.iter().map(|(job, ..)| *job)),
            Op::OpenSession(_) => self.keys += 1,
            Op::Renew(sessions) => self.sessions.extend(sessions),
            Op::Disconnect(session) => {
                self.sessions.insert(*session);
            }
            Op::Sweep => self.sweep = true,
            Op::Recover { .. } | Op::RecordErrors(_) => {}
        }
    }
}

/// A job as it was loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedJob {
    /// What arrows change.
    pub job: Job,
    /// Its name outside.
    pub public_id: String,
    /// Where it is crawled; children inherit it.
    pub host: String,
    /// The provider; children inherit it.
    pub provider: Option<String>,
    /// On whose behalf; children inherit it.
    pub user_id: Option<String>,
    /// Where it stands in its tree.
    pub lineage: Lineage,
    /// Children it has.
    pub children: i64,
    /// Jobs below it, counted at roots only.
    pub tree_jobs: i64,
}

/// A session as it was loaded, and as it is written back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its row.
    pub key: SessionKey,
    /// Its name.
    pub name: Arc<str>,
    /// Who the peer is.
    pub identity: Option<String>,
    /// Whether its connection stands.
    pub connected: bool,
    /// Until when it keeps its jobs.
    pub lease_expires_at: Timestamp,
}

/// A credential as it was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credential {
    /// Its row.
    pub key: CredentialKey,
    /// Rises with each new token.
    pub version: i64,
}

/// The loaded rows.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The time by the clock of the database.
    pub now: Option<Timestamp>,
    /// Fresh keys, ascending; [`Needs::keys`] of them.
    pub keys: Vec<i64>,
    /// Jobs that are named, their roots where needed, and those for the sweep.
    pub jobs: BTreeMap<JobKey, LoadedJob>,
    /// Sessions that are named or hold a loaded job.
    pub sessions: BTreeMap<SessionKey, Session>,
    /// Accounts that exist.
    pub accounts: BTreeMap<String, AccountKey>,
    /// Credentials that exist, by account and host.
    pub credentials: BTreeMap<(String, String), Credential>,
    /// Names of the web app that are taken, with the public id of the job that has each.
    pub web_app_job_ids: BTreeMap<String, String>,
    /// Identities that exist.
    pub identities: BTreeSet<String>,
    /// Jobs that wait.
    pub backlog: u64,
}

impl Snapshot {
    /// The identities that the discovered items of these operations would have.
    pub fn identities(&self, ops: &[Op]) -> BTreeSet<String> {
        let mut identities = BTreeSet::new();
        for op in ops {
            if let Op::Discover { parent, items, .. } = op
                && let Some(parent) = self.jobs.get(parent)
            {
                identities.extend(
                    items
                        .iter()
                        .map(|(_, item)| child_identity(parent, item.job_type, &item.entity_id)),
                );
            }
        }
        identities
    }
}

fn child_identity(parent: &LoadedJob, job_type: JobType, entity: &str) -> String {
    identity(&parent.lineage.generation, &parent.host, job_type, entity)
}

/// A job to insert.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJobRow {
    /// What arrows change.
    pub job: Job,
    /// Its name outside.
    pub public_id: String,
    /// The web app's name for it.
    pub web_app_job_id: String,
    /// What it is about.
    pub spec: JobSpec,
    /// Where it stands in its tree.
    pub lineage: Lineage,
    /// Unique over all jobs.
    pub identity: String,
    /// Its place in the queue.
    pub due: i64,
}

/// A job to update. The row must still be in `before`; if it is not, the batch is stale and is planned again.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedJob {
    /// State and fence as loaded.
    pub before: (State, Fence),
    /// As it is now.
    pub job: Job,
    /// Children it has now.
    pub children: i64,
    /// Jobs below it now.
    pub tree_jobs: i64,
    /// What the crawler said at the end, when it just ended well.
    pub result: Option<String>,
    /// The error, when an attempt just went wrong.
    pub error: Option<String>,
}

/// An event to insert: all arrows that one job took in this batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The job.
    pub job: JobKey,
    /// The arrows, in order.
    pub arrows: Vec<Arrow>,
    /// The state after them.
    pub state: State,
    /// The fence after them.
    pub fence: Fence,
    /// The attempt after them.
    pub attempt: i32,
    /// Who took the last of them, or lost the job by it.
    pub session: Option<Arc<str>>,
}

/// A token to seal and keep.
#[derive(Clone)]
pub struct CredentialWrite {
    /// Its row.
    pub key: CredentialKey,
    /// Whose.
    pub account: AccountKey,
    /// For which host.
    pub host: String,
    /// 1 for a new row.
    pub version: i64,
    /// The token.
    pub token: AccessToken,
}

impl std::fmt::Debug for CredentialWrite {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter
            .debug_struct("CredentialWrite")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// A server's return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The server.
    pub server: String,
    /// Whether its connections survived.
    pub connected: bool,
    /// Every session's lease lasts at least until here.
    pub lease_until: Timestamp,
}

/// What to write, in this order, in one transaction; and the answers, to be given after the commit.
#[derive(Debug, Default)]
pub struct Plan {
    /// Before anything else.
    pub recoveries: Vec<Recovery>,
    /// Accounts to insert.
    pub new_accounts: Vec<(AccountKey, String)>,
    /// Credentials to insert or replace.
    pub credentials: Vec<CredentialWrite>,
    /// Sessions to insert.
    pub new_sessions: Vec<(SessionKey, NewSession, Timestamp)>,
    /// Sessions to update.
    pub sessions: Vec<Session>,
    /// Jobs to insert.
    pub new_jobs: Vec<NewJobRow>,
    /// Jobs to update.
    pub changed: Vec<ChangedJob>,
    /// Events to insert.
    pub events: Vec<NewEvent>,
    /// Reports to insert or replace; an older one never replaces a newer (by attempt, then `n`).
    pub progress: Vec<(JobKey, ProgressView)>,
    /// Errors to insert.
    pub errors: Vec<ErrorRow>,
    /// Sessions without connection and jobs, whose lease ended before this, may be forgotten.
    pub forget_sessions_before: Option<Timestamp>,
    /// How the number of waiting jobs changes.
    pub backlog_change: i64,
    /// One answer for each operation, in order.
    pub outcomes: Vec<Outcome>,
}
