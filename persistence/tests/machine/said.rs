//! Who speaks in the model, through which connection and under which number.

use crate::machine::step::{Answer, Asked, Opened, Said, SessionNo, Speaker, Step};
use crate::machine::world::{Session, World};

impl World {
    /// A step as it is given now.
    pub(crate) fn ask(&self, step: &Step) -> Asked {
        let (named, behind) = match step {
            Step::Claim { session, behind, .. } | Step::Said { session, behind, .. } => (vec![*session], *behind),
            Step::Renew(named, behind) => (named.clone(), *behind),
            Step::Disconnect(session, behind) => (vec![*session], *behind),
            _ => (Vec::new(), 0),
        };
        let epoch = |no: &SessionNo| self.sessions.get(no).map_or(1, |session| session.epoch) - behind;
        let said = match step {
            Step::Said {
                session, ahead, other, ..
            } => {
                let seq = self.sessions.get(session).map_or(0, |session| session.high_water.0) + ahead;
                (seq, if *other { -seq } else { 1000 + seq })
            }
            _ => (0, 0),
        };
        Asked {
            lease: self.lease_of(step),
            epochs: named.iter().map(epoch).collect(),
            said,
            inner: Vec::new(),
            step: step.clone(),
        }
    }

    fn lease_of(&self, step: &Step) -> (SessionNo, i64) {
        let (job, by) = match step {
            Step::Start(job, by)
            | Step::Complete(job, by, _)
            | Step::Fail { job, by, .. }
            | Step::Release(job, by)
            | Step::Confirm(job, by)
            | Step::Return(job, by)
            | Step::Checkpoint(job, by, _)
            | Step::Discover(job, by, _)
            | Step::Report(job, by, _) => (job, by),
            _ => return (0, 0),
        };
        let leases = self.jobs.get(job).map_or(&[][..], |job| &job.leases);
        let last = leases.last().copied().unwrap_or((0, 0));
        match by {
            Speaker::Holder => last,
            Speaker::Late(before) => leases.iter().rev().nth(*before).copied().unwrap_or(last),
            Speaker::Forged(by) => (last.0, last.1 + by),
            Speaker::Foreign(session) => (*session, last.1),
        }
    }

    /// The number counts whatever comes of what is said under it.
    pub(crate) fn said(&mut self, asked: &mut Asked) -> Said {
        let Step::Said { session, steps, .. } = asked.step.clone() else {
            unreachable!("{:?}", asked.step)
        };
        let (seq, fingerprint) = asked.said;
        let known = self.sessions.get_mut(&session);
        let answer = match known.filter(|known| known.epoch == asked.epochs[0]) {
            None => Some(Said::Replaced),
            Some(Session {
                high_water, refused, ..
            }) if seq <= high_water.0 => Some(Said::Repeated {
                conflict: seq == high_water.0 && fingerprint != high_water.1,
                refused: refused.iter().find(|it| it.0 == seq).map(|it| it.1.clone()),
            }),
            Some(Session { high_water, .. }) if seq > high_water.0 + 1 => Some(Said::Gap(high_water.0)),
            Some(session) => {
                session.high_water = (seq, fingerprint);
                None
            }
        };
        if let Some(answer) = answer {
            asked.inner = steps.iter().map(|step| self.ask(step)).collect();
            return answer;
        }
        let mut answers = Vec::new();
        for step in &steps {
            let mut inner = self.ask(step);
            answers.push(self.respond(&mut inner));
            asked.inner.push(inner);
        }
        if let Some(session) = self.sessions.get_mut(&session) {
            session.refused.retain(|it| it.0 > seq - 64);
            match answers.last() {
                Some(Answer::Refused(code)) if *code != "already_started" => {
                    session.refused.push((seq, (*code).to_owned()));
                }
                _ => {}
            }
        }
        Said::Applied(answers)
    }

    /// A session is opened, or opened again.
    pub(crate) fn opened(&mut self, no: SessionNo, new: Session) -> Answer {
        self.numbers = self.numbers.max(no + 1);
        let session = match self.sessions.remove(&no) {
            Some(known) if known.instance != new.instance => {
                self.sessions.insert(no, known);
                return Answer::Refused("instance_taken");
            }
            Some(known) => Session {
                lease: known.lease.max(new.lease),
                epoch: known.epoch + 1,
                high_water: known.high_water,
                refused: known.refused,
                ..new
            },
            None => new,
        };
        let held = self.jobs.values().filter(|job| job.session == Some(no));
        let leases = held.map(|job| {
            (
                job.no,
                job.fence,
                job.attempt,
                job.state,
                job.want.map(|(want, _)| want),
            )
        });
        let opened = Opened {
            epoch: session.epoch,
            high_water: session.high_water.0,
            fingerprint: session.high_water.1,
            refused: session.refused.clone(),
            leases: leases.collect(),
        };
        self.sessions.insert(no, session);
        Answer::Opened(opened)
    }
}
