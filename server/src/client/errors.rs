//! `crawlwire errors`: what went wrong, and what goes wrong.

use serde_json::Value;

use super::args::ErrorsArgs;
use super::console::Console;
use super::server::{Trouble, query};
use super::stream::{Happening, follow};
use super::table::{Align, Cell, Table};
use super::text::json;
use super::view::{items, or_dash, text, word_cell};
use super::{EXIT_DONE, EXIT_INTERRUPTED};

/// The most that one page holds; after a cut of the stream, what came meanwhile.
const PAGE_MAX: u32 = 500;

pub(crate) fn run(args: &ErrorsArgs, console: &mut Console) -> Result<u8, Trouble> {
    if args.follow {
        return go_on(args, console);
    }
    let page = console.server.get(&path(args, args.limit))?;
    if console.json {
        console.document(&page)?;
    } else if items(&page).is_empty() {
        console.note("There are no such errors.");
    } else {
        let mut table = table();
        items(&page).iter().for_each(|error| table.row(row(error)));
        console.table(&mut table)?;
    }
    Ok(EXIT_DONE)
}

fn path(args: &ErrorsArgs, limit: u32) -> String {
    let parameters = query(&[
        ("category", args.category.as_deref()),
        ("severity", args.severity.as_deref()),
        ("job_id", args.job.as_deref()),
        ("limit", Some(&limit.to_string())),
    ]);
    format!("/api/v1/errors{parameters}")
}

fn table() -> Table {
    Table::new(&[
        ("AT", Align::Left),
        ("SEVERITY", Align::Left),
        ("CATEGORY", Align::Left),
        ("CODE", Align::Left),
        ("JOB", Align::Left),
        ("WHO", Align::Cut),
        ("MESSAGE", Align::Cut),
    ])
}

fn row(error: &Value) -> [Cell; 7] {
    [
        text(error, "at").into(),
        word_cell(text(error, "severity")),
        text(error, "category").into(),
        text(error, "code").into(),
        or_dash(error, "job_id").into(),
        or_dash(error, "connection").into(),
        text(error, "message").into(),
    ]
}

/// The stream is opened first, so that nothing falls between it and the list; numbers tell what was shown.
fn go_on(args: &ErrorsArgs, console: &mut Console) -> Result<u8, Trouble> {
    let stream = follow(&console.server, query(&[("type", Some("error")), ("jobs", Some("0"))]))?;
    let mut tail = Tail {
        args,
        table: table(),
        last: None,
    };
    tail.catch_up(args.limit, console)?;
    loop {
        match stream.next() {
            Happening::Event(event) if event.name == "error" => tail.show(&event.data, console)?,
            Happening::Event(_) => {}
            Happening::Cut(reason) => console.note(&format!("The stream is cut ({reason}); trying again.")),
            Happening::Back => {
                console.note("The stream goes on.");
                tail.catch_up(PAGE_MAX, console)?;
            }
            Happening::Over(trouble) => return Err(trouble),
            Happening::Interrupted => return Ok(EXIT_INTERRUPTED),
        }
    }
}

/// What was shown, and how.
struct Tail<'a> {
    args: &'a ErrorsArgs,
    table: Table,
    /// The number of the last one.
    last: Option<u64>,
}

impl Tail<'_> {
    /// What is in the list and was not shown, oldest first.
    fn catch_up(&mut self, limit: u32, console: &mut Console) -> Result<(), Trouble> {
        let page = match console.server.get(&path(self.args, limit)) {
            // The stream will say so; the next time shows what is missing.
            Err(Trouble::Unreachable { .. }) => return Ok(()),
            page => page?,
        };
        items(&page)
            .iter()
            .rev()
            .try_for_each(|error| self.show(error, console))
    }

    fn show(&mut self, error: &Value, console: &mut Console) -> Result<(), Trouble> {
        let number = error["id"].as_u64();
        if number.is_some() && number <= self.last || !self.wanted(error) {
            return Ok(());
        }
        self.last = number.or(self.last);
        if console.json {
            console.line(&json(error))?;
        } else {
            self.table.row(row(error));
            console.table(&mut self.table)?;
        }
        console.flush()
    }

    fn wanted(&self, error: &Value) -> bool {
        let fits = |wanted: &Option<String>, field: &str| wanted.as_deref().is_none_or(|wanted| error[field] == wanted);
        fits(&self.args.category, "category") && fits(&self.args.severity, "severity") && fits(&self.args.job, "job_id")
    }
}
