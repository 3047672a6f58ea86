//! `cargo xtask ci`: the steps of continuous integration, in order, here or there.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;

use crate::{fuzz, schema, tidy};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run only this step; may be given more than once
    #[arg(long, value_name = "STEP")]
    only: Vec<Step>,
    /// List the steps and what each one runs
    #[arg(long)]
    list: bool,
}

/// One step. They run in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    Fmt,
    Clippy,
    Test,
    Web,
    Doc,
    Deny,
    Schema,
    Tidy,
    Fuzz,
}

/// How a step ended, or that an earlier failure kept it from running.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Passed,
    /// Passed, but for a part that could not run.
    Partly(&'static str),
    Failed,
    NotRun,
}

#[derive(Debug)]
struct Row {
    step: Step,
    outcome: Outcome,
    took: Duration,
}

/// Runs the chosen steps until one fails, and says whether none did.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<bool> {
    let chosen = |step: &Step| args.only.is_empty() || args.only.contains(step);
    let steps: Vec<Step> = Step::value_variants().iter().copied().filter(chosen).collect();
    if args.list {
        for step in steps {
            println!("{:<8}{}", step.name(), step.command());
        }
        return Ok(true);
    }
    let mut rows: Vec<Row> = Vec::new();
    for step in steps {
        let stopped = rows.iter().any(|row| row.outcome == Outcome::Failed);
        rows.push(if stopped { Row::not_run(step) } else { timed(step, root) });
    }
    print!("\n{}", table(&rows));
    Ok(rows
        .iter()
        .all(|row| matches!(row.outcome, Outcome::Passed | Outcome::Partly(_))))
}

#[expect(clippy::disallowed_methods, reason = "nothing pauses this program's clock")]
fn timed(step: Step, root: &Path) -> Row {
    println!("\n=== {}: {}", step.name(), step.command());
    let start = Instant::now();
    let outcome = step.run(root).unwrap_or_else(|error| {
        println!("error: {error:#}");
        Outcome::Failed
    });
    let row = Row {
        step,
        outcome,
        took: start.elapsed(),
    };
    println!("=== {} ({}): {}", step.name(), seconds(row.took), row.outcome.text());
    row
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Test => "test",
            Self::Web => "web",
            Self::Doc => "doc",
            Self::Deny => "deny",
            Self::Schema => "schema",
            Self::Tidy => "tidy",
            Self::Fuzz => "fuzz",
        }
    }

    /// What to type to run this step by hand.
    fn command(self) -> &'static str {
        match self {
            Self::Fmt => "cargo fmt --all -- --check -l",
            Self::Clippy => "cargo clippy --workspace --all-targets --all-features -- -D warnings",
            Self::Test => "cargo test --workspace",
            Self::Web => "npm --prefix web ci, then npm --prefix web test",
            Self::Doc => {
                "RUSTDOCFLAGS=\"-D warnings\" cargo doc --workspace --no-deps --all-features --document-private-items"
            }
            Self::Deny => "cargo deny check -A duplicate bans licenses sources, then advisories",
            Self::Schema => "cargo xtask schema --check",
            Self::Tidy => "cargo xtask tidy",
            Self::Fuzz => "cargo fuzz run, for some seconds, in protocol and transport",
        }
    }

    fn run(self, root: &Path) -> anyhow::Result<Outcome> {
        match self {
            Self::Fmt => fmt(root, self.command()),
            Self::Clippy | Self::Test => cargo(root, self.command()),
            Self::Web => web(root),
            Self::Doc => doc(root),
            Self::Deny => deny(root),
            Self::Schema => schema::check(root).map(Outcome::of),
            Self::Tidy => tidy::check(root).map(Outcome::of),
            Self::Fuzz => fuzz::run(root).map(Outcome::of),
        }
    }
}

/// Runs a command line that starts with `cargo` and holds no quotes; its output goes to the terminal.
fn cargo(root: &Path, line: &str) -> anyhow::Result<Outcome> {
    succeeds(&mut command(root, line)).map(Outcome::of)
}

/// Lists the files only: what to change in them is what `cargo fmt` does.
fn fmt(root: &Path, line: &str) -> anyhow::Result<Outcome> {
    let outcome = cargo(root, line)?;
    if outcome == Outcome::Failed {
        println!("error: these files are not formatted: run `cargo fmt --all`");
    }
    Ok(outcome)
}

fn doc(root: &Path) -> anyhow::Result<Outcome> {
    let mut command = command(
        root,
        "cargo doc --workspace --no-deps --all-features --document-private-items",
    );
    succeeds(command.env("RUSTDOCFLAGS", "-D warnings")).map(Outcome::of)
}

