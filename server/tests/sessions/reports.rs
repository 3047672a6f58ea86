//! A hundred jobs, about each of which a crawler reports fifty times a second, and a server that is killed in the middle.
//!
//! Nothing here is timed by the clock of a machine that may be slow. What must be there after the kill is what the server
//! had shown before a flush began that is known to have ended, and how soon it has to end is counted in sweeps of the same
//! server. What may be written is counted by the database itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use sea_orm::FromQueryResult;
use serde_json::json;
use tokio::time::Instant;

use crate::support::crawler::Assignment;
use crate::support::server::block_on;
use crate::support::session::{hello, session_line};
use crate::support::{Api, Crawler, DEADLINE, SessionCrawler, Setup, TestServer, on_both_databases, pause, wait_until};
use crate::writes::{self, EVERYTHING, Written};

on_both_databases!(what_was_seen_before_a_flush_outlives_a_kill_and_a_flush_writes_a_job_once);

const CRAWLERS: usize = 10;

/// Jobs of each.
const HELD: usize = 10;

/// Between two reports about a job.
const EVERY: Duration = Duration::from_millis(20);

/// Reports about each job that the server takes before it may be killed.
const REPORTS: u64 = 150;

/// Between two flushes, as `docs/progress.md` has it.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// Sweeps that may pass until a report is written: two before the flush begins, and some because on a busy machine it is
/// chance which of two tasks comes first. Both share a runtime and a writer, so that they are slow together.
const SWEEPS_MAX: i64 = 8;

/// Found by each job. So many that none comes to a milestone, which would be written at once.
const FOUND: u64 = 1_000_000;

fn report(job: &Assignment, number: u64) -> String {
    let counts = json!([{ "entity_type": "issues", "total_discovered": FOUND, "total_processed": number }]);
    let data = json!({ "progress": counts, "overall_completion": 0.1, "time_elapsed": number });
    session_line(
        "job_progress",
        Some(&job.id),
        &json!({ "fence": job.fence(), "n": number }),
        &data,
    ) + "\n"
}

/// A crawler that holds so many jobs and has begun them.
fn working(socket: &Path, instance: u64, held: usize) -> (SessionCrawler, Vec<Assignment>) {
    let mut greeting = hello("busy", instance);
    greeting["slots"] = held.into();
    let mut session = SessionCrawler::begin(Crawler::unix(socket), greeting);
    let jobs: Vec<_> = (0..held).map(|_| session.assignment()).collect();
    for job in &jobs {
        session.started(job);
    }
    session.settle();
    (session, jobs)
}

/// What crawlers in threads of their own, and whoever started them, tell each other.
#[derive(Default)]
struct Course {
    has_begun: AtomicBool,
    is_over: AtomicBool,
    /// The last number that every job of a crawler was reported under, for each crawler.
    sent: [AtomicU64; CRAWLERS],
}

/// Reports about all its jobs from the beginning until it is over, whether the server listens or not.
fn crawl(socket: &Path, number: usize, course: &Course, held: &SyncSender<Vec<String>>) {
    let (mut session, jobs) = working(socket, number as u64, HELD);
    let ids = jobs.iter().map(|job| job.id.clone()).collect();
    held.send(ids).expect("somebody waits");
    let mut sent = 0;
    let mut next = Instant::now();
    while !course.is_over.load(Ordering::Relaxed) {
        if course.has_begun.load(Ordering::Relaxed) {
            sent += 1;
            let lines: String = jobs.iter().map(|job| report(job, sent)).collect();
            session.line.send_bytes(lines.as_bytes());
            course.sent[number].store(sent, Ordering::Relaxed);
        }
        // What the server asks for is no more than what it gets.
        while session.line.try_recv().is_some() {}
        next += EVERY;
        pause(next.saturating_duration_since(Instant::now()));
    }
}

struct Load {
    course: Arc<Course>,
    crawlers: Vec<JoinHandle<()>>,
    jobs: Vec<String>,
}

impl Load {
    /// Returns when all jobs have begun. Nothing is reported before it is asked for.
    fn start(socket: &Path) -> Self {
        let course = Arc::<Course>::default();
        let (held, all_held) = sync_channel(CRAWLERS);
        let crawlers = (0..CRAWLERS).map(|number| {
            let (socket, course, held): (PathBuf, _, _) = (socket.to_owned(), course.clone(), held.clone());
            std::thread::spawn(move || crawl(&socket, number, &course, &held))
        });
        let crawlers = crawlers.collect();
        let jobs = (0..CRAWLERS).flat_map(|_| all_held.recv_timeout(DEADLINE).expect("jobs that have begun"));
        Self {
            jobs: jobs.collect(),
            course,
            crawlers,
        }
    }

    fn begin(&self) {
        self.course.has_begun.store(true, Ordering::Relaxed);
    }

    /// The number that all jobs have been reported under, at least.
    fn sent(&self) -> u64 {
        let sent = self.course.sent.iter().map(|sent| sent.load(Ordering::Relaxed));
        sent.min().unwrap_or(0)
    }

    fn end(self) {
        self.course.is_over.store(true, Ordering::Relaxed);
        for crawler in self.crawlers {
            crawler.join().expect("a crawler");
        }
    }
}

/// How many items of a job are processed, as anybody sees it.
fn shown(api: &Api, job: &str) -> u64 {
    let progress = api.get(&format!("/api/v1/jobs/{job}/progress")).ok();
    progress["done"].as_u64().expect("a number")
}

