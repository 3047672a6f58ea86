//! Acting on the lines of the server.

use std::time::Duration;

use crawlwire_protocol::message::{Draining, ErrorReply, NOT_YOURS, ServerGoodbye, Shutdown, TokenRefreshResponse};
use crawlwire_protocol::{
    CrawlerMessage, Decoded, Dialect, Envelope, FenceNo, JobId, Marks, Message as _, WebAppMessage, decode,
};
use tokio::time::Instant;

use super::error::{Closed, RefreshError, Refusal};
use super::held::{StopReason, Wish};
use super::outbox::Kind;
use super::state::State;
use super::words::End;

/// After a base server announced that it goes: it needs a moment to go, and longer to come back.
const AFTER_SHUTDOWN: Duration = Duration::from_secs(1);

/// Why a connection is left.
#[derive(Debug)]
pub(super) enum Left {
    /// It broke, or makes no sense any more. Dial again.
    Lost(String),
    /// The server said when to come back.
    Asked,
    /// The server and this instance do not fit together any more, and why. Begin as another one.
    NewInstance(&'static str),
    /// A server taken for a base server said a word of the extension: greet it.
    SpeaksSessions,
    /// That was all.
    Finished,
    /// The client ends.
    Closed(Closed),
}

impl State {
    /// Acts on a line. Says whether the connection is to be left at once.
    pub(super) fn hear(&mut self, line: &[u8], now: Instant) -> Option<Left> {
        if let Some(live) = &mut self.live {
            live.heard = now;
        }
        let envelope = read(line, self.dialect())?;
        #[cfg(feature = "zstd")]
        if let WebAppMessage::Compressed(packed) = &envelope.message {
            let packing = self.live.as_mut().and_then(|live| live.packing.as_mut());
            let line = packing?.unpack(packed, self.options.max_line_bytes)?;
            let envelope = read(&line, Dialect::Session)?;
            return self.act(envelope, now);
        }
        self.act(envelope, now)
    }

    fn act(&mut self, envelope: Envelope<WebAppMessage>, now: Instant) -> Option<Left> {
        let dialect = self.dialect();
        let Envelope {
            job_id, marks, message, ..
        } = envelope;
        if dialect == Dialect::Base && WebAppMessage::is_extension(message.kind()) {
            return Some(Left::SpeaksSessions);
        }
        match message {
            WebAppMessage::JobAssignment(assignment) => {
                let fence = marks.fence.filter(|_| dialect == Dialect::Session);
                self.assign(fence, assignment);
                None
            }
            WebAppMessage::TokenRefreshResponse(response) => {
                self.refreshed(job_id, marks, response);
                None
            }
            WebAppMessage::Shutdown(shutdown) => self.server_shuts_down(&shutdown, now),
            message => self.hear_session(job_id, marks, message, now),
        }
    }

    /// Words that only a session has.
    fn hear_session(&mut self, job: Option<JobId>, marks: Marks, message: WebAppMessage, now: Instant) -> Option<Left> {
        match message {
            // A number that was never given cannot be settled.
            WebAppMessage::Ack(ack) => self.settle(ack.seq.get().min(self.next_seq - 1), now),
            WebAppMessage::Error(error) => return self.refused(job, &error, now),
            WebAppMessage::JobCancel(cancel) => {
                let is_over = cancel.reason.is_some_and(|reason| reason.as_str() == NOT_YOURS);
                if is_over {
                    self.not_ours(job, marks.fence);
                } else {
                    self.wished(job, marks.fence, Wish::Cancel);
                }
            }
            WebAppMessage::JobPause(_) => self.wished(job, marks.fence, Wish::Pause),
            WebAppMessage::JobResume(_) => self.wish_taken_back(job, marks.fence),
            WebAppMessage::ReportPolicy(policy) => {
                if let Some(live) = &mut self.live {
                    live.progress_interval = policy.progress_interval_ms.as_duration();
                }
            }
            WebAppMessage::Draining(draining) => self.server_drains(&draining, now),
            WebAppMessage::Goodbye(goodbye) => return Some(self.server_leaves(&goodbye, now)),
            WebAppMessage::Ping(ping) => {
                if let Some(live) = &mut self.live {
                    live.pong = Some(ping.nonce);
                }
            }
            // A pong was heard, which is all it is for. A second welcome changes nothing.
            _ => {}
        }
        None
    }

