//! JSON Schemas (draft 2020-12) from the types: a file per message and a bundle per direction, for each dialect.
//!
//! The files are committed under `schemas/`, those of the base dialect in `v1/`, those of the session dialect in
//! `session/v1/`; `cargo xtask schema` writes them and `--check` compares.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::limits::WHOLE_MAX;
use crate::{CrawlerMessage, Dialect, Mark, Message, WebAppMessage};

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// One dialect in one direction.
struct Side {
    dialect: Dialect,
    /// The file of the bundle, without its ending.
    bundle: &'static str,
    /// The folder of the message files.
    folder: &'static str,
    /// What the ids of the schemas begin with: of the bundle, and of the messages.
    ids: (&'static str, &'static str),
    title: &'static str,
}

/// Every schema file: its path below `schemas/` and its content.
pub fn files() -> Vec<(String, Value)> {
    let base = |bundle, title| Side {
        dialect: Dialect::Base,
        bundle,
        folder: "v1",
        ids: ("urn:crawlwire:v1", "urn:crawlwire:v1"),
        title,
    };
    let session = |bundle, folder, id, title| Side {
        dialect: Dialect::Session,
        bundle,
        folder,
        ids: ("urn:crawlwire:session:v1", id),
        title,
    };
    [
        direction::<CrawlerMessage>(&base("v1/crawler", "Everything a crawler may say to the server")),
        direction::<WebAppMessage>(&base("v1/web-app", "Everything the server may say to a crawler")),
        direction::<CrawlerMessage>(&session(
            "session/v1/crawler",
            "session/v1/crawler",
            "urn:crawlwire:session:v1:crawler",
            "Everything a crawler may say to the server in a session",
        )),
        direction::<WebAppMessage>(&session(
            "session/v1/server",
            "session/v1/server",
            "urn:crawlwire:session:v1:server",
            "Everything the server may say to a crawler in a session",
        )),
    ]
    .concat()
}

fn direction<M: Message>(side: &Side) -> Vec<(String, Value)> {
    let kinds: Vec<_> = M::kinds(side.dialect).collect();
    let file = |kind: &M::Kind| {
        (
            format!("{}/{}.json", side.folder, M::name_of(*kind)),
            message::<M>(side, *kind),
        )
    };
    let mut files: Vec<_> = kinds.iter().map(file).collect();
    let mut definitions = Map::new();
    let mut choices = Vec::new();
    let mut generator = generator();
    for kind in kinds {
        let schema = envelope::<M>(side.dialect, kind, &mut generator);
        definitions.insert(M::name_of(kind).to_owned(), schema);
        choices.push(json!({ "$ref": format!("#/$defs/{}", M::name_of(kind)) }));
    }
    definitions.extend(generator.take_definitions(true));
    let name = side.bundle.rsplit('/').next().unwrap_or_default();
    let bundle = json!({
        "$schema": DRAFT,
        "$id": format!("{}:{name}", side.ids.0),
        "title": side.title,
        "oneOf": choices,
        "$defs": definitions,
    });
    files.push((format!("{}.json", side.bundle), bundle));
    files
}

fn message<M: Message>(side: &Side, kind: M::Kind) -> Value {
    let mut generator = generator();
    let Value::Object(mut envelope) = envelope::<M>(side.dialect, kind, &mut generator) else {
        unreachable!("built as an object")
    };
    let name = M::name_of(kind);
    let mut schema = Map::new();
    schema.insert("$schema".into(), DRAFT.into());
    schema.insert("$id".into(), format!("{}:{name}", side.ids.1).into());
    schema.insert("title".into(), name.into());
    schema.append(&mut envelope);
    let definitions = generator.take_definitions(true);
    if !definitions.is_empty() {
        schema.insert("$defs".into(), definitions.into());
    }
    schema.into()
}

fn envelope<M: Message>(dialect: Dialect, kind: M::Kind, generator: &mut SchemaGenerator) -> Value {
    let mut required = vec!["type", "timestamp", "data"];
    if M::job_id_required(kind) {
        required.push("job_id");
    }
    let mut schema = json!({
        "type": "object",
        "properties": {
            "type": { "const": M::name_of(kind) },
            "timestamp": {
                "type": "string",
                "description": "When the sender made the message, RFC 3339; a time that cannot be read is ignored.",
            },
            "job_id": { "type": "string", "minLength": 1, "description": "The job the message speaks of." },
            "data": M::body_schema(kind, dialect, generator),
        },
    });
    if dialect == Dialect::Session {
        required.extend(M::marks(kind).iter().map(|mark| mark.as_str()));
        for (mark, least, description) in MARKS {
            schema["properties"][mark.as_str()] =
                json!({ "type": "integer", "minimum": least, "maximum": WHOLE_MAX, "description": description });
        }
    }
    schema["required"] = required.into();
    schema
}

/// Each mark with its smallest value and its meaning.
const MARKS: [(Mark, u64, &str); 3] = [
    (
        Mark::Seq,
        1,
        "The number of a lasting message, counted per instance from 1.",
    ),
    (Mark::Fence, 0, "The lease that the message speaks for."),
    (
        Mark::N,
        0,
        "Tells the newer of several messages, and which request a response answers.",
    ),
];

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().into_generator()
}

/// A schema that is written where it is used, by hand.
macro_rules! inline_schema {
    ($type:ty, $name:literal, $schema:tt) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

pub(crate) use inline_schema;
