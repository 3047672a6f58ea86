//! What is known of the jobs that are watched.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::client::stream::Event;
use crate::client::view::{self, items, text};

/// Jobs that are kept in mind: what is open. Of more than these only the sums are shown.
const JOBS_MAX: usize = 2000;

/// Ends that are kept in mind, so that none is told twice. Of more, the oldest jobs are forgotten.
const ENDS_MAX: usize = 20_000;

/// What is known of one job.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) id: String,
    /// What it is about, for people; not made safe.
    pub(super) name: String,
    /// Its state, and what is wanted of it.
    pub(super) state: String,
    /// Its progress as the API has it, or null.
    pub(super) progress: Value,
}

/// Something that people want to know.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// A job came up, or into another state.
    State {
        id: String,
        name: String,
        state: String,
        error: Option<String>,
    },
    /// It is further.
    Progress { id: String },
    /// It passed a part of the whole.
    Milestone { id: String, percent: u64 },
    /// The whole tree did.
    TreeMilestone { percent: u64 },
    /// It does not go forward.
    Stalled { id: String },
    /// It is no longer there.
    Deleted { id: String },
}

/// All that is known.
#[derive(Debug)]
pub(super) struct Sight {
    /// The top of the tree that is watched; none for all jobs.
    pub(super) root: Option<String>,
    /// Open jobs, by id: in the order in which they were made.
    pub(super) jobs: BTreeMap<String, Seen>,
    /// Jobs whose end was told, or was there before.
    ends: BTreeSet<String>,
    /// The job at the top, as it was asked for last.
    pub(super) top: Value,
    /// Its progress with the sums of the tree.
    pub(super) whole: Value,
}

impl Sight {
    pub(super) fn new(root: Option<String>) -> Self {
        Self {
            root,
            jobs: BTreeMap::new(),
            ends: BTreeSet::new(),
            top: Value::Null,
            whole: Value::Null,
        }
    }

    /// Takes an event in; what it means.
    pub(super) fn apply(&mut self, event: &Event) -> Vec<Change> {
        let data = &event.data;
        let job = || text(data, "job_id").to_owned();
        match event.name.as_str() {
            "snapshot" => self.snapshot(data),
            "job" => self.job(data).into_iter().collect(),
            "deleted" => self.deleted(&job()).into_iter().collect(),
            "progress" => match self.jobs.get_mut(text(data, "job_id")) {
                Some(seen) => {
                    seen.progress = data.clone();
                    vec![Change::Progress { id: job() }]
                }
                None => Vec::new(),
            },
            // Those of its entities would be many, and show in its progress.
            "milestone" if data["entity"].is_null() && self.jobs.contains_key(&job()) => {
                let percent = view::number(data, "percent");
                vec![Change::Milestone { id: job(), percent }]
            }
            "tree_milestone" if self.root.as_deref() == data["root_id"].as_str() => {
                let percent = view::number(data, "percent");
                vec![Change::TreeMilestone { percent }]
            }
            "stalled" if self.jobs.contains_key(&job()) => vec![Change::Stalled { id: job() }],
            _ => Vec::new(),
        }
    }

    /// Everything anew: what is not in it, and was known, may have ended meanwhile, or be too old for it.
    fn snapshot(&mut self, data: &Value) -> Vec<Change> {
        let jobs = items(&data["jobs"]);
        if self.root.is_none() {
            let there: Vec<_> = jobs.iter().map(|job| text(job, "id")).collect();
            self.jobs.retain(|id, _| there.contains(&id.as_str()));
        }
        // What has ended before anybody looked is no news.
        let unknown = |job: &&Value| has_ended(job) && !self.jobs.contains_key(text(job, "id"));
        let ends: Vec<_> = jobs
            .iter()
            .filter(unknown)
            .map(|job| text(job, "id").to_owned())
            .collect();
        self.ends.extend(ends);
        // Newest first they come; told they are in the order of their making.
        jobs.iter().rev().filter_map(|job| self.job(job)).collect()
    }