    /// The held job that a message of the server means. An older lease of it is none of our business any more.
    fn meant(&self, job: Option<JobId>, fence: Option<FenceNo>) -> Option<JobId> {
        job.filter(|id| self.held.get(id).is_some_and(|held| held.fence == fence))
    }

    fn not_ours(&mut self, job: Option<JobId>, fence: Option<FenceNo>) {
        // Also when its lease is an older one of the same job: then this one is over too.
        if let Some(id) = job
            && self.held.get(&id).is_some_and(|held| held.fence <= fence)
        {
            self.lose(&id);
        }
    }

    fn wished(&mut self, job: Option<JobId>, fence: Option<FenceNo>, wish: Wish) {
        let Some(id) = self.meant(job, fence) else { return };
        let Some(held) = self.held.get_mut(&id) else { return };
        held.wish = Some(wish);
        if held.ended {
            // A finish wins over a wish.
        } else if held.untaken.is_some() {
            self.end(&id, End::Stopped, None, None);
        } else {
            held.cell.stop(match wish {
                Wish::Cancel => StopReason::Cancel,
                Wish::Pause => StopReason::Pause,
            });
        }
    }

    /// The author's code may have stopped already; if it does, the job goes back to the queue.
    fn wish_taken_back(&mut self, job: Option<JobId>, fence: Option<FenceNo>) {
        let Some(id) = self.meant(job, fence) else { return };
        let Some(held) = self.held.get_mut(&id) else { return };
        if held.ended {
            return;
        }
        held.wish = None;
        let resumed = crawlwire_protocol::message::JobResumed {};
        self.say(
            &id,
            Kind::SessionReport,
            CrawlerMessage::JobResumed(resumed),
            None,
            None,
        );
    }

    fn refreshed(&mut self, job: Option<JobId>, marks: Marks, response: TokenRefreshResponse) {
        let session = self.dialect() == Dialect::Session;
        // A base server may leave the job out: then only one can be meant, if one is.
        let mut asking = self.held.iter().filter(|(_, held)| held.refresh.is_some());
        let only = match (asking.next(), asking.next()) {
            (Some((id, _)), None) => Some(id.clone()),
            _ => None,
        };
        let Some(held) = job.or(only).and_then(|id| self.held.get_mut(&id)) else {
            return;
        };
        let answers = |refresh: &mut super::held::Refresh| !session || refresh.asked == marks.n;
        let Some(refresh) = held.refresh.take_if(answers) else {
            return;
        };
        if response.refresh_successful && !response.access_token.is_empty() {
            held.cell.set_token(response.access_token);
            refresh.answer(Ok(()));
        } else {
            refresh.answer(Err(RefreshError::Refused));
        }
    }

    /// A message of ours was refused.
    fn refused(&mut self, job: Option<JobId>, error: &ErrorReply, now: Instant) -> Option<Left> {
        let Some(seq) = error.seq.map(|seq| seq.get()) else {
            let code = error.code.as_str();
            tracing::warn!(code, message = error.message.as_str(), "the server refused something");
            let held = job.and_then(|id| self.held.get_mut(&id)).filter(|_| !error.retryable);
            if let Some(refresh) = held.and_then(|held| held.refresh.take()) {
                // Of what is not lasting and about a job, only a refresh has somebody who waits.
                let is_lost = Refusal::new(code, "").means_lost();
                refresh.answer(Err(if is_lost {
                    RefreshError::Lost
                } else {
                    RefreshError::Refused
                }));
            }
            return None;
        };
        if error.retryable {
            return self.go_back(seq, error, now);
        }
        // All before it are settled, and well.
        self.settle((seq - 1).min(self.next_seq - 1), now);
        if error.code.as_str() == "sequence_conflict" {
            // Which of our numbers count is not known any more.
            return Some(Left::NewInstance("the server has other bytes under a number of ours"));
        }
        if self.outbox.first_seq() == Some(seq)
            && let Some(entry) = self.outbox.settle_up_to(seq)
        {
            let refusal = Refusal::new(error.code.as_str(), error.message.as_str());
            self.settle_one(entry, Err(refusal));
            self.settle(seq, now);
        }
        None
    }

