//! Bytes to messages in one pass, and back.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::bounded::Whole;
use crate::decode_error::{DecodeError, DecodeErrorKind};
use crate::dialect::{Dialect, FenceNo, Mark, Marks, Seq};
use crate::envelope::{Custom, Envelope, JobId, Message, WireTime};
use crate::limits::{NESTING_MAX, TYPE_NAME_CHARS_MAX, WHOLE_MAX};

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

/// Reads one line of a dialect, with or without its newline.
///
/// A message whose `type` comes before its `data`, as every known peer writes it, is read in a single pass; otherwise
/// `data` is skipped over first and read when the type is known.
///
/// # Errors
/// When the line is not UTF-8, not JSON, nested too deeply, or breaks a rule of the protocol. A type that is not part
/// of `M` is no error here: see [`Decoded::Custom`].
pub fn decode<M: Message>(line: &[u8], dialect: Dialect) -> Result<Decoded<M>, DecodeError> {
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
    let walked = deserializer.deserialize_map(EnvelopeVisitor {
        dialect,
        set: PhantomData,
    });
    let walked = walked.and_then(|walked| deserializer.end().map(|()| walked));
    walked
        .map_err(|error| position(text, &error))
        .and_then(|walked| walked.finish(text, dialect))
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
    Mark(Mark),
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
                    "seq" => Field::Mark(Mark::Seq),
                    "fence" => Field::Mark(Mark::Fence),
                    "n" => Field::Mark(Mark::N),
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

/// Reads a value of `type`.
struct TypeSeed<M> {
    dialect: Dialect,
    set: PhantomData<M>,
}

impl<'de, M: Message> DeserializeSeed<'de> for TypeSeed<M> {
    type Value = TypeName<M>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<TypeName<M>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<M: Message> Visitor<'_> for TypeSeed<M> {
    type Value = TypeName<M>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a message type")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<TypeName<M>, E> {
        Ok(match M::kind_named(name, self.dialect) {
            Some(kind) => TypeName::Known(kind),
            None => TypeName::Unknown(name.chars().take(TYPE_NAME_CHARS_MAX).collect()),
        })
    }
}

/// Reads a body of a kind that is known by now.
struct BodySeed<M: Message>(M::Kind, Dialect);

impl<'de, M: Message> DeserializeSeed<'de> for BodySeed<M> {
    type Value = M;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<M, D::Error> {
        M::read_body(self.0, self.1, deserializer)
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
    marks: Marks,
    data: Data<'de, M>,
}

impl<M: Message> Walked<'_, M> {
    /// Reads what was skipped over, a slice of `text`. The error is where reading stopped.
    fn finish(self, text: &str, dialect: Dialect) -> Result<Decoded<M>, usize> {
        let Self {
            type_name,
            timestamp,
            job_id,
            marks,
            data,
        } = self;
        let message = match (type_name, data) {
            (TypeName::Known(_), Data::Typed(message)) => message,
            (TypeName::Known(kind), Data::Raw(raw)) => {
                let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
                M::read_body(kind, dialect, raw).map_err(|error| start + position(raw.get(), &error))?
            }
            (TypeName::Unknown(type_name), Data::Raw(raw)) if raw.get().starts_with('{') => {
                return Ok(Decoded::Custom(Custom {
                    type_name,
                    timestamp,
                    job_id,
                    marks,
                    data: raw.to_owned(),
                }));
            }
            _ => return Err(0),
        };
        Ok(Decoded::Known(Envelope {
            timestamp,
            job_id,
            marks,
            message,
        }))
    }
}

/// Reads a mark into its place, once.
fn read_mark<'de, A: MapAccess<'de>>(map: &mut A, marks: &mut Marks, mark: Mark) -> Result<(), A::Error> {
    if marks.has(mark) {
        return Err(de::Error::duplicate_field(mark.as_str()));
    }
    match mark {
        Mark::Seq => marks.seq = Some(map.next_value::<Seq>()?),
        Mark::Fence => marks.fence = Some(map.next_value::<FenceNo>()?),
        Mark::N => marks.n = Some(map.next_value::<Whole<0, WHOLE_MAX>>()?.get()),
    }
    Ok(())
}

