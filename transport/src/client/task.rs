//! The one task of a client: one connection after the other, and the only code that touches a socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crawlwire_protocol::{Dialect, JobId};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::backoff::Backoff;
use super::error::{Closed, ConnectError, Refusal};
use super::greet::{self, Greeting};
use super::hear::Left;
use super::instance::Instance;
use super::link::{Link, Turn};
use super::shared::Shared;
use super::state::LAST_WORDS;
use crate::Endpoint;

/// Hellos in a row without an answer before a server that welcomed us before, or hangs up on hellos, is taken for one of
/// the base protocol.
const UNANSWERED_MAX: u32 = 3;

/// The same while something waits to be settled, which the base protocol never does: long after every lease is over.
const UNANSWERED_UNSETTLED_MAX: u32 = 20;

/// A connection that lasted this long was a good one: waiting begins anew.
const GOOD_CONNECTION: Duration = Duration::from_secs(2);

/// Unanswered hellos that are remembered. Somebody else who goes by our instance is taken for one of them as often.
const ASTRAY_MAX: u32 = 3;

/// How `Client::connect` learns what became of it.
pub(super) type Ready = oneshot::Sender<Result<(), ConnectError>>;

/// The task.
pub(super) struct Task {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    instance: Instance,
    backoff: Backoff,
    /// Told once, when the first connection stands or none ever will.
    ready: Option<Ready>,
    unanswered: u32,
    /// Hellos that were never answered, as far as we know. One may reach the server after a later one, and then takes the
    /// place of the connection that is ours.
    astray: u32,
    /// The next connection begins without a hello.
    base_next: bool,
}

/// However the task ends, whoever waits is told.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.close(Closed::Gone);
    }
}

impl Task {
    pub(super) fn new(
        shared: Arc<Shared>,
        endpoint: Endpoint,
        instance: Instance,
        backoff: Backoff,
        ready: Ready,
    ) -> Self {
        Self {
            shared,
            endpoint,
            instance,
            backoff,
            ready: Some(ready),
            unanswered: 0,
            astray: 0,
            base_next: false,
        }
    }

    /// Serves until the client ends.
    pub(super) async fn run(mut self) {
        let ending = Ending(Arc::clone(&self.shared));
        let closed = loop {
            let left = match self.connect().await {
                Ok(link) => self.serve(link).await,
                Err(left) => left,
            };
            if let Some(closed) = self.left(left).await {
                break closed;
            }
            if self.pause().await {
                break Closed::Shutdown;
            }
        };
        if let (Some(ready), Closed::Refused(refusal)) = (self.ready.take(), &closed) {
            // Whoever was connecting may have given up.
            let _ = ready.send(Err(ConnectError::Refused(refusal.clone())));
        }
        tracing::info!(%closed, "the client ended");
        ending.0.close(closed);
    }

    /// Dials and says hello.
    async fn connect(&mut self) -> Result<Link, Left> {
        let options = Arc::clone(&self.shared.options);
        let limit = Instant::now() + options.dial_timeout;
        let dialled = tokio::select! {
            biased;
            dialled = timeout_at(limit, options.connector.dial(&self.endpoint)) => dialled,
            () = self.over() => return Err(Left::Finished),
        };
        let dialled = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = match dialled {
            Ok(stream) => stream,
            Err(error) => {
                self.shared.state().trouble = Some(error.to_string());
                return Err(Left::Lost(error.to_string()));
            }
        };
        let mut link = Link::new(stream, options.max_line_bytes);
        if std::mem::take(&mut self.base_next) {
            self.begin_base();
            return Ok(link);
        }
        let (hello, said, slots) = self.hello()?;
        let until = Instant::now() + options.welcome_timeout;
        let greeting = tokio::select! {
            biased;
            greeting = greet::greet(&mut link, &hello, until) => greeting,
            () = self.over() => return Err(Left::Finished),
        };
        self.greeted(greeting, &said, slots).map(|()| link)
    }

