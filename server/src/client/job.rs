//! `crawlwire job`: one job, all that is known of it on one screen.

use chrono::Utc;
use serde_json::{Value, json};

use super::EXIT_DONE;
use super::console::Console;
use super::server::{Trouble, job_path, query};
use super::table::{Align, Table};
use super::time::{ago, clock, moment, span};
use super::view::{items, many, number, or_dash, percent, progress_words, state, text, word_cell};

/// Events that are shown: the last ones.
const EVENTS_SHOWN: usize = 10;

/// Pages of history that are read on the way to its end. A job with more has had 10,000 events, and gets no list of them.
const EVENT_PAGES_MAX: usize = 20;

pub(crate) fn run(id: &str, console: &mut Console) -> Result<u8, Trouble> {
    let path = job_path(id);
    let server = &console.server;
    let found = json!({
        "job": server.get(&path)?,
        "progress": server.get(&format!("{path}/progress?detail=full"))?,
        "reason": server.get(&format!("{path}/explain"))?["reason"],
        "events": last_events(&path, console)?,
    });
    if console.json {
        console.document(&found)?;
        return Ok(EXIT_DONE);
    }
    head(&found, console)?;
    tree(&found, console)?;
    work(&found["progress"], console)?;
    entities(&found["progress"], console)?;
    issues(&found["progress"], console)?;
    events(&found["events"], console)?;
    Ok(EXIT_DONE)
}

fn last_events(path: &str, console: &Console) -> Result<Value, Trouble> {
    let mut last: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..EVENT_PAGES_MAX {
        let parameters = query(&[("limit", Some("500")), ("cursor", cursor.as_deref())]);
        let page = console.server.get(&format!("{path}/events{parameters}"))?;
        last.extend(items(&page).iter().cloned());
        last.drain(..last.len().saturating_sub(EVENTS_SHOWN));
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return Ok(last.into());
        }
    }
    Ok(Value::Null)
}

fn head(found: &Value, console: &mut Console) -> Result<(), Trouble> {
    let (job, now) = (&found["job"], Utc::now());
    let (id, name) = (text(job, "id"), text(job, "web_app_job_id"));
    let named = if name == id {
        String::new()
    } else {
        format!(", named {name}")
    };
    console.field("job", &format!("{id}{named}"))?;
    console.field(
        "status",
        &format!("{}, changed {}", state(job), ago(&job["updated_at"], now)),
    )?;
    let place = format!(
        "{} for {} on {}",
        text(job, "job_type"),
        text(job, "account_id"),
        text(job, "gitlab_host")
    );
    console.field("what", &place)?;
    let about = ["namespace_path", "entity_name", "entity_id"].map(|field| text(job, field));
    let about: Vec<_> = about.into_iter().filter(|text| !text.is_empty()).collect();
    if !about.is_empty() {
        console.field("about", &about.join(", "))?;
    }
    if let Some(session) = job["session"].as_str() {
        console.field("crawler", session)?;
    }
    let tries = format!(
        "{} begun, {} failed; submitted {}",
        number(job, "attempt"),
        number(job, "failures"),
        ago(&job["created_at"], now)
    );
    console.field("tries", &tries)?;
    for (name, field) in [("labels", "labels"), ("tags", "tags")] {
        let words: Vec<_> = items(&job[field]).iter().filter_map(Value::as_str).collect();
        if !words.is_empty() {
            console.field(name, &words.join(", "))?;
        }
    }
    let reason = &found["reason"];
    if !reason.is_null() {
        console.field(
            "waits",
            &format!("{} What helps: {}.", text(reason, "detail"), text(reason, "cleared_by")),
        )?;
    }
    let (result, error) = (&job["result"], &job["error"]);
    if !result.is_null() {
        console.field("result", or_dash(result, "summary"))?;
    }
    if !error.is_null() {
        console.field(
            "error",
            &format!("{}: {}", text(error, "error_type"), text(error, "error_message")),
        )?;
    }
    Ok(())
}

