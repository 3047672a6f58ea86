//! The life of a crawler: connect, say that it is alive, survive a lost connection, stop.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use crawlwire_protocol::message::Shutdown;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::hand::Hand;
use crate::jobs::Context;
use crate::options::Options;
use crate::output::{self, Output};
use crate::summary::Summary;
use crate::walk::Root;
use crate::wire::{Link, Turn};
use crate::{console, repository};

/// Before the first retry to connect. Well within the five seconds for which a server keeps the jobs of a lost
/// connection.
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// Retries are never further apart: a server that starts again should not wait for its crawlers.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// After a shutdown was announced: the server needs a moment to go, and longer to come back.
const RETRY_AFTER_SHUTDOWN: Duration = Duration::from_secs(1);

/// A connection that lasted this long was a good one: waiting begins anew.
const GOOD_CONNECTION: Duration = Duration::from_secs(2);

/// How often people are told that nobody listens.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Time for jobs to end and for their last words when the crawler is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// What is being sent after an announced shutdown is sent within this time, however long the server would wait.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(30);

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) summary: Summary,
    /// Why it ended before it was told to.
    pub(crate) gave_up: Option<String>,
}

/// Crawls until told to stop, until `--once` is satisfied, or until the server stays away.
///
/// # Errors
/// When it cannot begin: no git, no root, or no place for the output.
pub(crate) async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<Ended> {
    let (context, git) = prepare(&options)?;
    if !options.quiet {
        let (root, out) = (context.root.path().display(), options.out.display());
        console::say(format_args!("crawling {root} with {git}, writing to {out}"));
    }
    let socket = options.socket.clone();
    let mut crawler = Crawler {
        socket: socket.unwrap_or_else(|| PathBuf::from("/tmp/crawler-socket.sock")),
        heartbeat: options.heartbeat_ms.max(Duration::from_millis(1)),
        patience: options.patience_ms,
        hand: Hand::new(options, context, stop.clone()),
        stop,
    };
    let gave_up = crawler.crawl().await;
    // Jobs still in hand have nobody to speak to any more.
    crawler.stop.cancel();
    Ok(Ended {
        summary: crawler.hand.summary,
        gave_up,
    })
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
    Ok((Context { root, output }, git))
}

struct Crawler {
    socket: PathBuf,
    heartbeat: Duration,
    patience: Duration,
    stop: CancellationToken,
    hand: Hand,
}

/// Why a connection was left.
enum Left {
    Lost(String),
    /// The server goes away and said so.
    Announced,
    /// There is nothing more to do.
    Finished,
}

/// A decision to go, once everything is said.
struct Leaving {
    left: Left,
    /// Jobs in hand end first.
    after_jobs: bool,
    deadline: Instant,
}

impl Crawler {
    /// One connection after the other. Returns why it gave up, if it did.
    async fn crawl(&mut self) -> Option<String> {
        let mut retry = RETRY_FIRST;
        let mut last_good = Instant::now();
        let mut told: Option<Instant> = None;
        loop {
            let trouble = match Link::open(&self.socket).await {
                Ok(link) => {
                    let opened = Instant::now();
                    let left = self.serve(link).await;
                    self.hand.disconnected();
                    if opened.elapsed() >= GOOD_CONNECTION {
                        (retry, last_good, told) = (RETRY_FIRST, Instant::now(), None);
                    }
                    match left {
                        Left::Finished => return None,
                        Left::Announced => {
                            (retry, last_good) = (RETRY_AFTER_SHUTDOWN, Instant::now());
                            "the server is going away".to_owned()
                        }
                        Left::Lost(why) => format!("connection lost: {why}"),
                    }
                }
                Err(error) => format!("nobody listens at {}: {error}", self.socket.display()),
            };
            if last_good.elapsed() >= self.patience {
                return Some(trouble);
            }
            if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
                console::warn(format_args!("{trouble}; trying again"));
                told = Some(Instant::now());
            }
            if self.pause(jittered(retry)).await {
                return None;
            }
            retry = (retry * 2).min(RETRY_MAX);
        }
    }

    /// Waits without a connection while jobs go on. Says whether it was told to stop.
    async fn pause(&mut self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return true,
                said = self.hand.listen() => self.hand.take(said),
                () = sleep_until(end) => return false,
            }
        }
    }

    /// Speaks with the server for as long as the connection lasts.
    async fn serve(&mut self, mut link: Link) -> Left {
        self.hand.connected();
        // Before anything else: a connection is given work when it has said something.
        self.hand.heartbeat(link.buffer());
        let mut heartbeat = interval_at(Instant::now() + self.heartbeat, self.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leaving: Option<Leaving> = None;
        loop {
            let all_said = self.hand.speak(link.buffer()) && link.is_idle();
            leaving = leaving.or_else(|| self.wants_to_leave());
            let is_over = |leaving: &mut Leaving| {
                let may_go = all_said && !(leaving.after_jobs && self.hand.is_busy());
                may_go || leaving.deadline <= Instant::now()
            };
            if let Some(leaving) = leaving.take_if(is_over) {
                link.close().await;
                return leaving.left;
            }
            let wake = leaving.as_ref().map(|leaving| leaving.deadline);
            let wake = wake.or_else(|| self.hand.satisfied_at());
            tokio::select! {
                turn = link.turn() => match turn {
                    Turn::Heard(line) => if let Some(shutdown) = self.hand.hear(&line) {
                        leaving.get_or_insert(Leaving::announced(&shutdown));
                    },
                    Turn::Moved => {}
                    Turn::Lost(why) => return leaving.map_or(Left::Lost(why), |leaving| leaving.left),
                },
                said = self.hand.listen() => self.hand.take(said),
                _ = heartbeat.tick() => self.hand.heartbeat(link.buffer()),
                () = self.stop.cancelled(), if leaving.is_none() => {}
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
    }

    fn wants_to_leave(&self) -> Option<Leaving> {
        let now = Instant::now();
        let is_satisfied = self.hand.satisfied_at().is_some_and(|at| at <= now);
        (self.stop.is_cancelled() || is_satisfied).then(|| Leaving {
            left: Left::Finished,
            after_jobs: true,
            deadline: now + STOP_GRACE,
        })
    }
}

impl Leaving {
    /// What was said in full still reaches a server that goes gracefully. Jobs go on, and are spoken of after the
    /// reconnect.
    fn announced(shutdown: &Shutdown) -> Self {
        let grace = Duration::try_from_secs_f64(shutdown.timeout_seconds).unwrap_or_default();
        let grace = if shutdown.graceful {
            grace.min(SHUTDOWN_GRACE)
        } else {
            Duration::ZERO
        };
        Self {
            left: Left::Announced,
            after_jobs: false,
            deadline: Instant::now() + grace,
        }
    }
}

/// Between half the time and all of it, so that crawlers that lost the same server do not return all at once.
fn jittered(pause: Duration) -> Duration {
    let nanos = chrono::Utc::now().timestamp_subsec_nanos();
    // The digits that differ between processes are the small ones.
    pause.mul_f64(0.5 + 0.5 * f64::from(nanos / 1000 % 1000) / 1000.0)
}
