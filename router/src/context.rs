//! What a handler works with.

use std::sync::Arc;
use std::time::Duration;

use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::{Holder, Outcome, Rejection};
use crawlwire_progress::{Fact, Op, State, Store};
use crawlwire_protocol::{Category, Severity};

use crate::peer::Peer;
use crate::said::Numbered;
use crate::session::{Held, Session};
use crate::shared::{NAME_BYTES_MAX, Shared};

/// Milliseconds between the looks at a job that a crawler's connection to another server may still hold: two seconds in
/// all, which is how long a server may take to see the end of a connection and to write it.
const TAKEOVER_DELAYS: [u64; 6] = [50, 100, 200, 400, 600, 650];

/// What a handler works with: the peer that speaks, and the server behind.
#[derive(Clone)]
pub struct Context {
    pub(crate) shared: Arc<Shared>,
    /// Who speaks.
    pub peer: Arc<Peer>,
    /// Its session, if it is one by now.
    pub session: Option<Arc<Session>>,
    /// The number of the line, if it has one.
    pub(crate) number: Option<Arc<Numbered>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter
            .debug_struct("Context")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// The store, for handlers of your own.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// A job that this session holds. When it holds it not, an earlier connection of the same process may have: then
    /// the job is taken over. A peer of the session dialect takes nothing over: it has what it had, by its instance.
    ///
    /// # Errors
    /// When the job is not this crawler's, or no more.
    pub async fn held(&self, public_id: &str) -> Result<(Arc<Session>, Held), String> {
        let session = self.session.clone().ok_or("the peer is no session")?;
        // Nothing is called so. PostgreSQL refuses to look for the one, and the other would have to be remembered.
        if public_id.contains('\0') || public_id.len() > NAME_BYTES_MAX {
            return Err(Refusal::NotFound.to_string());
        }
        if let Some(held) = session.held(public_id) {
            return Ok((session, held));
        }
        if self.peer.speaks_session() {
            return Err("the session does not hold the job".to_owned());
        }
        if let Some(why) = session.not_held(public_id) {
            return Err(why);
        }
        match self.adopt(public_id, &session).await? {
            Outcome::Moved(fact) => {
                let held = adopted(&fact);
                tracing::info!(session = %session.name, job = public_id, fence = fact.fence.0, "job taken over");
                session.hold(public_id.to_owned(), held.clone());
                self.shared.publish_fact(fact);
                Ok((session, held))
            }
            Outcome::Refused(Rejection::Job(refusal)) => {
                let why = refusal.to_string();
                // What another session holds may be free in a moment; what is over stays over.
                if !matches!(refusal, Refusal::HeldByAnother | Refusal::StillConnected) {
                    session.note_not_held(public_id, &why);
                }
                Err(why)
            }
            _ => Err("no such job".to_owned()),
        }
    }

    /// Asks for a takeover. A crawler that reconnects may be heard before the end of its old connection is known to the
    /// store; then that is waited for: as long as it takes if the connection was to this server, and else for a while,
    /// since only the rows tell.
    async fn adopt(&self, public_id: &str, session: &Session) -> Result<Outcome, String> {
        let op = Op::Adopt {
            public_id: public_id.to_owned(),
            session: session.key,
        };
        let ask = async || self.shared.commit(op.clone()).await.map_err(|error| error.to_string());
        let still_connected = Outcome::Refused(Refusal::StillConnected.into());
        let mut outcome = ask().await?;
        if outcome != still_connected {
            return Ok(outcome);
        }
        if let Some(twin) = self.shared.sessions.twin(session) {
            twin.gone_soon().await;
            return ask().await;
        }
        for delay in TAKEOVER_DELAYS {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            outcome = ask().await?;
            if outcome != still_connected {
                return Ok(outcome);
            }
        }
        // The next lines about this job shall not wait as long.
        session.note_not_held(public_id, &Refusal::StillConnected.to_string());
        Ok(outcome)
    }

    /// Who speaks for a held job.
    pub fn holder(&self, session: &Session, held: &Held) -> Holder {
        Holder {
            session: session.key,
            name: session.name.clone(),
            fence: held.fence,
        }
    }

    /// Puts an error into the log. The message must not quote what a peer sent.
    pub fn log_error(&self, category: Category, severity: Severity, code: &str, job: Option<&str>, message: String) {
        self.shared
            .log_error(&self.peer, (category, severity), code, job, &message);
    }
}

/// A job that was taken over, as this server remembers it. Which token its crawler has is not known: a refresh finds out.
fn adopted(fact: &Fact) -> Held {
    Held {
        started: fact.state == State::Running,
        ..Held::new(fact.job, fact.fence, fact.attempt)
    }
}
