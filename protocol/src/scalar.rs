//! Numbers of the wire with their ranges.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::COUNT_MAX;

/// A number outside the range of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct OutOfRange {
    /// The range, in words.
    pub expected: &'static str,
}

const COUNT: &str = "an integer from 0 to 9223372036854775807";
const MILLIS: &str = "a finite number of milliseconds, 0 or more";
const FRACTION: &str = "a number from 0 to 1";

/// How many: an integer from 0 to 2^63 - 1.
///
/// On the wire an integral float (`1e2`, `3.0`, `-0`) is a count too, because JavaScript peers write such numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count(u64);

impl Count {
    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number in the type databases hold; lossless, see [`COUNT_MAX`].
    pub const fn as_i64(self) -> i64 {
        self.0 as i64
    }
}

impl From<u32> for Count {
    fn from(value: u32) -> Self {
        Self(value.into())
    }
}

impl TryFrom<u64> for Count {
    type Error = OutOfRange;

    fn try_from(value: u64) -> Result<Self, OutOfRange> {
        if value <= COUNT_MAX {
            Ok(Self(value))
        } else {
            Err(OutOfRange { expected: COUNT })
        }
    }
}

impl TryFrom<f64> for Count {
    type Error = OutOfRange;

    fn try_from(value: f64) -> Result<Self, OutOfRange> {
        // 2^63 is exactly representable and is the first float past the range.
        if value >= 0.0 && value < COUNT_MAX as f64 && value.fract() == 0.0 {
            Ok(Self(value as u64))
        } else {
            Err(OutOfRange { expected: COUNT })
        }
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_integer(deserializer, 0, COUNT_MAX).map(Self)
    }
}

/// Reads an integer from `min` to `max`, an integral float too.
pub(crate) fn read_integer<'de, D: Deserializer<'de>>(deserializer: D, min: u64, max: u64) -> Result<u64, D::Error> {
    deserializer.deserialize_u64(IntegerVisitor { min, max })
}

struct IntegerVisitor {
    min: u64,
    max: u64,
}

impl Visitor<'_> for IntegerVisitor {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "an integer from {} to {}", self.min, self.max)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
        if (self.min..=self.max).contains(&value) {
            Ok(value)
        } else {
            Err(E::invalid_value(Unexpected::Unsigned(value), &self))
        }
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<u64, E> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(value), &self)),
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<u64, E> {
        // A count ends below 2^63, so nothing in any range is lost on the way through it.
        match Count::try_from(value) {
            Ok(count) => self.visit_u64(count.get()),
            Err(_) => Err(E::invalid_value(Unexpected::Float(value), &self)),
        }
    }
}

/// A finite float with a lower and an upper bound, as a type of its own.
macro_rules! bounded_float {
    ($(#[$doc:meta])* $name:ident, $max:expr, $expected:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd)]
        pub struct $name(f64);

        impl $name {
            /// The number.
            pub const fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = OutOfRange;

            fn try_from(value: f64) -> Result<Self, OutOfRange> {
                if (0.0..=$max).contains(&value) {
                    Ok(Self(value))
                } else {
                    Err(OutOfRange { expected: $expected })
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::try_from(f64::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize_number(&self.0, serializer)
            }
        }
    };
}

bounded_float! {
    /// A time span in milliseconds: finite, 0 or more, fractions allowed.
    Millis, f64::MAX, MILLIS
}

bounded_float! {
    /// A share from 0 to 1, both included.
    Fraction, 1.0, FRACTION
}

impl Millis {
    /// As a duration; a span too long for one is [`Duration::MAX`].
    pub fn as_duration(self) -> Duration {
        Duration::try_from_secs_f64(self.0 / 1000.0).unwrap_or(Duration::MAX)
    }
}

impl From<Duration> for Millis {
    fn from(duration: Duration) -> Self {
        Self(duration.as_secs_f64() * 1000.0)
    }
}

struct Number<'a>(&'a f64);

impl Serialize for Number<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_number(self.0, serializer)
    }
}

pub(crate) fn serialize_optional_number<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(Number).serialize(serializer)
}

pub(crate) fn serialize_optional_numbers<S: Serializer>(
    values: &Option<BTreeMap<String, f64>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match values {
        Some(values) => serializer.collect_map(values.iter().map(|(key, value)| (key, Number(value)))),
        None => serializer.serialize_none(),
    }
}

/// Writes whole numbers without `.0`, as the peers do.
pub(crate) fn serialize_number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0; // 2^53: every whole number up to here is exact.
    if value.fract() == 0.0 && value.abs() <= WHOLE_MAX {
        serializer.serialize_i64(*value as i64)
    } else {
        serializer.serialize_f64(*value)
    }
}

#[cfg(feature = "schema")]
mod schema {
    use super::{COUNT_MAX, Count, Fraction, Millis};
    use crate::schema::inline_schema;

    inline_schema!(Count, "Count", { "type": "integer", "minimum": 0, "maximum": COUNT_MAX });
    inline_schema!(Millis, "Millis", { "type": "number", "minimum": 0 });
    inline_schema!(Fraction, "Fraction", { "type": "number", "minimum": 0, "maximum": 1 });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_take_integral_floats_up_to_the_signed_limit() {
        let accepted = [
            "0",
            "-0",
            "-0.0",
            "3.0",
            "1e2",
            "9223372036854775807",
            "9223372036854774784.0",
        ];
        for text in accepted {
            assert!(serde_json::from_str::<Count>(text).is_ok(), "{text}");
        }
        let refused = [
            "-1",
            "1.5",
            "9223372036854775808",
            "9.223372036854775807e18",
            "18446744073709551616",
            "1e999",
            "\"1\"",
        ];
        for text in refused {
            assert!(serde_json::from_str::<Count>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn whole_numbers_are_written_without_a_fraction() {
        assert_eq!(serde_json::to_string(&Millis(45000.0)).unwrap(), "45000");
        assert_eq!(serde_json::to_string(&Millis(0.25)).unwrap(), "0.25");
        assert_eq!(serde_json::to_string(&Millis(1e300)).unwrap(), "1e+300");
    }

    #[test]
    fn a_span_too_long_saturates() {
        assert_eq!(Millis(f64::MAX).as_duration(), Duration::MAX);
        assert_eq!(Millis(1500.0).as_duration(), Duration::from_millis(1500));
    }
}
