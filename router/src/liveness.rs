//! What sessions are looked after for: silence, tokens that were taken back, and how often to report.
//!
//! Peers of the base dialect are left alone here: they were never told any of this.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crawlwire_progress::{StoreError, TokenKey};
use crawlwire_protocol::message::{Ping, ReportPolicy};
use crawlwire_protocol::{Envelope, Millis, WebAppMessage};
use futures_util::future::join;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::outgoing::{part, send};
use crate::peer::Closing;
use crate::router::Router;
use crate::session::Session;
use crate::shared::{Shared, millis};
use crate::watch::{self, Watching};

/// Looks within one heartbeat interval: the last one is so near to its end that nobody notices.
const LOOKS_PER_INTERVAL: u32 = 10;

/// No more often than this, however short the interval is.
const LOOK_MIN: Duration = Duration::from_millis(5);

/// Between two looks whether tokens were taken back: with the time that a look takes, within five seconds.
const TOKENS_EVERY: Duration = Duration::from_secs(4);

/// Reports a server takes in a second, of all jobs together, before it asks for fewer: each costs a line read and, now and
/// then, a row written.
const REPORTS_PER_SECOND: u64 = 500;

/// Looks after the sessions until told to stop. A database that is slow to tell of tokens holds up no ping.
pub(crate) async fn watch(shared: &Shared, stop: CancellationToken) {
    join(watch_silence(shared, &stop), watch_tokens(shared, &stop)).await;
}

async fn watch_silence(shared: &Shared, stop: &CancellationToken) {
    let mut ticks = interval((shared.config.hello.heartbeat_interval / LOOKS_PER_INTERVAL).max(LOOK_MIN));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = shared.watches.changed.notified() => {}
            _ = ticks.tick() => {}
        }
        let sessions = shared.sessions.all();
        for session in sessions.iter().filter(|session| session.peer.speaks_session()) {
            listen(shared, session).await;
        }
        ask_for_reports(shared, &sessions).await;
    }
}

async fn watch_tokens(shared: &Shared, stop: &CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(TOKENS_EVERY) => {}
        }
        if let Err(error) = check_tokens(shared).await {
            tracing::warn!(%error, "tokens not read");
        }
    }
}

/// Pings who is silent, and parts with who stays silent.
async fn listen(shared: &Shared, session: &Arc<Session>) {
    let terms = &shared.config.hello;
    if session.silent_for() >= terms.heartbeat_timeout {
        if !session.peer.has_parted() {
            part(shared, &session.peer, Closing::HeartbeatTimeout).await;
        }
    } else if session.ping_due(terms.heartbeat_interval) {
        let ping = Envelope::now(WebAppMessage::Ping(Ping { nonce: None }));
        if let Err(error) = send(shared, &session.peer, ping).await {
            tracing::debug!(session = %session.name, %error, "ping not sent");
        }
    }
}

/// How often this many jobs may be reported about, in milliseconds: where somebody watches, and where nobody does.
fn asked_for(shared: &Shared, jobs: usize) -> (u64, u64) {
    let spread = u64::try_from(jobs).unwrap_or(u64::MAX).saturating_mul(1000) / REPORTS_PER_SECOND;
    let terms = &shared.config.hello;
    let watched = millis(terms.progress_interval).max(spread);
    (watched, millis(terms.unwatched_interval).max(watched))
}

/// Tells crawlers how often to report: often while somebody watches one of their jobs.
async fn ask_for_reports(shared: &Shared, sessions: &[Arc<Session>]) {
    let jobs: usize = sessions.iter().map(|session| session.held_count()).sum();
    let (watched, unwatched) = asked_for(shared, jobs);
    let watching = shared.watches.at(Instant::now());
    let at_first = if watching == Watching::All { watched } else { unwatched };
    shared.report_interval_ms.store(at_first, Ordering::Relaxed);
    let speaking = || sessions.iter().filter(|session| session.peer.speaks_session());
    if matches!(&watching, Watching::Jobs(jobs) if !jobs.is_empty())
        && let Err(error) = watch::read_kin(shared, speaking().map(|session| &**session)).await
    {
        tracing::debug!(%error, "not known which trees are watched");
    }
    for session in speaking() {
        let now = if watching.concerns(session) { watched } else { unwatched };
        ask_for_reports_of(shared, session, now).await;
    }
}

/// Tells a crawler when that is twice or half of what it was told last.
async fn ask_for_reports_of(shared: &Shared, session: &Session, now: u64) {
    let told = session.report_interval();
    if now == told || (now < told.saturating_mul(2) && now.saturating_mul(2) > told) {
        return;
    }
    let policy = WebAppMessage::ReportPolicy(ReportPolicy {
        progress_interval_ms: Millis::from(Duration::from_millis(now)),
    });
    if send(shared, &session.peer, Envelope::now(policy)).await.is_ok() {
        session.told_report_interval(now);
    }
}

impl Router {
    /// Ends the connections whose token was taken back. Happens by itself within seconds; whoever takes one back here may
    /// want it at once.
    ///
    /// # Errors
    /// When the tokens cannot be read.
    pub async fn check_tokens(&self) -> Result<(), StoreError> {
        check_tokens(&self.shared).await
    }
}

/// Each token is read once, however many connections showed it.
async fn check_tokens(shared: &Shared) -> Result<(), StoreError> {
    let sessions = shared.sessions.all();
    let shown = |session: &Arc<Session>| session.greeting.as_ref().and_then(|greeting| greeting.token);
    let keys: BTreeSet<TokenKey> = sessions.iter().filter_map(shown).collect();
    for key in keys {
        let token = shared.store.crawler_token(key).await?;
        if token.is_some_and(|token| token.revoked_at.is_none()) {
            continue;
        }
        for session in sessions.iter().filter(|session| shown(session) == Some(key)) {
            part(shared, &session.peer, Closing::TokenRevoked).await;
        }
    }
    Ok(())
}
