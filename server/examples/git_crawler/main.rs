//! A crawler for git repositories on this machine: a whole crawler on the client of `crawlwire-transport`, which keeps the
//! connection, the outbox, heartbeats and pace. What is here is the crawl.
//!
//! | file | what a crawler author finds there |
//! |---|---|
//! | `crawler.rs` | the life of a crawler: connect, take jobs, end |
//! | `jobs.rs` | from job to work to end; one file per type of job: `discover`, `project`, `group`, `user` |
//! | `report.rs` | what a job says while it runs, and when it should stop |
//! | `project.rs`, `user.rs` | going on from a checkpoint |
//! | `repository.rs`, `record.rs`, `walk.rs`, `output.rs` | the work itself: git, folders, files |
//!
//! ```text
//! cargo run --release -p crawlwire-server --example git_crawler -- --root ~/src --out /tmp/crawled
//! ```

mod console;
mod crawler;
mod discover;
mod failure;
mod group;
mod jobs;
mod options;
mod output;
mod project;
mod record;
mod report;
mod repository;
mod summary;
mod user;
mod walk;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::options::Options;

/// Threads in the middle of a git command when we stop get this long; git itself ends with us.
const THREADS_GRACE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        console::warn(format_args!("{error:#}"));
        ExitCode::FAILURE
    })
}

fn run() -> anyhow::Result<ExitCode> {
    let mut options = Options::parse();
    options.socket = options
        .socket
        .or_else(|| std::env::var_os("SOCKET_PATH").map(PathBuf::from));
    let (once, quiet) = (options.once, options.quiet);
    // What the client has to say to people.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .init();

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        tokio::spawn(stop_on_signal(stop.clone())?);
        crawler::run(options, stop).await
    });
    runtime.shutdown_timeout(THREADS_GRACE);

    let ended = ended?;
    if !quiet {
        console::say(&ended.summary);
    }
    if let Some(why) = &ended.gave_up {
        console::warn(why);
    }
    let failed = ended.gave_up.is_some() || once && ended.summary.failed() > 0;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Stops at the first SIGINT or SIGTERM, and does not wait for anything at the second.
fn stop_on_signal(stop: CancellationToken) -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(130);
            }
            stop.cancel();
        }
    })
}
