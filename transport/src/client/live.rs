//! What is known of the present connection.

use std::time::Duration;

use crawlwire_protocol::message::{Feature, Nonce, Welcome};
use crawlwire_protocol::{Dialect, limits};
use tokio::time::Instant;

use super::link::Output;
use super::options::ClientOptions;

/// The shortest interval that is believed of a server: below it a crawler would only talk about being alive.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Bytes that may be on their way to a server of the base protocol; nothing is known of it but its largest line.
const BASE_BYTES_IN_FLIGHT: usize = 64 * 1024;

/// The present connection, from the moment its dialect is known.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) dialect: Dialect,
    pub(super) checkpoints: bool,
    /// Where both sides may pack lines.
    #[cfg(feature = "zstd")]
    pub(super) packing: Option<super::packing::Packing>,
    pub(super) message_bytes_max: usize,
    pub(super) in_flight_max: usize,
    pub(super) in_flight_bytes_max: usize,
    pub(super) heartbeat_interval: Duration,
    /// How long the server may be silent. A server of the base protocol may be silent for ever.
    pub(super) silence_max: Option<Duration>,
    pub(super) progress_interval: Duration,
    pub(super) next_heartbeat: Instant,
    pub(super) heard: Instant,
    pub(super) pinged: Option<Instant>,
    /// An unanswered ping, with what it said.
    pub(super) pong: Option<Option<Nonce>>,
    pub(super) slots_told: u16,
    pub(super) refreshes: u64,
    /// Nothing lasting is sent before this time.
    pub(super) resume_at: Option<Instant>,
    /// The number that was refused for now, until it is settled.
    pub(super) went_back_to: Option<u64>,
    /// Lines after that number that were on their way and will be refused for it too.
    pub(super) stale_answers: usize,
    /// Since when lasting messages are on their way without any being settled.
    pub(super) waiting_since: Option<Instant>,
    /// They were sent once more because of that.
    pub(super) sent_again: bool,
    /// When to go and come back.
    pub(super) leave_at: Option<Instant>,
    pub(super) goodbye_said: bool,
}

impl Live {
    fn new(dialect: Dialect, options: &ClientOptions, now: Instant) -> Self {
        Self {
            dialect,
            checkpoints: false,
            #[cfg(feature = "zstd")]
            packing: None,
            message_bytes_max: limits::LINE_BYTES_MAX_DEFAULT,
            in_flight_max: usize::MAX,
            in_flight_bytes_max: BASE_BYTES_IN_FLIGHT,
            heartbeat_interval: options.base_heartbeat,
            silence_max: None,
            progress_interval: options.base_progress,
            next_heartbeat: now,
            heard: now,
            pinged: None,
            pong: None,
            slots_told: options.slots,
            refreshes: 0,
            resume_at: None,
            went_back_to: None,
            stale_answers: 0,
            waiting_since: None,
            sent_again: false,
            leave_at: None,
            goodbye_said: false,
        }
    }

    /// A connection that speaks the base protocol. Its first words are a heartbeat: who says nothing gets no work.
    pub(super) fn base(options: &ClientOptions, now: Instant) -> Self {
        Self::new(Dialect::Base, options, now)
    }

    /// A session on the terms of its welcome.
    pub(super) fn session(welcome: &Welcome, slots_told: u16, options: &ClientOptions, now: Instant) -> Self {
        let size = |count: crawlwire_protocol::Count| usize::try_from(count.get()).unwrap_or(usize::MAX).max(1);
        let interval = welcome.heartbeat_interval_ms.as_duration().max(INTERVAL_MIN);
        let has = |feature: Feature| welcome.features.iter().any(|name| name.as_str() == feature.as_str());
        Self {
            checkpoints: has(Feature::Checkpoint),
            #[cfg(feature = "zstd")]
            packing: (has(Feature::Zstd) && options.compression).then(super::packing::Packing::default),
            message_bytes_max: size(welcome.max_message_size_bytes),
            in_flight_max: size(welcome.max_in_flight),
            in_flight_bytes_max: size(welcome.max_in_flight_bytes),
            heartbeat_interval: interval,
            silence_max: Some(welcome.heartbeat_timeout_ms.as_duration().max(interval * 2)),
            progress_interval: welcome.report_policy.progress_interval_ms.as_duration(),
            next_heartbeat: now + interval,
            slots_told,
            ..Self::new(Dialect::Session, options, now)
        }
    }

    /// Adds a lasting line, packed where both sides can and it is worth it. Says where it ends.
    pub(super) fn push(&mut self, output: &mut Output, line: &[u8]) -> u64 {
        #[cfg(feature = "zstd")]
        if let Some(packed) = self.packing.as_mut().and_then(|packing| packing.pack(line)) {
            return output.push(&packed);
        }
        output.push(line)
    }

    /// Numbers up to this one are settled.
    pub(super) fn settled(&mut self, seq: u64, now: Instant) {
        self.waiting_since = Some(now);
        self.sent_again = false;
        if self.went_back_to.is_some_and(|back| seq >= back) {
            // Answers come in order: those to what was on its way before have all come.
            self.went_back_to = None;
            self.stale_answers = 0;
        }
    }

    /// When a silent server is asked whether it is there.
    pub(super) fn ping_due(&self) -> Option<Instant> {
        self.silence_max?;
        Some(self.pinged.unwrap_or(self.heard).max(self.heard) + self.heartbeat_interval)
    }

    /// When a silent server is given up.
    pub(super) fn silent_at(&self) -> Option<Instant> {
        self.silence_max.map(|silence| self.heard + silence)
    }
}
