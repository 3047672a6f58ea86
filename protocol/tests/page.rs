//! The protocol pages say what the schemas say, and their examples are messages.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use crawlwire_protocol::message::{Feature, Role};
use crawlwire_protocol::{Category, CrawlerMessage, Decoded, Dialect, Severity, WebAppMessage, decode, limits};
use serde_json::Value;
use support::fields::resolve;
use support::{Schemas, Side};

/// A page and the dialect it describes.
#[derive(Clone, Copy)]
struct Page {
    text: &'static str,
    dialect: Dialect,
}

const BASE: Page = Page {
    text: include_str!("../PROTOCOL.md"),
    dialect: Dialect::Base,
};
const SESSION: Page = Page {
    text: include_str!("../SESSION.md"),
    dialect: Dialect::Session,
};

impl Page {
    /// The cells of every table row of the section with this heading, without the two rows at the head.
    fn rows(self, heading: &str) -> Vec<Vec<&'static str>> {
        self.find(heading)
            .unwrap_or_else(|| panic!("the page has no section {heading}"))
    }

    fn find(self, heading: &str) -> Option<Vec<Vec<&'static str>>> {
        let mut lines = self
            .text
            .lines()
            .skip_while(|line| line.trim_start_matches('#').trim_start() != heading || !line.starts_with('#'));
        lines.next()?;
        let section = lines.take_while(|line| !line.starts_with('#'));
        let rows = section.filter(|line| line.starts_with('|')).skip(2);
        let cells = rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect());
        Some(cells.collect())
    }

    fn names(self, heading: &str) -> BTreeSet<&'static str> {
        self.rows(heading).iter().map(|row| row[0].trim_matches('`')).collect()
    }
}

