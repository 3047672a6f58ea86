//! The world as admission sees it: this server's sessions as they are in memory, all others as the rows say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crawlwire_progress::admit::{Condition, Crawler, World};
use crawlwire_progress::{AccountKey, StoreError};

use crate::session::Session;
use crate::shared::Shared;

/// Sessions that are looked at to explain why a job waits. More of them would not make the answer better.
const SESSIONS_MAX: usize = 10_000;

/// The sessions of this server, and beside them how admission sees them.
pub(crate) fn crawlers(shared: &Shared) -> (Vec<Arc<Session>>, Vec<Crawler>) {
    let sessions = shared.sessions.all();
    let crawlers = sessions.iter().map(|session| crawler(shared, session)).collect();
    (sessions, crawlers)
}

fn crawler(shared: &Shared, session: &Session) -> Crawler {
    let condition = if !shared.dispatching.load(Ordering::Relaxed) || shared.drained.has(&session.name) {
        Condition::Draining
    } else if session.is_resting() || session.silent_for() >= shared.config.policy.lease {
        Condition::Unresponsive
    } else {
        Condition::Ready
    };
    let lingering = session.peer.lingering_now();
    Crawler {
        session: session.key,
        name: session.name.clone(),
        capabilities: session.capabilities(),
        busy: session.held_count() + lingering.len(),
        lingering,
        condition,
    }
}

/// How many slots are free, of all crawlers together.
pub(crate) fn free_slots(crawlers: &[Crawler]) -> usize {
    let ready = crawlers.iter().filter(|crawler| crawler.condition == Condition::Ready);
    ready
        .map(|crawler| crawler.capabilities.slots.saturating_sub(crawler.busy))
        .sum()
}

/// How many jobs these accounts hold, if that matters.
pub(crate) async fn held(
    shared: &Shared,
    accounts: impl Iterator<Item = AccountKey>,
) -> Result<BTreeMap<AccountKey, u64>, StoreError> {
    if shared.config.policy.account_held_max.is_none() {
        return Ok(BTreeMap::new());
    }
    let mut accounts: Vec<_> = accounts.collect();
    accounts.sort_unstable();
    accounts.dedup();
    shared.store.held_by_account(accounts).await
}

/// Everything that a job of an account may depend on, of all servers.
pub(crate) async fn whole(shared: &Shared, account: AccountKey) -> Result<World, StoreError> {
    let now = shared.store.now().await?;
    let (_, mut crawlers) = crawlers(shared);
    let elsewhere = shared.store.sessions(SESSIONS_MAX).await?;
    let elsewhere = elsewhere
        .into_iter()
        // What a server left behind that is no more keeps its row for a while.
        .filter(|view| view.server != shared.config.server && view.connected && now < view.lease_expires_at);
    crawlers.extend(elsewhere.map(|view| Crawler {
        session: view.key,
        name: view.name.into(),
        capabilities: Arc::new(view.capabilities),
        busy: view.held,
        // Only that server knows.
        lingering: Arc::default(),
        condition: Condition::Ready,
    }));
    Ok(World {
        gates: shared.store.gates().await?,
        held: held(shared, std::iter::once(account)).await?,
        held_max: shared.config.policy.account_held_max,
        crawlers,
    })
}
