//! What crawlers are told of wishes, and of jobs that are theirs no more.
//!
//! A wish is told when it is committed here, and told again, or for the first time where another server committed it, when
//! memory is compared with the rows. What a crawler was last told is remembered with the job, so it is told once.

use std::sync::Arc;
use std::time::Duration;

use crawlwire_progress::{Arrow, Fact, Fence, Want};
use crawlwire_protocol::message::{JobCancel, JobPause, JobResume, NOT_YOURS};
use crawlwire_protocol::{Envelope, FenceNo, JobId, Marks, Millis, WebAppMessage, Words};

use crate::outgoing::send;
use crate::session::{Held, Session};
use crate::shared::Shared;

/// Publishes a fact that the crawler did not bring about itself, and tells it what that means for it.
pub(crate) async fn announce(shared: &Shared, fact: Fact) {
    let session = fact.session.and_then(|key| shared.sessions.get(key));
    let (public_id, arrow, fence) = (fact.public_id.clone(), fact.arrow, fact.fence);
    let gone = shared.publish_fact(fact);
    let Some(session) = session else { return };
    if let Some(held) = gone {
        drop_it(shared, &session, &public_id, &held).await;
        return;
    }
    let want = match arrow {
        Arrow::WantCancel => Some(Want::Cancel),
        Arrow::WantPause => Some(Want::Pause),
        Arrow::Resume => None,
        _ => return,
    };
    if let Some(held) = session.held(&public_id).filter(|held| held.fence == fence) {
        let left = shared.config.policy.want_timeout;
        follow(shared, &session, (&public_id, &held), want, left).await;
    }
}

/// Tells a crawler what somebody wishes of a job, as the rows say, if it was not told yet. `held` is what was known of the
/// job before the rows were read.
pub(crate) async fn repair(shared: &Shared, session: &Arc<Session>, public_id: &str, held: &Held, want: Option<Want>) {
    if !listens(session) || held.told == want {
        return;
    }
    let left = match want {
        Some(_) => time_left(shared, public_id).await,
        None => Duration::ZERO,
    };
    follow(shared, session, (public_id, held), want, left).await;
}

/// Whether a crawler understands wishes.
fn listens(session: &Session) -> bool {
    session.confirms && session.peer.speaks_session()
}

/// How long a crawler has for what is wished of a job; as long as it may take at most, when that cannot be read.
async fn time_left(shared: &Shared, public_id: &str) -> Duration {
    let read = async {
        let view = shared.store.job(public_id).await.ok()??;
        Some(view.want?.1.since(shared.store.now().await.ok()?))
    };
    read.await.unwrap_or(shared.config.policy.want_timeout)
}

async fn follow(
    shared: &Shared,
    session: &Arc<Session>,
    (public_id, held): (&str, &Held),
    want: Option<Want>,
    left: Duration,
) {
    let deadline_ms = Millis::from(left);
    let message = match (want, held.told) {
        (Some(Want::Cancel), _) => WebAppMessage::JobCancel(JobCancel {
            reason: None,
            deadline_ms,
        }),
        (Some(Want::Pause), _) => WebAppMessage::JobPause(JobPause {
            reason: None,
            deadline_ms,
        }),
        (None, Some(Want::Pause)) => WebAppMessage::JobResume(JobResume {}),
        // It never heard of the wish.
        (None, _) => return,
    };
    if !listens(session) || !session.tell(public_id, held.fence, (held.told, want)) {
        return;
    }
    if let Err(error) = about(shared, session, public_id, held.fence, message).await {
        tracing::debug!(session = %session.name, job = public_id, %error, "wish not sent");
        // The next comparison tries again.
        session.tell(public_id, held.fence, (want, held.told));
    }
}

async fn about(
    shared: &Shared,
    session: &Session,
    public_id: &str,
    fence: Fence,
    message: WebAppMessage,
) -> Result<(), crate::SendError> {
    let envelope = Envelope {
        job_id: JobId::new(public_id),
        marks: Marks {
            fence: FenceNo::new(fence.0),
            ..Marks::default()
        },
        ..Envelope::now(message)
    };
    send(shared, &session.peer, envelope).await
}

/// Tells a crawler that a job is its own no more; unless it has just said that it is through with it.
pub(crate) async fn drop_it(shared: &Shared, session: &Session, public_id: &str, held: &Held) {
    if !held.ending {
        not_yours(shared, session, public_id, held.fence).await;
    }
}

/// Tells a crawler that a lease is not its own.
pub(crate) async fn not_yours(shared: &Shared, session: &Session, public_id: &str, fence: Fence) {
    if !listens(session) {
        return;
    }
    let message = WebAppMessage::JobCancel(JobCancel {
        reason: Words::new(NOT_YOURS),
        deadline_ms: Millis::default(),
    });
    if let Err(error) = about(shared, session, public_id, fence, message).await {
        tracing::debug!(session = %session.name, job = public_id, %error, "loss not told");
    }
}
