//! `crawlwire watch`: a tree, or all that runs, as it happens.
//!
//! | module | holds |
//! |---|---|
//! | `sight` | what is known of the jobs, from the events of the stream |
//! | `lines` | a line for each change, where there is no terminal; each event, with `--json` |
//! | `bars` | bars on a terminal |
//!
//! The stream says that something happened and to which job; how far a tree is as a whole is asked for, since the server
//! keeps its sums.

mod bars;
mod lines;
mod sight;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::bars::Bars;
use self::lines::{Lines, Raw};
use self::sight::{Change, Sight};
use super::console::Console;
use super::server::{Trouble, job_path, query};
use super::stream::{Event, Happening, follow};
use super::view::text;
use super::{EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED};

/// Sums of the tree are asked for this often while things happen, and this often in any case.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const LOOK_ANYWAY: Duration = Duration::from_secs(10);

/// Between two pictures on a terminal.
const TICK: Duration = Duration::from_millis(200);

/// One way to show it.
trait View {
    /// An event as it came.
    fn event(&mut self, event: &Event, console: &mut Console) -> Result<(), Trouble>;
    /// What it changed.
    fn changes(&mut self, changes: &[Change], sight: &Sight, console: &mut Console) -> Result<(), Trouble>;
    /// Time has passed.
    fn tick(&mut self, sight: &Sight);
    /// The stream is cut since then, or goes on.
    fn link(&mut self, cut: Option<(DateTime<Utc>, &str)>, console: &mut Console) -> Result<(), Trouble>;
    /// It is over.
    fn end(&mut self, job: &Value, sight: &Sight, console: &mut Console) -> Result<(), Trouble>;
}

pub(crate) fn run(id: Option<&str>, console: &mut Console) -> Result<u8, Trouble> {
    let root = match id {
        Some(id) => Some(text(&console.server.get(&job_path(id))?, "root_id").to_owned()),
        None => None,
    };
    let stream = follow(&console.server, query(&[("tree", root.as_deref())]))?;
    let mut view: Box<dyn View> = match (console.json, console.paint.width) {
        (true, _) => Box::new(Raw),
        (false, None) => Box::new(Lines::default()),
        (false, Some(width)) => Box::new(Bars::new(console.paint, width)),
    };
    let mut watching = Watching {
        sight: Sight::new(root),
        looked: None,
        stirred: true,
    };
    loop {
        match stream.next_within(TICK) {
            Some(Happening::Event(event)) => watching.event(&event, &mut *view, console)?,
            Some(Happening::Cut(reason)) => view.link(Some((Utc::now(), &reason)), console)?,
            Some(Happening::Back) => {
                watching.stirred = true;
                view.link(None, console)?;
            }
            Some(Happening::Over(trouble)) => return Err(trouble),
            Some(Happening::Interrupted) => return Ok(EXIT_INTERRUPTED),
            None => {}
        }
        if let Some(over) = watching.look(console)? {
            view.end(&over, &watching.sight, console)?;
            let well = over["tree_status"] == "completed";
            return Ok(if well { EXIT_DONE } else { EXIT_FAILED });
        }
        view.tick(&watching.sight);
    }
}

struct Watching {
    sight: Sight,
    /// When the sums of the tree were asked for.
    looked: Option<Instant>,
    /// Whether anything happened since.
    stirred: bool,
}

impl Watching {
    fn event(&mut self, event: &Event, view: &mut dyn View, console: &mut Console) -> Result<(), Trouble> {
        view.event(event, console)?;
        let changes = self.sight.apply(event);
        self.stirred |= event.name != "heartbeat";
        view.changes(&changes, &self.sight, console)
    }

    /// Asks how the tree is as a whole, when it is time to; the job at its top when it is over.
    fn look(&mut self, console: &Console) -> Result<Option<Value>, Trouble> {
        let Some(root) = &self.sight.root else { return Ok(None) };
        let since = self.looked.map(|at| at.elapsed());
        let due = since.is_none_or(|since| since >= LOOK_ANYWAY || (self.stirred && since >= LOOK_AGAIN));
        if !due {
            return Ok(None);
        }
        let path = job_path(root);
        let asked = console.server.get(&path).and_then(|job| {
            let progress = console.server.get(&format!("{path}/progress?detail=full"))?;
            Ok(json!({ "job": job, "progress": progress }))
        });
        self.looked = Some(Instant::now());
        self.stirred = false;
        match asked {
            Ok(found) => {
                self.sight.whole = found["progress"].clone();
                self.sight.top = found["job"].clone();
            }
            Err(Trouble::Refused(refusal)) if refusal.status == 404 => {
                return Err(Trouble::Failed(format!("job {root} was deleted")));
            }
            // The server is away or busy: the stream will say so, or it passes.
            Err(Trouble::Unreachable { .. } | Trouble::Refused(_)) => self.stirred = true,
            Err(trouble) => return Err(trouble),
        }
        let over = self.sight.top["tree_status"]
            .as_str()
            .is_some_and(|status| status != "open");
        Ok(over.then(|| self.sight.top.clone()))
    }
}
