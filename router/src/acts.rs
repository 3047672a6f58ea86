//! What people do: to jobs, to many of them, and to gates; and the answer to why a job does not move.
//!
//! Each act runs to its end even if whoever asked for it goes away: a tree is not left half cancelled.

use std::sync::Arc;

use crawlwire_progress::admit::{self, ClosedGate, Gate, Waiting, World};
use crawlwire_progress::store::{Act, Outcome, RedriveFilter, Rejection};
use crawlwire_progress::view::JobView;
use crawlwire_progress::{Arrow, Fact, JobKey, Op, State, StoreError, Timestamp};

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
            settled(&shared, op).await.map(drop)
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

async fn token_readable(shared: &Shared, job: &JobView) -> Result<bool, StoreError> {
    let Some(key) = job.credential else { return Ok(true) };
    match shared.store.token(key).await {
        Ok(_) => Ok(true),
        // The row is there, and the key does not fit.
        Err(StoreError::Broken(_)) => Ok(false),
        Err(error) => Err(error),
    }
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
