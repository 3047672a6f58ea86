//! Strings, lists and integers with bounds, so that a message of the session dialect has a largest size.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::WHOLE_MAX;
use crate::scalar::read_integer;

/// A string of `MIN` to `MAX` characters (Unicode code points, as JSON Schema counts them).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Text<const MIN: usize, const MAX: usize>(String);

/// A name for programs: up to 128 characters. An unknown name is kept and ignored, never refused.
pub type Name = Text<0, 128>;
/// A sentence for people: up to 1,000 characters.
pub type Words = Text<0, 1000>;

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    /// The text, or `None` when it is too short or too long.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let fits = text.len() <= MAX || text.chars().count() <= MAX;
        (fits && (MIN == 0 || text.chars().count() >= MIN)).then_some(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> Text<0, MAX> {
    /// The text, cut to the characters that fit.
    pub fn cut(text: impl Into<String>) -> Self {
        let mut text = text.into();
        if let Some((end, _)) = text.char_indices().nth(MAX) {
            text.truncate(end);
        }
        Self(text)
    }
}

impl<const MIN: usize, const MAX: usize> fmt::Display for Text<MIN, MAX> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Text<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?)
            .ok_or_else(|| de::Error::custom(format_args!("expected a string of {MIN} to {MAX} characters")))
    }
}

/// `MIN` to `MAX` items. Reading stops at the first item too many.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct List<T, const MAX: usize, const MIN: usize = 0>(Vec<T>);

impl<T, const MAX: usize, const MIN: usize> List<T, MAX, MIN> {
    /// The items, or `None` when there are too few or too many.
    pub fn new(items: Vec<T>) -> Option<Self> {
        (MIN..=MAX).contains(&items.len()).then_some(Self(items))
    }

    /// The items as a plain vector.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> List<T, MAX> {
    /// The first items, as many as fit.
    pub fn cut(items: impl IntoIterator<Item = T>) -> Self {
        Self(items.into_iter().take(MAX).collect())
    }
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize, const MIN: usize> Deref for List<T, MAX, MIN> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'a, T, const MAX: usize, const MIN: usize> IntoIterator for &'a List<T, MAX, MIN> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T, const MAX: usize, const MIN: usize> IntoIterator for List<T, MAX, MIN> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize, const MIN: usize> Deserialize<'de> for List<T, MAX, MIN> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const MAX: usize, const MIN: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize, const MIN: usize> Visitor<'de> for Items<T, MAX, MIN> {
            type Value = List<T, MAX, MIN>;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                write!(formatter, "an array of {MIN} to {MAX} items")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                    if list.len() > MAX {
                        return Err(de::Error::invalid_length(list.len(), &self));
                    }
                }
                let length = list.len();
                List::new(list).ok_or_else(|| de::Error::invalid_length(length, &self))
            }
        }

        deserializer.deserialize_seq(Items(PhantomData))
    }
}

/// An integer from `MIN` to `MAX`; written with a fraction of zero or an exponent it is the same integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Whole<const MIN: u64, const MAX: u64>(u64);

/// The number of a protocol version, from 1.
pub type Version = Whole<1, WHOLE_MAX>;

impl<const MIN: u64, const MAX: u64> Whole<MIN, MAX> {
    /// The number, or `None` outside the range.
    pub const fn new(number: u64) -> Option<Self> {
        if number >= MIN && number <= MAX {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number, or the nearest end of the range.
    pub const fn clamped(number: u64) -> Self {
        if number < MIN {
            Self(MIN)
        } else if number > MAX {
            Self(MAX)
        } else {
            Self(number)
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl<const MIN: u64, const MAX: u64> Serialize for Whole<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_integer(deserializer, MIN, MAX).map(Self)
    }
}

#[cfg(feature = "schema")]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{List, Text, Whole};

    impl<const MIN: usize, const MAX: usize> JsonSchema for Text<MIN, MAX> {
        fn schema_name() -> Cow<'static, str> {
            format!("Text{MIN}To{MAX}").into()
        }

        fn inline_schema() -> bool {
            true
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            let mut schema = json_schema!({ "type": "string", "maxLength": MAX });
            if MIN > 0 {
                schema.insert("minLength".into(), MIN.into());
            }
            schema
        }
    }

    impl<T: JsonSchema, const MAX: usize, const MIN: usize> JsonSchema for List<T, MAX, MIN> {
        fn schema_name() -> Cow<'static, str> {
            format!("{}List{MIN}To{MAX}", T::schema_name()).into()
        }

        fn inline_schema() -> bool {
            true
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let mut schema =
                json_schema!({ "type": "array", "items": generator.subschema_for::<T>(), "maxItems": MAX });
            if MIN > 0 {
                schema.insert("minItems".into(), MIN.into());
            }
            schema
        }
    }

    impl<const MIN: u64, const MAX: u64> JsonSchema for Whole<MIN, MAX> {
        fn schema_name() -> Cow<'static, str> {
            format!("Whole{MIN}To{MAX}").into()
        }

        fn inline_schema() -> bool {
            true
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_not_bytes() {
        type Three = Text<1, 3>;
        assert!(Three::new("äöü").is_some() && Three::new("x").is_some());
        assert!(Three::new("").is_none() && Three::new("abcd").is_none());
        assert_eq!(Text::<0, 3>::cut("äöüß").as_str(), "äöü");
        assert_eq!(Text::<0, 3>::cut("äö").as_str(), "äö");
        assert!(serde_json::from_str::<Three>("\"\\u00e4\\u00e4\\u00e4\"").is_ok());
        assert!(serde_json::from_str::<Three>("\"\\u00e4\\u00e4\\u00e4x\"").is_err());
    }

    #[test]
    fn a_list_has_no_item_too_few_or_too_many() {
        type Two = List<u8, 2, 1>;
        for text in ["[1]", "[1,2]"] {
            assert!(serde_json::from_str::<Two>(text).is_ok(), "{text}");
        }
        for text in ["[]", "[1,2,3]", "{}", "1", "null"] {
            assert!(serde_json::from_str::<Two>(text).is_err(), "{text}");
        }
        assert_eq!(List::<u8, 2>::cut([1, 2, 3]).into_vec(), [1, 2]);
        assert!(List::<u8, 2>::new(vec![1, 2, 3]).is_none());
    }

    #[test]
    fn an_integer_stays_in_its_range() {
        type Slots = Whole<0, 1024>;
        for text in ["0", "-0", "1024", "1.024e3"] {
            assert!(serde_json::from_str::<Slots>(text).is_ok(), "{text}");
        }
        for text in ["-1", "1025", "1e4", "0.5", "1e400", "\"1\""] {
            assert!(serde_json::from_str::<Slots>(text).is_err(), "{text}");
        }
        assert_eq!((Slots::clamped(5000).get(), Version::clamped(0).get()), (1024, 1));
    }
}
