//! Writes a plan.

use std::collections::BTreeSet;

use super::tables::{JobRow, SessionRow, Tables};
use crate::ids::Timestamp;
use crate::plan::{Credential, CredentialWrite, NewArea, NewEvent, NewToken, Opening, Plan, Recovery};
use crate::store::{HISTORIES_MAX, Outcome};
use crate::view::{AreaView, AuditView, CrawlerToken, ErrorRow, ErrorView, EventView};

impl Tables {
    /// Writes what the plan says, in its order, and gives the answers.
    pub(super) fn write(&mut self, plan: Plan, now: Timestamp) -> Vec<Outcome> {
        self.last_key = used_keys(&plan).fold(self.last_key, i64::max);
        plan.recoveries.into_iter().for_each(|it| self.recover(&it, now));
        plan.openings.iter().for_each(|it| self.open(it));
        self.gates
            .retain(|gate| plan.closings.iter().all(|closed| closed.gate != gate.gate));
        self.gates.extend(plan.closings);
        self.accounts_since
            .extend(plan.new_accounts.iter().map(|(key, _)| (*key, now)));
        self.accounts
            .extend(plan.new_accounts.into_iter().map(|(key, name)| (name, key)));
        self.credentials_since
            .extend(plan.credentials.iter().map(|write| (write.key, now)));
        plan.credentials.into_iter().for_each(|it| self.keep_credential(it));
        for (session, new) in plan.new_sessions {
            let row = SessionRow {
                server: new.server,
                opened_at: now,
                capabilities: new.capabilities,
                instance: new.instance,
                session,
            };
            self.sessions.insert(row.session.key, row);
        }
        for (key, new) in plan.reopened {
            if let Some(row) = self.sessions.get_mut(&key) {
                (row.server, row.capabilities, row.instance) = (new.server, new.capabilities, new.instance);
            }
        }
        for session in plan.sessions {
            if let Some(row) = self.sessions.get_mut(&session.key) {
                row.session = session;
            }
        }
        for new in plan.new_jobs {
            self.jobs.insert(new.job.key, JobRow::new(new, now));
        }
        for changed in plan.changed {
            if let Some(row) = self.jobs.get_mut(&changed.job.key) {
                row.loaded.job = changed.job;
                row.loaded.tree = changed.tree;
                row.result = changed.result.or(row.result.take());
                row.error = changed.error.or(row.error.take());
                row.updated_at = now;
            }
        }
        plan.events.into_iter().for_each(|it| self.add_event(it, now));
        let reports = plan.progress.into_iter();
        self.progress.extend(reports.map(|(job, report)| (job, report.tracker)));
        for ((job, attempt), tracker) in plan.histories {
            self.histories.insert((job, attempt), tracker.history.clone());
            self.histories
                .retain(|(of, kept), _| *of != job || attempt - *kept < HISTORIES_MAX);
        }
        self.trees
            .extend(plan.trees.into_iter().map(|(root, tree)| (root, (tree, now))));
        self.checkpoints.extend(plan.checkpoints);
        for new in plan.new_tokens {
            self.add_token(new, now);
        }
        for token in plan.revoked_tokens {
            self.tokens
                .entry(token)
                .and_modify(|token| token.revoked_at = token.revoked_at.or(Some(now)));
        }
        for token in plan.used_tokens {
            self.tokens
                .entry(token)
                .and_modify(|token| token.last_used_at = Some(now));
        }
        plan.errors.into_iter().for_each(|it| self.add_error(it));
        for audit in plan.audits {
            let id = self.audit.len() as i64 + 1;
            self.audit.push(AuditView {
                id,
                at: now,
                by: audit.by,
                act: audit.act.to_owned(),
                target: audit.target,
                detail: audit.detail,
            });
        }
        plan.areas.into_iter().for_each(|it| self.add_area(it, now));
        if !plan.watches.is_empty() {
            self.watches.extend(plan.watches);
            self.watches.retain(|_, until| *until > now);
        }
        for (job, _) in plan.deleted {
            self.jobs.remove(&job);
            self.progress.remove(&job);
            self.histories.retain(|(of, _), _| *of != job);
            self.trees.remove(&job);
            self.checkpoints.remove(&job);
            self.events.retain(|(of, _)| *of != job);
        }
        self.errors.retain(|error| !plan.deleted_errors.contains(&error.id));
        if let Some(before) = plan.forget_sessions_before {
            let held: Vec<_> = self.jobs.values().filter_map(|row| row.loaded.job.session).collect();
            self.sessions
                .retain(|key, row| row.session.lease_expires_at >= before || held.contains(key));
        }
        plan.outcomes
    }

