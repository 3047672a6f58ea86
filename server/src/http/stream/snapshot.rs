//! What is true at a moment, for whoever begins to view.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crawlwire_progress::StoreError;
use crawlwire_progress::store::{JobFilter, Paging};
use crawlwire_progress::view::JobView;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::filter::{Filter, Scope};
use super::frame::{About, Draft, Frame, Kind};
use crate::http::jobs::with_progress;
use crate::http::problem::Problem;
use crate::http::{Api, crawlers, json, statistics};

/// So long a snapshot serves others who want the same: what happened since is told to them after it.
const SHARED_FOR: Duration = Duration::from_millis(250);

/// Different snapshots that are kept for others. Each is a few megabytes at most.
const SHARED_MAX: usize = 4;

/// Jobs in a snapshot unless asked otherwise, and at most.
pub(super) const JOBS_MAX: usize = 500;

/// Crawlers in a snapshot. As many as a page of their list has.
const CRAWLERS_MAX: usize = 500;

/// The snapshots of a moment ago.
#[derive(Debug, Default)]
pub(super) struct Shared(HashMap<(Scope, usize), (Instant, Arc<Frame>)>);

impl Shared {
    pub(super) fn get(&mut self, filter: &Filter, now: Instant) -> Option<Arc<Frame>> {
        self.0.retain(|_, (taken, _)| now < *taken + SHARED_FOR);
        let (_, frame) = self.0.get(&(filter.scope.clone(), filter.jobs))?;
        Some(frame.clone())
    }

    pub(super) fn keep(&mut self, filter: &Filter, frame: Arc<Frame>, now: Instant) {
        if self.0.len() >= SHARED_MAX {
            self.0.clear();
        }
        self.0.insert((filter.scope.clone(), filter.jobs), (now, frame));
    }
}

/// Takes a snapshot, with what all jobs are together. Gives the jobs in it, too.
pub(super) async fn take(api: &Api, filter: &Filter, aggregate: &Value) -> Result<(Arc<Frame>, Vec<JobView>), Problem> {
    let (version, id) = {
        let room = api.hub.room();
        (room.version(), room.id(room.version()))
    };
    let jobs = jobs(api, filter).await?;
    let shown = with_progress(api, &jobs).await?;
    let data = json!({
        "version": id,
        "jobs": shown,
        "counts": counts(api).await?,
        "aggregate": aggregate,
        "statistics": statistics::read(api).await?,
        "crawlers": crawlers::all(api, CRAWLERS_MAX),
        "at": json::now(),
    });
    let draft = Draft {
        kind: Kind::Snapshot,
        about: About::All,
        of: None,
        data: data.to_string(),
    };
    Ok((Arc::new(api.hub.room().framed(version, draft)), jobs))
}

/// The newest jobs that a viewer looks at; of a tree also its top, which is the oldest of all.
async fn jobs(api: &Api, filter: &Filter) -> Result<Vec<JobView>, StoreError> {
    if filter.jobs == 0 {
        return Ok(Vec::new());
    }
    let mut of = JobFilter::default();
    match &filter.scope {
        Scope::Job { id, .. } => return Ok(api.store.job(id).await?.into_iter().collect()),
        Scope::All => {}
        Scope::Account(name) => of.account_id = Some(name.clone()),
        Scope::Tree { root, .. } => of.root = Some(*root),
    }
    let paging = Paging {
        limit: filter.jobs,
        after: None,
    };
    let page = api.store.jobs(of, paging).await?;
    let mut jobs = page.items;
    if let (Some(_), Scope::Tree { root_id, .. }) = (page.next, &filter.scope)
        && let Some(root) = api.store.job(root_id).await?
        && jobs.last().is_some_and(|last| last.key != root.key)
    {
        jobs.pop();
        jobs.push(root);
    }
    Ok(jobs)
}

/// How many jobs there are in each state, of all jobs.
async fn counts(api: &Api) -> Result<Value, StoreError> {
    let counts = api.store.counts().await?;
    Ok(Value::Object(statistics::by_state(&counts).collect::<Map<_, _>>()))
}
