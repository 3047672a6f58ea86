use crawlwire_progress::{CredentialKey, StoreError};
use crawlwire_protocol::message::{TokenRefreshRequest, TokenRefreshResponse};
use crawlwire_protocol::{AccessToken, Envelope, FenceNo, Marks, WebAppMessage};

use super::{Speaking, handler, speaking};
use crate::context::Context;
use crate::handler::{Handled, Inbound, Processed, marks};

handler!(OnRefreshRequest, TokenRefreshRequest, on_refresh_request);

/// Answers with the account's token when there is a newer one than the crawler got, and with a refusal when not.
async fn on_refresh_request(context: &Context, message: &Inbound, _: &TokenRefreshRequest) -> Handled {
    let speaking = match speaking(context, message).await {
        Ok(speaking) => speaking,
        Err(refused) => return refused,
    };
    let newer = newer_token(context, &speaking).await.unwrap_or_else(|error| {
        tracing::warn!(%error, job = speaking.job.as_str(), "token not read");
        None
    });
    let refresh_successful = newer.is_some();
    let access_token = match newer {
        Some((key, token, version)) => {
            let update = |held: &mut crate::session::Held| held.credential = Some((key, version));
            speaking
                .session
                .update(speaking.job.as_str(), speaking.held.fence, update);
            token
        }
        None => AccessToken::new(""),
    };
    let response = TokenRefreshResponse {
        access_token,
        expires_at: None,
        refresh_successful,
    };
    let envelope = Envelope {
        marks: Marks {
            fence: FenceNo::new(speaking.held.fence.0),
            n: marks(message).n,
            seq: None,
        },
        ..Envelope::for_job(speaking.job, WebAppMessage::TokenRefreshResponse(response))
    };
    Handled::Done(Processed::reply(envelope))
}

/// The account's token, if it is newer than the one the crawler got. Of a job that was taken over nobody knows which one
/// that was, so any counts as newer.
async fn newer_token(
    context: &Context,
    speaking: &Speaking,
) -> Result<Option<(CredentialKey, AccessToken, i64)>, StoreError> {
    let store = &context.shared.store;
    let (key, version) = match speaking.held.credential {
        Some(known) => known,
        None => match store.job(speaking.job.as_str()).await?.and_then(|view| view.credential) {
            Some(key) => (key, 0),
            None => return Ok(None),
        },
    };
    let found = store
        .token(key)
        .await?
        .filter(|(token, newest)| *newest > version && !token.is_empty());
    Ok(found.map(|(token, newest)| (key, token, newest)))
}
