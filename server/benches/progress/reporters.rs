//! Crawlers that report about many jobs, over and over.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use uuid::Uuid;

use crate::place::Place;
use crate::process::ServerProcess;
use crate::web_app::WebApp;
use crate::wire::{DEADLINE, Heard, Lease, Session};

/// Between two reports about a job.
pub(crate) const EVERY: Duration = Duration::from_millis(20);

/// Jobs that one crawler works on.
const HELD: usize = 50;

/// Who submits jobs at a time.
const WEB_APPS: usize = 16;

/// Production, with room for such crawlers, which may say as much as they like.
pub(crate) const SETTINGS: [(&str, &str); 3] = [
    ("SOCKET_MAX_CONNECTIONS", "1000"),
    ("SOCKET_MAX_CONCURRENT_JOBS", "50"),
    ("SOCKET_RATE_LIMIT_MESSAGES_PER_SECOND", "0"),
];

/// Crawlers that hold jobs. They stay until this is dropped.
pub(crate) struct Reporters {
    speak: watch::Sender<bool>,
    _crawlers: JoinSet<()>,
}

impl Reporters {
    /// Returns when so many jobs have begun. Nothing is reported before it is asked for.
    pub(crate) async fn start(place: &Place, server: &ServerProcess, jobs: usize) -> Self {
        let mut submitting = JoinSet::new();
        for first in 0..WEB_APPS {
            let address = server.http_address();
            submitting.spawn(async move {
                let mut web_app = WebApp::connect(address).await;
                for number in (first..jobs).step_by(WEB_APPS) {
                    web_app.submit(number).await;
                }
            });
        }
        submitting.join_all().await;
        let speak = watch::Sender::new(false);
        let mut crawlers = JoinSet::new();
        for first in (0..jobs).step_by(HELD) {
            let began = begin(&place.socket(), HELD.min(jobs - first)).await;
            let (session, leases) = began.expect("jobs that begin");
            let speaks = speak.subscribe();
            crawlers.spawn(async move {
                let ended = report(session, &leases, speaks).await;
                ended.expect("the server has nothing against reports");
            });
        }
        Self {
            speak,
            _crawlers: crawlers,
        }
    }

    /// Whether they are to report.
    pub(crate) fn speak(&self, speak: bool) {
        self.speak.send_replace(speak);
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

/// Reports about all of them, again and again while it is asked for.
async fn report(mut session: Session, leases: &[Lease], mut speaks: watch::Receiver<bool>) -> io::Result<()> {
    let mut ticks = interval(EVERY);
    // What could not be said in time is not made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut n = 0;
    loop {
        let speak = *speaks.borrow_and_update();
        tokio::select! {
            heard = session.next() => match heard? {
                Heard::Acked(_) | Heard::Assigned(_) | Heard::Cancel(_) | Heard::Other => {}
            },
            _ = ticks.tick(), if speak => {
                n += 1;
                for lease in leases {
                    session.progress(lease, n);
                }
            }
            changed = speaks.changed() => if changed.is_err() {
                return Ok(());
            },
        }
        session.flush().await?;
    }
}
