//! How far jobs are, as the API shows it.

use crawlwire_progress::Timestamp;
use crawlwire_progress::job::TreeStatus;
use crawlwire_progress::sums::{ScopeSum, Totals, TreeView, completion};
use crawlwire_progress::track::{
    Clocks, Entity, EntityName, History, Issue, IssueKind, Milestone, NoEstimate, Point, Range,
};
use crawlwire_progress::view::JobView;
use crawlwire_router::Standing;
use serde_json::{Map, Value, json};

use super::json::{now, time};

/// How far a job is: what its crawler said, and what that means.
pub(super) fn progress(job_id: &str, standing: &Standing) -> Value {
    let Standing {
        tracker, snapshot, at, ..
    } = standing;
    let (work, total) = (tracker.work(), tracker.total());
    json!({
        "job_id": job_id,
        "attempt": tracker.attempt,
        "overall_completion": tracker.said.overall_completion,
        "time_elapsed": tracker.said.time_elapsed,
        "estimated_time_remaining": tracker.said.estimated_time_remaining,
        "state": snapshot.phase.as_str(),
        "activity": snapshot.activity.map(|activity| activity.as_str()),
        "completion": snapshot.completion,
        "discovering": snapshot.discovering,
        "total": { "kind": total.kind.as_str(), "items": total.items },
        "done": work.done,
        "expected": work.expected,
        "worked_ms": millis(tracker.worked(standing.until)),
        "eta": eta(snapshot.eta, *at),
        "clocks": clocks(&snapshot.clocks, standing.is_heard),
        "entities": tracker.entities.iter().map(entity).collect::<Vec<_>>(),
        "updated_at": standing.is_reported().then(|| time(tracker.updated_at)),
    })
}

