//! What people do: to jobs, to many of them, and to gates; and the answer to why a job does not move.
//!
//! Each act runs to its end even if whoever asked for it goes away: a tree is not left half cancelled.

use std::collections::BTreeSet;
use std::sync::Arc;

use crawlwire_progress::admit::{self, ClosedGate, Gate, Waiting, World};
use crawlwire_progress::store::{
    Act, JobFilter, NewCredential, Outcome, Paging, RedriveFilter, Rejection, SELECTED_MAX,
};
use crawlwire_progress::view::JobView;
use crawlwire_progress::{Arrow, Fact, JobKey, Op, State, StoreError, Timestamp};

use crate::event::Event;
use crate::router::Router;
use crate::shared::Shared;
use crate::{wishes, world};

/// Why an act had no effect, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// A rule stands against it.
    #[error(transparent)]
    Refused(#[from] Rejection),
    /// The database is away. Asked for again, an act over many jobs goes on where it stopped.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What an act did to all jobs that fit a filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bulk {
    /// Jobs that fit.
    pub matched: usize,
    /// Jobs of those that are not as they were.
    pub changed: usize,
}

/// All of these are audited under the name in `by`. Dropped, they go on.
impl Router {
    /// Does something to one job. The facts say what it took, in order.
    ///
    /// # Errors
    /// When the job's state does not allow it, or the database is away.
    pub async fn act(&self, job: JobKey, act: Act, by: &str) -> Result<Vec<Fact>, ActError> {
        let by = by.to_owned();
        detached(self.shared.clone(), async move |shared| {
            let (facts, _) = acted(&shared, Op::Act { job, act, by }).await?;
            Ok(facts)
        })
        .await
    }

    /// Ends a submitted job and everything below it that has not ended. Says how many jobs that were.
    ///
    /// # Errors
    /// When it is no submitted job, or the database is away; then a part of the tree may be cancelled.
    pub async fn cancel_tree(&self, root: JobKey, by: &str) -> Result<usize, ActError> {
        let by = by.to_owned();
        detached(self.shared.clone(), async move |shared| {
            let op = |after| Op::CancelTree {
                root,
                after,
                by: by.clone(),
            };
            let wished = |fact: &Fact| matches!(fact.arrow, Arrow::Cancel | Arrow::WantCancel);
            let mut cancelled = 0;
            // Other servers may have added children where it had looked; so it looks until there is nothing to be done.
            loop {
                match many(&shared, op, wished).await? {
                    0 => return Ok(cancelled),
                    some => cancelled += some,
                }
            }
        })
        .await
    }

    /// Gives quarantined or failed jobs another chance. Says how many.
    ///
    /// # Errors
    /// When the database is away; then some of them may have it.
    pub async fn redrive(&self, filter: RedriveFilter, by: &str) -> Result<usize, ActError> {
        let by = by.to_owned();
        let redriven = |fact: &Fact| fact.arrow == Arrow::Redrive;
        detached(self.shared.clone(), async move |shared| {
            let op = |after| Op::Redrive {
                filter: filter.clone(),
                after,
                by: by.clone(),
            };
            many(&shared, op, redriven).await
        })
        .await
    }

    /// Does something to all jobs that fit a filter, in steps of [`SELECTED_MAX`]; those whose state does not allow it are
    /// left as they are. What is created meanwhile is left out. `target` says for the record which jobs are meant.
    ///
    /// # Errors
    /// When the database is away; then a part of it may be done.
    pub async fn act_all(&self, filter: JobFilter, act: Act, target: &str, by: &str) -> Result<Bulk, ActError> {
        let (target, by) = (target.to_owned(), by.to_owned());
        detached(self.shared.clone(), async move |shared| {
            let mut bulk = Bulk::default();
            let mut after = None;
            loop {
                let (jobs, next) = fitting(&shared, &filter, after).await?;
                bulk.matched += jobs.len();
                if !jobs.is_empty() {
                    let op = Op::ActAll {
                        jobs,
                        act,
                        target: target.clone(),
                        by: by.clone(),
                    };
                    let (facts, _) = acted(&shared, op).await?;
                    let changed: BTreeSet<_> = facts.iter().map(|fact| fact.job).collect();
                    bulk.changed += changed.len();
                }
                if next.is_none() {
                    return Ok(bulk);
                }
                after = next;
            }
        })
        .await
    }

    /// How many jobs fit a filter.
    ///
    /// # Errors
    /// When the database is away.
    ///
    /// # Cancel safety
    /// Only reads.
    pub async fn count_fitting(&self, filter: &JobFilter) -> Result<usize, StoreError> {
        let (mut count, mut after) = (0, None);
        loop {
            let (jobs, next) = fitting(&self.shared, filter, after).await?;
            count += jobs.len();
            if next.is_none() {
                return Ok(count);
            }
            after = next;
        }
    }

    /// Deletes a submitted job with everything below it. Says how many jobs that were.
    ///
    /// # Errors
    /// When something in the tree has not ended, or the database is away; then a part of the tree may be gone.
    pub async fn delete(&self, root: JobKey, by: &str) -> Result<usize, ActError> {
        let by = by.to_owned();
        detached(self.shared.clone(), async move |shared| {
            let mut deleted = 0;
            loop {
                let by = by.clone();
                match settled(&shared, Op::Delete { root, by }).await? {
                    Outcome::Deleted { jobs, more } => {
                        deleted += jobs;
                        shared.publish(Event::Deleted { root, jobs });
                        if !more {
                            return Ok(deleted);
                        }
                    }
                    other => return Err(unexpected(&other)),
                }
            }
        })
        .await
    }

