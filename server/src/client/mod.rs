//! What the command line asks of a running server: each command is a few requests to the HTTP API and a table, or with
//! `--json` what the API said.
//!
//! | module | holds |
//! |---|---|
//! | `args` | what may be typed |
//! | `server` | requests, and what can come of them |
//! | `console` | where output goes, and who may be asked |
//! | `text`, `table`, `paint`, `time` | how it looks; nothing that a server says can steer a terminal |
//! | `status`, `jobs`, `job`, `acts`, `crawlers`, `errors`, `explain`, `drain` | a command each |
//! | `submit`, `many` | new jobs: one, or a file of them |
//! | `stream`, `watch` | the live stream, and what it shows of a tree |
//! | `bench` | how fast a server is |
//! | `doctor` | whether a server could work here |
//! | `shell` | completions and the page of the manual |

mod acts;
pub mod args;
mod bench;
mod console;
mod crawlers;
mod doctor;
mod drain;
mod errors;
mod explain;
mod job;
mod jobs;
mod many;
mod paint;
mod server;
mod shell;
mod status;
mod stream;
mod submit;
mod table;
mod text;
mod time;
mod view;
mod watch;

use std::io::ErrorKind;

pub use args::Command;
use console::Console;
use server::Trouble;

/// It was done.
pub(crate) const EXIT_DONE: u8 = 0;
/// The server refused, or it went wrong.
pub(crate) const EXIT_FAILED: u8 = 1;
/// The command line is not valid.
pub(crate) const EXIT_USAGE: u8 = 2;
/// No server answers.
pub(crate) const EXIT_UNREACHABLE: u8 = 4;
/// Cut short at the keyboard, as a shell gives it to an interrupted program.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// Carries a command out; the exit status.
pub fn run(command: &Command) -> u8 {
    let Some(target) = command.target() else {
        return match command {
            Command::Doctor(args) => doctor::run(args),
            command => shell::run(command),
        };
    };
    let mut console = Console::new(target);
    let done = carry_out(command, &mut console);
    let done = done.and_then(|status| Ok(console.out.flush().map(|()| status)?));
    match done {
        Ok(status) => status,
        // Whoever read it has seen enough.
        Err(Trouble::Output(error)) if error.kind() == ErrorKind::BrokenPipe => EXIT_DONE,
        Err(trouble) => console.complain(&trouble),
    }
}

fn carry_out(command: &Command, console: &mut Console) -> Result<u8, Trouble> {
    match command {
        Command::Status { .. } => status::run(console),
        Command::Jobs(args) => jobs::run(args, console),
        Command::Job { id, .. } => job::run(id, console),
        Command::Watch { id, .. } => watch::run(id.as_deref(), console),
        Command::Submit(args) => submit::run(args, console),
        Command::Cancel(args) => acts::cancel(args, console),
        Command::Pause(args) => acts::simple("pause", args, console),
        Command::Resume(args) => acts::simple("resume", args, console),
        Command::Retry(args) => acts::retry(args, console),
        Command::Crawlers { .. } => crawlers::run(console),
        Command::Errors(args) => errors::run(args, console),
        Command::Explain { id, .. } => explain::run(id, console),
        Command::Drain(args) => drain::run(args, console),
        Command::Bench(args) => bench::run(args, console),
        Command::Doctor(args) => Ok(doctor::run(args)),
        Command::Completions { .. } | Command::Man => Ok(shell::run(command)),
    }
}
