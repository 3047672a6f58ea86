//! Names of things inside the server. On the wire and in the API jobs have their public id instead.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

key! {
    /// The row of a job.
    JobKey
}
key! {
    /// The row of a session.
    SessionKey
}
key! {
    /// The row of an account.
    AccountKey
}
key! {
    /// The row of a credential.
    CredentialKey
}
key! {
    /// The row of a crawler's token.
    TokenKey
}
key! {
    /// Says which connection of a session a message belongs to. It is 1 for the first, and rises by one whenever the
    /// crawler comes back as the same instance.
    Epoch
}
key! {
    /// Says which lease a message belongs to. It rises by one at claim, expiry, release and forced end, never falls,
    /// and does not change at a reconnect; so a line that carries an old one comes from a crawler that lost the job.
    Fence
}

impl Fence {
    /// The fence after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One connection of a session. What it says counts only while its epoch is the row's: a later connection of the same
/// crawler speaks for the session then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionRef {
    /// The session.
    pub key: SessionKey,
    /// Which of its connections.
    pub epoch: Epoch,
}

/// A moment: milliseconds since 1970 in UTC, by the clock of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The moment this much later; stays in range.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// How long it is from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}