/// Items of each job that are processed, as it is stored.
fn stored(server: &TestServer) -> BTreeMap<String, u64> {
    #[derive(FromQueryResult)]
    struct Row {
        public_id: String,
        done: i64,
    }
    let query = "SELECT j.public_id, p.done FROM job_progress AS p JOIN jobs AS j ON j.id = p.job_id";
    let rows: Vec<Row> = block_on(writes::rows(server.database(), query));
    rows.into_iter().map(|row| (row.public_id, row.done as u64)).collect()
}

fn newest_write(server: &TestServer, condition: &str) -> i64 {
    block_on(writes::newest(server.database(), condition))
}

fn written(server: &TestServer, after: i64, until: i64) -> Written {
    block_on(writes::written(server.database(), after, until))
}

/// How often that row was written that was written most often.
fn most(written: &Written, table: &str) -> i64 {
    let rows = written.get(table).and_then(|rows| rows.iter().max());
    rows.copied().unwrap_or(0)
}

/// Waits until every job was reported often enough; how far each is, as everybody could see by then.
fn seen(server: &TestServer, load: &Load) -> BTreeMap<String, u64> {
    let until = Instant::now() + 3 * DEADLINE;
    while load.sent() < REPORTS {
        assert!(Instant::now() < until, "the server does not read");
        pause(EVERY);
    }
    let api = server.api();
    let look = |job: &String| {
        let enough = || Some(shown(&api, job)).filter(|shown| *shown >= REPORTS);
        (job.clone(), wait_until("the reports are heard", enough))
    };
    load.jobs.iter().map(look).collect()
}

fn what_was_seen_before_a_flush_outlives_a_kill_and_a_flush_writes_a_job_once(database: TestDatabase) {
    let mut server = Setup::new(database)
        .set("SOCKET_LOG_LEVEL", "info")
        .set("SOCKET_MAX_CONCURRENT_JOBS", HELD)
        .set("SOCKET_RATE_LIMIT_MESSAGES_PER_SECOND", 0)
        .set("SOCKET_SWEEP_INTERVAL", SWEEP_INTERVAL.as_millis())
        .start();
    let api = server.api();
    api.submit("crawl_project");
    let (mut witness, probe) = working(&server.socket(), CRAWLERS as u64, 1);
    let probe = &probe[0];
    for _ in 0..CRAWLERS * HELD {
        api.submit("crawl_project");
    }
    let load = Load::start(&server.socket());
    block_on(writes::count(server.database()));

    let (began, first_write) = (Instant::now(), newest_write(&server, EVERYTHING));
    load.begin();
    let seen = seen(&server, &load);
    // A flush writes all that changed, so one that has this report has all those that were seen before it was made. The
    // second report comes when a flush has just been, and so has to wait for the whole of the interval.
    for number in 1..=2 {
        witness.line.send_bytes(report(probe, number).as_bytes());
        wait_until("it is heard", || (shown(&api, &probe.id) == number).then_some(()));
        let heard = newest_write(&server, EVERYTHING);
        wait_until("it is written", || {
            (stored(&server).get(&probe.id) == Some(&number)).then_some(())
        });
        let theirs = format!(
            "what = 'job_progress' AND row = (SELECT id FROM jobs WHERE public_id = '{}')",
            probe.id
        );
        let sweeps = most(&written(&server, heard, newest_write(&server, &theirs)), "sessions");
        assert!(sweeps <= SWEEPS_MAX, "{sweeps} sweeps until a report was written");
    }
    server.kill();
    let (lasted, sent) = (began.elapsed(), load.sent());
    load.end();

    let left = stored(&server);
    let mut least = sent;
    for (job, seen) in &seen {
        let left = left.get(job).copied().unwrap_or(0);
        assert!(
            left >= *seen,
            "{job}: {seen} was seen before the last flush, and {left} is left"
        );
        least = least.min(left);
    }
    println!("{sent} reports about each job, of which the kill left {least} at least");
    judge_writes(
        &written(&server, first_write, newest_write(&server, EVERYTHING)),
        lasted,
    );

    server.start();
    let api = server.api();
    for job in seen.keys() {
        assert_eq!(shown(&api, job), left[job], "whoever asks is told what is left");
    }
    assert!(!server.log().contains("panicked"), "the server panicked");
}

/// However many reports there were, each flush has written each job once, and nothing else.
fn judge_writes(written: &Written, lasted: Duration) {
    // One may have begun before, and one at the very beginning.
    let flushes = lasted.div_duration_f64(FLUSH_INTERVAL) as i64 + 2;
    println!("in {lasted:?}, and so at most {flushes} flushes:");
    // The row of a tree is begun before it is written for the first time.
    for (table, begun) in [("job_progress", 0), ("tree_progress", 1), ("job_history", 0)] {
        let rows = &written[table];
        let all: i64 = rows.iter().sum();
        println!("  {table}: {} rows written {all} times", rows.len());
        assert!(rows.len() > CRAWLERS * HELD, "{table}: not all jobs are there");
        let most = most(written, table);
        assert!(
            most <= flushes + begun,
            "{table}: the same row {most} times in {flushes} flushes"
        );
    }
    assert!(!written.contains_key("job_events"), "a report is no event of a life");
}
