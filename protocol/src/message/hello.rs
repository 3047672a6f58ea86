//! How a session begins.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::ReportPolicy;
use crate::limits::{LEASES_MAX, LIST_MAX, VERSIONS_MAX, WHOLE_MAX};
use crate::{AccessToken, Count, FenceNo, JobId, List, Millis, Name, Seq, Text, Version, Whole, WireTime, Words};
use crate::{present, secret};

/// The only version there is.
pub const VERSION: u64 = 1;

/// Jobs a crawler wants at a time.
pub type Slots = Whole<0, { LEASES_MAX as u64 }>;
/// The stable name of a crawler: 1 to 128 characters.
pub type CrawlerId = Text<1, 128>;

/// The first line of a session: who is there and what it can do.
///
/// It may carry a token, so it has no `Serialize` and its `Debug` leaves the token out; see
/// [`JobAssignment`](super::JobAssignment).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self")]
pub struct Hello {
    /// The versions of the protocol that the peer speaks.
    pub versions: List<Version, VERSIONS_MAX, 1>,
    /// What it understands beyond the core; see [`Feature`].
    pub features: List<Name, LIST_MAX>,
    /// What it is; see [`Role`].
    pub role: Name,
    /// Its stable name, the same after a restart.
    pub crawler_id: CrawlerId,
    /// Names the owner of the numbers and leases: kept as long as those are, through reconnects and restarts.
    pub instance_id: InstanceId,
    /// What proves who it is, where the server asks for that.
    #[serde(
        default,
        deserialize_with = "secret::some_of_limited_length",
        skip_serializing_if = "Option::is_none",
        serialize_with = "secret::expose_some_on_the_wire"
    )]
    #[cfg_attr(feature = "schema", schemars(schema_with = "secret::schema_of_limited_length"))]
    pub token: Option<AccessToken>,
    /// The job types it can do; all when absent. Unknown ones are ignored: with none known it gets no job.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "List<Name, LIST_MAX>"))]
    pub job_types: Option<List<Name, LIST_MAX>>,
    /// The hosts it can reach; all when absent.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "List<Words, LIST_MAX>"))]
    pub hosts: Option<List<Words, LIST_MAX>>,
    /// Jobs it wants at a time.
    pub slots: Slots,
    /// Words of its own, for people and filters.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "List<Name, LIST_MAX>"))]
    pub labels: Option<List<Name, LIST_MAX>>,
    /// What it runs.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Software"))]
    pub software: Option<Software>,
    /// Every job whose end has not been settled yet; none when absent.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "List<HeldLease, LEASES_MAX>"))]
    pub holds: Option<List<HeldLease, LEASES_MAX>>,
}

impl fmt::Debug for Hello {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter
            .debug_struct("Hello")
            .field("versions", &self.versions)
            .field("features", &self.features)
            .field("role", &self.role)
            .field("crawler_id", &self.crawler_id)
            .field("instance_id", &self.instance_id)
            .field("job_types", &self.job_types)
            .field("hosts", &self.hosts)
            .field("slots", &self.slots)
            .field("labels", &self.labels)
            .field("software", &self.software)
            .field("holds", &self.holds)
            .finish_non_exhaustive()
    }
}

/// The answer to a good `hello`: the terms of the session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Welcome {
    /// The version that is spoken from here on.
    pub version: Version,
    /// The features of both sides.
    pub features: List<Name, LIST_MAX>,
    /// The server's name of the session, for logs on both sides.
    pub session_id: Name,
    /// Who answers.
    pub server: ServerInfo,
    /// How often to send a heartbeat.
    pub heartbeat_interval_ms: Millis,
    /// How long the server waits for any line before it takes the connection for dead.
    pub heartbeat_timeout_ms: Millis,
    /// How long the leases last without a sign of life.
    pub lease_ms: Millis,
    /// Bytes of the longest line the server takes, without its newline.
    pub max_message_size_bytes: Count,
    /// Lasting messages that may be on the way at once, not yet settled.
    pub max_in_flight: Count,
    /// Bytes of them together.
    pub max_in_flight_bytes: Count,
    /// How often to report.
    pub report_policy: ReportPolicy,
    /// The server's clock.
    pub server_time: WireTime,
    /// The highest number settled; 0 when there is none.
    pub high_water_seq: HighWater,
    /// Of the jobs that `hello` held, those that are still its own. Whatever is not here is lost: stop it.
    pub leases: List<HeldLease, LEASES_MAX>,
    /// Of the settled numbers, those that were refused for good: of as many as may be on their way. Every other one had
    /// its effect. Absent from a server that does not tell.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "List<RefusedNumber, LIST_MAX>"))]
    pub refused: Option<List<RefusedNumber, LIST_MAX>>,
}

