//! Optional fields: absent is fine, `null` is not.
//!
//! `Option<T>` alone would take `null` for absent. With [`some`] the field, when present, must hold a `T`.

use serde::{Deserialize, Deserializer};

pub(crate) fn some<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}
