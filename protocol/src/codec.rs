//! Bytes to messages in one pass, and back.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::envelope::{Custom, Envelope, JobId, Message, WireTime};
use crate::error::{Category, Classify, Severity};
use crate::limits::{NESTING_MAX, TYPE_NAME_CHARS_MAX};

/// What a good line holds.
#[derive(Debug, Clone)]
pub enum Decoded<M> {
    /// A message of the protocol.
    Known(Envelope<M>),
    /// A message of another type, with a sound envelope.
    Custom(Custom),
}

impl<M: Message> Decoded<M> {
    /// The type as it stands on the wire.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Known(envelope) => M::name_of(envelope.message.kind()),
            Self::Custom(custom) => &custom.type_name,
        }
    }
}

/// Why a line is not a message. It names a place and a kind, never what stood there: a line may hold a token.
///
/// All violations with their JSON pointers come from `explain` (feature `explain`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at column {column}")]
pub struct DecodeError {
    /// What is wrong.
    pub kind: DecodeErrorKind,
    /// Where reading stopped, roughly: the byte's number in the line, counted from 1; 0 when no place can be named.
    pub column: usize,
}

/// The kinds of [`DecodeError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DecodeErrorKind {
    /// The bytes are not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// More than [`NESTING_MAX`] levels.
    #[error("nested too deeply")]
    TooDeep,
    /// The text is not JSON.
    #[error("not JSON")]
    NotJson,
    /// The JSON breaks a rule of the protocol.
    #[error("not a valid message")]
    Invalid,
}

impl Classify for DecodeError {
    fn category(&self) -> Category {
        match self.kind {
            DecodeErrorKind::Invalid => Category::MessageValidation,
            _ => Category::MessageParsing,
        }
    }

    fn severity(&self) -> Severity {
        Severity::Low
    }

    fn code(&self) -> &'static str {
        match self.kind {
            DecodeErrorKind::NotUtf8 => "not_utf8",
            DecodeErrorKind::TooDeep => "nested_too_deeply",
            DecodeErrorKind::NotJson => "not_json",
            DecodeErrorKind::Invalid => "invalid_message",
        }
    }
}

/// Reads one line, with or without its newline.
///
/// A message whose `type` comes before its `data`, as every known peer writes it, is read in a single pass; otherwise
/// `data` is skipped over first and read when the type is known.
///
/// # Errors
/// When the line is not UTF-8, not JSON, nested too deeply, or breaks a rule of the protocol. A type that is not part
/// of `M` is no error here: see [`Decoded::Custom`].
pub fn decode<M: Message>(line: &[u8]) -> Result<Decoded<M>, DecodeError> {
    let text = std::str::from_utf8(line).map_err(|error| DecodeError {
        kind: DecodeErrorKind::NotUtf8,
        column: error.valid_up_to() + 1,
    })?;
    if nests_too_deeply(line) {
        return Err(DecodeError {
            kind: DecodeErrorKind::TooDeep,
            column: 0,
        });
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let walked = deserializer.deserialize_map(EnvelopeVisitor(PhantomData));
    let walked = walked.and_then(|walked| deserializer.end().map(|()| walked));
    walked
        .map_err(|error| position(text, &error))
        .and_then(|walked| walked.finish(text))
        .map_err(|column| {
            // A value of the wrong kind may stop the reading before a syntax error does.
            let is_json = serde_json::from_str::<&RawValue>(text).is_ok();
            DecodeError {
                kind: if is_json {
                    DecodeErrorKind::Invalid
                } else {
                    DecodeErrorKind::NotJson
                },
                column,
            }
        })
}

/// Where reading `text` stopped, in bytes counted from 1; 0 when the error does not say.
fn position(text: &str, error: &serde_json::Error) -> usize {
    let line_start = match error.line() {
        0 | 1 => 0,
        line => memchr::memchr_iter(b'\n', text.as_bytes())
            .nth(line - 2)
            .map_or(0, |newline| newline + 1),
    };
    line_start + error.column()
}

/// Writes one message as a line with its newline. Secrets are written out: the result is for the wire only.
///
/// # Errors
/// When a number is not finite, which JSON cannot say.
pub fn encode<M: Message>(envelope: &Envelope<M>) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = Vec::with_capacity(256);
    serde_json::to_writer(&mut line, &OnTheWire(envelope))?;
    line.push(b'\n');
    Ok(line)
}