    /// The hello, the jobs that it names, and the slots that it asks for.
    fn hello(&self) -> Result<(Vec<u8>, Vec<JobId>, u16), Left> {
        let state = self.shared.state();
        let said: Vec<JobId> = state.leases().into_iter().map(|lease| lease.job_id).collect();
        let connector = &*self.shared.options.connector;
        let hello = greet::hello(&state, self.instance.id(), connector, &self.endpoint);
        let hello = hello.ok_or_else(|| {
            let refusal = Refusal::new("invalid_message", "the hello cannot be written");
            Left::Closed(Closed::Refused(refusal))
        })?;
        Ok((hello, said, state.slots()))
    }

    /// Acts on what came of the hello.
    fn greeted(&mut self, greeting: Greeting, said: &[JobId], slots: u16) -> Result<(), Left> {
        let now = Instant::now();
        let (trouble, is_silence) = match greeting {
            Greeting::Welcome(welcome) => {
                self.unanswered = 0;
                let left = self.shared.state().begin_session(&welcome, said, slots, now);
                self.connected();
                return left.map_or(Ok(()), Err);
            }
            Greeting::Later(later) => {
                self.unanswered = 0;
                let mut state = self.shared.state();
                state.not_before = Some(now + later.wait.min(super::LONGEST_WAIT));
                state.trouble = Some(later.code.clone());
                return Err(Left::Lost(later.code));
            }
            Greeting::Refused(closed) => return Err(Left::Closed(closed)),
            Greeting::InstanceTaken => {
                self.unanswered = 0;
                self.shared.state().trouble = Some("instance_taken".to_owned());
                return Err(Left::NewInstance("the instance is somebody else's"));
            }
            Greeting::OtherVersion => {
                self.base_next = true;
                return Err(Left::Lost("the server speaks other versions of sessions".to_owned()));
            }
            Greeting::Silence => ("no welcome".to_owned(), true),
            Greeting::Ended(why) => (why, false),
        };
        self.unanswered += 1;
        self.astray = (self.astray + 1).min(ASTRAY_MAX);
        {
            let mut state = self.shared.state();
            let patience = match (state.is_known, state.is_idle()) {
                (false, _) if is_silence => 1,
                (true, false) => UNANSWERED_UNSETTLED_MAX,
                _ => UNANSWERED_MAX,
            };
            if self.unanswered < patience {
                state.trouble = Some(trouble.clone());
                return Err(Left::Lost(trouble));
            }
        }
        self.unanswered = 0;
        if is_silence {
            self.begin_base();
            return Ok(());
        }
        self.base_next = true;
        Err(Left::Lost(trouble))
    }

    fn begin_base(&mut self) {
        tracing::info!("the server knows no sessions: going on without acknowledgements");
        self.shared.state().begin_base(Instant::now());
        self.connected();
    }

    fn connected(&mut self) {
        if let Some(ready) = self.ready.take() {
            // Whoever was connecting may have given up; then the last handle is gone and we stop.
            let _ = ready.send(Ok(()));
        }
    }

    /// Speaks with the server for as long as the connection lasts.
    async fn serve(&mut self, mut link: Link) -> Left {
        let opened = Instant::now();
        let left = loop {
            let now = Instant::now();
            let (left, wake, is_idle) = self.step(&mut link, now);
            if let Some(left) = left {
                break left;
            }
            if is_idle {
                self.shared.told_idle();
            }
            tokio::select! {
                biased;
                turn = link.turn() => match turn {
                    Turn::Heard(line) => {
                        let left = self.heard(&line);
                        if let Some(left) = left {
                            break left;
                        }
                    }
                    Turn::Moved => {}
                    Turn::Lost(why) => break Left::Lost(why),
                },
                () = self.shared.wait_for_change() => {}
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
            }
        };
        if opened.elapsed() >= GOOD_CONNECTION || matches!(left, Left::Asked) {
            self.backoff.reset();
        }
        match left {
            // The connection may be gone already, and a server that reads nothing keeps nobody.
            Left::Asked | Left::Finished => {
                let _ = tokio::time::timeout(LAST_WORDS, drained(link)).await;
            }
            _ => drop(link),
        }
        left
    }

