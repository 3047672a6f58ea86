//! One line per message with every field, as the encoder writes it.

mod support;

use std::collections::BTreeMap;

use crawlwire_protocol::{CrawlerMessage, Decoded, Dialect, WebAppMessage, decode, encode};
use serde_json::Value;
use support::fields::{Field, fields};
use support::{DIALECTS, Schemas, Side, base_golden, golden};

/// Decodes and encodes every line of a direction: type name to line.
fn round_trip<M: Side>(dialect: Dialect) -> BTreeMap<&'static str, &'static str> {
    let mut seen = BTreeMap::new();
    for line in golden::<M>(dialect) {
        let Ok(Decoded::Known(envelope)) = decode::<M>(line.as_bytes(), dialect) else {
            panic!("refused: {line}")
        };
        let back = encode(&envelope).expect("a decoded message can be encoded");
        assert_eq!(String::from_utf8(back).expect("UTF-8"), format!("{line}\n"));
        let name = M::name_of(envelope.message.kind());
        assert!(seen.insert(name, line).is_none(), "two golden lines for {name}");
    }
    for kind in M::kinds(dialect) {
        assert!(
            seen.contains_key(M::name_of(kind)),
            "no golden line for {}, or a broken one",
            M::name_of(kind)
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

fn every_field_is_there<M: Side>() {
    for dialect in DIALECTS {
        let lines = round_trip::<M>(dialect);
        for (name, (schema, _)) in &Schemas::of::<M>(dialect).messages {
            let value: Value = serde_json::from_str(lines[name]).expect("JSON");
            for field in fields(schema) {
                assert!(
                    has(&value, &field),
                    "the golden line of {name} has no {}",
                    field.place.join("/")
                );
            }
        }
    }
}

#[test]
fn crawler_lines_come_back_byte_for_byte_with_every_field() {
    every_field_is_there::<CrawlerMessage>();
}

#[test]
fn web_app_lines_come_back_byte_for_byte_with_every_field() {
    every_field_is_there::<WebAppMessage>();
}

#[test]
fn every_base_line_belongs_to_one_direction() {
    let (crawler, web_app) = (
        golden::<CrawlerMessage>(Dialect::Base),
        golden::<WebAppMessage>(Dialect::Base),
    );
    assert_eq!(base_golden().count(), crawler.len() + web_app.len());
}
