//! What queries answer: plain records for people and programs outside. Times are milliseconds since 1970, UTC.

use std::collections::BTreeMap;

use crawlwire_protocol::message::JobType;

use crate::admit::Capabilities;
use crate::ids::{AccountKey, CredentialKey, Epoch, Fence, JobKey, SessionKey, Timestamp, TokenKey};
use crate::job::{JobLimits, PauseReason, State, Tree, Want};
use crate::track::Tracker;

/// What a job is about. Never changes after submission, but for the priority.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec {
    /// What to do.
    pub job_type: JobType,
    /// Where, in the one form of [`normalise_host`](crawlwire_protocol::normalise_host).
    pub host: String,
    /// The entity's id on the host.
    pub entity_id: Option<String>,
    /// The entity's path on the host.
    pub namespace_path: Option<String>,
    /// The entity's name for people.
    pub entity_name: Option<String>,
    /// Higher runs first.
    pub priority: f64,
    /// Words that its crawler must have; children inherit them. Sorted, each once.
    pub labels: Vec<String>,
    /// `gitlab-onprem`, `gitlab-cloud`.
    pub provider: Option<String>,
    /// On whose behalf.
    pub user_id: Option<String>,
    /// Who submitted it.
    pub created_by_user_id: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Anything the web app wants back, as JSON text of an object.
    pub metadata: Option<String>,
}

impl JobSpec {
    /// What there must be; the priority is 1, and nothing else is said.
    pub fn new(job_type: JobType, host: impl Into<String>) -> Self {
        Self {
            job_type,
            host: host.into(),
            entity_id: None,
            namespace_path: None,
            entity_name: None,
            priority: 1.0,
            labels: Vec::new(),
            provider: None,
            user_id: None,
            created_by_user_id: None,
            tags: Vec::new(),
            metadata: None,
        }
    }
}

/// Where a job stands in its tree, and what children inherit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// Its parent; none for a submitted job.
    pub parent: Option<JobKey>,
    /// The submitted job at the top; itself for a submitted job.
    pub root: JobKey,
    /// Levels below the submitted job, which has 0.
    pub depth: i32,
    /// The crawl that identities are unique in: the root's public id.
    pub generation: String,
    /// Whose job.
    pub account: AccountKey,
    /// The token to work with.
    pub credential: Option<CredentialKey>,
}

/// A job as the API shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// Its row.
    pub key: JobKey,
    /// Its name outside.
    pub public_id: String,
    /// The web app's own name for it; the public id when it gave none.
    pub web_app_job_id: String,
    /// The account's name.
    pub account_id: String,
    /// The account's row.
    pub account: AccountKey,
    /// The parent's public id.
    pub parent_id: Option<String>,
    /// The root's public id.
    pub root_id: String,
    /// Levels below the submitted job.
    pub depth: i32,
    /// What it is about.
    pub spec: JobSpec,
    /// The token to work with. For the server's own use, not for the API.
    pub credential: Option<CredentialKey>,
    /// Where it is in its life.
    pub state: State,
    /// Why it is paused.
    pub pause_reason: Option<PauseReason>,
    /// The current or last lease.
    pub fence: Fence,
    /// Name of the session that holds it.
    pub session: Option<String>,
    /// How often it was started.
    pub attempt: i32,
    /// How often an attempt went wrong.
    pub failures: i32,
    /// How often in a row it was given out and never started.
    pub misses: i32,
    /// What it says of everything below it.
    pub tree: Tree,
    /// Whether it goes on where an earlier attempt stopped.
    pub resume: bool,
    /// What somebody wishes of it, and until when its crawler may confirm.
    pub want: Option<(Want, Timestamp)>,
    /// Its own numbers.
    pub limits: JobLimits,
    /// When it may run.
    pub run_at: Option<Timestamp>,
    /// When it was given out.
    pub assigned_at: Option<Timestamp>,
    /// Until when the attempt may run.
    pub deadline: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When a session first began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When any of this last changed.
    pub updated_at: Timestamp,
    /// What the crawler said at the end, as JSON text.
    pub result: Option<String>,
    /// The last error, as JSON text.
    pub error: Option<String>,
}

/// A queued job as the dispatcher needs it, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadyJob {
    /// Its row.
    pub key: JobKey,
    /// Its name outside.
    pub public_id: String,
    /// What it is about.
    pub spec: JobSpec,
    /// Whose job.
    pub account: AccountKey,
    /// Its lane; lanes take turns.
    pub lane: i64,
    /// Its place in the lane.
    pub due: i64,
    /// The token to work with.
    pub credential: Option<CredentialKey>,
    /// Whether it goes on where an earlier attempt stopped.
    pub resume: bool,
}

/// A job as the row says that a session holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldJob {
    /// Its row.
    pub key: JobKey,
    /// Its name outside.
    pub public_id: String,
    /// Who holds it.
    pub session: SessionKey,
    /// The lease.
    pub fence: Fence,
    /// What somebody wishes of it.
    pub want: Option<Want>,
}

/// One line of a job's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventView {
    /// Its row.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Arrows taken in one transaction, in order, by name.
    pub arrows: Vec<String>,
    /// The state after them.
    pub state: State,
    /// The fence after them.
    pub fence: Fence,
    /// The attempt after them.
    pub attempt: i32,
    /// Name of the session that took them, or lost the job.
    pub session: Option<String>,
}