/// The same with all that is known beside it.
pub(super) fn in_full(job: &JobView, standing: &Standing, tree: Option<Value>) -> Value {
    let Standing {
        tracker,
        snapshot,
        at,
        until,
        is_heard,
    } = standing;
    let (pace, worked) = (tracker.pace(), tracker.worked(*until));
    let rates = pace.map(|pace| pace.rates(worked));
    let rates = rates.map(|rates| json!({ "overall": rates.overall, "current": rates.current, "peak": rates.peak }));
    let mut issues: Vec<Value> = tracker.issues().iter().map(issue).collect();
    issues.extend(snapshot.high_error_rate.map(|kind| of_the_whole(kind, job, *at)));
    let more = json!({
        "began_at": is_heard.then(|| time(tracker.began_at())),
        "waited_ms": millis(tracker.waited(*until)),
        "rates": rates,
        "efficiency": pace.and_then(|pace| pace.efficiency(worked)),
        "consistency": pace.and_then(|pace| pace.consistency()),
        "error_rate": snapshot.error_rate,
        "retry_rate": snapshot.retry_rate,
        "milestones": tracker.milestones().iter().map(milestone).collect::<Vec<_>>(),
        "issues": issues,
        "history": tracker.history.points().iter().map(point).collect::<Vec<_>>(),
        "tree": tree,
    });
    let mut value = progress(&job.public_id, standing);
    if let (Value::Object(fields), Value::Object(more)) = (&mut value, more) {
        fields.extend(more);
    }
    value
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// When a job will end, as time that remains and as moments; or why nobody can say.
pub(super) fn eta(eta: Result<Range, NoEstimate>, at: Timestamp) -> Value {
    match eta {
        Ok(range) => json!({
            "low_ms": millis(range.low),
            "likely_ms": millis(range.likely),
            "high_ms": millis(range.high),
            "low_at": time(at.after(range.low)),
            "likely_at": time(at.after(range.likely)),
            "high_at": time(at.after(range.high)),
            "confidence": range.confidence.as_str(),
        }),
        Err(none) => json!({ "none": none.as_str() }),
    }
}

fn clocks(clocks: &Clocks, is_heard: bool) -> Value {
    json!({
        "link_at": clocks.link_at.map(time),
        "worker_at": is_heard.then(|| time(clocks.worker_at)),
        "work_at": is_heard.then(|| time(clocks.work_at)),
    })
}

/// A counter: the crawler's own words, and what follows from them.
fn entity(entity: &Entity) -> Value {
    // Plain counts and texts can always be written.
    let mut value = serde_json::to_value(&entity.said).unwrap_or_default();
    let total = entity.total();
    value["status"] = entity.status().as_str().into();
    value["done"] = entity.done().into();
    value["total"] = json!({ "kind": total.kind.as_str(), "items": total.items });
    value["completion"] = entity.completion().into();
    value["milestone"] = entity.milestone().into();
    value
}

/// A counter's name.
pub(super) fn name(name: &EntityName) -> Value {
    json!({ "entity_type": name.entity_type, "sub_collection": name.sub_collection })
}

/// A part of the whole that was passed.
pub(super) fn milestone(milestone: &Milestone) -> Value {
    json!({
        "name": milestone.name(),
        "percent": milestone.percent,
        "at": time(milestone.at),
        "attempt": milestone.attempt,
        "entity": milestone.entity.as_ref().map(name),
    })
}

fn issue(issue: &Issue) -> Value {
    json!({
        "kind": issue.kind.as_str(),
        "entity": issue.entity.as_ref().map(name),
        "attempt": issue.attempt,
        "first_at": time(issue.first_at),
        "last_at": time(issue.last_at),
        "times": issue.times,
    })
}

/// An issue that follows from the job's life, and is not kept with its reports.
fn of_the_whole(kind: IssueKind, job: &JobView, at: Timestamp) -> Value {
    json!({
        "kind": kind.as_str(),
        "entity": null,
        "attempt": job.attempt,
        "first_at": time(at),
        "last_at": time(at),
        "times": job.failures,
    })
}

fn point(point: &Point) -> Value {
    json!({
        "at": time(point.at),
        "done": point.done,
        "expected": point.expected,
        "completion": point.completion(),
    })
}

/// How far a tree is. `root` is the job at its top.
pub(super) fn tree(root: &JobView, view: Option<TreeView>) -> Value {
    let (size, status) = (root.tree.size(), root.tree.status);
    let sum = view.map(|view| view.sum).unwrap_or_default();
    json!({
        "root_id": root.public_id,
        "status": status.as_str(),
        "completion": completion(sum, size, status),
        "jobs": size.jobs,
        "jobs_reported": sum.jobs_reported,
        "done": sum.done,
        "expected": sum.expected,
        "expected_silent": sum.expected_silent(size),
        "discovering": status == TreeStatus::Open && sum.open_jobs > 0,
        "milestone": view.map_or(0, |view| view.reached),
        "updated_at": view.map(|view| time(view.updated_at)),
    })
}

/// What all trees that are not over add up to: the mean of what crawlers said (API reference, lines 142 to 150), and ours.
pub(super) fn together(running: Option<crawlwire_progress::live::AggregateProgress>, totals: &Totals) -> Value {
    let named = |field: &str, scopes: &[(String, ScopeSum)]| -> Vec<Value> {
        let named = scopes.iter().map(|(name, sum)| {
            let mut value = scope(sum);
            value[field] = name.as_str().into();
            value
        });
        named.collect()
    };
    json!({
        "overall_completion": running.map(|running| running.overall_completion),
        "active_jobs": running.map_or(0, |running| running.active_jobs),
        "fleet": scope(&totals.fleet),
        "accounts": named("account_id", &totals.accounts),
        "hosts": named("gitlab_host", &totals.hosts),
        "at": now(),
    })
}

fn scope(scope: &ScopeSum) -> Value {
    let ScopeSum { trees, size, sum } = *scope;
    // Of nothing, nothing is done and nothing is left to do.
    let completion = (trees > 0).then(|| completion(sum, size, TreeStatus::Open));
    json!({
        "trees": trees,
        "jobs": size.jobs,
        "jobs_reported": sum.jobs_reported,
        "done": sum.done,
        "expected": sum.expected,
        "expected_silent": sum.expected_silent(size),
        "completion": completion,
        "discovering": sum.open_jobs > 0,
    })
}

/// What happened to a job and to its work, by time.
#[derive(Default)]
pub(super) struct Timeline(Vec<(Timestamp, Value)>);

impl Timeline {
    /// Adds something that happened.
    pub(super) fn add(&mut self, of_type: &str, at: Timestamp, mut what: Value) {
        if let Value::Object(fields) = &mut what {
            let mut line = Map::new();
            line.insert("type".to_owned(), of_type.into());
            line.insert("at".to_owned(), time(at).into());
            line.append(fields);
            self.0.push((at, line.into()));
        }
    }

    /// Adds the course of an attempt.
    pub(super) fn add_history(&mut self, attempt: i32, history: &History) {
        for of_then in history.points() {
            let mut value = point(of_then);
            value["attempt"] = attempt.into();
            self.add("progress", of_then.at, value);
        }
    }

    /// Adds what is kept beside the counts.
    pub(super) fn add_marks(&mut self, standing: &Standing) {
        for passed in standing.tracker.milestones() {
            self.add("milestone", passed.at, milestone(passed));
        }
        for seen in standing.tracker.issues() {
            self.add("issue", seen.first_at, issue(seen));
        }
    }

    /// All of it, oldest first; what happened at one moment in the order in which it was added.
    pub(super) fn items(mut self) -> Vec<Value> {
        self.0.sort_by_key(|(at, _)| *at);
        self.0.into_iter().map(|(_, line)| line).collect()
    }
}