struct EnvelopeVisitor<M> {
    dialect: Dialect,
    set: PhantomData<M>,
}

impl<M: Message> EnvelopeVisitor<M> {
    /// Whether the envelope has what the type asks for.
    fn check<E: de::Error>(&self, kind: M::Kind, job_id: Option<&JobId>, marks: Marks) -> Result<(), E> {
        if job_id.is_none() && M::job_id_required(kind) {
            return Err(E::missing_field("job_id"));
        }
        if self.dialect == Dialect::Base {
            return Ok(());
        }
        match M::marks(kind).iter().find(|mark| !marks.has(**mark)) {
            Some(mark) => Err(E::missing_field(mark.as_str())),
            None => Ok(()),
        }
    }
}

impl<'de, M: Message> Visitor<'de> for EnvelopeVisitor<M> {
    type Value = Walked<'de, M>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a message object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Walked<'de, M>, A::Error> {
        let mut type_name: Option<TypeName<M>> = None;
        let mut timestamp: Option<WireTime> = None;
        let mut job_id: Option<JobId> = None;
        let mut marks = Marks::default();
        let mut data: Option<Data<M>> = None;
        while let Some(field) = map.next_key()? {
            match field {
                Field::Type if type_name.is_some() => return Err(de::Error::duplicate_field("type")),
                Field::Type => {
                    type_name = Some(map.next_value_seed(TypeSeed {
                        dialect: self.dialect,
                        set: PhantomData,
                    })?);
                }
                Field::Timestamp if timestamp.is_some() => return Err(de::Error::duplicate_field("timestamp")),
                Field::Timestamp => timestamp = Some(map.next_value()?),
                Field::JobId if job_id.is_some() => return Err(de::Error::duplicate_field("job_id")),
                Field::JobId => job_id = Some(map.next_value()?),
                Field::Mark(mark) if self.dialect == Dialect::Session => read_mark(&mut map, &mut marks, mark)?,
                Field::Data if data.is_some() => return Err(de::Error::duplicate_field("data")),
                Field::Data => {
                    data = Some(match &type_name {
                        Some(TypeName::Known(kind)) => {
                            Data::Typed(map.next_value_seed(BodySeed::<M>(*kind, self.dialect))?)
                        }
                        _ => Data::Raw(map.next_value()?),
                    })
                }
                Field::Mark(_) | Field::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let type_name = type_name.ok_or_else(|| de::Error::missing_field("type"))?;
        let timestamp = timestamp.ok_or_else(|| de::Error::missing_field("timestamp"))?;
        if let TypeName::Known(kind) = &type_name {
            self.check(*kind, job_id.as_ref(), marks)?;
        }
        let data = data.ok_or_else(|| de::Error::missing_field("data"))?;
        Ok(Walked {
            type_name,
            timestamp,
            job_id,
            marks,
            data,
        })
    }
}

/// An envelope as it is written: type, timestamp, job id, marks, data, in this order so that readers need one pass.
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
            marks: Marks { seq, fence, n },
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
        if let Some(seq) = seq {
            map.serialize_entry(Mark::Seq.as_str(), seq)?;
        }
        if let Some(fence) = fence {
            map.serialize_entry(Mark::Fence.as_str(), fence)?;
        }
        if let Some(n) = n {
            map.serialize_entry(Mark::N.as_str(), n)?;
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
        let error = decode::<CrawlerMessage>(line.as_bytes(), Dialect::Base).unwrap_err();
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
            checkpoint: None,
            counts: None,
            attempt: None,
        };
        let envelope = Envelope::now(WebAppMessage::JobAssignment(assignment));
        assert!(!format!("{envelope:?}").contains("glpat"));
        let line = encode(&envelope).unwrap();
        assert!(line.ends_with(b"\n"));
        let Decoded::Known(back) = decode::<WebAppMessage>(&line, Dialect::Base).unwrap() else {
            panic!("known type")
        };
        assert_eq!(back, envelope);
    }

    #[test]
    fn an_unknown_type_is_kept_with_its_data() {
        let line = br#"{"data":{"a":1},"type":"custom_job_event","timestamp":"now","job_id":"j"}"#;
        let Decoded::Custom(custom) = decode::<CrawlerMessage>(line, Dialect::Base).unwrap() else {
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
