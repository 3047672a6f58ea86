use crawlwire_progress::Op;
use crawlwire_protocol::message::Checkpoint;

use super::{forward, give, handler, implied_start, speaking};
use crate::context::Context;
use crate::handler::{Handled, Inbound};

handler!(OnCheckpoint, Checkpoint, on_checkpoint);

/// Keeps where the job can be taken up again. Whoever says so has begun.
async fn on_checkpoint(context: &Context, message: &Inbound, checkpoint: &Checkpoint) -> Handled {
    let speaking = match speaking(context, message).await {
        Ok(speaking) => speaking,
        Err(refused) => return refused,
    };
    let mut ops = Vec::from_iter(implied_start(&speaking));
    ops.push(Op::Checkpoint {
        job: speaking.held.key,
        holder: speaking.session.holder(&speaking.held),
        cursor: checkpoint.cursor.as_str().to_owned(),
    });
    forward(context, &speaking);
    let given = give(context, ops, &speaking).await;
    // Whoever goes on from here later is to see the counts that belong to it.
    context.shared.write_soon(speaking.held.key);
    given
}
