use crawlwire_progress::{Committed, Op, Outcome};
use crawlwire_protocol::message::{Goodbye, Ping, Pong};
use crawlwire_protocol::{Envelope, WebAppMessage};

use super::handler;
use crate::context::Context;
use crate::handler::{Handled, Inbound, Processed};
use crate::peer::Closing;

handler!(OnGoodbye, Goodbye, on_goodbye);
handler!(OnPing, Ping, on_ping);
handler!(OnPong, Pong, on_pong);

/// The crawler leaves: it gets no more jobs, and what it holds is for somebody else, at once. The connection ends when that
/// is written.
async fn on_goodbye(context: &Context, _: &Inbound, goodbye: &Goodbye) -> Handled {
    let Some(session) = context.session.clone() else {
        return Handled::Done(Processed::done());
    };
    let reason = goodbye.reason.as_ref().map(|reason| reason.as_str());
    tracing::info!(session = %session.name, reason, "goodbye");
    session.set_slots(0);
    let shared = context.shared.clone();
    let mut returns = Vec::new();
    for (job, held) in session.all_held() {
        if held.ending {
            continue;
        }
        session.end(&job);
        let op = Op::Return {
            job: held.key,
            holder: session.holder(&held),
        };
        returns.push(shared.store.enqueue(op).await);
    }
    Handled::Pending(Box::pin(async move {
        for returned in returns {
            match returned.await.map(Committed::into_inner) {
                Ok(Outcome::Moved(fact)) => {
                    shared.publish_fact(fact);
                }
                Ok(outcome) => tracing::debug!(?outcome, "nothing to give back"),
                Err(error) => tracing::warn!(%error, "not given back; the lease will run out"),
            }
        }
        Processed {
            close: Some(Closing::Goodbye),
            ..Processed::done()
        }
    }))
}

async fn on_ping(_: &Context, _: &Inbound, ping: &Ping) -> Handled {
    let pong = Pong {
        nonce: ping.nonce.clone(),
    };
    Handled::Done(Processed::reply(Envelope::now(WebAppMessage::Pong(pong))))
}

/// That it said anything is all that was asked.
async fn on_pong(_: &Context, _: &Inbound, _: &Pong) -> Handled {
    Handled::Done(Processed::done())
}
