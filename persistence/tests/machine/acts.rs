//! What people do, in the model: to jobs, to many of them, and to gates.

use std::sync::Arc;

use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::Act;
use crawlwire_progress::{PauseReason, State, TreeStatus, Want};

use crate::machine::model::Job;
use crate::machine::step::{Answer, Door, Fact, JobNo};
use crate::machine::world::{Closed, Done, Target, World, is_before};

impl World {
    pub(crate) fn act(&mut self, no: JobNo, act: Act) -> Done {
        let now = self.now;
        let facts = match act {
            Act::Cancel => self.wish(no, Want::Cancel)?,
            Act::Pause => self.wish(no, Want::Pause)?,
            Act::Resume => {
                let run_at = self.jobs.get(&no).and_then(|job| job.run_at);
                let is_due = run_at.is_none_or(|run_at| self.has_come(run_at));
                vec![self.arrow(no, |job| job.resume(is_due))?]
            }
            Act::Retry => vec![self.arrow(no, Job::retry)?],
            Act::Redrive => vec![self.arrow(no, Job::redrive)?],
            Act::SetPriority(priority) => vec![self.arrow(no, |job| job.set_priority(priority))?],
        };
        debug_assert!(facts.iter().all(|fact| fact.at == now));
        self.record(act.as_str(), Target::Job(no));
        Ok(Answer::Facts(facts))
    }

    /// A session that can confirm is given time; another loses the job at once.
    fn wish(&mut self, no: JobNo, want: Want) -> Result<Vec<Fact>, Refusal> {
        let now = self.now;
        let holder = self.jobs.get(&no).and_then(|job| job.session);
        let confirms = holder.is_some_and(|holder| self.sessions[&holder].confirms);
        let until = if confirms { now + self.rules.want_timeout } else { now };
        let mut facts = vec![self.arrow(no, |job| job.wish(want, until, now))?];
        if holder.is_some() && !confirms {
            facts.push(self.arrow(no, |job| job.force(now))?);
        }
        Ok(facts)
    }

    fn root(&self, no: JobNo) -> Result<(), Refusal> {
        match self.jobs.get(&no).ok_or(Refusal::NotFound)?.parent {
            Some(_) => Err(Refusal::NotRoot),
            None => Ok(()),
        }
    }

    pub(crate) fn cancel_tree(&mut self, root: JobNo) -> Done {
        self.root(root)?;
        let mut facts = Vec::new();
        for no in self.all(|job| job.root == root) {
            facts.extend(self.wish(no, Want::Cancel).unwrap_or_default());
        }
        if !facts.is_empty() {
            self.record("cancel_tree", Target::Job(root));
        }
        Ok(Answer::Facts(facts))
    }

    pub(crate) fn redrive(&mut self, (quarantined, failed): (bool, bool), account: Option<u8>) -> Answer {
        let meant = |job: &Job| {
            let so = match job.state {
                State::Failed => failed,
                State::Paused => quarantined && job.pause == Some(PauseReason::Quarantined),
                _ => false,
            };
            so && account.is_none_or(|account| account == job.account)
        };
        let mut facts = Vec::new();
        for no in self.all(meant) {
            facts.extend(self.arrow(no, Job::redrive).ok());
        }
        if !facts.is_empty() {
            self.record("redrive", Target::Jobs(account));
        }
        Answer::Facts(facts)
    }

    pub(crate) fn delete(&mut self, root: JobNo) -> Done {
        self.root(root)?;
        if self.jobs[&root].tree_status == TreeStatus::Open {
            return Err(Refusal::TreeOpen);
        }
        self.chose();
        self.record("delete", Target::Job(root));
        Ok(Answer::Gone(self.remove(|job| job.root == root)))
    }

    pub(crate) fn prune(&mut self, before: i64) -> Answer {
        let roots = self.all(|job| job.parent.is_none() && job.settled_at.is_some_and(|at| at < before));
        Answer::Gone(self.remove(|job| roots.contains(&job.root)))
    }

    fn remove(&mut self, meant: impl Fn(&Job) -> bool) -> usize {
        let before = self.jobs.len();
        self.jobs.retain(|_, job| !meant(job));
        before - self.jobs.len()
    }

    /// Closing a closed one changes until when.
    pub(crate) fn close(&mut self, door: Door, until: Option<i64>) -> Done {
        if let Door::Credentials { account, .. } = door
            && !self.accounts.contains(&account)
        {
            return Ok(Answer::Refused("no_such_account"));
        }
        let since = self.doors.get(&door).map_or(self.now, |closed| closed.since);
        self.doors.insert(door, Closed { since, until });
        self.record("close_gate", Target::Door(door));
        Ok(Answer::Done)
    }

    /// Deadlines behind a door stood still for as long as it was closed; the queue's door holds back new jobs only.
    pub(crate) fn open(&mut self, door: Door) -> bool {
        let Some(closed) = self.doors.remove(&door) else {
            return false;
        };
        let end = closed.until.map_or(self.now, |until| until.min(self.now));
        let behind = |job: &&mut Arc<Job>| door != Door::Queue && is_before(door, job);
        for job in self.jobs.values_mut().filter(behind).map(Arc::make_mut) {
            job.deadline = job.deadline.map(|deadline| deadline + (end - closed.since));
        }
        true
    }
}