    /// The number is still free: wait, then send it again, and all after it.
    fn go_back(&mut self, seq: u64, error: &ErrorReply, now: Instant) -> Option<Left> {
        let wait = error.retry_after_ms.map(|wait| wait.as_duration()).unwrap_or_default();
        let live = self.live.as_mut()?;
        if wait > Duration::ZERO {
            live.resume_at = live.resume_at.max(Some(now + wait.min(super::LONGEST_WAIT)));
        }
        if live.stale_answers > 0 && live.went_back_to.is_some_and(|back| seq > back) {
            // It followed the line that was refused, on the same flight.
            live.stale_answers -= 1;
            return None;
        }
        let is_gap = error.code.as_str() == "sequence_gap";
        if is_gap && self.outbox.first_seq() == Some(seq) {
            // Nothing lower is left to send: the server and we count differently. A new welcome tells.
            return Some(Left::Lost(
                "the server misses a number that it had confirmed".to_owned(),
            ));
        }
        let back = if is_gap { self.outbox.first_seq()? } else { seq };
        self.outbox.with_seq(back)?;
        live.stale_answers = self.outbox.go_back_to(back);
        live.went_back_to = Some(back);
        live.waiting_since = Some(now);
        None
    }

    fn server_drains(&mut self, draining: &Draining, now: Instant) {
        let back = now + draining.reconnect_after_ms.as_duration().min(super::LONGEST_WAIT);
        self.not_before = Some(back);
        if let Some(live) = &mut self.live {
            live.leave_at = Some(back);
        }
    }

    fn server_leaves(&mut self, goodbye: &ServerGoodbye, now: Instant) -> Left {
        let reason = goodbye.reason.as_str();
        if !goodbye.reconnect {
            return Left::Closed(Closed::by_goodbye(reason));
        }
        if let Some(after) = goodbye.reconnect_after_ms {
            self.not_before = Some(now + after.as_duration().min(super::LONGEST_WAIT));
        }
        tracing::info!(reason, "the server ended the session");
        Left::Asked
    }

    /// What was said in full still reaches a server that goes gracefully; jobs go on, and are spoken of afterwards.
    fn server_shuts_down(&mut self, shutdown: &Shutdown, now: Instant) -> Option<Left> {
        self.not_before = Some(now + AFTER_SHUTDOWN);
        if !shutdown.graceful {
            return Some(Left::Asked);
        }
        let grace = Duration::try_from_secs_f64(shutdown.timeout_seconds).unwrap_or_default();
        if let Some(live) = &mut self.live {
            live.leave_at = Some(now + grace.min(AFTER_SHUTDOWN));
        }
        None
    }

    /// What time alone has brought about.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Left> {
        self.step_stopping(now);
        if self.base_given_up_at().is_some_and(|at| at <= now) {
            return Some(Left::Lost("nothing was heard of the server".to_owned()));
        }
        let is_idle = self.outbox.in_flight() == 0;
        let live = self.live.as_mut()?;
        if live.silent_at().is_some_and(|at| at <= now) {
            return Some(Left::Lost("the server is silent".to_owned()));
        }
        if live.leave_at.is_some_and(|at| at <= now) && !live.goodbye_said {
            return Some(Left::Asked);
        }
        let patience = self.options.request_timeout;
        let is_stalled = live.waiting_since.is_some_and(|since| since + patience <= now);
        if live.dialect == Dialect::Session && is_stalled && !is_idle {
            if std::mem::replace(&mut live.sent_again, true) {
                return Some(Left::Lost("the server settles nothing".to_owned()));
            }
            live.waiting_since = Some(now);
            self.outbox.rewind();
        } else if is_idle {
            live.waiting_since = None;
        }
        None
    }
}

/// A line in the words of a dialect; the extension's words are understood in both, so that they are noticed on a base
/// connection.
fn read(line: &[u8], dialect: Dialect) -> Option<Envelope<WebAppMessage>> {
    let mut decoded = decode::<WebAppMessage>(line, Dialect::Session);
    if dialect == Dialect::Base && decoded.is_err() {
        decoded = decode::<WebAppMessage>(line, Dialect::Base);
    }
    match decoded {
        Ok(Decoded::Known(envelope)) => Some(envelope),
        // A later server may say more than we know.
        Ok(Decoded::Custom(_)) => None,
        Err(error) => {
            // The error names the place and never the text, which may hold a token.
            tracing::warn!(%error, "a line of the server is no message");
            None
        }
    }
}
