//! The golden lines, changed at every place in turn.

mod support;

use crawlwire_protocol::explain::{Violation, explain};
use crawlwire_protocol::{CrawlerMessage, DecodeErrorKind, Decoded, Dialect, WebAppMessage, decode};
use support::fields::fields;
use support::generate::MARKER;
use support::json::Json;
use support::{DIALECTS, Schemas, Side, golden};

/// Places that hold keys of the sender's own; an unknown key there is one more entry.
const MAPS: [&str; 4] = [
    "/response_headers",
    "/estimated_size",
    "/data/cursor",
    "/data/checkpoint",
];

fn in_a_map(pointer: &str) -> bool {
    MAPS.iter().any(|map| pointer.contains(map))
}

/// Whether a place lies inside a cursor, where anything may stand.
fn in_a_cursor(pointer: &str) -> bool {
    ["/data/cursor/", "/data/checkpoint/"]
        .iter()
        .any(|cursor| pointer.starts_with(cursor))
}

/// What the judges say of a line.
struct Judgement {
    known: bool,
    violations: Vec<Violation>,
    /// All they say, as text.
    told: String,
}

fn judge<M: Side>(line: &str, dialect: Dialect) -> Judgement {
    let decoded = decode::<M>(line.as_bytes(), dialect);
    let violations = explain::<M>(line.as_bytes(), dialect);
    let known = matches!(decoded, Ok(Decoded::Known(_)));
    assert_eq!(known, violations.is_empty(), "{line}");
    let told = decoded
        .err()
        .map_or(String::new(), |error| format!("{error} {error:?} {violations:?}"));
    Judgement {
        known,
        violations,
        told,
    }
}

/// Runs `test` for every golden line in its direction and dialect.
fn every_line(test: impl Fn(&Schemas, Json, &dyn Fn(&str) -> Judgement)) {
    fn side<M: Side>(dialect: Dialect, test: &impl Fn(&Schemas, Json, &dyn Fn(&str) -> Judgement)) {
        let schemas = Schemas::of::<M>(dialect);
        for line in golden::<M>(dialect) {
            let json = Json::parse(line).expect("a golden line is JSON");
            test(&schemas, json, &|line| judge::<M>(line, dialect));
        }
    }
    for dialect in DIALECTS {
        side::<CrawlerMessage>(dialect, &test);
        side::<WebAppMessage>(dialect, &test);
    }
}

/// Runs `test` for every place of every golden line that a rule speaks of: with the line, the place's number and its
/// pointer.
fn every_place(test: impl Fn(&Schemas, &Json, usize, &str, &dyn Fn(&str) -> Judgement)) {
    every_line(|schemas, json, judge| {
        let places = json.pointers().into_iter().enumerate();
        for (number, pointer) in places.filter(|(_, pointer)| !in_a_cursor(pointer)) {
            test(schemas, &json, number, &pointer, judge);
        }
    });
}

fn with(json: &Json, number: usize, change: impl FnOnce(&mut Json)) -> String {
    let mut json = json.clone();
    change(json.at(number).expect("a place of the line"));
    json.print("")
}

#[test]
fn a_value_of_another_kind_is_refused_at_its_place() {
    let wrong = [
        "null",
        "[[]]",
        "[{}]",
        "\"\\ud800\"",
        "1e400",
        "-1e400",
        "{\"\\ud800\":1}",
    ];
    every_place(|_, json, number, pointer, judge| {
        for value in wrong {
            let line = with(json, number, |place| *place = Json::leaf(value));
            let Judgement { known, violations, .. } = judge(&line);
            assert!(!known, "{line}");
            assert!(
                violations.iter().all(|violation| violation.path.starts_with(pointer)),
                "{line}: {violations:?}"
            );
        }
    });
}

#[test]
fn an_object_is_not_taken_as_an_array_of_its_values() {
    every_place(|_, json, number, pointer, judge| {
        let mut was_object = false;
        let line = with(json, number, |place| {
            if let Json::Object(members) = place {
                was_object = true;
                *place = Json::Array(members.drain(..).map(|(_, value)| value).collect());
            }
        });
        let Judgement { known, violations, .. } = judge(&line);
        assert_eq!(known, !was_object, "{line}");
        if was_object {
            assert!(
                violations.contains(&Violation::new(pointer, "expected an object")),
                "{line}: {violations:?}"
            );
        }
    });
}

#[test]
fn a_string_is_not_taken_as_a_key() {
    every_place(|_, json, number, _, judge| {
        let mut was_string = false;
        let line = with(json, number, |place| {
            if let Json::Leaf(token) = place
                && token.starts_with('"')
            {
                was_string = true;
                *place = Json::Object(vec![(token.clone(), Json::leaf("null"))]);
            }
        });
        assert_eq!(judge(&line).known, !was_string, "{line}");
    });
}

#[test]
fn a_known_key_twice_is_refused_by_the_types_alone() {
    every_place(|schemas, json, number, pointer, judge| {
        let Json::Object(members) = json.clone().at(number).expect("a place").clone() else {
            return;
        };
        for member in members {
            let line = with(json, number, |place| {
                if let Json::Object(members) = place {
                    members.push(member.clone());
                }
            });
            let Judgement { known, violations, .. } = judge(&line);
            assert!(
                schemas.message_accepts(line.as_bytes()) && schemas.bundle_accepts(line.as_bytes()),
                "{line}"
            );
            assert_eq!(known, in_a_map(pointer), "{line}");
            if !known {
                let path = format!("{pointer}/{}", member.0.trim_matches('"'));
                assert_eq!(violations, [Violation::new(path, "appears twice")], "{line}");
            }
        }
    });
}

