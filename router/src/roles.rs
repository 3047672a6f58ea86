//! Who may say what.

use crawlwire_progress::store::BoxFuture;
use crawlwire_protocol::message::Role;
use crawlwire_protocol::{Category, CrawlerKind, Decoded, Message, Severity};

use crate::code;
use crate::handler::{Inbound, Processed};
use crate::middleware::{Middleware, Verdict};
use crate::peer::{Closing, Origin, Peer};

/// The table of roles and types.
fn may_say(role: Role, kind: CrawlerKind) -> bool {
    use CrawlerKind::{Goodbye, Heartbeat, Hello, Ping, Pong};
    match role {
        Role::Crawler => true,
        Role::Monitor => matches!(kind, Hello | Heartbeat | Ping | Pong | Goodbye),
    }
}

/// Lets through what a peer may say. A peer of the base dialect shows no token, so where tokens are required it may say
/// nothing.
#[derive(Debug)]
pub(crate) struct Authorise {
    /// Whether peers beyond this machine have to show a token.
    pub(crate) tokens_required: bool,
}

impl Authorise {
    fn judge(&self, peer: &Peer, message: &Inbound) -> Result<(), Box<Processed>> {
        let refused = |code, text: &str| {
            Box::new(Processed::refused(
                code,
                (Category::Authentication, Severity::Low),
                text,
            ))
        };
        if !peer.speaks_session() {
            let stranger = self.tokens_required && matches!(peer.origin, Origin::Tcp { .. });
            return if stranger {
                let why = "a peer beyond this machine must greet with a token";
                let mut refused = refused(code::AUTHENTICATION_REQUIRED, why);
                refused.close = Some(Closing::NotAuthenticated);
                Err(refused)
            } else {
                Ok(())
            };
        }
        let session = peer.session();
        let role = session.and_then(|session| session.greeting.as_ref().map(|greeting| greeting.role));
        match (role, message) {
            (Some(role), Decoded::Known(envelope)) if !may_say(role, envelope.message.kind()) => {
                Err(refused(code::FORBIDDEN_TYPE, "the role may not send this type"))
            }
            _ => Ok(()),
        }
    }
}

impl Middleware for Authorise {
    fn name(&self) -> &str {
        "roles"
    }

    /// Nothing comes before it.
    fn priority(&self) -> i32 {
        i32::MAX
    }

    fn before_process<'a>(&'a self, peer: &'a Peer, message: Inbound) -> BoxFuture<'a, Verdict<Inbound>> {
        let judged = self.judge(peer, &message);
        let verdict = match judged {
            Ok(()) => Verdict::Pass(message),
            Err(refused) => Verdict::Fail(refused),
        };
        Box::pin(std::future::ready(verdict))
    }
}
