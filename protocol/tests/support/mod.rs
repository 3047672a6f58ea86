//! The schemas' view of a line, worked out without the code under test.
#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod fields;
pub(crate) mod generate;
pub(crate) mod json;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crawlwire_protocol::Message;
use jsonschema::Validator;
use serde_json::Value;

use self::json::Json;

/// The committed schema files of one direction.
pub(crate) struct Schemas {
    /// By type name: the file as it stands, and ready to judge.
    pub(crate) messages: BTreeMap<&'static str, (Value, Validator)>,
    bundle: Validator,
}

impl Schemas {
    pub(crate) fn of<M: Message>(bundle: &str) -> Self {
        let message = |kind: &M::Kind| {
            let name = M::name_of(*kind);
            let schema = committed(name);
            let validator = ready(&schema);
            (name, (schema, validator))
        };
        Self {
            messages: M::KINDS.iter().map(message).collect(),
            bundle: ready(&committed(bundle)),
        }
    }

    /// The verdict of the file of the type that the line names.
    pub(crate) fn message_accepts(&self, line: &[u8]) -> bool {
        let Some(value) = value(line) else { return false };
        let schema = value["type"].as_str().and_then(|name| self.messages.get(name));
        schema.is_some_and(|(_, validator)| validator.is_valid(&value))
    }

    /// The verdict of the file of the whole direction.
    pub(crate) fn bundle_accepts(&self, line: &[u8]) -> bool {
        value(line).is_some_and(|value| self.bundle.is_valid(&value))
    }
}

fn value(line: &[u8]) -> Option<Value> {
    Json::parse(std::str::from_utf8(line).ok()?).map(|json| json.value())
}

fn ready(schema: &Value) -> Validator {
    jsonschema::draft202012::meta::validate(schema).expect("the schema is draft 2020-12");
    jsonschema::draft202012::new(schema).expect("the schema compiles")
}

pub(crate) fn committed(name: &str) -> Value {
    let file = root().join("schemas/v1").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_str(&text).expect("a schema file is JSON")
}

/// The golden lines of both directions.
pub(crate) fn golden() -> impl Iterator<Item = String> {
    include_str!("../fixtures/base/golden.ndjson")
        .lines()
        .map(str::to_owned)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