    /// One turn of the state: what is written is settled, what is due is said.
    fn step(&self, link: &mut Link, now: Instant) -> (Option<Left>, Option<Instant>, bool) {
        let mut state = self.shared.state();
        state.written(link.output().written());
        let left = state.tick(now);
        if left.is_none() {
            state.fill(link.output(), now);
        }
        let is_gone = state.live.as_ref().is_some_and(|live| live.goodbye_said) && link.output().is_idle();
        let left = left.or_else(|| is_gone.then_some(Left::Finished));
        (left, state.next_deadline(now), state.is_idle())
    }

    fn heard(&self, line: &[u8]) -> Option<Left> {
        self.shared.state().hear(line, Instant::now())
    }

    /// What a left connection means for the next one, or that there is none.
    async fn left(&mut self, left: Left) -> Option<Closed> {
        let is_base = {
            let mut state = self.shared.state();
            state.live.take().is_some_and(|live| live.dialect == Dialect::Base)
        };
        match left {
            Left::Closed(Closed::Replaced) if self.astray > 0 => {
                self.astray -= 1;
                tracing::info!("replaced by what may be our own earlier hello: saying another one");
            }
            Left::Closed(closed) => return Some(closed),
            Left::Finished => return Some(Closed::Shutdown),
            Left::NewInstance(why) => {
                tracing::warn!(why, "beginning as a new instance");
                self.shared.state().leave_instance(why);
                // Those that are still on their way speak for the old one.
                self.astray = 0;
                if let Err(error) = self.renew_instance().await {
                    return Some(Closed::Instance(error));
                }
                return None;
            }
            Left::SpeaksSessions => {
                tracing::info!("the server knows sessions after all");
                return None;
            }
            Left::Lost(why) => tracing::debug!(why, "connection lost"),
            Left::Asked => {}
        }
        // With jobs in hand there is no time to wait for a welcome: a base server keeps them for a few seconds.
        self.base_next |= is_base && !self.shared.state().held.is_empty();
        None
    }

    async fn renew_instance(&mut self) -> Result<(), String> {
        let mut instance = std::mem::replace(&mut self.instance, Instance::fresh());
        let renewed = tokio::task::spawn_blocking(move || {
            let renewed = instance.renew();
            (instance, renewed)
        });
        let (instance, renewed) = renewed.await.map_err(|error| error.to_string())?;
        self.instance = instance;
        renewed.map_err(|error| error.to_string())
    }

    /// Waits before dialling again. Says whether the client is to end instead.
    async fn pause(&mut self) -> bool {
        let now = Instant::now();
        let asked = self.shared.state().not_before.take();
        // When the server said when, it spread its crawlers itself.
        let until = asked.unwrap_or_else(|| now + self.backoff.next());
        tokio::select! {
            biased;
            () = sleep_until(until) => false,
            () = self.over() => true,
        }
    }

    /// Without a connection: resolves when there is nothing left to connect for.
    async fn over(&self) {
        loop {
            let wake = {
                let mut state = self.shared.state();
                state.step_stopping(Instant::now());
                match state.stopping {
                    Some(stopping) if state.is_idle() || stopping.last_moment() <= Instant::now() => return,
                    Some(stopping) => Some(stopping.next_step()),
                    None => None,
                }
            };
            tokio::select! {
                biased;
                () = self.shared.wait_for_change() => {}
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
    }
}

/// Says that nothing more will come, and reads until the server has closed too: what it still sends must not turn our
/// last words into a broken connection.
async fn drained(mut link: Link) {
    link.end().await;
    while !matches!(link.turn().await, Turn::Lost(_)) {}
}
