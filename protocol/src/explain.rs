//! Why a line was refused: every violation, with its JSON pointer.
//!
//! This is the slow path, taken only for lines that [`decode`] refused. The rules are the committed JSON
//! Schemas; the few that a schema cannot say (UTF-8, depth, a key twice) are checked here. A violation names place and
//! rule, never the offending value.

mod judge;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{JsonType, ValidationError};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use self::judge::Judge;
pub use self::judge::Rules;
use crate::codec::nests_too_deeply;
use crate::limits::{NESTING_MAX, WHOLE_MAX};
use crate::{CrawlerMessage, Decoded, Dialect, Message, WebAppMessage, decode};

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Violation {
    /// A JSON pointer (RFC 6901) to the place; for a missing field, where it should be. Empty for the whole line.
    pub path: String,
    /// The rule, in words.
    pub message: String,
}

impl Violation {
    /// A broken rule at a place.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

/// A set of messages whose schemas are at hand.
pub trait Explain: Message {
    /// The committed schemas of a dialect, compiled, by type name.
    fn rules(dialect: Dialect) -> &'static BTreeMap<&'static str, Rules>;
}

/// The schemas in a folder, compiled when first asked for.
macro_rules! compiled {
    ($folder:literal, [$($name:literal),+]) => {{
        static RULES: LazyLock<BTreeMap<&'static str, Rules>> = LazyLock::new(|| {
            BTreeMap::from([$((
                $name,
                Rules::compile(include_str!(concat!("../schemas/", $folder, "/", $name, ".json"))),
            )),+])
        });
        &RULES
    }};
}

impl Explain for CrawlerMessage {
    fn rules(dialect: Dialect) -> &'static BTreeMap<&'static str, Rules> {
        match dialect {
            Dialect::Base => compiled!(
                "v1",
                [
                    "heartbeat",
                    "job_started",
                    "job_progress",
                    "job_completed",
                    "job_failed",
                    "jobs_discovered",
                    "token_refresh_request"
                ]
            ),
            Dialect::Session => compiled!(
                "session/v1/crawler",
                [
                    "heartbeat",
                    "job_started",
                    "job_progress",
                    "job_completed",
                    "job_failed",
                    "jobs_discovered",
                    "token_refresh_request",
                    "hello",
                    "job_request",
                    "checkpoint",
                    "job_cancelled",
                    "job_paused",
                    "job_resumed",
                    "job_returned",
                    "api_limited",
                    "goodbye",
                    "ping",
                    "pong",
                    "compressed"
                ]
            ),
        }
    }
}

impl Explain for WebAppMessage {
    fn rules(dialect: Dialect) -> &'static BTreeMap<&'static str, Rules> {
        match dialect {
            Dialect::Base => compiled!("v1", ["job_assignment", "token_refresh_response", "shutdown"]),
            Dialect::Session => compiled!(
                "session/v1/server",
                [
                    "job_assignment",
                    "token_refresh_response",
                    "shutdown",
                    "welcome",
                    "ack",
                    "error",
                    "job_cancel",
                    "job_pause",
                    "job_resume",
                    "report_policy",
                    "draining",
                    "goodbye",
                    "ping",
                    "pong",
                    "compressed"
                ]
            ),
        }
    }
}

/// The rules of the envelope alone, for a line whose type says nothing about its data.
static BASE_ENVELOPE: LazyLock<Rules> = LazyLock::new(|| envelope(&[]));
static SESSION_ENVELOPE: LazyLock<Rules> = LazyLock::new(|| envelope(&[("seq", 1), ("fence", 0), ("n", 0)]));

/// With the numbers that a dialect has in its envelope, each with its least value.
fn envelope(numbers: &[(&str, u64)]) -> Rules {
    let mut schema = json!({
        "type": "object",
        "required": ["type", "timestamp", "data"],
        "properties": {
            "type": { "type": "string" },
            "timestamp": { "type": "string" },
            "job_id": { "type": "string", "minLength": 1 },
            "data": { "type": "object" },
        }
    });
    for (name, least) in numbers {
        schema["properties"][name] = json!({ "type": "integer", "minimum": least, "maximum": WHOLE_MAX });
    }
    Rules::new(&schema)
}