fn tree(found: &Value, console: &mut Console) -> Result<(), Trouble> {
    let (job, sums) = (&found["job"], &found["progress"]["tree"]);
    let tree = &job["tree"];
    let below = number(job, "children").max(number(tree, "jobs"));
    let mut words = text(tree, "status").to_owned();
    if below > 0 {
        words.push_str(&format!(", {} below", many(below, "job")));
        for (count, state) in [("open_children", "open"), ("failed_children", "failed")] {
            if number(tree, count) > 0 {
                words.push_str(&format!(", {} children {state}", number(tree, count)));
            }
        }
    }
    if let Some(part) = sums["completion"]
        .as_f64()
        .filter(|_| number(sums, "jobs_reported") > 0)
    {
        words.push_str(&format!(
            "; {}, {} of {} items",
            percent(part),
            number(sums, "done"),
            number(sums, "expected")
        ));
    }
    console.field("tree", &words)?;
    if let Some(parent) = job["parent_id"].as_str() {
        console.field("below", &format!("{parent}, top {}", text(job, "root_id")))?;
    }
    Ok(())
}

fn work(progress: &Value, console: &mut Console) -> Result<(), Trouble> {
    if progress["updated_at"].is_null() {
        return Ok(());
    }
    let mut words = vec![text(progress, "state").to_owned()];
    words.extend(progress_words(progress));
    console.field("progress", &words.join(", "))?;
    if let Some(speed) = progress["rates"]["current"].as_f64() {
        let worked = span(number(progress, "worked_ms"));
        console.field("speed", &format!("{speed:.1} items a second lately, {worked} worked"))?;
    }
    let milestones = items(&progress["milestones"]).iter();
    let milestones: Vec<_> = milestones
        .map(|it| {
            let at = moment(&it["at"]).map(clock).unwrap_or_default();
            format!("{} % at {at}", number(it, "percent"))
        })
        .collect();
    if !milestones.is_empty() {
        console.field("passed", &milestones.join(", "))?;
    }
    Ok(())
}

fn entities(progress: &Value, console: &mut Console) -> Result<(), Trouble> {
    let mut table = Table::new(&[
        ("ENTITY", Align::Cut),
        ("STATUS", Align::Left),
        ("FOUND", Align::Right),
        ("PROCESSED", Align::Right),
        ("DONE", Align::Right),
    ]);
    for entity in items(&progress["entities"]) {
        let kind = text(entity, "entity_type");
        let name = match text(entity, "sub_collection") {
            "" => kind.to_owned(),
            below => format!("{kind}/{below}"),
        };
        let part = entity["completion"].as_f64().map_or_else(|| "-".to_owned(), percent);
        table.row([
            name.into(),
            word_cell(or_dash(entity, "status")),
            number(entity, "total_discovered").to_string().into(),
            number(entity, "total_processed").to_string().into(),
            part.into(),
        ]);
    }
    below(table, console)
}

fn issues(progress: &Value, console: &mut Console) -> Result<(), Trouble> {
    let mut table = Table::new(&[
        ("ISSUE", Align::Left),
        ("ENTITY", Align::Cut),
        ("TIMES", Align::Right),
        ("LAST", Align::Left),
    ]);
    for issue in items(&progress["issues"]) {
        table.row([
            text(issue, "kind").into(),
            or_dash(issue, "entity").into(),
            number(issue, "times").to_string().into(),
            text(issue, "last_at").into(),
        ]);
    }
    below(table, console)
}

fn events(events: &Value, console: &mut Console) -> Result<(), Trouble> {
    let mut table = Table::new(&[
        ("AT", Align::Left),
        ("WHAT HAPPENED", Align::Left),
        ("STATE", Align::Left),
        ("TRY", Align::Right),
        ("CRAWLER", Align::Cut),
    ]);
    for event in items(events) {
        let arrows: Vec<_> = items(&event["arrows"]).iter().filter_map(Value::as_str).collect();
        table.row([
            text(event, "at").into(),
            arrows.join(", ").into(),
            word_cell(text(event, "state")),
            number(event, "attempt").to_string().into(),
            or_dash(event, "session").into(),
        ]);
    }
    below(table, console)
}

/// A table below what was said before, if there is anything in it.
fn below(mut table: Table, console: &mut Console) -> Result<(), Trouble> {
    if table.is_empty() {
        return Ok(());
    }
    console.line("")?;
    console.table(&mut table)
}
