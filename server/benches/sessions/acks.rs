//! Durable messages per second: checkpoints that are acknowledged, as many on their way as the server allows.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crawlwire_progress::{Op, Outcome};
use crawlwire_server::Server;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::figures::Spread;
use crate::place::{Backend, Place};
use crate::web_app::new_job;
use crate::wire::{Heard, Lease, Session};

/// Before it counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// Crawlers, each with a connection and a job of its own.
const CASES: [usize; 2] = [1, 8];

struct Run {
    messages: f64,
    batches: f64,
    operations: f64,
    statements: f64,
    /// Commits of one row that the same disk takes in a second.
    bare: f64,
}

/// Each case in each round, so that what happens on the machine meanwhile happens to all of them.
pub(crate) async fn measure(backend: Backend, time: Duration, rounds: usize) {
    println!(
        "  checkpoints of 300 bytes, acknowledged when durable, median (least to most) of {rounds} times {:.0} s",
        time.as_secs_f64()
    );
    let mut runs: [Vec<Run>; CASES.len()] = Default::default();
    for _ in 0..rounds {
        for (crawlers, runs) in CASES.into_iter().zip(&mut runs) {
            let Some(run) = run(backend, crawlers, time).await else {
                return;
            };
            runs.push(run);
        }
    }
    let alone = Spread::of(&runs[0], |run| run.messages).median();
    for (crawlers, runs) in CASES.into_iter().zip(&runs) {
        let messages = Spread::of(runs, |run| run.messages);
        println!(
            "    {crawlers} connections: {messages:.0} messages/s, {:.1} times one connection, {:.1} times bare commits of \
             one row; {:.0} batches/s of {:.1} operations in {:.1} statements",
            messages.median() / alone,
            Spread::of(runs, |run| run.messages / run.bare).median(),
            Spread::of(runs, |run| run.batches).median(),
            Spread::of(runs, |run| run.operations).median(),
            Spread::of(runs, |run| run.statements).median(),
        );
    }
}

/// One server, from a fresh database to its end. Nothing but the database limits how fast it may be told.
async fn run(backend: Backend, crawlers: usize, time: Duration) -> Option<Run> {
    let place = backend.place().await?;
    let bare = bare(&place, time / 4).await;
    let server = place.start(&[("SOCKET_RATE_LIMIT_MESSAGES_PER_SECOND", "0")]).await;
    let acked = Arc::new(AtomicU64::new(0));
    let mut working = Vec::new();
    for number in 0..crawlers {
        working.push(crawler(&server, &place, number, acked.clone()).await);
    }
    sleep(WARM_UP).await;
    let look = || {
        (
            Instant::now(),
            acked.load(Ordering::Relaxed),
            server.writer_statistics(),
        )
    };
    let before = look();
    sleep(time).await;
    let after = look();
    for task in working {
        task.abort();
        match task.await {
            Err(error) if error.is_cancelled() => {}
            ended => panic!("a crawler ended: {ended:?}"),
        }
    }
    server.stop().await;
    let elapsed = (after.0 - before.0).as_secs_f64();
    let batches = (after.2.batches - before.2.batches) as f64;
    Some(Run {
        messages: (after.1 - before.1) as f64 / elapsed,
        batches: batches / elapsed,
        operations: (after.2.operations - before.2.operations) as f64 / batches,
        statements: (after.2.statements - before.2.statements) as f64 / batches,
        bare,
    })
}

/// Commits of one row per second, one after the other.
async fn bare(place: &Place, time: Duration) -> f64 {
    let bare = place.bare().await;
    let begun = Instant::now();
    let mut commits = 0.0;
    while begun.elapsed() < time {
        bare.commit().await;
        commits += 1.0;
    }
    commits / begun.elapsed().as_secs_f64()
}

/// A crawler that holds a job and speaks of it.
async fn crawler(server: &Server, place: &Place, number: usize, acked: Arc<AtomicU64>) -> JoinHandle<io::Result<()>> {
    let submission = Op::Submit(Box::new(new_job(number)));
    let submitted = server.store().commit(submission).await.expect("a job");
    assert!(matches!(*submitted, Outcome::Submitted(_)), "{submitted:?}");
    let session = Session::connect(&place.socket(), Uuid::now_v7(), 1, &[]).await;
    let mut session = session.expect("the server welcomes sessions");
    let lease = session.begin().await.expect("a job that begins");
    tokio::spawn(tell(session, lease, acked))
}

/// Keeps as many checkpoints on their way as may be, and counts those that are durable.
async fn tell(mut session: Session, lease: Lease, acked: Arc<AtomicU64>) -> io::Result<()> {
    let mut settled = session.seq;
    loop {
        while session.seq - settled < session.window {
            session.checkpoint(&lease);
        }
        session.flush().await?;
        if let Heard::Acked(seq) = session.next().await? {
            acked.fetch_add(seq - settled, Ordering::Relaxed);
            settled = seq;
        }
    }
}
