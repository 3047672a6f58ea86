//! `crawlwire drain`: a server that gives out nothing more.

use serde_json::json;

use super::args::DrainArgs;
use super::console::Console;
use super::server::Trouble;
use super::{EXIT_DONE, EXIT_FAILED};
use crate::token::whoever;

pub(crate) fn run(args: &DrainArgs, console: &mut Console) -> Result<u8, Trouble> {
    let address = console.server.address().clone();
    if !args.yes && !console.confirmed(&format!("Have {address} give out no more jobs?"))? {
        return Ok(EXIT_FAILED);
    }
    let by = args.by.clone().unwrap_or_else(whoever);
    match console.server.post("/api/v1/server/drain", &json!({ "by": by })) {
        Err(Trouble::Refused(refusal)) if refusal.status == 404 => Err(Trouble::Failed(
            "this server cannot do that. Stop it with SIGTERM: its crawlers finish what can be finished".to_owned(),
        )),
        answer => {
            let answer = answer?;
            if console.json {
                console.document(&answer)?;
            } else {
                console.line(&format!(
                    "{address} gives out no more jobs; `crawlwire status` shows what still runs."
                ))?;
            }
            Ok(EXIT_DONE)
        }
    }
}
