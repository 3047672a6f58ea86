//! Lives per second: submit, assign, start, complete.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crawlwire_progress::{Op, Outcome, State, Store};
use crawlwire_server::Server;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::crawler::Crawler;
use crate::place::{Backend, CRAWLERS_MAX, SLOTS};
use crate::quantile;
use crate::web_app::{WebApp, new_job};

/// Jobs that wait for a crawler, always about as many.
const BACKLOG: usize = 2000;

/// Who submits at a time: as many as jobs that can end at a time, or nearly, so that submitting holds nobody up.
const SUBMITTERS: usize = 256;

/// Connections of those who submit over HTTP.
const WEB_APPS: usize = 64;

/// Before it counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// Crawlers, and whether jobs come over HTTP.
const CASES: [(usize, bool); 4] = [(1, false), (8, false), (CRAWLERS_MAX, false), (CRAWLERS_MAX, true)];

struct Run {
    lives: f64,
    operations: f64,
    statements: f64,
    batches: f64,
}

/// Each case in each round, so that what happens on the machine meanwhile happens to all of them.
pub(crate) async fn measure(backend: Backend, seconds: Duration, rounds: usize) {
    println!(
        "  lives/s, {SLOTS} slots a crawler, {BACKLOG} jobs waiting in 20 lanes, median (least to most) of {rounds} \
         times {:.0} s",
        seconds.as_secs_f64()
    );
    let mut runs: [Vec<Run>; CASES.len()] = Default::default();
    for _ in 0..rounds {
        for (case, runs) in CASES.iter().zip(&mut runs) {
            let Some(run) = run(backend, *case, seconds).await else {
                return;
            };
            runs.push(run);
        }
    }
    let mut alone = None;
    for ((crawlers, over_http), runs) in CASES.iter().zip(&runs) {
        let of = |value: fn(&Run) -> f64| {
            let mut values: Vec<_> = runs.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let lives = of(|run| run.lives);
        let median = quantile(&lives, 0.5);
        println!(
            "    {crawlers:>2} crawlers{}: {median:>6.0} lives/s ({:.0} to {:.0}), {:>4.1} times one crawler; \
             {:.0} batches/s of {:.1} operations in {:.1} statements",
            if *over_http {
                ", jobs over HTTP"
            } else {
                "                 "
            },
            lives[0],
            quantile(&lives, 1.0),
            median / *alone.get_or_insert(median),
            quantile(&of(|run| run.batches), 0.5),
            quantile(&of(|run| run.operations), 0.5),
            quantile(&of(|run| run.statements), 0.5),
        );
    }
}

/// One server with a full queue from the beginning to the end. What ended is counted by the rows, so it was durable.
///
/// Jobs are given to the store, which costs this process least; the dispatcher hears of room by what ends. The last case
/// shows what it costs if they come as they do in life.
async fn run(backend: Backend, (crawlers, over_http): (usize, bool), seconds: Duration) -> Option<Run> {
    let place = backend.place().await?;
    let server = place.start(&[]).await;
    let room = Arc::new(Semaphore::new(BACKLOG));
    let submitting = submit(&server, &room, over_http).await;
    let store = server.store();
    while waiting(&*store).await < BACKLOG as i64 {
        sleep(Duration::from_millis(1)).await;
    }
    let mut working = Vec::new();
    for _ in 0..crawlers {
        let crawler = Crawler::connect(&place.socket()).await.expect("the server listens");
        working.push(tokio::spawn(crawler.work(room.clone())));
    }
    sleep(WARM_UP).await;
    let before = (Instant::now(), completed(&*store).await, server.writer_statistics());
    sleep(seconds).await;
    let after = (Instant::now(), completed(&*store).await, server.writer_statistics());
    let left = waiting(&*store).await;
    if left < BACKLOG as i64 / 4 {
        println!("    only {left} jobs wait: those who submit are too slow");
    }
    room.close();
    for task in submitting {
        task.await.expect("it only submits");
    }
    server.stop().await;
    for task in working {
        task.await
            .expect("it only works")
            .expect("the socket lasts as long as the server");
    }
    let elapsed = (after.0 - before.0).as_secs_f64();
    let batches = (after.2.batches - before.2.batches) as f64;
    Some(Run {
        lives: (after.1 - before.1) as f64 / elapsed,
        operations: (after.2.operations - before.2.operations) as f64 / batches,
        statements: (after.2.statements - before.2.statements) as f64 / batches,
        batches: batches / elapsed,
    })
}

/// Keeps the queue full until there is no more room.
async fn submit(server: &Server, room: &Arc<Semaphore>, over_http: bool) -> Vec<tokio::task::JoinHandle<()>> {
    let numbers = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..if over_http { WEB_APPS } else { SUBMITTERS } {
        let (room, numbers, store) = (room.clone(), numbers.clone(), server.store());
        let mut web_app = match over_http {
            true => Some(WebApp::connect(server.http_address()).await),
            false => None,
        };
        tasks.push(tokio::spawn(async move {
            while let Ok(permit) = room.acquire().await {
                permit.forget();
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                match &mut web_app {
                    Some(web_app) => web_app.submit(number).await,
                    None => {
                        let submitted = store
                            .commit(Op::Submit(Box::new(new_job(number))))
                            .await
                            .expect("a job");
                        assert!(matches!(*submitted, Outcome::Submitted(_)), "{submitted:?}");
                    }
                }
            }
        }));
    }
    tasks
}

async fn waiting(store: &dyn Store) -> i64 {
    count(store, State::Queued).await
}

pub(crate) async fn completed(store: &dyn Store) -> i64 {
    count(store, State::Completed).await
}

async fn count(store: &dyn Store, state: State) -> i64 {
    let counts = store.counts().await.expect("counts");
    counts.get(&state).copied().unwrap_or(0)
}