/// The highest settled number, 0 before the first.
pub type HighWater = Whole<0, WHOLE_MAX>;

/// A lease as its holder knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self")]
pub struct HeldLease {
    /// The job.
    pub job_id: JobId,
    /// The lease, as the assignment named it.
    pub fence: FenceNo,
}

/// A number that was settled without effect: what its `error` said, for a crawler that never heard it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self")]
pub struct RefusedNumber {
    /// The number.
    pub seq: Seq,
    /// What was wrong, as in the error.
    pub code: Name,
}

/// What a crawler runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self")]
pub struct Software {
    /// The name of the program.
    pub name: Name,
    /// Its version.
    #[serde(default, deserialize_with = "present::some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Name"))]
    pub version: Option<Name>,
}

/// Which server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self")]
pub struct ServerInfo {
    /// The server's name among those that share a database.
    pub name: Name,
    /// The version of its program.
    pub version: Name,
}

/// The id of an instance: a UUID as text, kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct InstanceId(String);

impl InstanceId {
    /// The id, or `None` when the text is not 32 hexadecimal digits in the groups of a UUID.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        const HYPHENS: [usize; 4] = [8, 13, 18, 23];
        let mut text = text.into();
        let digit = |(place, byte): (usize, u8)| match HYPHENS.contains(&place) {
            true => byte == b'-',
            false => byte.is_ascii_hexdigit(),
        };
        if text.len() != 36 || !text.bytes().enumerate().all(digit) {
            return None;
        }
        text.make_ascii_lowercase();
        Some(Self(text))
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for InstanceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).ok_or_else(|| de::Error::custom("expected a UUID"))
    }
}

#[cfg(feature = "schema")]
crate::schema::inline_schema!(InstanceId, "InstanceId", {
    "type": "string",
    "pattern": "^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$"
});

/// What both sides may understand beyond the core. A name never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// `job_cancel`, `job_pause` and `job_resume`, and their confirmations.
    Cancel,
    /// `checkpoint`, and the cursor in an assignment.
    Checkpoint,
    /// `compressed` lines.
    Zstd,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cancel, Self::Checkpoint, Self::Zstd];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Checkpoint => "checkpoint",
            Self::Zstd => "zstd",
        }
    }

    /// The feature with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.as_str() == name)
    }
}

/// What a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Works on jobs; may say everything.
    Crawler,
    /// Only shows that it is there: `hello`, `heartbeat`, `ping`, `pong`, `goodbye`.
    Monitor,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Crawler, Self::Monitor];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crawler => "crawler",
            Self::Monitor => "monitor",
        }
    }

    /// The role with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_named_by_a_uuid() {
        let id = InstanceId::new("0192F0C1-7A3B-7CDE-8F01-23456789ABCD").unwrap();
        assert_eq!(id.as_str(), "0192f0c1-7a3b-7cde-8f01-23456789abcd");
        for text in [
            "",
            "0192f0c17a3b7cde8f0123456789abcd",
            "{0192f0c1-7a3b-7cde-8f01-23456789abcd}",
            "0192f0c1-7a3b-7cde-8f01-23456789abcg",
            "0192f0c1-7a3b-7cde-8f01-23456789abc\u{e4}",
            "0192f0c1-7a3b-7cde-8f01-23456789abcd\n",
        ] {
            assert!(InstanceId::new(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn names_lead_back() {
        for feature in Feature::ALL {
            assert_eq!(Feature::named(feature.as_str()), Some(feature));
        }
        for role in Role::ALL {
            assert_eq!(Role::named(role.as_str()), Some(role));
        }
        assert_eq!((Feature::named("Zstd"), Role::named("")), (None, None));
    }
}
