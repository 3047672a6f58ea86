use std::collections::BTreeSet;
use std::sync::Arc;

use crawlwire_progress::store::{Ending, Ticket};
use crawlwire_progress::{Committed, Fence, Op, Outcome};
use crawlwire_protocol::message::{Heartbeat, HeldLease};
use serde_json::json;

use super::handler;
use crate::context::Context;
use crate::handler::{Handled, Inbound, Processed};
use crate::session::{Held, Mismatch, Session};
use crate::shared::Shared;
use crate::wishes::not_yours;

handler!(OnHeartbeat, Heartbeat, on_heartbeat);

/// Heartbeats that count and come after a job was given out before its absence from them means something: the assignment
/// and the first of them may have crossed.
const BEFORE_MISSED: u64 = 2;

/// Of so many heartbeats in the time of one, one counts: what comes faster waited on its way.
const PER_INTERVAL: u32 = 2;

/// Remembers what the crawler says of itself. That it said anything has renewed its lease already. In the session dialect it
/// may list what it holds; what both sides do not agree about twice in a row is put right.
async fn on_heartbeat(context: &Context, _: &Inbound, heartbeat: &Heartbeat) -> Handled {
    let Some(session) = &context.session else {
        return Handled::Done(Processed::done());
    };
    let shared = &context.shared;
    let counts = session.note_heartbeat(heartbeat, shared.config.hello.heartbeat_interval / PER_INTERVAL);
    let Some(listed) = heartbeat.jobs.as_deref().filter(|_| counts) else {
        return Handled::Done(Processed::done());
    };
    let again = session.mismatch_again(mismatch(session, listed, &session.all_held()));
    let mut ended = Vec::new();
    for (job, fence, theirs) in again {
        if theirs {
            not_yours(shared, session, &job, Fence(fence)).await;
        } else if let Some(held) = session.held(&job).filter(|held| held.fence.0 == fence) {
            tracing::warn!(session = %session.name, job, "the crawler does not know of a job it holds");
            ended.push(end(shared, session, &job, &held).await);
        }
    }
    Handled::Pending(Box::pin(settled(shared.clone(), ended)))
}

/// The leases that one side knows and the other does not. What the crawler has just ended, and what it may not have heard
/// of yet, does not count.
fn mismatch(session: &Session, listed: &[HeldLease], held: &[(String, Held)]) -> BTreeSet<Mismatch> {
    let theirs: BTreeSet<_> = listed
        .iter()
        .map(|lease| (lease.job_id.as_str(), lease.fence.get()))
        .collect();
    let ours: BTreeSet<_> = held.iter().map(|(job, held)| (job.as_str(), held.fence.0)).collect();
    let heartbeats = session.heartbeats();
    let expected = |(_, held): &&(String, Held)| !held.ending && heartbeats - held.since >= BEFORE_MISSED;
    let missing = held.iter().filter(expected);
    let missing = missing.filter(|(job, held)| !theirs.contains(&(job.as_str(), held.fence.0)));
    let missing = missing.map(|(job, held)| (job.clone(), held.fence.0, false));
    let strange = theirs.difference(&ours);
    let strange = strange.map(|(job, fence)| ((*job).to_owned(), *fence, true));
    missing.chain(strange).collect()
}

/// A job whose crawler does not know of it goes to somebody else: at once if it never began, and else as after any failure.
async fn end(shared: &Shared, session: &Session, job: &str, held: &Held) -> Ticket {
    session.end(job);
    let (job, holder) = (held.key, session.holder(held));
    let op = if held.started {
        let told = json!({
            "error_type": "lost_by_crawler",
            "error_message": "the crawler does not know of the job any more",
            "is_recoverable": true,
        });
        Op::Finish {
            job,
            holder,
            ending: Ending::Failed {
                error: told.to_string(),
                recoverable: true,
            },
            progress: None,
        }
    } else {
        Op::Release { job, holder }
    };
    shared.store.enqueue(op).await
}

async fn settled(shared: Arc<Shared>, ended: Vec<Ticket>) -> Processed {
    for ticket in ended {
        match ticket.await.map(Committed::into_inner) {
            Ok(Outcome::Moved(fact)) => {
                shared.publish_fact(fact);
            }
            Ok(outcome) => tracing::debug!(?outcome, "nothing to end"),
            Err(error) => tracing::warn!(%error, "not ended; the lease will run out"),
        }
    }
    Processed::done()
}
