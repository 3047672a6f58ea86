//! The jobs that a session holds.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use crawlwire_progress::lifecycle::Lease;
use crawlwire_progress::live::About;
use crawlwire_progress::store::Holder;
use crawlwire_progress::view::JobView;
use crawlwire_progress::{CredentialKey, Fence, JobKey, Want};

use super::Session;

/// A job that a session holds, as this server remembers it. The truth is the row in the store.
#[derive(Debug, Clone)]
pub struct Held {
    /// The row.
    pub key: JobKey,
    /// The fence it was given.
    pub fence: Fence,
    /// The attempt, once it is known.
    pub attempt: i32,
    /// What it is about; none until somebody asks, when it was not given out here.
    pub(crate) about: Option<Arc<About>>,
    /// Which jobs it is below; none until somebody asks.
    pub(crate) kin: Option<Kin>,
    /// Whether the start was given to the store.
    pub started: bool,
    /// Whether its end was given to the store: the crawler does not work on it any more.
    pub ending: bool,
    /// Its token, and the version that the crawler got.
    pub credential: Option<(CredentialKey, i64)>,
    /// What the crawler was last told that somebody wishes of it.
    pub(crate) told: Option<Want>,
    /// How many heartbeats that count the session had sent when it got the job.
    pub(crate) since: u64,
}

/// Public ids of the jobs at whose looks a job is looked at, too: its parent, and the top of its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kin(pub(crate) Arc<[String]>);

impl Kin {
    pub(crate) fn of(view: &JobView) -> Self {
        Self(view.parent_id.iter().chain([&view.root_id]).cloned().collect())
    }
}

impl Held {
    /// A job that was just given out, without a token.
    pub(crate) fn new(key: JobKey, fence: Fence, attempt: i32) -> Self {
        Self {
            key,
            fence,
            attempt,
            about: None,
            kin: None,
            started: false,
            ending: false,
            credential: None,
            told: None,
            since: 0,
        }
    }

    /// The attempt that its crawler is at, which begins with the start.
    pub(crate) fn current_attempt(&self) -> i32 {
        self.attempt.saturating_add(i32::from(!self.started))
    }
}

