//! Peers that want to do harm, or do it without wanting to: each is shown the door under its name, and a good crawler
//! beside it notices nothing.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use crawlwire_transport::Endpoint;
use crawlwire_transport::client::{Client, ClientOptions, Closed};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::support::session::{hello, session_line};
use crate::support::{DEADLINE, Setup, TestServer, pause, wait_until};
use crate::worker::{Book, Word, run, words};

/// Invalid lines that are forgiven.
const INVALID_MAX: usize = 60;

/// Jobs that the good crawler is given beside each of them.
const JOBS: usize = 3;

/// Times so short that each is waited out.
fn strict(database: TestDatabase) -> Setup {
    Setup::new(database)
        .set("SOCKET_CONNECTION_TIMEOUT", 500)
        .set("SOCKET_HELLO_TIMEOUT", 100)
        .set("SOCKET_PARTIAL_LINE_TIMEOUT", 300)
        .set("SOCKET_HEARTBEAT_INTERVAL", 400)
        .set("SOCKET_HEARTBEAT_TIMEOUT", 1500)
        .set("SOCKET_RATE_LIMIT_MESSAGES_PER_SECOND", 200)
        .set("SOCKET_RATE_LIMIT_BURST_MESSAGES", 300)
        .set("SOCKET_MAX_INVALID_MESSAGES", INVALID_MAX)
}

/// One that behaves, on the client that crawler authors use.
struct Good {
    runtime: Runtime,
    client: Client,
    jobs: usize,
}

