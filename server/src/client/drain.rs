//! `crawlwire drain`: a server that gives out nothing more.

use serde_json::json;

use super::args::DrainArgs;
use super::console::Console;
use super::server::Trouble;
use super::{EXIT_DONE, EXIT_FAILED};
use crate::token::whoever;

pub(crate) fn run(args: &DrainArgs, console: &mut Console) -> Result<u8, Trouble> {
    let address = console.server.address().clone();
    if !args.undo && !args.yes && !console.confirmed(&format!("Have {address} give out no more jobs?"))? {
        return Ok(EXIT_FAILED);
    }
    let by = args.by.clone().unwrap_or_else(whoever);
    let path = match args.undo {
        true => "/api/v1/server/undrain",
        false => "/api/v1/server/drain",
    };
    let answer = console.server.post(path, &json!({ "by": by }))?;
    if console.json {
        console.document(&answer)?;
    } else if args.undo {
        console.line(&format!("{address} gives out jobs again."))?;
    } else {
        console.line(&format!(
            "{address} gives out no more jobs; `crawlwire status` shows what still runs, `crawlwire drain --undo` ends it."
        ))?;
    }
    Ok(EXIT_DONE)
}
