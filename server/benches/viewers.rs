//! What many viewers of the live stream cost: how much each is told, how late, and what crawlers feel of it.
//!
//! The server is the `crawlwire` binary in a process of its own. Crawlers report a thousand jobs evenly over time, and some
//! others wait for acknowledgements. A few viewers are read here and measured; the rest are read by another process of the
//! lowest priority, so that what they cost is what the server does for them. Figures are compared within one run, because
//! machines differ more than programs. Databases wait for the disk.
//!
//! `BENCH_DATABASES` chooses databases (`sqlite,postgres`). Other amounts: `BENCH_VIEWERS` (200), `BENCH_UPDATES` (2000) a
//! second, `BENCH_JOBS` (1000), `BENCH_SECONDS` (5) a measurement, `BENCH_ROUNDS` (3). `TMPDIR` names another disk.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

#[path = "sessions/figures.rs"]
mod figures;
#[path = "sessions/good.rs"]
mod good;
#[expect(dead_code, reason = "shared with benchmarks that need more of it")]
#[path = "engine/place.rs"]
mod place;
#[expect(dead_code, reason = "shared with benchmarks that need more of it")]
#[path = "sessions/process.rs"]
mod process;
#[path = "viewers/updates.rs"]
mod updates;
#[path = "viewers/view.rs"]
mod view;
#[expect(dead_code, reason = "shared with benchmarks that need more of it")]
#[path = "engine/web_app.rs"]
mod web_app;
#[expect(dead_code, reason = "shared with benchmarks that need more of it")]
#[path = "sessions/wire.rs"]
mod wire;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::figures::{Spread, Times, amount, wanted};
use crate::good::{GOOD, Good};
use crate::place::Backend;
use crate::process::{Peers, ServerProcess};
use crate::updates::{SETTINGS, Updates};
use crate::view::{MEASURED, View};

/// What is aimed at: how late a viewer is told, in milliseconds; and how much longer crawlers wait beside viewers.
const AIM_DELAY: f64 = 250.0;
const AIM_RATIO: f64 = 2.0;

/// Before it counts.
const WARM_UP: Duration = Duration::from_secs(2);

/// How much of everything.
struct Amounts {
    viewers: usize,
    updates: f64,
    jobs: usize,
    time: Duration,
    rounds: usize,
}

/// The same server without viewers, and with them.
struct Round {
    alone: Times,
    beside: Times,
    cores_alone: f64,
    cores: f64,
    /// From a report to those who view.
    delays: Times,
    /// Frames told to a viewer in a second, and bytes.
    frames: f64,
    bytes: f64,
    resyncs: usize,
}

fn main() {
    process::raise_file_limit();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if let Some((_, address, count)) = process::asked_for_peers() {
        return runtime.block_on(view::play(&address, count));
    }
    let count = |name, otherwise| (amount(name, otherwise) as usize).max(1);
    let amounts = Amounts {
        viewers: count("BENCH_VIEWERS", 200.0).max(MEASURED),
        updates: amount("BENCH_UPDATES", 2000.0),
        jobs: count("BENCH_JOBS", 1000.0),
        time: Duration::from_secs_f64(amount("BENCH_SECONDS", 5.0)),
        rounds: count("BENCH_ROUNDS", 3.0),
    };
    place::tell_machine();
    for (backend, name) in [(Backend::Sqlite, "sqlite"), (Backend::Postgres, "postgres")] {
        if wanted("BENCH_DATABASES", name) {
            runtime.block_on(measure(backend, &amounts));
        }
    }
}

async fn measure(backend: Backend, amounts: &Amounts) {
    let Some(place) = backend.place().await else {
        return;
    };
    let Amounts {
        viewers,
        updates,
        jobs,
        time,
        rounds,
    } = amounts;
    println!("\n{}: {}", backend.name(), place.settings().await);
    println!(
        "  {viewers} viewers, {updates:.0} reports a second about {jobs} jobs, and {GOOD} crawlers that wait for \
         acknowledgements, median (least to most) of {rounds} times {:.0} s",
        time.as_secs_f64()
    );
    let server = ServerProcess::start(&place, &SETTINGS);
    let good = Good::start(&place, &server).await;
    let crawlers = Updates::start(&place, &server, *jobs, *updates).await;
    let mut told = Vec::new();
    for _ in 0..*rounds {
        told.push(round(&server, &good, &crawlers, amounts).await);
    }
    tell(&told, amounts);
}

