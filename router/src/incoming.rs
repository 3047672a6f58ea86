//! The way in: number, middleware, handlers; and back in order: answer, acknowledgement, error.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crawlwire_progress::store::BoxFuture;
use crawlwire_protocol::message::{Ack, ErrorReply};
use crawlwire_protocol::{
    Category, CrawlerMessage, Decoded, Envelope, JobId, List, Millis, Peeked, Seq, Severity, WebAppMessage,
};
use futures_util::FutureExt;

use crate::context::Context;
use crate::handler::{Answered, Handled, Inbound, Processed, Received, Refused, job_id, seq};
use crate::limit::Sort;
use crate::middleware::Verdict;
use crate::outgoing::{guarded, part, refused};
use crate::peer::{Closing, Peer};
use crate::router::Router;
use crate::said::{self, Numbered, Place};
use crate::shared::NAME_BYTES_MAX;
use crate::{code, hello, sessions};

/// What is left of a line after [`Router::call`]: resolves when its effect is durable, or when it is known to have none.
/// To be [concluded](Router::conclude) then, in the order of the lines.
pub type Pending = BoxFuture<'static, Answered>;

/// What a line is about.
struct About {
    type_name: String,
    job: Option<JobId>,
    seq: Option<u64>,
    invalid: bool,
}

impl About {
    fn answered(self, processed: Processed) -> Answered {
        let Self {
            type_name,
            job,
            seq,
            invalid,
        } = self;
        Answered {
            type_name,
            job,
            seq,
            processed,
            invalid,
            repeated: false,
        }
    }
}

impl Router {
    /// Takes one message of a peer. When this returns, its place in the order of the peer's messages is taken; the rest
    /// follows in [`Pending`]. A `hello` is answered when this returns.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped half-way, the message may or may not have its effect.
    pub async fn call(&self, peer: &Arc<Peer>, received: impl Into<Received>) -> Pending {
        let Received { message, fingerprint } = received.into();
        peer.pace.note(Sort::of(&message), self.shared.config.rate_limit);
        peer.decide(Some(message.type_name()));
        // Whatever becomes of the line: it is a sign of life.
        if let Some(session) = peer.session().filter(|_| peer.speaks_session()) {
            session.heard();
        }
        let about = About {
            type_name: message.type_name().to_owned(),
            job: job_id(&message).cloned(),
            seq: seq(&message).filter(|_| peer.speaks_session()).map(Seq::get),
            invalid: false,
        };
        let (about, number) = match self.place(peer, about, fingerprint) {
            Ok(placed) => placed,
            Err(answered) => return Box::pin(std::future::ready(*answered)),
        };
        let process = self.process(peer, message, number.clone());
        let handled = match AssertUnwindSafe(process).catch_unwind().await {
            Ok(handled) => handled,
            Err(_) => Handled::Done(self.panicked(peer, &about)),
        };
        self.finish(peer, about, number, handled).await
    }

    /// A line that is no message. It is counted and logged by place and rule; a peer of the session dialect is answered,
    /// and the number that the line has is used up. A connection whose greeting it was ends.
    pub async fn refuse_line(
        &self,
        peer: &Arc<Peer>,
        peeked: &Peeked,
        fingerprint: Option<i64>,
        refused: Refused,
    ) -> Pending {
        peer.pace.note(Sort::Invalid, self.shared.config.rate_limit);
        self.note_invalid_line(peer, refused.category, refused.code, refused.message.clone());
        let about = About {
            type_name: peeked.type_name.clone().unwrap_or_default(),
            job: peeked.job_id.clone(),
            seq: peeked.seq.filter(|_| peer.speaks_session()).map(Seq::get),
            invalid: true,
        };
        let session = peer.session();
        let mut processed = Processed::from(refused);
        let Some(session) = session.filter(|_| peer.speaks_session()) else {
            processed.close = peer.speaks_session().then_some(Closing::HelloRefused);
            return Box::pin(std::future::ready(About { seq: None, ..about }.answered(processed)));
        };
        session.heard();
        match self.place(peer, about, fingerprint) {
            Ok((about, number)) => self.finish(peer, about, number, Handled::Done(processed)).await,
            Err(answered) => Box::pin(std::future::ready(*answered)),
        }
    }

    /// Whether it is a line's turn. The error answers one that has no effect.
    fn place(
        &self,
        peer: &Peer,
        about: About,
        fingerprint: Option<i64>,
    ) -> Result<(About, Option<Arc<Numbered>>), Box<Answered>> {
        let Some(seq) = about.seq.filter(|_| peer.session().is_some()) else {
            return Ok((About { seq: None, ..about }, None));
        };
        match said::place(&self.shared, peer, seq, fingerprint) {
            Place::Taken(number) => Ok((about, Some(number))),
            Place::Repeated => Err(Box::new(Answered {
                repeated: true,
                ..about.answered(Processed::done())
            })),
            // Whatever is said of a number that is not this line's, it settles nothing.
            Place::Refused(processed) => Err(Box::new(Answered {
                repeated: true,
                ..about.answered(*processed)
            })),
        }
    }

