//! New jobs: submitted by the web app, or discovered by a parent.

use std::sync::Arc;

use crawlwire_protocol::message::DiscoveredJob;

use super::batch::{Batch, runs_under, touch};
use super::{Credential, CredentialWrite, LoadedJob, NewEvent, NewJobRow, child_identity};
use crate::discovery::{Verdict, identity, over_budget};
use crate::ids::{AccountKey, CredentialKey, JobKey, Timestamp};
use crate::job::{Arrow, Job};
use crate::lifecycle::Refusal;
use crate::priority;
use crate::store::{Fact, Holder, NewJob, Outcome, Rejection};
use crate::view::{JobSpec, JobView, Lineage};

impl Batch<'_> {
    pub(super) fn submit(&mut self, new: NewJob) -> Outcome {
        let waiting = self.snapshot.backlog.saturating_add_signed(self.plan.backlog_change);
        if waiting >= self.policy.queued_jobs_max {
            return Outcome::Refused(Rejection::QueueFull {
                limit: self.policy.queued_jobs_max,
            });
        }
        let web_app_job_id = new.web_app_job_id.clone().unwrap_or_else(|| new.public_id.clone());
        if let Some(public_id) = self.snapshot.web_app_job_ids.get(&web_app_job_id) {
            return Outcome::Refused(Rejection::NameTaken {
                public_id: public_id.clone(),
            });
        }
        self.snapshot
            .web_app_job_ids
            .insert(web_app_job_id.clone(), new.public_id.clone());
        let key = JobKey(self.fresh_key());
        let account = self.account(&new.account_id);
        let credential = self.credential(account, &new);
        let generation = new.public_id.clone();
        let entity = new
            .spec
            .entity_id
            .clone()
            .or_else(|| new.spec.namespace_path.clone())
            .unwrap_or_default();
        let row = NewJobRow {
            job: Job::queued(key, new.resume),
            identity: identity(&generation, &new.spec.host, new.spec.job_type, &entity),
            lineage: Lineage {
                parent: None,
                root: key,
                depth: 0,
                generation,
                account,
                credential,
            },
            public_id: new.public_id,
            web_app_job_id,
            due: priority::due(self.now, new.spec.priority),
            spec: new.spec,
        };
        let view = submitted_view(&row, new.account_id, self.now);
        self.insert(row, Arrow::Submit, None);
        Outcome::Submitted(Box::new(view))
    }

    pub(super) fn discover(&mut self, parent: JobKey, holder: &Holder, items: Vec<(String, DiscoveredJob)>) -> Outcome {
        let Some(loaded) = self.snapshot.jobs.get(&parent) else {
            return Outcome::Refused(Refusal::NotFound.into());
        };
        if !runs_under(&loaded.job, holder.lease()) {
            return Outcome::Refused(Refusal::Stale.into());
        }
        let mut parent = loaded.clone();
        let root = parent.lineage.root;
        let mut tree_jobs = self.snapshot.jobs.get(&root).map_or(0, |root| root.tree_jobs);
        let verdicts: Vec<_> = items
            .into_iter()
            .map(|(public_id, item)| {
                let identity = child_identity(&parent, item.job_type, &item.entity_id);
                if self.snapshot.identities.contains(&identity) {
                    return (Verdict::Duplicate, None);
                }
                let budget = over_budget(self.policy, parent.lineage.depth, parent.children, tree_jobs);
                if let Some(budget) = budget {
                    return (Verdict::OverBudget(budget), None);
                }
                parent.children += 1;
                tree_jobs += 1;
                self.snapshot.identities.insert(identity.clone());
                let fact = self.child(&parent, public_id, item, identity, holder);
                (Verdict::Accepted, Some(fact))
            })
            .collect();
        if verdicts.iter().any(|(_, fact)| fact.is_some()) {
            self.count_children(&parent, tree_jobs);
        }
        Outcome::Discovered(verdicts)
    }

    fn child(
        &mut self,
        parent: &LoadedJob,
        public_id: String,
        item: DiscoveredJob,
        identity: String,
        holder: &Holder,
    ) -> Fact {
        let key = JobKey(self.fresh_key());
        let row = NewJobRow {
            job: Job::queued(key, false),
            web_app_job_id: public_id.clone(),
            identity,
            lineage: Lineage {
                parent: Some(parent.job.key),
                depth: parent.lineage.depth + 1,
                ..parent.lineage.clone()
            },
            due: priority::due(self.now, item.priority),
            spec: JobSpec {
                job_type: item.job_type,
                host: parent.host.clone(),
                entity_id: Some(item.entity_id),
                namespace_path: Some(item.namespace_path),
                entity_name: Some(item.entity_name),
                priority: item.priority,
                provider: parent.provider.clone(),
                user_id: parent.user_id.clone(),
                created_by_user_id: None,
                tags: Vec::new(),
                metadata: None,
            },
            public_id,
        };
        self.insert(row, Arrow::Discover, Some(holder.name.clone()))
    }

    fn count_children(&mut self, parent: &LoadedJob, tree_jobs: i64) {
        for (key, change) in [(parent.job.key, true), (parent.lineage.root, false)] {
            if let Some(loaded) = self.snapshot.jobs.get_mut(&key) {
                touch(&mut self.touched, key, (loaded.job.state, loaded.job.fence));
                if change {
                    loaded.children = parent.children;
                } else {
                    loaded.tree_jobs = tree_jobs;
                }
            }
        }
    }

    fn insert(&mut self, row: NewJobRow, arrow: Arrow, session: Option<Arc<str>>) -> Fact {
        let fact = Fact {
            job: row.job.key,
            public_id: row.public_id.clone(),
            arrow,
            from: None,
            state: row.job.state,
            fence: row.job.fence,
            attempt: 0,
            session: None,
            at: self.now,
        };
        self.plan.events.push(NewEvent {
            job: row.job.key,
            arrows: vec![arrow],
            state: row.job.state,
            fence: row.job.fence,
            attempt: 0,
            session,
        });
        self.plan.backlog_change += 1;
        self.plan.new_jobs.push(row);
        fact
    }

    fn account(&mut self, name: &str) -> AccountKey {
        if let Some(account) = self.snapshot.accounts.get(name) {
            return *account;
        }
        let account = AccountKey(self.fresh_key());
        self.snapshot.accounts.insert(name.to_owned(), account);
        self.plan.new_accounts.push((account, name.to_owned()));
        account
    }

    fn credential(&mut self, account: AccountKey, new: &NewJob) -> Option<CredentialKey> {
        let place = (new.account_id.clone(), new.spec.host.clone());
        let known = self.snapshot.credentials.get(&place).copied();
        let Some(token) = new.access_token.as_ref().filter(|token| !token.is_empty()) else {
            return known.map(|credential| credential.key);
        };
        let written = |known: &Credential| self.plan.credentials.iter().any(|write| write.key == known.key);
        let credential = match known {
            // Nobody saw the version that this batch is about to write.
            Some(known) if written(&known) => known,
            Some(Credential { key, version }) => Credential {
                key,
                version: version + 1,
            },
            None => Credential {
                key: CredentialKey(self.fresh_key()),
                version: 1,
            },
        };
        self.snapshot.credentials.insert(place, credential);
        self.plan.credentials.retain(|write| write.key != credential.key);
        self.plan.credentials.push(CredentialWrite {
            key: credential.key,
            account,
            host: new.spec.host.clone(),
            version: credential.version,
            token: token.clone(),
        });
        Some(credential.key)
    }
}

fn submitted_view(row: &NewJobRow, account_id: String, now: Timestamp) -> JobView {
    JobView {
        key: row.job.key,
        public_id: row.public_id.clone(),
        web_app_job_id: row.web_app_job_id.clone(),
        account_id,
        parent_id: None,
        root_id: row.public_id.clone(),
        depth: 0,
        spec: row.spec.clone(),
        credential: row.lineage.credential,
        state: row.job.state,
        pause_reason: None,
        fence: row.job.fence,
        session: None,
        attempt: 0,
        failures: 0,
        children: 0,
        resume: row.job.resume,
        run_at: None,
        created_at: now,
        started_at: None,
        finished_at: None,
        updated_at: now,
        result: None,
        error: None,
    }
}
