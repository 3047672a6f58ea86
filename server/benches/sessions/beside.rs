//! How long good peers wait for an acknowledgement, alone and beside bad ones.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::bad::{ALONE, Bad};
use crate::figures::Spread;
use crate::good::{EVERY, GOOD, Good};
use crate::place::{Backend, Place};
use crate::process::{Peers, ServerProcess};
use crate::wire::number;

/// What is aimed at: p99 beside bad peers by p99 alone.
const AIM: f64 = 2.0;

/// Before it counts, so that bad peers are what they are.
const WARM_UP: Duration = Duration::from_secs(1);

/// Limits of time short enough that bad peers meet them while they are watched, several times. All else is as configured
/// by default, the limits of rate among it.
const LIMITS: [(&str, &str); 7] = [
    ("SOCKET_MAX_CONNECTIONS", "10000"),
    ("SOCKET_CONNECTION_TIMEOUT", "2000"),
    ("SOCKET_PARTIAL_LINE_TIMEOUT", "1000"),
    ("SOCKET_KEEPALIVE_INTERVAL", "1000"),
    ("SOCKET_KEEPALIVE_TIMEOUT", "3000"),
    ("SOCKET_HEARTBEAT_INTERVAL", "1000"),
    ("SOCKET_HEALTH_CHECK_INTERVAL", "500"),
];

/// Names of reasons why a connection of a bad peer is closed.
const REASONS: [&str; 13] = [
    "peer_closed",
    "connection_limit",
    "slow_consumer",
    "write_timeout",
    "first_line_timeout",
    "partial_line_timeout",
    "hello_refused",
    "replaced",
    "idle_timeout",
    "keepalive_timeout",
    "too_many_errors",
    "over_budget",
    "internal_error",
];

/// Closed connections by reason.
type Closes = BTreeMap<&'static str, u64>;

/// One measurement.
#[derive(Clone, Copy)]
struct Run {
    p50: f64,
    p99: f64,
    /// Of those sent, in the time measured, acknowledged.
    per_second: f64,
    /// Cores that the server kept busy.
    cores: f64,
    /// What bad peers made of connections and lines, in a second.
    connections: f64,
    lines: f64,
}

/// One kind of bad peers, one after the other: the good peers without them, beside them while they talk to nobody but
/// themselves, and beside them. What the second costs is the machine's, and no server could spare it.
struct Round {
    alone: Run,
    elsewhere: Run,
    beside: Run,
}

impl Round {
    /// By p99 alone.
    fn ratio(&self) -> f64 {
        self.beside.p99 / self.alone.p99
    }
}

pub(crate) async fn measure(backend: Backend, time: Duration, rounds: usize, bad: usize) {
    let Some(place) = backend.place().await else {
        return;
    };
    println!(
        "  {GOOD} good peers, a checkpoint every {} ms each: from the line to its acknowledgement, without bad peers, beside \
         {bad} of a kind that talk to nobody, and beside those, median (least to most) of {rounds} times {:.0} s",
        EVERY.as_millis(),
        time.as_secs_f64()
    );
    let course = Course::begin(&place).await;
    let mut told: [(Vec<Round>, Closes); Bad::CASES.len()] = Default::default();
    for _ in 0..rounds {
        for ((kind, _, _), (rounds, closes)) in Bad::CASES.into_iter().zip(&mut told) {
            let before = course.closes();
            rounds.push(Round {
                alone: course.alone(time).await,
                elsewhere: course.elsewhere(kind, bad, time).await,
                beside: course.beside(kind, bad, time).await,
            });
            for (reason, after) in course.closes() {
                let more = after - before.get(reason).copied().unwrap_or(0);
                *closes.entry(reason).or_default() += more;
            }
        }
    }
    for ((_, what, _), (rounds, closes)) in Bad::CASES.into_iter().zip(&told) {
        tell(what, rounds, closes);
    }
}