#[test]
fn unknown_fields_may_hold_anything() {
    let deep = Json::nested(100).print("");
    let anything = [
        "null",
        "1e400",
        "\"\\ud800\"",
        "{\"\\udc00\":[1e400]}",
        "{\"a\":1,\"a\":2}",
        "-0",
        &deep,
    ];
    every_place(|schemas, json, number, pointer, judge| {
        if in_a_map(pointer) {
            return;
        }
        for value in anything {
            let value = Json::parse(value).expect("JSON");
            let line = with(json, number, |place| {
                if let Json::Object(members) = place {
                    members.insert(0, ("\"unknown\"".to_owned(), value.clone()));
                    members.push(("\"unknown\"".to_owned(), value));
                }
            });
            assert!(judge(&line).known && schemas.message_accepts(line.as_bytes()), "{line}");
        }
    });
}

#[test]
fn only_required_fields_must_be_there() {
    every_line(|schemas, json, judge| {
        let name = json.value()["type"].as_str().expect("a type").to_owned();
        for field in fields(&schemas.messages[name.as_str()].0) {
            let mut shorter = json.clone();
            let removed = remove(&mut shorter, &field.place, "");
            let Judgement { known, violations, .. } = judge(&shorter.print(""));
            assert_eq!(known, !field.required, "{name} without {:?}", field.place);
            let expected = removed
                .iter()
                .map(|path| Violation::new(path, "is required"))
                .collect::<Vec<_>>();
            if field.required && field.name() != "type" {
                assert_eq!(violations, expected);
            }
        }
    });
}

/// Removes a field wherever it stands and says where it stood.
fn remove(json: &mut Json, place: &[String], pointer: &str) -> Vec<String> {
    match (json, place) {
        (Json::Array(items), [_, rest @ ..]) => {
            let items = items.iter_mut().enumerate();
            items
                .flat_map(|(index, item)| remove(item, rest, &format!("{pointer}/{index}")))
                .collect()
        }
        (Json::Object(members), [name]) => {
            let key = Json::text(name).print("");
            let stood = members.iter().any(|(other, _)| *other == key);
            members.retain(|(other, _)| *other != key);
            if stood {
                vec![format!("{pointer}/{name}")]
            } else {
                Vec::new()
            }
        }
        (Json::Object(members), [name, rest @ ..]) => {
            let key = Json::text(name).print("");
            let inner = members.iter_mut().filter(|(other, _)| *other == key);
            inner
                .flat_map(|(_, value)| remove(value, rest, &format!("{pointer}/{name}")))
                .collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn depth_is_refused_from_the_limit_on() {
    every_line(|schemas, json, _| {
        for levels in 100..=140 {
            let mut deep = json.clone();
            if let Json::Object(members) = &mut deep {
                members.insert(0, ("\"x\"".to_owned(), Json::nested(levels)));
            }
            let line = deep.print("");
            let (crawler, web_app) = (
                decode::<CrawlerMessage>(line.as_bytes(), schemas.dialect),
                decode::<WebAppMessage>(line.as_bytes(), schemas.dialect),
            );
            let too_deep = levels + 1 > 128;
            assert_eq!(
                crawler.is_err_and(|error| error.kind == DecodeErrorKind::TooDeep),
                too_deep
            );
            assert_eq!(
                web_app.is_err_and(|error| error.kind == DecodeErrorKind::TooDeep),
                too_deep
            );
        }
    });
}

#[test]
fn no_error_says_what_stood_there() {
    let secrets = [
        format!("\"{MARKER}\""),
        format!("[\"{MARKER}\"]"),
        format!("{{\"x\":\"{MARKER}\"}}"),
        format!("\"{MARKER}\\ud800\""),
        // Not JSON at all.
        MARKER.to_owned(),
        format!("\"{MARKER}"),
        format!("\"{MARKER}\n\""),
        format!("'{MARKER}'"),
    ];
    every_place(|_, json, number, pointer, judge| {
        if pointer.is_empty() {
            return;
        }
        for secret in &secrets {
            // The token too is a secret, whatever else is wrong.
            let line = with(json, number, |place| *place = Json::leaf(secret))
                .replace("glpat", MARKER)
                .replace("cwt_", MARKER);
            let told = judge(&line).told;
            assert!(!told.contains(MARKER), "{told}");
        }
        // A key is no secret where it names the entry of a map, and nowhere else does a key of the sender's come out.
        if !MAPS.iter().any(|map| pointer.ends_with(map)) {
            let key = format!("{{\"{MARKER}\":null,\"{MARKER}\":{{}}}}");
            let told = judge(&with(json, number, |place| *place = Json::leaf(&key))).told;
            assert!(!told.contains(MARKER), "{told}");
        }
        for number_secret in ["918273645546372819182", "-918273645.918273645", "918273645e918273645"] {
            let line = with(json, number, |place| *place = Json::leaf(number_secret));
            let told = judge(&line).told;
            assert!(!told.contains("918273645"), "{told}");
        }
    });
}

#[test]
fn a_token_is_not_shown_by_what_was_decoded() {
    every_line(|schemas, json, _| {
        let line = json.print("").replace("glpat", MARKER).replace("cwt_", MARKER);
        // In its own direction and dialect, and as an unknown type in the others.
        for dialect in [schemas.dialect, Dialect::Base] {
            let crawler = format!("{:?}", decode::<CrawlerMessage>(line.as_bytes(), dialect));
            let web_app = format!("{:?}", decode::<WebAppMessage>(line.as_bytes(), dialect));
            assert!(!crawler.contains(MARKER), "{crawler}");
            assert!(!web_app.contains(MARKER), "{web_app}");
        }
    });
}
