//! Where a crawler can go on: its own words, which nobody else reads.

use std::fmt;

use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::limits::CURSOR_BYTES_MAX;

/// A JSON object of the crawler's own, kept as its text and handed to the next attempt as it came.
///
/// At most [`CURSOR_BYTES_MAX`] bytes. What is in it is nobody's business, so `Debug` tells its size alone.
#[derive(Clone)]
pub struct Cursor(Box<RawValue>);

impl Cursor {
    /// A cursor from its text, such as a store kept; `None` when that is not a JSON object or too long.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        RawValue::from_string(text.into()).ok().and_then(Self::checked)
    }

    /// The text of the object. It holds no newline, so it may stand in a line.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    fn checked(raw: Box<RawValue>) -> Option<Self> {
        let text = raw.get();
        if text.len() > CURSOR_BYTES_MAX || serde_json::from_str::<Keys>(text).is_err() {
            return None;
        }
        if !text.contains('\n') {
            return Some(Self(raw));
        }
        // Outside strings it is white space, and inside them it cannot stand.
        RawValue::from_string(text.replace('\n', " ")).ok().map(Self)
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "Cursor({} bytes)", self.as_str().len())
    }
}

impl PartialEq for Cursor {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Cursor {}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::checked(raw)
            .ok_or_else(|| de::Error::custom(format_args!("expected an object of at most {CURSOR_BYTES_MAX} bytes")))
    }
}

/// An object whose keys are Unicode, as those of every object of ours are; its values may be anything.
struct Keys;

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeysVisitor;

        impl<'de> Visitor<'de> for KeysVisitor {
            type Value = Keys;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                while map.next_key::<Key>()?.is_some() {
                    map.next_value::<IgnoredAny>()?;
                }
                Ok(Keys)
            }
        }

        deserializer.deserialize_map(KeysVisitor)
    }
}

struct Key;

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a key")
            }

            fn visit_str<E: de::Error>(self, _: &str) -> Result<Key, E> {
                Ok(Key)
            }
        }

        deserializer.deserialize_str(KeyVisitor)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Cursor {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cursor".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // A schema cannot count the bytes of a value; `explain` reads this annotation and does.
        schemars::json_schema!({ "type": "object", "x-bytes-max": CURSOR_BYTES_MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_object_of_limited_size_kept_as_its_text() {
        let text = r#"{ "page": 1e400, "page": "\ud800", "deep": [[{}]] }"#;
        assert_eq!(Cursor::new(text).unwrap().as_str(), text);
        for text in ["", "[]", "null", "\"{}\"", "{", "{} {}", r#"{"\ud800":1}"#] {
            assert!(Cursor::new(text).is_none(), "{text}");
        }
        let sized = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
        assert_eq!(
            Cursor::new(sized(CURSOR_BYTES_MAX)).unwrap().as_str().len(),
            CURSOR_BYTES_MAX
        );
        assert!(Cursor::new(sized(CURSOR_BYTES_MAX + 1)).is_none());
    }

    #[test]
    fn it_never_breaks_a_line_and_is_not_shown() {
        let cursor = Cursor::new("{\n\"after\":\n7}").unwrap();
        assert_eq!(cursor.as_str(), "{ \"after\": 7}");
        assert_eq!(format!("{cursor:?}"), "Cursor(13 bytes)");
    }
}
