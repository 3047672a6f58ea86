//! A crawler in the simulated network, on the client that crawler authors use, and what all crawlers were told is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crawlwire_progress::Store;
use crawlwire_protocol::message::{DiscoveredJob, DiscoverySummary, JobType};
use crawlwire_transport::Endpoint;
use crawlwire_transport::client::{
    BoxedStream, Client, ClientOptions, Closed, Connector, Dialling, Job, Jobs, Kept, ReportError,
};
use crawlwire_transport::testing::{Faults, faulty};
use serde_json::{Value, json};
use tokio::sync::watch;
use turmoil::net::TcpStream;

use crate::disk::Disk;

/// Checkpoints of each job.
const CHECKPOINTS: usize = 3;

/// Jobs that a discovery finds.
pub(crate) const FOUND: usize = 3;

/// The time between two words about a job.
const STEP: Duration = Duration::from_millis(40);

/// What crawlers were told is kept. Outlives them.
#[derive(Default)]
pub(crate) struct Book(Mutex<Words>);

#[derive(Default)]
pub(crate) struct Words {
    pub(crate) checkpoints: BTreeMap<String, usize>,
    pub(crate) discovered: BTreeSet<String>,
    pub(crate) completed: BTreeSet<String>,
    /// Jobs that were taken from a crawler while it worked on them, and what it had then said for nothing.
    pub(crate) lost: usize,
    /// Crawlers that have left in good order.
    pub(crate) left: BTreeSet<usize>,
    pub(crate) connections: u64,
    pub(crate) resent: u64,
    pub(crate) wrong: Vec<String>,
}

impl Book {
    pub(crate) fn words(&self) -> MutexGuard<'_, Words> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dials in the simulated network, with faults of its own.
#[derive(Debug)]
struct Simulated {
    faults: Faults,
    seed: u64,
    dials: AtomicU64,
}

impl Connector for Simulated {
    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Dialling<'a> {
        Box::pin(async move {
            let Endpoint::Tcp { host, port } = endpoint else {
                return Err(std::io::ErrorKind::Unsupported.into());
            };
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            let seed = self.seed + self.dials.fetch_add(1, Ordering::Relaxed);
            Ok(faulty(Box::new(stream) as BoxedStream, self.faults, seed))
        })
    }

    fn is_private(&self, _: &Endpoint) -> bool {
        false
    }
}

/// What does not change when a crawler dies and is started again.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) number: usize,
    pub(crate) seed: u64,
    /// How often it has started. One that remembers who it was starts but once.
    pub(crate) starts: Arc<AtomicU64>,
    pub(crate) remembers: bool,
    pub(crate) faults: Faults,
    pub(crate) endpoint: Endpoint,
    pub(crate) book: Arc<Book>,
    pub(crate) disk: Arc<Disk>,
    /// True when there is nothing left to do.
    pub(crate) stop: watch::Receiver<bool>,
}

impl Setup {
    fn options(&self) -> ClientOptions {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        let life = if self.remembers { 0 } else { start };
        ClientOptions::new("crawler")
            .instance(u128::from(life) << 8 | self.number as u128)
            .slots(3)
            .connector(Simulated {
                faults: self.faults,
                seed: self.seed,
                dials: AtomicU64::new(0),
            })
            .backoff(Duration::from_millis(20), Duration::from_millis(500))
            .connect_timeout(Duration::from_secs(600))
            .dial_timeout(Duration::from_secs(1))
            .welcome_timeout(Duration::from_secs(1))
            .request_timeout(Duration::from_secs(2))
            .base_patience(Duration::from_secs(1))
            .jitter_seed(self.seed)
    }

    /// Crawls until told to stop, and leaves in good order.
    pub(crate) async fn crawl(mut self) -> turmoil::Result {
        let (client, jobs) = Client::connect(self.endpoint.clone(), self.options()).await?;
        self.disk.note(&format!("crawler {} connected", self.number));
        self.take(&client, jobs).await;
        let stopped = client.shutdown(Duration::from_secs(60)).await;
        self.disk.note(&format!("crawler {} left", self.number));
        let mut words = self.book.words();
        if (&stopped.closed, stopped.unsettled) != (&Closed::Shutdown, 0) {
            words.wrong.push(format!("crawler {}: {stopped:?}", self.number));
        }
        words.left.insert(self.number);
        words.connections += client.stats().connections;
        words.resent += client.stats().resent;
        Ok(())
    }

    async fn take(&mut self, client: &Client, mut jobs: Jobs) {
        let mut stop = self.stop.clone();
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                job = jobs.next() => match job {
                    Some(job) => drop(tokio::spawn(self.clone().run(job))),
                    None => {
                        let why = client.closed().await;
                        self.book.words().wrong.push(format!("client {} ended: {why}", self.number));
                        return;
                    }
                },
            }
        }
    }

    async fn run(self, job: Job) {
        let id = job.id().to_string();
        let key = match self.disk.memory.job(&id).await {
            Ok(Some(view)) => view.key,
            _ => return self.book.words().wrong.push(format!("{id} was given and is not there")),
        };
        self.disk.note(&format!("crawler {} began {key}", self.number));
        match self.live(job, &id).await {
            Ok(()) => self.disk.note(&format!("crawler {} completed {key}", self.number)),
            // Its lease was over: who looks at all of it in the end knows whether rightly so.
            Err(ReportError::Lost) => {
                self.disk.note(&format!("crawler {} lost {key}", self.number));
                self.book.words().lost += 1;
            }
            Err(ReportError::Refused(refusal)) if refusal.code == "stale" => self.book.words().lost += 1,
            Err(error) => self.book.words().wrong.push(format!("{id}: {error}")),
        }
    }

    async fn live(&self, job: Job, id: &str) -> Result<(), ReportError> {
        let known = self.book.words().checkpoints.get(id).copied().unwrap_or(0);
        let given = job.last_checkpoint::<Value>().ok().flatten();
        let given = given.and_then(|given| given["place"].as_u64()).unwrap_or(0) as usize;
        if given < known {
            let wrong = format!("{id} came with checkpoint {given}, and {known} was acknowledged");
            self.book.words().wrong.push(wrong);
        }
        for place in given + 1..=CHECKPOINTS {
            tokio::time::sleep(STEP).await;
            job.progress(place as f64 / CHECKPOINTS as f64);
            match job.checkpoint(&json!({ "place": place })).await? {
                Kept::Durable => _ = self.book.words().checkpoints.insert(id.to_owned(), place),
                Kept::Unsupported => self.book.words().wrong.push(format!("{id}: no checkpoints")),
            }
        }
        if job.job_type() == JobType::DiscoverNamespaces {
            let found = (0..FOUND).map(|number| DiscoveredJob {
                job_type: JobType::CrawlProject,
                entity_id: format!("{id}-{number}"),
                namespace_path: format!("group/{number}"),
                entity_name: number.to_string(),
                priority: 1.0,
                estimated_size: None,
            });
            job.discovered(found.collect::<Vec<_>>(), DiscoverySummary::default())
                .await?;
            self.book.words().discovered.insert(id.to_owned());
        }
        job.complete("all of it").await?;
        self.book.words().completed.insert(id.to_owned());
        Ok(())
    }
}
