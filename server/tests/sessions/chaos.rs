//! Crawlers behind a network that says things twice, tears lines apart, breaks connections, and delivers what was said on
//! an old connection after a new one has begun. Everything has its effect, and once.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use crawlwire_transport::Endpoint;
use crawlwire_transport::client::{Client, ClientOptions, ClientStats, Closed, Jobs};
use crawlwire_transport::testing::{FaultProxy, Faults};
use sea_orm::{FromQueryResult, Statement};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::chance::Chance;
use crate::checker::{Acknowledged, check};
use crate::kills::{drain, judge, tell};
use crate::support::server::block_on;
use crate::support::{Setup, TestServer, on_both_databases};
use crate::worker::{Book, Shared, Word, note, run, words};

on_both_databases!(no_chaos_has_an_effect_twice);

const CRAWLERS: u64 = 4;

/// Jobs at the beginning; a third of them finds more.
const JOBS: usize = 60;

/// Three lines in ten come twice, and one connection in some dozen messages ends badly.
fn chaos() -> Faults {
    Faults {
        duplicate_line: 0.3,
        late: 0.01,
        late_greeting: 0.05,
        ..Faults::hostile()
    }
}

/// A crawler of this process, behind a network of its own.
struct Crawler {
    client: Client,
    proxy: FaultProxy,
}

impl Crawler {
    async fn start(dir: &Path, number: u64, server: &Endpoint, seed: u64) -> Self {
        // In calm weather, so that there is no doubt about what the server speaks.
        let proxy = FaultProxy::start(server, Faults::default(), seed).await;
        // A connection that is dead in one direction is noticed long before a lease ends.
        let options = ClientOptions::new("chaos")
            .slots(4)
            .welcome_timeout(Duration::from_secs(1))
            .request_timeout(Duration::from_secs(1))
            .backoff(Duration::from_millis(5), Duration::from_millis(50))
            .jitter_seed(seed);
        let (client, jobs) = Client::connect(proxy.endpoint(), options).await.expect("a server");
        proxy.set_faults(chaos());
        let book = Arc::new(Mutex::new(Book::open(&dir.join(format!("chaos-{number}.words")))));
        tokio::spawn(crawl(client.clone(), jobs, book));
        Self { client, proxy }
    }

    /// Leaves in good order, when the weather is calm again; how it went.
    async fn stop(self) -> (ClientStats, usize) {
        self.proxy.set_faults(Faults::default());
        // What is stuck in a dead direction would hold everything up.
        self.proxy.reset();
        let stopped = self.client.shutdown(Duration::from_secs(10)).await;
        assert_eq!(
            (&stopped.closed, stopped.unsettled),
            (&Closed::Shutdown, 0),
            "{stopped:?}"
        );
        (self.client.stats(), self.proxy.connections())
    }
}

async fn crawl(client: Client, mut jobs: Jobs, book: Shared) {
    while let Some(job) = jobs.next().await {
        tokio::spawn(run(job, book.clone()));
    }
    let closed = client.closed().await;
    if closed != Closed::Shutdown {
        note(&book, Word::Wrong(format!("the client ended: {closed}")));
    }
}

fn no_chaos_has_an_effect_twice(database: TestDatabase) {
    let (began, seed) = (Instant::now(), Chance::seed());
    println!("seed {seed}");
    let server = Setup::new(database)
        .set("SOCKET_HEARTBEAT_INTERVAL", 500)
        .set("SOCKET_HEARTBEAT_TIMEOUT", 10_000)
        .set("SOCKET_REATTACH_GRACE", 20_000)
        .start();
    for number in 0..JOBS {
        server.api().submit(if number % 3 == 0 {
            "discover_namespaces"
        } else {
            "crawl_project"
        });
    }
    let runtime = Runtime::new().expect("a runtime");
    let endpoint = Endpoint::Unix(server.socket());
    let crawlers: Vec<_> = (0..CRAWLERS)
        .map(|number| {
            runtime.block_on(Crawler::start(
                server.dir(),
                number,
                &endpoint,
                seed.wrapping_add(number),
            ))
        })
        .collect();
    let end = drain(&server);
    tell(&end, &words(server.dir()));
    let stopped: Vec<_> = crawlers
        .into_iter()
        .map(|crawler| runtime.block_on(crawler.stop()))
        .collect();
    let said = words(server.dir());
    check(&end, &Acknowledged::new());
    judge(&end, &said);
    settled_once(&server, &stopped);
    println!("{:?}", began.elapsed());
    assert!(!server.log().contains("panicked"), "the server panicked");
}

/// How far the server says that a session's numbers went.
#[derive(FromQueryResult)]
struct HighWater {
    name: String,
    high_water: i64,
}

fn high_water(server: &TestServer) -> Vec<HighWater> {
    block_on(async {
        let pool = server.database().pool().await;
        let query = Statement::from_string(pool.get_database_backend(), "SELECT name, high_water FROM sessions");
        let rows = HighWater::find_by_statement(query).all(&pool).await.expect("rows");
        pool.close().await.expect("the connection closes");
        rows
    })
}

/// Both sides agree about how much was said.
fn settled_once(server: &TestServer, stopped: &[(ClientStats, usize)]) {
    let rows = high_water(server);
    for (stats, connections) in stopped {
        println!(
            "{connections} connections, {} settled, {} said again",
            stats.acked, stats.resent
        );
        let name = stats.session_id.as_deref().expect("a session");
        let row = rows.iter().find(|row| row.name == name).expect("its row");
        assert_eq!((row.high_water as u64, stats.refused), (stats.acked, 0), "{stats:?}");
        assert!(*connections > 3, "the weather was calm");
    }
}
