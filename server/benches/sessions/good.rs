//! Peers that behave: each says how far it is now and then, and notes how long that took to be acknowledged.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use crate::figures::Times;
use crate::place::Place;
use crate::process::ServerProcess;
use crate::web_app::WebApp;
use crate::wire::{Heard, Lease, Session};

/// How many they are, and the time between two checkpoints of each.
pub(crate) const GOOD: usize = 4;
pub(crate) const EVERY: Duration = Duration::from_millis(10);

/// Checkpoints between two signs of life, so one a second.
const HEARTBEATS: u64 = 100;

/// They speak until this is dropped.
pub(crate) struct Good {
    recorder: Arc<Recorder>,
    _peers: JoinSet<()>,
}

impl Good {
    /// Returns when each works on a job of its own. Nobody else may be there to take one.
    pub(crate) async fn start(place: &Place, server: &ServerProcess) -> Self {
        let mut web_app = WebApp::connect(server.http_address()).await;
        let recorder = Arc::new(Recorder::default());
        let mut peers = JoinSet::new();
        for number in 0..GOOD {
            web_app.submit(number).await;
            let session = Session::connect(&place.socket(), Uuid::now_v7(), 1, &[]).await;
            let mut session = session.expect("the server welcomes sessions");
            let lease = session.begin().await.expect("a job that begins");
            let recorder = recorder.clone();
            peers.spawn(async move {
                let ended = speak(session, lease, &recorder).await;
                ended.expect("the server has nothing against good peers");
            });
        }
        Self {
            recorder,
            _peers: peers,
        }
    }

    /// How long acknowledgements took that came in this time.
    pub(crate) async fn times(&self, time: Duration) -> Times {
        self.recorder.begin();
        sleep(time).await;
        Times::of(self.recorder.end())
    }
}

/// Where good peers put down what they measure, while somebody wants it.
#[derive(Default)]
struct Recorder(Mutex<Option<Vec<Duration>>>);

impl Recorder {
    fn begin(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
    }

    fn end(&self) -> Vec<Duration> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.expect("it has begun")
    }

    fn note(&self, time: Duration) {
        if let Some(times) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            times.push(time);
        }
    }
}

/// A good peer: never more than it may have on its way, and a sign of life now and then.
async fn speak(mut session: Session, lease: Lease, recorder: &Recorder) -> io::Result<()> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut settled = session.seq;
    let mut sent = VecDeque::new();
    loop {
        tokio::select! {
            heard = session.next() => if let Heard::Acked(seq) = heard? {
                let now = Instant::now();
                for at in sent.drain(..(seq - settled) as usize) {
                    recorder.note(now - at);
                }
                settled = seq;
            },
            _ = ticks.tick(), if (sent.len() as u64) < session.window => {
                session.checkpoint(&lease);
                if session.seq.is_multiple_of(HEARTBEATS) {
                    session.heartbeat();
                }
                sent.push_back(Instant::now());
            }
        }
        session.flush().await?;
    }
}
