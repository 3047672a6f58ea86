//! What happens to the connections of a pool, for whoever subscribes.

use std::sync::Arc;

use crate::health::Health;
use crate::info::ConnectionId;
use crate::peer::Peer;
use crate::state::{CloseReason, ConnectionState};

/// A change in a pool (API reference, lines 672 to 686; connection management, lines 124 to 130).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolEvent {
    /// A connection was taken in.
    Added {
        /// Which.
        id: ConnectionId,
        /// Its other end.
        peer: Peer,
    },
    /// A connection has closed and left the pool.
    Removed {
        /// Which.
        id: ConnectionId,
        /// Why it closed.
        reason: CloseReason,
        /// Its crawler, if it had said who it is.
        crawler_id: Option<Arc<str>>,
    },
    /// A connection's state changed. What only the clock changes (active to idle) is noticed by
    /// [`Pool::sweep`](crate::Pool::sweep).
    StateChanged {
        /// Which.
        id: ConnectionId,
        /// The state last told.
        from: ConnectionState,
        /// The state now.
        to: ConnectionState,
    },
    /// A sweep found a connection's health changed.
    HealthChanged {
        /// Which.
        id: ConnectionId,
        /// The health at the last sweep; healthy before the first.
        from: Health,
        /// The health now.
        to: Health,
    },
    /// The layer above could not accept a line.
    Error {
        /// Which.
        id: ConnectionId,
        /// The error's stable code.
        code: &'static str,
    },
}
