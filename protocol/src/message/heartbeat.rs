use serde::{Deserialize, Serialize};

use crate::{Count, WireTime};

/// A sign of life, sent every heartbeat interval (API reference, lines 373 to 385).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Heartbeat {
    /// Jobs the crawler says it works on. Information only: it frees no slot and revokes no lease.
    pub active_jobs: Count,
    /// When the crawler last did something.
    pub last_activity: WireTime,
    /// What it is doing.
    pub system_status: SystemStatus,
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
