//! How a crowd comes back: every crawler holds a job when the server is killed, and all of them return at once.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::figures::{Spread, Times};
use crate::place::{Backend, Place, ask};
use crate::process::ServerProcess;
use crate::web_app::WebApp;
use crate::wire::{Lease, Session};

/// Full jitter: the wait before a try is any part of a limit that doubles with each, up to a cap.
const BACKOFF_BASE: Duration = Duration::from_millis(50);
const BACKOFF_CAP: Duration = Duration::from_secs(2);

/// Who is not back by then will not come.
const DEADLINE: Duration = Duration::from_secs(120);

/// Who submits jobs at a time.
const WEB_APPS: usize = 16;

/// A crawler that has said what it has to say, durably.
struct Back {
    at: Instant,
    /// From the connection that succeeded to the acknowledgement.
    took: Duration,
    /// Connections tried, and those among them that the server took and then failed.
    tries: u32,
    failed: u32,
}

/// One crash and its end.
struct Round {
    starting: f64,
    starting_cpu: f64,
    /// Since the server listened.
    half: f64,
    all: f64,
    cpu: f64,
    took: Times,
    tries: f64,
    failed: u32,
}

pub(crate) async fn measure(backend: Backend, crawlers: usize, rounds: usize, down: Duration) {
    let Some(place) = backend.place().await else {
        return;
    };
    println!(
        "  {crawlers} crawlers with a job each, their server killed and started again after {:.1} s, median (least to \
         most) of {rounds} times",
        down.as_secs_f64()
    );
    let limit = (crawlers + 100).to_string();
    let env = [("SOCKET_MAX_CONNECTIONS", limit.as_str())];
    let mut server = ServerProcess::start(&place, &env);
    submit(&server, crawlers).await;
    // Each tells once in each round.
    let (told, mut tells) = mpsc::channel(crawlers);
    let mut crowd = JoinSet::new();
    for _ in 0..crawlers {
        let crawler = Crawler::new(place.socket());
        crowd.spawn(crawler.live(told.clone()));
    }
    gather(&mut tells, crawlers).await;
    let before = leases(&place).await;
    let mut measured = Vec::new();
    for _ in 0..rounds {
        server.kill();
        sleep(down).await;
        server = ServerProcess::start(&place, &env);
        measured.push(round(&server, &mut tells, crawlers).await);
    }
    tell(&measured);
    let after = leases(&place).await;
    println!(
        "    attempts spent: {}; leases given out anew: {}; jobs that run: {} of {crawlers}",
        after.attempts - before.attempts,
        after.fences - before.fences,
        after.running
    );
}

async fn round(server: &ServerProcess, tells: &mut mpsc::Receiver<Back>, crawlers: usize) -> Round {
    let starting_cpu = server.cpu();
    let backs = gather(tells, crawlers).await;
    // One may be back before this process has read that the server listens.
    let since = Times::of(
        backs
            .iter()
            .map(|back| back.at.saturating_duration_since(server.listening)),
    );
    Round {
        starting: server.starting.as_secs_f64(),
        starting_cpu: starting_cpu.as_secs_f64(),
        half: since.p50() / 1000.0,
        all: since.most() / 1000.0,
        cpu: (server.cpu() - starting_cpu).as_secs_f64(),
        took: Times::of(backs.iter().map(|back| back.took)),
        tries: backs.iter().map(|back| f64::from(back.tries)).sum::<f64>() / crawlers as f64,
        failed: backs.iter().map(|back| back.failed).sum(),
    }
}

fn tell(rounds: &[Round]) {
    println!(
        "    all back and acknowledged {:.2} s after it listened, half of them {:.2} s",
        Spread::of(rounds, |round| round.all),
        Spread::of(rounds, |round| round.half)
    );
    println!(
        "    from connection to acknowledgement p50 {:.0} ms, p99 {:.0} ms; {:.1} tries each; {:.0} connections failed",
        Spread::of(rounds, |round| round.took.p50()),
        Spread::of(rounds, |round| round.took.p99()),
        Spread::of(rounds, |round| round.tries).median(),
        Spread::of(rounds, |round| f64::from(round.failed))
    );
    println!(
        "    the server took {:.2} s to start and {:.2} s of a CPU for that; {:.2} s of a CPU for the crowd",
        Spread::of(rounds, |round| round.starting),
        Spread::of(rounds, |round| round.starting_cpu),
        Spread::of(rounds, |round| round.cpu)
    );
}

