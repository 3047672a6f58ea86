//! Tells what happened, round by round, and gives snapshots between the rounds. One task does both, so what is told after a
//! snapshot is never older than the snapshot.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crawlwire_progress::view::JobView;
use crawlwire_progress::{JobKey, StoreError};
use crawlwire_router::Event;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::changed::{Flags, Round};
use super::elsewhere::{Elsewhere, News};
use super::filter::Filter;
use super::frame::{About, Draft, Frame, Kind, Place};
use super::hub::{Request, watch};
use super::look::Looked;
use super::places::{PLACES_MAX, Places};
use super::room::Reason;
use super::{moment, snapshot};
use crate::http::jobs::with_progress;
use crate::http::problem::Problem;
use crate::http::{Api, json, tracked};

/// Changes are gathered this long, so that a job that changes often is read and told once.
const GATHER: Duration = Duration::from_millis(100);

/// How often it looks at what no event tells of.
const LOOK: Duration = Duration::from_secs(1);

/// Jobs of which one round looks whether they are still there.
const CHECKED_MAX: usize = 500;

/// See the module.
pub(super) struct Teller<'a> {
    api: &'a Api,
    places: Places,
    shared: snapshot::Shared,
    looked: Looked,
    /// Jobs that may be gone.
    doubtful: VecDeque<JobKey>,
    /// Jobs above others that changed: what a job says of those below it may be other than it was.
    kin: BTreeSet<JobKey>,
    /// What has to be looked at again, since the database was away.
    pending: Flags,
    /// What other servers do, where there may be others.
    elsewhere: Option<Elsewhere>,
}

impl<'a> Teller<'a> {
    pub(super) fn new(api: &'a Api) -> Self {
        Self {
            api,
            places: Places::default(),
            shared: snapshot::Shared::default(),
            looked: Looked::default(),
            doubtful: VecDeque::new(),
            kin: BTreeSet::new(),
            pending: Flags::default(),
            elsewhere: None,
        }
    }

