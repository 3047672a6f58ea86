//! What is said under a number: its effect and the number are kept together, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crawlwire_progress::store::{BoxFuture, Said, StoreError, Ticket};
use crawlwire_progress::{Committed, Op, Outcome};
use crawlwire_protocol::{Category, Classify, Severity};

use crate::code;
use crate::handler::Processed;
use crate::numbers::{Number, Turn};
use crate::peer::{Closing, Peer};
use crate::session::Session;
use crate::shared::Shared;

/// How long a peer waits before it tries again, where the store gives no better advice.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The number of the line that is being handled.
#[derive(Debug)]
pub(crate) struct Numbered {
    number: Number,
    /// Whether it was given to the store.
    given: AtomicBool,
}

impl Numbered {
    pub(crate) fn is_given(&self) -> bool {
        self.given.load(Ordering::Relaxed)
    }
}

/// What a numbered line is to its connection.
pub(crate) enum Place {
    /// It is its turn.
    Taken(Arc<Numbered>),
    /// It was taken before.
    Repeated,
    /// It has no effect.
    Refused(Box<Processed>),
}

/// Looks whether it is a number's turn. A line whose fingerprint nobody gave is like any other under its number.
pub(crate) fn place(shared: &Shared, peer: &Peer, seq: u64, fingerprint: Option<i64>) -> Place {
    match peer.numbers.turn(seq, fingerprint.unwrap_or_default()) {
        (Turn::Next, number) => Place::Taken(Arc::new(Numbered {
            number,
            given: AtomicBool::new(false),
        })),
        (Turn::Repeated { conflict: true }, _) => Place::Refused(Box::new(conflict(shared, peer))),
        (Turn::Repeated { conflict: false }, _) => Place::Repeated,
        (Turn::Early, _) => Place::Refused(Box::new(gap())),
    }
}

/// Gives what a numbered line asks for to the store. When this returns, its place is taken; the rest follows the commit.
/// The error is what becomes of a line that was not carried out.
pub(crate) async fn give(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    numbered: &Numbered,
    ops: Vec<Op>,
) -> BoxFuture<'static, Result<Vec<Outcome>, Processed>> {
    hand_over(shared, session, numbered, (ops, None)).await
}

/// The same for a line that asks the store for nothing; with the code of its error, if it is refused.
pub(crate) async fn use_up(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    numbered: &Numbered,
    refused: Option<&'static str>,
) -> BoxFuture<'static, Result<Vec<Outcome>, Processed>> {
    hand_over(shared, session, numbered, (Vec::new(), refused)).await
}

/// What a line asks for, and why it has no effect where that is known before.
type Asked = (Vec<Op>, Option<&'static str>);

async fn hand_over(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    numbered: &Numbered,
    asked: Asked,
) -> BoxFuture<'static, Result<Vec<Outcome>, Processed>> {
    let number = numbered.number;
    let ticket = enqueue(shared, session, number, asked).await;
    session.peer.numbers.take(number);
    numbered.given.store(true, Ordering::Relaxed);
    let (shared, session) = (shared.clone(), session.clone());
    Box::pin(async move {
        let said = ticket.await;
        applied(&shared, &session, number, said.map(Committed::into_inner)).await
    })
}

async fn enqueue(shared: &Shared, session: &Session, number: Number, (ops, refused): Asked) -> Ticket {
    let op = Op::Said {
        session: session.reference(),
        // Lossless: a number on the wire ends far below 2^63.
        seq: number.seq as i64,
        fingerprint: number.fingerprint,
        ops,
        refused,
    };
    shared.store.enqueue(op).await
}

