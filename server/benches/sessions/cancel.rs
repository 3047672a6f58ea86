//! How soon a busy crawler hears that its job is to be ended: from the request to the line on its socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use uuid::Uuid;

use crate::figures::Times;
use crate::place::{Backend, Place};
use crate::process::ServerProcess;
use crate::web_app::WebApp;
use crate::wire::{Heard, Lease, Session};

/// What is aimed at, for 99 of 100.
const AIM_MS: f64 = 100.0;

/// Between two reports of progress: 200 a second.
const REPORT: Duration = Duration::from_millis(5);

/// So many reports come with one checkpoint.
const REPORTS_PER_CHECKPOINT: u64 = 4;

/// What takes longer has got lost.
const DEADLINE: Duration = Duration::from_secs(30);

/// Crawlers, all of them as busy; one of them is cancelled, and again and again.
const CASES: [usize; 2] = [1, 8];

/// What a crawler tells the one who measures.
enum Told {
    /// The job has begun, durably.
    Began(String),
    /// It is to be ended: when the line was read.
    Cancel(String, Instant),
}

pub(crate) async fn measure(backend: Backend, cancels: usize) {
    println!(
        "  from a cancel (HTTP, connection kept) to the crawler's socket, {cancels} times, crawlers that send {} reports \
         and {} checkpoints a second",
        1000 / REPORT.as_millis(),
        1000 / REPORT.as_millis() / u128::from(REPORTS_PER_CHECKPOINT)
    );
    for crawlers in CASES {
        let Some(place) = backend.place().await else {
            return;
        };
        run(&place, crawlers, cancels).await;
    }
}

async fn run(place: &Place, crawlers: usize, cancels: usize) {
    let server = ServerProcess::start(place, &[("SOCKET_RATE_LIMIT_MESSAGES_PER_SECOND", "0")]);
    let mut web_app = WebApp::connect(server.http_address()).await;
    // Each crawler tells of one job at a time.
    let (told, mut tells) = mpsc::channel(2 * crawlers);
    let mut crawling = JoinSet::new();
    for number in 0..crawlers {
        let crawler = Crawler::connect(&place.socket(), told.clone()).await;
        let crawler = crawler.expect("the server welcomes sessions");
        crawling.spawn(async move { crawler.work().await.expect("the server has nothing against it") });
        // All but one have a job for good.
        if number > 0 {
            web_app.submit(number).await;
            tells.recv().await.expect("it runs");
        }
    }
    let (mut ways, mut answers, mut pings) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..cancels {
        web_app.submit(crawlers + number).await;
        let Ok(Some(Told::Began(job))) = timeout(DEADLINE, tells.recv()).await else {
            panic!("a job did not begin");
        };
        // At another moment of what the crawler and the server do anyway each time.
        sleep(Duration::from_millis(20 + (number as u64 * 7) % 41)).await;
        let pinged = Instant::now();
        web_app.ping().await;
        pings.push(pinged.elapsed());
        let (way, answer) = cancel(&mut web_app, &job, &mut tells).await;
        ways.push(way);
        answers.push(answer);
    }
    let (ways, answers, pings) = (Times::of(ways), Times::of(answers), Times::of(pings));
    println!(
        "    {crawlers} crawlers: p50 {:.2} ms, p99 {:.2} ms, at most {:.2} ms; p99 is {:.2} times the aim of {AIM_MS} ms",
        ways.p50(),
        ways.p99(),
        ways.most(),
        ways.p99() / AIM_MS
    );
    println!(
        "      beside it: the answer to the request p50 {:.2} ms, p99 {:.2} ms; one without a database {:.2} ms, {:.2} ms",
        answers.p50(),
        answers.p99(),
        pings.p50(),
        pings.p99()
    );
}

/// From the request to the line and to the answer.
async fn cancel(web_app: &mut WebApp, job: &str, tells: &mut mpsc::Receiver<Told>) -> (Duration, Duration) {
    let request = format!(
        "POST /api/v1/jobs/{job}/cancel HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: 2\r\n\r\n{{}}"
    );
    let sent = Instant::now();
    web_app.send(&request).await;
    let answer = async {
        web_app.answer("200").await;
        sent.elapsed()
    };
    let (answer, told) = tokio::join!(answer, timeout(DEADLINE, tells.recv()));
    match told {
        Ok(Some(Told::Cancel(cancelled, at))) if cancelled == job => (at - sent, answer),
        _ => panic!("the cancel of {job} got lost"),
    }
}

/// A crawler with one slot that never ends a job unless it is asked to.
struct Crawler {
    session: Session,
    told: mpsc::Sender<Told>,
    /// Its job, and the number of the line that said it began, until that is durable.
    job: Option<(Lease, Option<u64>)>,
    settled: u64,
    reports: u64,
}

impl Crawler {
    async fn connect(socket: &Path, told: mpsc::Sender<Told>) -> io::Result<Self> {
        let session = Session::connect(socket, Uuid::now_v7(), 1, &[]).await?;
        Ok(Self {
            settled: session.seq,
            session,
            told,
            job: None,
            reports: 0,
        })
    }

    /// Works until the server hangs up, or has something against it.
    async fn work(mut self) -> io::Result<()> {
        let mut ticks = interval(REPORT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                heard = self.session.next() => self.hear(heard?).await,
                _ = ticks.tick() => self.report(),
            }
            self.session.flush().await?;
        }
    }

    async fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Assigned(lease) => {
                self.session.start(&lease);
                self.job = Some((lease, Some(self.session.seq)));
            }
            Heard::Acked(seq) => {
                self.settled = seq;
                if let Some((lease, began)) = &mut self.job
                    && began.take_if(|began| *began <= seq).is_some()
                {
                    // Nobody listens when the measurement is over.
                    let _ = self.told.send(Told::Began(lease.job.clone())).await;
                }
            }
            Heard::Cancel(job) => {
                let at = Instant::now();
                if let Some((lease, _)) = self.job.take_if(|(lease, _)| lease.job == job) {
                    self.session.cancelled(&lease);
                    let _ = self.told.send(Told::Cancel(job, at)).await;
                }
            }
            Heard::Other => {}
        }
    }

    fn report(&mut self) {
        let Some((lease, None)) = &self.job else {
            return;
        };
        self.reports += 1;
        self.session.progress(lease, self.reports);
        let room = self.session.seq - self.settled < self.session.window;
        if room && self.reports.is_multiple_of(REPORTS_PER_CHECKPOINT) {
            self.session.checkpoint(lease);
        }
    }
}