    /// Uses up the number of a line that asked the store for nothing, and gives what is left to be awaited.
    async fn finish(&self, peer: &Arc<Peer>, about: About, number: Option<Arc<Numbered>>, handled: Handled) -> Pending {
        let tried_again = matches!(&handled, Handled::Done(processed) if processed.should_retry);
        let unused = number.as_ref().filter(|number| !number.is_given() && !tried_again);
        let used_up = match (unused, peer.session()) {
            (Some(number), Some(session)) => {
                let refused = match &handled {
                    Handled::Done(processed) => processed.code(),
                    Handled::Pending(_) => None,
                };
                Some(said::use_up(&self.shared, &session, number, refused).await)
            }
            _ => None,
        };
        let (router, peer) = (self.clone(), peer.clone());
        Box::pin(async move {
            let processed = match handled {
                Handled::Done(processed) => processed,
                Handled::Pending(pending) => match AssertUnwindSafe(pending).catch_unwind().await {
                    Ok(processed) => processed,
                    Err(_) => {
                        let panicked = router.panicked(&peer, &about);
                        match number {
                            Some(number) => said::in_doubt(&peer, &number, panicked),
                            None => panicked,
                        }
                    }
                },
            };
            let processed = match used_up {
                Some(used_up) => used_up.await.map_or_else(|failed| failed, |_| processed),
                None => processed,
            };
            about.answered(processed)
        })
    }

    fn panicked(&self, peer: &Peer, about: &About) -> Processed {
        tracing::error!(peer = peer.name(), about.type_name, "a handler panicked");
        let kind = (Category::Internal, Severity::High);
        let job = about.job.as_ref().map(JobId::as_str);
        let message = "a handler or middleware panicked";
        self.shared.log_error(peer, kind, "handler_panicked", job, message);
        Processed::refused(code::INTERNAL_ERROR, kind, "internal error")
    }

    async fn process(&self, peer: &Arc<Peer>, message: Inbound, number: Option<Arc<Numbered>>) -> Handled {
        let message = match self.before_process(peer, message).await {
            Verdict::Pass(message) => message,
            Verdict::Drop => return Handled::Done(Processed::done()),
            Verdict::Refuse(reason) => {
                refused(&self.shared, peer, &reason);
                let kind = (Category::Authentication, Severity::Low);
                return Handled::Done(Processed::refused(code::REFUSED_BY_MIDDLEWARE, kind, reason));
            }
            Verdict::Fail(processed) => return Handled::Done(*processed),
        };
        if let Err(answer) = self.admit(peer, &message).await {
            return Handled::Done(*answer);
        }
        let context = Context {
            shared: self.shared.clone(),
            peer: peer.clone(),
            session: peer.session(),
            number,
        };
        if let Some(session) = context.session.as_ref().filter(|_| !peer.speaks_session()) {
            session.heard();
        }
        self.first_success(&context, &message).await
    }

    /// Makes the peer a session, where that is due. The error answers a message that goes no further.
    async fn admit(&self, peer: &Arc<Peer>, message: &Inbound) -> Result<(), Box<Processed>> {
        if !peer.speaks_session() {
            // Only a message of the protocol makes a peer a crawler that may be given work.
            return match message {
                Decoded::Known(_) => match sessions::open(&self.shared, peer).await {
                    Ok(_) => Ok(()),
                    Err(error) => Err(Box::new(Processed::failed(error.to_string()))),
                },
                Decoded::Custom(_) => Ok(()),
            };
        }
        if let Decoded::Known(envelope) = message
            && let CrawlerMessage::Hello(greeting) = &envelope.message
        {
            // Boxed: it is half of all that a line's future would hold, and once in a connection.
            let greeted = Box::pin(hello::greet(&self.shared, peer, greeting)).await;
            return Err(Box::new(greeted));
        }
        match peer.session() {
            Some(session) if session.is_leaving() => Err(Box::new(said::replaced())),
            Some(_) => Ok(()),
            None => Err(Box::new(Processed::failed("nothing is taken before a good hello"))),
        }
    }

    async fn before_process(&self, peer: &Peer, mut message: Inbound) -> Verdict<Inbound> {
        for middleware in self.shared.chain().iter() {
            match middleware.before_process(peer, message).await {
                Verdict::Pass(passed) => message = passed,
                other => return other,
            }
        }
        Verdict::Pass(message)
    }

    async fn first_success(&self, context: &Context, message: &Inbound) -> Handled {
        let mut last = None;
        for handler in self.handlers_of(message.type_name()) {
            if !handler.can_handle(message) {
                continue;
            }
            match handler.handle(context, message).await {
                Handled::Done(processed) if !processed.success => last = Some(processed),
                handled => return handled,
            }
        }
        Handled::Done(last.unwrap_or_else(|| {
            let kind = (Category::MessageValidation, Severity::Low);
            if context.peer.may_log_unknown_type() {
                let type_name = message.type_name();
                tracing::info!(peer = context.peer.name(), type_name, "nobody handles this type");
                let why = "a type that nobody handles".to_owned();
                context.log_error(kind.0, kind.1, code::UNKNOWN_TYPE, None, why);
            }
            Processed::refused(code::UNKNOWN_TYPE, kind, "nobody handles this type")
        }))
    }