/// Whether brackets outside strings nest deeper than [`NESTING_MAX`].
///
/// Needed because values of unknown fields are skipped without recursion, where the parser's own limit does not hold.
pub(crate) fn nests_too_deeply(line: &[u8]) -> bool {
    // Few openings cannot nest deeply, and nearly all lines have few.
    if memchr::memchr2_iter(b'{', b'[', line).count() <= NESTING_MAX {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > NESTING_MAX {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

enum Field {
    Type,
    Timestamp,
    JobId,
    Data,
    Unknown,
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;

        impl Visitor<'_> for FieldVisitor {
            type Value = Field;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a field name")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Field, E> {
                Ok(match name {
                    "type" => Field::Type,
                    "timestamp" => Field::Timestamp,
                    "job_id" => Field::JobId,
                    "data" => Field::Data,
                    _ => Field::Unknown,
                })
            }
        }

        deserializer.deserialize_identifier(FieldVisitor)
    }
}

/// A value of `type`: one of the set, or a name we keep for people.
enum TypeName<M: Message> {
    Known(M::Kind),
    Unknown(String),
}

impl<'de, M: Message> Deserialize<'de> for TypeName<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TypeVisitor<M>(PhantomData<M>);

        impl<M: Message> Visitor<'_> for TypeVisitor<M> {
            type Value = TypeName<M>;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a message type")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<TypeName<M>, E> {
                Ok(match M::kind_named(name) {
                    Some(kind) => TypeName::Known(kind),
                    None => TypeName::Unknown(name.chars().take(TYPE_NAME_CHARS_MAX).collect()),
                })
            }
        }

        deserializer.deserialize_str(TypeVisitor(PhantomData))
    }
}

/// Reads a body of a kind that is known by now.
struct BodySeed<M: Message>(M::Kind);

impl<'de, M: Message> DeserializeSeed<'de> for BodySeed<M> {
    type Value = M;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<M, D::Error> {
        M::read_body(self.0, deserializer)
    }
}

/// What `data` turned out to be while walking over the envelope.
enum Data<'de, M> {
    Typed(M),
    Raw(&'de RawValue),
}

/// An envelope with all it must have, `data` perhaps still to be read.
struct Walked<'de, M: Message> {
    type_name: TypeName<M>,
    timestamp: WireTime,
    job_id: Option<JobId>,
    data: Data<'de, M>,
}

impl<M: Message> Walked<'_, M> {
    /// Reads what was skipped over, a slice of `text`. The error is where reading stopped.
    fn finish(self, text: &str) -> Result<Decoded<M>, usize> {
        let Self {
            type_name,
            timestamp,
            job_id,
            data,
        } = self;
        match (type_name, data) {
            (TypeName::Known(_), Data::Typed(message)) => Ok(Decoded::Known(Envelope {
                timestamp,
                job_id,
                message,
            })),
            (TypeName::Known(kind), Data::Raw(raw)) => {
                let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
                let message = M::read_body(kind, raw).map_err(|error| start + position(raw.get(), &error))?;
                Ok(Decoded::Known(Envelope {
                    timestamp,
                    job_id,
                    message,
                }))
            }
            (TypeName::Unknown(type_name), Data::Raw(raw)) if raw.get().starts_with('{') => {
                Ok(Decoded::Custom(Custom {
                    type_name,
                    timestamp,
                    job_id,
                    data: raw.to_owned(),
                }))
            }
            _ => Err(0),
        }
    }
}

struct EnvelopeVisitor<M>(PhantomData<M>);

