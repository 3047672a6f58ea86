//! What must be true of all jobs and their histories, whatever happened to them.

use std::collections::{BTreeMap, BTreeSet};

use crate::tables::{EventRow, JobRow, Tables};

/// Arrow, states before, states after (`=`: the same), how far the fence rises, and the wish that must be open.
///
/// Only `start` spends an attempt. An arrow that is not here is unlawful. That a job ends once under one fence, and that
/// nothing happens after its end, follows: out of an end only `retry` and `redrive` lead, and then there is a new claim.
type Rule = (&'static str, &'static str, &'static str, i64, &'static str);

#[rustfmt::skip]
const RULES: &[Rule] = &[
    ("submit",       "none",                       "queued delayed",               0, ""),
    ("discover",     "none",                       "queued delayed",               0, ""),
    ("promote",      "delayed",                    "queued",                       0, ""),
    ("claim",        "queued",                     "assigned",                     1, ""),
    ("start",        "assigned",                   "running",                      0, ""),
    ("adopt",        "assigned running",           "=",                            0, ""),
    ("finish",       "running",                    "completed failed delayed",     0, ""),
    ("finish",       "running",                    "cancelled",                    0, "cancel"),
    ("finish",       "running",                    "paused",                       0, "pause"),
    // Given out too often in vain, a job is put aside.
    ("release",      "assigned",                   "queued paused",                1, ""),
    ("release",      "assigned",                   "cancelled",                    1, "cancel"),
    ("expire",       "assigned",                   "queued paused",                1, ""),
    ("expire",       "running",                    "queued failed",                1, ""),
    ("expire",       "assigned running",           "cancelled",                    1, "cancel"),
    ("expire",       "running",                    "paused",                       1, "pause"),
    ("deadline",     "running",                    "delayed failed",               1, ""),
    ("deadline",     "running",                    "cancelled",                    1, "cancel"),
    ("deadline",     "running",                    "paused",                       1, "pause"),
    ("want_cancel",  "assigned running",           "=",                            0, ""),
    ("want_pause",   "assigned running",           "=",                            0, ""),
    ("confirm",      "assigned running",           "cancelled",                    0, "cancel"),
    ("confirm",      "assigned running",           "paused",                       0, "pause"),
    ("force",        "assigned running",           "cancelled",                    1, "cancel"),
    ("force",        "assigned running",           "paused",                       1, "pause"),
    ("cancel",       "delayed queued paused",      "cancelled",                    0, ""),
    ("pause",        "delayed queued",             "paused",                       0, ""),
    ("resume",       "paused",                     "queued delayed",               0, ""),
    ("resume",       "assigned running",           "=",                            0, "pause"),
    ("retry",        "failed cancelled",           "queued",                       0, ""),
    ("redrive",      "paused failed",              "queued",                       0, ""),
    ("set_priority", "delayed queued assigned running paused", "=",                0, ""),
];

/// Arrows that only the holder of a job can take or suffer.
const HOLDERS: [&str; 6] = ["start", "finish", "release", "expire", "deadline", "confirm"];

/// Submissions that the web app was told of: its own name for each, and the id it was given.
pub(crate) type Acknowledged = BTreeMap<String, String>;

/// Fails with everything that is wrong.
#[track_caller]
pub(crate) fn check(tables: &Tables, acknowledged: &Acknowledged) {
    let wrong = violations(tables, acknowledged);
    let shown = wrong.iter().take(10).map(|one| format!("\n- {one}"));
    assert!(
        wrong.is_empty(),
        "{} violations{}",
        wrong.len(),
        shown.collect::<String>()
    );
}

/// Everything that is wrong.
pub(crate) fn violations(tables: &Tables, acknowledged: &Acknowledged) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut histories: BTreeMap<i64, Vec<&EventRow>> = BTreeMap::new();
    for event in &tables.events {
        histories.entry(event.job_id).or_default().push(event);
    }
    for job in &tables.jobs {
        let history = histories.remove(&job.id).unwrap_or_default();
        if let Err(what) = lawful(job, &history, tables) {
            wrong.push(format!("job {}: {what}\n{}", job.public_id, told(&history)));
        }
    }
    let strangers = histories
        .keys()
        .map(|id| format!("events of job row {id}, which is not there"));
    wrong.extend(strangers);
    acknowledged_exist(tables, acknowledged, &mut wrong);
    relatives(tables, &mut wrong);
    counted(tables, &mut wrong);
    wrong
}

