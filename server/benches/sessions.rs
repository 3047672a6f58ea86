//! What the session dialect does: durable messages per second, who suffers from whom, how soon a cancel arrives, what a
//! connection weighs, and how a crowd comes back after a crash.
//!
//! Both databases wait for the disk. Figures are compared within one run, because machines differ more than programs.
//! Where the server is a process of its own it is the `crawlwire` binary, and peers that are to be a nuisance are another
//! process, of the lowest priority.
//!
//! `BENCH_PARTS` chooses parts (`acks,beside,cancel,memory,storm`) and `BENCH_DATABASES` databases (`sqlite,postgres`).
//! Other amounts: `BENCH_SECONDS` (4) a measurement, `BENCH_ROUNDS` (3), `BENCH_BAD` (8) bad peers of each kind,
//! `BENCH_CANCELS` (300), `BENCH_IDLE` (10000) idle connections, `BENCH_STORM` (1000) crawlers, and `BENCH_DOWN` (1)
//! seconds that their server is away. `TMPDIR` names another disk.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

#[path = "sessions/acks.rs"]
mod acks;
#[path = "sessions/bad.rs"]
mod bad;
#[path = "sessions/beside.rs"]
mod beside;
#[path = "sessions/cancel.rs"]
mod cancel;
#[path = "sessions/figures.rs"]
mod figures;
#[path = "sessions/good.rs"]
mod good;
#[path = "sessions/memory.rs"]
mod memory;
#[path = "engine/place.rs"]
mod place;
#[path = "sessions/process.rs"]
mod process;
#[path = "sessions/storm.rs"]
mod storm;
#[path = "engine/web_app.rs"]
mod web_app;
#[path = "sessions/wire.rs"]
mod wire;

use std::path::Path;
use std::time::Duration;

use crate::figures::{amount, wanted};
use crate::place::Backend;

/// How much of everything.
struct Amounts {
    time: Duration,
    rounds: usize,
    bad: usize,
    cancels: usize,
    idle: usize,
    storm: usize,
    down: Duration,
}

impl Amounts {
    fn asked_for() -> Self {
        let count = |name, otherwise| (amount(name, otherwise) as usize).max(1);
        Self {
            time: Duration::from_secs_f64(amount("BENCH_SECONDS", 4.0)),
            rounds: count("BENCH_ROUNDS", 3.0),
            bad: count("BENCH_BAD", 8.0),
            cancels: count("BENCH_CANCELS", 300.0),
            idle: count("BENCH_IDLE", 10_000.0),
            storm: count("BENCH_STORM", 1000.0),
            down: Duration::from_secs_f64(amount("BENCH_DOWN", 1.0)),
        }
    }
}

fn main() {
    process::raise_file_limit();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match process::asked_for_peers() {
        Some((kind, socket, count)) => runtime.block_on(play(&kind, Path::new(&socket), count)),
        None => runtime.block_on(measure(&Amounts::asked_for())),
    }
}

/// Plays peers until nobody wants them any more.
async fn play(kind: &str, socket: &Path, count: usize) {
    match memory::Idle::named(kind) {
        Some(idle) => memory::play(idle, socket, count).await,
        None => bad::play(kind, socket, count).await,
    }
}

async fn measure(amounts: &Amounts) {
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
        if wanted("BENCH_PARTS", "acks") {
            acks::measure(backend, amounts.time, amounts.rounds).await;
        }
        if wanted("BENCH_PARTS", "beside") {
            beside::measure(backend, amounts.time, amounts.rounds, amounts.bad).await;
        }
        if wanted("BENCH_PARTS", "cancel") {
            cancel::measure(backend, amounts.cancels).await;
        }
        if wanted("BENCH_PARTS", "storm") {
            storm::measure(backend, amounts.storm, amounts.rounds, amounts.down).await;
        }
    }
    if wanted("BENCH_PARTS", "memory") {
        memory::measure(amounts.idle).await;
    }
}
