//! What a job weighs about which much is reported: memory that the server's process needs more of.

use std::time::Duration;

use tokio::time::sleep;

use crate::place::Backend;
use crate::process::{MIB, ServerProcess};
use crate::reporters::{EVERY, Reporters, SETTINGS};

/// How many times as many reports follow the first ones.
const MORE: u32 = 10;

/// What the server weighs: with jobs that have begun, after some reports of each, and after many.
struct Weights {
    begun: f64,
    some: f64,
    many: f64,
}

pub(crate) async fn measure(jobs: usize, time: Duration) {
    let reports = time.as_secs_f64() / EVERY.as_secs_f64();
    println!(
        "\nMemory of the server's process (VmRSS), on SQLite, with jobs that have begun, after {reports:.0} reports about \
         each, and after {MORE} times as many"
    );
    let few = jobs / 10;
    let with_few = weigh(few, time).await;
    let with_all = weigh(jobs, time).await;
    for (jobs, weights) in [(few, &with_few), (jobs, &with_all)] {
        let Weights { begun, some, many } = weights;
        println!(
            "  {jobs} jobs: {:.1}, {:.1} and {:.1} MiB; {:.2} times as much after {MORE} times the reports",
            begun / MIB,
            some / MIB,
            many / MIB,
            many / some,
        );
    }
    let each = |of: fn(&Weights) -> f64| (of(&with_all) - of(&with_few)) / (jobs - few) as f64;
    println!(
        "  {:.0} bytes for each further job that has begun, {:.0} after some reports, {:.0} after many",
        each(|weights| weights.begun),
        each(|weights| weights.some),
        each(|weights| weights.many),
    );
}

async fn weigh(jobs: usize, time: Duration) -> Weights {
    let place = Backend::Sqlite.place().await.expect("SQLite is always there");
    let server = ServerProcess::start(&place, &SETTINGS);
    let reporters = Reporters::start(&place, &server, jobs).await;
    let begun = server.settled().await;
    let report = async |time| {
        reporters.speak(true);
        sleep(time).await;
        reporters.speak(false);
        server.settled().await
    };
    Weights {
        begun,
        some: report(time).await,
        many: report(time * (MORE - 1)).await,
    }
}
