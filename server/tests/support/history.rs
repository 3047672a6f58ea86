//! What must be true of the history of every job, whatever happened to it.

use serde_json::Value;

/// Checks one job against its events.
#[track_caller]
pub(crate) fn check(job: &Value, events: &[Value]) {
    let told = || format!("{job:#}\n{events:#?}");
    let (mut fence, mut holder, mut ended) = (0, None, false);
    for event in events {
        let arrows: Vec<_> = event["arrows"].as_array().expect("arrows").iter().collect();
        let takes = |arrow: &str| arrows.iter().any(|it| *it == arrow);
        assert!(!ended, "something happened after the end: {}", told());
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
        assert!(
            !ended || takes("finish") || takes("expire") || takes("deadline"),
            "{}",
            told()
        );
    }
    let last = events.last().expect("an event");
    for field in ["state", "fence", "attempt"] {
        assert_eq!(job[field], last[field], "{field}: {}", told());
    }
}
