//! Moments and spans of time, in words that a glance takes in.

use chrono::{DateTime, Utc};
use serde_json::Value;

/// A span, in the unit that suits it.
pub(crate) fn span(ms: u64) -> String {
    const SECOND: u64 = 1000;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    // Twice a unit is where the next one takes over: 90 s says more than 1 min.
    match ms {
        ms if ms < SECOND => format!("{ms} ms"),
        ms if ms < 2 * MINUTE => format!("{} s", ms / SECOND),
        ms if ms < 2 * HOUR => format!("{} min", ms / MINUTE),
        ms if ms < 2 * DAY => format!("{} h", ms / HOUR),
        ms => format!("{} d", ms / DAY),
    }
}

/// How long ago a moment of the API was; a dash where there is none.
pub(crate) fn age(at: &Value, now: DateTime<Utc>) -> String {
    match moment(at) {
        Some(at) => match u64::try_from((now - at).num_milliseconds()) {
            Ok(ms @ 1000..) => span(ms),
            _ => "now".to_owned(),
        },
        None => "-".to_owned(),
    }
}

/// The same in a sentence.
pub(crate) fn ago(at: &Value, now: DateTime<Utc>) -> String {
    match age(at, now).as_str() {
        "now" => "just now".to_owned(),
        age => format!("{age} ago"),
    }
}

/// A moment as the API writes it.
pub(crate) fn moment(at: &Value) -> Option<DateTime<Utc>> {
    let at = DateTime::parse_from_rfc3339(at.as_str()?).ok()?;
    Some(at.to_utc())
}

/// Now, for lines that stand below each other.
pub(crate) fn clock(now: DateTime<Utc>) -> String {
    now.format("%H:%M:%SZ").to_string()
}

/// When work ends, or why nobody can say.
pub(crate) fn eta(eta: &Value) -> Option<String> {
    if let Some(reason) = eta["none"].as_str() {
        let words = match reason {
            // Told by itself: it still discovers.
            "total_open" => return None,
            "too_early" => "too early for an estimate",
            "no_speed" => "nothing was processed yet",
            "too_far" => "more than a year left",
            "waiting" => "held up",
            "stalled" => "does not go forward",
            _ => return None,
        };
        return Some(words.to_owned());
    }
    let part = |name: &str| eta[name].as_f64().map(|ms| span(ms.max(0.0) as u64));
    let likely = part("likely_ms")?;
    let range = match (part("low_ms"), part("high_ms")) {
        (Some(low), Some(high)) if low != high => format!(" ({low} to {high})"),
        _ => String::new(),
    };
    Some(format!("{likely} left{range}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spans_are_in_a_unit_that_suits() {
        for (ms, words) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1 s"),
            (119_999, "119 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (172_800_000, "2 d"),
            (u64::MAX, "213503982334 d"),
        ] {
            assert_eq!(span(ms), words);
        }
    }

    #[test]
    fn ages_are_of_the_past() {
        let now = DateTime::parse_from_rfc3339("2026-11-21T10:00:00Z").unwrap().to_utc();
        for (at, words) in [
            (json!("2026-11-21T09:58:20.500Z"), "99 s"),
            (json!("2026-11-21T09:00:00Z"), "60 min"),
            (json!("2026-11-21T09:59:59.900Z"), "now"),
            (json!("2026-11-22T00:00:00Z"), "now"),
            (json!(null), "-"),
            (json!("soon"), "-"),
        ] {
            assert_eq!(age(&at, now), words, "{at}");
        }
    }

    #[test]
    fn an_estimate_is_a_range_or_a_reason() {
        let range = json!({ "low_ms": 60_000, "likely_ms": 90_000.5, "high_ms": 150_000 });
        assert_eq!(eta(&range).unwrap(), "90 s left (60 s to 2 min)");
        assert_eq!(
            eta(&json!({ "none": "no_speed" })).unwrap(),
            "nothing was processed yet"
        );
        assert_eq!(eta(&json!({ "none": "finished" })), None);
        assert_eq!(eta(&json!(null)), None);
    }
}
