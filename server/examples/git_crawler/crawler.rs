//! The life of a crawler: connect, take jobs, end.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use crawlwire_protocol::message::JobType;
use crawlwire_transport::Endpoint;
use crawlwire_transport::client::{Client, ClientOptions, ConnectError, InstanceError, Job, Jobs};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::jobs::{self, Context, Outcome};
use crate::options::Options;
use crate::output::{self, Output};
use crate::summary::Summary;
use crate::walk::Root;
use crate::{console, repository};

/// Retries to connect are never further apart: a server that starts again should not wait for its crawlers.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A server that answers takes less; after this long people are told what is waited for.
const TOLD_AFTER: Duration = Duration::from_secs(2);

/// How often it is looked whether there is a server, and work.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Time for jobs to end and for their last words when the crawler is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// Time for their threads to come back after that.
const THREADS_GRACE: Duration = Duration::from_millis(500);

/// How a run ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) summary: Summary,
    /// Why it ended before it was told to.
    pub(crate) gave_up: Option<String>,
}

/// Crawls until told to stop, until `--once` is satisfied, or until the server stays away.
///
/// # Errors
/// When it cannot begin: no git, no root, no place for the output, or a server that does not want it.
pub(crate) async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<Ended> {
    let (context, git) = prepare(&options)?;
    if !options.quiet {
        let (root, out) = (context.root.path().display(), options.out.display());
        console::say(format_args!("crawling {root} with {git}, writing to {out}"));
    }
    let Some(connected) = stop.run_until_cancelled(connect(&options, &context)).await else {
        return Ok(Ended::default());
    };
    let (client, mut jobs) = match connected {
        Ok(connected) => connected,
        Err(ConnectError::Unreachable(error)) => {
            let gave_up = Some(format!("no server at {}: {error}", socket(&options).display()));
            let summary = Summary::default();
            return Ok(Ended { summary, gave_up });
        }
        Err(error @ ConnectError::Instance(InstanceError::Held(_))) => {
            return Err(error).context("give each crawler another --out, or --no-instance");
        }
        Err(error) => return Err(error).context("cannot begin"),
    };
    let mut crawler = Crawler {
        client: client.clone(),
        context: Arc::new(context),
        running: JoinSet::new(),
        summary: Summary::default(),
        last_work: Instant::now(),
        last_server: Instant::now(),
        options,
    };
    let gave_up = crawler.crawl(&mut jobs, &stop).await;
    client.shutdown(STOP_GRACE).await;
    // All ends are said. What is in the middle of a long git command has nobody to speak to any more.
    let last_ends = async {
        while let Some(ended) = crawler.running.join_next().await {
            crawler.note(ended);
        }
    };
    let _ = timeout(THREADS_GRACE, last_ends).await;
    let summary = crawler.summary;
    Ok(Ended { summary, gave_up })
}

fn prepare(options: &Options) -> anyhow::Result<(Context, String)> {
    let git = repository::installed().context("git cannot be run")?;
    let place = |path: &Path| path.display().to_string();
    let out = output::locate(&options.out).with_context(|| place(&options.out))?;
    let root = Root::open(&options.root, out.clone()).with_context(|| place(&options.root))?;
    if let Some(repository) = output::repository_around(&out, root.path()) {
        anyhow::bail!(
            "the output would land inside the repository {}: name a folder outside with --out",
            repository.display()
        );
    }
    let output = Output::create(out).with_context(|| place(&options.out))?;
    let slow = options.slow_ms;
    Ok((Context { root, output, slow }, git))
}

fn socket(options: &Options) -> &Path {
    let given = options.socket.as_deref();
    given.unwrap_or(Path::new("/tmp/crawler-socket.sock"))
}

async fn connect(options: &Options, context: &Context) -> Result<(Client, Jobs), ConnectError> {
    let mut settings = ClientOptions::new("git_crawler")
        .software("git_crawler", Some(env!("CARGO_PKG_VERSION")))
        .slots(options.jobs.into())
        .backoff(RETRY.0, RETRY.1)
        .connect_timeout(options.patience_ms)
        .base_heartbeat(options.heartbeat_ms.max(Duration::from_millis(1)));
    if !options.no_instance {
        settings = settings.instance_file(context.output.instance_file());
    }
    let socket = socket(options);
    let mut connecting = pin!(Client::connect(Endpoint::Unix(PathBuf::from(socket)), settings));
    if let Ok(connected) = timeout(TOLD_AFTER, &mut connecting).await {
        return connected;
    }
    console::warn(format_args!("no answer at {} yet; trying on", socket.display()));
    connecting.await
}

struct Crawler {
    client: Client,
    context: Arc<Context>,
    options: Options,
    running: JoinSet<Finished>,
    summary: Summary,
    /// When there was a job last, or could not be one.
    last_work: Instant,
    last_server: Instant,
}

/// A job whose end is settled.
struct Finished {
    job_type: JobType,
    label: String,
    outcome: Outcome,
}

impl Crawler {
    /// Takes jobs for as long as there is a reason to. Returns why it gave up, if it did.
    async fn crawl(&mut self, jobs: &mut Jobs, stop: &CancellationToken) -> Option<String> {
        let mut looks = interval(LOOK_EVERY);
        let mut told = false;
        loop {
            tokio::select! {
                job = jobs.next() => match job {
                    Some(job) => self.begin(job),
                    None => return Some(self.client.closed().await.to_string()),
                },
                Some(ended) = self.running.join_next() => self.note(ended),
                () = stop.cancelled() => return None,
                _ = looks.tick() => {
                    let stats = self.client.stats();
                    if stats.is_connected {
                        (self.last_server, told) = (Instant::now(), false);
                    } else if self.last_server.elapsed() >= self.options.patience_ms {
                        return Some(format!("no server at {} any more", socket(&self.options).display()));
                    } else if !std::mem::replace(&mut told, true) {
                        console::warn("the server is gone; trying again");
                    }
                    if !stats.is_connected || stats.jobs > 0 {
                        self.last_work = Instant::now();
                    }
                    if self.is_satisfied() {
                        return None;
                    }
                }
            }
        }
    }

    /// Whether `--once` has what it wants.
    fn is_satisfied(&self) -> bool {
        let was_work = self.summary.ended() > 0 && self.running.is_empty();
        self.options.once && was_work && self.last_work.elapsed() >= self.options.once_idle_ms
    }

    fn begin(&mut self, job: Job) {
        let context = Arc::clone(&self.context);
        self.last_work = Instant::now();
        self.running.spawn(async move {
            let (job_type, label) = (job.job_type(), jobs::label(&job));
            let done = tokio::task::spawn_blocking(move || jobs::run(&context, job)).await;
            // The client has said so already.
            let outcome = done.unwrap_or_else(|_| Outcome::Failed("the crawler's own code panicked".to_owned()));
            Finished {
                job_type,
                label,
                outcome,
            }
        });
    }

    fn note(&mut self, ended: Result<Finished, JoinError>) {
        self.last_work = Instant::now();
        // Only a task that was aborted has no outcome, and none ever is.
        let Ok(Finished {
            job_type,
            label,
            outcome,
        }) = ended
        else {
            return;
        };
        self.summary.note(job_type, &outcome);
        if !self.options.quiet {
            match outcome {
                Outcome::Done { summary, took, .. } => {
                    let seconds = took.as_secs_f64();
                    console::say(format_args!("completed {label}: {summary} in {seconds:.2} s"));
                }
                Outcome::Failed(why) => console::say(format_args!("failed    {label}: {why}")),
                Outcome::Left(why) => console::say(format_args!("left      {label}: {why}")),
            }
        }
    }
}
