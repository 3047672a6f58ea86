//! One viewer: what it is sent, in order.

use std::sync::Arc;

use futures_util::Stream;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::filter::Filter;
use super::frame::{About, Draft, Frame, Kind};
use super::room::{Reason, Taken, VIEWERS_MAX, ViewerKey};
use crate::http::Api;
use crate::http::problem::Problem;

const VIEWERS_RETRY_SECONDS: u64 = 10;

/// A viewer with a place. Dropped, it gives it back.
pub(super) struct Viewer {
    api: Api,
    key: ViewerKey,
    filter: Filter,
    wake: Arc<Notify>,
    /// The number of what it was sent last; 0 before anything.
    last: u64,
}

impl Viewer {
    /// Takes a place. What happens after that comes to it.
    pub(super) fn join(api: Api, filter: Filter, last_seen: Option<&str>) -> Result<Self, Problem> {
        let joined = api.hub.room().join(filter.clone(), last_seen, Instant::now());
        match joined {
            Some((key, wake)) => Ok(Self {
                api,
                key,
                filter,
                wake,
                last: 0,
            }),
            None => {
                let detail = format!("{VIEWERS_MAX} viewers watch already. Close a page, or try again later.");
                Err(Problem::too_many("too_many_viewers", detail, VIEWERS_RETRY_SECONDS))
            }
        }
    }

    /// All that it is sent, some at a time, until the server stops or the database is away. Whoever takes the next ones is
    /// through with those before.
    pub(super) fn frames(self) -> impl Stream<Item = Vec<Arc<Frame>>> + Send {
        futures_util::stream::unfold(self, |mut viewer| async move {
            let frames = viewer.next().await?;
            Some((frames, viewer))
        })
    }

    async fn next(&mut self) -> Option<Vec<Arc<Frame>>> {
        let stop = self.api.stop.clone();
        loop {
            if stop.is_cancelled() {
                return None;
            }
            let taken = self.api.hub.room().take(self.key, Instant::now());
            let frames = match taken {
                Taken::Gone => return None,
                Taken::Frames(frames) => frames,
                // When the database is away a page says so by itself: it tries to connect again.
                Taken::Due(reason) => self.anew(reason).await?,
            };
            if let Some(newest) = frames.last() {
                self.last = newest.n;
                return Some(frames);
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = self.wake.notified() => {}
            }
        }
    }

    /// A snapshot; and before it why the viewer begins anew, if it had begun.
    async fn anew(&self, reason: Option<Reason>) -> Option<Vec<Arc<Frame>>> {
        let snapshot = tokio::select! {
            () = self.api.stop.cancelled() => None,
            snapshot = self.api.hub.snapshot(self.key, &self.filter) => snapshot,
        }?;
        let resync = reason.map(|reason| {
            let draft = Draft {
                kind: Kind::Resync,
                about: About::All,
                of: None,
                data: json!({ "reason": reason.as_str() }).to_string(),
            };
            // It stands where it stood: whoever is cut off now goes on from there.
            Arc::new(self.api.hub.room().framed(self.last, draft))
        });
        Some(resync.into_iter().chain([snapshot]).collect())
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.api.hub.room().leave(self.key);
    }
}
