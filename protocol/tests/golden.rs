//! One line per message with every field, as the encoder writes it.

mod support;

use std::collections::BTreeMap;

use crawlwire_protocol::{CrawlerMessage, Decoded, Message, WebAppMessage, decode, encode};
use serde_json::Value;
use support::fields::{Field, fields};
use support::{Schemas, golden};

/// Decodes and encodes every line of a direction: type name to line.
fn round_trip<M: Message>() -> BTreeMap<&'static str, String> {
    let mut seen = BTreeMap::new();
    for line in golden() {
        let Ok(Decoded::Known(envelope)) = decode::<M>(line.as_bytes()) else {
            continue;
        };
        let back = encode(&envelope).expect("a decoded message can be encoded");
        assert_eq!(String::from_utf8(back).expect("UTF-8"), format!("{line}\n"));
        let name = M::name_of(envelope.message.kind());
        assert!(seen.insert(name, line).is_none(), "two golden lines for {name}");
    }
    for kind in M::KINDS {
        assert!(
            seen.contains_key(M::name_of(*kind)),
            "no golden line for {}, or a broken one",
            M::name_of(*kind)
        );
    }
    seen
}

fn has(value: &Value, field: &Field) -> bool {
    let mut found = vec![value];
    for step in &field.place {
        found = match step.as_str() {
            "*" => found.iter().filter_map(|value| value.as_array()).flatten().collect(),
            name => found.iter().filter_map(|value| value.get(name)).collect(),
        };
    }
    !found.is_empty()
}

fn every_field_is_there<M: Message>(bundle: &str) {
    let lines = round_trip::<M>();
    for (name, (schema, _)) in &Schemas::of::<M>(bundle).messages {
        let value: Value = serde_json::from_str(&lines[name]).expect("JSON");
        for field in fields(schema) {
            assert!(
                has(&value, &field),
                "the golden line of {name} has no {}",
                field.place.join("/")
            );
        }
    }
}

#[test]
fn crawler_lines_come_back_byte_for_byte_with_every_field() {
    every_field_is_there::<CrawlerMessage>("crawler");
}

#[test]
fn web_app_lines_come_back_byte_for_byte_with_every_field() {
    every_field_is_there::<WebAppMessage>("web-app");
}

#[test]
fn every_line_belongs_to_one_direction() {
    let lines = golden().count();
    assert_eq!(
        lines,
        round_trip::<CrawlerMessage>().len() + round_trip::<WebAppMessage>().len()
    );
}
