//! Where things go: messages to handlers, jobs to crawlers. Knows no socket, no HTTP and no SQL.
//!
//! A message's way: [`Router::call`] runs the middleware, makes the peer a [session](Session) at its first valid
//! message, and asks the handlers of the type, highest priority first. A handler translates, gives one operation to the
//! store and returns; what follows the commit is a [`Pending`] answer, so a connection keeps many operations in flight.
//! Only committed facts are [published](Event).
//!
//! The other way: the dispatcher gives queued jobs to sessions with free slots, and timers do what time demands.
//!
//! | module | holds |
//! |---|---|
//! | [`Router`] | handler table, middleware chain, panic guard |
//! | [`handler`], [`middleware`] | the two traits that users implement |
//! | [`session`] | peers, sessions, the jobs they hold |
//! | handlers | the built-in ones: translate, ask, answer |
//! | dispatch | claim, send, or take back |
//! | timers | leases, deadlines, progress writes, error log |
//! | [`Event`] | what is published |

mod context;
mod dispatch;
mod event;
pub mod handler;
mod handlers;
pub mod middleware;
mod router;
pub mod session;
mod timers;

pub use context::{Context, RouterConfig, Stats};
pub use event::Event;
pub use handler::{Handled, Handler, Inbound, Processed};
pub use middleware::{Middleware, Verdict};
pub use router::{Pending, Registration, Router};
pub use session::{Outbound, Peer, SendError, Session, SessionInfo};
