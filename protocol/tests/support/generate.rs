//! Messages made from the schemas, and ways to spoil them.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use super::fields::resolve;
use super::json::Json;

/// Lengths on both sides of every bound of a string or list.
const LENGTHS: &[usize] = &[16, 17, 64, 65, 128, 129, 512, 513, 1000, 1001, 1024, 1025];

/// Stands where a wrong value or a token stands, and may not come out again.
pub(crate) const MARKER: &str = "marker-0b5c1f";

/// Whole numbers a count takes.
const COUNTS: &[&str] = &[
    "0",
    "-0",
    "-0.0",
    "-0e5",
    "3.0",
    "1e2",
    "1E+2",
    "12.5e1",
    "1e-400",
    "-1e-400",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854774784.0",
    "9.2233720368547748e18",
    "3.00000000000000000000000000000000000000001",
];
/// Finite numbers from 0.
const POSITIVES: &[&str] = &[
    "0.1",
    "1.5",
    "1e300",
    "18446744073709551616",
    "1.7976931348623157e308",
    "0.30000000000000000004e1",
];
/// Numbers from 0 to 1.
const SHARES: &[&str] = &[
    "0",
    "1",
    "-0",
    "0.5",
    "1.0",
    "1e0",
    "10e-1",
    "1e-400",
    "-1e-400",
    "1.00000000000000000001",
    "0.333333333333333333333333",
];
/// Numbers below 0.
const NEGATIVES: &[&str] = &["-1", "-0.5", "-1e300", "-9223372036854775808", "-9223372036854775809"];
/// Values that are wrong in many places, or nearly right.
const ODD: &[&str] = &[
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "\"\"",
    "\"x\"",
    "0",
    "-1",
    "-0",
    "1.5",
    "1e2",
    "3.0",
    "1.0000001",
    "2",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "9.223372036854775807e18",
    "9223372036854775807.0",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "-1e400",
    "1e-400",
    "-1e-400",
    "1e99999999999",
    "0.1e-99999999999",
    "123456789012345678901234567890.123456789012345678901234567890",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "\"\\u0000\"",
    "{\"\\ud800\":1}",
    "[\"\\udfff\"]",
    "{\"idle\":null}",
    "{\"crawl_user\":null}",
    "1024",
    "1025",
    "9007199254740991",
    "9007199254740992",
    "9007199254740991.4",
    "86400001",
    "\"0192F0C1-7a3b-7cde-8f01-23456789abcd\"",
    "\"0192F0C1-7a3b-7cde-8f01-23456789abcd\\n\"",
    "\"idle\"",
    "\"crawl_user\"",
    "\"IDLE\"",
    "{\"a\":1,\"a\":2}",
    "{\"a\":\"x\",\"a\":1}",
    "\"marker-0b5c1f\"",
    "[\"marker-0b5c1f\"]",
    "{\"x\":\"marker-0b5c1f\"}",
    "{\"$serde_json::private::RawValue\":\"{}\"}",
    "{\"$serde_json::private::Number\":\"1\"}",
];
/// Keys, as spelled, beside those that the schemas name.
const KEYS: &[&str] = &[
    "\"\"",
    "\"x\"",
    "\"Type\"",
    "\"type \"",
    "\"\\u0074ype\"",
    "\"\\u0064ata\"",
    "\"jobId\"",
    "\"job-id\"",
    "\"DATA\"",
    "\"__proto__\"",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "\"$serde_json::private::RawValue\"",
];

/// A message that keeps every rule of its schema file, its keys in any order.
pub(crate) fn message(schema: &Value) -> BoxedStrategy<Json> {
    matching(schema, schema)
}

