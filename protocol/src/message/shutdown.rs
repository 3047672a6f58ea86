use serde::{Deserialize, Serialize};

use crate::present;
use crate::scalar::serialize_number;

/// The server is going away (API reference, lines 110 to 117).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Shutdown {
    /// Whether the crawler may finish what it is sending. Default true.
    #[serde(default = "graceful_by_default")]
    pub graceful: bool,
    /// Seconds until the connection is closed. Default 30.
    #[serde(default = "default_timeout_seconds", serialize_with = "serialize_number")]
    pub timeout_seconds: f64,
    /// Why, for people.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub reason: Option<String>,
}

const fn graceful_by_default() -> bool {
    true
}

const fn default_timeout_seconds() -> f64 {
    30.0
}
