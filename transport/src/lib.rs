//! Moves bytes to lines to connections, and never acts on what a line says.
//!
//! | part | what it is |
//! |---|---|
//! | [`Endpoint`] | an address: Unix socket path or TCP host and port |
//! | [`Listener`], [`Stream`], [`Peer`] | binds and accepts over both kinds; who connected |
//! | [`PeerAllow`], [`TlsServer`], [`TlsClient`], [`Keepalive`] | who is let in, how TCP is secured and watched |
//! | [`LineCodec`], [`Line`] | cuts newline-delimited lines, bounded, counting |
//! | [`Connection`] | one stream as [`ConnectionHandle`], [`LineReader`] and [`Writer`] |
//! | [`ConnectionState`], [`CloseReason`], [`ConnectionInfo`] | what a connection does, why it ended, what is known of it |
//! | [`Pool`], [`PoolEvent`], [`PoolStats`] | all connections of a server: limit, look-up, broadcast, events, history, shutdown |
//! | [`assess`], [`Health`] | how well a connection does |
//! | [`Limits`] | every bound of a connection, with its reason |
//! | [`Budget`], [`InFlight`] | the memory all connections share |
//! | `compress` (feature `zstd`) | lines as zstd frames, unpacked without trust |
//! | `client` (feature `client`) | the crawler's side: a client that reconnects, repeats and stops in good order |
//! | `testing` (feature `testing`) | scripted ends and a bad network, for tests of crawlers and of servers |
//!
//! A connection costs some 5 KiB while nothing is said, tasks included, and 12 KiB more with TLS.
//! `benches/idle.rs` measures that.
//!
//! One connection, from accepting to closing:
//!
//! ```no_run
//! use crawlwire_transport::{
//!     Budget, Connection, Endpoint, Limits, Line, ListenOptions, Listener, Pool,
//! };
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint: Endpoint = "unix:///run/crawlwire/crawler.sock".parse()?;
//! let listener = Listener::bind(&endpoint, &ListenOptions::default()).await?;
//! let pool = Pool::new(10);
//! // One for all connections: 64 MiB of lines in work, as much of messages that wait.
//! let limits = Limits {
//!     budget: Budget::new(64 << 20, 64 << 20),
//!     ..Limits::default()
//! };
//! loop {
//!     let (stream, peer) = match listener.next().await {
//!         Ok(accepted) => accepted,
//!         Err(refused) => {
//!             pool.note_refused(refused);
//!             continue;
//!         }
//!     };
//!     let Ok(permit) = pool.reserve() else { continue };
//!     let connection = Connection::open(stream, peer, permit.id(), limits.clone());
//!     pool.add(permit, connection.handle.clone());
//!     tokio::spawn(connection.writer.run());
//!     let (handle, mut reader) = (connection.handle, connection.reader);
//!     tokio::spawn(async move {
//!         // What is in flight counts until the end of the block.
//!         while let Ok((line, _in_flight)) = reader.recv_counted().await {
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
//! Not here, but for those two features: JSON, message types, sessions, leases. Absent on purpose: a
//! reconnect is a new connection.

#![warn(missing_docs)]

mod budget;
mod buffer;
#[cfg(feature = "client")]
pub mod client;
mod codec;
#[cfg(feature = "zstd")]
pub mod compress;
mod connection;
mod endpoint;
mod events;
mod handshakes;
mod health;
mod history;
mod info;
#[cfg(feature = "client")]
mod jitter;
mod keepalive;
mod limits;
mod listener;
mod peer;
mod pool;
mod queue;
mod reader;
mod shared;
mod socket_file;
mod state;
mod stream;
#[cfg(feature = "testing")]
pub mod testing;
mod tls;
mod writer;

pub use budget::{Budget, BudgetUsage, InFlight};
pub use codec::{CodecStats, Line, LineCodec};
pub use connection::{Connection, ConnectionHandle, SendError};
pub use endpoint::{Endpoint, EndpointError};
pub use events::PoolEvent;
pub use health::{Health, HealthReport, HealthThresholds, Issue, IssueCategory, assess};
pub use history::{CloseSummary, ClosedRecord, PoolStats, Refused};
pub use info::{ConnectionId, ConnectionInfo, Output, Recent, Traffic};
pub use keepalive::Keepalive;
pub use limits::Limits;
pub use listener::{BindError, ListenOptions, Listener};
pub use peer::{Peer, PeerAllow, TcpPeer, UnixPeer};
pub use pool::{AtLimit, Outcomes, Permit, Pool};
pub use reader::LineReader;
pub use state::{CloseReason, ConnectionState};
pub use stream::Stream;
pub use tls::{TlsClient, TlsError, TlsServer};
pub use writer::Writer;
