//! The dispatcher: gives queued jobs to sessions with free slots. Woken by facts; the clock is only a safety net.
//!
//! Lanes take turns, see [`turns`]. Who may run a job is decided by [`admit`], which `explain` follows as well.

mod assign;
pub(crate) mod assignment;
mod turns;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crawlwire_progress::StoreError;
use crawlwire_progress::admit::{Candidate, ClosedGate, World, admit};
use crawlwire_progress::view::ReadyJob;
use tokio_util::sync::CancellationToken;

use self::assign::{Claim, Tokens};
use self::turns::Turns;
use crate::session::Session;
use crate::shared::{Shared, wall_clock};
use crate::world;

pub(crate) async fn run(shared: &Shared, stop: CancellationToken) {
    let mut turns = Turns::new(shared.config.job_queue_size);
    let mut tokens = Tokens::default();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = shared.wake.notified() => {}
            // What was passed over is looked at again, and gates open by themselves.
            () = tokio::time::sleep(shared.config.sweep_interval) => {}
        }
        loop {
            match round(shared, &mut turns, &mut tokens, &stop).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "queue not read");
                    break;
                }
            }
        }
        if stop.is_cancelled() {
            return;
        }
    }
}

/// One round: every lane is looked at once, as long as a slot is free. Says whether it is worth another one. Each round hands
/// over at least one job, or begins the next turn of lanes that could be served, or is the last.
async fn round(
    shared: &Shared,
    turns: &mut Turns,
    tokens: &mut Tokens,
    stop: &CancellationToken,
) -> Result<bool, StoreError> {
    let mut lap = turns.lap();
    let (mut claimed, mut handed_over) = (false, false);
    let mut gates = None;
    // Lanes whose claims came to nothing: a gate closed meanwhile, another server was faster, a crawler does not read.
    let mut aside = BTreeSet::new();
    while shared.dispatching.load(Ordering::Relaxed) && !stop.is_cancelled() {
        let Some(mut page) = Page::read(shared, turns, &mut gates).await? else {
            break;
        };
        page.waiting.retain(|lane, _| !aside.contains(lane));
        let claims = page.give_out(shared, turns, tokens).await;
        let slots_left = world::free_slots(&page.world.crawlers) > 0;
        claimed |= !claims.is_empty();
        for (lane, claim) in claims {
            if claim.hand_over(shared).await {
                handed_over = true;
            } else {
                turns.give_back(lane);
                aside.insert(lane);
            }
        }
        if slots_left {
            if turns.pass(&mut lap) {
                // Only a round in which nothing was claimed shows for certain who could use the slots that are left, had it
                // not had its turn.
                return Ok(handed_over || (!claimed && turns.renew()));
            }
        } else if handed_over {
            return Ok(true);
        }
        // Else all claims of the page came to nothing, and their slots are free for the other lanes of it.
    }
    Ok(handed_over)
}

/// Some lanes, the best jobs of each, and the world they meet.
struct Page {
    waiting: BTreeMap<i64, VecDeque<ReadyJob>>,
    sessions: Vec<Arc<Session>>,
    world: World,
}

impl Page {
    /// The next lanes; none when no slot is free, or nothing may be given out at all. The gates are read once a round.
    async fn read(
        shared: &Shared,
        turns: &mut Turns,
        gates: &mut Option<Vec<ClosedGate>>,
    ) -> Result<Option<Self>, StoreError> {
        let (sessions, crawlers) = world::crawlers(shared);
        let free = world::free_slots(&crawlers);
        if free == 0 {
            return Ok(None);
        }
        // Beyond the free slots: those that may have to be passed over, see `place`.
        let lingering: usize = crawlers.iter().map(|crawler| crawler.lingering.len()).sum();
        let ready = shared.store.ready(turns.query(free + lingering));
        let jobs = match gates {
            Some(_) => ready.await?,
            None => {
                let (jobs, closed) = tokio::try_join!(ready, shared.store.gates())?;
                if closed.iter().any(|gate| gate.bars_all(wall_clock())) {
                    return Ok(None);
                }
                *gates = Some(closed);
                jobs
            }
        };
        let world = World {
            gates: gates.clone().unwrap_or_default(),
            held: world::held(shared, jobs.iter().map(|job| job.account)).await?,
            held_max: shared.config.policy.account_held_max,
            crawlers,
        };
        let mut waiting = BTreeMap::<_, VecDeque<_>>::new();
        for job in jobs {
            waiting.entry(job.lane).or_default().push_back(job);
        }
        turns.read(&waiting.keys().copied().collect::<Vec<_>>());
        Ok(Some(Self {
            waiting,
            sessions,
            world,
        }))
    }