/// What the tests of the page need beside this workspace, and how each tells that it is there.
const WEB_NEEDS: [&str; 2] = ["npm --version", "chromium --version"];

/// Set where the tests of the page have to run; elsewhere a machine without a browser passes.
const REQUIRE_BROWSER: &str = "CRAWLWIRE_REQUIRE_BROWSER";

/// The page in a browser, against the real server.
fn web(root: &Path) -> anyhow::Result<Outcome> {
    let is_there = |line: &str| {
        let mut version = command(root, line);
        matches!(succeeds(version.stdout(Stdio::null()).stderr(Stdio::null())), Ok(true))
    };
    if let Some(missing) = WEB_NEEDS.iter().find(|line| !is_there(line)) {
        anyhow::ensure!(
            std::env::var_os(REQUIRE_BROWSER).is_none(),
            "`{missing}` does not run, and {REQUIRE_BROWSER} is set"
        );
        let skipped = "BROWSER TESTS SKIPPED: npm or chromium is missing";
        println!("warning: {skipped}");
        return Ok(Outcome::Partly(skipped));
    }
    for line in [
        "cargo build -p crawlwire-server --bin crawlwire --example git_crawler",
        "npm --prefix web ci --no-audit --no-fund",
        "npm --prefix web test",
    ] {
        if !succeeds(&mut command(root, line))? {
            return Ok(Outcome::Failed);
        }
    }
    Ok(Outcome::Passed)
}

/// Advisories are read from a database on the network; without it the rest still counts.
fn deny(root: &Path) -> anyhow::Result<Outcome> {
    let mut version = command(root, "cargo deny --version");
    if !succeeds(version.stdout(Stdio::null()).stderr(Stdio::null()))? {
        anyhow::bail!("cargo-deny is missing: cargo install cargo-deny --locked");
    }
    // Duplicate versions are for whoever asks: `cargo deny check bans` lists them.
    let check = "cargo deny check -A duplicate bans licenses sources";
    if cargo(root, check)? == Outcome::Failed {
        return Ok(Outcome::Failed);
    }
    // Git gives up by itself within minutes when the network swallows its packets.
    if !succeeds(&mut command(root, "cargo deny --log-level off fetch db"))? {
        let skipped = "ADVISORIES SKIPPED: their database could not be fetched";
        println!("warning: {skipped}");
        return Ok(Outcome::Partly(skipped));
    }
    cargo(root, "cargo deny check advisories")
}

fn command(root: &Path, line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("cargo"));
    command.args(words).current_dir(root);
    command
}

fn succeeds(command: &mut Command) -> anyhow::Result<bool> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    Ok(status.success())
}

impl Outcome {
    fn of(passed: bool) -> Self {
        if passed { Self::Passed } else { Self::Failed }
    }

    fn text(&self) -> String {
        match self {
            Self::Passed => "passed".to_owned(),
            Self::Partly(skipped) => format!("passed; {skipped}"),
            Self::Failed => "FAILED".to_owned(),
            Self::NotRun => "not run".to_owned(),
        }
    }
}

impl Row {
    fn not_run(step: Step) -> Self {
        Self {
            step,
            outcome: Outcome::NotRun,
            took: Duration::ZERO,
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn table(rows: &[Row]) -> String {
    let mut table = String::from("step         time  outcome\n");
    for Row { step, outcome, took } in rows {
        let time = if *outcome == Outcome::NotRun {
            "-".to_owned()
        } else {
            seconds(*took)
        };
        // Writing to a String cannot fail.
        let _ = writeln!(table, "{:<8} {time:>8}  {}", step.name(), outcome.text());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_every_step() {
        let row = |step, outcome, ms| Row {
            step,
            outcome,
            took: Duration::from_millis(ms),
        };
        let rows = [
            row(Step::Fmt, Outcome::Passed, 940),
            row(Step::Deny, Outcome::Partly("advisories skipped"), 2000),
            row(Step::Schema, Outcome::Failed, 123_456),
            Row::not_run(Step::Tidy),
        ];
        let expected = "\
step         time  outcome
fmt         0.9 s  passed
deny        2.0 s  passed; advisories skipped
schema    123.5 s  FAILED
tidy            -  not run
";
        assert_eq!(table(&rows), expected);
    }

    #[test]
    fn a_failing_command_is_not_a_success() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(!succeeds(command(here, "cargo no-such-command").stderr(Stdio::null())).unwrap());
        assert!(succeeds(command(here, "cargo --version").stdout(Stdio::null())).unwrap());
        assert!(succeeds(&mut Command::new("crawlwire-no-such-program")).is_err());
    }
}
