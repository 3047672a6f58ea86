//! What a batch of operations speaks of.

use std::collections::BTreeSet;

use crate::admit::Gate;
use crate::ids::{JobKey, SessionKey, Timestamp};
use crate::job::State;
use crate::store::{Ending, NewJob, Op, RedriveFilter};

/// What a batch of operations speaks of.
#[derive(Debug, Default, PartialEq)]
pub struct Needs {
    /// Jobs by row.
    pub jobs: BTreeSet<JobKey>,
    /// Jobs by public id.
    pub public_ids: BTreeSet<String>,
    /// Jobs whose ancestors are needed too, up to the root: those that may end or begin anew, or get children. The same
    /// goes for all jobs that are found by public id or by a selection.
    pub families: BTreeSet<JobKey>,
    /// Jobs whose stored report is needed, with what their trees add up to: so that no two batches add to the same tree at a
    /// time.
    pub reports: BTreeSet<JobKey>,
    /// Whether jobs may end or begin anew: then what the trees of all loaded roots add up to is needed in the same way.
    pub settles: bool,
    /// Jobs that are meant by a condition.
    pub selections: BTreeSet<Selection>,
    /// Sessions. Those that hold a loaded job are needed as well.
    pub sessions: BTreeSet<SessionKey>,
    /// Instances whose sessions are needed, with what they hold.
    pub instances: BTreeSet<String>,
    /// Names of tokens that crawlers may show, if any of them is needed.
    pub tokens: BTreeSet<String>,
    /// Accounts by name.
    pub accounts: BTreeSet<String>,
    /// Credentials by account name and host.
    pub credentials: BTreeSet<(String, String)>,
    /// Keys under which something may have been submitted before.
    pub once: BTreeSet<String>,
    /// Names of the web app that must be free.
    pub web_app_job_ids: BTreeSet<String>,
    /// Whether jobs that time has something to say about are needed, with their ancestors, up to
    /// [`SWEEP_MAX`](crate::store::SWEEP_MAX): held ones whose session's lease, deadline, accept time or want deadline is
    /// over, and delayed ones that are due. A deadline that a gate [stops](crate::admit::ClosedGate::stops) is not over:
    /// those who wait behind it would take all the places, and time would stand still for others.
    pub sweep: bool,
    /// Whether the closed gates are needed.
    pub gates: bool,
    /// Whether somebody takes a job over: then connections to servers that are no more count as gone.
    pub takeovers: bool,
    /// Whether the number of waiting jobs is needed.
    pub backlog: bool,
    /// Whether the counts of the accounts of all loaded jobs are needed.
    pub account_counts: bool,
    /// Whether they are needed if [`Policy::account_held_max`](crate::Policy::account_held_max) is set; then so that no two
    /// batches count the same account at a time.
    pub account_shares: bool,
    /// Errors logged before this may go, up to [`SELECTED_MAX`](crate::store::SELECTED_MAX) of the oldest.
    pub errors_before: Option<Timestamp>,
    /// How many new rows there may be, of all kinds together: so many fresh keys are needed.
    pub keys: usize,
}

/// Jobs that are meant by a condition. At most [`SELECTED_MAX`](crate::store::SELECTED_MAX) rows are looked at for each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selection {
    /// Jobs below a root, by rising key. Of those that are looked at, the ones that have not ended are loaded.
    Below {
        /// The root.
        root: JobKey,
        /// Keys greater than this one.
        after: JobKey,
    },
    /// Jobs that [`Op::Redrive`] means, by rising key. Of the paused and failed ones that are looked at, those that fit
    /// are loaded.
    Redrivable {
        /// Which.
        filter: RedriveFilter,
        /// Keys greater than this one.
        after: JobKey,
    },
    /// Jobs of a tree, its root among them, by falling key. The root is loaded; the others are only named.
    Tree {
        /// The root.
        root: JobKey,
    },
    /// Jobs of trees that were over before a moment, the oldest first: each tree by falling key, its root last. None is
    /// loaded; roots that others have locked are left out.
    Settled {
        /// The moment.
        before: Timestamp,
    },
}

