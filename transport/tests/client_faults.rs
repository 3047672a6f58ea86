//! On the worst of networks every lasting message arrives exactly once and in order.
//!
//! `CRAWLWIRE_CRASH_SEED` begins with a seed that was printed.

#[path = "model/mod.rs"]
mod model;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crawlwire_transport::client::{Client, ClientOptions};
use crawlwire_transport::testing::{FaultProxy, Faults, ScriptedServer, assignment, welcome};
use crawlwire_transport::{Endpoint, Stream};
use model::Model;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Enough for each fault to happen in most of them.
const ROUNDS: u64 = 60;
const JOBS: usize = 5;
const CHECKPOINTS: u32 = 6;

/// Far beyond what a round takes on a busy machine.
const ROUND: Duration = Duration::from_secs(60);

fn options(seed: u64) -> ClientOptions {
    ClientOptions::new("tester")
        .slots(3)
        .backoff(Duration::from_millis(1), Duration::from_millis(30))
        .welcome_timeout(Duration::from_millis(400))
        .base_patience(Duration::from_millis(400))
        .request_timeout(Duration::from_secs(2))
        .outbox_messages(6)
        .jitter_seed(seed)
}

/// What befell a round.
struct Round {
    connections: u64,
    repeated: u64,
}

async fn round(seed: u64) -> Round {
    let (listener, endpoint, folder) = listen(seed).await;
    let model = Model::new((0..JOBS).map(|job| format!("job-{job}")), seed % 3 * 5);
    let serving = tokio::spawn(serve(listener, Arc::clone(&model)));
    let proxy = FaultProxy::start(&endpoint, Faults::hostile(), seed).await;
    let (client, jobs) = Client::connect(proxy.endpoint(), options(seed))
        .await
        .expect("a server");
    let crawled = timeout(ROUND, model::crawl(jobs, JOBS, CHECKPOINTS)).await;
    assert!(crawled.is_ok(), "stuck: {:?}", client.stats());
    model::check(&model.messages(), JOBS, CHECKPOINTS);
    serving.abort();
    drop(folder);
    Round {
        connections: client.stats().connections,
        repeated: proxy.repeated(),
    }
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Unix sockets and TCP in turn: they break differently.
async fn listen(seed: u64) -> (Listener, Endpoint, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    if seed.is_multiple_of(2) {
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        return (Listener::Unix(listener), Endpoint::Unix(path), folder);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
    (Listener::Tcp(listener), endpoint, folder)
}

async fn serve(listener: Listener, model: Arc<Model>) {
    let mut connections = JoinSet::new();
    loop {
        let stream = match &listener {
            Listener::Unix(listener) => Stream::Unix(listener.accept().await.unwrap().0),
            Listener::Tcp(listener) => Stream::Tcp(listener.accept().await.unwrap().0),
        };
        connections.spawn(Arc::clone(&model).serve(Box::new(stream), model::brisk()));
    }
}

#[tokio::test]
async fn every_lasting_message_arrives_once_and_in_order() {
    let base = match std::env::var("CRAWLWIRE_CRASH_SEED") {
        Ok(seed) => seed.parse().expect("CRAWLWIRE_CRASH_SEED is a number"),
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() << 8,
    };
    println!("seeds {base} to {}", base + ROUNDS - 1);
    let (mut connections, mut repeated) = (0, 0);
    let mut running = JoinSet::new();
    let mut seeds = base..base + ROUNDS;
    loop {
        while running.len() < 4
            && let Some(seed) = seeds.next()
        {
            running.spawn(round(seed));
        }
        let Some(round) = running.join_next().await else { break };
        let round = round.expect("a sound round");
        connections += round.connections;
        repeated += round.repeated;
    }
    // A proxy that does no harm proves nothing.
    assert!(connections > ROUNDS * 2, "{connections} connections");
    assert!(repeated > ROUNDS, "{repeated} lines came twice");
}

#[tokio::test]
async fn the_proxy_holds_and_breaks_at_command() {
    let mut server = ScriptedServer::tcp().await;
    let proxy = FaultProxy::start(&server.endpoint(), Faults::rough(), 1).await;
    let connecting = Client::connect(proxy.endpoint(), options(1));
    let (connected, mut connection) = tokio::join!(connecting, server.session());
    let (client, mut jobs) = connected.unwrap();
    let message = crawlwire_protocol::WebAppMessage::JobAssignment(assignment("a"));
    let marks = crawlwire_transport::testing::fenced(1);

    proxy.hold();
    connection.send_for("a", marks, message).await;
    assert!(timeout(Duration::from_millis(200), jobs.next()).await.is_err());
    proxy.release();
    let job = timeout(Duration::from_secs(10), jobs.next()).await.unwrap().unwrap();
    let started = connection.skip_to("job_started").await;

    proxy.reset();
    connection.expect_end().await;
    let mut connection = server.session_with(welcome(0)).await;
    assert_eq!(connection.skip_to("job_started").await.line, started.line);
    assert_eq!((proxy.connections(), client.stats().connections), (2, 2));
    drop(job);
}
