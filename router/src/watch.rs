//! Which jobs somebody watches: their crawlers are asked for reports more often than others.
//!
//! Who watches may have asked another server than the one that holds the job. So each tells the others through the store, and
//! asks them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crawlwire_progress::StoreError;
use crawlwire_progress::store::{Op, WATCHED_FOR, WATCHES_MAX, Watch};
use futures_util::future::join;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::router::Router;
use crate::session::{Kin, Session};
use crate::shared::Shared;

/// Jobs whose place in a tree is read in one look of the router at its sessions.
const KIN_READ_MAX: usize = 100;

/// Other servers are told again of who goes on watching when what they know is so much older.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Between two tellings, however much there is to tell.
const TELL_PAUSE: Duration = Duration::from_millis(250);

/// Between two questions to the others.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What somebody looked at a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    watched: Mutex<Watched>,
    /// Tells of a watch that was not there.
    pub(crate) changed: Notify,
    /// Tells of one that other servers should hear of.
    untold: Notify,
}

#[derive(Debug, Default)]
struct Watched {
    /// By public id.
    jobs: HashMap<String, Look>,
    /// At everything.
    all: Option<Look>,
    /// Through other servers, as far as they told: by public id, none for everything, and until when.
    elsewhere: HashMap<Option<String>, Instant>,
}

/// The last look at something.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// It counts until then.
    until: Instant,
    /// Other servers were told that it counts until then.
    told: Option<Instant>,
}

impl Look {
    fn after(before: Option<Self>, now: Instant) -> Self {
        Self {
            until: now + WATCHED_FOR,
            told: before.and_then(|look| look.told),
        }
    }

    /// Whether other servers should hear of it soon.
    fn is_untold(&self) -> bool {
        self.told.is_none_or(|told| told + TELL_EVERY <= self.until)
    }
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
        watched.jobs.retain(|_, look| look.until > now);
        if watched.jobs.len() >= WATCHES_MAX && !watched.jobs.contains_key(public_id) {
            drop(watched);
            return self.all(now);
        }
        let before = watched.jobs.get(public_id).copied();
        let look = Look::after(before, now);
        watched.jobs.insert(public_id.to_owned(), look);
        if before.is_none() {
            self.changed.notify_one();
        }
        self.note(look);
    }

    fn all(&self, now: Instant) {
        let mut watched = self.lock();
        let before = watched.all.filter(|look| look.until > now);
        let look = Look::after(before, now);
        watched.all = Some(look);
        if before.is_none() {
            self.changed.notify_one();
        }
        self.note(look);
    }

    fn note(&self, look: Look) {
        if look.is_untold() {
            self.untold.notify_one();
        }
    }

    pub(crate) fn at(&self, now: Instant) -> Watching {
        let watched = self.lock();
        let all = watched.all.map(|look| look.until);
        if all
            .max(watched.elsewhere.get(&None).copied())
            .is_some_and(|until| until > now)
        {
            return Watching::All;
        }
        let here = watched.jobs.iter().map(|(job, look)| (job, look.until));
        let elsewhere = watched
            .elsewhere
            .iter()
            .filter_map(|(job, until)| Some((job.as_ref()?, *until)));
        let current = here.chain(elsewhere).filter(|(_, until)| *until > now);
        Watching::Jobs(current.map(|(job, _)| job.clone()).collect())
    }

    /// What other servers do not know, or not for how long, and until when it counts. Nothing as long as they know enough.
    fn untold(&self, now: Instant) -> HashMap<Option<String>, Instant> {
        let watched = self.lock();
        let jobs = watched.jobs.iter().map(|(job, look)| (Some(job), look));
        let looks = jobs.chain(watched.all.iter().map(|look| (None, look)));
        let looks = looks.filter(|(_, look)| look.until > now);
        if !looks.clone().any(|(_, look)| look.is_untold()) {
            return HashMap::new();
        }
        let untold = looks.filter(|(_, look)| look.told.is_none_or(|told| told < look.until));
        untold.map(|(job, look)| (job.cloned(), look.until)).collect()
    }

    fn told(&self, told: &HashMap<Option<String>, Instant>) {
        let mut watched = self.lock();
        let Watched { jobs, all, .. } = &mut *watched;
        for (job, until) in told {
            let look = match job {
                Some(job) => jobs.get_mut(job),
                None => all.as_mut(),
            };
            if let Some(look) = look {
                look.told = Some(*until);
            }
        }
    }

    /// Takes what is watched elsewhere in place of what was.
    fn hear(&self, elsewhere: Vec<Watch>, now: Instant) {
        let too_many = elsewhere.len() > WATCHES_MAX;
        let mut heard = HashMap::new();
        for watch in elsewhere {
            let job = watch.job.filter(|_| !too_many);
            let until: &mut Instant = heard.entry(job).or_insert(now);
            *until = (now + watch.lasts).max(*until);
        }
        let mut watched = self.lock();
        let known = watched.elsewhere.iter().filter(|(_, until)| **until > now);
        if known.clone().count() != heard.len() || !known.map(|(job, _)| job).all(|job| heard.contains_key(job)) {
            self.changed.notify_one();
        }
        watched.elsewhere = heard;
    }
}