/// Judges a line as a message of `M` and lists what is wrong: at most [`VIOLATIONS_MAX`](crate::limits::VIOLATIONS_MAX) violations, sorted by path;
/// none exactly when the line is a message of a type of `M`.
///
/// Other than [`decode`] it takes an unknown type, or one of the other direction, for a violation at
/// `/type`. Time and memory grow with the length of the line, whatever it holds.
pub fn explain<M: Explain>(line: &[u8], dialect: Dialect) -> Vec<Violation> {
    match decode::<M>(line, dialect) {
        Ok(Decoded::Known(_)) => Vec::new(),
        _ => violations::<M>(line, dialect),
    }
}

fn violations<M: Explain>(line: &[u8], dialect: Dialect) -> Vec<Violation> {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => {
            return vec![Violation::new(
                "",
                format!("not UTF-8 at byte {}", error.valid_up_to() + 1),
            )];
        }
    };
    if nests_too_deeply(line) {
        return vec![Violation::new("", format!("nested deeper than {NESTING_MAX} levels"))];
    }
    let raw = match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => raw,
        Err(error) => return vec![Violation::new("", format!("not JSON: {error}"))],
    };
    let mut judge = Judge::default();
    let envelope = match dialect {
        Dialect::Base => &BASE_ENVELOPE,
        Dialect::Session => &SESSION_ENVELOPE,
    };
    match type_name(raw) {
        Some(name) => match M::rules(dialect).get(name.as_str()) {
            Some(rules) => judge.judge(rules, raw),
            None => {
                judge.judge(envelope, raw);
                judge.add(Violation::new("/type", "not a message type of this direction"));
            }
        },
        None => judge.judge(envelope, raw),
    }
    judge.finish()
}

/// The value of `type`, when there is one, once, and it is a string.
fn type_name(raw: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow, rename = "type")]
        type_name: &'a RawValue,
    }

    let typed: Typed = serde_json::from_str(raw.get()).ok()?;
    serde_json::from_str(typed.type_name.get()).ok()
}

/// A violation with its path relative to the judged value.
fn describe(error: &ValidationError) -> Violation {
    let mut path = error.instance_path().as_str().to_owned();
    let message = match error.kind() {
        ValidationErrorKind::Required { property } => {
            push_token(&mut path, property.as_str().unwrap_or_default());
            "is required".to_owned()
        }
        ValidationErrorKind::Type {
            kind: TypeKind::Single(expected),
        } => format!("expected {}", with_article(*expected)),
        ValidationErrorKind::Minimum { limit } => format!("expected {limit} or more"),
        ValidationErrorKind::Maximum { limit } => format!("expected {limit} or less"),
        ValidationErrorKind::MaxLength { limit } => format!("expected {limit} characters or fewer"),
        ValidationErrorKind::Pattern { pattern } => format!("expected text that matches {pattern}"),
        ValidationErrorKind::MinLength { .. } => "expected a string that is not empty".to_owned(),
        ValidationErrorKind::OneOfNotValid { context } => {
            format!("expected one of {}", spell(context.iter().flatten()))
        }
        other => format!("breaks the rule {}", other.keyword()),
    };
    Violation { path, message }
}

fn with_article(expected: JsonType) -> String {
    let name = expected.to_string();
    let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {name}")
}

/// The words of a closed set, which the schemas write as one constant per choice.
fn spell<'a>(errors: impl Iterator<Item = &'a ValidationError<'static>>) -> String {
    let words = errors.filter_map(|error| match error.kind() {
        ValidationErrorKind::Constant { expected_value } => expected_value.as_str(),
        _ => None,
    });
    words.collect::<Vec<_>>().join(", ")
}

fn push_token(path: &mut String, token: &str) {
    path.push('/');
    path.push_str(&token.replace('~', "~0").replace('/', "~1"));
}
