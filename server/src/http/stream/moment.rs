//! What happened to the work of a job at a moment.

use crawlwire_progress::JobKey;
use crawlwire_router::Event;
use serde_json::{Value, json};

use super::frame::Kind;
use crate::http::{json, tracked};

/// The job that an event is about.
pub(super) fn job(event: &Event) -> Option<JobKey> {
    Some(match event {
        Event::PhaseChanged { job, .. }
        | Event::EntityDiscovered { job, .. }
        | Event::EntityCompleted { job, .. }
        | Event::Milestone { job, .. }
        | Event::Stalled { job, .. }
        | Event::EstimateUpdated { job, .. } => *job,
        Event::TreeMilestone(passed) => passed.root,
        _ => return None,
    })
}

/// What is told of it.
pub(super) fn told(event: Event) -> Option<(Kind, Value)> {
    Some(match event {
        Event::PhaseChanged {
            public_id, from, to, ..
        } => (
            Kind::State,
            json!({ "job_id": public_id, "from": from.as_str(), "to": to.as_str() }),
        ),
        Event::EntityDiscovered { public_id, entity, .. } => (
            Kind::EntityDiscovered,
            json!({ "job_id": public_id, "entity": tracked::name(&entity) }),
        ),
        Event::EntityCompleted { public_id, entity, .. } => (
            Kind::EntityCompleted,
            json!({ "job_id": public_id, "entity": tracked::name(&entity) }),
        ),
        Event::Milestone {
            public_id, milestone, ..
        } => {
            let mut data = tracked::milestone(&milestone);
            data["job_id"] = public_id.into();
            (Kind::Milestone, data)
        }
        Event::TreeMilestone(passed) => (
            Kind::TreeMilestone,
            json!({ "root_id": passed.root_id, "percent": passed.percent, "at": json::time(passed.at) }),
        ),
        Event::Stalled { public_id, .. } => (Kind::Stalled, json!({ "job_id": public_id })),
        Event::EstimateUpdated { public_id, eta, at, .. } => (
            Kind::Estimate,
            json!({ "job_id": public_id, "eta": tracked::eta(eta, at) }),
        ),
        _ => return None,
    })
}
