//! The checker passes what is lawful and finds each kind of violation.

use std::collections::BTreeMap;

use crate::checker::{Acknowledged, Limits, stuck, violations};
use crate::tables::{EventRow, JobRow, SessionRow, Tables};

/// Arrows, state after, fence after, attempt after, session.
type Step = (&'static str, &'static str, i64, i32, &'static str);

const SUBMIT: Step = ("submit", "queued", 0, 0, "");
const CLAIM: Step = ("claim", "assigned", 1, 0, "a");
const START: Step = ("start", "running", 1, 1, "a");
const FINISH: Step = ("finish", "completed", 1, 1, "a");

/// A database with one job that went these steps.
fn life(steps: &[Step]) -> Tables {
    let event = |(arrows, status, fence, attempt, session): &Step| EventRow {
        job_id: 1,
        at: 0,
        arrows: (*arrows).to_owned(),
        status: (*status).to_owned(),
        fence: *fence,
        attempt: *attempt,
        session: Some((*session).to_owned()).filter(|name| !name.is_empty()),
    };
    let events: Vec<_> = steps.iter().map(event).collect();
    let last = events.last().expect("a step");
    let session = |id: i64, name: &str| SessionRow {
        id,
        name: name.to_owned(),
        lease_expires_at: 0,
    };
    let leased = matches!(last.status.as_str(), "assigned" | "running");
    let holder = last
        .session
        .as_deref()
        .map_or(1, |name| if name == "b" { 2 } else { 1 });
    let job = JobRow {
        id: 1,
        public_id: "j".to_owned(),
        web_app_job_id: "w".to_owned(),
        identity: "i".to_owned(),
        root_id: 1,
        status: last.status.clone(),
        fence: last.fence,
        attempt: last.attempt,
        session_id: leased.then_some(holder),
        ..JobRow::default()
    };
    Tables {
        counts: BTreeMap::from([(job.status.clone(), 1)]),
        jobs: vec![job],
        events,
        sessions: vec![session(1, "a"), session(2, "b")],
    }
}

/// Every job of a tree: the one of [`life`], and children of it.
fn family(entities: &[&str]) -> Tables {
    let mut tables = life(&[SUBMIT, CLAIM, START]);
    for (index, entity) in entities.iter().enumerate() {
        let id = index as i64 + 2;
        tables.jobs.push(JobRow {
            id,
            public_id: format!("c{id}"),
            web_app_job_id: format!("c{id}"),
            identity: format!("i{id}"),
            parent_id: Some(1),
            root_id: 1,
            job_type: "crawl_user".to_owned(),
            entity_id: Some((*entity).to_owned()),
            status: "queued".to_owned(),
            ..JobRow::default()
        });
        let mut event = tables.events[0].clone();
        (event.job_id, event.arrows) = (id, "discover".to_owned());
        tables.events.push(event);
    }
    let count = entities.len() as i64;
    (tables.jobs[0].children, tables.jobs[0].tree_jobs) = (count, count);
    tables.counts.insert("queued".to_owned(), count);
    tables
}

fn wrong(tables: &Tables) -> Vec<String> {
    violations(tables, &Acknowledged::new())
}

#[test]
fn lawful_lives_pass() {
    let lives: &[&[Step]] = &[
        &[SUBMIT],
        &[SUBMIT, CLAIM, START, FINISH],
        &[("submit,claim,start,finish", "completed", 1, 1, "a")],
        &[
            SUBMIT,
            CLAIM,
            START,
            ("adopt", "running", 1, 1, "b"),
            ("finish", "failed", 1, 1, "b"),
        ],
        &[
            SUBMIT,
            CLAIM,
            START,
            ("expire", "queued", 2, 1, "a"),
            ("claim,start", "running", 3, 2, "b"),
        ],
        &[
            SUBMIT,
            CLAIM,
            START,
            ("finish", "delayed", 1, 1, "a"),
            ("promote", "queued", 1, 1, ""),
        ],
        &[SUBMIT, CLAIM, START, ("deadline,promote", "queued", 2, 1, "a")],
        &[
            SUBMIT,
            CLAIM,
            ("release", "paused", 2, 0, "a"),
            ("redrive", "queued", 2, 0, ""),
        ],
        &[
            SUBMIT,
            CLAIM,
            ("want_cancel,force", "cancelled", 2, 0, "a"),
            ("retry", "queued", 2, 0, ""),
        ],
        &[
            SUBMIT,
            CLAIM,
            START,
            ("want_pause", "running", 1, 1, ""),
            ("confirm", "paused", 1, 1, "a"),
        ],
        &[
            SUBMIT,
            CLAIM,
            START,
            ("want_pause", "running", 1, 1, ""),
            ("expire", "paused", 2, 1, "a"),
        ],
        &[
            SUBMIT,
            CLAIM,
            START,
            ("want_cancel", "running", 1, 1, ""),
            ("finish", "completed", 1, 1, "a"),
        ],
        &[
            SUBMIT,
            CLAIM,
            START,
            ("want_pause,resume,set_priority", "running", 1, 1, ""),
            FINISH,
        ],
        &[
            SUBMIT,
            ("pause", "paused", 0, 0, ""),
            ("resume", "queued", 0, 0, ""),
            ("cancel", "cancelled", 0, 0, ""),
        ],
    ];
    for steps in lives {
        assert_eq!(wrong(&life(steps)), Vec::<String>::new());
    }
    assert_eq!(wrong(&family(&["x", "y"])), Vec::<String>::new());
}

#[test]
fn unlawful_lives_do_not() {
    let lives: &[(&str, &[Step])] = &[
        ("start out of queued", &[SUBMIT, ("start", "running", 0, 1, "a")]),
        ("promote out of queued", &[SUBMIT, ("promote", "queued", 0, 0, "")]),
        ("claim out of none", &[CLAIM]),
        ("melt out of queued", &[SUBMIT, ("melt", "queued", 0, 0, "")]),
        (
            "does not lead to completed",
            &[SUBMIT, CLAIM, ("release", "completed", 2, 0, "a")],
        ),
        // An end is an end.
        ("finish out of completed", &[SUBMIT, CLAIM, START, FINISH, FINISH]),
        (
            "claim out of completed",
            &[SUBMIT, CLAIM, START, FINISH, ("claim", "assigned", 2, 1, "b")],
        ),
        (
            "retry out of completed",
            &[SUBMIT, CLAIM, START, FINISH, ("retry", "queued", 1, 1, "")],
        ),
        // Fences.
        ("should lead to fence 1 ", &[SUBMIT, ("claim", "assigned", 0, 0, "a")]),
        ("should lead to fence 1 ", &[SUBMIT, ("claim", "assigned", 2, 0, "a")]),
        (
            "should lead to fence 2 ",
            &[SUBMIT, CLAIM, ("expire", "queued", 0, 0, "a")],
        ),
        (
            "should lead to fence 2 ",
            &[SUBMIT, CLAIM, ("release", "queued", 1, 0, "a")],
        ),
        (
            "should lead to fence 1 ",
            &[SUBMIT, CLAIM, ("adopt", "assigned", 2, 0, "b")],
        ),
        (
            "should lead to fence 1 ",
            &[SUBMIT, CLAIM, START, ("finish", "completed", 2, 1, "a")],
        ),
        (
            "should lead to fence 2 ",
            &[SUBMIT, CLAIM, ("want_cancel,force", "cancelled", 1, 0, "a")],
        ),
        // Attempts.
        ("and attempt 1", &[SUBMIT, CLAIM, ("start", "running", 1, 0, "a")]),
        ("and attempt 1", &[SUBMIT, CLAIM, ("start", "running", 1, 2, "a")]),
        ("and attempt 0", &[SUBMIT, ("claim", "assigned", 1, 1, "a")]),
        // Holders.
        (
            "while Some(\"a\") holds it",
            &[SUBMIT, CLAIM, START, ("finish", "completed", 1, 1, "b")],
        ),
        (
            "while Some(\"a\") holds it",
            &[SUBMIT, CLAIM, ("start", "running", 1, 1, "b")],
        ),
        (
            "while Some(\"a\") holds it",
            &[SUBMIT, CLAIM, ("expire", "queued", 2, 0, "b")],
        ),
        (
            "claim out of assigned",
            &[SUBMIT, CLAIM, ("claim", "assigned", 2, 0, "b")],
        ),
        // Nobody is ended or held back without a wish, and a wish does not outlive its lease.
        (
            "does not lead to cancelled",
            &[SUBMIT, CLAIM, START, ("finish", "cancelled", 1, 1, "a")],
        ),
        (
            "does not lead to paused",
            &[SUBMIT, CLAIM, START, ("deadline", "paused", 2, 1, "a")],
        ),
        (
            "force out of assigned",
            &[SUBMIT, CLAIM, ("force", "cancelled", 2, 0, "a")],
        ),
        (
            "does not lead to paused",
            &[SUBMIT, CLAIM, ("want_cancel,force", "paused", 2, 0, "a")],
        ),
        (
            "does not lead to cancelled",
            &[
                SUBMIT,
                CLAIM,
                ("want_cancel,release", "queued", 2, 0, "a"),
                ("claim,start", "running", 3, 1, "b"),
                ("finish", "cancelled", 3, 1, "b"),
            ],
        ),
    ];
    for (what, steps) in lives {
        let wrong = wrong(&life(steps));
        assert!(
            wrong.len() == 1 && wrong[0].contains(what),
            "`{what}` was not noticed: {wrong:#?}"
        );
    }
}

/// Changes one thing, and expects to be told of it.
#[track_caller]
fn noticed(what: &str, mut tables: Tables, change: impl FnOnce(&mut Tables)) {
    assert_eq!(wrong(&tables), Vec::<String>::new());
    change(&mut tables);
    let wrong = wrong(&tables);
    assert!(
        wrong.iter().any(|one| one.contains(what)),
        "`{what}` was not noticed: {wrong:#?}"
    );
}

#[test]
fn a_row_that_does_not_fit_its_history_is_found() {
    let running = || life(&[SUBMIT, CLAIM, START]);
    noticed("the row says assigned", running(), |tables| {
        tables.jobs[0].status = "assigned".to_owned()
    });
    noticed("the row says running, fence 2", running(), |tables| {
        tables.jobs[0].fence = 2
    });
    noticed("attempt 2", running(), |tables| tables.jobs[0].attempt = 2);
    noticed("running with session None", running(), |tables| {
        tables.jobs[0].session_id = None
    });
    noticed("the row is held by b", running(), |tables| {
        tables.jobs[0].session_id = Some(2)
    });
    noticed("it has no history", running(), |tables| tables.events.clear());
    noticed("events of job row 1", running(), |tables| tables.jobs.clear());
    noticed("counted were", running(), |tables| {
        *tables.counts.entry("queued".to_owned()).or_default() += 1
    });
    noticed("counted were", running(), |tables| tables.counts.clear());
}

#[test]
fn relatives_that_are_there_twice_or_uncounted_are_found() {
    let two = || family(&["x", "y"]);
    noticed("is there twice", two(), |tables| {
        tables.jobs[2].identity = "i2".to_owned()
    });
    noticed("is twice in one crawl", two(), |tables| {
        tables.jobs[2].entity_id = Some("x".to_owned())
    });
    noticed("has 2 children", two(), |tables| tables.jobs[0].children = 3);
    noticed("2 jobs below it", two(), |tables| tables.jobs[0].tree_jobs = 1);
    let mut other_type = two();
    (other_type.jobs[2].entity_id, other_type.jobs[2].job_type) = (Some("x".to_owned()), "crawl_group".to_owned());
    assert_eq!(wrong(&other_type), Vec::<String>::new());
}

#[test]
fn what_was_acknowledged_must_be_there() {
    let tables = life(&[SUBMIT]);
    let told = |name: &str, id: &str| Acknowledged::from([(name.to_owned(), id.to_owned())]);
    assert!(violations(&tables, &told("w", "j")).is_empty());
    assert!(violations(&tables, &told("w", "other"))[0].contains("acknowledged as other"));
    assert!(violations(&tables, &told("lost", "j"))[0].contains("lost was acknowledged"));
}

#[test]
fn what_time_forgot_is_found() {
    let limits = Limits {
        accept: 100,
        notice: 50,
        quiet: 1000,
    };
    let stuck_at = |tables: &Tables, now: i64| stuck(tables, now, &limits).join("");
    let mut held = life(&[SUBMIT, CLAIM]);
    held.jobs[0].assigned_at = Some(0);
    held.sessions[0].lease_expires_at = 120;
    assert_eq!(stuck_at(&held, 150), "");
    assert!(stuck_at(&held, 151).contains("nobody began"));
    assert!(stuck_at(&held, 171).contains("its lease is over"));
    held.sessions.clear();
    assert!(stuck_at(&held, 0).contains("its lease is over"));

    let mut running = life(&[SUBMIT, CLAIM, START]);
    running.jobs[0].deadline = Some(10);
    running.sessions[0].lease_expires_at = 1000;
    assert_eq!(stuck_at(&running, 60), "");
    assert!(stuck_at(&running, 61).contains("it ran too long"));

    let mut delayed = life(&[SUBMIT, CLAIM, START, ("finish", "delayed", 1, 1, "a")]);
    delayed.jobs[0].run_at = Some(10);
    assert_eq!(stuck_at(&delayed, 60), "");
    assert!(stuck_at(&delayed, 61).contains("its time has come"));

    let queued = life(&[SUBMIT]);
    assert_eq!(stuck_at(&queued, 1000), "");
    assert!(stuck_at(&queued, 1001).contains("nothing happens"));
    for end in [
        &[SUBMIT, CLAIM, START, FINISH][..],
        &[SUBMIT, ("pause", "paused", 0, 0, "")],
    ] {
        assert_eq!(stuck_at(&life(end), 1_000_000), "");
    }
}
