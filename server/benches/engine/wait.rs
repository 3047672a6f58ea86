//! How long a job is on its way: from the request that submits it to its line on the socket of an idle crawler.

use std::time::Duration;

use crawlwire_progress::store::ReadyQuery;
use crawlwire_progress::{Arrow, Op, Store};
use crawlwire_router::Event;
use crawlwire_server::Server;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::crawler::Crawler;
use crate::lives::completed;
use crate::place::{Backend, Bare};
use crate::quantile;
use crate::web_app::{WebApp, request};

/// What is aimed at: what BullMQ needs with synced writes on such a machine.
const AIM_MS: f64 = 0.76;

/// A job that takes longer has got lost.
const DEADLINE: Duration = Duration::from_secs(30);

/// Commits before it counts, of either kind: until then the logs grow, which costs the disk more.
const WARM_UP: usize = 500;

/// Milliseconds, sorted.
struct Times(Vec<f64>);

impl Times {
    fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<_> = times.into_iter().map(|time| time.as_secs_f64() * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    fn median(&self) -> f64 {
        quantile(&self.0, 0.5)
    }

    fn tell(&self, what: &str) {
        println!(
            "    {:>6.3} ms, p95 {:>6.3}: {what}",
            self.median(),
            quantile(&self.0, 0.95)
        );
    }
}

pub(crate) async fn measure(backend: Backend, jobs: usize) {
    let Some(place) = backend.place().await else {
        return;
    };
    let server = place.start(&[]).await;
    let crawler = Crawler::connect(&place.socket()).await.expect("the server listens");
    // One job is on its way at a time.
    let (told, arrivals) = mpsc::channel(1);
    let crawling = tokio::spawn(crawler.tell(told));
    let mut course = Course {
        store: server.store(),
        web_app: WebApp::connect(server.http_address()).await,
        arrivals,
        bare: place.bare().await,
        submitted: 0,
    };
    for _ in 0..WARM_UP.min(jobs) {
        course.one().await;
        course.bare.commit().await;
    }
    let before = server.writer_statistics();
    let (mut ways, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..jobs {
        let way = course.one().await;
        ways.push(way.arrived - way.sent);
        let since = Instant::now();
        course.bare.commit().await;
        bare.push(since.elapsed());
    }
    let after = server.writer_statistics();
    let (way, bare) = (Times::of(ways), Times::of(bare));
    let a_job = |count: u64| count as f64 / jobs as f64;
    println!("  from submission (HTTP, connection kept) to an idle crawler's socket, {jobs} jobs one by one: median");
    way.tell("the whole way");
    bare.tell("a bare commit of one row, durable, in turns with it");
    println!(
        "    {:.1} bare commits; {:.2} times the aim of {AIM_MS} ms",
        way.median() / bare.median(),
        way.median() / AIM_MS
    );
    println!(
        "    {:.1} batches with {:.1} statements of the writer for each job, until it had ended",
        a_job(after.batches - before.batches),
        a_job(after.statements - before.statements)
    );
    steps(&server, &mut course, jobs / 4).await;
    drop(course);
    server.stop().await;
    crawling
        .await
        .expect("it only crawls")
        .expect("the socket lasts as long as the server");
}

/// One job after the other.
struct Course {
    store: std::sync::Arc<dyn Store>,
    web_app: WebApp,
    arrivals: mpsc::Receiver<Instant>,
    bare: Bare,
    submitted: usize,
}

struct Way {
    sent: Instant,
    arrived: Instant,
    answered: Instant,
}

impl Course {
    /// Sends one job on its way, and waits until all is quiet again.
    async fn one(&mut self) -> Way {
        self.submitted += 1;
        let text = request(self.submitted);
        let Self { web_app, arrivals, .. } = self;
        let sent = Instant::now();
        web_app.send(&text).await;
        let answer = async {
            web_app.answer("201").await;
            Instant::now()
        };
        let (answered, arrived) = tokio::join!(answer, timeout(DEADLINE, arrivals.recv()));
        let arrived = arrived.expect("an assignment in time").expect("a crawler");
        while completed(&*self.store).await < self.submitted as i64 {
            sleep(Duration::from_millis(1)).await;
        }
        Way {
            sent,
            arrived,
            answered,
        }
    }
}

/// The same once more, watched: where the time goes. Whoever watches takes a little of it.
async fn steps(server: &Server, course: &mut Course, jobs: usize) {
    let mut events = server.subscribe();
    let (told, mut facts) = mpsc::channel(1000);
    let watching = tokio::spawn(async move {
        while let Ok(event) = events.recv().await {
            let now = Instant::now();
            if let Event::Job(fact) = event
                && told.send((fact.arrow, now)).await.is_err()
            {
                return;
            }
        }
    });
    let mut steps: [Vec<Duration>; 5] = Default::default();
    for _ in 0..jobs {
        let way = course.one().await;
        let submitted = wait_for(&mut facts, Arrow::Submit).await;
        let assigned = wait_for(&mut facts, Arrow::Claim).await;
        wait_for(&mut facts, Arrow::Finish).await;
        for (step, (from, to)) in steps.iter_mut().zip([
            (way.sent, way.arrived),
            (way.sent, submitted),
            (submitted, assigned),
            (assigned, way.arrived),
            (submitted, way.answered),
        ]) {
            step.push(to.saturating_duration_since(from));
        }
    }
    watching.abort();
    println!("  where it goes, {jobs} jobs, watched:");
    for (step, what) in steps.into_iter().zip([
        "the whole way",
        "request to the submission committed",
        "submission committed to the claim committed",
        "claim committed to the line read",
        "(beside it: submission committed to the answer read)",
    ]) {
        Times::of(step).tell(what);
    }
    parts(course, jobs).await;
}

/// What the steps consist of, each measured alone.
async fn parts(course: &mut Course, times: usize) {
    let query = ReadyQuery {
        after_lane: None,
        lanes: 10,
        per_lane: 5,
    };
    let mut parts: [Vec<Duration>; 4] = Default::default();
    for _ in 0..times {
        let begin = Instant::now();
        course.web_app.ping().await;
        let pinged = Instant::now();
        course.store.ready(query).await.expect("an empty queue");
        let looked = Instant::now();
        course.store.gates().await.expect("no gates");
        let asked = Instant::now();
        let renewed = course.store.commit(Op::Renew(Vec::new())).await;
        renewed.expect("nothing to write");
        for (part, time) in parts
            .iter_mut()
            .zip([pinged - begin, looked - pinged, asked - looked, asked.elapsed()])
        {
            part.push(time);
        }
    }
    for (part, what) in parts.into_iter().zip([
        "HTTP there and back, without a database",
        "a look at the queue, empty",
        "a look at the gates, none closed",
        "a transaction of the writer that changes nothing",
    ]) {
        Times::of(part).tell(what);
    }
}

async fn wait_for(facts: &mut mpsc::Receiver<(Arrow, Instant)>, arrow: Arrow) -> Instant {
    loop {
        let fact = timeout(DEADLINE, facts.recv()).await.expect("a fact in time");
        let (taken, at) = fact.expect("somebody watches");
        if taken == arrow {
            return at;
        }
    }
}
