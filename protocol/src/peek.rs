//! What can be said of a line without judging it.

use std::fmt;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::dialect::Seq;
use crate::envelope::JobId;
use crate::limits::TYPE_NAME_CHARS_MAX;

/// What [`peek`] found: each part that is there and can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peeked {
    /// The type, cut to [`TYPE_NAME_CHARS_MAX`] characters.
    pub type_name: Option<String>,
    /// The number of a lasting message.
    pub seq: Option<Seq>,
    /// The job it speaks of.
    pub job_id: Option<JobId>,
}

/// Looks for type, number and job in a line that may be broken. Never fails; what cannot be read is not there, and
/// reading ends where the line stops being JSON or UTF-8.
///
/// It serves to find a `hello` and to refuse a bad line by its number. A line that is to have an effect goes through
/// [`decode`](crate::decode).
pub fn peek(line: &[u8]) -> Peeked {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&line[..error.valid_up_to()]).unwrap_or_default(),
    };
    let mut peeked = Peeked::default();
    // What was found before an error is still found.
    let _ = serde_json::Deserializer::from_str(text).deserialize_map(Look(&mut peeked));
    peeked
}

struct Look<'a>(&'a mut Peeked);

impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "type" => {
                    let name = read::<String>(map.next_value()?);
                    self.0.type_name = name.map(|name| name.chars().take(TYPE_NAME_CHARS_MAX).collect());
                }
                "seq" => self.0.seq = read(map.next_value()?),
                "job_id" => self.0.job_id = read(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

fn read<'de, T: serde::Deserialize<'de>>(raw: &'de RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

/// A number that stands for the bytes of a line without its line ending: the first eight bytes of their SHA-256.
///
/// Two lines with one number (`seq`) and different fingerprints are two different messages.
pub fn fingerprint(line: &[u8]) -> i64 {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let digest = Sha256::digest(line);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &[u8]) -> (Option<String>, Option<u64>, Option<String>) {
        let Peeked { type_name, seq, job_id } = peek(line);
        (type_name, seq.map(Seq::get), job_id.map(|id| id.as_str().to_owned()))
    }

    #[test]
    fn it_finds_what_is_there_whatever_else_is_wrong() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            found(br#"{"data":[],"job_id":"j","seq":3.0,"type":"h\u0065llo"}"#),
            (some("hello"), Some(3), some("j"))
        );
        assert_eq!(found(br#"{"type":7,"seq":0,"job_id":""}"#), (None, None, None));
        assert_eq!(found(br#"{"type":"x","seq":4,"data":{"#), (some("x"), Some(4), None));
        assert_eq!(
            found(b"{\"type\":\"x\",\"seq\":4,\"data\":\"\xff\"}"),
            (some("x"), Some(4), None)
        );
        for line in [
            &b""[..],
            b"[]",
            b"\xff",
            b"{",
            b"\"hello\"",
            b"{\"\\ud800\":1,\"type\":\"x\"}",
        ] {
            assert_eq!(found(line), (None, None, None), "{}", line.escape_ascii());
        }
        let deep = format!("{{\"data\":{},\"type\":\"x\"}}", "[".repeat(200_000));
        assert_eq!(found(deep.as_bytes()), (None, None, None));
    }

    #[test]
    fn a_fingerprint_does_not_see_the_line_ending() {
        assert_eq!(fingerprint(b"{}"), fingerprint(b"{}\r\n"));
        assert_eq!(fingerprint(b"{}"), fingerprint(b"{}\n"));
        assert_ne!(fingerprint(b"{}"), fingerprint(b"{ }"));
        // The first eight bytes of the well-known digest of nothing.
        assert_eq!(fingerprint(b""), 0xe3b0_c442_98fc_1c14_u64 as i64);
    }
}