/// Tells other servers what is watched through this one, and asks them, until told to stop. Nothing waits for it.
pub(crate) async fn share(shared: &Shared, stop: CancellationToken) {
    if shared.store.is_shared() {
        stop.run_until_cancelled(join(tell(shared), ask(shared))).await;
    }
}

/// What could not be told is told with the next look, since that finds it untold still.
async fn tell(shared: &Shared) {
    loop {
        shared.watches.untold.notified().await;
        let now = Instant::now();
        let untold = shared.watches.untold(now);
        if untold.is_empty() {
            continue;
        }
        let watches = untold.iter().map(|(job, until)| Watch {
            job: job.clone(),
            lasts: *until - now,
        });
        let watch = Op::Watch {
            server: shared.config.server.clone(),
            watches: watches.collect(),
        };
        match shared.commit(watch).await {
            Ok(_) => shared.watches.told(&untold),
            Err(error) => tracing::debug!(%error, "other servers not told what is watched"),
        }
        sleep(TELL_PAUSE).await;
    }
}

/// What cannot be asked stays as it was, until its time is over.
async fn ask(shared: &Shared) {
    let mut ticks = interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match shared.store.watched_elsewhere(&shared.config.server).await {
            Ok(elsewhere) => shared.watches.hear(elsewhere, Instant::now()),
            Err(error) => tracing::debug!(%error, "not known what is watched through other servers"),
        }
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
    use futures_util::FutureExt;

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

    fn elsewhere(job: Option<&str>, lasts: Duration) -> Watch {
        Watch {
            job: job.map(str::to_owned),
            lasts,
        }
    }

    #[test]
    fn what_is_watched_elsewhere_counts_until_its_time_is_over() {
        let (watches, start) = (Watches::default(), Instant::now());
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(9));
        watches.job("here", start);
        watches.hear(vec![elsewhere(Some("a"), short), elsewhere(Some("b"), long)], start);
        assert_eq!(watches.at(start), jobs(&["a", "b", "here"]));
        assert_eq!(watches.at(start + short), jobs(&["b", "here"]));
        watches.hear(vec![elsewhere(Some("c"), long)], start);
        assert_eq!(watches.at(start), jobs(&["c", "here"]));
        watches.hear(vec![elsewhere(None, short), elsewhere(Some("c"), long)], start);
        assert_eq!(watches.at(start), Watching::All);
        assert_eq!(watches.at(start + short), jobs(&["c", "here"]));
        let many = (0..=WATCHES_MAX).map(|job| elsewhere(Some(&job.to_string()), short));
        watches.hear(many.collect(), start);
        assert_eq!(watches.at(start), Watching::All);
    }

    #[test]
    fn others_are_told_of_what_is_new_and_now_and_then_of_what_goes_on() {
        let (watches, start) = (Watches::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let tell = |now| {
            let is_asked_for = watches.untold.notified().now_or_never().is_some();
            let untold = watches.untold(now);
            assert_eq!(is_asked_for, !untold.is_empty());
            watches.told(&untold);
            let mut told: Vec<_> = untold.into_keys().collect();
            told.sort();
            told
        };
        let some = |job: &str| Some(job.to_owned());
        assert!(tell(at(0)).is_empty());
        watches.job("a", at(0));
        assert_eq!(tell(at(0)), [some("a")]);
        watches.job("a", at(4));
        assert!(tell(at(4)).is_empty(), "what they know is good for long still");
        watches.job("b", at(4));
        assert_eq!(
            tell(at(4)),
            [some("a"), some("b")],
            "if they are told at all, then all of it"
        );
        watches.job("b", at(8));
        assert!(tell(at(8)).is_empty());
        watches.job("b", at(9));
        assert_eq!(tell(at(9)), [some("b")]);
        watches.all(at(9));
        assert_eq!(tell(at(9)), [None]);
        watches.all(at(10));
        watches.all(at(14));
        assert_eq!(tell(at(14)), [None]);
        assert!(watches.untold(at(60)).is_empty(), "what is over is of no interest");
        watches.all(at(60));
        assert_eq!(tell(at(60)), [None]);
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