    fn job(&mut self, job: &Value) -> Option<Change> {
        if self.root.is_some() && self.root.as_deref() != job["root_id"].as_str() {
            return None;
        }
        let (id, state) = (text(job, "id"), view::state(job));
        let known = self.jobs.get_mut(id);
        let ended = has_ended(job);
        let changed = match &known {
            Some(seen) => seen.state != state,
            None if ended => !self.ends.contains(id),
            None => true,
        };
        let name = format!("{} {}", text(job, "job_type"), view::subject(job));
        if ended {
            self.jobs.remove(id);
            self.ends.insert(id.to_owned());
            if self.ends.len() > ENDS_MAX {
                self.ends.pop_first();
            }
        } else if let Some(seen) = known {
            seen.state.clone_from(&state);
            if !job["progress"].is_null() {
                seen.progress = job["progress"].clone();
            }
        } else if self.jobs.len() < JOBS_MAX {
            let (id, name, state, progress) = (id.to_owned(), name.clone(), state.clone(), job["progress"].clone());
            self.jobs.insert(
                id.clone(),
                Seen {
                    id,
                    name,
                    state,
                    progress,
                },
            );
        }
        let failed = job["status"] == "failed";
        let error = job["error"]["error_message"]
            .as_str()
            .filter(|_| failed)
            .map(str::to_owned);
        changed.then(|| Change::State {
            id: id.to_owned(),
            name,
            state,
            error,
        })
    }

    fn deleted(&mut self, id: &str) -> Option<Change> {
        self.jobs.remove(id).map(|seen| Change::Deleted { id: seen.id })
    }
}

fn has_ended(job: &Value) -> bool {
    matches!(text(job, "status"), "completed" | "failed" | "cancelled")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(name: &str, data: Value) -> Event {
        Event {
            id: None,
            name: name.to_owned(),
            data,
        }
    }

    fn job(id: &str, status: &str) -> Value {
        json!({ "id": id, "root_id": "r", "status": status, "state": status, "job_type": "crawl_user", "progress": null })
    }

    fn states(changes: &[Change]) -> Vec<(&str, &str)> {
        let mut states = Vec::new();
        for change in changes {
            if let Change::State { id, state, .. } = change {
                states.push((id.as_str(), state.as_str()));
            }
        }
        states
    }

    #[test]
    fn each_state_is_told_once() {
        let mut sight = Sight::new(Some("r".to_owned()));
        let snapshot = json!({ "jobs": [job("c", "queued"), job("b", "completed"), job("r", "running")] });
        let told = sight.apply(&event("snapshot", snapshot.clone()));
        assert_eq!(states(&told), [("r", "running"), ("c", "queued")]);
        assert!(sight.apply(&event("snapshot", snapshot)).is_empty());
        assert_eq!(
            states(&sight.apply(&event("job", job("c", "running")))),
            [("c", "running")]
        );
        assert_eq!(
            states(&sight.apply(&event("job", job("c", "completed")))),
            [("c", "completed")]
        );
        assert!(sight.apply(&event("job", job("c", "completed"))).is_empty());
        assert_eq!(sight.jobs.keys().collect::<Vec<_>>(), ["r"]);
        // One that came and went between two looks.
        assert_eq!(
            states(&sight.apply(&event("job", job("d", "failed")))),
            [("d", "failed")]
        );
        assert_eq!(
            states(&sight.apply(&event("job", job("d", "queued")))),
            [("d", "queued")]
        );
        assert_eq!(
            states(&sight.apply(&event("job", job("d", "failed")))),
            [("d", "failed")]
        );
    }

    #[test]
    fn other_trees_are_not_seen() {
        let mut sight = Sight::new(Some("r".to_owned()));
        let mut other = job("x", "running");
        other["root_id"] = "other".into();
        assert!(sight.apply(&event("job", other)).is_empty());
        assert!(sight.apply(&event("progress", json!({ "job_id": "x" }))).is_empty());
        assert!(
            sight
                .apply(&event("tree_milestone", json!({ "root_id": "other", "percent": 50 })))
                .is_empty()
        );
        let passed = sight.apply(&event("tree_milestone", json!({ "root_id": "r", "percent": 50 })));
        assert_eq!(passed, [Change::TreeMilestone { percent: 50 }]);
    }

    #[test]
    fn what_is_kept_in_mind_is_bounded() {
        let mut sight = Sight::new(None);
        for number in 0..JOBS_MAX + 100 {
            sight.apply(&event("job", job(&format!("j{number}"), "running")));
        }
        assert_eq!(sight.jobs.len(), JOBS_MAX);
    }
}
