//! Sessions: they are opened, come back, speak, fall silent.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::batch::Batch;
use super::{LoadedJob, NewCheckpoint, Recovery, Session};
use crate::ids::{Epoch, JobKey, SessionKey, SessionRef};
use crate::lifecycle::{Event, Refusal, held};
use crate::store::{Holder, NewSession, Op, Opened, Outcome, OwnLease, RefusedNumbers, Rejection, Said};

/// What is said under a number: the operations, and why it has no effect where that is known before.
type What = (Vec<Op>, Option<&'static str>);

impl Batch<'_> {
    pub(super) fn open_session(&mut self, new: NewSession) -> Outcome {
        let instance = new.instance.as_ref();
        match instance.and_then(|instance| self.snapshot.instances.get(&instance.id).copied()) {
            Some(key) => self.reopen(key, new),
            None => self.open_new(new),
        }
    }

    fn open_new(&mut self, new: NewSession) -> Outcome {
        let key = SessionKey(self.fresh_key());
        let session = Session {
            key,
            name: new.name.clone(),
            identity: new.identity.clone(),
            connected: true,
            lease_expires_at: self.now.after(self.policy.lease),
            confirms: new.confirms,
            grants: 0,
            epoch: Epoch(1),
            high_water: 0,
            fingerprint: 0,
            refused: RefusedNumbers::default(),
            principal: new.instance.as_ref().map(|instance| instance.principal.clone()),
        };
        if let Some(instance) = &new.instance {
            self.snapshot.instances.insert(instance.id.clone(), key);
        }
        let opened = opened(&session, Vec::new());
        self.snapshot.sessions.insert(key, session);
        self.opened.insert(key, (new, true));
        Outcome::SessionOpened(opened)
    }

    /// What its rows still say is its own is its own, however long it was away.
    fn reopen(&mut self, key: SessionKey, new: NewSession) -> Outcome {
        let principal = new.instance.as_ref().map(|instance| &instance.principal);
        let until = self.now.after(self.policy.lease);
        let known = self.snapshot.sessions.get_mut(&key);
        let Some(session) = known.filter(|session| session.principal.as_ref() == principal) else {
            return Outcome::Refused(Rejection::InstanceTaken);
        };
        session.epoch = Epoch(session.epoch.0 + 1);
        session.connected = true;
        session.lease_expires_at = session.lease_expires_at.max(until);
        session.grants = 0;
        session.name = new.name.clone();
        session.identity.clone_from(&new.identity);
        session.confirms = new.confirms;
        let session = session.clone();
        self.stirred.insert(key);
        match self.opened.entry(key) {
            Entry::Occupied(mut entry) => entry.get_mut().0 = new,
            Entry::Vacant(entry) => {
                entry.insert((new, false));
            }
        }
        Outcome::SessionOpened(opened(&session, self.leases(key)))
    }

    /// What a session holds at this point of the batch: of jobs at hand we know better than what was read before.
    fn leases(&self, session: SessionKey) -> Vec<OwnLease> {
        let jobs = &self.snapshot.jobs;
        let read = self.snapshot.leases.get(&session).into_iter().flatten();
        let mut leases: Vec<_> = read.filter(|lease| !jobs.contains_key(&lease.key)).cloned().collect();
        let at_hand = jobs.values().filter(|loaded| loaded.job.session == Some(session));
        leases.extend(at_hand.map(LoadedJob::lease));
        leases.sort_by_key(|lease| lease.key);
        leases
    }

    pub(super) fn claim(&mut self, job: JobKey, session: SessionRef, name: Arc<str>) -> Outcome {
        // A session whose connection just went away would never hear of the job, nor would one that another connection
        // speaks for by now; and one without a lease would lose it.
        let now = self.now;
        let alive = |known: &&mut Session| known.connected && now < known.lease_expires_at;
        if self.current(session).filter(alive).is_none() {
            return Outcome::Refused(Refusal::Stale.into());
        }
        if let Some(refusal) = self.snapshot.jobs.get(&job).and_then(|loaded| self.barred(loaded)) {
            return Outcome::Refused(refusal.into());
        }
        self.take(job, Event::Claim(session.key), Some(name))
            .map_or_else(|refusal| Outcome::Refused(refusal.into()), Outcome::Moved)
    }

    pub(super) fn renew(&mut self, sessions: &[SessionRef]) -> Outcome {
        let until = self.now.after(self.policy.lease);
        let mut lost = Vec::new();
        for named in sessions {
            match self.current(*named).filter(|session| session.connected) {
                Some(session) => {
                    session.lease_expires_at = session.lease_expires_at.max(until);
                    session.grants = 0;
                    self.stirred.insert(named.key);
                }
                None => lost.push(*named),
            }
        }
        Outcome::Renewed { lost }
    }

    pub(super) fn disconnect(&mut self, named: SessionRef) -> Outcome {
        let until = self.now.after(self.policy.reattach_grace);
        if let Some(session) = self.current(named) {
            session.connected = false;
            session.lease_expires_at = session.lease_expires_at.min(until);
            self.stirred.insert(named.key);
        }
        Outcome::Done
    }

    /// Carries out what was said under the next number. The number is used up even if nothing of it has an effect. The last
    /// operation decides whether it had one.
    pub(super) fn said(&mut self, named: SessionRef, (seq, fingerprint): (i64, i64), what: What) -> Outcome {
        let Some(session) = self.current(named) else {
            return Outcome::Said(Said::Replaced);
        };
        let high_water = session.high_water;
        if seq <= high_water {
            let conflict = seq == high_water && fingerprint != session.fingerprint;
            let refused = session.refused.of(seq).map(str::to_owned);
            return Outcome::Said(Said::Repeated { conflict, refused });
        }
        if seq != high_water.saturating_add(1) {
            return Outcome::Said(Said::Gap { high_water });
        }
        (session.high_water, session.fingerprint) = (seq, fingerprint);
        self.stirred.insert(named.key);
        let (ops, refused) = what;
        let outcomes: Vec<_> = ops.into_iter().map(|op| self.carry_out(op)).collect();
        let refused = refused.or_else(|| outcomes.last()?.refusal());
        if let Some(session) = self.current(named) {
            session.refused.settled(seq, refused);
        }
        Outcome::Said(Said::Applied(outcomes))
    }

    pub(super) fn checkpoint(&mut self, key: JobKey, holder: &Holder, cursor: String) -> Outcome {
        let Some(loaded) = self.snapshot.jobs.get(&key) else {
            return Outcome::Refused(Refusal::NotFound.into());
        };
        if let Err(refusal) = held(&loaded.job, holder.lease(), self.policy) {
            return Outcome::Refused(refusal.into());
        }
        let attempt = loaded.job.attempt;
        self.plan.checkpoints.insert(key, NewCheckpoint { attempt, cursor });
        Outcome::Done
    }

    /// The store gives every session its lease and every held job its time; those at hand get it here too, for the
    /// operations behind this one.
    pub(super) fn recover(&mut self, server: String, connected: bool) -> Outcome {
        let lease_until = self.now.after(self.policy.lease);
        for loaded in self.snapshot.jobs.values_mut() {
            let job = &mut loaded.job;
            job.assigned_at = job.assigned_at.map(|at| at.max(self.now));
            job.deadline = job.deadline.map(|deadline| deadline.max(lease_until));
            job.want_deadline = job.want_deadline.map(|deadline| deadline.max(lease_until));
        }
        for session in self.snapshot.sessions.values_mut() {
            session.grant(lease_until);
        }
        self.plan.recoveries.push(Recovery {
            server,
            connected,
            lease_until,
        });
        Outcome::Done
    }

    /// The session, if the connection that is named is its last one.
    fn current(&mut self, named: SessionRef) -> Option<&mut Session> {
        let session = self.snapshot.sessions.get_mut(&named.key);
        session.filter(|session| session.epoch == named.epoch)
    }

    /// Puts the sessions that were opened or changed into the plan, each once.
    pub(super) fn write_sessions(&mut self) {
        let sessions = &self.snapshot.sessions;
        for (key, (new, is_new)) in std::mem::take(&mut self.opened) {
            match sessions.get(&key).filter(|_| is_new) {
                Some(session) => {
                    self.stirred.remove(&key);
                    self.plan.new_sessions.push((session.clone(), new));
                }
                None => self.plan.reopened.push((key, new)),
            }
        }
        let instance = |new: &NewSession| new.instance.as_ref().map(|instance| instance.id.clone());
        self.plan.new_sessions.sort_by_cached_key(|(_, new)| instance(new));
        let stirred = self.stirred.iter().filter_map(|key| sessions.get(key));
        self.plan.sessions.extend(stirred.cloned());
    }
}

fn opened(session: &Session, leases: Vec<OwnLease>) -> Opened {
    Opened {
        session: session.reference(),
        name: session.name.clone(),
        high_water: session.high_water,
        fingerprint: session.fingerprint,
        refused: session.refused.clone(),
        leases,
    }
}