fn tell(what: &str, rounds: &[Round], closes: &Closes) {
    println!("    {what}:");
    for (how, run) in [
        ("without", (|round| round.alone) as fn(&Round) -> Run),
        ("talking to nobody", |round| round.elsewhere),
        ("beside", |round| round.beside),
    ] {
        let of = |figure: fn(Run) -> f64| Spread::of(rounds, |round| figure(run(round)));
        println!(
            "      {how}: p50 {:.2} ms, p99 {:.2} ms, {:.0} acknowledged a second, the server keeps {:.2} cores busy",
            of(|run| run.p50),
            of(|run| run.p99),
            of(|run| run.per_second).median(),
            of(|run| run.cores).median(),
        );
    }
    println!(
        "      {:.1} times p99 without, {:.2} of the aim of {AIM}; they made {:.0} connections and {:.0} lines a second; \
         closed: {}",
        Spread::of(rounds, Round::ratio),
        Spread::of(rounds, Round::ratio).median() / AIM,
        Spread::of(rounds, |round| round.beside.connections).median(),
        Spread::of(rounds, |round| round.beside.lines).median(),
        spell(closes)
    );
}

fn spell(closes: &Closes) -> String {
    let told = closes.iter().filter(|(_, count)| **count > 0);
    let told: Vec<_> = told.map(|(reason, count)| format!("{count} {reason}")).collect();
    match told.is_empty() {
        true => "none".to_owned(),
        false => told.join(", "),
    }
}

/// One server with good peers from the beginning to the end.
struct Course<'a> {
    place: &'a Place,
    /// Before the server, so that they are gone when that goes.
    good: Good,
    server: ServerProcess,
}

impl<'a> Course<'a> {
    async fn begin(place: &'a Place) -> Self {
        let server = ServerProcess::start(place, &LIMITS);
        Self {
            place,
            good: Good::start(place, &server).await,
            server,
        }
    }

    async fn alone(&self, time: Duration) -> Run {
        sleep(WARM_UP).await;
        self.record(time).await
    }

    async fn elsewhere(&self, kind: &str, bad: usize, time: Duration) -> Run {
        let sink = tempfile::tempdir().expect("a directory");
        self.with(&format!("{ALONE}{kind}"), &sink.path().join("s"), bad, time)
            .await
    }

    async fn beside(&self, kind: &str, bad: usize, time: Duration) -> Run {
        let run = self.with(kind, &self.place.socket(), bad, time).await;
        self.server.has_connections(GOOD).await;
        run
    }

    async fn with(&self, kind: &str, socket: &Path, bad: usize, time: Duration) -> Run {
        let begun = Instant::now();
        let peers = Peers::start(kind, socket, bad);
        sleep(WARM_UP).await;
        let run = self.record(time).await;
        let lasted = begun.elapsed().as_secs_f64();
        let said = peers.stop();
        let made = |what| number_after(&said, what) / lasted;
        Run {
            connections: made("connections "),
            lines: made("lines "),
            ..run
        }
    }

    async fn record(&self, time: Duration) -> Run {
        let busy = self.server.cpu();
        let times = self.good.times(time).await;
        Run {
            p50: times.p50(),
            p99: times.p99(),
            per_second: times.count() as f64 / time.as_secs_f64(),
            cores: (self.server.cpu() - busy).as_secs_f64() / time.as_secs_f64(),
            connections: 0.0,
            lines: 0.0,
        }
    }

    /// What the server has counted so far.
    fn closes(&self) -> Closes {
        let body = self.server.get("/api/v1/connections/closed").unwrap_or_default();
        let counted = REASONS.into_iter().map(|reason| (reason, number(&body, reason)));
        counted.filter_map(|(reason, count)| Some((reason, count?))).collect()
    }
}

fn number_after(text: &str, word: &str) -> f64 {
    let rest = text.split_once(word).map(|(_, rest)| rest);
    let number = rest.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).expect("a number")
}
