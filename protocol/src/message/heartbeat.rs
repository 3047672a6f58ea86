use serde::{Deserialize, Serialize};

use super::HeldLease;
use super::shape::two_shapes;
use crate::limits::LEASES_MAX;
use crate::{Count, List, WireTime, present};

two_shapes! {
    /// A sign of life, sent every heartbeat interval (API reference, lines 373 to 385).
    #[derive(Debug)]
    pub struct Heartbeat, base: BaseHeartbeat as "Heartbeat" {
        /// Jobs the crawler says it works on. Information only: it frees no slot and revokes no lease.
        pub active_jobs: Count,
        /// When the crawler last did something.
        pub last_activity: WireTime,
        /// What it is doing.
        pub system_status: SystemStatus,
        session {
            /// Every job whose end has not been settled yet. Session dialect only; absent means that nothing is said.
            #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
            #[cfg_attr(feature = "schema", schemars(with = "List<HeldLease, LEASES_MAX>"))]
            pub jobs: Option<List<HeldLease, LEASES_MAX>>,
        }
    }
}

/// What a crawler is doing (API reference, line 383).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum SystemStatus {
    /// Waiting for work.
    Idle,
    /// Looking for namespaces.
    Discovering,
    /// Fetching data.
    Crawling,
    /// In trouble.
    Error,
}

impl SystemStatus {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Discovering => "discovering",
            Self::Crawling => "crawling",
            Self::Error => "error",
        }
    }
}
