//! Which jobs somebody watches: their crawlers are asked for reports more often than others.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crawlwire_progress::StoreError;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::router::Router;
use crate::session::{Kin, Session};
use crate::shared::Shared;

/// A look at a job counts for so long: whoever watches looks again before.
const WATCHED_FOR: Duration = Duration::from_secs(15);

/// Jobs that are watched at a time. More than that is as good as all.
const WATCHES_MAX: usize = 1024;

/// Jobs whose place in a tree is read in one look of the router at its sessions.
const KIN_READ_MAX: usize = 100;

/// What somebody looked at a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    watched: Mutex<Watched>,
    /// Tells of a watch that was not there.
    pub(crate) changed: Notify,
}

#[derive(Debug, Default)]
struct Watched {
    /// By public id, until when.
    jobs: HashMap<String, Instant>,
    /// Until when everything is watched.
    all: Option<Instant>,
}

/// What is watched at a moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Watching {
    All,
    Jobs(BTreeSet<String>),
}

impl Watches {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn job(&self, public_id: &str, now: Instant) {
        let mut watched = self.lock();
        watched.jobs.retain(|_, until| *until > now);
        if watched.jobs.len() >= WATCHES_MAX && !watched.jobs.contains_key(public_id) {
            drop(watched);
            return self.all(now);
        }
        let known = watched.jobs.insert(public_id.to_owned(), now + WATCHED_FOR);
        if known.is_none() {
            self.changed.notify_one();
        }
    }

    fn all(&self, now: Instant) {
        let before = self.lock().all.replace(now + WATCHED_FOR);
        if before.is_none_or(|until| until <= now) {
            self.changed.notify_one();
        }
    }

    pub(crate) fn at(&self, now: Instant) -> Watching {
        let watched = self.lock();
        if watched.all.is_some_and(|until| until > now) {
            return Watching::All;
        }
        let current = watched.jobs.iter().filter(|(_, until)| **until > now);
        Watching::Jobs(current.map(|(job, _)| job.clone()).collect())
    }
}

impl Watching {
    /// Whether a session holds a job that is watched, or one whose parent or tree is.
    pub(crate) fn concerns(&self, session: &Session) -> bool {
        match self {
            Self::All => true,
            Self::Jobs(jobs) if jobs.is_empty() => false,
            Self::Jobs(jobs) => session.all_held().iter().any(|(public_id, held)| {
                let kin = held.kin.iter().flat_map(|kin| kin.0.iter());
                jobs.contains(public_id) || kin.into_iter().any(|id| jobs.contains(id))
            }),
        }
    }
}

/// Finds out which trees the held jobs of these sessions are in, some at a time; nobody asks as long as nothing is watched.
pub(crate) async fn read_kin<'a>(
    shared: &Shared,
    sessions: impl Iterator<Item = &'a Session>,
) -> Result<(), StoreError> {
    let mut left = KIN_READ_MAX;
    for session in sessions {
        let held = session.all_held().into_iter();
        for (public_id, held) in held.filter(|(_, held)| held.kin.is_none()) {
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            if let Some(view) = shared.store.job(&public_id).await? {
                let kin = Kin::of(&view);
                session.update(&public_id, held.fence, |held| held.kin = Some(kin));
            }
        }
    }
    Ok(())
}

impl Router {
    /// Somebody looks at a job: for a while its crawler, and those of the jobs below it, are asked for more reports.
    pub fn watch(&self, public_id: &str) {
        self.shared.watches.job(public_id, Instant::now());
    }

    /// Somebody looks at everything.
    pub fn watch_all(&self) {
        self.shared.watches.all(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(jobs: &[&str]) -> Watching {
        Watching::Jobs(jobs.iter().map(|job| (*job).to_owned()).collect())
    }

    #[test]
    fn a_look_counts_for_a_while() {
        let (watches, start) = (Watches::default(), Instant::now());
        let half = WATCHED_FOR / 2;
        assert_eq!(watches.at(start), jobs(&[]));
        watches.job("a", start);
        watches.job("b", start + half);
        assert_eq!(watches.at(start + half), jobs(&["a", "b"]));
        assert_eq!(watches.at(start + WATCHED_FOR), jobs(&["b"]));
        watches.all(start + WATCHED_FOR);
        assert_eq!(watches.at(start + WATCHED_FOR), Watching::All);
        assert_eq!(watches.at(start + WATCHED_FOR * 2), jobs(&[]));
    }

    #[test]
    fn so_many_watches_are_as_good_as_all() {
        let (watches, now) = (Watches::default(), Instant::now());
        for job in 0..WATCHES_MAX {
            watches.job(&job.to_string(), now);
        }
        watches.job("0", now);
        assert!(matches!(watches.at(now), Watching::Jobs(_)));
        watches.job("one more", now);
        assert_eq!(watches.at(now), Watching::All);
    }
}