    pub(super) async fn run(mut self, mut asked: mpsc::Receiver<Request>) {
        let mut rounds = interval(GATHER);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(request) = asked.recv() => self.serve(request).await,
                _ = rounds.tick(), if self.api.hub.listens() => self.round().await,
                _ = looks.tick(), if self.api.hub.listens() => self.look().await,
            }
        }
    }

    /// Gives a viewer a snapshot, and all that is told after it. When the database is away it gets no answer.
    async fn serve(&mut self, request: Request) {
        if self.api.hub.begin_to_listen().await {
            self.places = Places::default();
            self.doubtful.clear();
            self.kin.clear();
            self.elsewhere = match self.api.store.is_shared() {
                true => Some(Elsewhere::at(self.api, json::clock()).await),
                false => None,
            };
            self.looked = Looked::at(self.api).await;
        }
        let Request { viewer, filter, answer } = request;
        if filter.watches() {
            watch(self.api, &filter.scope).await;
        }
        if let Some(frame) = self.shared.get(&filter, Instant::now())
            && self.api.hub.room().begin(viewer, frame.n)
        {
            // The viewer may have gone.
            let _ = answer.send(frame);
            return;
        }
        match self.snapshot(&filter).await {
            Ok(frame) => {
                // Nothing but heartbeats was told meanwhile, so this is never too late.
                self.api.hub.room().begin(viewer, frame.n);
                let _ = answer.send(frame);
            }
            Err(problem) => tracing::debug!(code = problem.code, "no snapshot"),
        }
    }

    async fn snapshot(&mut self, filter: &Filter) -> Result<Arc<Frame>, Problem> {
        let aggregate = self.looked.together(self.api).await?;
        let (frame, jobs) = snapshot::take(self.api, filter, &aggregate).await?;
        for job in &jobs {
            self.places.learn(job);
        }
        self.shared.keep(filter, frame.clone(), Instant::now());
        Ok(frame)
    }

    /// Tells what happened since the last round.
    async fn round(&mut self) {
        let hub = &self.api.hub;
        let round = hub.changed().take();
        if round.flags.too_much {
            self.look_at_everything();
            let mut room = hub.room();
            room.forget(Reason::TooMuch);
            room.wake();
            return;
        }
        let Round {
            jobs,
            reported,
            moments,
            flags,
        } = round;
        self.note(flags);
        let mut drafts = Vec::new();
        if let Err(error) = self.jobs(&jobs, &mut drafts).await {
            // They are told when the database is back.
            tracing::debug!(%error, "changes not read");
            jobs.into_iter().for_each(|job| hub.changed().job(job));
        }
        self.work(&reported, moments, &mut drafts).await;
        self.gone(&mut drafts).await;
        self.flagged(&mut drafts).await;
        hub.tell(drafts);
    }

    /// Remembers what has to be looked at.
    fn note(&mut self, flags: Flags) {
        let Flags {
            too_much: _,
            aggregate,
            gates,
            errors,
            crawlers,
            thinned,
            pruned,
        } = flags;
        self.pending.aggregate |= aggregate;
        self.pending.gates |= gates;
        self.pending.errors |= errors;
        self.pending.crawlers |= crawlers;
        for root in thinned {
            self.doubtful.extend(self.places.in_tree(root));
        }
        if pruned || self.doubtful.len() > PLACES_MAX {
            self.doubtful = self.places.all().into();
        }
    }

    /// What happened is not known.
    fn look_at_everything(&mut self) {
        self.note(Flags {
            aggregate: true,
            gates: true,
            errors: true,
            crawlers: true,
            pruned: true,
            ..Flags::default()
        });
    }

    /// Jobs as they are now; of those above them what is other than it was.
    async fn jobs(&mut self, jobs: &[JobKey], drafts: &mut Vec<Draft>) -> Result<(), StoreError> {
        let jobs: Vec<_> = jobs
            .iter()
            .chain(self.kin.difference(&jobs.iter().copied().collect()))
            .copied()
            .collect();
        if jobs.is_empty() {
            return Ok(());
        }
        let mut views = self.api.store.views(jobs.clone()).await?;
        let kin = std::mem::take(&mut self.kin);
        let gone = jobs.iter().filter(|job| !views.contains_key(job));
        self.doubtful.extend(gone);
        let views: Vec<JobView> = jobs.iter().filter_map(|job| views.remove(job)).collect();
        let shown = with_progress(self.api, &views).await?;
        for (job, value) in views.iter().zip(shown) {
            let place = self.places.learn(job);
            if self.note_told(job) && kin.contains(&job.key) {
                continue;
            }
            drafts.push(Draft {
                kind: Kind::Job,
                about: About::Job(place),
                of: Some(job.key.0),
                data: value.to_string(),
            });
        }
        Ok(())
    }

    /// Remembers what is told of a job. Whether that was told before; if not, those above it are looked at, too.
    fn note_told(&mut self, job: &JobView) -> bool {
        let is_known = self.places.tell(job.key, look_of(job));
        if !is_known {
            let above = job.parent_id.iter().chain([&job.root_id]);
            let above = above.filter(|id| **id != job.public_id);
            self.kin.extend(above.filter_map(|id| self.places.key(id)));
        }
        is_known
    }

    /// What other servers did. What this one did comes up there, too, and is told once.
    async fn elsewhere(&mut self, drafts: &mut Vec<Draft>) -> Result<(), StoreError> {
        let Some(mut elsewhere) = self.elsewhere.take() else {
            return Ok(());
        };
        let news = elsewhere.look(self.api).await;
        let told = match news {
            Ok(news) => self.tell_of(&mut elsewhere, news, drafts).await,
            Err(error) => Err(error),
        };
        self.elsewhere = Some(elsewhere);
        told
    }

    async fn tell_of(
        &mut self,
        elsewhere: &mut Elsewhere,
        news: News,
        drafts: &mut Vec<Draft>,
    ) -> Result<(), StoreError> {
        let all: Vec<_> = news.jobs.union(&news.reported).copied().collect();
        for (number, some) in all.chunks(CHECKED_MAX).enumerate() {
            if let Err(error) = self.tell_some(elsewhere, (some, &news), drafts).await {
                // They are told when the database is back, as if they were our own.
                let rest = all[number * CHECKED_MAX..].iter();
                rest.for_each(|job| self.api.hub.changed().job(*job));
                return Err(error);
            }
        }
        Ok(())
    }

    async fn tell_some(
        &mut self,
        elsewhere: &mut Elsewhere,
        (some, news): (&[JobKey], &News),
        drafts: &mut Vec<Draft>,
    ) -> Result<(), StoreError> {
        let now = json::clock();
        let views: Vec<_> = self.api.store.views(some.to_vec()).await?.into_values().collect();
        let standings = self.api.router.standings(&views).await?;
        for (job, standing) in views.iter().zip(&standings) {
            let place = self.places.learn(job);
            let is_known = self.note_told(job);
            let is_reported = news.reported.contains(&job.key);
            let progress = standing.is_reported().then(|| tracked::progress(&place.job, standing));
            if !is_known && news.jobs.contains(&job.key) {
                let mut value = json::job(job);
                value["progress"] = progress.into();
                drafts.push(of_job(Kind::Job, &place, job.key, &value));
            } else if let Some(progress) = progress.filter(|_| is_reported) {
                drafts.push(of_job(Kind::Progress, &place, job.key, &progress));
            }
            let is_ours = self.api.router.progress(job.key).is_some();
            if is_ours || (is_known && !is_reported) {
                // All of it was told as it happened.
                continue;
            }
            let is = (&standing.tracker, standing.snapshot.phase);
            for (kind, data) in elsewhere.compare(job.key, &place.job, is, now) {
                drafts.push(Draft {
                    of: None,
                    ..of_job(kind, &place, job.key, &data)
                });
            }
        }
        Ok(())
    }

    /// How work goes forward.
    async fn work(&mut self, reported: &[JobKey], moments: Vec<Event>, drafts: &mut Vec<Draft>) {
        let jobs = reported.iter().copied().chain(moments.iter().filter_map(moment::job));
        let unknown: Vec<_> = jobs.filter(|job| self.places.of(*job).is_none()).collect();
        if !unknown.is_empty()
            && let Ok(views) = self.api.store.views(unknown).await
        {
            views.values().for_each(|job| drop(self.places.learn(job)));
        }
        for job in reported {
            if let (Some(place), Some(standing)) = (self.places.of(*job), self.api.router.standing_here(*job)) {
                drafts.push(Draft {
                    kind: Kind::Progress,
                    data: tracked::progress(&place.job, &standing).to_string(),
                    about: About::Job(place),
                    of: Some(job.0),
                });
            }
        }
        for event in moments {
            let job = moment::job(&event);
            let place = job.and_then(|job| self.places.of(job));
            let Some((kind, data)) = moment::told(event) else {
                continue;
            };
            drafts.push(Draft {
                kind,
                about: place.map_or(About::Whole, About::Job),
                // The newest estimate counts; of everything else each.
                of: job.map(|job| job.0).filter(|_| kind == Kind::Estimate),
                data: data.to_string(),
            });
        }
    }

    /// Jobs that are not there any more.
    async fn gone(&mut self, drafts: &mut Vec<Draft>) {
        let some: Vec<_> = self.doubtful.drain(..CHECKED_MAX.min(self.doubtful.len())).collect();
        if some.is_empty() {
            return;
        }
        let Ok(views) = self.api.store.views(some.clone()).await else {
            self.doubtful.extend(some);
            return;
        };
        for job in some.into_iter().filter(|job| !views.contains_key(job)) {
            if let Some(place) = self.places.forget(job) {
                drafts.push(Draft {
                    kind: Kind::Deleted,
                    data: json!({ "job_id": place.job }).to_string(),
                    about: About::Job(place),
                    of: None,
                });
            }
        }
    }

    /// What is looked at as a whole. What cannot be read now is looked at in the next round.
    async fn flagged(&mut self, drafts: &mut Vec<Draft>) {
        let Flags {
            aggregate,
            gates,
            errors,
            crawlers,
            ..
        } = std::mem::take(&mut self.pending);
        if crawlers {
            self.looked.crawlers(self.api, drafts);
        }
        self.pending.gates = gates && self.looked.gates(self.api, drafts).await.is_err();
        self.pending.aggregate = aggregate && !self.looked.aggregate(self.api, drafts).await.unwrap_or(false);
        if errors {
            match self.looked.errors(self.api).await {
                Ok(errors) => {
                    for (id, data) in errors {
                        let about = match id {
                            Some(id) => About::Job(self.place(&id).await),
                            None => About::Whole,
                        };
                        drafts.push(Draft {
                            kind: Kind::Error,
                            about,
                            of: None,
                            data: data.to_string(),
                        });
                    }
                }
                Err(_) => self.pending.errors = true,
            }
        }
    }

    /// Where a job belongs that somebody named, if there is such a job.
    async fn place(&mut self, id: &str) -> Arc<Place> {
        if let Some(place) = self.places.named(id) {
            return place;
        }
        match self.api.store.job(id).await {
            Ok(Some(job)) if job.public_id == id => self.places.learn(&job),
            _ => Arc::new(Place {
                job: id.to_owned(),
                ..Place::default()
            }),
        }
    }

    /// Looks at what no event tells of. What other servers do is among it.
    async fn look(&mut self) {
        let mut drafts = Vec::new();
        self.looked.crawlers(self.api, &mut drafts);
        // When the database is away, it is looked at again a moment later.
        let _ = self.looked.statistics(self.api, &mut drafts).await;
        if self.elsewhere.is_some() {
            if let Err(error) = self.elsewhere(&mut drafts).await {
                tracing::debug!(%error, "what other servers did was not read");
            }
            self.pending.aggregate = true;
            self.pending.gates = true;
            self.pending.errors = true;
            if self.doubtful.is_empty() {
                self.doubtful = self.places.all().into();
            }
        }
        self.api.hub.tell(drafts);
    }
}

/// What of a job changes only when something happens to it.
fn look_of(job: &JobView) -> u64 {
    let mut hasher = DefaultHasher::new();
    json::job(job).to_string().hash(&mut hasher);
    hasher.finish()
}

fn of_job(kind: Kind, place: &Arc<Place>, job: JobKey, data: &Value) -> Draft {
    Draft {
        kind,
        about: About::Job(place.clone()),
        of: Some(job.0),
        data: data.to_string(),
    }
}
