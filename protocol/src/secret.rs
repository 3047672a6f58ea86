//! Tokens: what a crawler works with on a host, and what it shows to the server.

use serde::{Deserialize, Deserializer, Serializer, de};
use zeroize::Zeroizing;

use crate::limits::TOKEN_CHARS_MAX;

/// A secret on its way to a crawler, or in the `hello` of one.
///
/// It has neither `Debug` nor `Display` nor `Serialize`, so it cannot reach a log, an API answer or a database column
/// by accident; its memory is wiped when it is dropped. Only the wire encoder writes it out.
#[allow(missing_debug_implementations)]
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(Zeroizing<String>);

impl AccessToken {
    /// Wraps a token as received.
    pub fn new(token: impl Into<String>) -> Self {
        Self(Zeroizing::new(token.into()))
    }

    /// The token itself. Call it only to use the token, never to show it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no token, as in the answer to a refused refresh.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for AccessToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(feature = "schema")]
crate::schema::inline_schema!(AccessToken, "AccessToken", { "type": "string", "writeOnly": true });

/// The one place where a token is written out: the wire encoder, through `serialize_with`.
pub(crate) fn expose_on_the_wire<S: Serializer>(token: &AccessToken, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(token.expose())
}

/// The same for a token that may be absent.
pub(crate) fn expose_some_on_the_wire<S: Serializer>(
    token: &Option<AccessToken>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match token {
        Some(token) => expose_on_the_wire(token, serializer),
        None => serializer.serialize_none(),
    }
}

/// Reads a token of at most [`TOKEN_CHARS_MAX`] characters.
pub(crate) fn some_of_limited_length<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<AccessToken>, D::Error> {
    let token = AccessToken::deserialize(deserializer)?;
    if token.expose().chars().count() > TOKEN_CHARS_MAX {
        return Err(de::Error::custom(format_args!(
            "expected a string of at most {TOKEN_CHARS_MAX} characters"
        )));
    }
    Ok(Some(token))
}

/// What the schema says of it.
#[cfg(feature = "schema")]
pub(crate) fn schema_of_limited_length(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "writeOnly": true, "maxLength": TOKEN_CHARS_MAX })
}
