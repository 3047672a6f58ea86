//! `crawlwire doctor`: whether a server could work here, or does, and what to do where not. Changes nothing, and needs no
//! running server.
//!
//! | module | looks at |
//! |---|---|
//! | `addresses` | the socket, TCP, HTTP: free, or a server behind it |
//! | `storage` | data directory, disk, key, database |
//! | `machine` | clock, open files |

mod addresses;
mod machine;
mod storage;

use std::io::{self, Write};

use serde_json::{Value, json};

use super::args::DoctorArgs;
use super::console::Console;
use super::paint::{Paint, colour_of};
use super::text::shown;
use super::{EXIT_DONE, EXIT_FAILED};
use crate::config::Config;

/// How serious it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Ok,
    /// It works, and may not for long, or not as wanted.
    Warning,
    /// A server would not start, or not work.
    Problem,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    name: &'static str,
    verdict: Verdict,
    detail: String,
    /// What to do about it.
    help: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Ok,
            detail: detail.into(),
            help: None,
        }
    }

    pub(super) fn warning(name: &'static str, detail: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warning,
            help: Some(help.into()),
            ..Self::ok(name, detail)
        }
    }

    pub(super) fn problem(name: &'static str, detail: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Problem,
            ..Self::warning(name, detail, help)
        }
    }

    fn as_json(&self) -> Value {
        json!({ "name": self.name, "verdict": self.verdict.as_str(), "detail": self.detail, "help": self.help })
    }
}

/// Looks at everything and says so; the exit status.
pub(crate) fn run(args: &DoctorArgs) -> u8 {
    let checks = examine(args);
    let paint = Paint::of_stdout();
    let mut out = io::stdout().lock();
    let said = if args.json {
        writeln!(out, "{}", super::text::json(&document(&checks)))
    } else {
        tell(&checks, paint, &mut out)
    };
    match said.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Console::write_failed(&error),
        _ if checks.iter().any(|check| check.verdict == Verdict::Problem) => EXIT_FAILED,
        _ => EXIT_DONE,
    }
}

fn examine(args: &DoctorArgs) -> Vec<Check> {
    const NAME: &str = "configuration";
    const HELP: &str = "`crawlwire config` shows where each value comes from; docs/configuration.md has them all";
    let (config, warnings) = match Config::load(args.flags.given()) {
        Ok(loaded) => loaded,
        Err(errors) => {
            let found = errors
                .problems
                .iter()
                .map(|problem| Check::problem(NAME, problem.to_string(), HELP));
            let others = errors
                .warnings
                .iter()
                .map(|warning| Check::warning(NAME, warning.to_string(), HELP));
            return found.chain(others).collect();
        }
    };
    let mut checks: Vec<_> = warnings
        .iter()
        .map(|warning| Check::warning(NAME, warning.to_string(), HELP))
        .collect();
    if checks.is_empty() {
        checks.push(Check::ok(NAME, format!("is valid, profile {}", config.general.profile)));
    }
    checks.extend(addresses::examine(&config));
    checks.extend(storage::examine(&config));
    checks.extend(machine::examine(&config));
    checks
}

fn count(checks: &[Check], verdict: Verdict) -> usize {
    checks.iter().filter(|check| check.verdict == verdict).count()
}

fn document(checks: &[Check]) -> Value {
    let all: Vec<_> = checks.iter().map(Check::as_json).collect();
    json!({ "checks": all, "problems": count(checks, Verdict::Problem), "warnings": count(checks, Verdict::Warning) })
}

fn tell(checks: &[Check], paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    for check in checks {
        let word = check.verdict.as_str();
        let verdict = paint.text(&format!("{word:<7}"), colour_of(word));
        writeln!(out, "{verdict}  {:<13}  {}", check.name, shown(&check.detail))?;
        if let Some(help) = &check.help {
            writeln!(out, "{:24}-> {}", "", shown(help))?;
        }
    }
    let (problems, warnings) = (count(checks, Verdict::Problem), count(checks, Verdict::Warning));
    let warnings = super::view::many(warnings as u64, "warning");
    match problems {
        0 => writeln!(out, "Nothing keeps a server from working here; {warnings}."),
        problems => writeln!(out, "{}, {warnings}.", super::view::many(problems as u64, "problem")),
    }
}