impl Session {
    fn held_jobs(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job it holds.
    pub fn held(&self, public_id: &str) -> Option<Held> {
        self.held_jobs().get(public_id).cloned()
    }

    /// How many jobs it holds.
    pub fn held_count(&self) -> usize {
        self.held_jobs().len()
    }

    /// Whether it holds a job or lingers on it.
    pub(crate) fn works_on(&self, public_id: &str) -> bool {
        let held = self.held_jobs();
        held.contains_key(public_id) || self.peer.lingering_now().contains(public_id)
    }

    pub(crate) fn hold(&self, public_id: String, held: Held) {
        self.peer.end_lingering(&public_id);
        let since = self.heartbeats();
        self.held_jobs().insert(public_id, Held { since, ..held });
    }

    /// A job is not held any more, whatever took it away: an act, its deadline, the end of its lease. A crawler that had
    /// begun and cannot be asked to stop does not know, and is still at work on it until it says how it ended or its
    /// connection is gone. One that had not begun has nothing to end. Under the lock of `held`, so that whoever looks sees
    /// the job either held or lingering.
    fn linger(&self, public_id: &str, held: &Held) {
        if held.started && !held.ending && !self.confirms {
            self.peer.linger(public_id);
        }
    }

    /// The crawler says that it works on a job no more: if it holds it, it will not linger on it.
    pub(crate) fn end(&self, public_id: &str) -> Option<Held> {
        let mut held = self.held_jobs();
        let held = held.get_mut(public_id)?;
        held.ending = true;
        Some(held.clone())
    }

    /// Changes a held job, if it is still held under this fence.
    pub(crate) fn update(&self, public_id: &str, fence: Fence, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.held_jobs().get_mut(public_id).filter(|held| held.fence == fence) {
            change(held);
        }
    }

    /// Remembers that the crawler is told of a wish, unless it was told something else since it was noted what it knew.
    /// Says whether it is to be told.
    pub(crate) fn tell(&self, public_id: &str, fence: Fence, (knew, want): (Option<Want>, Option<Want>)) -> bool {
        let mut held = self.held_jobs();
        let held = held.get_mut(public_id);
        match held.filter(|held| held.fence == fence && held.told == knew && knew != want) {
            Some(held) => {
                held.told = want;
                true
            }
            None => false,
        }
    }

    /// Forgets a job held under this fence or an earlier one; its crawler may linger on it. Says what was known of it.
    pub(crate) fn let_go(&self, public_id: &str, fence: Fence) -> Option<Held> {
        let mut held = self.held_jobs();
        held.get(public_id).filter(|held| held.fence <= fence)?;
        let gone = held.remove(public_id)?;
        self.linger(public_id, &gone);
        Some(gone)
    }

    /// The same for all it holds. Gives their rows.
    pub(crate) fn let_go_of_all(&self) -> Vec<JobKey> {
        let mut held = self.held_jobs();
        let gone = held.drain();
        gone.map(|(public_id, held)| {
            self.linger(&public_id, &held);
            held.key
        })
        .collect()
    }

    /// Everything it holds at this moment, in the order of keys: so that what is done with it one by one takes the same course
    /// again in a simulation.
    pub(crate) fn all_held(&self) -> Vec<(String, Held)> {
        let held = self.held_jobs();
        let mut all: Vec<_> = held.iter().map(|(id, held)| (id.clone(), held.clone())).collect();
        all.sort_unstable_by_key(|(_, held)| held.key);
        all
    }

    /// The public id of a held job.
    pub(crate) fn name_of(&self, job: JobKey) -> Option<String> {
        let held = self.held_jobs();
        held.iter().find(|(_, held)| held.key == job).map(|(id, _)| id.clone())
    }

    pub(crate) fn lease(&self, held: &Held) -> Lease {
        Lease {
            session: self.key,
            fence: held.fence,
        }
    }

    /// Who speaks for a held job.
    pub(crate) fn holder(&self, held: &Held) -> Holder {
        Holder {
            session: self.key,
            name: self.name.clone(),
            fence: held.fence,
        }
    }

    /// Public ids of what it holds, sorted.
    pub(super) fn jobs(&self) -> Vec<String> {
        let mut jobs: Vec<_> = self.held_jobs().keys().cloned().collect();
        jobs.sort();
        jobs
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crawlwire_progress::admit::Capabilities;
    use crawlwire_progress::{Epoch, SessionKey, SessionRef};

    use super::*;
    use crate::peer::{Outbound, Peer, SendError};
    use crate::session::NOT_HELD_MAX;

    struct Nowhere;

    impl Outbound for Nowhere {
        fn try_send(&self, _: Bytes) -> Result<(), SendError> {
            Err(SendError::Closed)
        }
    }

    fn session() -> Arc<Session> {
        let peer = Peer::new(1, None, Arc::new(Nowhere));
        let session = SessionRef {
            key: SessionKey(1),
            epoch: Epoch(1),
        };
        Session::new(
            session,
            "legacy-1".into(),
            peer,
            (Arc::new(Capabilities::any(2)), false),
            None,
        )
    }

    fn held(fence: i64) -> Held {
        Held::new(JobKey(1), Fence(fence), 0)
    }

    #[test]
    fn news_of_an_earlier_lease_do_not_touch_a_later_one() {
        let session = session();
        session.hold("a".to_owned(), held(3));
        session.update("a", Fence(1), |held| held.started = true);
        assert!(session.let_go("a", Fence(2)).is_none());
        assert!(!session.held("a").unwrap().started);
        session.update("a", Fence(3), |held| held.started = true);
        assert!(session.held("a").unwrap().started);
        let known = session
            .let_go("a", Fence(4))
            .expect("an end comes with the fence after it");
        assert_eq!(known.fence, Fence(3));
        assert!(session.let_go("a", Fence(4)).is_none());
        assert_eq!(session.held_count(), 0);
    }

    #[test]
    fn a_job_lingers_until_its_crawler_ends_it_or_holds_it_again() {
        let session = session();
        for (id, started) in [("ended", true), ("not begun", false), ("a", true), ("b", true)] {
            session.hold(id.to_owned(), Held { started, ..held(1) });
        }
        assert!(session.end("ended").is_some() && session.end("other").is_none());
        for id in ["ended", "not begun", "a", "b"] {
            assert!(session.works_on(id));
            session.let_go(id, Fence(2)).unwrap();
        }
        assert_eq!(session.info().lingering, ["a", "b"]);
        assert!(session.works_on("a") && !session.works_on("ended"));
        session.hold("a".to_owned(), held(3));
        assert!(session.peer.end_lingering("b") && !session.peer.end_lingering("b"));
        assert_eq!((session.info().lingering, session.held_count()), (vec![], 1));
    }

    #[test]
    fn of_two_who_want_to_tell_something_one_does() {
        let session = session();
        session.hold("a".to_owned(), held(1));
        let (cancel, pause) = (Some(Want::Cancel), Some(Want::Pause));
        assert!(session.tell("a", Fence(1), (None, pause)));
        assert!(!session.tell("a", Fence(1), (None, cancel)), "it knows more by now");
        assert!(!session.tell("a", Fence(1), (pause, pause)) && !session.tell("a", Fence(2), (pause, None)));
        assert!(session.tell("a", Fence(1), (pause, None)));
    }

    #[tokio::test]
    async fn so_many_jobs_are_remembered_as_not_held() {
        let session = session();
        for job in 0..=NOT_HELD_MAX {
            session.note_not_held(&job.to_string(), "gone");
        }
        assert_eq!(session.not_held(&NOT_HELD_MAX.to_string()).as_deref(), Some("gone"));
        assert_eq!(session.not_held("other"), None);
        assert!(session.not_held.lock().unwrap().len() <= NOT_HELD_MAX);
    }
}
