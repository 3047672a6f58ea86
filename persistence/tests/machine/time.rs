//! What time does, in the model, and the sessions that it runs out for.

use std::collections::BTreeSet;

use crawlwire_progress::State;

use crate::machine::model::{Job, Moment, Rules};
use crate::machine::step::{Answer, Asked, Door, Step};
use crate::machine::world::{Session, World, is_before};

/// A session without jobs is forgotten so long after its lease.
const DAY: i64 = 24 * 3600 * 1000;

impl World {
    /// What happens to sessions as such.
    pub(crate) fn sessions(&mut self, asked: &Asked) -> Answer {
        let (now, Rules { lease, grace, .. }) = (self.now, self.rules);
        match &asked.step {
            Step::Open {
                session,
                identity,
                confirms,
                server,
                instance,
            } => {
                let new = Session {
                    identity: *identity,
                    confirms: *confirms,
                    server: *server,
                    connected: true,
                    lease: now + lease,
                    grants: 0,
                    instance: *instance,
                    epoch: 1,
                    high_water: (0, 0),
                    refused: Vec::new(),
                };
                return self.opened(*session, new);
            }
            Step::Renew(named, _) => {
                let mut lost = Vec::new();
                for (no, epoch) in named.iter().zip(&asked.epochs) {
                    match self.sessions.get_mut(no) {
                        Some(session) if session.connected && session.epoch == *epoch => {
                            session.lease = session.lease.max(now + lease);
                            session.grants = 0;
                        }
                        _ => lost.push(*no),
                    }
                }
                return Answer::Renewed(lost);
            }
            Step::Disconnect(no, _) => {
                let known = self.sessions.get_mut(no);
                if let Some(session) = known.filter(|known| known.epoch == asked.epochs[0]) {
                    session.connected = false;
                    session.lease = session.lease.min(now + grace);
                }
            }
            Step::Recover { server, connected } => {
                self.chose();
                let concerned = |session: &Session| *connected || session.server == *server;
                let holders: Vec<_> = self
                    .sessions
                    .iter()
                    .filter(|(_, it)| concerned(it))
                    .map(|(no, _)| *no)
                    .collect();
                for session in self.sessions.values_mut() {
                    session.connected &= *connected || !concerned(session);
                    if session.grants < 3 {
                        session.lease = session.lease.max(now + lease);
                        session.grants += 1;
                    }
                }
                for job in self
                    .jobs
                    .values_mut()
                    .filter(|job| job.session.is_some_and(|holder| holders.contains(&holder)))
                    .map(std::sync::Arc::make_mut)
                {
                    job.assigned_at = Some(now);
                    job.deadline = job.deadline.map(|deadline| deadline.max(now + lease));
                    job.want = job.want.map(|(want, until)| (want, until.max(now + lease)));
                }
            }
            step => unreachable!("{step:?}"),
        }
        Answer::Done
    }

    pub(crate) fn has_come(&mut self, moment: Moment) -> bool {
        let come = moment.has_come(self.now);
        self.unsure |= come.is_none();
        come.unwrap_or(true)
    }

    /// One arrow at most for each job: what ends its lease first, then what ends its attempt.
    pub(crate) fn sweep(&mut self) -> Answer {
        let (now, rules) = (self.now, self.rules);
        let doors: Vec<_> = self.doors.iter().map(|(door, closed)| (*door, *closed)).collect();
        for (door, closed) in doors {
            if closed.until.is_some_and(|until| until <= now) {
                self.open(door);
            }
        }
        let mut facts = Vec::new();
        for no in self.all(|_| true) {
            let job = self.jobs[&no].clone();
            if job.state == State::Delayed {
                if job.run_at.is_some_and(|run_at| self.has_come(run_at)) {
                    facts.extend(self.arrow(no, Job::promote));
                }
                continue;
            }
            let Some(session) = job.session else { continue };
            let is_past = |moment: Option<i64>| moment.is_some_and(|moment| moment <= now);
            let stands_still = self.doors.iter().any(|(door, closed)| {
                // One that had passed before the door closed does not.
                let stopped = job.deadline.is_some_and(|deadline| closed.since < deadline);
                *door != Door::Queue && is_before(*door, &job) && closed.is_shut(now) && stopped
            });
            let fact = if is_past(self.sessions.get(&session).map(|session| session.lease)) {
                self.arrow(no, |job| job.expire(&rules, now))
            } else if is_past(job.want.map(|(_, until)| until)) {
                self.arrow(no, |job| job.force(now))
            } else if is_past(job.deadline) && !stands_still {
                self.arrow(no, |job| job.run_too_long(&rules, now))
            } else if job.state == State::Assigned && is_past(job.assigned_at.map(|at| at + rules.accept)) {
                self.arrow(no, |job| job.release((session, job.fence), &rules, now))
            } else {
                continue;
            };
            facts.extend(fact);
        }
        let holders: BTreeSet<_> = self.jobs.values().filter_map(|job| job.session).collect();
        let before = self.sessions.len();
        self.sessions
            .retain(|no, session| session.lease >= now - DAY || holders.contains(no));
        if self.sessions.len() < before {
            self.chose();
        }
        Answer::Facts(facts)
    }
}
