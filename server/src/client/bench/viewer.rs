//! A viewer of the live stream, to whom ends become visible.

use std::sync::Arc;
use std::thread;

use serde_json::Value;

use super::ACCOUNT;
use super::run::Run;
use crate::client::server::{Server, Trouble, query};
use crate::client::stream::{Happening, follow};
use crate::client::view::{items, text};

/// Watches until the program ends.
pub(super) fn watch(server: &Server, run: &Arc<Run>) -> Result<(), Trouble> {
    let parameters = query(&[("account_id", Some(ACCOUNT)), ("type", Some("job"))]);
    let stream = follow(server, parameters)?;
    let run = run.clone();
    thread::spawn(move || {
        loop {
            match stream.next() {
                Happening::Event(event) if event.name == "job" => look(&event.data, &run),
                Happening::Event(event) if event.name == "snapshot" => {
                    items(&event.data["jobs"]).iter().for_each(|job| look(job, &run));
                }
                Happening::Over(_) | Happening::Interrupted => return,
                Happening::Event(_) | Happening::Cut(_) | Happening::Back => {}
            }
        }
    });
    Ok(())
}

fn look(job: &Value, run: &Run) {
    if job["status"] == "completed" && job["gitlab_host"] == run.host() {
        run.seen(text(job, "entity_id"));
    }
}
