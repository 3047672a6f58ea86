//! What happened since it was last told.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::hash::Hash;

use crawlwire_progress::JobKey;
use crawlwire_router::Event;

/// Changed jobs that wait to be told. More make every viewer begin anew, which costs less.
const JOBS_MAX: usize = 10_000;

/// Moments that wait to be told, for the same reason.
const MOMENTS_MAX: usize = 5_000;

/// Jobs told of in one round, reports, and moments: so that viewers can take them before the next ones come.
const ROUND_MAX: usize = 250;

/// Things in the order in which they came, each once.
#[derive(Debug)]
struct Line<T> {
    order: VecDeque<T>,
    known: HashSet<T>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            order: VecDeque::new(),
            known: HashSet::new(),
        }
    }
}

impl<T: Copy + Eq + Hash> Line<T> {
    fn push(&mut self, thing: T) {
        if self.known.insert(thing) {
            self.order.push_back(thing);
        }
    }

    fn take(&mut self, most: usize) -> Vec<T> {
        let taken: Vec<_> = self.order.drain(..most.min(self.order.len())).collect();
        for thing in &taken {
            self.known.remove(thing);
        }
        taken
    }

    fn len(&self) -> usize {
        self.order.len()
    }
}

/// Gathered between two rounds: a job that changes often is told once, as it is then. Bounded.
#[derive(Debug, Default)]
pub(super) struct Changed {
    jobs: Line<JobKey>,
    reported: Line<JobKey>,
    moments: VecDeque<Event>,
    flags: Flags,
}

/// What is looked at as a whole.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// More than can be told one by one.
    pub(super) too_much: bool,
    pub(super) aggregate: bool,
    pub(super) gates: bool,
    pub(super) errors: bool,
    pub(super) crawlers: bool,
    /// Trees of which something is deleted.
    pub(super) thinned: BTreeSet<JobKey>,
    /// Old trees are gone, nobody says which.
    pub(super) pruned: bool,
}

/// What is told in one round.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) jobs: Vec<JobKey>,
    pub(super) reported: Vec<JobKey>,
    pub(super) moments: Vec<Event>,
    pub(super) flags: Flags,
}

impl Changed {
    pub(super) fn add(&mut self, event: Event) {
        match event {
            Event::Job(fact) => self.job(fact.job),
            Event::Progress { job, .. } => {
                self.reported.push(job);
                self.check();
            }
            Event::AggregateChanged => self.flags.aggregate = true,
            Event::SessionOpened { .. } | Event::SessionClosed { .. } => self.flags.crawlers = true,
            Event::GatesChanged => self.flags.gates = true,
            Event::ErrorsLogged => self.flags.errors = true,
            Event::Pruned => self.flags.pruned = true,
            Event::Deleted { root, .. } => {
                self.flags.thinned.insert(root);
                self.check();
            }
            moment => {
                self.moments.push_back(moment);
                self.check();
            }
        }
    }

    /// A job may be another than it was.
    pub(super) fn job(&mut self, job: JobKey) {
        self.jobs.push(job);
        self.check();
    }

    /// Some of what happened is not known.
    pub(super) fn lost(&mut self) {
        *self = Self::default();
        self.flags.too_much = true;
    }

    fn check(&mut self) {
        let most = self.jobs.len().max(self.reported.len()).max(self.flags.thinned.len());
        if most > JOBS_MAX || self.moments.len() > MOMENTS_MAX {
            self.lost();
        }
    }

    /// Takes as much as is told in one round.
    pub(super) fn take(&mut self) -> Round {
        let moments = self.moments.len().min(ROUND_MAX);
        Round {
            jobs: self.jobs.take(ROUND_MAX),
            reported: self.reported.take(ROUND_MAX),
            moments: self.moments.drain(..moments).collect(),
            flags: std::mem::take(&mut self.flags),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(job: i64) -> Event {
        Event::Progress {
            job: JobKey(job),
            public_id: job.to_string(),
        }
    }

    fn stalled(job: i64) -> Event {
        Event::Stalled {
            job: JobKey(job),
            public_id: job.to_string(),
        }
    }

    #[test]
    fn much_is_told_in_turn() {
        let mut changed = Changed::default();
        let many = ROUND_MAX as i64 + 10;
        for job in (0..many).chain([0, 1, 2]) {
            changed.add(report(job));
            changed.job(JobKey(job));
        }
        let first = changed.take();
        assert_eq!((first.jobs.len(), first.reported.len()), (ROUND_MAX, ROUND_MAX));
        assert_eq!(first.reported[0], JobKey(0));
        // What comes again meanwhile waits behind the others.
        changed.add(report(0));
        let rest = changed.take();
        assert_eq!(rest.jobs.len(), 10);
        let last: Vec<_> = rest.reported.iter().map(|job| job.0).collect();
        assert_eq!(last, (many - 10..many).chain([0]).collect::<Vec<_>>());
        assert!(changed.take().jobs.is_empty() && !rest.flags.too_much);
    }

    #[test]
    fn too_much_is_not_told_one_by_one() {
        let mut changed = Changed::default();
        (0..=JOBS_MAX as i64).for_each(|job| changed.job(JobKey(job)));
        let round = changed.take();
        assert!(round.flags.too_much && round.jobs.is_empty());
        (0..=MOMENTS_MAX as i64).for_each(|job| changed.add(stalled(job)));
        let round = changed.take();
        assert!(round.flags.too_much && round.moments.is_empty());
        assert!(!changed.take().flags.too_much);
    }
}
