//! Where things go: messages to handlers, jobs to crawlers. Knows no socket, no HTTP and no SQL.
//!
//! A message's way: [`Router::call`] looks whether it is the turn of its number, if it has one, runs the middleware, makes
//! the peer a [session](Session) at its `hello` or its first valid message, and asks the handlers of the type, highest
//! priority first. A handler translates, gives operations to the store and returns; what follows the commit is a
//! [`Pending`] answer, so a connection keeps many operations in flight. [`Router::conclude`] tells the peer, in order. Only
//! committed facts are [published](Event).
//!
//! The other way: the dispatcher gives queued jobs to sessions with free slots, and timers do what time demands.
//!
//! | module | holds |
//! |---|---|
//! | [`Router`] | handler table, what runs, what can be asked |
//! | incoming, outgoing | the ways in and out: middleware, panic guard, dialects, answers in order, goodbyes |
//! | [`handler`], [`middleware`] | the two traits that users implement |
//! | [`peer`], [`session`], sessions | connections, sessions, the jobs they hold; how they come and go |
//! | hello, auth, roles, limit | the greeting, who is there, who may say what, and how much |
//! | [`code`] | what refusals are called |
//! | numbers, said | the numbers of lasting messages: whose turn it is, and how each has its effect once |
//! | handlers | the built-in ones: translate, ask, answer |
//! | acts, wishes | what people do, why a job waits, and what crawlers are told of it |
//! | dispatch | lanes take turns; claim, send, or take back |
//! | world | what admission looks at |
//! | timers | leases, deadlines, progress writes, error log, what is old |
//! | liveness, watch | pings, silence, tokens taken back, how often to report; who is watched |
//! | track | how far jobs are: who is followed, what is told, how one stands |
//! | weights | what new jobs are expected to be |
//! | reconcile | memory follows the rows |
//! | shared, config | what all of these share, and the numbers |
//! | [`Event`] | what is published |

mod acts;
mod auth;
pub mod code;
mod config;
mod context;
mod dispatch;
mod drained;
mod event;
pub mod handler;
mod handlers;
mod hello;
mod incoming;
mod limit;
mod liveness;
pub mod middleware;
mod numbers;
mod outgoing;
pub mod peer;
mod reconcile;
mod roles;
mod router;
mod said;
pub mod session;
mod sessions;
mod shared;
mod tally;
mod timers;
mod track;
mod watch;
mod weights;
mod wishes;
mod world;

pub use acts::{ActError, Bulk};
pub use auth::{token_hash, token_text};
pub use config::{HelloConfig, ProgressConfig, Retention, RouterConfig};
pub use context::Context;
pub use event::Event;
pub use handler::{Answered, Handled, Handler, Inbound, Processed, Received, Refused};
pub use incoming::Pending;
pub use limit::RateLimit;
pub use middleware::{Middleware, Verdict};
pub use peer::{Closing, Origin, Outbound, Peer, SendError};
pub use router::{Registration, Router};
pub use session::{Greeting, Session, SessionInfo};
pub use shared::Stats;
pub use track::Standing;
