//! Lines out, as the router sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use crawlwire_router::{Closing, Outbound, SendError};
use crawlwire_transport::{CloseReason, ConnectionHandle};

use super::packed::Packing;

/// The way out of one connection.
pub(super) struct Out {
    handle: ConnectionHandle,
    packing: Arc<Packing>,
    /// Whether the peer takes lines in compressed form.
    packs: AtomicBool,
}

impl Out {
    pub(super) fn new(handle: ConnectionHandle, packing: Arc<Packing>) -> Self {
        Self {
            handle,
            packing,
            packs: AtomicBool::new(false),
        }
    }

    /// Compresses large lines from here on.
    pub(super) fn pack(&self) {
        self.packs.store(true, Ordering::Relaxed);
    }
}

impl Outbound for Out {
    fn try_send(&self, line: Bytes) -> Result<(), SendError> {
        let packs = self.packs.load(Ordering::Relaxed);
        let packed = packs.then(|| self.packing.pack(&line)).flatten();
        self.handle
            .try_send(packed.unwrap_or(line))
            .map_err(|error| match error {
                crawlwire_transport::SendError::Full => SendError::Full,
                crawlwire_transport::SendError::Closed | crawlwire_transport::SendError::NotFound => SendError::Closed,
            })
    }

    fn close(&self, why: Closing) {
        self.handle.close(reason(why));
    }
}

/// The connection's word for why the router closes it.
fn reason(why: Closing) -> CloseReason {
    match why {
        Closing::Replaced => CloseReason::Replaced,
        Closing::TokenRevoked => CloseReason::TokenRevoked,
        Closing::Goodbye => CloseReason::Goodbye,
        Closing::HelloRefused | Closing::Unavailable => CloseReason::HelloRefused,
        Closing::NotAuthenticated => CloseReason::NotAuthenticated,
        Closing::HeartbeatTimeout => CloseReason::IdleTimeout,
        Closing::SessionLost => CloseReason::InternalError,
    }
}
