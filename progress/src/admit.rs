//! Who may run a job now, or what the job waits for: the one rule that the dispatcher follows and that `explain` tells.

use std::collections::{BTreeMap, BTreeSet};

use crawlwire_protocol::message::JobType;
use serde::{Deserialize, Serialize};

use crate::ids::{AccountKey, SessionKey, Timestamp};
use crate::job::{PauseReason, State};
use crate::policy::Policy;
use crate::view::JobView;

/// What a crawler can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Types it runs; any when none.
    pub job_types: Option<BTreeSet<JobType>>,
    /// Hosts it reaches; any when none.
    pub hosts: Option<BTreeSet<String>>,
    /// Labels it has.
    pub labels: BTreeSet<String>,
    /// Jobs it runs at a time.
    pub slots: usize,
}

impl Capabilities {
    /// A crawler that said nothing of itself: any type, any host, no label.
    pub const fn any(slots: usize) -> Self {
        Self {
            job_types: None,
            hosts: None,
            labels: BTreeSet::new(),
            slots,
        }
    }

    /// What a job asks for and the crawler has not.
    pub fn lacks(&self, candidate: &Candidate<'_>) -> Vec<Lack> {
        let mut lacks = Vec::new();
        let (job_type, host) = (candidate.job_type, candidate.host);
        if self.job_types.as_ref().is_some_and(|types| !types.contains(&job_type)) {
            lacks.push(Lack::JobType(job_type));
        }
        if self.hosts.as_ref().is_some_and(|hosts| !hosts.contains(host)) {
            lacks.push(Lack::Host(host.to_owned()));
        }
        let missing = candidate.labels.iter().filter(|label| !self.labels.contains(*label));
        lacks.extend(missing.cloned().map(Lack::Label));
        lacks
    }
}

/// Something that a job asks for and a crawler has not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// It does not run such jobs.
    JobType(JobType),
    /// It does not reach the host.
    Host(String),
    /// It has not the label.
    Label(String),
}

/// A barrier before jobs. Closing one rewrites no job: the claim looks at the gates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gate {
    /// Before all jobs.
    Queue,
    /// Before the jobs of a host.
    Host(String),
    /// Before the jobs of an account on a host.
    Credentials {
        /// The account's name.
        account_id: String,
        /// The host.
        host: String,
    },
}

impl Gate {
    /// The stable name of its kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Host(_) => "host",
            Self::Credentials { .. } => "credentials",
        }
    }

    /// Whether a running job behind it can do nothing, so that its deadline stands still. A paused queue holds back new
    /// jobs only.
    pub const fn stops_deadlines(&self) -> bool {
        !matches!(self, Self::Queue)
    }
}

/// A gate that is closed. An open one is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedGate {
    /// Which.
    pub gate: Gate,
    /// The row of the account it names.
    pub account: Option<AccountKey>,
    /// Since when.
    pub closed_at: Timestamp,
    /// When it opens by itself.
    pub until: Option<Timestamp>,
    /// Why, for people.
    pub reason: Option<String>,
    /// Who closed it.
    pub by: String,
}

impl ClosedGate {
    /// Whether it stands before the jobs of an account on a host at this moment.
    pub fn bars(&self, account: AccountKey, host: &str, now: Timestamp) -> bool {
        let concerned = match &self.gate {
            Gate::Queue => true,
            Gate::Host(closed) => closed == host,
            Gate::Credentials { host: closed, .. } => closed == host && self.account == Some(account),
        };
        concerned && self.stands(now)
    }

    /// Whether nothing is given out at all because of it.
    pub fn bars_all(&self, now: Timestamp) -> bool {
        self.gate == Gate::Queue && self.stands(now)
    }

    fn stands(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether the deadline of an attempt of an account on a host stands still behind it at this moment. One that had
    /// passed before the gate closed does not.
    pub fn stops(&self, deadline: Timestamp, account: AccountKey, host: &str, now: Timestamp) -> bool {
        self.gate.stops_deadlines() && self.closed_at < deadline && self.bars(account, host, now)
    }
}

/// A queued job, as far as admission looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its name outside.
    pub public_id: &'a str,
    /// Whose job.
    pub account: AccountKey,
    /// What to do.
    pub job_type: JobType,
    /// Where.
    pub host: &'a str,
    /// What its crawler must have.
    pub labels: &'a [String],
    /// Whether its token can be read, if it has one.
    pub token_readable: bool,
}

/// Whether a crawler may be given anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It may.
    Ready,
    /// It is silent, or did not take the last job.
    Unresponsive,
    /// Its server is about to stop.
    Draining,
}

