//! The protocol page says what the schemas say, and its examples are messages.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use crawlwire_protocol::{CrawlerMessage, Decoded, Message, WebAppMessage, decode, limits};
use serde_json::Value;
use support::Schemas;
use support::fields::resolve;

const PAGE: &str = include_str!("../PROTOCOL.md");

/// The cells of every table row of the section with this heading, without the two rows at the head.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let mut lines = PAGE
        .lines()
        .skip_while(|line| line.trim_start_matches('#').trim_start() != heading || !line.starts_with('#'));
    assert!(lines.next().is_some(), "the page has no section {heading}");
    let section = lines.take_while(|line| !line.starts_with('#'));
    let rows = section.filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

/// How the page spells the type of a field.
fn spelled(schema: &Value) -> Vec<String> {
    if let Some(target) = schema["$ref"].as_str() {
        let name = target.rsplit('/').next().unwrap_or_default();
        return vec![format!("[{name}](#{})", name.to_lowercase())];
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let words: Vec<_> = choices
            .iter()
            .map(|choice| format!("`{}`", choice["const"].as_str().unwrap_or_default()))
            .collect();
        return vec![format!("one of {}", words.join(", "))];
    }
    let of = |kind: &str, element: &Value| {
        spelled(element)
            .iter()
            .map(|word| format!("{kind} of {word}"))
            .collect()
    };
    let words: &[&str] = match (
        schema["type"].as_str().unwrap_or_default(),
        schema.get("minimum"),
        schema.get("maximum"),
    ) {
        ("array", ..) => return of("array", &schema["items"]),
        ("object", ..) => return of("map", &schema["additionalProperties"]),
        ("string", ..) => &["string", "time"],
        ("boolean", ..) => &["bool"],
        ("integer", Some(_), Some(_)) => &["count"],
        ("number", Some(_), Some(_)) => &["share"],
        ("number", Some(_), None) => &["ms"],
        ("number", None, None) => &["number"],
        other => panic!("the page has no word for {other:?}"),
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Holds a table of the page against an object of a schema file.
fn compare(heading: &str, object: &Value) {
    let rows = rows(heading);
    let on_page: BTreeSet<_> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    let properties = object["properties"].as_object().expect("an object with named fields");
    let in_schema: BTreeSet<_> = properties.keys().map(String::as_str).collect();
    assert_eq!(on_page, in_schema, "fields of {heading}");
    assert_eq!(rows.len(), on_page.len(), "a field of {heading} stands there twice");
    for row in rows {
        let [name, kind, presence, meaning] = row[..] else {
            panic!("{heading}: {row:?} has not four cells")
        };
        let name = name.trim_matches('`');
        let required = object["required"]
            .as_array()
            .is_some_and(|names| names.iter().any(|other| other == name));
        let expected = match (required, properties[name].get("default")) {
            (true, _) => "required".to_owned(),
            (false, Some(default)) => format!("default `{default}`"),
            (false, None) => "optional".to_owned(),
        };
        assert_eq!(presence, expected, "{heading}, {name}");
        assert!(
            spelled(&properties[name]).iter().any(|word| word == kind),
            "{heading}, {name}: {kind}"
        );
        assert!(!meaning.is_empty(), "{heading}, {name}");
    }
}

fn every_type_and_field<M: Message>(bundle: &str, heading: &str) {
    let schemas = Schemas::of::<M>(bundle);
    let mut overview: BTreeMap<_, _> = rows(heading)
        .into_iter()
        .map(|row| (row[0].trim_matches('`'), row[1]))
        .collect();
    for (name, (schema, _)) in &schemas.messages {
        let body = &schema["properties"]["data"];
        compare(&format!("`{name}`"), resolve(schema, body));
        let job_id = if schema["required"]
            .as_array()
            .expect("a list")
            .iter()
            .any(|field| field == "job_id")
        {
            "required"
        } else {
            "optional"
        };
        assert_eq!(overview.remove(name), Some(job_id), "the row of {name}");
        for (shared, object) in schema["$defs"].as_object().expect("definitions") {
            if body["$ref"] != format!("#/$defs/{shared}") {
                compare(shared, object);
            }
        }
        let envelope: BTreeSet<_> = schema["properties"]
            .as_object()
            .expect("fields")
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            rows("Envelope")
                .iter()
                .map(|row| row[0].trim_matches('`'))
                .collect::<BTreeSet<_>>(),
            envelope
        );
    }
    assert!(overview.is_empty(), "the page knows more types: {overview:?}");
}

#[test]
fn every_crawler_type_and_field_is_described() {
    every_type_and_field::<CrawlerMessage>("crawler", "Crawler to server");
}

#[test]
fn every_web_app_type_and_field_is_described() {
    every_type_and_field::<WebAppMessage>("web-app", "Server to crawler");
}

/// The type of a line, when it is a message of this direction.
fn type_of<M: Message>(line: &str) -> Option<&'static str> {
    match decode::<M>(line.as_bytes()) {
        Ok(Decoded::Known(envelope)) => Some(M::name_of(envelope.message.kind())),
        _ => None,
    }
}

#[test]
fn every_example_is_a_message_of_its_direction() {
    let mut seen = BTreeSet::new();
    for (number, line) in PAGE.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        let found = match line.split_at_checked(3) {
            Some(("C: ", line)) => type_of::<CrawlerMessage>(line),
            Some(("S: ", line)) => type_of::<WebAppMessage>(line),
            _ => {
                assert!(!line.starts_with('{'), "line {number} does not say who sends it");
                continue;
            }
        };
        seen.insert(found.unwrap_or_else(|| panic!("the example in line {number} is not valid: {line}")));
    }
    let kinds = CrawlerMessage::KINDS.iter().map(|kind| kind.as_str());
    let all: BTreeSet<_> = kinds
        .chain(WebAppMessage::KINDS.iter().map(|kind| kind.as_str()))
        .collect();
    assert_eq!(seen, all, "types with an example");
}

#[test]
fn limits_are_those_of_the_code() {
    let expected = [
        limits::LINE_BYTES_MAX_DEFAULT.to_string(),
        limits::NESTING_MAX.to_string(),
        limits::COUNT_MAX.to_string(),
        limits::VIOLATIONS_MAX.to_string(),
    ];
    let rows = rows("Limits");
    assert_eq!(rows.len(), expected.len());
    for (row, limit) in rows.iter().zip(expected) {
        let number: String = row[1].chars().take_while(char::is_ascii_digit).collect();
        assert_eq!(number, limit, "{}", row[0]);
    }
}
