//! A job's whole life as pure functions, and the port through which lives are kept.
//!
//! Nothing here knows a socket, a database, a clock or a source of randomness: time and chance are arguments. So the
//! rules can be tested by the million, and every store obeys the same ones.
//!
//! | module | holds |
//! |---|---|
//! | [`job`] | states, arrows, and the part of a job that arrows change |
//! | [`lifecycle`] | [`apply`](lifecycle::apply): one arrow on one job, or why not |
//! | [`admit`] | who may run a job now, or what it waits for |
//! | [`track`] | how far a job is: what its crawler said, and what that means |
//! | [`sums`] | what the jobs of trees, accounts and hosts add up to |
//! | [`weight`] | what a job is expected to be before it says so, by the history of its type |
//! | [`retry`], [`priority`], [`discovery`] | delays, the order of the queue, identity and budgets of children |
//! | [`store`] | the port: operations, outcomes, facts, queries, and the trait [`Store`] |
//! | [`plan`] | a batch of operations over loaded rows → the rows to write, in one transaction |
//! | [`memory`] | a store in memory, for tests and simulations |

pub mod admit;
pub mod discovery;
pub mod ids;
pub mod job;
pub mod lifecycle;
pub mod live;
pub mod memory;
pub mod plan;
pub mod policy;
pub mod priority;
pub mod retry;
pub mod store;
pub mod sums;
pub mod track;
pub mod view;
pub mod weight;

pub use ids::{AccountKey, CredentialKey, Epoch, Fence, JobKey, SessionKey, SessionRef, Timestamp, TokenKey};
pub use job::{Arrow, Job, PauseReason, State, TreeStatus, Want};
pub use policy::Policy;
pub use store::{Committed, Fact, Op, Outcome, Store, StoreError};
