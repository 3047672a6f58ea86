//! `crawlwire bench`: simulated crawlers and a simulated web app against a running server, and how fast it is.
//!
//! | module | holds |
//! |---|---|
//! | `run` | what all of them share: which jobs are under way, what was measured |
//! | `crawlers` | crawlers on the server's socket, with the client of this workspace |
//! | `web_apps` | threads that submit, wait for the end, and submit again |
//! | `viewer` | a viewer of the live stream |
//! | `figures` | times, and what to say of them |
//!
//! Jobs of the bench carry a host and a label that nothing else has: other crawlers are not given them, and crawlers of the
//! bench are given nothing else.

mod crawlers;
mod figures;
mod run;
mod viewer;
mod web_apps;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crawlwire_transport::Endpoint;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::crawlers::Crawlers;
use self::run::Run;
use super::args::BenchArgs;
use super::console::Console;
use super::server::{Server, Trouble, job_path, query};
use super::view::{items, many, number, text};
use super::{EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED};
use crate::token::whoever;

/// Whose jobs they are. One account for all runs: accounts stay.
const ACCOUNT: &str = "crawlwire-bench";

/// States of jobs that are not over.
const OPEN: [&str; 5] = ["queued", "delayed", "assigned", "running", "paused"];

/// Threads that clean up.
const CLEANERS: usize = 8;

/// Between two looks at whether somebody pressed Ctrl-C.
const TICK: Duration = Duration::from_millis(50);

/// How long the last jobs may take to end, before they are cancelled.
const LAST_JOBS: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &BenchArgs, console: &mut Console) -> Result<u8, Trouble> {
    refuse_company(args, console)?;
    let run = Arc::new(Run::new(args));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Trouble::Failed(format!("no runtime: {error}")))?;
    let crawlers = runtime.block_on(Crawlers::connect(endpoint(args), args, &run))?;
    let measured = measure(args, &run, &runtime, &crawlers, &console.server);
    run.stop();
    runtime.block_on(crawlers.leave());
    let cleaned = clean(&run, console);
    let interrupted = measured?;
    cleaned?;
    report(args, &run, console)?;
    Ok(if interrupted { EXIT_INTERRUPTED } else { EXIT_DONE })
}

/// Open jobs of others would be held up, and would spoil the figures.
fn refuse_company(args: &BenchArgs, console: &Console) -> Result<(), Trouble> {
    let queue = console.server.get("/api/v1/queue")?;
    let open: u64 = OPEN.iter().map(|state| number(&queue["jobs"], state)).sum();
    match open {
        _ if args.yes => Ok(()),
        0 => Ok(()),
        open => Err(Trouble::Failed(format!(
            "the server has {}; they would be held up, and the figures would be of no use. Bench another server, or say --yes",
            many(open, "job that is not over").replace("overs", "over")
        ))),
    }
}

fn endpoint(args: &BenchArgs) -> Endpoint {
    match &args.listen {
        Some(endpoint) => endpoint.clone(),
        None => Endpoint::Unix(args.socket.clone()),
    }
}

/// Lets it run for its time; whether it was cut short at the keyboard.
fn measure(
    args: &BenchArgs,
    run: &Arc<Run>,
    runtime: &tokio::runtime::Runtime,
    crawlers: &Crawlers,
    server: &Server,
) -> Result<bool, Trouble> {
    viewer::watch(server, run)?;
    let web_apps: Vec<_> = (0..args.crawlers * usize::from(args.slots))
        .map(|_| {
            let (server, run) = (server.clone(), run.clone());
            thread::spawn(move || web_apps::work(&server, &run))
        })
        .collect();
    let seconds = Duration::from_secs(args.seconds);
    let interrupted = runtime.block_on(async {
        // What is slow at the beginning, such as the first statement of each kind, is not what is asked about.
        tokio::time::sleep((seconds / 10).min(Duration::from_secs(1))).await;
        run.begin(crawlers.acked());
        let until = Instant::now() + seconds;
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        let mut interrupted = false;
        while Instant::now() < until && !run.has_failed() && !interrupted {
            tokio::select! {
                _ = &mut interrupt => interrupted = true,
                () = tokio::time::sleep(TICK.min(until - Instant::now())) => {}
            }
        }
        run.end(crawlers.acked());
        let last = Instant::now() + LAST_JOBS;
        while run.under_way() > 0 && Instant::now() < last {
            tokio::time::sleep(TICK).await;
        }
        interrupted
    });
    run.stop();
    let ends: Vec<_> = web_apps.into_iter().map(thread::JoinHandle::join).collect();
    for end in ends {
        end.map_err(|_| Trouble::Failed("a thread that submits has broken off".to_owned()))??;
    }
    Ok(interrupted)
}

/// Deletes what it made, whatever became of it.
fn clean(run: &Run, console: &mut Console) -> Result<(), Trouble> {
    console.note("cleaning up");
    let server = console.server.clone();
    let mut left = 0;
    let mut cursor: Option<String> = None;
    loop {
        let parameters = query(&[
            ("account_id", Some(ACCOUNT)),
            ("limit", Some("500")),
            ("cursor", cursor.as_deref()),
        ]);
        let page = server.get(&format!("/api/v1/jobs{parameters}"))?;
        let ours: Vec<_> = items(&page)
            .iter()
            .filter(|job| job["gitlab_host"] == run.host())
            .collect();
        let share = ours.len().div_ceil(CLEANERS).max(1);
        left += thread::scope(|scope| {
            let cleaners: Vec<_> = ours
                .chunks(share)
                .map(|share| scope.spawn(|| share.iter().filter(|job| !remove(&server, job)).count()))
                .collect();
            cleaners
                .into_iter()
                .map(|cleaner| cleaner.join().unwrap_or(0))
                .sum::<usize>()
        });
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    match left {
        0 => Ok(()),
        left => Err(Trouble::Failed(format!(
            "{} of account {ACCOUNT} could not be deleted; they go when they are older than max_job_age_ms",
            many(left as u64, "job")
        ))),
    }
}

/// Whether a job is gone.
fn remove(server: &Server, job: &Value) -> bool {
    let path = job_path(text(job, "id"));
    let by = json!({ "by": whoever() });
    if job["tree_status"] == "open" && server.post(&format!("{path}/cancel"), &by).is_err() {
        // It may have ended just now.
    }
    server.delete(&path, &by).is_ok()
}

fn report(args: &BenchArgs, run: &Run, console: &mut Console) -> Result<u8, Trouble> {
    let figures = run.figures();
    if console.json {
        console.document(&figures.document(args))?;
    } else {
        figures.tell(args, console)?;
    }
    Ok(if figures.is_empty() { EXIT_FAILED } else { EXIT_DONE })
}
