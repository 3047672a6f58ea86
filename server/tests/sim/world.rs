//! One server, its crawlers, and the network between them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use crawlwire_server::Bare;
use crawlwire_server::config::{Config, Inputs};
use crawlwire_transport::testing::Faults;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use turmoil::net::TcpListener;
use turmoil::{Builder, Sim};

use crate::chance::Chance;
use crate::crawler::{Book, Setup};
use crate::disk::{Disk, Way};
use crate::judge::judge;
use crate::weather::Weather;

pub(crate) const SERVER: &str = "server";
pub(crate) const CRAWLERS: usize = 3;
const PORT: u16 = 7000;

/// Jobs at the beginning. A third of them finds more.
const JOBS: usize = 45;

/// The end of patience, in the time of the simulation: long after the weather has calmed down.
const LONGEST: Duration = Duration::from_secs(120);

pub(crate) fn crawler_name(number: usize) -> String {
    format!("crawler-{number}")
}

/// What came of a run.
pub(crate) struct Ran {
    /// Everything that happened, in order.
    pub(crate) journal: Vec<String>,
    /// What befell the network and the hosts.
    pub(crate) weather: Vec<String>,
    pub(crate) wrong: Vec<String>,
    /// Attempts that were lost by leases that ran out.
    pub(crate) lost: usize,
    pub(crate) connections: u64,
    pub(crate) resent: u64,
    /// In the time of the simulation.
    pub(crate) took: Duration,
}

/// A server with times so short that all of them matter.
fn config() -> Config {
    let settings = [
        ("CRAWLWIRE_PROFILE", "test"),
        ("SOCKET_SERVER_NAME", SERVER),
        ("SOCKET_MAX_CONNECTIONS", "50"),
        ("SOCKET_CONNECTION_TIMEOUT", "2000"),
        ("SOCKET_HELLO_TIMEOUT", "1500"),
        ("SOCKET_PARTIAL_LINE_TIMEOUT", "2000"),
        ("SOCKET_HEARTBEAT_INTERVAL", "400"),
        ("SOCKET_HEARTBEAT_TIMEOUT", "2500"),
        ("SOCKET_REATTACH_GRACE", "2000"),
        ("SOCKET_ACCEPT_TIMEOUT", "2000"),
        ("SOCKET_SWEEP_INTERVAL", "100"),
        ("SOCKET_PROGRESS_REPORT_INTERVAL", "100"),
        // It goes by the machine's own clock.
        ("SOCKET_RATE_LIMIT_MESSAGES_PER_SECOND", "0"),
    ];
    let env: BTreeMap<_, _> = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let inputs = Inputs {
        env,
        ..Inputs::default()
    };
    Config::resolve(inputs).expect("a configuration").0
}

/// What is done to the bytes besides: pieces, waits, and three lines in ten said twice.
fn faults() -> Faults {
    Faults {
        duplicate_line: 0.3,
        reset: 0.005,
        ..Faults::rough()
    }
}

async fn serve(config: Arc<Config>, disk: Arc<Disk>) -> turmoil::Result {
    disk.note("server started");
    let server = Bare::new(&config, Way::open(disk));
    let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)).await?;
    let core = server.clone();
    let mut core = tokio::spawn(async move { core.run(CancellationToken::new()).await });
    loop {
        tokio::select! {
            biased;
            ended = &mut core => return Err(format!("the core ended: {ended:?}").into()),
            accepted = listener.accept() => server.serve(accepted?.0),
        }
    }
}

/// What a run is made of.
struct World {
    disk: Arc<Disk>,
    book: Arc<Book>,
    weather: Weather,
    chance: Chance,
    stop: watch::Sender<bool>,
}

fn build(seed: u64) -> (Sim<'static>, World) {
    let mut chance = Chance::new(seed);
    let mut sim = Builder::new()
        .rng_seed(seed)
        .simulation_duration(LONGEST)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        .tick_duration(Duration::from_millis(4))
        .build();
    let config = Arc::new(config());
    let disk = Disk::new(crawlwire_server::Bare::policy(&config), chance.fork());
    (0..JOBS).for_each(|number| disk.submit(number));
    let (kept, shared) = (disk.clone(), config.clone());
    sim.host(SERVER, move || serve(shared.clone(), kept.clone()));
    let world = World {
        disk,
        book: Arc::default(),
        weather: Weather::new(chance.fork()),
        chance,
        stop: watch::Sender::new(false),
    };
    (sim, world)
}

impl World {
    fn add_crawlers(&mut self, sim: &mut Sim<'static>) {
        for number in 0..CRAWLERS {
            let setup = Setup {
                number,
                seed: self.chance.below(usize::MAX) as u64 / 2,
                starts: Arc::default(),
                // The last one forgets who it was.
                remembers: number + 1 < CRAWLERS,
                faults: faults(),
                endpoint: format!("tcp://{SERVER}:{PORT}").parse().expect("an endpoint"),
                book: self.book.clone(),
                disk: self.disk.clone(),
                stop: self.stop.subscribe(),
            };
            sim.host(crawler_name(number), move || setup.clone().crawl());
        }
    }

    /// Ends the simulation when all jobs have ended and all crawlers have left.
    fn add_watcher(&self, sim: &mut Sim<'static>) {
        let (disk, book, stop) = (self.disk.clone(), self.book.clone(), self.stop.clone());
        sim.client("watcher", async move {
            while disk.open() > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            stop.send_replace(true);
            while book.words().left.len() < CRAWLERS {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        });
    }
}

/// Runs a seed to its end.
pub(crate) fn run(seed: u64) -> Ran {
    let (mut sim, mut world) = build(seed);
    world.add_crawlers(&mut sim);
    world.add_watcher(&mut sim);
    let mut wrong = Vec::new();
    loop {
        match sim.step() {
            Ok(true) => break,
            Ok(false) => world.weather.step(&mut sim),
            Err(error) => {
                wrong.push(format!("{error}; {} jobs have not ended", world.disk.open()));
                break;
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    wrong.extend(runtime.block_on(judge(&world.disk, &world.book)));
    let words = world.book.words();
    Ran {
        journal: world.disk.journal(),
        weather: world.weather.journal,
        wrong,
        lost: words.lost,
        connections: words.connections,
        resent: words.resent,
        took: sim.elapsed(),
    }
}