/// How a page spells the type of a field.
fn spelled(schema: &Value) -> Vec<String> {
    if let Some(target) = schema["$ref"].as_str() {
        let name = target.rsplit('/').next().unwrap_or_default();
        let anchor = name.to_lowercase();
        return vec![
            format!("[{name}](#{anchor})"),
            format!("[{name}](PROTOCOL.md#{anchor})"),
        ];
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
    match schema["type"].as_str().unwrap_or_default() {
        "array" => match (schema.get("minItems"), schema.get("maxItems")) {
            (_, None) => of("array", &schema["items"]),
            (None, Some(most)) => of("array", &schema["items"])
                .iter()
                .map(|word: &String| word.replacen("array of", &format!("array of up to {most}"), 1))
                .collect(),
            (Some(least), Some(most)) => of("array", &schema["items"])
                .iter()
                .map(|word: &String| word.replacen("array of", &format!("array of {least} to {most}"), 1))
                .collect(),
        },
        "object" if schema.get("x-bytes-max").is_some() => vec!["cursor".to_owned()],
        "object" => of("map", &schema["additionalProperties"]),
        "boolean" => vec!["bool".to_owned()],
        "string" => string(schema),
        "integer" => vec![integer(schema)],
        "number" => {
            let word = match (schema.get("minimum"), schema.get("maximum")) {
                (Some(_), Some(_)) => "share",
                (Some(_), None) => "ms",
                _ => "number",
            };
            vec![word.to_owned()]
        }
        other => panic!("the pages have no word for {other:?}"),
    }
}

fn string(schema: &Value) -> Vec<String> {
    let bounds = (schema["minLength"].as_u64(), schema["maxLength"].as_u64());
    let words: &[&str] = match (schema.get("pattern"), bounds) {
        (Some(_), _) => &["UUID"],
        (None, (None, None)) => &["string", "time"],
        (None, (Some(1), None)) => &["string, not empty"],
        (None, (None, Some(128))) => &["name"],
        (None, (Some(1), Some(128))) => &["name, not empty"],
        (None, (None, Some(1000))) => &["text"],
        (None, (None, Some(most))) => return vec![format!("string of up to {most}")],
        other => panic!("the pages have no word for {other:?}"),
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn integer(schema: &Value) -> String {
    match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
        (Some(0), Some(limits::COUNT_MAX)) => "count".to_owned(),
        (Some(least), Some(limits::WHOLE_MAX)) => format!("whole from {least}"),
        (Some(least), Some(most)) => format!("whole from {least} to {most}"),
        other => panic!("the pages have no word for {other:?}"),
    }
}

/// Holds a table of a page against the fields of an object of a schema file that are not `elsewhere`.
fn compare(page: Page, heading: &str, object: &Value, elsewhere: &BTreeSet<String>) {
    let rows = page.rows(heading);
    let on_page: BTreeSet<_> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    let none = serde_json::Map::new();
    let properties = object["properties"].as_object().unwrap_or(&none);
    let in_schema: BTreeSet<_> = properties
        .keys()
        .map(String::as_str)
        .filter(|name| !elsewhere.contains(*name))
        .collect();
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
        let words = spelled(&properties[name]);
        assert!(
            words.iter().any(|word| word == kind),
            "{heading}, {name}: {kind}, not {words:?}"
        );
        assert!(!meaning.is_empty(), "{heading}, {name}");
    }
}

fn fields_of(object: &Value) -> BTreeSet<String> {
    object["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect()
}

/// What the session page has to say of a type beyond the base page: the fields that the base does not know.
fn every_type_and_field<M: Side>(page: Page, heading: &str, side: &str) {
    let schemas = Schemas::of::<M>(page.dialect);
    let base = Schemas::of::<M>(Dialect::Base);
    let mut overview: BTreeMap<_, _> = page
        .rows(heading)
        .into_iter()
        .map(|row| (row[0].trim_matches('`'), row))
        .collect();
    let nothing = BTreeSet::new();
    for (name, (schema, _)) in &schemas.messages {
        let body = resolve(schema, &schema["properties"]["data"]);
        let in_base = match (page.dialect, base.messages.get(name)) {
            (Dialect::Session, Some((schema, _))) => fields_of(resolve(schema, &schema["properties"]["data"])),
            _ => BTreeSet::new(),
        };
        if in_base.is_empty() || in_base != fields_of(body) {
            let own = format!("`{name}` {side}");
            let shared = ["ReportPolicy"].into_iter().find(|shared| {
                let target = schema["properties"]["data"]["$ref"].as_str();
                target == Some(&format!("#/$defs/{shared}"))
            });
            let plain = format!("`{name}`");
            let section = [shared.unwrap_or(&own), &plain]
                .into_iter()
                .find(|heading| page.find(heading).is_some());
            compare(page, section.expect("a section of the type"), body, &in_base);
        }
        let required = |field: &str| {
            let names = schema["required"].as_array().expect("a list");
            names.iter().any(|name| name == field)
        };
        let row = overview.remove(name).unwrap_or_else(|| panic!("no row of {name}"));
        let job_id = if required("job_id") { "required" } else { "optional" };
        assert_eq!(row[1], job_id, "the row of {name}");
        if page.dialect == Dialect::Session {
            let marks = ["seq", "fence", "n"].into_iter().filter(|mark| required(mark));
            let marks: Vec<_> = marks.map(|mark| format!("`{mark}`")).collect();
            let expected = if marks.is_empty() {
                "none".to_owned()
            } else {
                marks.join(", ")
            };
            assert_eq!(row[2], expected, "the marks of {name}");
        }
        for (shared, object) in schema["$defs"].as_object().expect("definitions") {
            let is_body = schema["properties"]["data"]["$ref"] == format!("#/$defs/{shared}");
            // What the base page describes is not described again.
            let described = page.dialect == Dialect::Session && BASE.find(shared).is_some();
            if !is_body && !described {
                compare(page, shared, object, &nothing);
            }
        }
        let mut envelope = fields_of(schema);
        if page.dialect == Dialect::Session {
            envelope.retain(|name| !BASE.names("Envelope").contains(name.as_str()));
        }
        let described = page.names("Envelope");
        assert_eq!(described, envelope.iter().map(String::as_str).collect());
    }
    assert!(overview.is_empty(), "the page knows more types: {overview:?}");
}

#[test]
fn every_crawler_type_and_field_is_described() {
    for page in [BASE, SESSION] {
        every_type_and_field::<CrawlerMessage>(page, "Crawler to server", "from a crawler");
    }
}

#[test]
fn every_server_type_and_field_is_described() {
    for page in [BASE, SESSION] {
        every_type_and_field::<WebAppMessage>(page, "Server to crawler", "from the server");
    }
}

/// The type of a line, when it is a message of this direction.
fn type_of<M: Side>(line: &str, dialect: Dialect) -> Option<(&'static str, &'static str)> {
    match decode::<M>(line.as_bytes(), dialect) {
        Ok(Decoded::Known(envelope)) => Some((M::NAME, M::name_of(envelope.message.kind()))),
        _ => None,
    }
}

fn all_types<M: Side>(dialect: Dialect) -> impl Iterator<Item = (&'static str, &'static str)> {
    M::kinds(dialect).map(|kind| (M::NAME, M::name_of(kind)))
}

#[test]
fn every_example_is_a_message_of_its_direction() {
    for page in [BASE, SESSION] {
        let mut seen = BTreeSet::new();
        for (number, line) in page.text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
            let found = match line.split_at_checked(3) {
                Some(("C: ", line)) => type_of::<CrawlerMessage>(line, page.dialect),
                Some(("S: ", line)) => type_of::<WebAppMessage>(line, page.dialect),
                _ => {
                    assert!(!line.starts_with('{'), "line {number} does not say who sends it");
                    continue;
                }
            };
            seen.insert(found.unwrap_or_else(|| panic!("the example in line {number} is not valid: {line}")));
        }
        // A session hears `draining` where a base crawler hears this.
        let elsewhere = (page.dialect == Dialect::Session).then_some((WebAppMessage::NAME, "shutdown"));
        let all: BTreeSet<_> = all_types::<CrawlerMessage>(page.dialect)
            .chain(all_types::<WebAppMessage>(page.dialect))
            .filter(|name| Some(*name) != elsewhere)
            .collect();
        assert_eq!(seen, all, "types with an example");
    }
}

/// The first number of the second cell of each row.
fn numbers(page: Page) -> Vec<String> {
    let digits = |row: Vec<&str>| row[1].chars().take_while(char::is_ascii_digit).collect();
    page.rows("Limits").into_iter().map(digits).collect()
}

#[test]
fn limits_are_those_of_the_code() {
    let base = [
        limits::LINE_BYTES_MAX_DEFAULT as u64,
        limits::NESTING_MAX as u64,
        limits::COUNT_MAX,
        limits::VIOLATIONS_MAX as u64,
    ];
    assert_eq!(numbers(BASE), base.map(|limit| limit.to_string()));
    let session = [
        limits::WHOLE_MAX,
        limits::CURSOR_BYTES_MAX as u64,
        limits::LEASES_MAX as u64,
        limits::FINAL_COUNTS_MAX as u64,
        limits::LIST_MAX as u64,
        limits::VERSIONS_MAX as u64,
        limits::TOKEN_CHARS_MAX as u64,
        limits::RETRY_AFTER_MS_MAX,
    ];
    assert_eq!(numbers(SESSION), session.map(|limit| limit.to_string()));
}

#[test]
fn closed_sets_are_those_of_the_code() {
    let features: BTreeSet<_> = Feature::ALL.into_iter().map(Feature::as_str).collect();
    assert_eq!(SESSION.names("Negotiation"), features);
    let roles: BTreeSet<_> = Role::ALL.into_iter().map(Role::as_str).collect();
    assert_eq!(SESSION.names("Who may connect"), roles);
    let error = SESSION.rows("`error`");
    let said = |field: &str| error.iter().find(|row| row[0] == field).expect("the field")[3];
    let list = |names: &[&str]| format!("one of `{}`", names.join("`, `"));
    assert_eq!(said("`category`"), list(&Category::ALL.map(Category::as_str)));
    assert_eq!(said("`severity`"), list(&Severity::ALL.map(Severity::as_str)));
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    for (page, name, other) in [(BASE, "SESSION.md#", SESSION), (SESSION, "PROTOCOL.md#", BASE)] {
        let mut links = 0;
        for (index, _) in page.text.match_indices(name) {
            let anchor = page.text[index + name.len()..].split(')').next().expect("an end");
            let heading = |line: &str| {
                let text = line.trim_start_matches('#').trim().to_lowercase();
                line.starts_with('#') && text.replace('`', "").replace(' ', "-") == anchor
            };
            assert!(other.text.lines().any(heading), "{name}{anchor}");
            links += 1;
        }
        assert!(links > 0);
    }
}
