//! The words of the wire between crawlers and the server.
//!
//! One message is one line: a JSON object `{"type", "timestamp", "job_id"?, "data"}` in UTF-8, ended by `\n`. There are
//! two [dialects](Dialect) of it; the session dialect adds types and, to the envelope, [`Marks`].
//! [`CrawlerMessage`] goes up to the server, [`WebAppMessage`] comes down to a crawler; [`decode`] and [`encode`]
//! translate between lines and types. The crate is synchronous and knows no socket.
//!
//! | module | holds |
//! |---|---|
//! | [`message`] | one file per conversation: bodies, units, ranges |
//! | [`envelope`](Envelope) | what every message carries around its body |
//! | codec ([`decode`], [`encode`]) | bytes to messages in one pass, and back |
//! | [`peek()`], [`fingerprint`] | what can be said of a line that may be broken |
//! | [`explain`] (feature `explain`) | why a line was refused: every violation with its JSON pointer |
//! | [`schema`] (feature `schema`) | JSON Schemas generated from the types |
//! | [`error`] | the error taxonomy: twelve categories, four severities, stable codes |
//! | [`limits`] | every limit of the wire, with its reason |
//!
//! ```
//! use crawlwire_protocol::{CrawlerMessage, Decoded, Dialect, decode};
//!
//! let line = br#"{"type":"heartbeat","timestamp":"2024-01-15T10:30:00Z",
//!     "data":{"active_jobs":2,"last_activity":"2024-01-15T10:29:45Z","system_status":"crawling"}}"#;
//! let Decoded::Known(envelope) = decode::<CrawlerMessage>(line, Dialect::Base)? else { unreachable!() };
//! let CrawlerMessage::Heartbeat(heartbeat) = envelope.message else { unreachable!() };
//! assert_eq!(heartbeat.active_jobs.get(), 2);
//! # Ok::<(), crawlwire_protocol::DecodeError>(())
//! ```
#![warn(missing_docs)]

mod bounded;
mod codec;
mod cursor;
mod decode_error;
mod dialect;
mod envelope;
pub mod error;
#[cfg(feature = "explain")]
pub mod explain;
mod host;
pub mod limits;
pub mod message;
mod peek;
mod present;
mod scalar;
#[cfg(feature = "schema")]
pub mod schema;
mod secret;
mod strict;

pub use bounded::{List, Name, Text, Version, Whole, Words};
pub use codec::{Decoded, decode, encode};
pub use cursor::Cursor;
pub use decode_error::{DecodeError, DecodeErrorKind};
pub use dialect::{Dialect, FenceNo, Mark, Marks, Seq};
pub use envelope::{Custom, Envelope, JobId, Message, WireTime};
pub use error::{Category, Classify, Severity};
pub use host::{HostError, normalise_host};
pub use message::{CrawlerKind, CrawlerMessage, WebAppKind, WebAppMessage};
pub use peek::{Peeked, fingerprint, peek};
pub use scalar::{Count, Fraction, Millis, OutOfRange};
pub use secret::AccessToken;
