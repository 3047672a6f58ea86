//! A batch of operations over loaded rows → the rows to write.
//!
//! A store carries out a batch in one transaction, in four steps:
//! 1. [`Needs::of`] says which rows the operations speak of; the store chooses those that are meant by a condition, then
//!    loads and locks all (jobs in the order of their keys, so that two servers cannot lock each other out) into a
//!    [`Snapshot`].
//! 2. [`Snapshot::identities`] says which identities discovered items would have; the store adds those that exist.
//! 3. [`plan`] decides everything, in memory, in order. Several operations on one job fold into one row and one event.
//! 4. The store writes the [`Plan`] with a constant number of statements and commits.

mod act;
mod batch;
mod create;
mod needs;
mod report;
mod secret;
mod session;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crawlwire_protocol::message::JobType;

pub use self::batch::plan;
pub use self::needs::{Needs, Selected, Selection};
pub use self::secret::{CredentialWrite, NewToken, Tokens};
use crate::admit::ClosedGate;
use crate::discovery::identity;
use crate::ids::{AccountKey, CredentialKey, Epoch, Fence, JobKey, SessionKey, SessionRef, Timestamp, TokenKey};
use crate::job::{Arrow, Job, State, Tree};
use crate::store::{NewSession, Once, Op, Outcome, OwnLease, RefusedNumbers};
use crate::sums::Sum;
use crate::track::Tracker;
use crate::view::{ErrorRow, JobSpec, Lineage};
use crate::weight::{Size, Weighed};

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
    /// What to do.
    pub job_type: JobType,
    /// What its crawler must have; children inherit it.
    pub labels: Vec<String>,
    /// Where it stands in its tree.
    pub lineage: Lineage,
    /// What it says of everything below it.
    pub tree: Tree,
    /// What it was expected to be when it was made, in items; 0 if nobody could say.
    pub weight: u64,
}

impl LoadedJob {
    /// The lease that its session is told of when it comes back.
    pub(crate) fn lease(&self) -> OwnLease {
        OwnLease {
            key: self.job.key,
            public_id: self.public_id.clone(),
            fence: self.job.fence,
            attempt: self.job.attempt,
            state: self.job.state,
            want: self.job.want,
            credential: self.lineage.credential,
        }
    }
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
    /// Whether it can be asked to end or pause a job. Never changes.
    pub confirms: bool,
    /// How often in a row it was granted a lease by a [`Recovery`] without having been heard since.
    pub grants: i32,
    /// Which of its connections is the last.
    pub epoch: Epoch,
    /// The last number under which it said something that is settled; 0 when none is.
    pub high_water: i64,
    /// The fingerprint that came with that number.
    pub fingerprint: i64,
    /// Which of the last numbers were refused.
    pub refused: RefusedNumbers,
    /// Who may come back to it; none in the base protocol.
    pub principal: Option<String>,
}

impl Session {
    /// Its last connection.
    pub(crate) const fn reference(&self) -> SessionRef {
        SessionRef {
            key: self.key,
            epoch: self.epoch,
        }
    }

    /// Makes its lease last until a moment at least, unless that was done too often without a sign of life.
    pub(crate) fn grant(&mut self, until: Timestamp) {
        if self.grants < GRANTS_MAX {
            self.lease_expires_at = self.lease_expires_at.max(until);
            self.grants += 1;
        }
    }
}

/// Recoveries in a row that grant a lease to a session that is not heard. A server that is started again and again must not
/// keep the jobs of a dead crawler for ever; and one that is started once, and once more because of a slip, must not take
/// the jobs of crawlers that are about to come back.
pub const GRANTS_MAX: i32 = 3;

/// How many jobs an account has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AccountCounts {
    /// That have not ended.
    pub open: i64,
    /// That a session holds.
    pub held: i64,
}

/// A credential as it was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credential {
    /// Its row.
    pub key: CredentialKey,
    /// Rises with each new token.
    pub version: i64,
}

/// The report that is stored of a job, as far as sums depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptReport {
    /// Of which attempt.
    pub attempt: i32,
    /// Its number within the attempt.
    pub n: i64,
    /// When it was heard.
    pub updated_at: Timestamp,
    /// What it adds to the sum of the tree; nothing if an earlier release wrote it.
    pub sum: Option<Sum>,
}

/// What the reports of a tree add up to, as it was loaded and is written back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeProgress {
    /// The sum.
    pub sum: Sum,
    /// The highest milestone that was told, in percent; 0 for none.
    pub reached: u8,
    /// Whether something of the tree is still to be done.
    pub is_open: bool,
    /// How large the tree is. If the root is loaded, that one knows better.
    pub size: Size,
}