    /// Closes a gate, or changes until when it is closed.
    ///
    /// # Errors
    /// When its account is unknown or too many gates are closed, or the database is away.
    pub async fn close_gate(
        &self,
        gate: Gate,
        until: Option<Timestamp>,
        reason: Option<String>,
        by: &str,
    ) -> Result<(), ActError> {
        let by = by.to_owned();
        let op = Op::CloseGate {
            gate,
            until,
            reason,
            by,
        };
        detached(self.shared.clone(), async move |shared| {
            settled(&shared, op).await?;
            look_at_gates(&shared).await;
            Ok(())
        })
        .await
    }

    /// Opens a gate, whether it was closed or not, and looks at once what waits behind it.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn open_gate(&self, gate: Gate, by: &str) -> Result<(), ActError> {
        let by = by.to_owned();
        detached(self.shared.clone(), async move |shared| {
            settled(&shared, Op::OpenGate { gate, by }).await?;
            shared.wake.notify_one();
            look_at_gates(&shared).await;
            Ok(())
        })
        .await
    }

    /// Keeps a token for an account on a host in place of an earlier one, or has it forgotten; and looks at once what waits
    /// for it.
    ///
    /// # Errors
    /// When there is none to be forgotten, or the database is away.
    pub async fn keep_credential(&self, new: NewCredential, by: &str) -> Result<(), ActError> {
        let by = by.to_owned();
        detached(self.shared.clone(), async move |shared| {
            settled(&shared, Op::KeepCredential { new, by }).await?;
            shared.wake.notify_one();
            Ok(())
        })
        .await
    }

    /// The closed gates, widest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn gates(&self) -> Result<Vec<ClosedGate>, StoreError> {
        self.shared.store.gates().await
    }

    /// The one reason why a job does not move; none when it runs or has ended. Looks at the crawlers of all servers.
    ///
    /// # Errors
    /// When the database is away.
    ///
    /// # Cancel safety
    /// Only reads.
    pub async fn explain(&self, job: &JobView) -> Result<Option<Waiting>, StoreError> {
        let shared = &*self.shared;
        let (readable, world) = match job.state {
            State::Queued => (
                token_readable(shared, job).await?,
                world::whole(shared, job.account).await?,
            ),
            // Nothing around it matters.
            _ => (true, World::default()),
        };
        let policy = &shared.config.policy;
        let now = shared.store.now().await?;
        Ok(admit::explain(job, readable, &world, policy, now))
    }
}

/// Tells of gates that changed. If they cannot be read now, the next sweep does.
async fn look_at_gates(shared: &Shared) {
    match shared.store.gates().await {
        Ok(gates) => shared.note_gates(gates.into()),
        Err(error) => tracing::debug!(%error, "gates not read"),
    }
}

async fn token_readable(shared: &Shared, job: &JobView) -> Result<bool, StoreError> {
    let Some(key) = job.credential else { return Ok(true) };
    match shared.store.token(key).await {
        Ok(_) => Ok(true),
        // The row is there, and the key does not fit.
        Err(StoreError::Broken(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Jobs that fit a filter, one step of them, and where the next one goes on.
async fn fitting(
    shared: &Shared,
    filter: &JobFilter,
    after: Option<i64>,
) -> Result<(Vec<JobKey>, Option<i64>), StoreError> {
    let limit = SELECTED_MAX;
    let page = shared.store.jobs(filter.clone(), Paging { limit, after }).await?;
    Ok((page.items.into_iter().map(|job| job.key).collect(), page.next))
}

/// Runs an act to its end, whether or not somebody waits for it.
async fn detached<T, F>(shared: Arc<Shared>, act: impl FnOnce(Arc<Shared>) -> F) -> Result<T, ActError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, ActError>> + Send + 'static,
{
    // A task that is not aborted and does not panic always has a result.
    tokio::spawn(act(shared))
        .await
        .unwrap_or(Err(ActError::Store(StoreError::Closed)))
}

/// Gives an operation to the store; a refusal is an error here.
async fn settled(shared: &Shared, op: Op) -> Result<Outcome, ActError> {
    match shared.commit(op).await? {
        Outcome::Refused(rejection) => Err(rejection.into()),
        outcome => Ok(outcome),
    }
}

/// Gives an act to the store and publishes the facts. Says where it goes on.
async fn acted(shared: &Shared, op: Op) -> Result<(Vec<Fact>, Option<JobKey>), ActError> {
    match settled(shared, op).await? {
        Outcome::Acted { facts, next } => {
            for fact in &facts {
                wishes::announce(shared, fact.clone()).await;
            }
            Ok((facts, next))
        }
        other => Err(unexpected(&other)),
    }
}

/// Repeats an act over many jobs until it is through. Says how many facts counted.
async fn many(
    shared: &Shared,
    op: impl Fn(Option<JobKey>) -> Op,
    counts: impl Fn(&Fact) -> bool,
) -> Result<usize, ActError> {
    let (mut count, mut after) = (0, None);
    loop {
        let (facts, next) = acted(shared, op(after)).await?;
        count += facts.iter().filter(|fact| counts(fact)).count();
        if next.is_none() {
            return Ok(count);
        }
        after = next;
    }
}

/// A store that answers another question has a defect.
fn unexpected(outcome: &Outcome) -> ActError {
    tracing::error!(?outcome, "an act was answered with something else");
    ActError::Store(StoreError::Broken("an act was answered with something else".to_owned()))
}