/// Waits until everybody has told.
async fn gather(tells: &mut mpsc::Receiver<Back>, crawlers: usize) -> Vec<Back> {
    let mut backs = Vec::with_capacity(crawlers);
    let everybody = async {
        while backs.len() < crawlers {
            backs.extend(tells.recv().await);
        }
    };
    let in_time = timeout(DEADLINE, everybody).await.is_ok();
    assert!(in_time, "only {} of {crawlers} crawlers are there", backs.len());
    backs
}

async fn submit(server: &ServerProcess, jobs: usize) {
    let mut submitting = JoinSet::new();
    for first in 0..WEB_APPS {
        let mut web_app = WebApp::connect(server.http_address()).await;
        submitting.spawn(async move {
            for number in (first..jobs).step_by(WEB_APPS) {
                web_app.submit(number).await;
            }
        });
    }
    while let Some(ended) = submitting.join_next().await {
        ended.expect("it only submits");
    }
}

/// What the rows say of all jobs.
struct Leases {
    attempts: i64,
    fences: i64,
    running: i64,
}

async fn leases(place: &Place) -> Leases {
    let pool = place.0.pool().await;
    let query = "SELECT CAST(SUM(attempt) AS TEXT) || ' ' || CAST(SUM(fence) AS TEXT) || ' ' || \
                 CAST(SUM(CASE WHEN status = 'running' THEN 1 ELSE 0 END) AS TEXT) FROM jobs";
    let told = ask(&pool, query).await;
    let numbers: Vec<i64> = told
        .split(' ')
        .map(|number| number.parse().expect("a number"))
        .collect();
    let &[attempts, fences, running] = numbers.as_slice() else {
        panic!("three numbers, not {told}");
    };
    Leases {
        attempts,
        fences,
        running,
    }
}

/// A crawler with one job that never ends.
struct Crawler {
    socket: PathBuf,
    instance: Uuid,
    holds: Vec<Lease>,
}

impl Crawler {
    fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            instance: Uuid::now_v7(),
            holds: Vec::new(),
        }
    }

    /// Comes, tells, and waits for the end of the connection, again and again.
    async fn live(mut self, told: mpsc::Sender<Back>) {
        loop {
            let (mut session, back) = self.come().await;
            if told.send(back).await.is_err() {
                return;
            }
            while session.next().await.is_ok() {}
        }
    }

    /// Tries until it has said, durably, what it has to say.
    async fn come(&mut self) -> (Session, Back) {
        let (mut tries, mut failed) = (0, 0);
        loop {
            sleep(jitter(tries)).await;
            tries += 1;
            let begun = Instant::now();
            match self.try_once(&self.socket.clone()).await {
                Ok(session) => {
                    let at = Instant::now();
                    let took = at - begun;
                    let back = Back {
                        at,
                        took,
                        tries,
                        failed,
                    };
                    return (session, back);
                }
                Err(error) => failed += u32::from(!is_away(&error)),
            }
        }
    }

    /// The first time it begins a job, later it says how far it is with it.
    async fn try_once(&mut self, socket: &Path) -> io::Result<Session> {
        let mut session = Session::connect(socket, self.instance, 1, &self.holds).await?;
        assert_eq!(session.kept, self.holds.len(), "a crawler lost its job");
        match self.holds.first() {
            None => self.holds.push(session.begin().await?),
            Some(lease) => {
                session.checkpoint(lease);
                session.flush().await?;
                session.settled().await?;
            }
        }
        Ok(session)
    }
}

/// Whether nobody listened, or nobody had room for one more: the server has not heard of it.
fn is_away(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock
    )
}

/// Any part of the limit for this try. The last bits of such a number are left to chance.
fn jitter(tries: u32) -> Duration {
    let limit = BACKOFF_CAP.min(BACKOFF_BASE.saturating_mul(2u32.saturating_pow(tries)));
    let (_, chance) = Uuid::now_v7().as_u64_pair();
    limit.mul_f64(f64::from(chance as u32) / f64::from(u32::MAX))
}