impl Good {
    fn start(server: &TestServer) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let book = Arc::new(Mutex::new(Book::open(&server.dir().join("good.words"))));
        let endpoint = Endpoint::Unix(server.socket());
        let connecting = Client::connect(endpoint, ClientOptions::new("good").slots(JOBS as u16));
        let (client, mut jobs) = runtime.block_on(connecting).expect("a server");
        runtime.spawn(async move {
            while let Some(job) = jobs.next().await {
                tokio::spawn(run(job, book.clone()));
            }
        });
        Self {
            runtime,
            client,
            jobs: 0,
        }
    }

    fn submit(&mut self, server: &TestServer) {
        for _ in 0..JOBS {
            server.api().submit("crawl_project");
        }
        self.jobs += JOBS;
    }

    /// Every job completed, every line acknowledged, and all over one connection.
    fn check(self, server: &TestServer) {
        let done = || {
            let completed = words(server.dir())
                .into_iter()
                .filter(|(_, word)| matches!(word, Word::Completed(_)))
                .count();
            (completed >= self.jobs).then_some(completed)
        };
        assert_eq!(wait_until("all jobs are completed", done), self.jobs);
        let stopped = self.runtime.block_on(self.client.shutdown(DEADLINE));
        let stats = self.client.stats();
        assert_eq!(
            (&stopped.closed, stopped.unsettled),
            (&Closed::Shutdown, 0),
            "{stopped:?}"
        );
        let unharmed = (
            stats.connections,
            stats.refused,
            stats.lost_jobs,
            stats.given_back,
            stats.resent,
        );
        assert_eq!(unharmed, (1, 0, 0, 0, 0), "{stats:?}");
        let wrong: Vec<_> = words(server.dir())
            .into_iter()
            .filter(|(_, word)| matches!(word, Word::Wrong(_)))
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

/// A connection on which anything can be said, and nothing is read unless one asks for it.
struct Raw(UnixStream);

impl Raw {
    fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("the server listens");
        stream
            .set_write_timeout(Some(Duration::from_millis(50)))
            .expect("a timeout");
        Self(stream)
    }

    /// One that has said hello.
    fn session(socket: &Path, instance: u64) -> Self {
        let mut raw = Self::connect(socket);
        let mut greeting = hello("hostile", instance);
        // The jobs are for the good one.
        greeting["slots"] = 0.into();
        raw.say(&line("hello", &greeting));
        raw
    }

    /// Says something; false once the server has hung up. A server that does not read is waited for.
    fn say(&mut self, line: &str) -> bool {
        let mut left = line.as_bytes();
        while !left.is_empty() {
            match self.0.write(left) {
                Ok(written) => left = &left[written..],
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn say_until_closed(mut self, line: &str, every: Duration) {
        let until = Instant::now() + DEADLINE;
        while self.say(line) {
            assert!(Instant::now() < until, "nobody minds");
            pause(every);
        }
    }

    /// Reads everything from here on, in a thread of its own, so that it is no slow reader.
    fn listening(self) -> Self {
        let mut reader = self.0.try_clone().expect("a handle");
        std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        self
    }

    /// Reads to the end.
    fn hear_the_end(mut self) {
        self.0.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let mut heard = Vec::new();
        match self.0.read_to_end(&mut heard) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("it was not closed: {error}"),
            _ => {}
        }
    }
}

fn line(type_name: &str, data: &Value) -> String {
    session_line(type_name, None, &Value::Null, data) + "\n"
}

fn ping() -> String {
    line("ping", &json!({ "nonce": "x".repeat(64) }))
}

/// A line whose answer is long: everything in it is wrong.
fn wrong() -> String {
    line("jobs_discovered", &json!({ "discovered_jobs": vec![json!({}); 20] }))
}

/// The name under which it is closed, and what it does until then.
type Attack = (&'static str, fn(&Path));

const ATTACKS: &[Attack] = &[
    ("slow_consumer", |socket| {
        let mut raw = Raw::session(socket, 1);
        raw.say(&wrong().repeat(INVALID_MAX - 1));
        raw.say_until_closed(&ping(), Duration::from_millis(20));
    }),
    ("partial_line_timeout", |socket| {
        let mut raw = Raw::session(socket, 2).listening();
        raw.say("{\"type\":");
        raw.say_until_closed(" ", Duration::from_millis(30));
    }),
    ("first_line_timeout", |socket| Raw::connect(socket).hear_the_end()),
    ("idle_timeout", |socket| Raw::session(socket, 4).hear_the_end()),
    ("too_many_errors", |socket| {
        Raw::session(socket, 5)
            .listening()
            .say_until_closed("no message\n", Duration::ZERO);
    }),
    ("wrong_protocol", |socket| {
        let mut raw = Raw::connect(socket);
        raw.say("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        raw.hear_the_end();
    }),
    ("hello_refused", |socket| {
        let mut raw = Raw::connect(socket);
        raw.say(&line("hello", &json!({ "versions": [] })));
        raw.hear_the_end();
    }),
    ("replaced", |socket| {
        let first = Raw::session(socket, 6);
        let mut heard = [0];
        (&first.0).read_exact(&mut heard).expect("a welcome");
        let second = Raw::session(socket, 6);
        first.hear_the_end();
        drop(second);
    }),
];

fn closed(server: &TestServer) -> Value {
    server.api().get("/api/v1/connections/closed").ok()
}

/// What the list says of one that was closed for this reason.
fn await_closed(server: &TestServer, reason: &str) -> Value {
    wait_until(&format!("one was closed as {reason}"), || {
        let list = closed(server);
        let items = list["items"].as_array().expect("items");
        let found = items.iter().find(|item| item["reason"] == reason).cloned();
        found.filter(|_| list["by_reason"][reason] == 1)
    })
}

#[test]
fn each_is_shown_the_door_under_its_name() {
    let server = strict(TestDatabase::sqlite()).start();
    let mut good = Good::start(&server);
    for &(reason, attack) in ATTACKS {
        good.submit(&server);
        let began = Instant::now();
        attack(&server.socket());
        let told = await_closed(&server, reason);
        println!("{reason} after {:?}", began.elapsed());
        if reason == "too_many_errors" {
            assert_eq!(told["errors"], INVALID_MAX);
        }
    }
    good.check(&server);
    let by_reason = closed(&server)["by_reason"].clone();
    let expected: usize = ATTACKS
        .iter()
        .map(|(reason, _)| by_reason[*reason].as_u64().unwrap_or(0) as usize)
        .sum();
    assert_eq!(expected, ATTACKS.len(), "{by_reason}");
}

#[test]
fn all_at_once_harm_nobody_else() {
    let server = strict(TestDatabase::sqlite()).start();
    let mut good = Good::start(&server);
    good.submit(&server);
    let attackers: Vec<JoinHandle<()>> = ATTACKS
        .iter()
        .map(|&(_, attack)| {
            let socket = server.socket();
            std::thread::spawn(move || attack(&socket))
        })
        .collect();
    while attackers.iter().any(|attacker| !attacker.is_finished()) {
        good.submit(&server);
        pause(Duration::from_millis(100));
    }
    for attacker in attackers {
        attacker.join().expect("an end");
    }
    for (reason, _) in ATTACKS {
        await_closed(&server, reason);
    }
    good.check(&server);
}

#[test]
fn a_flood_is_only_slowed_down() {
    let server = strict(TestDatabase::sqlite()).start();
    let mut good = Good::start(&server);
    good.submit(&server);
    let mut base = server.crawler();
    let mut session = server.session("flood", 7);
    // Each has more on its way than its burst.
    for _ in 0..600 {
        base.heartbeat();
        session.say("ping", &json!({}));
    }
    (0..600).for_each(|_| _ = session.expect("pong"));
    let taken = base.settle(&server.api());
    assert_eq!(taken["id"], base.name);
    assert_eq!(closed(&server)["by_reason"], json!({}));
    good.check(&server);
}

/// One that asks and does not listen, with no limit but the time to take an answer: it is not read as long as it leaves
/// answers unread, and when it listens there is one for each question.
#[test]
fn no_answer_is_lost_on_who_does_not_listen_for_a_while() {
    const ASKED: usize = 20_000;
    let server = strict(TestDatabase::sqlite())
        .set("SOCKET_CONNECTION_TIMEOUT", 60_000)
        .set("SOCKET_HEARTBEAT_TIMEOUT", 60_000)
        .set("SOCKET_RATE_LIMIT_MESSAGES_PER_SECOND", 0)
        .start();
    let mut raw = Raw::session(&server.socket(), 8);
    let reader = raw.0.try_clone().expect("a handle");
    let asking = std::thread::spawn(move || {
        assert!(raw.say(&ping().repeat(ASKED)), "it is closed");
        raw
    });
    let received = || server.api().all("/api/v1/connections").first()?["messages_received"].as_u64();
    // It has stopped reading when nothing is read for a while.
    let mut before = None;
    let stopped = wait_until("it is read no more", || {
        let now = received().filter(|taken| *taken > 1);
        let stopped = now.filter(|_| now == before);
        before = now;
        pause(Duration::from_millis(200));
        stopped
    });
    assert!((stopped as usize) < ASKED, "{stopped}");
    reader.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let answers = BufReader::new(reader).lines().map(|line| line.expect("an answer"));
    let pongs = answers.filter(|line| line.contains("\"pong\"")).take(ASKED);
    assert_eq!(pongs.count(), ASKED);
    drop(asking.join().expect("all is said"));
}

#[test]
fn who_leaves_most_unread_goes_when_the_memory_is_used_up() {
    let server = strict(TestDatabase::sqlite())
        .set("SOCKET_MAX_BUFFERED_BYTES", 2 << 20)
        // Nobody is slow, and nobody says too much.
        .set("SOCKET_CONNECTION_TIMEOUT", 60_000)
        .set("SOCKET_HEARTBEAT_TIMEOUT", 60_000)
        .set("SOCKET_RATE_LIMIT_MESSAGES_PER_SECOND", 0)
        .set("SOCKET_MAX_INVALID_MESSAGES", 1_000_000)
        .start();
    let mut good = Good::start(&server);
    good.submit(&server);
    let unread: Vec<_> = (0..4)
        .map(|number| {
            let socket = server.socket();
            std::thread::spawn(move || {
                let mut raw = Raw::session(&socket, 10 + number);
                let asked = (0..200).all(|_| raw.say(&wrong()));
                (raw, asked)
            })
        })
        .collect();
    let unread: Vec<_> = unread.into_iter().map(|peer| peer.join().expect("an end")).collect();
    let list = wait_until("some are closed", || {
        let list = closed(&server);
        list["by_reason"]["over_budget"].as_u64().map(|_| list)
    });
    println!("{}", list["by_reason"]);
    drop(unread);
    good.submit(&server);
    good.check(&server);
}
