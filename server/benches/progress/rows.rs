//! What is written, however much is reported.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::FLUSH_INTERVAL;
use crate::place::Backend;
use crate::process::ServerProcess;
use crate::reporters::{EVERY, Reporters, SETTINGS};
use crate::writes::{self, EVERYTHING};

/// In a run of its own, because the database that counts its writes makes as many again.
pub(crate) async fn measure(backend: Backend, jobs: usize, time: Duration) {
    let Some(place) = backend.place().await else {
        return;
    };
    let server = ServerProcess::start(&place, &SETTINGS);
    let reporters = Reporters::start(&place, &server, jobs).await;
    writes::count(&place.0).await;
    let before = writes::newest(&place.0, EVERYTHING).await;
    let began = Instant::now();
    reporters.speak(true);
    sleep(time).await;
    reporters.speak(false);
    // The last flush writes what came since the one before.
    sleep(2 * FLUSH_INTERVAL).await;
    let lasted = (began.elapsed()).as_secs_f64();
    let written = writes::written(&place.0, before, writes::newest(&place.0, EVERYTHING).await).await;
    let bound = jobs as f64 * (lasted / FLUSH_INTERVAL.as_secs_f64() + 1.0);
    let reports = time.as_secs_f64() / EVERY.as_secs_f64();
    println!("  rows written while {reports:.0} times was reported about each of {jobs} jobs:");
    for table in ["job_progress", "tree_progress", "job_history"] {
        let rows: i64 = written.get(table).into_iter().flatten().sum();
        println!(
            "    {table}: {:.0} a second, {:.2} of one for each job and flush, {:.3} for each report",
            rows as f64 / lasted,
            rows as f64 / bound,
            rows as f64 / (reports * jobs as f64),
        );
    }
}
