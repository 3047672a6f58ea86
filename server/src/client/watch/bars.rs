//! Bars on a terminal: the tree, and below it the jobs at work.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::View;
use super::lines::tree_words;
use super::sight::{Change, Seen, Sight};
use crate::client::console::Console;
use crate::client::paint::{Colour, Paint, colour_of};
use crate::client::server::Trouble;
use crate::client::stream::Event;
use crate::client::text::{cut, shown, width};
use crate::client::time::clock;
use crate::client::view::{progress_words, text};

/// Jobs with a line of their own. More would leave a usual terminal.
const BARS_MAX: usize = 20;

/// Columns of a bar, and of the name before it.
const BAR_COLUMNS: usize = 20;
const NAME_COLUMNS: usize = 32;

/// Parts of the whole that a bar knows.
const FINE: f64 = 1000.0;

/// A picture that is drawn over and over.
pub(super) struct Bars {
    paint: Paint,
    width: usize,
    multi: MultiProgress,
    /// How the whole is; for all jobs, how many there are.
    head: ProgressBar,
    /// The jobs that have a line, by id.
    lines: BTreeMap<String, ProgressBar>,
    /// What has no line of its own, and whether the stream is cut.
    foot: ProgressBar,
    cut_since: Option<DateTime<Utc>>,
}

impl Bars {
    pub(super) fn new(paint: Paint, width: usize) -> Self {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let head = multi.add(ProgressBar::new(FINE as u64).with_style(plain()));
        let foot = multi.add(ProgressBar::new(FINE as u64).with_style(plain()));
        Self {
            paint,
            width,
            multi,
            head,
            lines: BTreeMap::new(),
            foot,
            cut_since: None,
        }
    }

    /// The line of a job, or of the whole: a name, a bar where there is one, and words.
    fn draw(&self, bar: &ProgressBar, name: &str, part: Option<f64>, words: &str) {
        let name = cut(&shown(name), NAME_COLUMNS);
        let room = " ".repeat(NAME_COLUMNS - width(&name));
        let taken = NAME_COLUMNS + 1 + part.map_or(0, |_| BAR_COLUMNS + 3);
        let words = cut(&shown(words), self.width.saturating_sub(taken + 1));
        bar.set_style(match part {
            Some(_) => barred(self.paint),
            None => plain(),
        });
        bar.set_position((part.unwrap_or(0.0).clamp(0.0, 1.0) * FINE) as u64);
        bar.set_prefix(format!("{name}{room}"));
        bar.set_message(words);
    }

    fn say(&self, line: &str) -> Result<(), Trouble> {
        Ok(self.multi.println(cut(&shown(line), self.width))?)
    }
}

/// A style from a template of ours; should it be wrong, the library's own.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn plain() -> ProgressStyle {
    style("{prefix} {msg}")
}

fn barred(paint: Paint) -> ProgressStyle {
    let bar = if paint.colour { "{bar:20.green}" } else { "{bar:20}" };
    style(&format!("{{prefix}} [{bar}] {{msg}}")).progress_chars("=> ")
}

/// How much of a job is done, where that can be said: while it discovers, a bar would promise what nobody knows.
fn part(progress: &Value) -> Option<f64> {
    match text(&progress["total"], "kind") {
        "known" | "estimate" => progress["completion"].as_f64(),
        _ => None,
    }
}

/// Those that are worth a line: at work first, the newest of them.
fn chosen(sight: &Sight) -> Vec<&Seen> {
    let at_work = |seen: &&Seen| seen.state.starts_with("running") || seen.state.starts_with("assigned");
    let (mut chosen, others): (Vec<_>, Vec<_>) = sight.jobs.values().rev().partition(at_work);
    if sight.root.is_some() {
        chosen.extend(others);
    }
    chosen.truncate(BARS_MAX);
    // In the order in which they were made, so that lines keep their places.
    chosen.sort_by(|one, other| one.id.cmp(&other.id));
    chosen
}

/// What has no line: how many of each state.
fn rest(sight: &Sight, lines: &BTreeMap<String, ProgressBar>) -> String {
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for seen in sight.jobs.values().filter(|seen| !lines.contains_key(&seen.id)) {
        *states.entry(&seen.state).or_default() += 1;
    }
    let mut words = String::new();
    for (state, count) in states {
        let joint = if words.is_empty() { "and " } else { ", " };
        // Writing into a string does not fail.
        let _ = write!(words, "{joint}{count} {state}");
    }
    words
}

impl View for Bars {
    fn event(&mut self, _: &Event, _: &mut Console) -> Result<(), Trouble> {
        Ok(())
    }

    fn changes(&mut self, changes: &[Change], sight: &Sight, _: &mut Console) -> Result<(), Trouble> {
        for change in changes {
            match change {
                // Ends stay above the bars; what else happens shows in them.
                Change::State { id, name, state, error } if !sight.jobs.contains_key(id) => {
                    let error = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
                    let word = self.paint.text(&shown(state), colour_of(state));
                    self.multi.println(format!(
                        "{word} {}",
                        cut(&shown(&format!("{name}{error}")), self.width.saturating_sub(12))
                    ))?;
                }
                Change::Stalled { id } => self.say(&format!("{id} does not go forward"))?,
                Change::Deleted { id } => self.say(&format!("{id} deleted"))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn tick(&mut self, sight: &Sight) {
        let chosen = chosen(sight);
        self.lines.retain(|id, bar| {
            let stays = chosen.iter().any(|seen| seen.id == *id);
            if !stays {
                bar.finish_and_clear();
                self.multi.remove(bar);
            }
            stays
        });
        let mut before = self.head.clone();
        for seen in chosen {
            let bar = self.lines.entry(seen.id.clone()).or_insert_with(|| {
                self.multi
                    .insert_after(&before, ProgressBar::new(FINE as u64).with_style(plain()))
            });
            before = bar.clone();
        }
        for (id, bar) in &self.lines {
            let Some(seen) = sight.jobs.get(id) else { continue };
            let words = progress_words(&seen.progress).filter(|_| seen.state.starts_with("running"));
            self.draw(
                bar,
                &seen.name,
                part(&seen.progress),
                &words.unwrap_or_else(|| seen.state.clone()),
            );
        }
        let (name, whole) = match &sight.root {
            Some(_) => ("the tree", sight.whole["tree"]["completion"].as_f64()),
            None => ("all jobs", None),
        };
        let words = match &sight.root {
            Some(_) => tree_words(sight),
            None => format!("{} open", sight.jobs.len()),
        };
        self.draw(&self.head, name, whole, &words);
        let foot = match self.cut_since {
            Some(since) => format!("the stream is cut since {}; trying again", clock(since)),
            None => rest(sight, &self.lines),
        };
        let colour = if self.cut_since.is_some() {
            Colour::Red
        } else {
            Colour::Faint
        };
        self.foot.set_prefix(
            self.paint
                .text(&cut(&shown(&foot), self.width.saturating_sub(1)), colour),
        );
    }

    fn link(&mut self, cut: Option<(DateTime<Utc>, &str)>, _: &mut Console) -> Result<(), Trouble> {
        self.cut_since = cut.map(|(since, _)| since);
        Ok(())
    }

    fn end(&mut self, job: &Value, sight: &Sight, console: &mut Console) -> Result<(), Trouble> {
        self.multi.clear()?;
        let status = text(job, "tree_status");
        let word = self.paint.text(&shown(status), colour_of(status));
        console.line(&format!("The tree has ended: {word}; {}.", shown(&tree_words(sight))))
    }
}
