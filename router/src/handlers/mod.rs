//! The built-in handlers, one file per conversation. Each translates wire words to an operation, gives it to the store
//! and answers; what may happen is decided elsewhere.

mod discovery;
mod heartbeat;
mod job;
mod progress;
mod token;

use std::sync::Arc;

use crawlwire_progress::discovery::Verdict;
use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::{Outcome, Rejection};
use crawlwire_progress::{Committed, Fact, Op};
use crawlwire_protocol::{Category, CrawlerKind, Decoded, JobId, Severity};

use crate::context::{Context, Shared, brief};
use crate::handler::{Handled, Handler, Inbound, Processed, job_id};
use crate::session::{Held, Session};

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
    ]
}

/// A built-in handler: a function over one body. The macro writes the matching around it.
macro_rules! handler {
    ($name:ident, $variant:ident, $function:path) => {
        #[derive(Debug)]
        pub(super) struct $name;

        impl crate::handler::Handler for $name {
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

/// The job a message names, if the session holds it. If not, the line is late: it is counted and has no effect.
async fn speaking(context: &Context, message: &Inbound) -> Result<Speaking, Handled> {
    let Some(job) = job_id(message).cloned() else {
        return Err(refused("the message names no job"));
    };
    match context.held(job.as_str()).await {
        Ok((session, held)) => Ok(Speaking { job, session, held }),
        Err(reason) => {
            tracing::debug!(
                peer = context.peer.name(),
                job = brief(job.as_str()),
                reason,
                "late line"
            );
            Err(refused(reason))
        }
    }
}

fn refused(reason: impl Into<String>) -> Handled {
    Handled::Done(Processed::failed(reason))
}

/// [`speaking`], for a line that says how a job ended: the crawler works on it no more, whoever holds it by now. If the job
/// is taken away before its end is written it does not linger, and if it lingered its slot is free.
async fn ending(context: &Context, message: &Inbound) -> Result<Speaking, Handled> {
    let Some(job) = job_id(message).cloned() else {
        return speaking(context, message).await;
    };
    let session = context.session.clone();
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

/// Says that the job started, if nobody has said so. Gives the operation to the store; does not wait for the commit.
async fn ensure_started(context: &Context, speaking: &Speaking) -> Option<Handled> {
    let Speaking { job, session, held } = speaking;
    if held.started {
        return None;
    }
    session.update(job.as_str(), held.fence, |held| {
        held.started = true;
        held.attempt += 1;
    });
    let op = Op::Start {
        job: held.key,
        holder: context.holder(session, held),
    };
    Some(give(context, op, speaking).await)
}

/// Gives an operation on a held job to the store, and publishes what comes of it.
async fn give(context: &Context, op: Op, speaking: &Speaking) -> Handled {
    let ticket = context.shared.store.enqueue(op).await;
    let shared = context.shared.clone();
    let Speaking { job, session, held } = speaking.clone();
    Handled::Pending(Box::pin(async move {
        match ticket.await.map(Committed::into_inner) {
            Ok(outcome) => settle(&shared, &session, &job, &held, outcome),
            Err(error) => {
                tracing::error!(%error, job = job.as_str(), "operation failed");
                Processed::failed(error.to_string())
            }
        }
    }))
}

fn settle(shared: &Shared, session: &Session, job: &JobId, held: &Held, outcome: Outcome) -> Processed {
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
            facts.into_iter().for_each(|fact| shared.publish_fact(fact));
            Processed {
                data: Some(data),
                ..Processed::done()
            }
        }
        Outcome::Refused(Rejection::Job(Refusal::AlreadyStarted)) => Processed::done(),
        Outcome::Refused(rejection) => {
            // The row says that the session lost the job: remember it no longer.
            shared.lose(session, job.as_str(), held.fence);
            Processed::failed(rejection.to_string())
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
