use crawlwire_protocol::message::Heartbeat;

use super::handler;
use crate::context::Context;
use crate::handler::{Handled, Inbound, Processed};

handler!(OnHeartbeat, Heartbeat, on_heartbeat);

/// Remembers what the crawler says of itself. That it said anything has renewed its lease already.
async fn on_heartbeat(context: &Context, _: &Inbound, heartbeat: &Heartbeat) -> Handled {
    if let Some(session) = &context.session {
        session.note_heartbeat(heartbeat);
    }
    Handled::Done(Processed::done())
}
