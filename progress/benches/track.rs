//! What a report costs from message to memory, on one core: `cargo bench -p crawlwire-progress --bench track`.
//!
//! Many jobs report in turn, so that none is in the processor's cache for the next one's sake. The group that a flush takes
//! is dropped at once, as after a commit; while it is kept, as during one, each job is copied once.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "nothing here has another clock")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crawlwire_progress::lifecycle::Lease;
use crawlwire_progress::live::{About, Live};
use crawlwire_progress::track::{Milestones, Thresholds, Tracker};
use crawlwire_progress::{AccountKey, Fence, JobKey, SessionKey, Timestamp};
use crawlwire_protocol::message::{JobProgress, JobType, ProgressData};

const JOBS: i64 = 1000;
const REPORTS: i64 = 200;

/// The counters of the example in the documents (API reference, lines 431 to 445).
fn report(step: i64) -> JobProgress {
    let count = |name: &str, found: i64, done: i64| {
        let number = |value: i64| u64::try_from(value).unwrap_or(0).try_into().expect("a count");
        ProgressData::new(name, number(found), number(done))
    };
    JobProgress {
        progress: vec![
            count("projects", 150, 150 * step / REPORTS),
            count("issues", 1200, 1200 * step / REPORTS),
        ],
        overall_completion: (step as f64 / REPORTS as f64).try_into().expect("a share"),
        time_elapsed: (step as f64 * 1000.0).try_into().expect("a span"),
        estimated_time_remaining: None,
        job_type: None,
    }
}

fn live() -> Live {
    let mut live = Live::new(Milestones::default());
    for job in 0..JOBS {
        let about = About {
            public_id: job.to_string(),
            job_type: JobType::CrawlProject,
            host: "https://gitlab.example".to_owned(),
            account: AccountKey(1),
        };
        live.follow(JobKey(job), Arc::new(about), (lease(), 1), None, Timestamp(0));
    }
    live
}

fn lease() -> Lease {
    Lease {
        session: SessionKey(1),
        fence: Fence(1),
    }
}

/// Reports of all jobs in turn; a flush after each round of `every`. Gives the time of the reports and of the flushes.
fn run(keep: bool) -> (Duration, Duration, Live) {
    let reports: Vec<_> = (1..=REPORTS).map(report).collect();
    let mut live = live();
    let (mut taken, mut flushed) = (Duration::ZERO, Duration::ZERO);
    let mut group = Vec::new();
    for (step, report) in (1..).zip(&reports) {
        let start = Instant::now();
        for job in 0..JOBS {
            let changes = live.report(JobKey(job), lease(), None, report, Timestamp(step * 1000));
            black_box(changes);
        }
        taken += start.elapsed();
        let start = Instant::now();
        group = live.drain();
        flushed += start.elapsed();
        if !keep {
            group.clear();
        }
    }
    drop(group);
    (taken, flushed, live)
}

fn main() {
    let all = (JOBS * REPORTS) as f64;
    println!("{JOBS} jobs with two counters each, {REPORTS} reports of each job");
    for (name, keep) in [
        ("nobody holds the last group", false),
        ("the last group is being written", true),
    ] {
        let (taken, flushed, _) = run(keep);
        println!(
            "{name}: {:.0} reports/s, {:.0} ns a report; a flush takes {:.0} ns for each changed job",
            all / taken.as_secs_f64(),
            taken.as_nanos() as f64 / all,
            flushed.as_nanos() as f64 / all,
        );
    }
    let (_, _, mut live) = run(false);
    let thresholds = Thresholds {
        quiet_after: Duration::from_secs(60),
        stalled_after: Duration::from_secs(300),
        lost_after: Duration::from_secs(30),
    };
    let start = Instant::now();
    black_box(live.look(Timestamp(REPORTS * 1000 + 1), |_| (false, thresholds)));
    println!(
        "a look by the clock: {:.0} ns a job",
        start.elapsed().as_nanos() as f64 / JOBS as f64
    );
    let tracker: &Tracker = live.get(JobKey(0)).expect("it is followed");
    let row = |value: serde_json::Result<String>| value.expect("it is plain data").len();
    println!(
        "a row: {} bytes of counters, {} of what is kept, {} of history ({} points)",
        row(serde_json::to_string(&tracker.entities)),
        row(serde_json::to_string(&tracker.kept)),
        row(serde_json::to_string(&tracker.history)),
        tracker.history.points().len(),
    );
}
