//! What the server takes, how old what is stored gets, and how long others wait meanwhile.

use std::time::{Duration, UNIX_EPOCH};

use sea_orm::FromQueryResult;
use tokio::time::{Instant, sleep};

use crate::FLUSH_INTERVAL;
use crate::figures::{Spread, Times};
use crate::good::{GOOD, Good};
use crate::place::{Backend, Place};
use crate::process::ServerProcess;
use crate::reporters::{EVERY, Reporters, SETTINGS};
use crate::writes;

/// Before it counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// Between two looks at what is stored: often enough to meet every moment between two flushes.
const LOOK_EVERY: Duration = Duration::from_millis(37);

/// Those who wait for acknowledgements report nothing.
const OLDEST: &str = "SELECT MIN(updated_at) AS oldest FROM job_progress WHERE overall_completion > 0";

/// The same server without reports, and with them.
struct Round {
    alone: Times,
    beside: Times,
    /// Reports taken in a second.
    taken: f64,
    cores: f64,
    /// Cores that it keeps busy without reports.
    cores_alone: f64,
    /// How old the stored progress was of the job that was written longest ago, at moments chosen by nothing.
    age: Times,
}

pub(crate) async fn measure(backend: Backend, jobs: usize, time: Duration, rounds: usize) {
    let Some(place) = backend.place().await else {
        return;
    };
    let asked = jobs as f64 / EVERY.as_secs_f64();
    println!(
        "  {jobs} jobs, {asked:.0} reports a second, and {GOOD} crawlers that wait for acknowledgements beside them, median \
         (least to most) of {rounds} times {:.0} s",
        time.as_secs_f64()
    );
    let server = ServerProcess::start(&place, &SETTINGS);
    let good = Good::start(&place, &server).await;
    let reporters = Reporters::start(&place, &server, jobs).await;
    let mut told = Vec::new();
    for _ in 0..rounds {
        told.push(round(&place, &server, &good, &reporters, time).await);
    }
    let of = |value: fn(&Round) -> f64| Spread::of(&told, value);
    println!(
        "    taken: {:.0} reports a second, {:.2} of what was asked; the server keeps {:.2} cores busy, {:.2} without \
         reports",
        of(|round| round.taken),
        of(|round| round.taken).median() / asked,
        of(|round| round.cores),
        of(|round| round.cores_alone),
    );
    let interval = FLUSH_INTERVAL.as_secs_f64() * 1000.0;
    println!(
        "    stored is at a moment what was said before: p50 {:.0} ms, p99 {:.0} ms, at most {:.0} ms, which is {:.2} of the \
         time between two flushes",
        of(|round| round.age.p50()),
        of(|round| round.age.p99()),
        of(|round| round.age.most()),
        of(|round| round.age.most()).median() / interval,
    );
    println!(
        "    acknowledged without reports: p50 {:.2} ms, p99 {:.2} ms; beside them: p50 {:.2} ms, p99 {:.2} ms, {:.1} times",
        of(|round| round.alone.p50()),
        of(|round| round.alone.p99()),
        of(|round| round.beside.p50()),
        of(|round| round.beside.p99()),
        of(|round| round.beside.p99() / round.alone.p99()),
    );
}

async fn round(place: &Place, server: &ServerProcess, good: &Good, reporters: &Reporters, time: Duration) -> Round {
    sleep(WARM_UP).await;
    let busy = server.cpu();
    let alone = good.times(time).await;
    let cores_alone = (server.cpu() - busy).as_secs_f64() / time.as_secs_f64();
    reporters.speak(true);
    sleep(WARM_UP).await;
    let (began, busy, before) = (Instant::now(), server.cpu(), taken(server));
    let (beside, age) = tokio::join!(good.times(time), ages(place, time));
    let (lasted, busy, after) = (began.elapsed().as_secs_f64(), server.cpu() - busy, taken(server));
    reporters.speak(false);
    Round {
        alone,
        taken: (after - before - beside.count() as f64) / lasted,
        cores: busy.as_secs_f64() / lasted,
        cores_alone,
        beside,
        age: Times::of(age),
    }
}

/// Messages that the server has taken from those who are connected.
fn taken(server: &ServerProcess) -> f64 {
    let body = server.get("/api/v1/connections?limit=500").expect("the server answers");
    let counts = body.split("\"messages_received\":").skip(1);
    let count = |rest: &str| rest.split(|it: char| !it.is_ascii_digit()).next()?.parse::<f64>().ok();
    counts.filter_map(count).sum()
}

/// How old what is stored is of the job that was written longest ago, now and then.
async fn ages(place: &Place, time: Duration) -> Vec<Duration> {
    #[derive(FromQueryResult)]
    struct Row {
        oldest: i64,
    }
    let began = Instant::now();
    let mut ages = Vec::new();
    while began.elapsed() < time {
        // Asked before the look, so that the look itself makes nothing older.
        let now = UNIX_EPOCH.elapsed().expect("a time after 1970").as_millis() as i64;
        let rows: Vec<Row> = writes::rows(&place.0, OLDEST).await;
        ages.extend(
            rows.first()
                .map(|row| Duration::from_millis(now.saturating_sub(row.oldest).max(0) as u64)),
        );
        sleep(LOOK_EVERY).await;
    }
    ages
}
