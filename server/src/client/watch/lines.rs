//! A line for each change, for files and pipes.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::View;
use super::sight::{Change, Seen, Sight};
use crate::client::console::Console;
use crate::client::server::Trouble;
use crate::client::stream::Event;
use crate::client::text::shown;
use crate::client::view::{many, number, percent, progress_words, text};

/// A job's progress is told no more often than this.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Lines for people.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// What was said of a job's progress, and when. Those of jobs that ended are forgotten.
    said: BTreeMap<String, (Instant, String)>,
}

impl Lines {
    fn words(&mut self, change: &Change, sight: &Sight) -> Option<String> {
        Some(match change {
            Change::State { id, name, state, error } => {
                if !sight.jobs.contains_key(id) {
                    self.said.remove(id);
                }
                let error = error.as_ref().map(|error| format!(": {error}"));
                format!("{id} {name} {state}{}", error.unwrap_or_default())
            }
            Change::Progress { id } => self.progress(sight.jobs.get(id)?)?,
            Change::Milestone { id, percent } => format!("{id} has passed {percent} %"),
            Change::TreeMilestone { percent } => format!("the tree has passed {percent} %"),
            Change::Stalled { id } => format!("{id} does not go forward"),
            Change::Deleted { id } => format!("{id} deleted"),
        })
    }

    /// A job's progress, unless that was just said.
    fn progress(&mut self, seen: &Seen) -> Option<String> {
        let words = progress_words(&seen.progress)?;
        let now = Instant::now();
        match self.said.get(&seen.id) {
            Some((at, said)) if *said == words || now - *at < PROGRESS_EVERY => None,
            _ => {
                self.said.insert(seen.id.clone(), (now, words.clone()));
                Some(format!("{} {words}", seen.id))
            }
        }
    }
}

/// How far a tree is as a whole.
pub(super) fn tree_words(sight: &Sight) -> String {
    let sums = &sight.whole["tree"];
    let part = sums["completion"].as_f64().map(percent).unwrap_or_default();
    let (open, more) = match sums["discovering"] == true {
        true => (", still discovering", "+"),
        false => ("", ""),
    };
    let jobs = many(number(sums, "jobs").max(1), "job");
    let items = format!("{} of {}{more} items", number(sums, "done"), number(sums, "expected"));
    match part.is_empty() {
        true => jobs,
        false => format!("{part}{open}, {jobs}, {items}"),
    }
}

fn say(words: &str, console: &mut Console) -> Result<(), Trouble> {
    let at = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    console.line(&format!("{at} {}", shown(words)))?;
    console.flush()
}

impl View for Lines {
    fn event(&mut self, _: &Event, _: &mut Console) -> Result<(), Trouble> {
        Ok(())
    }

    fn changes(&mut self, changes: &[Change], sight: &Sight, console: &mut Console) -> Result<(), Trouble> {
        let lines: Vec<_> = changes.iter().filter_map(|change| self.words(change, sight)).collect();
        lines.iter().try_for_each(|words| say(words, console))
    }

    fn tick(&mut self, _: &Sight) {}

    fn link(&mut self, cut: Option<(DateTime<Utc>, &str)>, console: &mut Console) -> Result<(), Trouble> {
        match cut {
            Some((_, reason)) => say(&format!("the stream is cut ({reason}); trying again"), console),
            None => say("the stream goes on", console),
        }
    }

    fn end(&mut self, job: &Value, sight: &Sight, console: &mut Console) -> Result<(), Trouble> {
        say(
            &format!(
                "the tree has ended: {}; {}",
                text(job, "tree_status"),
                tree_words(sight)
            ),
            console,
        )
    }
}

/// Each event of the stream on a line, for programs; and besides `cut`, `back` and, last, `end`.
#[derive(Debug)]
pub(super) struct Raw;

impl Raw {
    fn put(event: &Value, console: &mut Console) -> Result<(), Trouble> {
        console.document(event)?;
        console.flush()
    }
}

impl View for Raw {
    fn event(&mut self, event: &Event, console: &mut Console) -> Result<(), Trouble> {
        Self::put(
            &json!({ "id": event.id, "event": event.name, "data": event.data }),
            console,
        )
    }

    fn changes(&mut self, _: &[Change], _: &Sight, _: &mut Console) -> Result<(), Trouble> {
        Ok(())
    }

    fn tick(&mut self, _: &Sight) {}

    fn link(&mut self, cut: Option<(DateTime<Utc>, &str)>, console: &mut Console) -> Result<(), Trouble> {
        let event = match cut {
            Some((since, reason)) => {
                let since = since.to_rfc3339_opts(SecondsFormat::Millis, true);
                json!({ "id": null, "event": "cut", "data": { "since": since, "reason": reason } })
            }
            None => json!({ "id": null, "event": "back", "data": {} }),
        };
        Self::put(&event, console)
    }

    fn end(&mut self, job: &Value, sight: &Sight, console: &mut Console) -> Result<(), Trouble> {
        let data = json!({ "tree_status": job["tree_status"], "job": job, "progress": sight.whole });
        Self::put(&json!({ "id": null, "event": "end", "data": data }), console)
    }
}