fn told(history: &[&EventRow]) -> String {
    let line = |event: &&EventRow| {
        let EventRow {
            at,
            arrows,
            status,
            fence,
            attempt,
            session,
            ..
        } = event;
        format!("    {at} {arrows} -> {status}, fence {fence}, attempt {attempt}, {session:?}\n")
    };
    history.iter().map(line).collect()
}

/// A state, and the wish that is open in it.
type Standing = (String, &'static str);

/// Where a job may stand after one arrow.
fn after(standing: &Standing, arrow: &str) -> Vec<Standing> {
    let (state, wish) = standing;
    let fits = |rule: &&Rule| {
        let (name, from, _, _, needs) = rule;
        *name == arrow && from.split(' ').any(|from| from == state) && (needs.is_empty() || needs == wish)
    };
    let mut standings = Vec::new();
    for (_, _, to, ..) in RULES.iter().filter(fits) {
        for to in to.split(' ') {
            let to = if to == "=" { state } else { to };
            let leased = matches!(to, "assigned" | "running");
            let wish = match arrow {
                "want_cancel" => "cancel",
                "want_pause" => "pause",
                "resume" => "",
                _ if leased => wish,
                _ => "",
            };
            standings.push((to.to_owned(), wish));
        }
    }
    standings
}

fn fence_rise(arrow: &str) -> i64 {
    let rule = RULES.iter().find(|(name, ..)| *name == arrow);
    rule.map_or(0, |(_, _, _, rise, _)| *rise)
}

/// Replays a life, arrow by arrow. A row tells the state after the last of its arrows only; so all states that the
/// arrows before may have led to are carried along.
fn lawful(job: &JobRow, history: &[&EventRow], tables: &Tables) -> Result<(), String> {
    let mut standings: BTreeSet<Standing> = BTreeSet::from([("none".to_owned(), "")]);
    let (mut fence, mut attempt) = (0, 0);
    let mut holder: Option<&str> = None;
    for event in history {
        for arrow in event.arrows.split(',') {
            let before = std::mem::take(&mut standings);
            standings = before.iter().flat_map(|standing| after(standing, arrow)).collect();
            if standings.is_empty() {
                let before: Vec<_> = before.iter().map(|(state, _)| state.as_str()).collect();
                return Err(format!("{arrow} out of {}", before.join(" or ")));
            }
            fence += fence_rise(arrow);
            attempt += i32::from(arrow == "start");
        }
        if (event.fence, event.attempt) != (fence, attempt) {
            return Err(format!(
                "{} should lead to fence {fence} and attempt {attempt}",
                event.arrows
            ));
        }
        standings.retain(|(state, _)| *state == event.status);
        if standings.is_empty() {
            return Err(format!("{} does not lead to {}", event.arrows, event.status));
        }
        held_by_one(event, &mut holder)?;
    }
    let last = history.last().ok_or("it has no history")?;
    if (job.status.as_str(), job.fence, job.attempt) != (&last.status, last.fence, last.attempt) {
        return Err(format!(
            "the row says {}, fence {}, attempt {}",
            job.status, job.fence, job.attempt
        ));
    }
    holder_is_known(job, holder, tables)
}

/// Under one fence nobody speaks for a job but who was given it, or who took it over.
fn held_by_one<'a>(event: &'a EventRow, holder: &mut Option<&'a str>) -> Result<(), String> {
    let takes = |wanted: &[&str]| event.arrows.split(',').any(|arrow| wanted.contains(&arrow));
    if takes(&["claim", "adopt"]) {
        *holder = event.session.as_deref();
    } else if takes(&HOLDERS) && event.session.as_deref() != *holder {
        // A session that was forgotten has no name any more.
        if let Some(session) = &event.session {
            return Err(format!("{} by {session}, while {holder:?} holds it", event.arrows));
        }
    }
    Ok(())
}

/// The session of the row is the one that history names.
fn holder_is_known(job: &JobRow, holder: Option<&str>, tables: &Tables) -> Result<(), String> {
    if job.session_id.is_some() != job.is_leased() {
        return Err(format!("{} with session {:?}", job.status, job.session_id));
    }
    let Some(session) = job.session_id else { return Ok(()) };
    match tables.sessions.iter().find(|row| row.id == session) {
        Some(row) if Some(row.name.as_str()) != holder => {
            Err(format!("the row is held by {}, history says {holder:?}", row.name))
        }
        _ => Ok(()),
    }
}