fn matching(root: &Value, schema: &Value) -> BoxedStrategy<Json> {
    let schema = resolve(root, schema);
    if let Some(word) = schema["const"].as_str() {
        return spelled(Just(word.to_owned()));
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        return proptest::strategy::Union::new(choices.iter().map(|choice| matching(root, choice))).boxed();
    }
    match schema["type"].as_str().expect("every schema of ours has one type") {
        "string" if schema.get("pattern").is_some() => spelled("[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"),
        "string" => {
            let bound = |keyword: &str| schema[keyword].as_u64().map(|length| length as usize);
            let (least, most) = (bound("minLength").unwrap_or(0), bound("maxLength"));
            let longest = most.map_or(8, |most| most);
            spelled(prop_oneof![
                50 => vec(any::<char>(), least..8).prop_map(String::from_iter),
                1 => vec(any::<char>(), longest).prop_map(String::from_iter),
            ])
        }
        "integer" => integer(schema),
        "number" => match (schema["minimum"].is_number(), schema["maximum"].is_number()) {
            (true, true) => prop_oneof![select(SHARES).prop_map(Json::leaf), (0.0..=1.0).prop_map(number)].boxed(),
            (true, false) => select([COUNTS, POSITIVES].concat()).prop_map(Json::leaf).boxed(),
            _ => prop_oneof![
                select([COUNTS, POSITIVES, NEGATIVES].concat()).prop_map(Json::leaf),
                proptest::num::f64::NORMAL.prop_map(number)
            ]
            .boxed(),
        },
        "boolean" => any::<bool>().prop_map(number).boxed(),
        "array" => {
            let least = schema["minItems"].as_u64().unwrap_or(0) as usize;
            vec(matching(root, &schema["items"]), least..3)
                .prop_map(Json::Array)
                .boxed()
        }
        "object" if schema.get("x-bytes-max").is_some() => opaque(),
        "object" => match schema.get("additionalProperties") {
            Some(element) => vec((key(), matching(root, element)), 0..3)
                .prop_map(Json::Object)
                .boxed(),
            None => object(root, schema),
        },
        other => panic!("no schema of ours has the type {other}"),
    }
}

fn integer(schema: &Value) -> BoxedStrategy<Json> {
    let bound = |keyword: &str| schema[keyword].as_u64().expect("every integer of ours has a range");
    let (least, most) = (bound("minimum"), bound("maximum"));
    let fits = |text: &&&str| {
        text.parse::<u64>().map_or_else(
            |_| {
                text.parse::<f64>()
                    .is_ok_and(|value| value >= least as f64 && value < most as f64)
            },
            |value| (least..=most).contains(&value),
        )
    };
    let odd: Vec<&str> = COUNTS.iter().filter(fits).copied().collect();
    prop_oneof![
        select(odd).prop_map(Json::leaf),
        (least..=most).prop_map(number),
        select(vec![least, most]).prop_map(number)
    ]
    .boxed()
}

/// An object with anything in it; its own keys are Unicode.
fn opaque() -> BoxedStrategy<Json> {
    let anything = prop_oneof![
        20 => select(ODD).prop_map(|text| Json::parse(text).expect("an odd value is JSON")),
        // With what stands around a cursor this is still less than the limit.
        1 => (1..101_usize).prop_map(Json::nested),
    ];
    vec((key(), anything), 0..4).prop_map(Json::Object).boxed()
}

fn object(root: &Value, schema: &Value) -> BoxedStrategy<Json> {
    let required = |name: &str| {
        schema["required"]
            .as_array()
            .is_some_and(|names| names.iter().any(|other| other == name))
    };
    let mut members = Vec::new();
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let spelling = Json::text(name).print("");
        let member = matching(root, inner).prop_map(move |value| (spelling.clone(), value));
        members.push(match required(name) {
            true => member.prop_map(Some).boxed(),
            false => option::of(member).boxed(),
        });
    }
    let members = members.prop_map(|members| members.into_iter().flatten().collect::<Vec<_>>());
    members.prop_shuffle().prop_map(Json::Object).boxed()
}

fn number(value: impl Into<Value>) -> Json {
    Json::Leaf(value.into().to_string())
}

/// A string as people write it, or with every character as an escape.
fn spelled(text: impl Strategy<Value = String> + 'static) -> BoxedStrategy<Json> {
    let spell = |(text, escaped): (String, bool)| match escaped {
        true => Json::Leaf(format!(
            "\"{}\"",
            text.encode_utf16()
                .map(|unit| format!("\\u{unit:04x}"))
                .collect::<String>()
        )),
        false => Json::text(&text),
    };
    (text, prop::bool::weighted(0.2)).prop_map(spell).boxed()
}

fn key() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..4).prop_map(|text| Json::text(&String::from_iter(text)).print(""))
}

fn odd() -> impl Strategy<Value = Json> {
    prop_oneof![
        20 => select(ODD).prop_map(|text| Json::parse(text).expect("an odd value is JSON")),
        1 => (100..141_usize).prop_map(Json::nested),
        2 => select(LENGTHS).prop_map(|length| Json::text(&"\u{e4}".repeat(length))),
        1 => select(LENGTHS).prop_map(|length| Json::Array(vec![Json::text("x"); length])),
    ]
}

