//! What a crawler is told of a job that is its own, for the first time or again.

use std::sync::Arc;

use crawlwire_progress::store::{Opened, OwnLease};
use crawlwire_progress::track::Tracker;
use crawlwire_progress::view::{JobSpec, JobView, ReadyJob};
use crawlwire_progress::{CredentialKey, Fact, Fence, JobKey, State, StoreError};
use crawlwire_protocol::limits::CURSOR_BYTES_MAX;
use crawlwire_protocol::message::{Counts, Feature, Hello, JobAssignment};
use crawlwire_protocol::{AccessToken, Count, Cursor, Envelope, FenceNo, JobId, Marks, WebAppMessage};
use futures_util::future::try_join_all;

use crate::hello::knows;
use crate::outgoing::send;
use crate::session::{Greeting, Session};
use crate::shared::Shared;

/// Leases that are looked up at a time for a crawler that does not know what it holds.
const LOOKED_UP_AT_ONCE: usize = 8;

/// Which lease of which attempt an assignment is for.
struct Run {
    fence: Fence,
    attempt: i32,
    resume: bool,
    kept: Kept,
}

/// What an earlier attempt has left behind for who goes on.
#[derive(Default)]
struct Kept {
    checkpoint: Option<Cursor>,
    counts: Option<Counts>,
}

/// Bytes of counts in an assignment, as JSON: as many as a checkpoint may have. More of them are left out, since the whole
/// line has to fit.
const COUNTS_BYTES_MAX: usize = CURSOR_BYTES_MAX;

fn envelope(public_id: &str, spec: &JobSpec, run: Run, access_token: AccessToken) -> Envelope<WebAppMessage> {
    let assignment = JobAssignment {
        job_id: public_id.to_owned(),
        job_type: spec.job_type,
        entity_id: spec.entity_id.clone(),
        namespace_path: spec.namespace_path.clone(),
        gitlab_host: spec.host.clone(),
        access_token,
        priority: spec.priority,
        resume: run.resume,
        checkpoint: run.kept.checkpoint,
        counts: run.kept.counts,
        attempt: u32::try_from(run.attempt).ok().map(Count::from),
    };
    Envelope {
        job_id: JobId::new(public_id),
        marks: Marks {
            fence: FenceNo::new(run.fence.0),
            ..Marks::default()
        },
        ..Envelope::now(WebAppMessage::JobAssignment(assignment))
    }
}

/// The assignment of a job that was just claimed. One that goes on gets the last checkpoint and counts along, where its
/// crawler understands that; when they cannot be read it goes on without.
pub(super) async fn first(
    shared: &Shared,
    session: &Session,
    job: &ReadyJob,
    fact: &Fact,
    token: AccessToken,
) -> Envelope<WebAppMessage> {
    let kept = if job.resume && session.greeting.as_ref().is_some_and(understands) {
        kept(shared, job.key).await.unwrap_or_else(|error| {
            tracing::warn!(job = job.public_id, %error, "checkpoint not read");
            Kept::default()
        })
    } else {
        Kept::default()
    };
    let run = Run {
        fence: fact.fence,
        attempt: fact.attempt + 1,
        resume: job.resume,
        kept,
    };
    envelope(&job.public_id, &job.spec, run, token)
}

fn understands(greeting: &Greeting) -> bool {
    greeting.features.contains(&Feature::Checkpoint)
}

async fn kept(shared: &Shared, job: JobKey) -> Result<Kept, StoreError> {
    let checkpoint = shared.store.checkpoint(job).await?.and_then(Cursor::new);
    let reported = shared.store.progress(job).await?;
    Ok(Kept {
        checkpoint,
        counts: reported.and_then(|tracker| counts(&tracker)),
    })
}

/// What was counted, in the crawler's own words; none when that is nothing, or too much for a line.
fn counts(tracker: &Tracker) -> Option<Counts> {
    let said = tracker.entities.iter().map(|entity| entity.said.clone());
    let counts = Counts::cut(said);
    if counts.is_empty() {
        return None;
    }
    let bytes = serde_json::to_vec(&counts).ok()?.len();
    (bytes <= COUNTS_BYTES_MAX).then_some(counts)
}

/// A lease of a crawler that does not know it: the assignment was lost, or the crawler forgot it.
pub(crate) struct Again {
    pub(crate) public_id: String,
    pub(crate) fence: Fence,
    /// The token that it gets, with its version.
    pub(crate) credential: Option<(CredentialKey, i64)>,
    message: Envelope<WebAppMessage>,
}

/// What a crawler that came back is to be told of: the leases of its session that it does not hold.
pub(crate) async fn again(
    shared: &Shared,
    opened: &Opened,
    hello: &Hello,
    greeting: &Greeting,
) -> Result<Vec<Again>, StoreError> {
    let unknown: Vec<_> = opened.leases.iter().filter(|lease| !knows(hello, lease)).collect();
    let mut again = Vec::with_capacity(unknown.len());
    for leases in unknown.chunks(LOOKED_UP_AT_ONCE) {
        let found: Vec<_> = leases.iter().map(|lease| once_more(shared, lease, greeting)).collect();
        again.extend(try_join_all(found).await?.into_iter().flatten());
    }
    Ok(again)
}

async fn once_more(shared: &Shared, lease: &OwnLease, greeting: &Greeting) -> Result<Option<Again>, StoreError> {
    let Some(view) = shared.store.job(&lease.public_id).await? else {
        return Ok(None);
    };
    let (token, credential) = token(shared, &view).await?;
    let running = lease.state == State::Running;
    let resume = running || view.resume;
    let run = Run {
        fence: lease.fence,
        attempt: lease.attempt + i32::from(!running),
        resume,
        kept: match resume && understands(greeting) {
            true => kept(shared, lease.key).await?,
            false => Kept::default(),
        },
    };
    Ok(Some(Again {
        public_id: lease.public_id.clone(),
        fence: lease.fence,
        credential,
        message: envelope(&lease.public_id, &view.spec, run, token),
    }))
}

/// The token of a job: empty for a job without, and where it cannot be read; then the crawler will ask for another.
async fn token(shared: &Shared, view: &JobView) -> Result<(AccessToken, Option<(CredentialKey, i64)>), StoreError> {
    let Some(key) = view.credential else {
        return Ok((AccessToken::new(""), None));
    };
    match shared.store.token(key).await {
        Ok(Some((token, version))) => Ok((token, Some((key, version)))),
        Ok(None) => Ok((AccessToken::new(""), Some((key, 0)))),
        Err(StoreError::Broken(reason)) => {
            tracing::error!(job = view.public_id, reason, "token not read");
            Ok((AccessToken::new(""), Some((key, 0))))
        }
        Err(error) => Err(error),
    }
}

/// Sends an assignment once more. When that fails the crawler comes back, or its lease runs out.
pub(crate) async fn send_again(shared: &Shared, session: &Arc<Session>, again: Again) {
    let Again { public_id, message, .. } = again;
    match send(shared, &session.peer, message).await {
        Ok(()) => tracing::info!(session = %session.name, job = public_id, "job assigned again"),
        Err(error) => tracing::warn!(session = %session.name, job = public_id, %error, "job not assigned again"),
    }
}
