//! Moves bytes to lines to connections, and never acts on what a line says.
//!
//! | part | what it is |
//! |---|---|
//! | [`Endpoint`] | an address: Unix socket path or TCP host and port |
//! | [`Listener`], [`Stream`], [`Peer`] | binds and accepts over both kinds; who connected |
//! | [`LineCodec`], [`Line`] | cuts newline-delimited lines, bounded, counting |
//! | [`Connection`] | one stream as [`ConnectionHandle`], [`LineReader`] and [`Writer`] |
//! | [`ConnectionState`], [`CloseReason`], [`ConnectionInfo`] | what a connection does, why it ended, what is known of it |
//! | [`Pool`], [`PoolEvent`] | all connections of a server: limit, look-up, broadcast, events, shutdown |
//! | [`assess`], [`Health`] | how well a connection does |
//! | [`Limits`] | every bound of a connection, with its reason |
//!
//! One connection, from accepting to closing:
//!
//! ```no_run
//! use crawlwire_transport::{
//!     Connection, Endpoint, Limits, Line, ListenOptions, Listener, Pool,
//! };
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint: Endpoint = "unix:///run/crawlwire/crawler.sock".parse()?;
//! let listener = Listener::bind(&endpoint, &ListenOptions::default()).await?;
//! let pool = Pool::new(10);
//! loop {
//!     let (stream, peer) = listener.accept().await;
//!     let Ok(permit) = pool.reserve() else { continue };
//!     let connection = Connection::open(stream, peer, permit.id(), Limits::default());
//!     pool.add(permit, connection.handle.clone());
//!     tokio::spawn(connection.writer.run());
//!     let (handle, mut reader) = (connection.handle, connection.reader);
//!     tokio::spawn(async move {
//!         while let Ok(line) = reader.recv().await {
//!             match line {
//!                 Line::Complete(line) if line.starts_with(b"{") => {
//!                     // Decode it, act on it, and say that it was good.
//!                     handle.note_valid_message(false);
//!                 }
//!                 Line::Complete(_) => handle.note_error("not_an_object"),
//!                 Line::TooLong { .. } => handle.note_error("line_too_long"),
//!                 Line::Unfinished { .. } => handle.note_error("unfinished_line"),
//!             }
//!         }
//!     });
//! }
//! # }
//! ```
//!
//! Not here: JSON, message types, sessions, leases. Absent on purpose: a reconnect is a new
//! connection.

#![warn(missing_docs)]

mod codec;
mod connection;
mod endpoint;
mod events;
mod health;
mod info;
mod limits;
mod listener;
mod peer;
mod pool;
mod reader;
mod shared;
mod socket_file;
mod state;
mod stream;
mod writer;

pub use codec::{CodecStats, Line, LineCodec};
pub use connection::{Connection, ConnectionHandle, SendError};
pub use endpoint::{Endpoint, EndpointError};
pub use events::PoolEvent;
pub use health::{Health, HealthReport, HealthThresholds, Issue, IssueCategory, assess};
pub use info::{ConnectionId, ConnectionInfo, Output, Recent, Traffic};
pub use limits::Limits;
pub use listener::{BindError, ListenOptions, Listener};
pub use peer::{Peer, UnixPeer};
pub use pool::{AtLimit, CloseSummary, ClosedRecord, Outcomes, Permit, Pool, PoolStats};
pub use reader::LineReader;
pub use state::{CloseReason, ConnectionState};
pub use stream::Stream;
pub use writer::Writer;
