//! New jobs: submitted by the web app, or discovered by a parent.

use std::sync::Arc;

use crawlwire_protocol::AccessToken;
use crawlwire_protocol::message::{DiscoveredJob, JobType};

use super::batch::{Batch, runs_under, touch};
use super::{Credential, CredentialWrite, LoadedJob, NewArea, NewEvent, NewJobRow, child_identity};
use crate::discovery::{Used, Verdict, identity, over_budget};
use crate::ids::{AccountKey, CredentialKey, JobKey, Timestamp};
use crate::job::{Arrow, Job, State, Tree, Want};
use crate::lifecycle::Refusal;
use crate::policy::Guard;
use crate::priority;
use crate::store::{Fact, Found, Holder, NewCredential, NewJob, Outcome, Rejection};
use crate::view::{JobSpec, JobView, Lineage};
use crate::weight::Weighed;

impl Batch<'_> {
    /// A key that was used for something else is a mistake of whoever asks, and nothing of it is carried out.
    pub(super) fn submit_all(&mut self, new: Vec<NewJob>) -> Outcome {
        let reused = |new: &NewJob| matches!(self.submitted_before(new), Some(Outcome::Refused(_)));
        if new.iter().any(reused) {
            return Outcome::Refused(Rejection::KeyReused);
        }
        Outcome::SubmittedAll(new.into_iter().map(|new| self.submit(new)).collect())
    }

    /// What became of a submission with the same key.
    fn submitted_before(&self, new: &NewJob) -> Option<Outcome> {
        let once = new.once.as_ref()?;
        let (fingerprint, public_id) = self.snapshot.once.get(&once.key)?;
        Some(if *fingerprint == once.fingerprint {
            Outcome::Repeated {
                public_id: public_id.clone(),
            }
        } else {
            Outcome::Refused(Rejection::KeyReused)
        })
    }

    pub(super) fn submit(&mut self, new: NewJob) -> Outcome {
        if let Some(outcome) = self.submitted_before(&new) {
            return outcome;
        }
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
        if let Some(once) = &new.once {
            let submitted = (once.fingerprint, new.public_id.clone());
            self.snapshot.once.insert(once.key.clone(), submitted);
        }
        let key = JobKey(self.fresh_key());
        let account = self.account(&new.account_id);
        let credential = self.credential(account, &new);
        let generation = new.public_id.clone();
        let job = Job {
            limits: new.limits,
            ..first(key, new.resume, &new.spec, new.run_at, self.now)
        };
        let entity = new
            .spec
            .entity_id
            .clone()
            .or_else(|| new.spec.namespace_path.clone())
            .unwrap_or_default();
        let row = NewJobRow {
            job,
            lane: priority::lane(account, &new.spec.host, new.spec.job_type, &new.spec.labels),
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
            spec: new.spec,
            weight: new.weight,
            once: new.once,
        };
        let view = submitted_view(&row, new.account_id, self.now);
        self.insert(row, Arrow::Submit, None);
        Outcome::Submitted(Box::new(view))
    }

    pub(super) fn discover(&mut self, parent: JobKey, holder: &Holder, items: Vec<Found>) -> Outcome {
        let Some(loaded) = self.snapshot.jobs.get(&parent) else {
            return Outcome::Refused(Refusal::NotFound.into());
        };
        if !runs_under(&loaded.job, holder.lease(), self.policy) {
            return Outcome::Refused(Refusal::Stale.into());
        }
        let parent = loaded.clone();
        let verdicts: Vec<_> = items
            .into_iter()
            .map(|found| {
                let item = &found.item;
                if let Some(area) = area(&parent, item) {
                    self.see(area);
                }
                let identity = child_identity(&parent, item.job_type, &item.entity_id);
                if self.snapshot.identities.contains(&identity) && self.policy.has(Guard::ChildIdentity) {
                    return (Verdict::Duplicate, None);
                }
                if parent.job.want == Some(Want::Cancel) {
                    return (Verdict::Refused, None);
                }
                if let Some(budget) = over_budget(self.policy, self.used(&parent)) {
                    return (Verdict::OverBudget(budget), None);
                }
                self.snapshot.identities.insert(identity.clone());
                let weight = found.weight;
                let fact = self.child(&parent, found, identity, holder);
                self.count_child(&parent, weight);
                (Verdict::Accepted, Some(fact))
            })
            .collect();
        Outcome::Discovered(verdicts)
    }

    /// Keeps a place, under its newest name for everybody who sees it.
    fn see(&mut self, area: NewArea) {
        let place = (area.host.clone(), area.kind, area.entity_id.clone());
        let seen = self.areas.entry(place).or_default();
        for known in seen.values_mut() {
            known.path.clone_from(&area.path);
            known.name.clone_from(&area.name);
        }
        seen.insert(area.account, area);
    }

    fn used(&self, parent: &LoadedJob) -> Used {
        let tree = |key| self.snapshot.jobs.get(&key).map_or(Tree::NEW, |loaded| loaded.tree);
        let counts = self.snapshot.account_counts.get(&parent.lineage.account);
        Used {
            depth: parent.lineage.depth,
            children: tree(parent.job.key).children,
            tree_jobs: tree(parent.lineage.root).jobs,
            account_jobs: counts.map_or(0, |counts| counts.open),
        }
    }

    fn child(&mut self, parent: &LoadedJob, found: Found, identity: String, holder: &Holder) -> Fact {
        let Found {
            public_id,
            item,
            weight,
        } = found;
        let key = JobKey(self.fresh_key());
        let spec = JobSpec {
            entity_id: Some(item.entity_id),
            namespace_path: Some(item.namespace_path),
            entity_name: Some(item.entity_name),
            priority: item.priority,
            labels: parent.labels.clone(),
            provider: parent.provider.clone(),
            user_id: parent.user_id.clone(),
            ..JobSpec::new(item.job_type, parent.host.as_str())
        };
        let row = NewJobRow {
            job: Job {
                limits: parent.job.limits,
                ..first(key, false, &spec, None, self.now)
            },
            lane: priority::lane(parent.lineage.account, &spec.host, spec.job_type, &spec.labels),
            web_app_job_id: public_id.clone(),
            identity,
            lineage: Lineage {
                parent: Some(parent.job.key),
                depth: parent.lineage.depth + 1,
                ..parent.lineage.clone()
            },
            spec,
            public_id,
            weight,
            once: None,
        };
        self.insert(row, Arrow::Discover, Some(holder.name.clone()))
    }

    /// The parent runs, so its tree is open already and nothing above it changes but how large it is.
    fn count_child(&mut self, parent: &LoadedJob, weight: u64) {
        let mut change = |key, change: &dyn Fn(&mut Tree)| {
            if let Some(loaded) = self.snapshot.jobs.get_mut(&key) {
                touch(&mut self.touched, key, (loaded.job.state, loaded.job.fence));
                change(&mut loaded.tree);
            }
        };
        change(parent.job.key, &|tree| {
            tree.children += 1;
            tree.open_children += 1;
        });
        change(parent.lineage.root, &|tree| {
            tree.jobs += 1;
            tree.weighed = tree.weighed + Weighed::of(weight);
        });
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
            passed: Vec::new(),
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
        self.count(row.lineage.account, None, Some(row.job.state));
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
        match new.access_token.as_ref().filter(|token| !token.is_empty()) {
            Some(token) => Some(self.write_token(account, place, token.clone()).0),
            None => self.snapshot.credentials.get(&place).map(|credential| credential.key),
        }
    }

    /// A token that is forgotten is an empty one: jobs go on pointing to its row.
    pub(super) fn keep_credential(&mut self, new: NewCredential, by: String) -> Outcome {
        let place = (new.account_id, new.host);
        let target = format!("{} {}", place.0, place.1);
        let (act, token) = match new.token.filter(|token| !token.is_empty()) {
            Some(token) => ("set_credential", token),
            None if self.snapshot.credentials.contains_key(&place) => ("remove_credential", AccessToken::new("")),
            None => return Outcome::Refused(Rejection::NoSuchCredential),
        };
        let account = self.account(&place.0);
        if self.write_token(account, place, token).1 {
            self.audit(by, act, target, None);
        }
        Outcome::Done
    }

    /// Says whether it is another token than before.
    fn write_token(
        &mut self,
        account: AccountKey,
        place: (String, String),
        token: AccessToken,
    ) -> (CredentialKey, bool) {
        let known = self.snapshot.credentials.get(&place).copied();
        if let Some(known) = known.filter(|_| self.snapshot.tokens.0.get(&place) == Some(&token)) {
            return (known.key, false);
        }
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
        if !token.is_empty() {
            self.open_by_token(&place.0, &place.1);
        }
        self.plan.credentials.retain(|write| write.key != credential.key);
        self.plan.credentials.push(CredentialWrite {
            key: credential.key,
            account,
            host: place.1.clone(),
            version: credential.version,
            token: token.clone(),
        });
        self.snapshot.tokens.0.insert(place.clone(), token);
        self.snapshot.credentials.insert(place, credential);
        (credential.key, true)
    }
}

