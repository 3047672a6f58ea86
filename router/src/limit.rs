//! How much a peer may say in a time.

use std::num::NonZeroU32;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crawlwire_progress::store::BoxFuture;
use crawlwire_protocol::{Category, CrawlerKind, Decoded, Message, Severity};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::handler::{Inbound, Processed};
use crate::middleware::{Middleware, Verdict};
use crate::peer::{Closing, Peer};

/// What one connection may say of one type. Off when `per_second` is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// Messages a second, in the long run.
    pub per_second: u32,
    /// Messages that may come at once before that holds; at least 1.
    pub burst: u32,
}

/// Messages by type; those of types that we do not know share a bucket, so there are as many as types.
type Limiter = DefaultKeyedRateLimiter<Option<CrawlerKind>>;

/// What a connection may still say.
#[derive(Default)]
pub(crate) struct Buckets {
    /// Made at the first message, if there is a limit.
    limiter: OnceLock<Limiter>,
    /// Messages refused in a row.
    refused: AtomicU32,
}

/// Holds peers to their rate: those of the session dialect are told when to try again, the reading of others waits. Since a
/// connection's messages are taken one after the other, such a peer feels it.
#[derive(Debug)]
pub(crate) struct Limit {
    quota: Quota,
    burst: u32,
}

impl Limit {
    /// None when there is no limit.
    pub(crate) fn new(limit: RateLimit) -> Option<Self> {
        let per_second = NonZeroU32::new(limit.per_second)?;
        let burst = NonZeroU32::new(limit.burst).unwrap_or(NonZeroU32::MIN);
        Some(Self {
            quota: Quota::per_second(per_second).allow_burst(burst),
            burst: burst.get(),
        })
    }

    /// How long the peer must wait before it may say this; none when it may say it now.
    fn wait(&self, peer: &Peer, kind: Option<CrawlerKind>) -> Option<Duration> {
        let limiter = peer.buckets.limiter.get_or_init(|| RateLimiter::keyed(self.quota));
        let refused = limiter.check_key(&kind).err()?;
        Some(refused.wait_time_from(DefaultClock::default().now()))
    }

    fn refuse(&self, peer: &Peer, wait: Duration) -> Processed {
        let in_a_row = peer.buckets.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let kind = (Category::RateLimiting, Severity::Low);
        let why = "more messages of this type than may come in this time";
        let mut refused = Processed::refused("rate_limited", kind, why).retry_after(wait);
        refused.close = (in_a_row > self.burst).then_some(Closing::RateLimited);
        refused
    }
}

impl Middleware for Limit {
    fn name(&self) -> &str {
        "rate limit"
    }

    /// Behind the one that knows what a peer may say at all.
    fn priority(&self) -> i32 {
        i32::MAX - 1
    }

    fn before_process<'a>(&'a self, peer: &'a Peer, message: Inbound) -> BoxFuture<'a, Verdict<Inbound>> {
        Box::pin(async move {
            let kind = match &message {
                Decoded::Known(envelope) => Some(envelope.message.kind()),
                Decoded::Custom(_) => None,
            };
            while let Some(wait) = self.wait(peer, kind) {
                if peer.speaks_session() {
                    return Verdict::Fail(Box::new(self.refuse(peer, wait)));
                }
                tokio::time::sleep(wait).await;
            }
            peer.buckets.refused.store(0, Ordering::Relaxed);
            Verdict::Pass(message)
        })
    }
}