/// One step away from a good message.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    place: Index,
    member: Index,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Drop,
    Repeat,
    RepeatAs(Json),
    Rename(String),
    Add(String, Json),
    Replace(Json),
    /// An object becomes the list of its values.
    List,
    /// A string becomes an object with that one key, as some readers take the names of enums.
    Key,
    Wrap,
}

/// Changes that know the names of a schema's fields.
pub(crate) fn change(names: Vec<String>) -> impl Strategy<Value = Change> {
    let any_key = || prop_oneof![select(KEYS).prop_map(str::to_owned), select(names.clone()), key()];
    let kind = prop_oneof![
        3 => Just(Kind::Drop),
        1 => Just(Kind::Repeat),
        1 => odd().prop_map(Kind::RepeatAs),
        2 => any_key().prop_map(Kind::Rename),
        5 => (any_key(), odd()).prop_map(|(key, value)| Kind::Add(key, value)),
        8 => odd().prop_map(Kind::Replace),
        1 => Just(Kind::List),
        2 => Just(Kind::Key),
        1 => Just(Kind::Wrap),
    ];
    (any::<Index>(), any::<Index>(), kind).prop_map(|(place, member, kind)| Change { place, member, kind })
}

impl Change {
    pub(crate) fn apply(&self, json: &mut Json) {
        let number = self.place.index(json.count());
        let place = json.at(number).expect("a place within the count");
        match (&self.kind, &mut *place) {
            (Kind::Drop, Json::Array(items)) if !items.is_empty() => drop(items.remove(self.member.index(items.len()))),
            (Kind::Drop, Json::Object(members)) if !members.is_empty() => {
                members.remove(self.member.index(members.len()));
            }
            (Kind::Repeat, Json::Object(members)) if !members.is_empty() => {
                members.push(members[self.member.index(members.len())].clone());
            }
            (Kind::RepeatAs(value), Json::Object(members)) if !members.is_empty() => {
                members.push((members[self.member.index(members.len())].0.clone(), value.clone()));
            }
            (Kind::Rename(key), Json::Object(members)) if !members.is_empty() => {
                let member = self.member.index(members.len());
                members[member].0.clone_from(key);
            }
            (Kind::Add(key, value), Json::Object(members)) => {
                members.insert(self.member.index(members.len() + 1), (key.clone(), value.clone()));
            }
            (Kind::Add(_, value), Json::Array(items)) => {
                items.insert(self.member.index(items.len() + 1), value.clone())
            }
            (Kind::Replace(value), place) => *place = value.clone(),
            (Kind::List, Json::Object(members)) => {
                *place = Json::Array(members.drain(..).map(|(_, value)| value).collect());
            }
            (Kind::Key, Json::Leaf(token)) if token.starts_with('"') => {
                *place = Json::Object(vec![(token.clone(), Json::leaf("null"))]);
            }
            (Kind::Wrap, place) => *place = Json::Array(vec![place.clone()]),
            _ => {}
        }
    }
}

/// White space that may stand between tokens.
pub(crate) fn space() -> impl Strategy<Value = &'static str> {
    select(&["", "", "", " ", "\t", "\r", "\n", " \r\n\t"][..])
}

/// Changes bytes without regard for what they mean.
#[derive(Debug, Clone)]
pub(crate) enum ByteChange {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, &'static [u8]),
}

pub(crate) fn byte_change() -> impl Strategy<Value = ByteChange> {
    let inserts: &[&[u8]] = &[
        b"\0",
        b"\r",
        b"\n",
        b" ",
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"0",
        b"-",
        b"e",
        b"null",
        b"\x0c",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\xc2\xa0",
        b"\\ud800",
        b"//",
        b"marker-0b5c1f",
    ];
    prop_oneof![
        3 => (any::<Index>(), 1_u8..).prop_map(|(place, mask)| ByteChange::Flip(place, mask)),
        1 => any::<Index>().prop_map(ByteChange::Cut),
        4 => (any::<Index>(), select(inserts)).prop_map(|(place, bytes)| ByteChange::Insert(place, bytes)),
    ]
}

impl ByteChange {
    pub(crate) fn apply(&self, line: &mut Vec<u8>) {
        match self {
            Self::Flip(place, mask) if !line.is_empty() => {
                let place = place.index(line.len());
                line[place] ^= mask;
            }
            Self::Flip(..) => {}
            Self::Cut(place) => line.truncate(place.index(line.len() + 1)),
            Self::Insert(place, bytes) => {
                let place = place.index(line.len() + 1);
                line.splice(place..place, bytes.iter().copied());
            }
        }
    }
}