/// A job as it begins.
fn first(key: JobKey, resume: bool, spec: &JobSpec, run_at: Option<Timestamp>, now: Timestamp) -> Job {
    let run_at = run_at.filter(|run_at| now < *run_at);
    Job {
        state: if run_at.is_some() {
            State::Delayed
        } else {
            State::Queued
        },
        run_at,
        priority: spec.priority,
        due: priority::due(run_at.unwrap_or(now), spec.priority),
        ..Job::queued(key, resume)
    }
}

/// The place that an item speaks of, which the account of the parent may see from now on.
fn area(parent: &LoadedJob, item: &DiscoveredJob) -> Option<NewArea> {
    let kind = match item.job_type {
        JobType::CrawlUser => "user",
        JobType::CrawlGroup => "group",
        JobType::CrawlProject => "project",
        // A search, not a place.
        JobType::DiscoverNamespaces => return None,
    };
    Some(NewArea {
        host: parent.host.clone(),
        kind,
        entity_id: item.entity_id.clone(),
        account: parent.lineage.account,
        path: item.namespace_path.clone(),
        name: item.entity_name.clone(),
    })
}

fn submitted_view(row: &NewJobRow, account_id: String, now: Timestamp) -> JobView {
    JobView {
        key: row.job.key,
        public_id: row.public_id.clone(),
        web_app_job_id: row.web_app_job_id.clone(),
        account_id,
        account: row.lineage.account,
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
        misses: 0,
        tree: row.tree(),
        resume: row.job.resume,
        want: None,
        limits: row.job.limits,
        run_at: row.job.run_at,
        assigned_at: None,
        deadline: None,
        created_at: now,
        started_at: None,
        finished_at: None,
        updated_at: now,
        result: None,
        error: None,
    }
}
