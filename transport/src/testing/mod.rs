//! For tests: of crawlers without a server, of servers without a crawler, and of both on a bad network.
//!
//! | part | what it is |
//! |---|---|
//! | [`ScriptedServer`], [`ScriptedConnection`] | a server that says and expects what a test writes down |
//! | [`ScriptedCrawler`] | the same for the other side, in either dialect |
//! | [`Conversation`], [`Heard`] | what both are made of: lines, expectations, a record |
//! | [`FaultProxy`], [`faulty`], [`Faults`] | pieces, waits, repetitions and broken connections between two ends |
//! | [`SocketTestSuite`] | a folder and an endpoint for one test |
//!
//! A crawler against a scripted server:
//!
//! ```
//! use crawlwire_transport::client::{Client, ClientOptions};
//! use crawlwire_transport::testing::ScriptedServer;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let mut server = ScriptedServer::unix().await;
//! let connecting = tokio::spawn(Client::connect(server.endpoint(), ClientOptions::new("mine")));
//! let mut connection = server.session().await;
//! let (_client, mut jobs) = connecting.await.unwrap().unwrap();
//!
//! connection.assign("job-1", 1).await;
//! let job = jobs.next().await.unwrap();
//! connection.expect_and_ack("job_started").await;
//! let completing = tokio::spawn(job.complete("done"));
//! connection.expect_and_ack("job_completed").await;
//! completing.await.unwrap().unwrap();
//! # });
//! ```
//!
//! Everything here panics where an expectation is not met, and shows the last lines of the conversation, tokens in them
//! included: use test tokens.

mod bound;
mod conversation;
mod crawler;
mod proxy;
mod server;
mod suite;

pub use bound::MemoryConnector;
pub use conversation::{Conversation, Heard, PATIENCE, Recorded};
pub use crawler::ScriptedCrawler;
pub use proxy::{FaultProxy, Faults, faulty};
pub use server::{ScriptedConnection, ScriptedServer, assignment, error, fenced, lease, welcome};
pub use suite::SocketTestSuite;
