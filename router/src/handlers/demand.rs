use std::sync::Arc;
use std::time::Duration;

use crawlwire_progress::admit::Gate;
use crawlwire_progress::store::Outcome;
use crawlwire_progress::{Op, StoreError};
use crawlwire_protocol::message::{ApiLimited, JobRequest};

use super::{OF_A_JOB, Speaking, handler, speaking};
use crate::code;
use crate::context::Context;
use crate::handler::{Handled, Inbound, Processed};
use crate::hello::slots;
use crate::said::unavailable;
use crate::shared::Shared;

handler!(OnJobRequest, JobRequest, on_job_request);
handler!(OnApiLimited, ApiLimited, on_api_limited);

/// A gate that would be closed for less than this longer stays as it is: each change is audited.
const WORTH_CLOSING: Duration = Duration::from_secs(1);

/// From now on the crawler takes so many jobs at a time. What it holds beyond that it keeps.
async fn on_job_request(context: &Context, _: &Inbound, request: &JobRequest) -> Handled {
    if let Some(session) = &context.session {
        session.set_slots(slots(request.slots.get()));
        context.shared.wake.notify_one();
    }
    Handled::Done(Processed::done())
}

/// The host asks for patience: until then no job of this account starts there, and deadlines stand still.
async fn on_api_limited(context: &Context, message: &Inbound, limited: &ApiLimited) -> Handled {
    let speaking = match speaking(context, message).await {
        Ok(speaking) => speaking,
        Err(refused) => return refused,
    };
    let (shared, limited) = (context.shared.clone(), *limited);
    Handled::Pending(Box::pin(async move {
        match close(&shared, &speaking, limited).await {
            Ok(Some(Outcome::Refused(rejection))) => Processed::refused(code::REFUSED, OF_A_JOB, rejection.to_string()),
            Ok(_) => Processed::done(),
            Err(error) => unavailable(&error),
        }
    }))
}

/// Closes the gate, unless it is closed for as long already.
async fn close(shared: &Arc<Shared>, speaking: &Speaking, limited: ApiLimited) -> Result<Option<Outcome>, StoreError> {
    let Some(view) = shared.store.job(speaking.job.as_str()).await? else {
        return Ok(None);
    };
    let gate = Gate::Credentials {
        account_id: view.account_id,
        host: view.spec.host,
    };
    let now = shared.store.now().await?;
    let until = now.after(Duration::from_millis(limited.retry_after_ms.get()));
    let gates = shared.store.gates().await?;
    let known = gates.iter().find(|closed| closed.gate == gate);
    // Closed without an end is closed for longer than any time.
    let from = known.map_or(Some(now), |closed| closed.until.map(|known| known.max(now)));
    if from.is_none_or(|from| until.since(from) < WORTH_CLOSING) {
        return Ok(None);
    }
    let count =
        |count: Option<crawlwire_protocol::Count>| count.map_or("?".to_owned(), |count| count.get().to_string());
    let (left, limit) = (count(limited.remaining), count(limited.limit));
    let op = Op::CloseGate {
        gate,
        until: Some(until),
        reason: Some(format!("the host limits requests: {left} of {limit} left")),
        by: speaking.session.name.to_string(),
    };
    shared.commit(op).await.map(Some)
}
