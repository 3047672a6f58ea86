//! How much a peer may say in a time.

use std::num::NonZeroU32;
use std::sync::OnceLock;
use std::time::Duration;

use crawlwire_progress::store::BoxFuture;
use crawlwire_protocol::{Category, CrawlerKind, Decoded, Message, Severity};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::code;
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

/// Refusals in a second for each message that may come in one, before a connection is closed. Who waits as long as it is
/// told is refused about once for each message that passes.
const REFUSALS: NonZeroU32 = NonZeroU32::new(2).unwrap();

/// What a connection may still say.
#[derive(Default)]
pub(crate) struct Buckets {
    /// Made at the first message, if there is a limit.
    limiter: OnceLock<Limiter>,
    /// What is forgiven, made at the first refusal. Counted by time and not in a row: in a flood, too, a message passes now
    /// and then.
    patience: OnceLock<DefaultDirectRateLimiter>,
}

/// Holds peers to their rate: those of the session dialect are told when to try again, the reading of others waits. Since a
/// connection's messages are taken one after the other, such a peer feels it.
#[derive(Debug)]
pub(crate) struct Limit {
    quota: Quota,
    patience: Quota,
}

impl Limit {
    /// None when there is no limit.
    pub(crate) fn new(limit: RateLimit) -> Option<Self> {
        let per_second = NonZeroU32::new(limit.per_second)?;
        let burst = NonZeroU32::new(limit.burst).unwrap_or(NonZeroU32::MIN);
        Some(Self {
            quota: Quota::per_second(per_second).allow_burst(burst),
            patience: Quota::per_second(per_second.saturating_mul(REFUSALS)).allow_burst(burst),
        })
    }

    /// How long the peer must wait before it may say this; none when it may say it now.
    fn wait(&self, peer: &Peer, kind: Option<CrawlerKind>) -> Option<Duration> {
        let limiter = peer.buckets.limiter.get_or_init(|| RateLimiter::keyed(self.quota));
        let refused = limiter.check_key(&kind).err()?;
        Some(refused.wait_time_from(DefaultClock::default().now()))
    }

    fn refuse(&self, peer: &Peer, wait: Duration) -> Processed {
        let patience = peer.buckets.patience.get_or_init(|| RateLimiter::direct(self.patience));
        let kind = (Category::RateLimiting, Severity::Low);
        let why = "more messages of this type than may come in this time";
        let mut refused = Processed::refused(code::RATE_LIMITED, kind, why).retry_after(wait);
        refused.close = patience.check().is_err().then_some(Closing::RateLimited);
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
            Verdict::Pass(message)
        })
    }
}