    fn recover(&mut self, recovery: &Recovery, now: Timestamp) {
        let until = recovery.lease_until;
        let mut concerned = BTreeSet::new();
        for (key, row) in &mut self.sessions {
            row.session.grant(until);
            if recovery.connected || row.server == recovery.server {
                row.session.connected &= recovery.connected;
                concerned.insert(*key);
            }
        }
        let held = |row: &&mut JobRow| row.loaded.job.session.is_some_and(|holder| concerned.contains(&holder));
        for row in self.jobs.values_mut().filter(held) {
            let job = &mut row.loaded.job;
            job.assigned_at = job.assigned_at.map(|at| at.max(now));
            job.deadline = job.deadline.map(|deadline| deadline.max(until));
            job.want_deadline = job.want_deadline.map(|deadline| deadline.max(until));
        }
    }

    fn open(&mut self, opening: &Opening) {
        let gate = &opening.gate;
        self.gates.retain(|closed| closed.gate != gate.gate);
        for row in self.jobs.values_mut() {
            let loaded = &mut row.loaded;
            if gate.gate.stops_deadlines() && gate.bars(loaded.lineage.account, &loaded.host, gate.closed_at) {
                loaded.job.deadline = loaded.job.deadline.map(|deadline| deadline.after(opening.closed_for));
            }
        }
    }

    fn keep_credential(&mut self, write: CredentialWrite) {
        let credential = Credential {
            key: write.key,
            version: write.version,
        };
        self.credentials
            .insert((write.account, write.host), (credential, write.token));
    }

    fn add_token(&mut self, new: NewToken, now: Timestamp) {
        let token = CrawlerToken {
            key: new.key,
            name: new.name,
            role: new.role,
            hash: new.hash,
            created_at: now,
            revoked_at: None,
            last_used_at: None,
        };
        self.tokens.insert(token.key, token);
    }

    fn add_error(&mut self, error: ErrorRow) {
        let id = self.errors.last().map_or(1, |last| last.id + 1);
        self.errors.push(ErrorView {
            id,
            at: error.at,
            category: error.category.to_owned(),
            severity: error.severity.to_owned(),
            code: error.code,
            job: error.job,
            connection: error.connection,
            message: error.message,
        });
    }

    fn add_event(&mut self, event: NewEvent, at: Timestamp) {
        self.last_event += 1;
        let view = EventView {
            id: self.last_event,
            at,
            arrows: event.arrows.iter().map(|arrow| arrow.as_str().to_owned()).collect(),
            state: event.state,
            fence: event.fence,
            attempt: event.attempt,
            session: event.session.map(|name| name.to_string()),
        };
        self.events.push((event.job, view));
    }

    fn add_area(&mut self, area: NewArea, now: Timestamp) {
        let id = self.areas.len() as i64 + 1;
        let place = (area.host.clone(), area.kind, area.entity_id.clone());
        let row = self.areas.entry(place).or_insert_with(|| AreaView {
            id,
            host: area.host,
            kind: area.kind.to_owned(),
            entity_id: area.entity_id,
            path: String::new(),
            name: String::new(),
            since: now,
        });
        (row.path, row.name) = (area.path, area.name);
        self.account_areas.entry((area.account, row.id)).or_insert(now);
    }
}

fn used_keys(plan: &Plan) -> impl Iterator<Item = i64> {
    let accounts = plan.new_accounts.iter().map(|(key, _)| key.0);
    let credentials = plan.credentials.iter().map(|write| write.key.0);
    let sessions = plan.new_sessions.iter().map(|(session, _)| session.key.0);
    let jobs = plan.new_jobs.iter().map(|new| new.job.key.0);
    accounts.chain(credentials).chain(sessions).chain(jobs)
}