/// A crawler, as far as admission looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crawler {
    /// Its session.
    pub session: SessionKey,
    /// Its name.
    pub name: std::sync::Arc<str>,
    /// What it can do.
    pub capabilities: std::sync::Arc<Capabilities>,
    /// Slots in use.
    pub busy: usize,
    /// Public ids of jobs that were taken from it and that it still works on. It has no room for another run of one of
    /// them: nobody could tell which run a line is about, and the end of the old one would end the new one.
    pub lingering: std::sync::Arc<BTreeSet<String>>,
    /// Whether it may be given anything.
    pub condition: Condition,
}

/// Everything admission depends on but the job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// The closed gates.
    pub gates: Vec<ClosedGate>,
    /// Jobs held now, of the accounts that matter.
    pub held: BTreeMap<AccountKey, u64>,
    /// How many one account may hold.
    pub held_max: Option<u64>,
    /// The crawlers there are.
    pub crawlers: Vec<Crawler>,
}

/// What a job waits for. A closed set: each has a stable name, its data, and what would clear it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// Its time has not come.
    Scheduled {
        /// When it comes.
        until: Timestamp,
    },
    /// It went wrong and is tried again later.
    Backoff {
        /// When.
        until: Timestamp,
        /// How often it went wrong.
        failures: i32,
    },
    /// Somebody paused it.
    Paused,
    /// It was given out too often without ever starting.
    Quarantined {
        /// How often in a row.
        misses: i32,
    },
    /// It was given to a crawler that has not begun.
    Acceptance {
        /// Name of the session.
        session: String,
        /// Since when.
        since: Timestamp,
        /// When it is taken back.
        until: Timestamp,
    },
    /// A gate is closed before it.
    GateClosed(Box<ClosedGate>),
    /// Its token cannot be read, so no crawler could do anything with it.
    TokenUnreadable,
    /// Its account holds as many jobs as it may.
    AccountShare {
        /// Jobs it holds.
        held: u64,
        /// Jobs it may hold.
        limit: u64,
    },
    /// No crawler is connected.
    NoCrawler,
    /// No connected crawler can run it.
    NoCapableCrawler {
        /// Crawlers there are.
        crawlers: usize,
        /// What the nearest of them lacks.
        missing: Vec<Lack>,
    },
    /// Those that can run it are connected to a server that is about to stop.
    Draining {
        /// Crawlers that can run it.
        capable: usize,
    },
    /// Those that can run it are silent, or did not take the last job.
    Unresponsive {
        /// Crawlers that can run it.
        capable: usize,
    },
    /// Those that can run it are busy, if only with an earlier run of the same job.
    Slot {
        /// Crawlers that can run it.
        capable: usize,
        /// Their slots together.
        slots: usize,
    },
    /// A crawler has a free slot for it; its turn is about to come.
    Turn {
        /// Name of a session that could take it.
        session: String,
    },
}

impl Waiting {
    /// The stable name.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Scheduled { .. } => "scheduled",
            Self::Backoff { .. } => "backoff",
            Self::Paused => "paused",
            Self::Quarantined { .. } => "quarantined",
            Self::Acceptance { .. } => "awaiting_acceptance",
            Self::GateClosed(_) => "gate_closed",
            Self::TokenUnreadable => "token_unreadable",
            Self::AccountShare { .. } => "account_share",
            Self::NoCrawler => "no_crawler",
            Self::NoCapableCrawler { .. } => "no_capable_crawler",
            Self::Draining { .. } => "draining",
            Self::Unresponsive { .. } => "crawlers_unresponsive",
            Self::Slot { .. } => "waiting_for_slot",
            Self::Turn { .. } => "in_turn",
        }
    }

    /// What would clear it.
    pub const fn cleared_by(&self) -> &'static str {
        match self {
            Self::Scheduled { .. } | Self::Backoff { .. } => "time",
            Self::Paused => "resume",
            Self::Quarantined { .. } => "redrive",
            Self::Acceptance { .. } => "the crawler, or the accept timeout",
            Self::GateClosed(_) => "open the gate",
            Self::TokenUnreadable => "submit a job of this account and host with a token",
            Self::AccountShare { .. } => "the end of another job of the account",
            Self::NoCrawler => "connect a crawler",
            Self::NoCapableCrawler { .. } => "connect a crawler that has what is missing",
            Self::Draining { .. } => "connect the crawlers to another server",
            Self::Unresponsive { .. } => "the next message of such a crawler",
            Self::Slot { .. } => "the end of another job, or another crawler",
            Self::Turn { .. } => "the dispatcher",
        }
    }
}

