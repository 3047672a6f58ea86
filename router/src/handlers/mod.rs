//! The built-in handlers, one file per conversation. Each translates wire words to an operation, gives it to the store
//! and answers; what may happen is decided elsewhere.

mod checkpoint;
mod demand;
mod discovery;
mod heartbeat;
mod job;
mod presence;
mod progress;
mod token;
mod wish;

use std::sync::Arc;

use crawlwire_progress::discovery::Verdict;
use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::{Outcome, Ticket};
use crawlwire_progress::{Committed, Fact, Op, StoreError};
use crawlwire_protocol::{Category, CrawlerKind, Decoded, FenceNo, JobId, Severity};

use crate::code;
use crate::context::Context;
use crate::handler::{Handled, Handler, Inbound, Processed, job_id, marks};
use crate::said;
use crate::session::{Held, Session};
use crate::shared::{Shared, brief, wall_clock};

/// Every built-in handler with the type it is for.
pub(crate) fn built_in() -> Vec<(CrawlerKind, Arc<dyn Handler>)> {
    vec![
        (CrawlerKind::Heartbeat, Arc::new(heartbeat::OnHeartbeat)),
        (CrawlerKind::JobStarted, Arc::new(job::OnStarted)),
        (CrawlerKind::JobProgress, Arc::new(progress::OnProgress)),
        (CrawlerKind::JobCompleted, Arc::new(job::OnCompleted)),
        (CrawlerKind::JobFailed, Arc::new(job::OnFailed)),
        (CrawlerKind::JobsDiscovered, Arc::new(discovery::OnDiscovered)),
        (CrawlerKind::TokenRefreshRequest, Arc::new(token::OnRefreshRequest)),
        (CrawlerKind::JobRequest, Arc::new(demand::OnJobRequest)),
        (CrawlerKind::ApiLimited, Arc::new(demand::OnApiLimited)),
        (CrawlerKind::Checkpoint, Arc::new(checkpoint::OnCheckpoint)),
        (CrawlerKind::JobCancelled, Arc::new(wish::OnCancelled)),
        (CrawlerKind::JobPaused, Arc::new(wish::OnPaused)),
        (CrawlerKind::JobResumed, Arc::new(wish::OnResumed)),
        (CrawlerKind::JobReturned, Arc::new(wish::OnReturned)),
        (CrawlerKind::Goodbye, Arc::new(presence::OnGoodbye)),
        (CrawlerKind::Ping, Arc::new(presence::OnPing)),
        (CrawlerKind::Pong, Arc::new(presence::OnPong)),
    ]
}

/// A built-in handler: a function over one body. The macro writes the matching around it.
macro_rules! handler {
    ($name:ident, $variant:ident, $function:path) => {
        #[derive(Debug)]
        pub(super) struct $name;

        impl crate::handler::Handler for $name {
            /// In the base dialect a type of the session dialect is one that nobody knows.
            fn can_handle(&self, message: &crate::handler::Inbound) -> bool {
                matches!(
                    super::known(message),
                    Some(crawlwire_protocol::CrawlerMessage::$variant(_))
                )
            }

            fn handle<'a>(
                &'a self,
                context: &'a crate::context::Context,
                message: &'a crate::handler::Inbound,
            ) -> crawlwire_progress::store::BoxFuture<'a, crate::handler::Handled> {
                Box::pin(async move {
                    match super::known(message) {
                        Some(crawlwire_protocol::CrawlerMessage::$variant(body)) => {
                            $function(context, message, body).await
                        }
                        _ => crate::handler::Handled::Done(crate::handler::Processed::failed("another type")),
                    }
                })
            }
        }
    };
}
pub(crate) use handler;

fn known(message: &Inbound) -> Option<&crawlwire_protocol::CrawlerMessage> {
    match message {
        Decoded::Known(envelope) => Some(&envelope.message),
        Decoded::Custom(_) => None,
    }
}

/// A job that the speaking session holds.
#[derive(Clone)]
struct Speaking {
    job: JobId,
    session: Arc<Session>,
    held: Held,
}

