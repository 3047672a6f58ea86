//! What a thousand busy jobs cost, about each of which a crawler reports fifty times a second: what the server takes, what
//! it writes, how old what is stored gets, how long others wait meanwhile, and what a job weighs.
//!
//! The server is the `crawlwire` binary in a process of its own, the crawlers are in this one. Both databases wait for the
//! disk. Figures are compared within one run, because machines differ more than programs. What a report costs without
//! a connection is told by `cargo bench -p crawlwire-progress --bench track`, what a flush costs without a server by
//! `cargo bench -p crawlwire-persistence --features testing --bench flush`.
//!
//! `BENCH_PARTS` chooses parts (`load,rows,memory`) and `BENCH_DATABASES` databases (`sqlite,postgres`). Other amounts:
//! `BENCH_JOBS` (1000), `BENCH_SECONDS` (4) a measurement, `BENCH_ROUNDS` (3). `TMPDIR` names another disk.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

#[path = "sessions/figures.rs"]
mod figures;
#[path = "sessions/good.rs"]
mod good;
#[path = "progress/load.rs"]
mod load;
#[path = "progress/memory.rs"]
mod memory;
#[expect(dead_code, reason = "shared with benchmarks that need more of it")]
#[path = "engine/place.rs"]
mod place;
#[expect(dead_code, reason = "shared with benchmarks that need more of it")]
#[path = "sessions/process.rs"]
mod process;
#[path = "progress/reporters.rs"]
mod reporters;
#[path = "progress/rows.rs"]
mod rows;
#[expect(dead_code, reason = "shared with benchmarks that need more of it")]
#[path = "engine/web_app.rs"]
mod web_app;
#[expect(dead_code, reason = "shared with benchmarks that need more of it")]
#[path = "sessions/wire.rs"]
mod wire;
#[path = "../tests/sessions/writes.rs"]
mod writes;

use std::time::Duration;

use crate::figures::{amount, wanted};
use crate::place::Backend;

/// Between two flushes, as `docs/progress.md` has it.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() {
    let jobs = (amount("BENCH_JOBS", 1000.0) as usize).max(10);
    let time = Duration::from_secs_f64(amount("BENCH_SECONDS", 4.0));
    let rounds = (amount("BENCH_ROUNDS", 3.0) as usize).max(1);
    place::tell_machine();
    for (backend, name) in [(Backend::Sqlite, "sqlite"), (Backend::Postgres, "postgres")] {
        if !wanted("BENCH_DATABASES", name) {
            continue;
        }
        let Some(place) = backend.place().await else {
            continue;
        };
        println!("\n{}: {}", backend.name(), place.settings().await);
        drop(place);
        if wanted("BENCH_PARTS", "load") {
            load::measure(backend, jobs, time, rounds).await;
        }
        if wanted("BENCH_PARTS", "rows") {
            rows::measure(backend, jobs, time).await;
        }
    }
    if wanted("BENCH_PARTS", "memory") {
        memory::measure(jobs, time).await;
    }
}
