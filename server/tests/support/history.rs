//! What must be true of the history of every job, whatever happened to it.

use serde_json::{Value, json};

/// Checks one job against its events.
#[track_caller]
pub(crate) fn check(job: &Value, events: &[Value]) {
    let told = || format!("{job:#}\n{events:#?}");
    let (mut fence, mut holder, mut ended) = (0, None, false);
    for event in events {
        let arrows: Vec<_> = event["arrows"].as_array().expect("arrows").iter().collect();
        let takes = |arrow: &str| arrows.iter().any(|it| *it == arrow);
        assert!(
            !ended || takes("retry") || takes("redrive"),
            "something happened after the end: {}",
            told()
        );
        let before = std::mem::replace(&mut fence, event["fence"].as_i64().expect("a fence"));
        assert!(fence >= before, "the fence fell: {}", told());
        if takes("claim") {
            assert!(fence > before, "given out under an old fence: {}", told());
            holder = event["session"].as_str();
        } else if takes("adopt") {
            assert_eq!(fence, before, "a takeover with a new fence: {}", told());
            holder = event["session"].as_str();
        } else if event["session"].is_string() && !takes("discover") {
            assert_eq!(
                event["session"].as_str(),
                holder,
                "two sessions under one fence: {}",
                told()
            );
        }
        ended = ["completed", "failed", "cancelled"]
            .iter()
            .any(|state| event["state"] == *state);
        let ends = ["finish", "expire", "deadline", "cancel", "confirm", "force"];
        assert!(!ended || ends.into_iter().any(takes), "{}", told());
    }
    let last = events.last().expect("an event");
    for field in ["state", "fence", "attempt"] {
        assert_eq!(job[field], last[field], "{field}: {}", told());
    }
}

/// A history out of (arrows, state, fence, session), and the job at its end.
fn told(events: &[(&[&str], &str, i64, Option<&str>)]) -> (Value, Vec<Value>) {
    let event = |(arrows, state, fence, session): &(&[&str], &str, i64, Option<&str>)| json!({ "arrows": arrows, "state": state, "fence": fence, "attempt": 1, "session": session });
    let events: Vec<_> = events.iter().map(event).collect();
    (events[events.len() - 1].clone(), events)
}

const SUBMIT: (&[&str], &str, i64, Option<&str>) = (&["submit"], "queued", 0, None);
const CLAIM: (&[&str], &str, i64, Option<&str>) = (&["claim"], "assigned", 1, Some("a"));
const START: (&[&str], &str, i64, Option<&str>) = (&["start"], "running", 1, Some("a"));
const FINISH: (&[&str], &str, i64, Option<&str>) = (&["finish"], "completed", 1, Some("a"));

#[test]
fn a_lawful_life_passes() {
    let adopt: (&[&str], _, _, _) = (&["adopt"], "running", 1, Some("b"));
    for life in [
        &[SUBMIT][..],
        &[SUBMIT, CLAIM, START, FINISH],
        &[SUBMIT, CLAIM, START, adopt, (&["finish"], "completed", 1, Some("b"))],
        &[
            SUBMIT,
            CLAIM,
            START,
            (&["expire"], "queued", 2, Some("a")),
            (&["claim", "start"], "running", 3, Some("b")),
        ],
        &[
            SUBMIT,
            CLAIM,
            START,
            (&["want_cancel", "force"], "cancelled", 2, Some("a")),
            (&["retry"], "queued", 2, None),
            (&["claim"], "assigned", 3, Some("b")),
        ],
    ] {
        let (job, events) = told(life);
        check(&job, &events);
    }
}

#[test]
fn an_unlawful_one_does_not() {
    let lives = [
        ("a second end", &[SUBMIT, CLAIM, START, FINISH, FINISH][..]),
        (
            "a falling fence",
            &[SUBMIT, CLAIM, (&["expire"], "queued", 0, Some("a"))],
        ),
        (
            "given out twice",
            &[SUBMIT, CLAIM, (&["claim"], "assigned", 1, Some("b"))],
        ),
        (
            "a stranger",
            &[SUBMIT, CLAIM, START, (&["finish"], "completed", 1, Some("b"))],
        ),
        (
            "a stranger's loss",
            &[SUBMIT, CLAIM, (&["expire"], "queued", 2, Some("b"))],
        ),
        (
            "a takeover with a new fence",
            &[SUBMIT, CLAIM, (&["adopt"], "assigned", 2, Some("b"))],
        ),
        (
            "a life after the end",
            &[SUBMIT, CLAIM, START, FINISH, (&["claim"], "assigned", 2, Some("b"))],
        ),
        ("an end out of nothing", &[SUBMIT, (&["promote"], "completed", 0, None)]),
    ];
    for (what, life) in lives {
        let (job, events) = told(life);
        let passed = std::panic::catch_unwind(|| check(&job, &events)).is_ok();
        assert!(!passed, "{what} was not noticed");
    }
    let (job, events) = told(&[SUBMIT, CLAIM]);
    let other = json!({ "state": "queued", "fence": 1, "attempt": 1 });
    check(&job, &events);
    assert!(
        std::panic::catch_unwind(|| check(&other, &events)).is_err(),
        "another state than the last one"
    );
}
