//! The schemas' view of a line, worked out without the code under test.
#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod fields;
pub(crate) mod generate;
pub(crate) mod json;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crawlwire_protocol::explain::Explain;
use crawlwire_protocol::{CrawlerMessage, Decoded, Dialect, WebAppMessage, decode};
use jsonschema::Validator;
use serde_json::Value;

use self::json::Json;

pub(crate) const DIALECTS: [Dialect; 2] = [Dialect::Base, Dialect::Session];

/// One direction, as the files name it.
pub(crate) trait Side: Explain + Clone + PartialEq + std::fmt::Debug {
    /// The name in the rows of a corpus.
    const NAME: &'static str;
    /// Where the schemas are: the bundle without its ending, and the folder of the messages.
    fn place(dialect: Dialect) -> (&'static str, &'static str);
    /// Golden lines of the session dialect.
    const GOLDEN: &'static str;
}

impl Side for CrawlerMessage {
    const NAME: &'static str = "crawler";
    const GOLDEN: &'static str = include_str!("../fixtures/session/golden-crawler.ndjson");

    fn place(dialect: Dialect) -> (&'static str, &'static str) {
        match dialect {
            Dialect::Base => ("v1/crawler", "v1"),
            Dialect::Session => ("session/v1/crawler", "session/v1/crawler"),
        }
    }
}

impl Side for WebAppMessage {
    const NAME: &'static str = "web_app";
    const GOLDEN: &'static str = include_str!("../fixtures/session/golden-server.ndjson");

    fn place(dialect: Dialect) -> (&'static str, &'static str) {
        match dialect {
            Dialect::Base => ("v1/web-app", "v1"),
            Dialect::Session => ("session/v1/server", "session/v1/server"),
        }
    }
}

/// The committed schema files of one direction in one dialect.
pub(crate) struct Schemas {
    /// By type name: the file as it stands, and ready to judge.
    pub(crate) messages: BTreeMap<&'static str, (Value, Validator)>,
    bundle: Validator,
    pub(crate) dialect: Dialect,
}

impl Schemas {
    pub(crate) fn of<M: Side>(dialect: Dialect) -> Self {
        let (bundle, folder) = M::place(dialect);
        let message = |kind: M::Kind| {
            let name = M::name_of(kind);
            let schema = committed(&format!("{folder}/{name}"));
            let validator = ready(&schema);
            (name, (schema, validator))
        };
        Self {
            messages: M::kinds(dialect).map(message).collect(),
            bundle: ready(&committed(bundle)),
            dialect,
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
    let file = root().join("schemas").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_str(&text).expect("a schema file is JSON")
}

/// The golden lines of one direction.
pub(crate) fn golden<M: Side>(dialect: Dialect) -> Vec<&'static str> {
    match dialect {
        Dialect::Base => base_golden()
            .filter(|line| matches!(decode::<M>(line.as_bytes(), dialect), Ok(Decoded::Known(_))))
            .collect(),
        Dialect::Session => M::GOLDEN.lines().collect(),
    }
}

/// The golden lines of the base dialect, both directions.
pub(crate) fn base_golden() -> impl Iterator<Item = &'static str> {
    include_str!("../fixtures/base/golden.ndjson").lines()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