impl<'de, M: Message> Visitor<'de> for EnvelopeVisitor<M> {
    type Value = Walked<'de, M>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a message object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Walked<'de, M>, A::Error> {
        let mut type_name: Option<TypeName<M>> = None;
        let mut timestamp: Option<WireTime> = None;
        let mut job_id: Option<JobId> = None;
        let mut data: Option<Data<M>> = None;
        while let Some(field) = map.next_key()? {
            match field {
                Field::Type if type_name.is_some() => return Err(de::Error::duplicate_field("type")),
                Field::Type => type_name = Some(map.next_value()?),
                Field::Timestamp if timestamp.is_some() => return Err(de::Error::duplicate_field("timestamp")),
                Field::Timestamp => timestamp = Some(map.next_value()?),
                Field::JobId if job_id.is_some() => return Err(de::Error::duplicate_field("job_id")),
                Field::JobId => job_id = Some(map.next_value()?),
                Field::Data if data.is_some() => return Err(de::Error::duplicate_field("data")),
                Field::Data => {
                    data = Some(match &type_name {
                        Some(TypeName::Known(kind)) => Data::Typed(map.next_value_seed(BodySeed::<M>(*kind))?),
                        _ => Data::Raw(map.next_value()?),
                    })
                }
                Field::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let type_name = type_name.ok_or_else(|| de::Error::missing_field("type"))?;
        let timestamp = timestamp.ok_or_else(|| de::Error::missing_field("timestamp"))?;
        if job_id.is_none() && matches!(&type_name, TypeName::Known(kind) if M::job_id_required(*kind)) {
            return Err(de::Error::missing_field("job_id"));
        }
        let data = data.ok_or_else(|| de::Error::missing_field("data"))?;
        Ok(Walked {
            type_name,
            timestamp,
            job_id,
            data,
        })
    }
}

/// An envelope as it is written: type, timestamp, job id, data, in this order so that readers need one pass.
struct OnTheWire<'a, M>(&'a Envelope<M>);

struct Body<'a, M>(&'a M);

impl<M: Message> Serialize for Body<'_, M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write_body(serializer)
    }
}

impl<M: Message> Serialize for OnTheWire<'_, M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Envelope {
            timestamp,
            job_id,
            message,
        } = self.0;
        let kind = message.kind();
        if job_id.is_none() && M::job_id_required(kind) {
            return Err(S::Error::custom("this message needs a job id"));
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", M::name_of(kind))?;
        map.serialize_entry("timestamp", timestamp)?;
        if let Some(job_id) = job_id {
            map.serialize_entry("job_id", job_id)?;
        }
        map.serialize_entry("data", &Body(message))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::*;
    use crate::{AccessToken, CrawlerMessage, WebAppMessage};

    #[test]
    fn nesting_is_counted_outside_strings_only() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(!nests_too_deeply(nested(NESTING_MAX).as_bytes()));
        assert!(nests_too_deeply(nested(NESTING_MAX + 1).as_bytes()));
        let in_string = format!("[\"{}\\\"{}\"]", "[".repeat(200), "{".repeat(200));
        assert!(!nests_too_deeply(in_string.as_bytes()));
        assert!(!nests_too_deeply("[]".repeat(500).as_bytes()));
    }

    #[test]
    fn deep_unknown_fields_are_refused_whatever_the_order() {
        let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
        let line = format!(r#"{{"type":"x","timestamp":"t","data":{{}},"extra":{deep}}}"#);
        let error = decode::<CrawlerMessage>(line.as_bytes()).unwrap_err();
        assert_eq!(error.kind, DecodeErrorKind::TooDeep);
    }

    #[test]
    fn a_token_goes_over_the_wire_and_nowhere_else() {
        let assignment = JobAssignment {
            job_id: "j".into(),
            job_type: JobType::CrawlUser,
            entity_id: None,
            namespace_path: None,
            gitlab_host: "h".into(),
            access_token: AccessToken::new("glpat-secret"),
            priority: 1.0,
            resume: false,
        };
        let envelope = Envelope::now(WebAppMessage::JobAssignment(assignment));
        assert!(!format!("{envelope:?}").contains("glpat"));
        let line = encode(&envelope).unwrap();
        assert!(line.ends_with(b"\n"));
        let Decoded::Known(back) = decode::<WebAppMessage>(&line).unwrap() else {
            panic!("known type")
        };
        assert_eq!(back, envelope);
    }

    #[test]
    fn an_unknown_type_is_kept_with_its_data() {
        let line = br#"{"data":{"a":1},"type":"custom_job_event","timestamp":"now","job_id":"j"}"#;
        let Decoded::Custom(custom) = decode::<CrawlerMessage>(line).unwrap() else {
            panic!("custom type")
        };
        assert_eq!(
            (custom.type_name.as_str(), custom.data.get()),
            ("custom_job_event", r#"{"a":1}"#)
        );
    }

    #[test]
    fn a_message_about_a_job_is_not_written_without_one() {
        let progress = JobProgress {
            progress: vec![],
            overall_completion: Default::default(),
            time_elapsed: Default::default(),
            estimated_time_remaining: None,
            job_type: None,
        };
        assert!(encode(&Envelope::now(CrawlerMessage::JobProgress(progress))).is_err());
    }
}
