use crawlwire_protocol::message::{TokenRefreshRequest, TokenRefreshResponse};
use crawlwire_protocol::{AccessToken, Envelope, WebAppMessage};

use super::{handler, speaking};
use crate::context::Context;
use crate::handler::{Handled, Inbound, Processed};

handler!(OnRefreshRequest, TokenRefreshRequest, on_refresh_request);

/// Answers with the account's token when there is a newer one than the crawler got, and with a refusal when not.
async fn on_refresh_request(context: &Context, message: &Inbound, _: &TokenRefreshRequest) -> Handled {
    let speaking = match speaking(context, message).await {
        Ok(speaking) => speaking,
        Err(refused) => return refused,
    };
    let newer = match speaking.held.credential {
        None => None,
        Some((key, version)) => match context.shared.store.token(key).await {
            Ok(found) => found
                .filter(|(_, newest)| *newest > version)
                .map(|(token, newest)| (key, token, newest)),
            Err(error) => {
                tracing::warn!(%error, job = speaking.job.as_str(), "token not read");
                None
            }
        },
    };
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
    let envelope = Envelope::for_job(speaking.job, WebAppMessage::TokenRefreshResponse(response));
    Handled::Done(Processed::reply(envelope))
}
