//! Lives per second on SQLite with synchronous=FULL: submit, claim, start, finish, each durable before the next.
//!
//! Measures are compared within one run, because disks differ more than programs. `LIVES=20000` asks for another number.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::sync::Arc;
use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use crawlwire_persistence::{Database, SqlStore};
use crawlwire_progress::admit::Capabilities;
use crawlwire_progress::store::{Ending, Holder, NewJob, NewSession, Op, Outcome};
use crawlwire_progress::view::JobSpec;
use crawlwire_progress::{Policy, SessionRef, Store};
use crawlwire_protocol::message::JobType;
use sea_orm::{ConnectionTrait, TransactionTrait};
use tokio::time::Instant;

#[tokio::main]
async fn main() {
    let lives: usize = std::env::var("LIVES")
        .ok()
        .and_then(|lives| lives.parse().ok())
        .unwrap_or(10_000);
    let alone = measure("one life at a time", (lives / 50).max(1), 1).await;
    let rows = row_by_row((lives / 10).max(128), 128).await;
    for together in [16, 128, 512] {
        let rate = measure("together", lives, together).await;
        println!(
            "    {:.1} times one life at a time, {:.1} times a statement for each row",
            rate / alone,
            rate / rows
        );
    }
}

/// Lives per second with so many of them at once, through the store.
async fn measure(what: &str, lives: usize, together: usize) -> f64 {
    let database = TestDatabase::sqlite();
    let mut config = database.config();
    config.policy = Policy {
        queued_jobs_max: u64::MAX,
        ..Policy::default()
    };
    let store = Database::open(config).await.expect("a store");
    let opened = store.commit(Op::OpenSession(NewSession {
        name: "bench".into(),
        identity: None,
        server: "crawlwire".to_owned(),
        capabilities: Capabilities::any(together),
        confirms: false,
        instance: None,
    }));
    let Outcome::SessionOpened(opened) = opened.await.expect("a session").into_inner() else {
        unreachable!("a session opens")
    };
    let session = opened.session;
    let before = store.statistics();
    let begin = Instant::now();
    let tasks: Vec<_> = (0..together)
        .map(|task| {
            let store = store.clone();
            let numbers = (task..lives).step_by(together);
            tokio::spawn(async move {
                for number in numbers {
                    live(&store, session, number).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a life");
    }
    let rate = per_second(lives, begin.elapsed());
    let after = store.statistics();
    let batches = after.batches - before.batches;
    println!(
        "{what}, {together}: {rate:.0} lives/s, {:.0} operations and {:.1} statements a batch",
        (after.operations - before.operations) as f64 / batches as f64,
        (after.statements - before.statements) as f64 / batches as f64,
    );
    store.close().await;
    rate
}

async fn live(store: &Arc<SqlStore>, session: SessionRef, number: usize) {
    let submitted = store.commit(Op::Submit(Box::new(new_job(number)))).await;
    let Ok(Outcome::Submitted(view)) = submitted.map(|outcome| outcome.into_inner()) else {
        unreachable!("a job is submitted")
    };
    let job = view.key;
    let name: Arc<str> = "bench".into();
    let claim = Op::Claim {
        job,
        session,
        name: name.clone(),
    };
    let Ok(Outcome::Moved(fact)) = store.commit(claim).await.map(|outcome| outcome.into_inner()) else {
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
    let finish = Op::Finish {
        job,
        holder,
        ending: Ending::Completed {
            result: "{}".to_owned(),
        },
        progress: None,
    };
    store.commit(finish).await.expect("a finish");
}

/// The same rows without the writer: so many lives to a transaction, a statement for each row.
async fn row_by_row(lives: usize, together: usize) -> f64 {
    let database = TestDatabase::sqlite();
    let store = Database::open(database.config()).await.expect("a store");
    store.close().await;
    let pool = database.pool().await;
    for setup in [
        "PRAGMA synchronous = FULL",
        "INSERT INTO accounts VALUES (1, 'acme', 0)",
        "INSERT INTO sessions VALUES (1, 'bench', NULL, 's', 1, '{}', 0, 0, 0)",
    ] {
        pool.execute_unprepared(setup).await.expect("setup");
    }
    let begin = Instant::now();
    for first in (0..lives).step_by(together) {
        for step in 0..4 {
            let transaction = pool.begin().await.expect("a transaction");
            for number in first..(first + together).min(lives) {
                let [row, event] = statements(step, number + 1);
                transaction.execute_unprepared(&row).await.expect("a row");
                transaction.execute_unprepared(&event).await.expect("an event");
            }
            transaction.commit().await.expect("a commit");
        }
    }
    let rate = per_second(lives, begin.elapsed());
    println!("a statement for each row, {together} lives to a transaction: {rate:.0} lives/s");
    rate
}

fn statements(step: usize, id: usize) -> [String; 2] {
    let row = match step {
        0 => format!(
            "INSERT INTO jobs (id, public_id, web_app_job_id, identity, account_id, root_id, depth, generation, \
             job_type, command, host, priority, labels, tags, status, fence, attempt, failures, misses, lane, due, resume, \
             children, tree_jobs, open_children, failed_children, tree_status, created_at, updated_at) VALUES \
             ({id}, 'job-{id}', 'job-{id}', 'i-{id}', 1, {id}, 0, 'job-{id}', 'crawl_project', 'project', \
             'https://git.example', 1, '[]', '[]', 'queued', 0, 0, 0, 0, 7, {id}, 0, 0, 0, 0, 0, 'open', 0, 0)"
        ),
        1 => format!("UPDATE jobs SET status = 'assigned', session_id = 1, assigned_at = 0, fence = 1 WHERE id = {id}"),
        2 => format!("UPDATE jobs SET status = 'running', attempt = 1, deadline = 1, started_at = 0 WHERE id = {id}"),
        _ => format!(
            "UPDATE jobs SET status = 'completed', session_id = NULL, assigned_at = NULL, deadline = NULL, \
             finished_at = 1, tree_status = 'completed', settled_at = 1, result = '{{}}' WHERE id = {id}"
        ),
    };
    let event = format!(
        "INSERT INTO job_events (job_id, at, arrows, status, fence, attempt) VALUES ({id}, 0, 'step', 'queued', 0, 0)"
    );
    [row, event]
}

fn per_second(lives: usize, elapsed: Duration) -> f64 {
    lives as f64 / elapsed.as_secs_f64()
}

fn new_job(number: usize) -> NewJob {
    let spec = JobSpec {
        entity_id: Some(number.to_string()),
        ..JobSpec::new(JobType::CrawlProject, "https://git.example")
    };
    NewJob::new(format!("job-{number:09}"), "acme", spec)
}