const OF_A_JOB: (Category, Severity) = (Category::JobProcessing, Severity::Low);

/// The job a message names, if the session holds it. If not, the line is late: it is counted and has no effect.
async fn speaking(context: &Context, message: &Inbound) -> Result<Speaking, Handled> {
    let Some(job) = job_id(message).cloned() else {
        return Err(refused(code::NOT_FOUND, "the message names no job"));
    };
    if context.peer.speaks_session() {
        return under_lease(context, message, job).map_err(|late| *late);
    }
    match context.held(job.as_str()).await {
        Ok((session, held)) => {
            context.shared.live().named(held.key, false, wall_clock());
            Ok(Speaking { job, session, held })
        }
        Err(reason) => Err(late(context, &job, code::NOT_HELD, reason)),
    }
}

/// In the session dialect a message names the lease it speaks for, so that the words of an earlier one are known.
fn under_lease(context: &Context, message: &Inbound, job: JobId) -> Result<Speaking, Box<Handled>> {
    let held = context.session.clone();
    let held = held.and_then(|session| Some((session.held(job.as_str())?, session)));
    let Some((held, session)) = held else {
        let why = "the session does not hold the job";
        return Err(Box::new(late(context, &job, code::NOT_HELD, why)));
    };
    if marks(message).fence.map(FenceNo::get) != Some(held.fence.0) {
        let stale = Refusal::Stale;
        return Err(Box::new(late(context, &job, stale.as_str(), stale.to_string())));
    }
    context.shared.live().named(held.key, false, wall_clock());
    Ok(Speaking { job, session, held })
}

fn late(context: &Context, job: &JobId, code: &'static str, reason: impl Into<String>) -> Handled {
    let (reason, job) = (reason.into(), brief(job.as_str()));
    tracing::debug!(peer = context.peer.name(), job, reason, "late line");
    refused(code, reason)
}

fn refused(code: &'static str, reason: impl Into<String>) -> Handled {
    Handled::Done(Processed::refused(code, OF_A_JOB, reason))
}

/// [`speaking`], for a line that says that the crawler works on a job no more, whoever holds it by now. If the job is taken
/// away before its end is written it does not linger, and if it lingered its slot is free.
async fn ending(context: &Context, message: &Inbound) -> Result<Speaking, Handled> {
    let Some(job) = job_id(message).cloned() else {
        return speaking(context, message).await;
    };
    let session = context.session.clone().filter(|_| !context.peer.speaks_session());
    let held = session.and_then(|session| Some((session.end(job.as_str())?, session)));
    let speaking = match held {
        Some((held, session)) => {
            let job = job.clone();
            Ok(Speaking { job, session, held })
        }
        None => speaking(context, message).await,
    };
    if let Ok(Speaking { session, held, .. }) = &speaking {
        // It may have been taken over just now.
        session.update(job.as_str(), held.fence, |held| held.ending = true);
    }
    // Not before: as long as it lingers the crawler is not given the job again, so this end is of the earlier run for sure.
    if context.peer.end_lingering(job.as_str()) {
        context.shared.wake.notify_one();
    }
    speaking
}

/// The work of a job went forward: something was found, or a place to go on from was kept.
fn forward(context: &Context, speaking: &Speaking) {
    context.shared.live().named(speaking.held.key, true, wall_clock());
}

/// Says that the job started, if nobody has said so.
fn implied_start(speaking: &Speaking) -> Option<Op> {
    let Speaking { job, session, held } = speaking;
    if held.started {
        return None;
    }
    session.update(job.as_str(), held.fence, |held| {
        held.started = true;
        held.attempt += 1;
    });
    Some(Op::Start {
        job: held.key,
        holder: session.holder(held),
    })
}

