use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{AccessToken, WireTime, present, secret};

/// The token of a job stopped working; the crawler asks for another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TokenRefreshRequest {
    /// Whether the host said that the token expired.
    pub current_token_expired: bool,
    /// When the token last worked.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "WireTime"))]
    pub last_successful_request: Option<WireTime>,
    /// What the host answered, for people.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub error_details: Option<String>,
}

/// The answer to a [`TokenRefreshRequest`] (API reference, lines 552 to 560).
///
/// Not `Serialize`: see [`JobAssignment`](super::JobAssignment).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self")]
pub struct TokenRefreshResponse {
    /// The new token; empty when the refresh was refused.
    #[serde(serialize_with = "secret::expose_on_the_wire")]
    pub access_token: AccessToken,
    /// When the new token ends.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "WireTime"))]
    pub expires_at: Option<WireTime>,
    /// Whether there is a new token.
    pub refresh_successful: bool,
}

impl fmt::Debug for TokenRefreshResponse {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter
            .debug_struct("TokenRefreshResponse")
            .field("refresh_successful", &self.refresh_successful)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
