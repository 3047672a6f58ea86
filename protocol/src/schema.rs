//! JSON Schemas (draft 2020-12) from the types: a file per message and a bundle per direction.
//!
//! The files are committed under `schemas/v1/`; `cargo xtask schema` writes them and `--check` compares.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::{CrawlerMessage, Message, WebAppMessage};

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Every schema file: its name and content, sorted by name within a direction.
pub fn files() -> Vec<(String, Value)> {
    let mut files = direction::<CrawlerMessage>("crawler", "Everything a crawler may say to the server");
    files.extend(direction::<WebAppMessage>(
        "web-app",
        "Everything the server may say to a crawler",
    ));
    files
}

fn direction<M: Message>(name: &str, title: &str) -> Vec<(String, Value)> {
    let mut files: Vec<_> = M::KINDS
        .iter()
        .map(|kind| (format!("{}.json", M::name_of(*kind)), message::<M>(*kind)))
        .collect();
    let mut definitions = Map::new();
    let mut choices = Vec::new();
    let mut generator = generator();
    for kind in M::KINDS {
        let schema = envelope::<M>(*kind, &mut generator);
        definitions.insert(M::name_of(*kind).to_owned(), schema);
        choices.push(json!({ "$ref": format!("#/$defs/{}", M::name_of(*kind)) }));
    }
    definitions.extend(generator.take_definitions(true));
    let bundle = json!({
        "$schema": DRAFT,
        "$id": format!("urn:crawlwire:v1:{name}"),
        "title": title,
        "oneOf": choices,
        "$defs": definitions,
    });
    files.push((format!("{name}.json"), bundle));
    files
}

fn message<M: Message>(kind: M::Kind) -> Value {
    let mut generator = generator();
    let Value::Object(mut envelope) = envelope::<M>(kind, &mut generator) else {
        unreachable!("built as an object")
    };
    let name = M::name_of(kind);
    let mut schema = Map::new();
    schema.insert("$schema".into(), DRAFT.into());
    schema.insert("$id".into(), format!("urn:crawlwire:v1:{name}").into());
    schema.insert("title".into(), name.into());
    schema.append(&mut envelope);
    let definitions = generator.take_definitions(true);
    if !definitions.is_empty() {
        schema.insert("$defs".into(), definitions.into());
    }
    schema.into()
}

fn envelope<M: Message>(kind: M::Kind, generator: &mut SchemaGenerator) -> Value {
    let mut required = vec!["type", "timestamp", "data"];
    if M::job_id_required(kind) {
        required.push("job_id");
    }
    json!({
        "type": "object",
        "required": required,
        "properties": {
            "type": { "const": M::name_of(kind) },
            "timestamp": {
                "type": "string",
                "description": "When the sender made the message, RFC 3339; a time that cannot be read is ignored.",
            },
            "job_id": { "type": "string", "minLength": 1, "description": "The job the message speaks of." },
            "data": M::body_schema(kind, generator),
        },
    })
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().into_generator()
}
