//! The Crawlwire server: configuration, wiring, HTTP, and the library face for programs that embed it.
//!
//! | module | holds |
//! |---|---|
//! | [`Server`] | start, stop, status, messages to crawlers, subscriptions |
//! | [`config`] | every setting, its layers and checks |
//! | [`cli`] | the command line |
//! | [`validate`] | `crawlwire validate` |
//! | [`token`] | `crawlwire token` |
//! | [`client`] | what the command line asks of a running server |
//! | connection | the only place that knows both lines and the router |
//! | http | jobs, crawlers, health, the live stream, the page |

mod app;
mod bare;
pub mod cli;
pub mod client;
pub mod config;
mod connection;
mod http;
mod parts;
mod status;
mod tasks;
pub mod telemetry;
pub mod token;
pub mod validate;

pub use app::{Builder, ConnectionStats, MessageError, Server, ServerStatus, StartError};
#[doc(hidden)]
pub use bare::Bare;