/// The rows that a [`Selection`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selected {
    /// Those that are meant, with their state, in the order of the selection.
    pub jobs: Vec<(JobKey, State)>,
    /// The last row that was looked at, if there may be more behind it.
    pub next: Option<JobKey>,
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
            Op::Submit(job) => self.submission(job),
            Op::SubmitAll(jobs) => jobs.iter().for_each(|job| self.submission(job)),
            Op::Claim { job, session, .. } => {
                self.jobs.insert(*job);
                self.sessions.insert(session.key);
                self.gates = true;
                self.account_shares = true;
            }
            Op::Start { job, .. } | Op::Checkpoint { job, .. } => {
                self.jobs.insert(*job);
            }
            Op::Release { job, .. } | Op::Return { job, .. } | Op::Confirm { job, .. } => self.ending(*job),
            Op::Finish {
                job, ending, progress, ..
            } => {
                self.ending(*job);
                self.reports.extend(progress.as_ref().map(|_| *job));
                // A failure behind a closed gate is not the job's fault.
                self.gates |= matches!(ending, Ending::Failed { .. });
            }
            Op::Adopt { public_id, session } => {
                self.public_ids.insert(public_id.clone());
                self.sessions.insert(*session);
                self.takeovers = true;
            }
            Op::Discover { parent, items, .. } => {
                self.family(*parent);
                self.account_counts = true;
                self.keys += items.len();
            }
            Op::Progress(reports) => {
                self.jobs.extend(reports.iter().map(|(job, ..)| *job));
                self.reports.extend(reports.iter().map(|(job, ..)| *job));
            }
            Op::OpenSession(new) => {
                self.keys += 1;
                self.instances
                    .extend(new.instance.as_ref().map(|instance| instance.id.clone()));
            }
            Op::Renew(sessions) => self.sessions.extend(sessions.iter().map(|session| session.key)),
            Op::Disconnect(session) => {
                self.sessions.insert(session.key);
            }
            Op::Said { session, ops, .. } => {
                self.sessions.insert(session.key);
                for op in ops {
                    self.add(op);
                }
            }
            Op::Sweep => (self.sweep, self.gates, self.settles) = (true, true, true),
            Op::Recover { .. } | Op::Record { .. } | Op::RecordErrors(_) | Op::TokenUsed(_) | Op::Watch { .. } => {}
            Op::CreateToken { name, .. } | Op::RevokeToken { name, .. } => {
                self.tokens.insert(name.clone());
            }
            Op::Act { job, .. } => self.ending(*job),
            Op::KeepCredential { new, .. } => {
                self.accounts.insert(new.account_id.clone());
                self.credentials.insert((new.account_id.clone(), new.host.clone()));
                self.keys += 2;
                self.gates = true;
            }
            Op::ActAll { jobs, .. } => jobs.iter().for_each(|job| self.ending(*job)),
            Op::CancelTree { root, after, .. } => {
                self.ending(*root);
                let (root, after) = (*root, after.unwrap_or(*root));
                self.selections.insert(Selection::Below { root, after });
            }
            Op::Redrive { filter, after, .. } => {
                let (filter, after) = (filter.clone(), after.unwrap_or(JobKey(0)));
                self.selections.insert(Selection::Redrivable { filter, after });
                self.settles = true;
            }
            Op::Delete { root, .. } => {
                self.ending(*root);
                self.selections.insert(Selection::Tree { root: *root });
            }
            Op::CloseGate { gate, .. } | Op::OpenGate { gate, .. } => {
                self.gates = true;
                if let Gate::Credentials { account_id, .. } = gate {
                    self.accounts.insert(account_id.clone());
                }
            }
            Op::Prune {
                jobs_before,
                errors_before,
            } => {
                self.selections.insert(Selection::Settled { before: *jobs_before });
                self.errors_before = self.errors_before.max(Some(*errors_before));
            }
        }
    }

    fn submission(&mut self, job: &NewJob) {
        self.accounts.insert(job.account_id.clone());
        self.keys += 3;
        self.backlog = true;
        // A new token opens the gate that a bad one closed.
        self.gates |= job.access_token.is_some();
        self.once.extend(job.once.as_ref().map(|once| once.key.clone()));
        self.web_app_job_ids.extend(job.web_app_job_id.clone());
        self.credentials.insert((job.account_id.clone(), job.spec.host.clone()));
    }

    /// A job that may end or begin anew.
    fn ending(&mut self, job: JobKey) {
        self.family(job);
        self.settles = true;
    }

    fn family(&mut self, job: JobKey) {
        self.jobs.insert(job);
        self.families.insert(job);
    }
}
