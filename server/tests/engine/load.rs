//! Crawlers and a web application that load one or several servers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::chance::Chance;
use crate::checker::{Acknowledged, Limits, stuck};
use crate::peer::Peer;
use crate::support::{DEADLINE, Setup, TestServer, pause, wait_until};
use crate::tables::Tables;
use crate::web_app::WebApp;

/// Where a server is reached at present.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) socket: PathBuf,
    pub(crate) tcp: SocketAddr,
    pub(crate) http: SocketAddr,
}

/// How everybody behaves.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mood {
    /// Submit, work, fail, forget, hang up.
    Wild,
    /// No new submissions, and whoever has a job ends it.
    Calm,
    /// Go home.
    Over,
}

/// How often things happened.
#[derive(Default)]
pub(crate) struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    pub(crate) fn add(&self, what: &str) {
        let mut counts = self.0.lock().expect("nobody panics in here");
        match counts.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(counts.insert(what.to_owned(), 1)),
        }
    }

    pub(crate) fn get(&self, what: &str) -> u64 {
        self.0
            .lock()
            .expect("nobody panics in here")
            .get(what)
            .copied()
            .unwrap_or(0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let counts = self.0.lock().expect("nobody panics in here");
        let told: Vec<_> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
        formatter.write_str(&told.join(", "))
    }
}

/// Times so short that everything happens by the clock within seconds.
pub(crate) const LEASE_MS: u64 = 1500;
const SWEEP_MS: u64 = 50;
const ACCEPT_MS: u64 = 1000;
const JOB_MS: u64 = 1000;

/// What a machine with few cores adds, on which other tests run, too.
pub(crate) const BUSY_MS: u64 = 2000;

pub(crate) fn hurried(setup: Setup) -> Setup {
    setup
        .set("SOCKET_HEARTBEAT_INTERVAL", LEASE_MS / 5)
        .set("SOCKET_HEARTBEAT_TIMEOUT", LEASE_MS)
        .set("SOCKET_REATTACH_GRACE", 300)
        .set("SOCKET_SWEEP_INTERVAL", SWEEP_MS)
        .set("SOCKET_ACCEPT_TIMEOUT", ACCEPT_MS)
        .set("SOCKET_JOB_TIMEOUT", JOB_MS)
        .set("SOCKET_RETRY_DELAY", 20)
        .set("SOCKET_MAX_RETRY_DELAY", 200)
        .set("SOCKET_MAX_CONCURRENT_JOBS", 4)
        .set("SOCKET_MAX_QUEUED_JOBS", 300)
        .flag("--listen")
        .flag("127.0.0.1:0")
}

fn limits() -> Limits {
    let millis = |time: u64| i64::try_from(time).expect("a short time");
    Limits {
        accept: millis(ACCEPT_MS),
        notice: millis(2 * SWEEP_MS + BUSY_MS),
        quiet: millis(LEASE_MS + JOB_MS + 2 * SWEEP_MS + BUSY_MS),
    }
}

/// Everybody who works with the servers of a test.
pub(crate) struct Load {
    runtime: Runtime,
    places: Vec<watch::Sender<Option<Place>>>,
    mood: watch::Sender<Mood>,
    web_app: Option<std::thread::JoinHandle<Acknowledged>>,
    peers: Vec<tokio::task::JoinHandle<()>>,
    pub(crate) tally: Arc<Tally>,
}

impl Load {
    /// A web application over so many servers, each with so many crawlers: one half on the Unix socket, where all of
    /// this process are one crawler to the server, and one half over TCP.
    pub(crate) fn start(chance: &mut Chance, servers: usize, crawlers: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        let places: Vec<_> = (0..servers).map(|_| watch::Sender::new(None)).collect();
        let (mood, tally) = (watch::Sender::new(Mood::Wild), Arc::<Tally>::default());
        let mut peers = Vec::new();
        for place in &places {
            for number in 0..crawlers {
                let over_tcp = number % 2 == 1;
                let peer = Peer::new(
                    chance.fork(),
                    over_tcp,
                    place.subscribe(),
                    mood.subscribe(),
                    tally.clone(),
                );
                peers.push(runtime.spawn(peer.run()));
            }
        }
        let subscribed = places.iter().map(watch::Sender::subscribe).collect();
        let web_app = WebApp::new(chance.fork(), subscribed, mood.subscribe(), tally.clone());
        let web_app = Some(std::thread::spawn(move || web_app.run()));
        Self {
            runtime,
            places,
            mood,
            web_app,
            peers,
            tally,
        }
    }

    /// A server serves, from now on at these addresses.
    pub(crate) fn up(&self, number: usize, server: &TestServer) {
        let tcp = server.tcp.expect("it listens on TCP");
        let place = Place {
            socket: server.socket(),
            tcp,
            http: server.http,
        };
        self.places[number].send_replace(Some(place));
    }

    /// A server is gone.
    pub(crate) fn down(&self, number: usize) {
        self.places[number].send_replace(None);
    }

    /// Waits until this many jobs more were given out.
    #[track_caller]
    pub(crate) fn await_assignments(&self, more: u64) {
        let before = self.tally.get("assignments");
        wait_until("jobs are given out", || {
            assert!(
                self.peers.iter().all(|peer| !peer.is_finished()),
                "a crawler of the test panicked"
            );
            (self.tally.get("assignments") >= before + more).then_some(())
        });
    }

    /// No more submissions; waits until nothing is left to do, and fails as soon as something is stuck. What the web
    /// application was promised.
    #[track_caller]
    pub(crate) fn drain(&mut self, server: &TestServer) -> Acknowledged {
        self.mood.send_replace(Mood::Calm);
        let acknowledged = self
            .web_app
            .take()
            .expect("it works")
            .join()
            .expect("a web application");
        let until = Instant::now() + 3 * DEADLINE;
        loop {
            let tables = Tables::of(server);
            let left = tables.jobs.iter().filter(|job| !job.is_at_rest()).count();
            if left == 0 {
                return acknowledged;
            }
            // An act whose answer nobody waited for may take effect late, so this is done each time.
            for job in tables.jobs.iter().filter(|job| job.is_held_back()) {
                let path = format!("/api/v1/jobs/{}/resume", job.public_id);
                let answer = server.api().post(&path, "application/json", b"{}");
                assert!(answer.status < 300, "{answer:?}");
            }
            let stuck = stuck(&tables, now(), &limits());
            assert!(stuck.is_empty(), "stuck: {stuck:#?}");
            assert!(Instant::now() < until, "{left} jobs are left");
            pause(Duration::from_millis(100));
        }
    }

    /// Everybody goes home.
    pub(crate) fn end(self) -> Arc<Tally> {
        self.mood.send_replace(Mood::Over);
        self.runtime.block_on(async {
            for peer in self.peers {
                peer.await.expect("a crawler of the test");
            }
        });
        self.tally
    }
}

/// The present moment, as the databases of this machine know it.
fn now() -> i64 {
    let elapsed = std::time::UNIX_EPOCH.elapsed().expect("a time after 1970");
    i64::try_from(elapsed.as_millis()).expect("a time of our age")
}

pub(crate) fn is_postgres(database: &TestDatabase) -> bool {
    database.config().url.starts_with("postgres")
}
