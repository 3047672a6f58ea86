//! One job to one session: claim, send, or take back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::live::About;
use crawlwire_progress::store::{Holder, Outcome, Rejection, Ticket};
use crawlwire_progress::view::ReadyJob;
use crawlwire_progress::{CredentialKey, Fact, Op};
use crawlwire_protocol::AccessToken;

use super::assignment;
use crate::outgoing::send;
use crate::peer::SendError;
use crate::session::{Held, Session};
use crate::shared::Shared;

/// A claim that was given to the store.
pub(super) struct Claim {
    job: ReadyJob,
    session: Arc<Session>,
    token: AccessToken,
    token_version: i64,
    ticket: Ticket,
}

/// Tokens of which it is remembered that they could not be read. Of more than that somebody has heard enough.
const UNREADABLE_MAX: usize = 1024;

/// The tokens of a page's jobs, each read once, with its version.
#[derive(Default)]
pub(super) struct Tokens {
    page: BTreeMap<CredentialKey, Option<(AccessToken, i64)>>,
    /// Those that could not be read when somebody last looked: that is said once, not at each look.
    unreadable: BTreeSet<CredentialKey>,
}

impl Tokens {
    /// Begins a page: tokens change, and are not kept for longer.
    pub(super) fn turn_page(&mut self) {
        self.page.clear();
    }

    /// A job's token and its version: empty and 0 for a job without. None when it cannot be read; then the job is not given
    /// out, since a crawler could do nothing with it and would be blamed.
    pub(super) async fn of(&mut self, shared: &Shared, job: &ReadyJob) -> Option<(AccessToken, i64)> {
        let none = || (AccessToken::new(""), 0);
        let Some(key) = job.credential else {
            return Some(none());
        };
        if let Some(known) = self.page.get(&key) {
            return known.clone();
        }
        let read = shared.store.token(key).await;
        let token = match read {
            Ok(found) => {
                self.unreadable.remove(&key);
                Some(found.unwrap_or_else(none))
            }
            Err(error) => {
                if self.is_news(key) {
                    tracing::error!(job = job.public_id, %error, "token not read, its jobs are not given out");
                } else {
                    tracing::debug!(job = job.public_id, %error, "token not read");
                }
                None
            }
        };
        self.page.insert(key, token.clone());
        token
    }

    /// Remembers that a token cannot be read. Says whether that is worth a line.
    fn is_news(&mut self, key: CredentialKey) -> bool {
        self.unreadable.len() < UNREADABLE_MAX && self.unreadable.insert(key)
    }
}

/// Gives a claim to the store.
pub(super) async fn claim(
    shared: &Shared,
    job: ReadyJob,
    session: Arc<Session>,
    (token, token_version): (AccessToken, i64),
) -> Claim {
    let op = Op::Claim {
        job: job.key,
        session: session.reference(),
        name: session.name.clone(),
    };
    Claim {
        ticket: shared.store.enqueue(op).await,
        job,
        session,
        token,
        token_version,
    }
}

impl Claim {
    /// Waits for the commit and sends the assignment. Says whether the session has the job now.
    pub(super) async fn hand_over(self, shared: &Shared) -> bool {
        let Self {
            job,
            session,
            token,
            token_version,
            ticket,
        } = self;
        let fact = match ticket.await {
            Ok(committed) => match committed.into_inner() {
                Outcome::Moved(fact) => fact,
                Outcome::Refused(rejection) => {
                    tracing::debug!(job = job.public_id, %rejection, "not claimed");
                    if rejection == Rejection::Job(Refusal::Stale) {
                        // The session is not alive in the store; the job is for somebody else.
                        session.rest();
                        shared.wake.notify_one();
                    }
                    return false;
                }
                _ => return false,
            },
            Err(error) => {
                tracing::warn!(job = job.public_id, %error, "not claimed");
                return false;
            }
        };
        // Remembered before it is sent: the crawler may answer at once.
        session.hold(job.public_id.clone(), held(&fact, &job, token_version));
        shared.publish_fact(fact.clone());
        let message = assignment::first(shared, &session, &job, &fact, token).await;
        match send(shared, &session.peer, message).await {
            Ok(()) => {
                tracing::info!(session = %session.name, job = job.public_id, fence = fact.fence.0, "job assigned");
                shared.counters.assigned.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(SendError::Closed) if session.greeting.is_some() => {
                // It comes back for the job, perhaps at this very moment over another connection; or its lease, which is
                // short by now, runs out.
                tracing::info!(session = %session.name, job = job.public_id, "not sent, the crawler is away");
                session.let_go(&fact.public_id, fact.fence);
                false
            }
            Err(error) => {
                tracing::warn!(session = %session.name, job = job.public_id, %error, "not sent, job taken back");
                take_back(shared, &session, fact).await;
                false
            }
        }
    }
}

fn held(fact: &Fact, job: &ReadyJob, version: i64) -> Held {
    Held {
        about: Some(Arc::new(About {
            public_id: job.public_id.clone(),
            job_type: job.spec.job_type,
            host: job.spec.host.clone(),
            account: job.account,
        })),
        credential: job.credential.map(|key| (key, version)),
        ..Held::new(fact.job, fact.fence, fact.attempt)
    }
}

async fn take_back(shared: &Shared, session: &Session, fact: Fact) {
    let holder = Holder {
        session: session.key,
        name: session.name.clone(),
        fence: fact.fence,
    };
    session.let_go(&fact.public_id, fact.fence);
    if !shared.sessions.is_current(session) {
        // Its crawler came back over another connection, and was told of the job there.
        return;
    }
    session.rest();
    match shared.commit(Op::Release { job: fact.job, holder }).await {
        Ok(Outcome::Moved(fact)) => {
            shared.publish_fact(fact);
        }
        Ok(outcome) => tracing::debug!(job = fact.public_id, ?outcome, "nothing to take back"),
        Err(error) => tracing::warn!(job = fact.public_id, %error, "not taken back; the lease will run out"),
    }
}