/// A place in what happened to all jobs; greater ones are later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedCursor(pub i64);

/// What happened to all jobs after a place, whichever server did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// In the order in which it happened to each job.
    pub items: Vec<FeedItem>,
    /// Where it goes on.
    pub next: FeedCursor,
}

/// What happened to a job in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedItem {
    /// The job.
    pub job: JobKey,
    /// Its name outside.
    pub public_id: String,
    /// The submitted job at the top of its tree.
    pub root: JobKey,
    /// That one's name outside.
    pub root_id: String,
    /// The account, by name.
    pub account_id: String,
    /// What to do.
    pub job_type: JobType,
    /// What happened.
    pub event: EventView,
}

/// A stored report about a job that runs at another server.
#[derive(Debug, Clone, PartialEq)]
pub struct HeardElsewhere {
    /// The job.
    pub job: JobKey,
    /// Its name outside.
    pub public_id: String,
    /// The name of the submitted job at the top of its tree.
    pub root_id: String,
    /// The report, without the course of the attempt.
    pub tracker: Tracker,
}

/// A session as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Its row.
    pub key: SessionKey,
    /// `legacy-<connection>` for a base crawler.
    pub name: String,
    /// Who the peer is, where that is known.
    pub identity: Option<String>,
    /// The server that holds or held the connection.
    pub server: String,
    /// Whether the connection stands.
    pub connected: bool,
    /// When it opened.
    pub opened_at: Timestamp,
    /// Until when it keeps its jobs.
    pub lease_expires_at: Timestamp,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Jobs it holds.
    pub held: usize,
    /// Which of its connections is the last.
    pub epoch: Epoch,
    /// Which run of a crawler it is; none in the base protocol.
    pub instance: Option<InstanceView>,
}

/// One run of a crawler, which keeps its session through all its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceView {
    /// Its name for itself.
    pub id: String,
    /// The crawler's name, the same for all its runs.
    pub crawler_id: String,
    /// Who it proved to be.
    pub principal: String,
    /// The last number of it that is settled.
    pub high_water: i64,
}

/// Somebody whose jobs these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountView {
    /// Its row.
    pub key: AccountKey,
    /// Its name.
    pub account_id: String,
    /// Since when.
    pub created_at: Timestamp,
    /// Jobs that have not ended.
    pub open_jobs: i64,
    /// Jobs that crawlers hold.
    pub held_jobs: i64,
}

/// What is kept of a token for an account on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialView {
    /// Its row.
    pub key: CredentialKey,
    /// The host.
    pub host: String,
    /// Rises with each new token.
    pub version: i64,
    /// When it was given.
    pub updated_at: Timestamp,
    /// Whether there is a token; none when it cannot be read with the key of this server.
    pub is_set: Option<bool>,
}

/// A token that crawlers may show.
#[derive(Clone, PartialEq, Eq)]
pub struct CrawlerToken {
    /// Its row.
    pub key: TokenKey,
    /// Its name for people.
    pub name: String,
    /// What its bearers may do.
    pub role: String,
    /// SHA-256 of the token, in hexadecimal.
    pub hash: String,
    /// Since when.
    pub created_at: Timestamp,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
    /// When it was last shown, roughly.
    pub last_used_at: Option<Timestamp>,
}

impl std::fmt::Debug for CrawlerToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter
            .debug_struct("CrawlerToken")
            .field("key", &self.key)
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// Something that somebody did, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditView {
    /// Its row.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// What: the name of an act.
    pub act: String,
    /// To what: a job's public id, or a gate.
    pub target: String,
    /// With what numbers, as JSON text of an object.
    pub detail: Option<String>,
}

/// A place that crawls found, as an account may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AreaView {
    /// Its row.
    pub id: i64,
    /// Where.
    pub host: String,
    /// `user`, `group`, `project`.
    pub kind: String,
    /// Its id on the host.
    pub entity_id: String,
    /// Its path on the host.
    pub path: String,
    /// Its name for people.
    pub name: String,
    /// Since when the account may see it.
    pub since: Timestamp,
}

/// An error as it was logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorRow {
    /// When.
    pub at: Timestamp,
    /// See [`Category`](crawlwire_protocol::Category).
    pub category: &'static str,
    /// See [`Severity`](crawlwire_protocol::Severity).
    pub severity: &'static str,
    /// A stable name.
    pub code: String,
    /// The job it concerns.
    pub job: Option<String>,
    /// The connection it came from.
    pub connection: Option<String>,
    /// Place and rule, never the offending value.
    pub message: String,
}

/// An error as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorView {
    /// Its row.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Which part of the system.
    pub category: String,
    /// How bad.
    pub severity: String,
    /// A stable name.
    pub code: String,
    /// The job it concerns.
    pub job: Option<String>,
    /// The connection it came from.
    pub connection: Option<String>,
    /// Place and rule.
    pub message: String,
}

/// A page of a list, newest or best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; none on the last page.
    pub next: Option<i64>,
}

/// Jobs per state.
pub type StateCounts = BTreeMap<State, i64>;
