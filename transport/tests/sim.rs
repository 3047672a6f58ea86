//! The client in a simulated network: latency, loss, partitions, a server that crashes and comes back. One thread, its
//! own clock, the same course of events for the same seed.

#[path = "model/mod.rs"]
mod model;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crawlwire_transport::Endpoint;
use crawlwire_transport::client::{BoxedStream, Client, ClientOptions, Connector, Dialling};
use model::Model;
use turmoil::net::{TcpListener, TcpStream};
use turmoil::{Builder, Sim};

const PORT: u16 = 7000;
const JOBS: usize = 6;
const CHECKPOINTS: u32 = 8;

/// Dials in the simulated network.
#[derive(Debug)]
struct Simulated;

impl Connector for Simulated {
    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Dialling<'a> {
        Box::pin(async move {
            let Endpoint::Tcp { host, port } = endpoint else {
                return Err(std::io::ErrorKind::Unsupported.into());
            };
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            Ok(Box::new(stream) as BoxedStream)
        })
    }

    fn is_private(&self, _: &Endpoint) -> bool {
        false
    }
}

/// A server that keeps what the model keeps, and a crawler that works through its jobs.
fn simulation(seed: u64) -> (Sim<'static>, Arc<Model>, Arc<AtomicU64>) {
    let mut sim = Builder::new()
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(120))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(40))
        .tick_duration(Duration::from_millis(1))
        .build();
    let model = Model::new((0..JOBS).map(|job| format!("job-{job}")), 7);
    let kept = Arc::clone(&model);
    sim.host("server", move || {
        let model = Arc::clone(&kept);
        async move {
            let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)).await?;
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(Arc::clone(&model).serve(Box::new(stream), model::brisk()));
            }
        }
    });
    let connections = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&connections);
    sim.client("crawler", async move {
        let options = ClientOptions::new("tester")
            .slots(3)
            .connector(Simulated)
            .backoff(Duration::from_millis(20), Duration::from_millis(500))
            .dial_timeout(Duration::from_secs(1))
            .welcome_timeout(Duration::from_secs(1))
            .base_patience(Duration::from_secs(1))
            .request_timeout(Duration::from_secs(2))
            .jitter_seed(seed);
        let endpoint = format!("tcp://server:{PORT}").parse()?;
        let (client, jobs) = Client::connect(endpoint, options).await?;
        model::crawl(jobs, JOBS, CHECKPOINTS).await;
        counted.store(client.stats().connections, Ordering::Relaxed);
        Ok(())
    });
    (sim, model, connections)
}

/// Runs to the end, doing something to the network at each of these steps.
fn run(seed: u64, mut at_step: impl FnMut(&mut Sim<'static>, u64)) -> u64 {
    let (mut sim, model, connections) = simulation(seed);
    let mut step = 0;
    loop {
        match sim.step() {
            Ok(true) => break,
            Ok(false) => at_step(&mut sim, step),
            Err(error) => panic!("seed {seed}: {error}"),
        }
        step += 1;
    }
    model::check(&model.messages(), JOBS, CHECKPOINTS);
    connections.load(Ordering::Relaxed)
}

#[test]
fn a_quiet_network_needs_one_connection() {
    assert_eq!(run(1, |_, _| {}), 1);
}

#[test]
fn partitions_are_waited_out() {
    let mut connections = 0;
    for seed in 0..10 {
        connections += run(seed, |sim, step| match step % 400 {
            150 => sim.partition("crawler", "server"),
            // Sometimes shorter than the silence that is noticed, sometimes longer.
            170 if step / 400 % 2 == 0 => sim.repair("crawler", "server"),
            350 => sim.repair("crawler", "server"),
            _ => {}
        });
    }
    // A partition that breaks nothing proves nothing.
    assert!(connections > 10, "{connections}");
}

#[test]
fn a_crashing_server_loses_nothing_that_it_settled() {
    for seed in 0..10 {
        let connections = run(seed, |sim, step| match step % 300 {
            120 => sim.crash("server"),
            200 => sim.bounce("server"),
            _ => {}
        });
        assert!(connections > 1, "seed {seed}: {connections}");
    }
}

#[test]
fn held_messages_come_late_and_do_no_harm() {
    for seed in 0..10 {
        let mut held = 0;
        run(seed, |sim, step| match step % 250 {
            100 => {
                held += 1;
                sim.hold("crawler", "server");
            }
            140 => sim.release("crawler", "server"),
            _ => {}
        });
        assert!(held > 0, "seed {seed} was over before anything was held");
    }
}
