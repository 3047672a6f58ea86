//! Crawlers that report about many jobs, evenly over time. Each report says when it was made.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use uuid::Uuid;

use crate::place::Place;
use crate::process::ServerProcess;
use crate::web_app::WebApp;
use crate::wire::{DEADLINE, Heard, Lease, Session};

/// Jobs that one crawler works on.
const HELD: usize = 50;

/// Production, with room for such crawlers, which may say as much as they like.
pub(crate) const SETTINGS: [(&str, &str); 3] = [
    ("SOCKET_MAX_CONNECTIONS", "1000"),
    ("SOCKET_MAX_CONCURRENT_JOBS", "50"),
    ("SOCKET_RATE_LIMIT_MESSAGES_PER_SECOND", "0"),
];

/// Crawlers that report. They stay until this is dropped.
pub(crate) struct Updates {
    /// What reports count their milliseconds from.
    pub(crate) began: Instant,
    _crawlers: JoinSet<()>,
}

impl Updates {
    /// Returns when all jobs have begun.
    pub(crate) async fn start(place: &Place, server: &ServerProcess, jobs: usize, per_second: f64) -> Self {
        let mut web_app = WebApp::connect(server.http_address()).await;
        for number in 0..jobs {
            web_app.submit(number).await;
        }
        let mut working = Vec::new();
        for first in (0..jobs).step_by(HELD) {
            working.push(
                begin(&place.socket(), HELD.min(jobs - first))
                    .await
                    .expect("jobs that begin"),
            );
        }
        let (began, count) = (Instant::now(), working.len());
        let every = Duration::from_secs_f64(count as f64 / per_second);
        let mut crawlers = JoinSet::new();
        for (number, (session, leases)) in working.into_iter().enumerate() {
            let first = began + every.mul_f64(number as f64 / count as f64);
            crawlers.spawn(async move {
                let ended = report(session, &leases, began, (first, every)).await;
                ended.expect("the server has nothing against reports");
            });
        }
        Self {
            began,
            _crawlers: crawlers,
        }
    }
}

/// A session that works on so many jobs.
async fn begin(socket: &Path, jobs: usize) -> io::Result<(Session, Vec<Lease>)> {
    let mut session = Session::connect(socket, Uuid::now_v7(), jobs, &[]).await?;
    let mut leases = Vec::with_capacity(jobs);
    while leases.len() < jobs {
        if let Heard::Assigned(lease) = timeout(DEADLINE, session.next()).await?? {
            leases.push(lease);
        }
    }
    // Fewer than may wait for their acknowledgement.
    leases.iter().for_each(|lease| session.start(lease));
    session.flush().await?;
    session.settled().await?;
    Ok((session, leases))
}

/// Reports about one job after the other. The number of a report is the time in milliseconds, and so it rises.
async fn report(
    mut session: Session,
    leases: &[Lease],
    began: Instant,
    (first, every): (Instant, Duration),
) -> io::Result<()> {
    let mut ticks = interval_at(first, every);
    // What could not be said in time is made up for, so that the rate is what it should be.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut turn = leases.iter().cycle();
    loop {
        tokio::select! {
            heard = session.next() => match heard? {
                Heard::Acked(_) | Heard::Assigned(_) | Heard::Cancel(_) | Heard::Other => continue,
            },
            _ = ticks.tick() => {
                if let Some(lease) = turn.next() {
                    session.progress(lease, began.elapsed().as_millis() as u64);
                }
            }
        }
        session.flush().await?;
    }
}
