//! Simulated crawlers. Each job is begun, has one checkpoint, and ends well.

use std::sync::Arc;
use std::time::Duration;

use crawlwire_protocol::AccessToken;
use crawlwire_transport::Endpoint;
use crawlwire_transport::client::{Client, ClientOptions, Completion, Job, Jobs, Kept};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::run::Run;
use crate::client::args::BenchArgs;
use crate::client::server::Trouble;
use crate::client::submit;

/// How long a crawler tries to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// How long crawlers have to end what they hold.
const LEAVE: Duration = Duration::from_secs(10);

pub(super) struct Crawlers {
    clients: Vec<Client>,
    work: Vec<JoinHandle<()>>,
}

impl Crawlers {
    pub(super) async fn connect(endpoint: Endpoint, args: &BenchArgs, run: &Arc<Run>) -> Result<Self, Trouble> {
        let token = args.token_file.as_deref().map(submit::token).transpose()?;
        let mut all = Self {
            clients: Vec::new(),
            work: Vec::new(),
        };
        for _ in 0..args.crawlers {
            let mut options = ClientOptions::new(run.mark())
                .slots(args.slots)
                .hosts([run.host()])
                .labels(vec![run.mark().to_owned()])
                .software("crawlwire bench", Some(env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT);
            if let Some(token) = &token {
                options = options.token(AccessToken::new(token.as_str()));
            }
            match Client::connect(endpoint.clone(), options).await {
                Ok((client, jobs)) => {
                    all.clients.push(client);
                    all.work.push(tokio::spawn(take(jobs, run.clone())));
                }
                Err(error) => {
                    let connected = all.clients.len();
                    all.leave().await;
                    return Err(Trouble::Failed(format!(
                        "crawler {} cannot connect to {endpoint}: {error}. Name the server's socket with --socket, or have \
                         fewer --crawlers than its max_connections",
                        connected + 1
                    )));
                }
            }
        }
        Ok(all)
    }

    /// Lasting messages that the server has settled.
    pub(super) fn acked(&self) -> u64 {
        self.clients.iter().map(|client| client.stats().acked).sum()
    }

    pub(super) async fn leave(self) {
        for client in &self.clients {
            client.shutdown(LEAVE).await;
        }
        for work in self.work {
            // It ends with its client.
            let _ = work.await;
        }
    }
}

async fn take(mut jobs: Jobs, run: Arc<Run>) {
    while let Some(job) = jobs.next().await {
        tokio::spawn(work(job, run.clone()));
    }
}

async fn work(job: Job, run: Arc<Run>) {
    let number = job.entity_id().unwrap_or_default().to_owned();
    run.assigned(&number);
    job.progress(0.5);
    let said = Instant::now();
    if matches!(job.checkpoint(&json!({ "place": 1 })).await, Ok(Kept::Durable)) {
        run.acked(said.elapsed());
    }
    run.ending(&number);
    let said = Instant::now();
    match job.complete(Completion::new("nothing was crawled")).await {
        Ok(()) => {
            run.acked(said.elapsed());
            run.ended(&number);
        }
        // It was taken away; whoever submitted it finds out by the time.
        Err(_) => run.seen(&number),
    }
}
