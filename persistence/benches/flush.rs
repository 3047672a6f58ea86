//! What it costs to write how far 1,000 running jobs are that have all changed, on SQLite with synchronous=FULL and on
//! PostgreSQL with fsync: reports, sums of trees, milestones, now and then histories; each group durable before the next.
//!
//! The jobs are in 100 trees and have four counters each. `FLUSHES=200` asks for another number than 50.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::sync::Arc;

use crawlwire_persistence::testing::TestDatabase;
use crawlwire_persistence::{Database, SqlStore};
use crawlwire_progress::admit::Capabilities;
use crawlwire_progress::store::{Found, Holder, NewJob, NewSession, Op, Outcome, PROGRESS_ROWS_MAX};
use crawlwire_progress::track::{Milestones, Tracker};
use crawlwire_progress::view::JobSpec;
use crawlwire_progress::{JobKey, Policy, SessionRef, Store, Timestamp};
use crawlwire_protocol::message::{DiscoveredJob, JobProgress, JobType, ProgressData};
use tokio::time::Instant;

const TREES: usize = 100;
const JOBS: usize = 1000;

#[tokio::main]
async fn main() {
    let flushes = std::env::var("FLUSHES").ok().and_then(|flushes| flushes.parse().ok());
    let flushes = flushes.unwrap_or(50);
    measure("SQLite", TestDatabase::sqlite(), flushes).await;
    match TestDatabase::postgres_durable().await {
        Some(database) => measure("PostgreSQL", database, flushes).await,
        None => println!("PostgreSQL: there is none here"),
    }
}

async fn measure(what: &str, database: TestDatabase, flushes: u32) {
    let mut config = database.config();
    config.policy = Policy {
        queued_jobs_max: u64::MAX,
        ..Policy::default()
    };
    let store = Database::open(config).await.expect("a store");
    let mut jobs = running(&store).await;
    let before = store.statistics();
    let mut times = Vec::new();
    for flush in 1..=flushes {
        for (_, _, tracker) in &mut jobs {
            advance(tracker, flush, flushes);
        }
        let begin = Instant::now();
        for group in jobs.chunks(PROGRESS_ROWS_MAX) {
            let group = group.iter().map(|(job, holder, it)| (*job, holder.lease(), it.clone()));
            let outcome = store.commit(Op::Progress(group.collect())).await.expect("a flush");
            assert!(matches!(&*outcome, Outcome::Progressed { stale, .. } if stale.is_empty()));
        }
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    let after = store.statistics();
    println!(
        "{what}: {JOBS} changed jobs in {:.1?} (median), {:.1?} (worst of {flushes}), {:.1} statements",
        times[times.len() / 2],
        times[times.len() - 1],
        (after.statements - before.statements) as f64 / f64::from(flushes),
    );
    store.close().await;
}

/// A second of work.
fn advance(tracker: &mut Arc<Tracker>, flush: u32, flushes: u32) {
    let counters = ["groups", "projects", "issues", "notes"].map(|kind| ProgressData {
        estimated_remaining: Some(f64::from((flushes - flush) * 10)),
        ..ProgressData::new(kind, (flushes * 10).into(), (flush * 10).into())
    });
    let message = JobProgress {
        progress: counters.into(),
        overall_completion: (f64::from(flush) / f64::from(flushes)).try_into().expect("a share"),
        time_elapsed: f64::from(flush * 1000).try_into().expect("a time"),
        estimated_time_remaining: None,
        job_type: None,
    };
    let n = i64::from(flush);
    Arc::make_mut(tracker).report(&message, n, Timestamp(n * 1000), &Milestones::default());
}

/// Jobs that run, in trees of a root and its children.
async fn running(store: &Arc<SqlStore>) -> Vec<(JobKey, Holder, Arc<Tracker>)> {
    let opened = store.commit(Op::OpenSession(NewSession {
        name: "bench".into(),
        identity: None,
        server: "crawlwire".to_owned(),
        capabilities: Capabilities::any(JOBS),
        confirms: false,
        instance: None,
    }));
    let Outcome::SessionOpened(opened) = opened.await.expect("a session").into_inner() else {
        unreachable!("a session opens")
    };
    let mut jobs = Vec::new();
    for tree in 0..TREES {
        let spec = JobSpec::new(JobType::CrawlGroup, format!("https://git{}.example", tree % 7));
        let new = NewJob::new(format!("tree-{tree}"), format!("account-{}", tree % 10), spec);
        let Outcome::Submitted(root) = store
            .commit(Op::Submit(Box::new(new)))
            .await
            .expect("a job")
            .into_inner()
        else {
            unreachable!("a job is submitted")
        };
        let holder = start(store, root.key, opened.session).await;
        let items = (1..JOBS / TREES).map(|child| Found {
            public_id: format!("tree-{tree}-{child}"),
            item: found(child),
            weight: 0,
        });
        let discover = Op::Discover {
            parent: root.key,
            holder: holder.clone(),
            items: items.collect(),
        };
        let Outcome::Discovered(children) = store.commit(discover).await.expect("children").into_inner() else {
            unreachable!("children are discovered")
        };
        jobs.push((root.key, holder));
        for fact in children.into_iter().filter_map(|(_, fact)| fact) {
            jobs.push((fact.job, start(store, fact.job, opened.session).await));
        }
    }
    let tracker = Arc::new(Tracker::begin(1, None, Timestamp(0)));
    jobs.into_iter()
        .map(|(job, holder)| (job, holder, tracker.clone()))
        .collect()
}

fn found(child: usize) -> DiscoveredJob {
    DiscoveredJob {
        job_type: JobType::CrawlProject,
        entity_id: child.to_string(),
        namespace_path: format!("group/{child}"),
        entity_name: child.to_string(),
        priority: 1.0,
        estimated_size: None,
    }
}

async fn start(store: &Arc<SqlStore>, job: JobKey, session: SessionRef) -> Holder {
    let name: Arc<str> = "bench".into();
    let claim = Op::Claim {
        job,
        session,
        name: name.clone(),
    };
    let Outcome::Moved(fact) = store.commit(claim).await.expect("a claim").into_inner() else {
        unreachable!("a job is claimed")
    };
    let holder = Holder {
        session: session.key,
        name,
        fence: fact.fence,
    };
    let start = Op::Start {
        job,
        holder: holder.clone(),
    };
    store.commit(start).await.expect("a start");
    holder
}
