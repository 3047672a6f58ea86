use crawlwire_progress::Op;
use crawlwire_progress::store::Found;
use crawlwire_protocol::message::{DiscoveredJob, JobsDiscovered};
use uuid::Uuid;

use super::{forward, give, handler, implied_start, speaking};
use crate::context::Context;
use crate::handler::{Handled, Inbound};

handler!(OnDiscovered, JobsDiscovered, on_discovered);

/// Turns found items into children; each has a name from here on, in case it becomes a job.
async fn on_discovered(context: &Context, message: &Inbound, discovered: &JobsDiscovered) -> Handled {
    let speaking = match speaking(context, message).await {
        Ok(speaking) => speaking,
        Err(refused) => return refused,
    };
    let mut ops = Vec::from_iter(implied_start(&speaking));
    let items = discovered
        .discovered_jobs
        .iter()
        .map(|item| Found {
            public_id: Uuid::now_v7().to_string(),
            item: storable(item),
            weight: context.shared.weights.of_found(item),
        })
        .collect();
    ops.push(Op::Discover {
        parent: speaking.held.key,
        holder: speaking.session.holder(&speaking.held),
        items,
    });
    forward(context, &speaking);
    give(context, ops, &speaking).await
}

/// PostgreSQL keeps no NUL in a text. Other databases are not treated otherwise, so that a crawl is the same everywhere.
fn storable(item: &DiscoveredJob) -> DiscoveredJob {
    let mut item = item.clone();
    for text in [&mut item.entity_id, &mut item.namespace_path, &mut item.entity_name] {
        if text.contains('\0') {
            *text = text.replace('\0', "\u{fffd}");
        }
    }
    item
}