/// What the web app was told to be there is there, once, under the id that it was told.
fn acknowledged_exist(tables: &Tables, acknowledged: &Acknowledged, wrong: &mut Vec<String>) {
    let by_name: BTreeMap<_, _> = tables
        .jobs
        .iter()
        .map(|job| (&job.web_app_job_id, &job.public_id))
        .collect();
    for (name, id) in acknowledged {
        if by_name.get(name) != Some(&id) {
            wrong.push(format!(
                "{name} was acknowledged as {id} and is {:?}",
                by_name.get(name)
            ));
        }
    }
}

/// Nobody is there twice, and parents and roots know how many there are below them.
fn relatives(tables: &Tables, wrong: &mut Vec<String>) {
    let (mut identities, mut places) = (BTreeSet::new(), BTreeSet::new());
    let (mut children, mut trees): (BTreeMap<i64, i64>, BTreeMap<i64, i64>) = Default::default();
    for job in &tables.jobs {
        if !identities.insert(&job.identity) {
            wrong.push(format!("the identity of {} is there twice", job.public_id));
        }
        let Some(parent) = job.parent_id else { continue };
        *children.entry(parent).or_default() += 1;
        *trees.entry(job.root_id).or_default() += 1;
        if !places.insert((&job.generation, &job.host, &job.job_type, &job.entity_id)) {
            wrong.push(format!("{} {:?} is twice in one crawl", job.job_type, job.entity_id));
        }
    }
    for job in &tables.jobs {
        let children = children.get(&job.id).copied().unwrap_or(0);
        let below = trees.get(&job.id).copied().unwrap_or(0);
        if (job.children, job.tree_jobs) != (children, below) {
            wrong.push(format!(
                "{} has {children} children and {below} jobs below it, and counts {} and {}",
                job.public_id, job.children, job.tree_jobs
            ));
        }
    }
}

/// The counts by status are those of the rows.
fn counted(tables: &Tables, wrong: &mut Vec<String>) {
    let mut real: BTreeMap<&str, i64> = BTreeMap::new();
    for job in &tables.jobs {
        *real.entry(&job.status).or_default() += 1;
    }
    let told = tables.counts.iter().filter(|(_, jobs)| **jobs != 0);
    let told: BTreeMap<&str, i64> = told.map(|(status, jobs)| (status.as_str(), *jobs)).collect();
    if real != told {
        wrong.push(format!("there are {real:?}, and counted were {told:?}"));
    }
}

/// How long things may take. Milliseconds.
pub(crate) struct Limits {
    /// An assignment may wait so long for its start.
    pub(crate) accept: i64,
    /// What time demands is done within this: two sweeps, and what a busy machine adds.
    pub(crate) notice: i64,
    /// While anything is queued and crawlers are free, something happens at least this often.
    pub(crate) quiet: i64,
}

/// Jobs that time has forgotten: that stand where they are longer than anything allows.
pub(crate) fn stuck(tables: &Tables, now: i64, limits: &Limits) -> Vec<String> {
    let past = |moment: Option<i64>| moment.is_none_or(|moment| moment + limits.notice < now);
    let lease = |job: &JobRow| {
        let session = tables
            .sessions
            .iter()
            .find(|session| Some(session.id) == job.session_id);
        session.map(|session| session.lease_expires_at)
    };
    let newest = tables.events.iter().map(|event| event.at).max();
    let reason = |job: &JobRow| match job.status.as_str() {
        "delayed" => past(job.run_at).then_some("its time has come"),
        "assigned" | "running" if past(lease(job)) => Some("its lease is over"),
        "assigned" => past(job.assigned_at.map(|at| at + limits.accept)).then_some("nobody began"),
        "running" => past(job.deadline).then_some("it ran too long"),
        "queued" => newest
            .is_none_or(|newest| newest + limits.quiet < now)
            .then_some("nothing happens"),
        _ => None,
    };
    let told = |job: &JobRow| Some(format!("{} is {}, and {}", job.public_id, job.status, reason(job)?));
    tables.jobs.iter().filter_map(told).collect()
}
