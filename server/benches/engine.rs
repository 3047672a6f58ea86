//! What a whole server does: lives per second, and how long a job is on its way to an idle crawler.
//!
//! The server runs in this process as the binary runs it; crawlers speak the base protocol over its Unix socket. Both
//! databases wait for the disk. Figures are compared within one run, because disks differ more than programs.
//!
//! `BENCH_SECONDS` (4), `BENCH_ROUNDS` (3) and `BENCH_JOBS` (2000) ask for other amounts; `TMPDIR` for another disk.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

#[path = "engine/crawler.rs"]
mod crawler;
#[path = "engine/lives.rs"]
mod lives;
#[path = "engine/place.rs"]
mod place;
#[path = "engine/wait.rs"]
mod wait;
#[path = "engine/web_app.rs"]
mod web_app;

use std::time::Duration;

use crate::place::Backend;

#[tokio::main]
async fn main() {
    let seconds = Duration::from_secs_f64(amount("BENCH_SECONDS", 4.0));
    let rounds = amount("BENCH_ROUNDS", 3.0) as usize;
    let jobs = amount("BENCH_JOBS", 2000.0) as usize;
    place::tell_machine();
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let Some(place) = backend.place().await else {
            continue;
        };
        println!("\n{}: {}", backend.name(), place.settings().await);
        drop(place);
        lives::measure(backend, seconds, rounds.max(1)).await;
        wait::measure(backend, jobs.max(20)).await;
    }
}

fn amount(name: &str, otherwise: f64) -> f64 {
    let asked = std::env::var(name).ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(otherwise)
}

/// The value below which this part of the sorted values is.
fn quantile<T: Copy>(sorted: &[T], part: f64) -> T {
    let place = (sorted.len() as f64 * part) as usize;
    sorted[place.min(sorted.len() - 1)]
}