    /// Tells the peer what became of its line, and middleware too. To be called in the order of the lines, and for each of
    /// them: an acknowledgement covers all before it.
    pub async fn conclude(&self, peer: &Arc<Peer>, answered: Answered) -> Processed {
        self.count(&answered);
        let Answered {
            type_name,
            job,
            seq,
            mut processed,
            invalid,
            repeated,
        } = answered;
        if peer.numbers.is_in_doubt() {
            processed.close.get_or_insert(Closing::SessionLost);
        }
        if let Some(seq) = seq.filter(|_| processed.success) {
            if repeated {
                peer.numbers.repeat(seq);
            } else {
                peer.numbers.settle(seq);
            }
        }
        if !invalid {
            self.note_turned_away(peer, &processed);
        }
        let reply = processed.reply.take().or_else(|| error(peer, job, seq, &processed));
        if let Some(reply) = reply {
            self.acknowledge(peer).await;
            let is_final = !processed.success && !processed.should_retry && !repeated;
            if let Some(seq) = seq.filter(|_| is_final) {
                peer.numbers.told(seq);
            }
            if let Err(error) = self.send(peer, reply).await {
                tracing::debug!(peer = peer.name(), %error, "answer not sent");
            }
        }
        if let Some(why) = processed.close {
            self.acknowledge(peer).await;
            part(&self.shared, peer, why).await;
        }
        if invalid || repeated {
            return processed;
        }
        for middleware in self.shared.chain().iter().rev() {
            guarded(&**middleware, async {
                middleware.after_process(peer, &type_name, &processed).await
            })
            .await;
        }
        processed
    }

    /// Who is not let in is worth a look.
    fn note_turned_away(&self, peer: &Peer, processed: &Processed) {
        let turned_away = matches!(processed.close, Some(Closing::HelloRefused | Closing::NotAuthenticated));
        if let Some(refused) = processed.refused.as_ref().filter(|_| turned_away) {
            let kind = (refused.category, refused.severity);
            self.shared.log_error(peer, kind, refused.code, None, &refused.message);
        }
    }

    fn count(&self, answered: &Answered) {
        let counters = &self.shared.counters;
        let counter = match answered {
            // Counted when it came.
            Answered { invalid: true, .. } => return,
            Answered { repeated: true, .. } => &counters.out_of_turn,
            answered if answered.processed.success => &counters.processed,
            _ => &counters.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Acknowledges what was concluded, if something is due; with one line, so it is called when nothing more is ready to
    /// be concluded.
    pub async fn acknowledge(&self, peer: &Arc<Peer>) {
        let Some(seq) = peer.numbers.ack().and_then(Seq::new) else {
            return;
        };
        let ack = Envelope::now(WebAppMessage::Ack(Ack { seq }));
        if let Err(error) = self.send(peer, ack).await {
            tracing::debug!(peer = peer.name(), %error, "acknowledgement not sent");
        }
    }

    /// A line that was no message: counted and put into the error log by place and rule.
    pub fn note_invalid_line(&self, peer: &Peer, category: Category, code: &str, message: String) {
        self.shared.counters.invalid.fetch_add(1, Ordering::Relaxed);
        self.shared
            .log_error(peer, (category, Severity::Low), code, None, &message);
    }
}

/// What a peer of the session dialect is told of a line without effect. A replaced connection is told nothing: a final
/// word about a number would be wrong, since the other connection says it again. Nor is one that has lost count.
fn error(peer: &Peer, job: Option<JobId>, seq: Option<u64>, processed: &Processed) -> Option<Envelope<WebAppMessage>> {
    let is_silent = matches!(processed.close, Some(Closing::Replaced | Closing::SessionLost));
    if processed.success || !peer.speaks_session() || is_silent {
        return None;
    }
    let reply = match &processed.refused {
        Some(refused) => {
            let Refused {
                code,
                category,
                severity,
                message,
                violations,
            } = &**refused;
            ErrorReply {
                violations: (!violations.is_empty()).then(|| List::cut(violations.iter().cloned())),
                ..ErrorReply::new(code, *category, *severity, message.clone())
            }
        }
        None => {
            let why = processed.error.clone().unwrap_or_default();
            ErrorReply::new(code::REFUSED, Category::JobProcessing, Severity::Low, why)
        }
    };
    let reply = ErrorReply {
        seq: seq.and_then(Seq::new),
        retryable: processed.should_retry,
        retry_after_ms: processed.retry_after.map(Millis::from),
        ..reply
    };
    Some(Envelope {
        job_id: job.filter(|job| job.as_str().len() <= NAME_BYTES_MAX),
        ..Envelope::now(WebAppMessage::Error(reply))
    })
}
