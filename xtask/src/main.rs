//! The checks and generators of this repository: `cargo xtask <command>`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks through its terminal"
)]

mod ci;
mod fuzz;
mod problem;
mod schema;
mod tidy;
mod tree;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Checks and generators of this repository")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the JSON Schemas generated from the message types
    Schema {
        /// Write nothing; fail when a committed schema is missing, different or no longer generated
        #[arg(long)]
        check: bool,
    },
    /// Check layering, dead files, text rules and links
    Tidy,
    /// Run every check that continuous integration runs
    Ci(ci::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one command. `false` says that a check failed and has already told why.
fn run(command: Command) -> anyhow::Result<bool> {
    // As cargo says at this moment: a binary from the cache of another clone would check that one.
    let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    let manifest_dir = Path::new(&manifest_dir);
    let root = manifest_dir.parent().unwrap_or(manifest_dir);
    match command {
        Command::Schema { check: false } => schema::write(root),
        Command::Schema { check: true } => schema::check(root),
        Command::Tidy => tidy::check(root),
        Command::Ci(args) => ci::run(root, &args),
    }
}