/// The loaded rows.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The time by the clock of the database.
    pub now: Option<Timestamp>,
    /// Fresh keys, ascending; [`Needs::keys`] of them.
    pub keys: Vec<i64>,
    /// Jobs that are named, chosen, or demanded by time, and ancestors where needed.
    pub jobs: BTreeMap<JobKey, LoadedJob>,
    /// Sessions that are named or hold a loaded job.
    pub sessions: BTreeMap<SessionKey, Session>,
    /// Sessions of instances that are named; they are among the sessions.
    pub instances: BTreeMap<String, SessionKey>,
    /// What those hold, read after they were locked; jobs that are loaded too may be missing.
    pub leases: BTreeMap<SessionKey, Vec<OwnLease>>,
    /// Accounts that exist.
    pub accounts: BTreeMap<String, AccountKey>,
    /// Credentials that exist, by account and host.
    pub credentials: BTreeMap<(String, String), Credential>,
    /// Their tokens, as far as they can be read.
    pub tokens: Tokens,
    /// Keys of submissions that are taken, with the fingerprint and the public id of the job that has each.
    pub once: BTreeMap<String, (i64, String)>,
    /// Names of the web app that are taken, with the public id of the job that has each.
    pub web_app_job_ids: BTreeMap<String, String>,
    /// Identities that exist.
    pub identities: BTreeSet<String>,
    /// Jobs that wait.
    pub backlog: u64,
    /// What the selections found.
    pub selected: BTreeMap<Selection, Selected>,
    /// The closed gates.
    pub gates: Vec<ClosedGate>,
    /// Counts of accounts; those without any job may be missing.
    pub account_counts: BTreeMap<AccountKey, AccountCounts>,
    /// Stored reports of the jobs that [`Needs::reports`] names.
    pub reports: BTreeMap<JobKey, KeptReport>,
    /// What trees add up to, by their roots; those of which nothing is kept may be missing.
    pub trees: BTreeMap<JobKey, TreeProgress>,
    /// Old errors, by row.
    pub old_errors: Vec<i64>,
    /// Tokens that are named, and whether each is revoked.
    pub tokens_by_name: BTreeMap<String, (TokenKey, bool)>,
    /// The greatest key of a token; 0 when there is none.
    pub last_token: i64,
}

impl Snapshot {
    /// The identities that the discovered items of these operations would have.
    pub fn identities(&self, ops: &[Op]) -> BTreeSet<String> {
        let mut identities = BTreeSet::new();
        self.add_identities(ops, &mut identities);
        identities
    }

    fn add_identities(&self, ops: &[Op], identities: &mut BTreeSet<String>) {
        for op in ops {
            match op {
                Op::Discover { parent, items, .. } => {
                    let Some(parent) = self.jobs.get(parent) else { continue };
                    let found = items.iter();
                    identities
                        .extend(found.map(|found| child_identity(parent, found.item.job_type, &found.item.entity_id)));
                }
                Op::Said { ops, .. } => self.add_identities(ops, identities),
                _ => {}
            }
        }
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
    /// Its lane, see [`priority::lane`](crate::priority::lane).
    pub lane: i64,
    /// What it is expected to be, in items; 0 if nobody can say.
    pub weight: u64,
    /// By which a repeated submission is known.
    pub once: Option<Once>,
}

impl NewJobRow {
    /// What it says of its tree.
    pub fn tree(&self) -> Tree {
        match self.lineage.parent {
            None => Tree {
                weighed: Weighed::of(self.weight),
                ..Tree::NEW
            },
            Some(_) => Tree::NEW,
        }
    }
}

/// A report to insert or replace.
#[derive(Debug, Clone, PartialEq)]
pub struct NewReport {
    /// The report.
    pub tracker: Arc<Tracker>,
    /// What it adds to the sum of the tree.
    pub sum: Sum,
}

/// A job to update. The row must still be in `before`; if it is not, the batch is stale and is planned again.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedJob {
    /// State and fence as loaded.
    pub before: (State, Fence),
    /// As it is now.
    pub job: Job,
    /// Its tree as it is now.
    pub tree: Tree,
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

/// A row of the record of who did what. Only what had an effect is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAudit {
    /// Who.
    pub by: String,
    /// What.
    pub act: &'static str,
    /// To what: a job's public id, or a gate.
    pub target: String,
    /// With what numbers, as JSON text of an object.
    pub detail: Option<String>,
}