/// The crawler that a queued job goes to, as its place in [`World::crawlers`]: the least busy of those that can run it.
///
/// # Errors
/// What the job waits for.
pub fn admit(candidate: &Candidate<'_>, world: &World, now: Timestamp) -> Result<usize, Waiting> {
    barred(candidate, world, now)?;
    if world.crawlers.is_empty() {
        return Err(Waiting::NoCrawler);
    }
    let lacks = |crawler: &Crawler| crawler.capabilities.lacks(candidate);
    let capable: Vec<_> = world
        .crawlers
        .iter()
        .enumerate()
        .filter(|(_, it)| lacks(it).is_empty())
        .collect();
    if capable.is_empty() {
        let nearest = world.crawlers.iter().map(lacks).min_by_key(Vec::len);
        return Err(Waiting::NoCapableCrawler {
            crawlers: world.crawlers.len(),
            missing: nearest.unwrap_or_default(),
        });
    }
    let room = |crawler: &Crawler| {
        crawler.busy < crawler.capabilities.slots && !crawler.lingering.contains(candidate.public_id)
    };
    let free = |crawler: &Crawler| crawler.condition == Condition::Ready && room(crawler);
    let least_busy = capable
        .iter()
        .filter(|(_, it)| free(it))
        .min_by_key(|(_, it)| (it.busy, it.session));
    if let Some((place, _)) = least_busy {
        return Ok(*place);
    }
    let in_condition = |condition| capable.iter().filter(move |(_, it)| it.condition == condition);
    let ready = in_condition(Condition::Ready);
    let count = ready.clone().count();
    Err(if count > 0 {
        Waiting::Slot {
            capable: count,
            slots: ready.map(|(_, it)| it.capabilities.slots).sum(),
        }
    } else if in_condition(Condition::Unresponsive).next().is_some() {
        Waiting::Unresponsive { capable: capable.len() }
    } else {
        Waiting::Draining { capable: capable.len() }
    })
}

/// What stands before a job whatever crawlers there are. A claim looks at this once more, with the rows at hand.
///
/// # Errors
/// What the job waits for.
pub fn barred(candidate: &Candidate<'_>, world: &World, now: Timestamp) -> Result<(), Waiting> {
    let closed = world
        .gates
        .iter()
        .filter(|gate| gate.bars(candidate.account, candidate.host, now));
    // The widest one, which is the first by the order of gates.
    if let Some(gate) = closed.min_by(|one, other| one.gate.cmp(&other.gate)) {
        return Err(Waiting::GateClosed(Box::new(gate.clone())));
    }
    if !candidate.token_readable {
        return Err(Waiting::TokenUnreadable);
    }
    let held = world.held.get(&candidate.account).copied().unwrap_or(0);
    match world.held_max {
        Some(limit) if held >= limit => Err(Waiting::AccountShare { held, limit }),
        _ => Ok(()),
    }
}

/// The one reason why a job does not move; none when it runs or has ended.
pub fn explain(job: &JobView, token_readable: bool, world: &World, policy: &Policy, now: Timestamp) -> Option<Waiting> {
    match job.state {
        State::Running | State::Completed | State::Failed | State::Cancelled => None,
        State::Delayed => {
            let until = job.run_at.unwrap_or(now);
            Some(match job.attempt {
                0 => Waiting::Scheduled { until },
                _ => Waiting::Backoff {
                    until,
                    failures: job.failures,
                },
            })
        }
        State::Paused => Some(match job.pause_reason {
            Some(PauseReason::Quarantined) => Waiting::Quarantined { misses: job.misses },
            _ => Waiting::Paused,
        }),
        State::Assigned => {
            let since = job.assigned_at.unwrap_or(now);
            Some(Waiting::Acceptance {
                session: job.session.clone().unwrap_or_default(),
                since,
                until: since.after(policy.accept_timeout),
            })
        }
        State::Queued => {
            let candidate = Candidate {
                public_id: &job.public_id,
                account: job.account,
                job_type: job.spec.job_type,
                host: &job.spec.host,
                labels: &job.spec.labels,
                token_readable,
            };
            Some(match admit(&candidate, world, now) {
                Ok(place) => Waiting::Turn {
                    session: world
                        .crawlers
                        .get(place)
                        .map(|it| it.name.to_string())
                        .unwrap_or_default(),
                },
                Err(waiting) => waiting,
            })
        }
    }
}

#[cfg(test)]
mod tests;
