//! `crawlwire crawlers`: who is connected to a server, and what each does.

use serde_json::Value;

use super::EXIT_DONE;
use super::console::Console;
use super::server::{Trouble, query};
use super::table::{Align, Table};
use super::text::json;
use super::time::span;
use super::view::{items, number, or_dash, text, word_cell};

/// Items of a page: the most there may be.
const PAGE: &str = "500";

pub(crate) fn run(console: &mut Console) -> Result<u8, Trouble> {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("STATE", Align::Left),
        ("PROTOCOL", Align::Left),
        ("SOFTWARE", Align::Cut),
        ("JOBS", Align::Right),
        ("MESSAGES", Align::Right),
        ("SILENT", Align::Right),
        ("CONNECTED", Align::Right),
        ("WORKS ON", Align::Cut),
    ]);
    let mut cursor: Option<String> = None;
    let mut shown = 0;
    if console.json {
        write!(console.out, "{{\"items\":[")?;
    }
    loop {
        let parameters = query(&[("limit", Some(PAGE)), ("cursor", cursor.as_deref())]);
        let page = console.server.get(&format!("/api/v1/crawlers{parameters}"))?;
        for crawler in items(&page) {
            if console.json {
                write!(console.out, "{}{}", if shown > 0 { "," } else { "" }, json(crawler))?;
            } else {
                table.row(row(crawler));
            }
            shown += 1;
        }
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    if console.json {
        console.line("],\"next_cursor\":null}")?;
    } else if table.is_empty() {
        console.note("No crawler is connected.");
    } else {
        console.table(&mut table)?;
    }
    Ok(EXIT_DONE)
}

fn row(crawler: &Value) -> [super::table::Cell; 9] {
    let jobs = items(&crawler["jobs"]);
    let names: Vec<_> = jobs.iter().filter_map(Value::as_str).collect();
    let lingering = items(&crawler["lingering"]).len();
    let count = match lingering {
        0 => jobs.len().to_string(),
        lingering => format!("{} +{lingering} ending", jobs.len()),
    };
    [
        text(crawler, "id").into(),
        word_cell(or_dash(crawler, "state")),
        or_dash(crawler, "dialect").into(),
        or_dash(crawler, "software").into(),
        count.into(),
        number(crawler, "messages").to_string().into(),
        span(number(crawler, "silent_ms")).into(),
        span(number(crawler, "connected_ms")).into(),
        if names.is_empty() {
            "-".to_owned()
        } else {
            names.join(" ")
        }
        .into(),
    ]
}
