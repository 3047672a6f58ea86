//! The two dialects of the wire, and what the session dialect adds to the envelope.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::WHOLE_MAX;
use crate::scalar::read_integer;

/// Which of the two protocols a connection speaks. Its first line decides, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// No greeting, no replies: what crawlers spoke from the start.
    Base,
    /// Begins with `hello`: numbered messages, acknowledgements, errors, wishes.
    Session,
}

impl Dialect {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Session => "session",
        }
    }
}

/// A field of the envelope that only the session dialect knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// `seq`: the number of a lasting message.
    Seq,
    /// `fence`: which lease of the job the message speaks for.
    Fence,
    /// `n`: which of several messages is newer.
    N,
}

impl Mark {
    /// The name of the field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seq => "seq",
            Self::Fence => "fence",
            Self::N => "n",
        }
    }
}

/// What the session dialect adds to an envelope; nothing of it in the base dialect.
///
/// A message must have the marks that [`Message::marks`](crate::Message::marks) names for its type. One that it need not
/// have is read when it is there and means nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Marks {
    /// The number of a lasting message, counted per instance of a crawler from 1 without gaps.
    pub seq: Option<Seq>,
    /// The lease that the message speaks for, as the assignment named it.
    pub fence: Option<FenceNo>,
    /// Rises from message to message, 0 to 2^53 - 1: of `job_progress` per job and lease, of `token_refresh_request` per
    /// connection. A response repeats it.
    pub n: Option<u64>,
}

impl Marks {
    /// Whether this mark is there.
    pub const fn has(&self, mark: Mark) -> bool {
        match mark {
            Mark::Seq => self.seq.is_some(),
            Mark::Fence => self.fence.is_some(),
            Mark::N => self.n.is_some(),
        }
    }
}

/// The number of a lasting message: 1 to 2^53 - 1, which every JSON reader holds exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// The number, or `None` outside 1 to 2^53 - 1.
    pub const fn new(number: u64) -> Option<Self> {
        if number >= 1 && number <= WHOLE_MAX {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Which lease of a job is meant: 0 to 2^53 - 1. It rises whenever the job changes hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FenceNo(i64);

impl FenceNo {
    /// The number, or `None` outside 0 to 2^53 - 1.
    pub const fn new(number: i64) -> Option<Self> {
        if number >= 0 && number <= WHOLE_MAX as i64 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Seq {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_integer(deserializer, 1, WHOLE_MAX).map(Self)
    }
}

impl<'de> Deserialize<'de> for FenceNo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Lossless: the range ends far below 2^63.
        read_integer(deserializer, 0, WHOLE_MAX).map(|number| Self(number as i64))
    }
}

impl Serialize for Seq {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl Serialize for FenceNo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

#[cfg(feature = "schema")]
mod schema {
    use super::{FenceNo, Seq, WHOLE_MAX};
    use crate::schema::inline_schema;

    inline_schema!(Seq, "Seq", { "type": "integer", "minimum": 1, "maximum": WHOLE_MAX });
    inline_schema!(FenceNo, "FenceNo", { "type": "integer", "minimum": 0, "maximum": WHOLE_MAX });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_range() {
        assert_eq!(Seq::new(0), None);
        assert_eq!(Seq::new(1).map(Seq::get), Some(1));
        assert_eq!(Seq::new(1 << 53), None);
        assert_eq!(FenceNo::new(-1), None);
        assert_eq!(FenceNo::new((1 << 53) - 1).map(FenceNo::get), Some((1 << 53) - 1));
        assert_eq!(FenceNo::new(1 << 53), None);
        for text in ["1", "1.0", "1e2", "9007199254740991"] {
            assert!(serde_json::from_str::<Seq>(text).is_ok(), "{text}");
        }
        for text in [
            "0",
            "-1",
            "1.5",
            "9007199254740992",
            "9007199254740992.0",
            "null",
            "\"1\"",
        ] {
            assert!(serde_json::from_str::<Seq>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<FenceNo>("-0").is_ok());
    }
}
