//! `crawlwire explain`: why a job does not move.

use super::EXIT_DONE;
use super::console::Console;
use super::server::{Trouble, job_path};
use super::text::shown;
use super::view::text;

pub(crate) fn run(id: &str, console: &mut Console) -> Result<u8, Trouble> {
    let explained = console.server.get(&format!("{}/explain", job_path(id)))?;
    if console.json {
        console.document(&explained)?;
        return Ok(EXIT_DONE);
    }
    let (job, state, reason) = (
        text(&explained, "job_id"),
        text(&explained, "state"),
        &explained["reason"],
    );
    if reason.is_null() {
        let words = match state {
            "running" => "It runs; nothing holds it up.",
            _ => "It has ended.",
        };
        console.line(&shown(&format!("Job {job} is {state}. {words}")))?;
        return Ok(EXIT_DONE);
    }
    console.line(&shown(&format!("Job {job} is {state}. {}", text(reason, "detail"))))?;
    console.line(&shown(&format!("What helps: {}.", text(reason, "cleared_by"))))?;
    Ok(EXIT_DONE)
}
