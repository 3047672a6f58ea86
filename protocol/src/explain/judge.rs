//! Holding a line against a schema.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use jsonschema::Validator;
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use super::{Violation, describe, push_token};
use crate::limits::VIOLATIONS_MAX;

/// A schema made ready.
#[derive(Debug)]
pub struct Rules {
    validator: Validator,
    known: Known,
}

/// The places a schema speaks of. What stands elsewhere is not looked at, just as decoding does not look at it.
#[derive(Debug)]
struct Known {
    /// Fields of an object.
    properties: BTreeMap<String, Known>,
    /// Every entry of a map. Entries and items are judged one by one, so that many of them are never held at once.
    entries: Option<Box<Rules>>,
    /// Every item of an array.
    items: Option<Box<Rules>>,
    /// How many items an array may have.
    length: RangeInclusive<u64>,
    /// Bytes that the value may have as text.
    bytes_max: u64,
}

impl Rules {
    /// The schemas are part of the program and tests compile them all, so failing here is a defect of the build.
    #[allow(clippy::expect_used)]
    pub(super) fn compile(schema: &str) -> Self {
        Self::new(&serde_json::from_str(schema).expect("a committed schema is JSON"))
    }

    pub(super) fn new(schema: &Value) -> Self {
        Self::part(schema, schema)
    }

    /// The rules of `schema`, which is a part of `root`.
    #[allow(clippy::expect_used)]
    fn part(root: &Value, schema: &Value) -> Self {
        let mut alone = schema.clone();
        if let (Some(alone), Some(definitions)) = (alone.as_object_mut(), root.get("$defs")) {
            alone.insert("$defs".into(), definitions.clone());
        }
        without_lengths(&mut alone);
        let validator = jsonschema::draft202012::new(&alone).expect("a committed schema compiles");
        Self {
            validator,
            known: Known::new(root, schema),
        }
    }
}

/// Leaves out what is said of the length of arrays: the validator is shown them empty, and [`Judge`] counts.
fn without_lengths(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members
                .retain(|keyword, value| !(value.is_number() && matches!(keyword.as_str(), "minItems" | "maxItems")));
            members.values_mut().for_each(without_lengths);
        }
        Value::Array(items) => items.iter_mut().for_each(without_lengths),
        _ => {}
    }
}

impl Known {
    /// Ends because our types hold no value of their own type.
    fn new(root: &Value, schema: &Value) -> Self {
        let target = schema["$ref"]
            .as_str()
            .and_then(|target| root.pointer(target.trim_start_matches('#')));
        let schema = target.unwrap_or(schema);
        let properties = schema["properties"].as_object().into_iter().flatten();
        let each = |keyword: &str| schema.get(keyword).map(|schema| Box::new(Rules::part(root, schema)));
        let number = |keyword: &str| schema.get(keyword).and_then(Value::as_u64);
        Self {
            properties: properties
                .map(|(name, schema)| (name.clone(), Self::new(root, schema)))
                .collect(),
            entries: each("additionalProperties"),
            items: each("items"),
            length: number("minItems").unwrap_or(0)..=number("maxItems").unwrap_or(u64::MAX),
            bytes_max: number("x-bytes-max").unwrap_or(u64::MAX),
        }
    }
}

/// Collects violations, at most [`VIOLATIONS_MAX`].
#[derive(Debug, Default)]
pub(super) struct Judge {
    found: Vec<Violation>,
    /// The place being judged.
    path: String,
}

impl Judge {
    /// Adds what `raw`, standing at the present place, does against the rules.
    pub(super) fn judge(&mut self, rules: &Rules, raw: &RawValue) {
        let value = self.read(&rules.known, raw);
        for error in rules.validator.iter_errors(&value) {
            let Violation { path, message } = describe(&error);
            self.add(Violation::new(format!("{}{path}", self.path), message));
        }
    }

    pub(super) fn add(&mut self, violation: Violation) {
        if self.found.len() < VIOLATIONS_MAX {
            self.found.push(violation);
        }
    }

    /// What was found, sorted. A judge is asked only about lines that are wrong, so there is always something.
    pub(super) fn finish(mut self) -> Vec<Violation> {
        if self.found.is_empty() {
            self.add(Violation::new("", "not a valid message"));
        }
        self.found.sort();
        self.found
    }

    /// Reads the known part of a value for the validator, the elements of arrays and maps left out.
    ///
    /// Half of a surrogate pair and a number beyond a double are JSON, but no value of ours: they are reported and read
    /// as `null`, which no known field takes.
    fn read(&mut self, known: &Known, raw: &RawValue) -> Value {
        let text = raw.get();
        if text.len() as u64 > known.bytes_max {
            self.add_here(&format!("expected {} bytes or fewer", known.bytes_max));
        }
        let read = match text.as_bytes().first() {
            Some(b'{') => serde_json::Deserializer::from_str(text).deserialize_map(Members { judge: self, known }),
            Some(b'[') => serde_json::Deserializer::from_str(text).deserialize_seq(Members { judge: self, known }),
            Some(b'"') => serde_json::from_str(text).map(Value::String),
            Some(b't' | b'f') => Ok(Value::Bool(text == "true")),
            Some(b'n') | None => Ok(Value::Null),
            Some(_) => serde_json::from_str::<Number>(text).map(Value::Number),
        };
        read.unwrap_or_else(|_| {
            self.add_here("holds text that is not Unicode or a number that is too large");
            Value::Null
        })
    }

    fn add_here(&mut self, message: &str) {
        self.add(Violation::new(self.path.clone(), message));
    }

    /// Goes one step down, to do something there.
    fn below<T>(&mut self, token: &str, act: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        push_token(&mut self.path, token);
        let result = act(self);
        self.path.truncate(length);
        result
    }

    fn is_full(&self) -> bool {
        self.found.len() >= VIOLATIONS_MAX
    }
}

/// Reads the members of an object or an array.
struct Members<'a> {
    judge: &'a mut Judge,
    known: &'a Known,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let Self { judge, known } = self;
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if let Some(known) = known.properties.get(&key) {
                let raw = map.next_value()?;
                let value = judge.below(&key, |judge| {
                    if object.contains_key(&key) {
                        judge.add_here("appears twice");
                    }
                    judge.read(known, raw)
                });
                object.insert(key, value);
            } else if let (Some(rules), false) = (&known.entries, judge.is_full()) {
                let raw = map.next_value()?;
                judge.below(&key, |judge| judge.judge(rules, raw));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Value::Object(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let Self { judge, known } = self;
        let mut count = 0_u64;
        while let (Some(rules), false) = (&known.items, judge.is_full() || count > *known.length.end()) {
            let Some(raw) = items.next_element()? else { break };
            judge.below(&count.to_string(), |judge| judge.judge(rules, raw));
            count += 1;
        }
        while items.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        if count < *known.length.start() {
            judge.add_here(&format!("expected {} items or more", known.length.start()));
        } else if count > *known.length.end() {
            judge.add_here(&format!("expected {} items or fewer", known.length.end()));
        }
        Ok(Value::Array(Vec::new()))
    }
}
