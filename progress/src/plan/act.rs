//! What people do: to jobs, to many of them, and to gates. Whatever had an effect is audited.

use std::collections::BTreeSet;

use serde_json::json;

use super::batch::Batch;
use super::{NewAudit, NewToken, Opening, Selected, Selection};
use crate::admit::{ClosedGate, Gate};
use crate::ids::{JobKey, Timestamp, TokenKey};
use crate::job::Want;
use crate::lifecycle::{Event, Refusal};
use crate::store::{Act, Fact, GATES_MAX, Outcome, RedriveFilter, Rejection};

impl Batch<'_> {
    pub(super) fn act(&mut self, key: JobKey, act: Act, by: String) -> Outcome {
        match self.do_to(key, act) {
            Ok(facts) => {
                let detail = match act {
                    Act::SetPriority(value) => Some(json!({ "priority": value }).to_string()),
                    _ => None,
                };
                let target = facts.first().map(|fact| fact.public_id.clone()).unwrap_or_default();
                self.audit(by, act.as_str(), target, detail);
                Outcome::Acted { facts, next: None }
            }
            Err(refusal) => Outcome::Refused(refusal.into()),
        }
    }

    pub(super) fn act_all(&mut self, keys: &[JobKey], act: Act, target: String, by: String) -> Outcome {
        let taken = keys.iter().filter_map(|key| self.do_to(*key, act).ok());
        let facts: Vec<_> = taken.flatten().collect();
        if !facts.is_empty() {
            let jobs: BTreeSet<_> = facts.iter().map(|fact| fact.job).collect();
            let mut detail = json!({ "arrows": facts.len(), "jobs": jobs.len() });
            if let Act::SetPriority(value) = act {
                detail["priority"] = value.into();
            }
            self.audit(by, act.as_str(), target, Some(detail.to_string()));
        }
        Outcome::Acted { facts, next: None }
    }

    fn do_to(&mut self, key: JobKey, act: Act) -> Result<Vec<Fact>, Refusal> {
        match act {
            Act::Cancel => self.wish(key, Want::Cancel),
            Act::Pause => self.wish(key, Want::Pause),
            Act::Resume => self.take(key, Event::Resume, None).map(|fact| vec![fact]),
            Act::Retry => self.take(key, Event::Retry, None).map(|fact| vec![fact]),
            Act::Redrive => self.take(key, Event::Redrive, None).map(|fact| vec![fact]),
            Act::SetPriority(value) => self.take(key, Event::SetPriority(value), None).map(|fact| vec![fact]),
        }
    }

    /// Wishes something of a job. A session that cannot be asked loses it at once.
    fn wish(&mut self, key: JobKey, want: Want) -> Result<Vec<Fact>, Refusal> {
        let holder = self.snapshot.jobs.get(&key).and_then(|loaded| loaded.job.session);
        let session = holder.and_then(|holder| self.snapshot.sessions.get(&holder));
        let asked = session.is_some_and(|session| session.confirms);
        let until = if asked {
            self.now.after(self.policy.want_timeout)
        } else {
            self.now
        };
        let mut facts = vec![self.take(key, Event::Wish { want, until }, None)?];
        if holder.is_some() && !asked {
            facts.extend(self.take(key, Event::Force, None));
        }
        Ok(facts)
    }

    pub(super) fn cancel_tree(&mut self, root: JobKey, after: Option<JobKey>, by: String) -> Outcome {
        let Some(loaded) = self.snapshot.jobs.get(&root) else {
            return Outcome::Refused(Refusal::NotFound.into());
        };
        if loaded.lineage.parent.is_some() {
            return Outcome::Refused(Refusal::NotRoot.into());
        }
        let target = loaded.public_id.clone();
        let selection = Selection::Below {
            root,
            after: after.unwrap_or(root),
        };
        let Selected { jobs, next } = self.snapshot.selected.get(&selection).cloned().unwrap_or_default();
        // The root goes first, so that it discovers nothing more.
        let keys = after
            .is_none()
            .then_some(root)
            .into_iter()
            .chain(jobs.into_iter().map(|(key, _)| key));
        let keys: Vec<_> = keys.collect();
        let facts: Vec<_> = keys
            .into_iter()
            .filter_map(|key| self.wish(key, Want::Cancel).ok())
            .flatten()
            .collect();
        self.audit_many(by, "cancel_tree", target, &facts);
        Outcome::Acted { facts, next }
    }

    pub(super) fn redrive(&mut self, filter: RedriveFilter, after: Option<JobKey>, by: String) -> Outcome {
        let target = filter.account_id.clone().unwrap_or_else(|| "all accounts".to_owned());
        let selection = Selection::Redrivable {
            filter,
            after: after.unwrap_or(JobKey(0)),
        };
        let Selected { jobs, next } = self.snapshot.selected.get(&selection).cloned().unwrap_or_default();
        let facts: Vec<_> = jobs
            .into_iter()
            .filter_map(|(key, _)| self.take(key, Event::Redrive, None).ok())
            .collect();
        self.audit_many(by, "redrive", target, &facts);
        Outcome::Acted { facts, next }
    }

    pub(super) fn close_gate(
        &mut self,
        gate: Gate,
        until: Option<Timestamp>,
        reason: Option<String>,
        by: String,
    ) -> Outcome {
        let account = match &gate {
            Gate::Credentials { account_id, .. } => match self.snapshot.accounts.get(account_id) {
                Some(account) => Some(*account),
                None => return Outcome::Refused(Rejection::NoSuchAccount),
            },
            _ => None,
        };
        let known = self.snapshot.gates.iter().find(|closed| closed.gate == gate);
        if known.is_none() && self.snapshot.gates.len() >= GATES_MAX {
            return Outcome::Refused(Rejection::TooManyGates { limit: GATES_MAX });
        }
        let detail = json!({ "until": until, "reason": reason }).to_string();
        let closed = ClosedGate {
            account,
            closed_at: known.map_or(self.now, |known| known.closed_at),
            until,
            reason,
            by: by.clone(),
            gate,
        };
        self.audit(by, "close_gate", name_of(&closed.gate), Some(detail));
        self.snapshot.gates.retain(|known| known.gate != closed.gate);
        self.plan.closings.retain(|known| known.gate != closed.gate);
        self.snapshot.gates.push(closed.clone());
        self.plan.closings.push(closed);
        Outcome::Done
    }

    pub(super) fn open_gate(&mut self, gate: &Gate, by: String) -> Outcome {
        if self.open(|closed| closed.gate == *gate) {
            self.audit(by, "open_gate", name_of(gate), None);
        }
        Outcome::Done
    }

    pub(super) fn create_token(&mut self, (name, role, hash): (String, String, String), by: String) -> Outcome {
        if self.snapshot.tokens_by_name.contains_key(&name) {
            return Outcome::Refused(Rejection::TokenNameTaken);
        }
        self.snapshot.last_token += 1;
        let key = TokenKey(self.snapshot.last_token);
        self.snapshot.tokens_by_name.insert(name.clone(), (key, false));
        self.audit(
            by,
            "create_token",
            name.clone(),
            Some(json!({ "role": role }).to_string()),
        );
        self.plan.new_tokens.push(NewToken { key, name, role, hash });
        Outcome::TokenCreated(key)
    }

    pub(super) fn revoke_token(&mut self, name: String, by: String) -> Outcome {
        let Some((key, revoked)) = self.snapshot.tokens_by_name.get_mut(&name) else {
            return Outcome::Refused(Rejection::NoSuchToken);
        };
        if !std::mem::replace(revoked, true) {
            self.plan.revoked_tokens.insert(*key);
            self.audit(by, "revoke_token", name, None);
        }
        Outcome::Done
    }

    /// Opens the gates whose time came.
    pub(super) fn open_due_gates(&mut self) {
        let now = self.now;
        self.open(|closed| closed.until.is_some_and(|until| until <= now));
    }

    /// Opens the gate of credentials for which there is a new token.
    pub(super) fn open_by_token(&mut self, account_id: &str, host: &str) {
        let gate = Gate::Credentials {
            account_id: account_id.to_owned(),
            host: host.to_owned(),
        };
        if self.open(|closed| closed.gate == gate) {
            self.audit("a new token".to_owned(), "open_gate", name_of(&gate), None);
        }
    }

    /// Opens gates; says whether there was one. Deadlines behind them move by the time that they stood still.
    fn open(&mut self, meant: impl Fn(&ClosedGate) -> bool) -> bool {
        let (opened, closed): (Vec<_>, Vec<_>) = self.snapshot.gates.drain(..).partition(meant);
        self.snapshot.gates = closed;
        let any = !opened.is_empty();
        for gate in opened {
            let end = gate.until.map_or(self.now, |until| until.min(self.now));
            let closed_for = end.since(gate.closed_at);
            let concerned = self.snapshot.jobs.values_mut().filter(|loaded| {
                gate.gate.stops_deadlines() && gate.bars(loaded.lineage.account, &loaded.host, gate.closed_at)
            });
            for loaded in concerned {
                loaded.job.deadline = loaded.job.deadline.map(|deadline| deadline.after(closed_for));
            }
            self.plan.closings.retain(|known| known.gate != gate.gate);
            self.plan.openings.push(Opening { gate, closed_for });
        }
        any
    }

    fn audit_many(&mut self, by: String, act: &'static str, target: String, facts: &[Fact]) {
        if !facts.is_empty() {
            let detail = json!({ "arrows": facts.len() }).to_string();
            self.audit(by, act, target, Some(detail));
        }
    }

    pub(super) fn audit(&mut self, by: String, act: &'static str, target: String, detail: Option<String>) {
        self.plan.audits.push(NewAudit {
            by,
            act,
            target,
            detail,
        });
    }
}

fn name_of(gate: &Gate) -> String {
    match gate {
        Gate::Queue => gate.kind().to_owned(),
        Gate::Host(host) => format!("{} {host}", gate.kind()),
        Gate::Credentials { account_id, host } => format!("{} {account_id} {host}", gate.kind()),
    }
}
