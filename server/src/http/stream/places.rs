//! Where the jobs belong that viewers were told of.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crawlwire_progress::JobKey;
use crawlwire_progress::view::JobView;

use super::frame::Place;

/// Jobs that are remembered: more than a page shows. Of one that was told of so long ago that it is forgotten, viewers are
/// not told when it is deleted.
pub(super) const PLACES_MAX: usize = 20_000;

/// The jobs that viewers were told of, and where they belong.
#[derive(Debug, Default)]
pub(super) struct Places {
    by_job: HashMap<JobKey, Arc<Place>>,
    by_name: HashMap<String, JobKey>,
    /// In the order in which they were learnt. May name jobs that are forgotten.
    order: VecDeque<JobKey>,
    /// What viewers were told of them last.
    told: HashMap<JobKey, u64>,
}

impl Places {
    pub(super) fn learn(&mut self, job: &JobView) -> Arc<Place> {
        if let Some(place) = self.by_job.get(&job.key) {
            return place.clone();
        }
        while self.order.len() >= PLACES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(oldest);
        }
        let place = Arc::new(Place {
            job: job.public_id.clone(),
            root: Some(job.root_id.clone()),
            account: Some(job.account_id.clone()),
        });
        self.order.push_back(job.key);
        self.by_name.insert(place.job.clone(), job.key);
        self.by_job.insert(job.key, place.clone());
        place
    }

    pub(super) fn of(&self, job: JobKey) -> Option<Arc<Place>> {
        self.by_job.get(&job).cloned()
    }

    pub(super) fn named(&self, id: &str) -> Option<Arc<Place>> {
        self.of(self.key(id)?)
    }

    pub(super) fn key(&self, id: &str) -> Option<JobKey> {
        self.by_name.get(id).copied()
    }

    pub(super) fn forget(&mut self, job: JobKey) -> Option<Arc<Place>> {
        let place = self.by_job.remove(&job)?;
        self.by_name.remove(&place.job);
        self.told.remove(&job);
        Some(place)
    }

    /// Remembers what viewers are told of a job that is known. Whether they were told the same before.
    pub(super) fn tell(&mut self, job: JobKey, what: u64) -> bool {
        self.by_job.contains_key(&job) && self.told.insert(job, what) == Some(what)
    }

    /// The jobs of a tree, as far as they are known.
    pub(super) fn in_tree(&self, root: JobKey) -> Vec<JobKey> {
        let Some(root) = self.by_job.get(&root) else {
            // Where the root is not known, any of them may be in its tree.
            return self.all();
        };
        let in_tree = |place: &Place| place.root.as_ref() == Some(&root.job);
        let members = self.by_job.iter().filter(|(_, place)| in_tree(place));
        members.map(|(job, _)| *job).collect()
    }

    pub(super) fn all(&self) -> Vec<JobKey> {
        self.by_job.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use crawlwire_progress::memory::MemoryStore;
    use crawlwire_progress::store::NewJob;
    use crawlwire_progress::view::JobSpec;
    use crawlwire_progress::{Op, Outcome, Policy, Timestamp};
    use crawlwire_protocol::message::JobType;

    use super::*;

    fn job() -> JobView {
        let store = MemoryStore::new(Policy::default(), Box::new(|| Timestamp(0)));
        let spec = JobSpec::new(JobType::CrawlUser, "https://a");
        match store.apply(Op::Submit(Box::new(NewJob::new("0", "acme", spec)))) {
            Outcome::Submitted(view) => *view,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_last_ones_are_remembered() {
        let (mut places, pattern) = (Places::default(), job());
        let numbered = |number: usize| JobView {
            key: JobKey(number as i64),
            public_id: number.to_string(),
            root_id: (number % 2).to_string(),
            ..pattern.clone()
        };
        for number in 0..PLACES_MAX + 10 {
            places.learn(&numbered(number));
            places.learn(&numbered(number));
        }
        assert_eq!(places.all().len(), PLACES_MAX);
        assert!(places.of(JobKey(9)).is_none() && places.named("9").is_none());
        assert_eq!(places.named("10").map(|place| place.job.clone()), Some("10".to_owned()));
        assert_eq!(places.in_tree(JobKey(0)).len(), PLACES_MAX, "its root is forgotten");
        assert!(places.forget(JobKey(10)).is_some() && places.forget(JobKey(10)).is_none());
        assert_eq!(places.by_name.len(), PLACES_MAX - 1);
        places.learn(&numbered(0));
        assert_eq!(places.in_tree(JobKey(0)).len(), (PLACES_MAX - 2) / 2 + 1);
    }
}
