//! Crawlers, or all of this server, that are given no more jobs because somebody said so. Jobs that are held go on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crawlwire_protocol::Envelope;

use crate::router::Router;

/// Names that are remembered. Crawlers keep theirs through all their connections, so a name is kept after its connection; far
/// more than there may be at a time.
const NAMES_MAX: usize = 10_000;

/// Who is drained. Belongs to this server and this run of it.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    all: AtomicBool,
    names: Mutex<BTreeSet<String>>,
}

impl Drained {
    fn names(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a crawler is given nothing, by the name of its session.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.all.load(Ordering::Relaxed) || self.names().contains(name)
    }
}

impl Router {
    /// Gives a crawler no more jobs, by the name of its session, also when it comes back. One of the session dialect is told
    /// to look for another server; one of the base dialect cannot be told. Says whether it was told; none when nobody here is
    /// called so.
    pub async fn drain_crawler(&self, name: &str, deadline: Duration, reason: &str) -> Option<bool> {
        let peer = self.peer(name)?;
        {
            let mut names = self.shared.drained.names();
            if names.len() >= NAMES_MAX {
                let here: BTreeSet<_> = self.sessions().iter().map(|info| info.name.to_string()).collect();
                names.retain(|name| here.contains(name));
            }
            names.insert(name.to_owned());
        }
        let message = Envelope::now(self.draining(deadline, reason));
        Some(peer.speaks_session() && self.send(&peer, message).await.is_ok())
    }

    /// Gives a crawler jobs again. Says whether it was drained by itself.
    pub fn undrain_crawler(&self, name: &str) -> bool {
        let was = self.shared.drained.names().remove(name);
        self.shared.wake.notify_one();
        was
    }

    /// Gives out no more jobs on this server, until that is taken back. Crawlers of the session dialect are told to look for
    /// another server; says how many were told.
    pub async fn drain_here(&self, deadline: Duration, reason: &str) -> usize {
        self.shared.drained.all.store(true, Ordering::Relaxed);
        let mut told = 0;
        for peer in self.peers().into_iter().filter(|peer| peer.speaks_session()) {
            let message = Envelope::now(self.draining(deadline, reason));
            told += usize::from(self.send(&peer, message).await.is_ok());
        }
        told
    }

    /// Gives out jobs again. Crawlers that are drained by themselves stay so.
    pub fn undrain_here(&self) {
        self.shared.drained.all.store(false, Ordering::Relaxed);
        self.shared.wake.notify_one();
    }

    /// Whether this server gives out nothing because somebody said so.
    pub fn is_drained(&self) -> bool {
        self.shared.drained.all.load(Ordering::Relaxed)
    }

    /// Whether a crawler is given nothing because somebody said so of it or of this server, by the name of its session.
    pub fn is_crawler_drained(&self, name: &str) -> bool {
        self.shared.drained.has(name)
    }
}
