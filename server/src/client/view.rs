//! Jobs and their progress in words.

use serde_json::Value;

use super::paint::colour_of;
use super::table::Cell;
use super::time::eta;

/// A text of a document; empty where there is none.
pub(crate) fn text<'a>(document: &'a Value, field: &str) -> &'a str {
    document[field].as_str().unwrap_or_default()
}

/// The same, with a dash where there is none.
pub(crate) fn or_dash<'a>(document: &'a Value, field: &str) -> &'a str {
    match text(document, field) {
        "" => "-",
        text => text,
    }
}

/// A number of a document.
pub(crate) fn number(document: &Value, field: &str) -> u64 {
    document[field].as_u64().unwrap_or(0)
}

/// The items of a list, or of an array.
pub(crate) fn items(document: &Value) -> &[Value] {
    let items = document["items"].as_array().or_else(|| document.as_array());
    items.map_or(&[], Vec::as_slice)
}

/// Where a job is: its state, and what else one has to know of it.
pub(crate) fn state(job: &Value) -> String {
    let state = match text(job, "state") {
        "" => text(job, "status"),
        state => state,
    };
    match (job["want"]["want"].as_str(), text(job, "pause_reason")) {
        (Some(want), _) => format!("{state}, {want} wanted"),
        (None, "quarantined") => format!("{state}, quarantined"),
        _ => state.to_owned(),
    }
}

pub(crate) fn state_cell(job: &Value) -> Cell {
    let colour = colour_of(match text(job, "state") {
        "" => text(job, "status"),
        state => state,
    });
    Cell::coloured(&state(job), colour)
}

/// A word in the colour of its meaning.
pub(crate) fn word_cell(word: &str) -> Cell {
    Cell::coloured(word, colour_of(word))
}

/// What a job is about.
pub(crate) fn subject(job: &Value) -> &str {
    let names = ["namespace_path", "entity_name", "entity_id"];
    names
        .iter()
        .map(|name| text(job, name))
        .find(|text| !text.is_empty())
        .unwrap_or("-")
}

/// How far a job is, in a word: a part of the whole where that is known, else what was done of what was found.
pub(crate) fn done(progress: &Value) -> String {
    let part = |field: &str| progress[field].as_f64().map(percent);
    match text(&progress["total"], "kind") {
        "known" | "estimate" => part("completion").unwrap_or_default(),
        "at_least" => format!(
            "{} of {}+",
            number(progress, "done"),
            number(&progress["total"], "items")
        ),
        // The crawler's own word, where it says anything; all of it is not what it can know while it discovers.
        _ => match progress["overall_completion"].as_f64() {
            Some(said) if said > 0.0 && said < 1.0 => percent(said),
            _ => "-".to_owned(),
        },
    }
}

/// How far a job is and when it ends; none when nobody has said anything. What is still to be discovered is said apart from
/// what is done of it.
pub(crate) fn progress_words(progress: &Value) -> Option<String> {
    let done = done(progress);
    let mut words = match (progress["discovering"] == true, done.as_str()) {
        (true, "-") => vec!["still discovering".to_owned()],
        (true, done) => vec![format!("still discovering, {done} so far")],
        (false, "-") => return None,
        (false, _) => vec![done],
    };
    words.extend(
        progress["activity"]
            .as_str()
            .filter(|it| *it != "running")
            .map(str::to_owned),
    );
    words.extend(eta(&progress["eta"]));
    Some(words.join(", "))
}

/// A part of the whole; never more than it is.
pub(crate) fn percent(part: f64) -> String {
    format!("{} %", (part.clamp(0.0, 1.0) * 100.0).floor())
}

/// A number with its noun.
pub(crate) fn many(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_state_says_what_is_wanted() {
        assert_eq!(state(&json!({ "status": "queued", "state": "delayed" })), "delayed");
        let wanted = json!({ "state": "running", "want": { "want": "cancel" } });
        assert_eq!(state(&wanted), "running, cancel wanted");
        let quarantined = json!({ "state": "paused", "want": null, "pause_reason": "quarantined" });
        assert_eq!(state(&quarantined), "paused, quarantined");
    }

    #[test]
    fn what_is_done_is_never_more_than_it_is() {
        let of = |kind: &str| json!({ "completion": 0.999, "overall_completion": 0.4, "done": 12, "total": { "kind": kind, "items": 30 } });
        assert_eq!(done(&of("known")), "99 %");
        assert_eq!(done(&of("at_least")), "12 of 30+");
        assert_eq!(done(&of("unknown")), "40 %");
        assert_eq!(done(&json!(null)), "-");
    }
}
