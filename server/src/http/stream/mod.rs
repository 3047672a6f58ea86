//! The live stream: what is true at a moment, and from then on everything that happens, over server-sent events or a
//! WebSocket.
//!
//! | module | holds |
//! |---|---|
//! | hub | who listens, the gathering of what happens, heartbeats |
//! | changed | what happened since the last round. Bounded |
//! | teller | the rounds: reads what changed, and makes frames of it; snapshots between them |
//! | look, moment, snapshot | what frames say |
//! | elsewhere | what other servers did |
//! | places | which tree and account a job belongs to |
//! | frame, frames, filter, room | frames, their order, whom they concern, and what waits for whom: pure |
//! | viewer, ws | one viewer, and how it is reached |

mod changed;
mod elsewhere;
mod filter;
mod frame;
mod frames;
mod hub;
mod look;
mod moment;
mod places;
mod room;
mod snapshot;
mod teller;
mod viewer;
mod ws;

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
use futures_util::{StreamExt, stream};

use self::filter::{Filter, Kinds, Scope};
use self::frame::{Frame, Kind};
pub(crate) use self::hub::Hub;
use self::viewer::Viewer;
use super::Api;
use super::jobs::find;
use super::list::Parameters;
use super::problem::Problem;

/// Bytes that are handed over at a time, as long as no single event is larger. Each costs a call of the system, and a copy.
const CHUNK_BYTES: usize = 32 * 1024;

/// How long a browser waits before it connects again, in milliseconds: short, since it goes on where it was.
const RETRY: &str = "retry: 2000\n\n";

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/stream", routing::get(events))
        .route("/ws", routing::get(ws::upgrade))
}

/// What a request wants to see, by the names that it gives.
struct Asked {
    scope: Named,
    kinds: Kinds,
    jobs: usize,
    last_seen: Option<String>,
}

enum Named {
    All,
    Account(String),
    Tree(String),
    Job(String),
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut query = Parameters::read(parts, state).await?;
        let scopes = [
            query.text("job").map(Named::Job),
            query.text("tree").map(Named::Tree),
            query.text("account_id").map(Named::Account),
        ];
        let mut scopes = scopes.into_iter().flatten();
        let scope = scopes.next().unwrap_or(Named::All);
        if scopes.next().is_some() {
            query.refuse("job", "expected one of job, tree and account_id at most");
        }
        let kinds = query.words("type", &Kind::ALL.map(|kind| (kind.as_str(), kind)));
        let kinds = if kinds.is_empty() { Kinds::ALL } else { Kinds::of(kinds) };
        let jobs = match query.take("jobs").map(|text| text.parse()) {
            None => snapshot::JOBS_MAX,
            Some(Ok(jobs)) if jobs <= snapshot::JOBS_MAX => jobs,
            Some(_) => {
                query.refuse("jobs", format!("expected a number from 0 to {}", snapshot::JOBS_MAX));
                0
            }
        };
        // A browser that comes back sends the header, and the address that it was given first.
        let asked = query.take("last_event_id");
        let sent = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let last_seen = sent.filter(|id| !id.is_empty()).map(str::to_owned).or(asked);
        query.finish(Self {
            scope,
            kinds,
            jobs,
            last_seen,
        })
    }
}

impl Asked {
    /// The jobs that are meant, if they are there.
    async fn filter(&self, api: &Api) -> Result<Filter, Problem> {
        let scope = match &self.scope {
            Named::All => Scope::All,
            // An account that has no job yet may have one soon.
            Named::Account(name) => Scope::Account(name.clone()),
            Named::Job(id) => {
                let job = find(api, id).await?;
                Scope::Job {
                    key: job.key,
                    id: job.public_id,
                }
            }
            Named::Tree(id) => {
                let mut job = find(api, id).await?;
                if job.depth > 0 {
                    job = find(api, &job.root_id).await?;
                }
                Scope::Tree {
                    root: job.key,
                    root_id: job.public_id,
                }
            }
        };
        Ok(Filter {
            scope,
            kinds: self.kinds,
            jobs: self.jobs,
        })
    }

    async fn join(&self, api: Api) -> Result<Viewer, Problem> {
        let filter = self.filter(&api).await?;
        Viewer::join(api, filter, self.last_seen.as_deref())
    }
}

async fn events(State(api): State<Api>, asked: Asked) -> Result<Response, Problem> {
    let viewer = asked.join(api).await?;
    let frames = viewer.frames().flat_map(|frames| stream::iter(chunks(&frames)));
    let first = stream::iter([Bytes::from_static(RETRY.as_bytes())]);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        // A proxy that gathers would hold events back; this is what those that do look for.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let body = Body::from_stream(first.chain(frames).map(Ok::<_, Infallible>));
    Ok((headers, body).into_response())
}

/// Events as they are sent, some together.
fn chunks(frames: &[Arc<Frame>]) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    let mut rest = frames;
    while let [first, ..] = rest {
        let mut bytes = 0;
        let fits = |frame: &&Arc<Frame>| {
            bytes += frame.bytes();
            bytes <= CHUNK_BYTES
        };
        let count = rest.iter().take_while(fits).count();
        let (together, others) = rest.split_at(count.max(1));
        chunks.push(match together {
            // Shared between viewers as it is.
            [_] => first.sse.clone(),
            several => several.iter().flat_map(|frame| frame.sse.iter().copied()).collect(),
        });
        rest = others;
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::frame::{About, Draft};
    use super::*;

    #[test]
    fn events_are_sent_together_but_for_large_ones() {
        let frame = |n: usize, bytes: usize| {
            let draft = Draft {
                kind: Kind::Heartbeat,
                about: About::All,
                of: None,
                data: "x".repeat(bytes),
            };
            Arc::new(Frame::new("run", n as u64, draft))
        };
        let sizes = [10, 10, CHUNK_BYTES, 10, CHUNK_BYTES / 2, CHUNK_BYTES / 2, 10];
        let frames: Vec<_> = sizes.iter().enumerate().map(|(n, bytes)| frame(n, *bytes)).collect();
        let chunks = chunks(&frames);
        assert_eq!(chunks.len(), 4);
        let all: Vec<u8> = frames.iter().flat_map(|frame| frame.sse.to_vec()).collect();
        assert_eq!(chunks.concat(), all);
        assert!(super::chunks(&[]).is_empty());
    }
}