async fn applied(
    shared: &Shared,
    session: &Session,
    number: Number,
    said: Result<Outcome, StoreError>,
) -> Result<Vec<Outcome>, Processed> {
    let numbers = &session.peer.numbers;
    match said {
        Ok(Outcome::Said(Said::Applied(outcomes))) => {
            numbers.keep(number);
            Ok(outcomes)
        }
        // Nobody could say whether an earlier try was carried out; it was.
        Ok(Outcome::Said(Said::Repeated {
            conflict: false,
            refused,
        })) => {
            numbers.keep(number);
            Err(refused.map_or_else(Processed::done, |code| refused_before(&code)))
        }
        Ok(Outcome::Said(Said::Repeated { conflict: true, .. })) => Err(conflict(shared, &session.peer)),
        Ok(Outcome::Said(Said::Gap { high_water })) => {
            numbers.go_back(number, u64::try_from(high_water).unwrap_or(0));
            Err(gap())
        }
        Ok(Outcome::Said(Said::Replaced)) => Err(replaced()),
        Err(StoreError::Broken(reason)) => Err(broken(shared, session, number, &reason).await),
        Err(error) => {
            numbers.go_back(number, number.seq - 1);
            Err(unavailable(&error))
        }
        Ok(other) => {
            tracing::error!(?other, "a numbered line was answered with something else");
            numbers.go_back(number, number.seq - 1);
            Err(Processed::refused(code::INTERNAL_ERROR, INTERNAL, "internal error").retry_after(RETRY_AFTER))
        }
    }
}

/// A line had no effect when it was taken, and its peer was not told so.
fn refused_before(code: &str) -> Processed {
    let kind = (Category::JobProcessing, Severity::Low);
    Processed::refused(code::named(code), kind, "the message was refused before")
}

const INTERNAL: (Category, Severity) = (Category::Internal, Severity::High);

/// The database does not take what the line asks for, and will not: the number is used up without it, or nothing behind
/// it could follow.
async fn broken(shared: &Shared, session: &Session, number: Number, reason: &str) -> Processed {
    tracing::error!(session = %session.name, seq = number.seq, reason, "the database refused what was said");
    let numbers = &session.peer.numbers;
    numbers.go_back(number, number.seq - 1);
    let refused = (Vec::new(), Some(code::INTERNAL_ERROR));
    let alone = enqueue(shared, session, number, refused).await.await;
    match alone.map(Committed::into_inner) {
        Ok(Outcome::Said(Said::Applied(_) | Said::Repeated { .. })) => {
            numbers.keep(number);
            let why = "the database refused what the message asks for";
            Processed::refused(code::INTERNAL_ERROR, INTERNAL, why)
        }
        Ok(Outcome::Said(Said::Replaced)) => replaced(),
        Ok(_) => gap(),
        Err(error) => unavailable(&error),
    }
}

/// Nobody can say any more what became of a line: its peer is to say it again, and the store knows.
pub(crate) fn in_doubt(peer: &Peer, numbered: &Numbered, processed: Processed) -> Processed {
    if !numbered.is_given() {
        return processed;
    }
    peer.numbers.go_back(numbered.number, numbered.number.seq - 1);
    processed.retry_after(RETRY_AFTER)
}

/// The store is away.
pub(crate) fn unavailable(error: &StoreError) -> Processed {
    let kind = (Category::Database, error.severity());
    let wait = error.retry_after().unwrap_or(RETRY_AFTER);
    Processed::refused(code::DATABASE_UNAVAILABLE, kind, "the database is not available").retry_after(wait)
}

fn gap() -> Processed {
    let kind = (Category::MessageValidation, Severity::Low);
    let why = "a number before this one is missing";
    Processed::refused(code::SEQUENCE_GAP, kind, why).retry_after(Duration::ZERO)
}

fn conflict(shared: &Shared, peer: &Peer) -> Processed {
    let kind = (Category::MessageValidation, Severity::Medium);
    let why = "the number was used for another message";
    shared.log_error(peer, kind, code::SEQUENCE_CONFLICT, None, why);
    Processed::refused(code::SEQUENCE_CONFLICT, kind, why)
}

/// Another connection speaks for the instance by now: whatever is said here, it will say again.
pub(crate) fn replaced() -> Processed {
    Processed {
        close: Some(Closing::Replaced),
        ..Processed::failed("another connection speaks for this instance")
    }
}