async fn round(server: &ServerProcess, good: &Good, crawlers: &Updates, amounts: &Amounts) -> Round {
    let time = amounts.time;
    sleep(WARM_UP).await;
    let busy = server.cpu();
    let alone = good.times(time).await;
    let cores_alone = (server.cpu() - busy).as_secs_f64() / time.as_secs_f64();
    let address = server.http_address();
    let others = (amounts.viewers > MEASURED).then(|| {
        let mut others = Peers::start("viewers", address.to_string().as_ref(), amounts.viewers - MEASURED);
        assert_eq!(others.says().trim(), "there");
        others
    });
    let mut views = Vec::new();
    for _ in 0..MEASURED {
        views.push(View::open(address, crawlers.began).await);
    }
    sleep(WARM_UP).await;
    views.iter().for_each(View::begin);
    let (began, busy) = (Instant::now(), server.cpu());
    let beside = good.times(time).await;
    let (lasted, busy) = (began.elapsed().as_secs_f64(), server.cpu() - busy);
    let seen: Vec<_> = views.iter().map(View::end).collect();
    drop(views);
    if let Some(others) = others {
        let told = others.stop();
        println!(
            "    the others were told {} MiB, and cut off {} times",
            field(&told, 0),
            field(&told, 1)
        );
    }
    let sum = |of: fn(&view::Seen) -> usize| seen.iter().map(of).sum::<usize>();
    let each = |of: fn(&view::Seen) -> usize| sum(of) as f64 / lasted / MEASURED as f64;
    Round {
        alone,
        beside,
        cores_alone,
        cores: busy.as_secs_f64() / lasted,
        frames: each(|seen| seen.frames),
        bytes: each(|seen| seen.bytes),
        resyncs: sum(|seen| seen.resyncs),
        delays: Times::of(seen.into_iter().flat_map(|seen| seen.delays)),
    }
}

fn field(line: &str, at: usize) -> &str {
    line.split_whitespace().nth(at).unwrap_or("?")
}

fn tell(told: &[Round], amounts: &Amounts) {
    let of = |value: fn(&Round) -> f64| Spread::of(told, value);
    let frames = of(|round| round.frames);
    println!(
        "    each viewer is told of {:.0} reports a second ({:.2} of what was said) in {:.2} MiB, all viewers of {:.0}; \
         {} times one began anew",
        frames,
        frames.median() / amounts.updates,
        of(|round| round.bytes / process::MIB),
        frames.median() * amounts.viewers as f64,
        told.iter().map(|round| round.resyncs).sum::<usize>(),
    );
    let late = of(|round| round.delays.p99());
    println!(
        "    from the report to the viewer: p50 {:.0} ms, p99 {:.0} ms, at most {:.0} ms, of {} (aim: p99 below {AIM_DELAY:.0} ms: {})",
        of(|round| round.delays.p50()),
        late,
        of(|round| round.delays.most()),
        told.iter().map(|round| round.delays.count()).sum::<usize>(),
        verdict(late.median() < AIM_DELAY),
    );
    let ratio = of(|round| round.beside.p99() / round.alone.p99());
    println!(
        "    acknowledged without viewers: p50 {:.2} ms, p99 {:.2} ms; beside them: p50 {:.2} ms, p99 {:.2} ms, {:.2} times (aim: \
         below {AIM_RATIO:.0}: {})",
        of(|round| round.alone.p50()),
        of(|round| round.alone.p99()),
        of(|round| round.beside.p50()),
        of(|round| round.beside.p99()),
        ratio,
        verdict(ratio.median() < AIM_RATIO),
    );
    println!(
        "    the server keeps {:.2} cores busy, {:.2} without viewers",
        of(|round| round.cores),
        of(|round| round.cores_alone),
    );
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}
