//! One event, turned into text once for however many viewers.

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use axum::extract::ws::Utf8Bytes;

/// What an event tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Snapshot,
    Resync,
    Heartbeat,
    Job,
    Deleted,
    Progress,
    State,
    EntityDiscovered,
    EntityCompleted,
    Milestone,
    TreeMilestone,
    Stalled,
    Estimate,
    Aggregate,
    Statistics,
    Crawler,
    Error,
    Gate,
}

impl Kind {
    pub(super) const ALL: [Self; 18] = [
        Self::Snapshot,
        Self::Resync,
        Self::Heartbeat,
        Self::Job,
        Self::Deleted,
        Self::Progress,
        Self::State,
        Self::EntityDiscovered,
        Self::EntityCompleted,
        Self::Milestone,
        Self::TreeMilestone,
        Self::Stalled,
        Self::Estimate,
        Self::Aggregate,
        Self::Statistics,
        Self::Crawler,
        Self::Error,
        Self::Gate,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Resync => "resync",
            Self::Heartbeat => "heartbeat",
            Self::Job => "job",
            Self::Deleted => "deleted",
            Self::Progress => "progress",
            Self::State => "state",
            Self::EntityDiscovered => "entity_discovered",
            Self::EntityCompleted => "entity_completed",
            Self::Milestone => "milestone",
            Self::TreeMilestone => "tree_milestone",
            Self::Stalled => "stalled",
            Self::Estimate => "estimate",
            Self::Aggregate => "aggregate",
            Self::Statistics => "statistics",
            Self::Crawler => "crawler",
            Self::Error => "error",
            Self::Gate => "gate",
        }
    }
}

/// Where a job belongs: what viewers choose by. As far as it is known; a viewer of a tree is not told of a job whose tree
/// nobody knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The job's public id.
    pub(super) job: String,
    /// The public id of the job at the top of its tree.
    pub(super) root: Option<String>,
    /// The account's name.
    pub(super) account: Option<String>,
}

/// Whom an event concerns.
#[derive(Debug, Clone)]
pub(super) enum About {
    /// Everybody, whatever they look at.
    All,
    /// Those who look at everything.
    Whole,
    /// Those who look at this job, its tree or its account.
    Job(Arc<Place>),
}

/// What a later event of the same kind takes the place of: a job, a crawler, or 0 where there is one thing only.
pub(super) type Slot = (Kind, i64);

/// An event that has no number yet.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) kind: Kind,
    pub(super) about: About,
    /// None when every event of the kind counts.
    pub(super) of: Option<i64>,
    /// JSON, on one line.
    pub(super) data: String,
}

/// An event with its number.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) n: u64,
    pub(super) kind: Kind,
    pub(super) about: About,
    pub(super) slot: Option<Slot>,
    /// As it is sent as a server-sent event.
    pub(super) sse: Bytes,
    id: String,
    /// As it is sent over a WebSocket; made for the first viewer who has one.
    ws: OnceLock<Utf8Bytes>,
}

impl Frame {
    pub(super) fn new(run: &str, n: u64, draft: Draft) -> Self {
        let Draft { kind, about, of, data } = draft;
        let id = id(run, n);
        let sse = format!("{ID}{id}\n{EVENT}{}\n{DATA}{data}\n\n", kind.as_str());
        Self {
            n,
            kind,
            about,
            slot: of.map(|of| (kind, of)),
            sse: sse.into(),
            id,
            ws: OnceLock::new(),
        }
    }

    /// The data, as JSON.
    pub(super) fn data(&self) -> &str {
        let before = ID.len() + self.id.len() + EVENT.len() + self.kind.as_str().len() + DATA.len() + 2;
        // It was a text before, and nothing was cut but whole lines.
        std::str::from_utf8(&self.sse[before..self.sse.len() - 2]).unwrap_or("null")
    }

    pub(super) fn ws(&self) -> Utf8Bytes {
        let text = || {
            let (event, data) = (self.kind.as_str(), self.data());
            format!(r#"{{"id":"{}","event":"{event}","data":{data}}}"#, self.id).into()
        };
        self.ws.get_or_init(text).clone()
    }

    /// What it costs to keep it.
    pub(super) fn bytes(&self) -> usize {
        self.sse.len()
    }
}

const ID: &str = "id: ";
const EVENT: &str = "event: ";
const DATA: &str = "data: ";

/// The name of an event: which run of the server, and which of its events.
pub(super) fn id(run: &str, n: u64) -> String {
    format!("{run}-{n}")
}

/// The number in the name of an event of this run.
pub(super) fn number(run: &str, id: &str) -> Option<u64> {
    id.strip_prefix(run)?.strip_prefix('-')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let hostile = json!({ "name": "a\nb\r\n\ndata: c\u{2028}\u{0}\"é" });
        let frame = Frame::new(
            "run",
            17,
            Draft {
                kind: Kind::EntityDiscovered,
                about: About::All,
                of: None,
                data: hostile.to_string(),
            },
        );
        let text = std::str::from_utf8(&frame.sse).unwrap();
        let lines: Vec<_> = text.split('\n').collect();
        assert_eq!(lines[..2], ["id: run-17", "event: entity_discovered"]);
        assert_eq!(lines[3..], ["", ""]);
        assert!(!text.contains('\r'));
        let data: Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data, hostile);
        let message: Value = serde_json::from_str(&frame.ws()).unwrap();
        assert_eq!(
            message,
            json!({ "id": "run-17", "event": "entity_discovered", "data": hostile })
        );
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let names = Kind::ALL.map(Kind::as_str);
        assert_eq!(BTreeSet::from(names).len(), names.len());
        assert_eq!(number("run", &id("run", 17)), Some(17));
        for other in ["run", "run-", "run-x", "other-17", "run-17-1", "run--1", ""] {
            assert_eq!(number("run", other), None, "{other}");
        }
    }
}