/// A place that a crawl found, and an account that may see it. Both are written unless they are there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewArea {
    /// Where.
    pub host: String,
    /// `user`, `group`, `project`.
    pub kind: &'static str,
    /// Its id on the host; unique with host and kind.
    pub entity_id: String,
    /// The account that may see it.
    pub account: AccountKey,
    /// Its path; the newest stays.
    pub path: String,
    /// Its name; the newest stays.
    pub name: String,
}

/// A gate that opened. Jobs that ran behind it could do nothing: their deadlines move by as much, where it stops them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// As it was closed.
    pub gate: ClosedGate,
    /// How long it was.
    pub closed_for: Duration,
}

/// How far a job got, to be kept in place of what was kept before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCheckpoint {
    /// The attempt that said so.
    pub attempt: i32,
    /// JSON text of an object.
    pub cursor: String,
}

/// A server's return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The server.
    pub server: String,
    /// Whether its connections survived.
    pub connected: bool,
    /// Every session's lease lasts at least until here, but for those that were granted it [`GRANTS_MAX`] times in a row.
    pub lease_until: Timestamp,
}

/// What to write, in this order, in one transaction; and the answers, to be given after the commit.
#[derive(Debug, Default)]
pub struct Plan {
    /// Before anything else.
    pub recoveries: Vec<Recovery>,
    /// Gates to delete, with the deadlines of the jobs behind them to be moved before jobs are updated.
    pub openings: Vec<Opening>,
    /// Gates to insert or replace.
    pub closings: Vec<ClosedGate>,
    /// Accounts to insert.
    pub new_accounts: Vec<(AccountKey, String)>,
    /// Credentials to insert or replace.
    pub credentials: Vec<CredentialWrite>,
    /// Sessions to insert, those of instances in the order of the instances.
    pub new_sessions: Vec<(Session, NewSession)>,
    /// Sessions that a later connection came back to: what it said of itself takes the place of what was said before.
    pub reopened: Vec<(SessionKey, NewSession)>,
    /// Sessions to update, by rising key: what may change while a connection stands, and the epoch.
    pub sessions: Vec<Session>,
    /// Jobs to insert.
    pub new_jobs: Vec<NewJobRow>,
    /// Jobs to update.
    pub changed: Vec<ChangedJob>,
    /// Events to insert.
    pub events: Vec<NewEvent>,
    /// Reports to insert or replace; each is newer than the one that is stored (by attempt, then `n`).
    pub progress: BTreeMap<JobKey, NewReport>,
    /// How attempts went, by job and attempt, to insert or replace: those that are not as they were stored.
    pub histories: BTreeMap<(JobKey, i32), Arc<Tracker>>,
    /// What trees add up to, by their roots, to insert or replace.
    pub trees: BTreeMap<JobKey, TreeProgress>,
    /// Checkpoints to insert or replace.
    pub checkpoints: BTreeMap<JobKey, NewCheckpoint>,
    /// Errors to insert.
    pub errors: Vec<ErrorRow>,
    /// Sessions without jobs, whose lease ended before this, may be forgotten, whatever became of their connection: who
    /// holds one that stands would have renewed the lease.
    pub forget_sessions_before: Option<Timestamp>,
    /// How the number of waiting jobs changes.
    pub backlog_change: i64,
    /// How the counts of accounts change; none is zero twice.
    pub account_changes: BTreeMap<AccountKey, AccountCounts>,
    /// Jobs to delete, children before their parents, with the state in which each row still is. All have ended, some
    /// perhaps in this very batch.
    pub deleted: Vec<(JobKey, State)>,
    /// Errors to delete, by row.
    pub deleted_errors: Vec<i64>,
    /// What was done by whom.
    pub audits: Vec<NewAudit>,
    /// Tokens to insert.
    pub new_tokens: Vec<NewToken>,
    /// Tokens to revoke, unless they are.
    pub revoked_tokens: BTreeSet<TokenKey>,
    /// Tokens that were shown just now.
    pub used_tokens: BTreeSet<TokenKey>,
    /// Places that were found; each once for an account.
    pub areas: BTreeSet<NewArea>,
    /// What is looked at through which server, by its name and the job's public id, empty for all jobs; and until when.
    /// To insert or replace. Where there are any, those that are over go.
    pub watches: BTreeMap<(String, String), Timestamp>,
    /// One answer for each operation, in order.
    pub outcomes: Vec<Outcome>,
}
