//! `crawlwire jobs`: the list, page by page, so that a long one needs no room here.

use chrono::Utc;
use serde_json::Value;

use super::EXIT_DONE;
use super::args::JobsArgs;
use super::console::Console;
use super::server::{Trouble, query};
use super::table::{Align, Table};
use super::text::json;
use super::time::age;
use super::view::{done, number, or_dash, state_cell, subject, text};

/// Most that one page holds.
const PAGE_MAX: u32 = 500;

pub(crate) fn run(args: &JobsArgs, console: &mut Console) -> Result<u8, Trouble> {
    let mut pages = Pages::new(args);
    let mut sheet = Sheet::new(console)?;
    while let Some(page) = pages.next(console)? {
        sheet.page(&page, console)?;
    }
    sheet.end(pages.cursor.as_deref(), console)?;
    Ok(EXIT_DONE)
}

/// The list as it is asked for.
struct Pages<'a> {
    args: &'a JobsArgs,
    /// How many are still wanted; none for all.
    left: Option<u32>,
    cursor: Option<String>,
    begun: bool,
    /// Whether each job is asked for with its progress.
    progress: bool,
}

impl<'a> Pages<'a> {
    fn new(args: &'a JobsArgs) -> Self {
        Self {
            args,
            left: (!args.all).then_some(args.limit),
            cursor: None,
            begun: false,
            progress: true,
        }
    }

    fn next(&mut self, console: &Console) -> Result<Option<Vec<Value>>, Trouble> {
        if self.left == Some(0) || (self.begun && self.cursor.is_none()) {
            return Ok(None);
        }
        let answer = match console.server.get(&self.path()) {
            // Servers of some versions have no progress in lists.
            Err(Trouble::Refused(refusal)) if self.progress && refusal.concerns("/progress") => {
                self.progress = false;
                console.server.get(&self.path())
            }
            answer => answer,
        };
        let mut page = answer?;
        self.begun = true;
        self.cursor = page["next_cursor"].as_str().map(str::to_owned);
        let found = match page["items"].take() {
            Value::Array(found) => found,
            _ => Vec::new(),
        };
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        }
        Ok(Some(found))
    }

    fn path(&self) -> String {
        let limit = self.left.unwrap_or(PAGE_MAX).min(PAGE_MAX).to_string();
        let args = self.args;
        let parameters = query(&[
            ("status", args.status.as_deref()),
            ("job_type", args.job_type.as_deref()),
            ("account_id", args.account.as_deref()),
            ("gitlab_host", args.host.as_deref()),
            ("tag", args.tag.as_deref()),
            ("root_id", args.root.as_deref()),
            ("q", args.search.as_deref()),
            ("progress", self.progress.then_some("true")),
            ("limit", Some(&limit)),
            ("cursor", self.cursor.as_deref()),
        ]);
        format!("/api/v1/jobs{parameters}")
    }
}

/// The output: one document, or one table, that is written as it comes.
struct Sheet {
    table: Table,
    shown: u64,
}

impl Sheet {
    fn new(console: &mut Console) -> Result<Self, Trouble> {
        if console.json {
            write!(console.out, "{{\"items\":[")?;
        }
        Ok(Self {
            table: Table::new(&[
                ("ID", Align::Left),
                ("STATUS", Align::Left),
                ("TYPE", Align::Left),
                ("ACCOUNT", Align::Cut),
                ("ABOUT", Align::Cut),
                ("DONE", Align::Right),
                ("TRIES", Align::Right),
                ("AGE", Align::Right),
            ]),
            shown: 0,
        })
    }

    fn page(&mut self, jobs: &[Value], console: &mut Console) -> Result<(), Trouble> {
        let now = Utc::now();
        for job in jobs {
            if console.json {
                let comma = if self.shown > 0 { "," } else { "" };
                write!(console.out, "{comma}{}", json(job))?;
            } else {
                self.table.row(row(job, now));
            }
            self.shown += 1;
        }
        if !console.json && !jobs.is_empty() {
            console.table(&mut self.table)?;
        }
        console.flush()
    }

    fn end(&mut self, cursor: Option<&str>, console: &mut Console) -> Result<(), Trouble> {
        if console.json {
            return console.line(&format!("],\"next_cursor\":{}}}", json(&Value::from(cursor))));
        }
        if self.shown == 0 {
            console.note("There are no such jobs.");
        } else if cursor.is_some() {
            console.flush()?;
            console.note(&format!(
                "The newest {} are shown; --limit or --all shows more.",
                self.shown
            ));
        }
        Ok(())
    }
}

fn row(job: &Value, now: chrono::DateTime<Utc>) -> [super::table::Cell; 8] {
    [
        text(job, "id").into(),
        state_cell(job),
        text(job, "job_type").into(),
        or_dash(job, "account_id").into(),
        subject(job).into(),
        done(&job["progress"]).into(),
        number(job, "attempt").to_string().into(),
        age(&job["created_at"], now).into(),
    ]
}
