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
//! | [`peer`], [`session`], sessions | connections, sessions, the jobs they hold; how they come and go |
//! | handlers | the built-in ones: translate, ask, answer |
//! | acts | what people do, and why a job waits |
//! | dispatch | lanes take turns; claim, send, or take back |
//! | world | what admission looks at |
//! | timers | leases, deadlines, progress writes, error log, what is old |
//! | reconcile | memory follows the rows |
//! | [`Event`] | what is published |

mod acts;
mod context;
mod dispatch;
mod event;
pub mod handler;
mod handlers;
pub mod middleware;
pub mod peer;
mod reconcile;
mod router;
pub mod session;
mod sessions;
mod timers;
mod world;

pub use acts::ActError;
pub use context::{Context, Retention, RouterConfig, Stats};
pub use event::Event;
pub use handler::{Handled, Handler, Inbound, Processed};
pub use middleware::{Middleware, Verdict};
pub use peer::{Outbound, Peer, SendError};
pub use router::{Pending, Registration, Router};
pub use session::{Session, SessionInfo};