    /// Claims jobs for free slots, lane by lane, until there are none of either.
    async fn give_out(&mut self, shared: &Shared, turns: &mut Turns, tokens: &mut Tokens) -> Vec<(i64, Claim)> {
        let mut claims = Vec::new();
        tokens.turn_page();
        while world::free_slots(&self.world.crawlers) > 0 {
            let heads = self
                .waiting
                .iter()
                .filter_map(|(lane, jobs)| Some((*lane, jobs.front()?.due)));
            let Some(lane) = turns.next(heads) else {
                let world = &self.world;
                self.waiting.retain(|_, jobs| place(jobs, world).is_some());
                self.waiting.keys().for_each(|lane| turns.skip(*lane));
                if turns.sees_all() && turns.renew() {
                    continue;
                }
                break;
            };
            match self.claim(shared, lane, tokens).await {
                Some(claim) => {
                    turns.spend(lane);
                    claims.push((lane, claim));
                }
                None => _ = self.waiting.remove(&lane),
            }
        }
        claims
    }

    /// Claims the best job of a lane for the session that it goes to, if there is one.
    async fn claim(&mut self, shared: &Shared, lane: i64, tokens: &mut Tokens) -> Option<Claim> {
        let jobs = self.waiting.get_mut(&lane)?;
        let (place, session) = loop {
            let place = place(jobs, &self.world)?;
            let (session, job) = (self.sessions.get(place)?.clone(), jobs.front()?);
            if !session.works_on(&job.public_id) {
                break (place, session);
            }
            // It was taken away since the page was read, or nobody has told yet that it was.
            let crawler = self.world.crawlers.get_mut(place)?;
            Arc::make_mut(&mut crawler.lingering).insert(job.public_id.clone());
        };
        let token = tokens.of(shared, jobs.front()?).await?;
        let job = jobs.pop_front()?;
        if jobs.is_empty() {
            self.waiting.remove(&lane);
        }
        // Counted here, since the rows and the session do not know of it before the commit.
        if let Some(crawler) = self.world.crawlers.get_mut(place) {
            crawler.busy += 1;
        }
        *self.world.held.entry(job.account).or_default() += 1;
        Some(assign::claim(shared, job, session, token).await)
    }
}

/// The crawler that the best job of a lane goes to. What stands before one job of a lane stands before all of them, with
/// one exception: a job waits for the end of its own earlier run where a crawler lingers on it. Such jobs are passed over.
fn place(jobs: &mut VecDeque<ReadyJob>, world: &World) -> Option<usize> {
    while let Some(job) = jobs.front() {
        match admit(&candidate(job), world, wall_clock()) {
            Ok(place) => return Some(place),
            Err(waiting) => tracing::trace!(job = job.public_id, waiting = waiting.as_str(), "passed over"),
        }
        if !world.crawlers.iter().any(|it| it.lingering.contains(&job.public_id)) {
            return None;
        }
        jobs.pop_front();
    }
    None
}

fn candidate(job: &ReadyJob) -> Candidate<'_> {
    Candidate {
        public_id: &job.public_id,
        account: job.account,
        job_type: job.spec.job_type,
        host: &job.spec.host,
        labels: &job.spec.labels,
        // Looked at last, since it takes a read.
        token_readable: true,
    }
}
