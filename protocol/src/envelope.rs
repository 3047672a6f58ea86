//! What every message carries around its body.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

use crate::dialect::{Dialect, Mark, Marks};

/// A message with its envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope<M> {
    /// When the sender made the message, as the sender wrote it.
    pub timestamp: WireTime,
    /// The job the message speaks of. Always there for the types whose [`Message::job_id_required`] says so.
    pub job_id: Option<JobId>,
    /// What the session dialect adds; none of them in the base dialect.
    pub marks: Marks,
    /// The typed body.
    pub message: M,
}

impl<M> Envelope<M> {
    /// A message of now, about no job in particular.
    pub fn now(message: M) -> Self {
        Self {
            timestamp: WireTime::now(),
            job_id: None,
            marks: Marks::default(),
            message,
        }
    }

    /// A message of now about one job.
    pub fn for_job(job_id: JobId, message: M) -> Self {
        Self {
            timestamp: WireTime::now(),
            job_id: Some(job_id),
            marks: Marks::default(),
            message,
        }
    }
}

/// A well-formed message of a type that is not part of the protocol: an extension of somebody's own.
///
/// It may hold a token, as a message sent the wrong way does, so its `Debug` leaves the data out.
#[derive(Clone)]
pub struct Custom {
    /// The type as received, cut to [`TYPE_NAME_CHARS_MAX`](crate::limits::TYPE_NAME_CHARS_MAX) characters.
    pub type_name: String,
    /// As in [`Envelope::timestamp`].
    pub timestamp: WireTime,
    /// As in [`Envelope::job_id`].
    pub job_id: Option<JobId>,
    /// As in [`Envelope::marks`].
    pub marks: Marks,
    /// The `data` object, unread.
    pub data: Box<RawValue>,
}

impl fmt::Debug for Custom {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter
            .debug_struct("Custom")
            .field("type_name", &self.type_name)
            .field("timestamp", &self.timestamp)
            .field("job_id", &self.job_id)
            .field("marks", &self.marks)
            .finish_non_exhaustive()
    }
}

/// The name of a job on the wire: a string that is not empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct JobId(String);

impl JobId {
    /// The id, or `None` when it is empty.
    pub fn new(id: impl Into<String>) -> Option<Self> {
        let id = id.into();
        (!id.is_empty()).then_some(Self(id))
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?)
            .ok_or_else(|| de::Error::custom("expected a string that is not empty"))
    }
}

/// A time as a peer wrote it.
///
/// It should be RFC 3339. A time that cannot be read is kept as it is and never depended on: [`WireTime::parse`] says
/// `None` and the receiver uses its own clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WireTime(String);

impl WireTime {
    /// The present moment, in milliseconds, UTC.
    pub fn now() -> Self {
        Utc::now().into()
    }

    /// The text as received.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The moment, when the text is RFC 3339.
    pub fn parse(&self) -> Option<DateTime<Utc>> {
        DateTime::parse_from_rfc3339(&self.0).ok().map(|time| time.to_utc())
    }
}

impl From<DateTime<Utc>> for WireTime {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl From<String> for WireTime {
    fn from(text: String) -> Self {
        Self(text)
    }
}

#[cfg(feature = "schema")]
mod schema {
    use super::{JobId, WireTime};
    use crate::schema::inline_schema;

    // No `format`: a time that cannot be read is accepted and ignored.
    inline_schema!(WireTime, "WireTime", { "type": "string" });
    inline_schema!(JobId, "JobId", { "type": "string", "minLength": 1 });
}

/// A closed set of messages that travel in one direction. Implemented by [`CrawlerMessage`](crate::CrawlerMessage) and
/// [`WebAppMessage`](crate::WebAppMessage).
pub trait Message: Sized + Send + 'static {
    /// The types of the set, without bodies.
    type Kind: Copy + Eq + std::hash::Hash + fmt::Debug + Send + Sync + 'static;

    /// Every type of the set, those of both dialects, in the order of the protocol pages.
    const KINDS: &'static [Self::Kind];

    /// The types that a dialect knows, in the same order.
    fn kinds(dialect: Dialect) -> impl Iterator<Item = Self::Kind> {
        let known = move |kind: &Self::Kind| dialect == Dialect::Session || !Self::is_extension(*kind);
        Self::KINDS.iter().copied().filter(known)
    }

    /// Which type this message has.
    fn kind(&self) -> Self::Kind;

    /// The type with this name on the wire, when the dialect knows it.
    fn kind_named(name: &str, dialect: Dialect) -> Option<Self::Kind>;

    /// The name of a type on the wire.
    fn name_of(kind: Self::Kind) -> &'static str;

    /// Whether the session dialect alone knows the type.
    fn is_extension(kind: Self::Kind) -> bool;

    /// Whether the envelope must name a job.
    fn job_id_required(kind: Self::Kind) -> bool;

    /// The marks that the envelope must have in the session dialect.
    fn marks(kind: Self::Kind) -> &'static [Mark];

    /// Whether a message of this type is numbered, kept by its sender and sent again until it is settled. Session
    /// dialect only.
    fn lasting(kind: Self::Kind) -> bool {
        Self::marks(kind).contains(&Mark::Seq)
    }

    /// Whether the envelope must name the lease. Session dialect only.
    fn needs_fence(kind: Self::Kind) -> bool {
        Self::marks(kind).contains(&Mark::Fence)
    }

    /// Whether the envelope must have `n`. Session dialect only.
    fn needs_n(kind: Self::Kind) -> bool {
        Self::marks(kind).contains(&Mark::N)
    }

    /// Reads the body of a known type in the words of a dialect.
    ///
    /// # Errors
    /// Whatever the deserializer says of a body that breaks a rule.
    fn read_body<'de, D: Deserializer<'de>>(
        kind: Self::Kind,
        dialect: Dialect,
        deserializer: D,
    ) -> Result<Self, D::Error>;

    /// Writes the body as it goes over the wire, secrets included.
    ///
    /// # Errors
    /// Whatever the serializer says.
    fn write_body<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;

    /// The JSON Schema of the body of a type in a dialect.
    #[cfg(feature = "schema")]
    fn body_schema(kind: Self::Kind, dialect: Dialect, generator: &mut schemars::SchemaGenerator) -> schemars::Schema;
}
