//! `crawlwire status`: one screen on how a server is doing.

use chrono::Utc;
use serde_json::{Value, json};

use super::console::Console;
use super::paint::colour_of;
use super::server::Trouble;
use super::text::shown;
use super::time::{age, span};
use super::view::{many, number, percent, text};
use super::{EXIT_DONE, EXIT_FAILED};

/// The states in the order of a life.
const STATES: [&str; 8] = [
    "queued",
    "delayed",
    "assigned",
    "running",
    "paused",
    "completed",
    "failed",
    "cancelled",
];

pub(crate) fn run(console: &mut Console) -> Result<u8, Trouble> {
    let server = &console.server;
    let ready = server.health("/health/ready")?;
    let socket = server.health("/health/socket")?;
    let is_ready = ready["status"] == "ready";
    let found = json!({
        "server": server.address().to_string(),
        "ready": ready,
        "socket": socket,
        "queue": whatever(server.get_if_there("/api/v1/queue"), is_ready)?,
        "progress": whatever(server.get_if_there("/api/v1/progress"), is_ready)?,
        "statistics": whatever(server.get_if_there("/api/v1/statistics"), is_ready)?,
    });
    if console.json {
        console.document(&found)?;
    } else {
        screen(&found, console)?;
    }
    Ok(if is_ready { EXIT_DONE } else { EXIT_FAILED })
}

/// What a server that is not ready need not answer.
fn whatever(answer: Result<Option<Value>, Trouble>, is_ready: bool) -> Result<Value, Trouble> {
    match answer {
        Err(Trouble::Refused(_)) if !is_ready => Ok(Value::Null),
        answer => Ok(answer?.unwrap_or(Value::Null)),
    }
}

fn screen(found: &Value, console: &mut Console) -> Result<(), Trouble> {
    let (ready, socket) = (&found["ready"], &found["socket"]);
    let coloured = |word: &str| console.paint.text(&shown(word), colour_of(word));
    let uptime = span((socket["uptime"].as_f64().unwrap_or(0.0) * 1000.0) as u64);
    let health = format!(
        "{}: {}, {}, up {uptime}",
        text(found, "server"),
        coloured(text(ready, "status")),
        coloured(text(socket, "status"))
    );
    console.line(&health)?;
    let bad: Vec<_> = checks_that_fail(&ready["checks"]);
    if !bad.is_empty() {
        console.field("not well", &bad.join(", "))?;
    }
    queue(&found["queue"], console)?;
    let inside = &socket["socket_server"];
    let mut crawlers = many(number(inside, "sessions"), "crawler");
    let slots = &found["statistics"]["slots"];
    if let Some(all) = slots["all"].as_u64() {
        crawlers = format!("{crawlers}, {} of {}", number(slots, "used"), many(all, "slot"));
    }
    let connections = many(number(inside, "connections"), "connection");
    console.field("crawlers", &format!("{crawlers}, {connections}"))?;
    progress(&found["progress"], console)?;
    statistics(&found["statistics"], console)
}

fn checks_that_fail(checks: &Value) -> Vec<String> {
    let checks = checks.as_object().into_iter().flatten();
    checks
        .filter(|(_, well)| **well == false)
        .map(|(name, _)| name.clone())
        .collect()
}

fn queue(queue: &Value, console: &mut Console) -> Result<(), Trouble> {
    if queue.is_null() {
        return Ok(());
    }
    let jobs = STATES
        .iter()
        .map(|state| format!("{} {state}", number(&queue["jobs"], state)));
    console.field("jobs", &jobs.collect::<Vec<_>>().join(", "))?;
    let gate = &queue["gate"];
    let words = match queue["paused"] == true {
        false => "open".to_owned(),
        true => {
            let reason = gate["reason"].as_str().map(|reason| format!(": {reason}"));
            let since = age(&gate["closed_at"], Utc::now());
            format!(
                "paused for {since} by {}{}",
                text(gate, "by"),
                reason.unwrap_or_default()
            )
        }
    };
    console.field("queue", &words)
}

fn progress(progress: &Value, console: &mut Console) -> Result<(), Trouble> {
    let fleet = &progress["fleet"];
    if number(fleet, "trees") == 0 {
        return Ok(());
    }
    let words = format!(
        "{} of {}, {}: {} of {}{} items",
        percent(fleet["completion"].as_f64().unwrap_or(0.0)),
        many(number(fleet, "trees"), "tree"),
        many(number(fleet, "jobs"), "job"),
        number(fleet, "done"),
        number(fleet, "expected"),
        if fleet["discovering"] == true { " or more" } else { "" }
    );
    console.field("progress", &words)
}

fn statistics(statistics: &Value, console: &mut Console) -> Result<(), Trouble> {
    if statistics.is_null() {
        return Ok(());
    }
    let rates = &statistics["rates"];
    let rate = |name: &str| format!("{:.1}", rates[name].as_f64().unwrap_or(0.0));
    let words = format!(
        "{} jobs finished and {} failed a minute, {} items and {} reports a second",
        rate("finished_per_minute"),
        rate("failed_per_minute"),
        rate("items_per_second"),
        rate("reports_per_second")
    );
    console.field("rates", &words)?;
    if let Some(oldest) = statistics["queue"]["oldest_ms"].as_u64() {
        console.field("waiting", &format!("the oldest job for {}", span(oldest)))?;
    }
    console.field(
        "errors",
        &format!("{} in the last hour", number(&statistics["errors"], "last_hour")),
    )?;
    let server = &statistics["server"];
    console.field(
        "server",
        &format!(
            "{} {} on {}",
            text(server, "name"),
            text(server, "version"),
            text(server, "database")
        ),
    )
}