/// Gives operations on a held job to the store, in order, together with the number of the line, if it has one; and
/// publishes what comes of them. Does not wait for the commit. The last operation decides what becomes of the line.
async fn give(context: &Context, ops: Vec<Op>, speaking: &Speaking) -> Handled {
    let starts = ops.iter().any(|op| matches!(op, Op::Start { .. }));
    let (shared, speaking) = (context.shared.clone(), speaking.clone());
    if let Some(number) = &context.number {
        let said = said::give(&shared, &speaking.session, number, ops).await;
        return Handled::Pending(Box::pin(async move {
            match said.await {
                Ok(outcomes) => settle_all(&shared, &speaking, outcomes),
                Err(failed) => {
                    // What was not carried out is said again, and then it starts.
                    let undo = starts && !failed.success;
                    undo.then(|| not_started(&speaking));
                    failed
                }
            }
        }));
    }
    let mut tickets: Vec<Ticket> = Vec::with_capacity(ops.len());
    for op in ops {
        tickets.push(shared.store.enqueue(op).await);
    }
    Handled::Pending(Box::pin(async move {
        let mut last = Processed::done();
        for ticket in tickets {
            last = match ticket.await.map(Committed::into_inner) {
                Ok(outcome) => settle(&shared, &speaking, outcome),
                Err(error) => failed(&speaking, starts, &error),
            };
        }
        last
    }))
}

fn failed(speaking: &Speaking, starts: bool, error: &StoreError) -> Processed {
    tracing::error!(%error, job = speaking.job.as_str(), "operation failed");
    if starts && speaking.session.peer.speaks_session() {
        not_started(speaking);
    }
    Processed {
        error: Some(error.to_string()),
        ..said::unavailable(error)
    }
}

fn not_started(speaking: &Speaking) {
    let Speaking { job, session, held } = speaking;
    session.update(job.as_str(), held.fence, |known| {
        known.started = false;
        known.attempt = held.attempt;
    });
}

fn settle_all(shared: &Shared, speaking: &Speaking, outcomes: Vec<Outcome>) -> Processed {
    let settled = outcomes.into_iter().map(|outcome| settle(shared, speaking, outcome));
    settled.last().unwrap_or_else(Processed::done)
}

fn settle(shared: &Shared, speaking: &Speaking, outcome: Outcome) -> Processed {
    let Speaking { job, session, held } = speaking;
    match outcome {
        Outcome::Moved(fact) => {
            session.update(job.as_str(), held.fence, |held| held.attempt = fact.attempt);
            shared.publish_fact(fact);
            Processed::done()
        }
        Outcome::Discovered(verdicts) => {
            let count = verdicts.len();
            note_over_budget(shared, session, job, &verdicts);
            let facts: Vec<Fact> = verdicts.into_iter().filter_map(|(_, fact)| fact).collect();
            let data = serde_json::json!({ "received": count, "accepted": facts.len() });
            for fact in facts {
                shared.publish_fact(fact);
            }
            Processed {
                data: Some(data),
                ..Processed::done()
            }
        }
        Outcome::Refused(ref rejection) => {
            let Some(code) = outcome.refusal() else {
                return Processed::done();
            };
            // The row says that the session lost the job: remember it no longer.
            shared.lose(session, job.as_str(), held.fence);
            Processed::refused(code, OF_A_JOB, rejection.to_string())
        }
        _ => Processed::done(),
    }
}

/// Children that a budget kept out: the crawl is not complete, and somebody should know.
fn note_over_budget(shared: &Shared, session: &Session, job: &JobId, verdicts: &[(Verdict, Option<Fact>)]) {
    let over = |verdict: &Verdict| match verdict {
        Verdict::OverBudget(budget) => Some(budget.as_str()),
        _ => None,
    };
    let over: Vec<_> = verdicts.iter().filter_map(|(verdict, _)| over(verdict)).collect();
    if let Some(budget) = over.first() {
        let message = format!(
            "{} discovered jobs were refused: the budget {budget} is used up",
            over.len()
        );
        tracing::warn!(job = job.as_str(), message);
        let kind = (Category::Resource, Severity::Medium);
        shared.log_error(&session.peer, kind, "over_budget", Some(job.as_str()), &message);
    }
}
