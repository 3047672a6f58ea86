//! The access token a crawler works with.

use serde::{Deserialize, Deserializer, Serializer};
use zeroize::Zeroizing;

/// A secret on its way to a crawler.
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
impl schemars::JsonSchema for AccessToken {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AccessToken".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "writeOnly": true })
    }
}

/// The one place where a token is written out: the wire encoder, through `serialize_with`.
pub(crate) fn expose_on_the_wire<S: Serializer>(token: &AccessToken, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(token.expose())
}
