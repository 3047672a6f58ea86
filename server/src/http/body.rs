//! Reading a request body field by field, so that every broken rule is told at once, with its place.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use chrono::DateTime;
use crawlwire_progress::Timestamp;
use crawlwire_protocol::explain::Violation;
use crawlwire_protocol::normalise_host;
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::config::Setting;

/// Longest string a field takes, in characters. Names and paths are far shorter; the bound keeps rows small.
const STRING_CHARS_MAX: usize = 4096;

/// Longest name, in bytes: names are looked up by, and a database keeps only short ones in an index.
const NAME_BYTES_MAX: usize = 255;

/// Longest word of who does something, in characters.
const BY_CHARS_MAX: usize = 200;

/// A JSON object that is being read. `null` counts as absent, as web applications send it for what they do not have.
pub(super) struct Fields {
    object: Map<String, Value>,
    violations: Vec<Violation>,
}

impl Fields {
    /// The body of a request, which must be an object in JSON.
    pub(super) fn of(headers: &HeaderMap, body: &Bytes) -> Result<Self, Problem> {
        if !is_json(headers) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Send the body as JSON with the header Content-Type: application/json.",
            ));
        }
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            let detail = format!(
                "The body is not JSON: line {}, column {}.",
                error.line(),
                error.column()
            );
            Problem::new(StatusCode::BAD_REQUEST, "not_json", detail)
        })?;
        match value {
            Value::Object(object) => Ok(Self::new(object)),
            _ => Err(Problem::invalid(vec![Violation::new("", "expected an object")])),
        }
    }

    /// The same, for requests that can do without a body.
    pub(super) fn of_any(headers: &HeaderMap, body: &Bytes) -> Result<Self, Problem> {
        if body.is_empty() {
            return Ok(Self::new(Map::new()));
        }
        Self::of(headers, body)
    }

    /// A part of a body.
    pub(super) fn new(object: Map<String, Value>) -> Self {
        Self {
            object,
            violations: Vec::new(),
        }
    }

    /// What was read, unless a rule was broken.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Violation>> {
        match value {
            Some(value) if self.violations.is_empty() => Ok(value),
            _ => Err(self.violations),
        }
    }

    pub(super) fn refuse(&mut self, field: &str, message: impl Into<String>) {
        self.violations.push(Violation::new(format!("/{field}"), message));
    }

    /// As [`finish`](Self::finish), for a request that may hold nothing else: a slip in a name must not change what an
    /// act means.
    pub(super) fn finish_strict<T>(mut self, value: Option<T>) -> Result<T, Problem> {
        self.object.retain(|_, value| !value.is_null());
        for name in std::mem::take(&mut self.object).keys() {
            self.refuse(&name.replace('~', "~0").replace('/', "~1"), "there is no such field");
        }
        self.finish(value).map_err(Problem::invalid)
    }

    fn take(&mut self, field: &str) -> Option<Value> {
        self.object.remove(field).filter(|value| !value.is_null())
    }

    /// A name that must be there.
    pub(super) fn required(&mut self, field: &str) -> Option<String> {
        if self.object.get(field).is_none_or(Value::is_null) {
            self.refuse(field, "is required");
            return None;
        }
        self.name(field)
    }

    pub(super) fn string(&mut self, field: &str) -> Option<String> {
        match self.take(field)? {
            Value::String(text) if text.contains('\0') => self.refuse(field, "a NUL character cannot be stored"),
            Value::String(text) if text.chars().count() > STRING_CHARS_MAX => {
                self.refuse(field, format!("expected at most {STRING_CHARS_MAX} characters"));
            }
            Value::String(text) => return Some(text),
            _ => self.refuse(field, "expected a string"),
        }
        None
    }

    /// A name: a string that, when it is there, is not blank and not long.
    pub(super) fn name(&mut self, field: &str) -> Option<String> {
        let text = self.string(field)?;
        self.checked_name(field, text)
    }

    /// A name from elsewhere in the request, by the same rules.
    pub(super) fn checked_name(&mut self, field: &str, text: String) -> Option<String> {
        if text.contains('\0') {
            self.refuse(field, "a NUL character cannot be stored");
            return None;
        }
        if text.trim().is_empty() {
            self.refuse(field, "expected a string that is not empty");
        } else if text.len() > NAME_BYTES_MAX {
            self.refuse(field, format!("expected at most {NAME_BYTES_MAX} bytes"));
        } else {
            return Some(text);
        }
        None
    }

    pub(super) fn one_of<T>(&mut self, field: &str, text: Option<String>, known: &[(&str, T)]) -> Option<T>
    where
        T: Copy,
    {
        let text = text?;
        let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            self.refuse(field, format!("expected one of {}", names.join(", ")));
        }
        found
    }

    pub(super) fn number(&mut self, field: &str) -> Option<f64> {
        let number = self.take(field)?.as_f64().filter(|number| number.is_finite());
        if number.is_none() {
            self.refuse(field, "expected a finite number");
        }
        number
    }

    /// A number that must be there.
    pub(super) fn required_number(&mut self, field: &str) -> Option<f64> {
        if self.object.get(field).is_none_or(Value::is_null) {
            self.refuse(field, "is required");
            return None;
        }
        self.number(field)
    }

    pub(super) fn boolean(&mut self, field: &str) -> Option<bool> {
        let found = self.take(field)?.as_bool();
        if found.is_none() {
            self.refuse(field, "expected true or false");
        }
        found
    }

    /// A list of anything, which must be there.
    pub(super) fn items(&mut self, field: &str, items_max: usize) -> Vec<Value> {
        match self.take(field) {
            Some(Value::Array(items)) if (1..=items_max).contains(&items.len()) => return items,
            None => self.refuse(field, "is required"),
            Some(_) => self.refuse(field, format!("expected an array of 1 to {items_max} items")),
        }
        Vec::new()
    }

    /// An object of fields, which must be there.
    pub(super) fn part(&mut self, field: &str) -> Map<String, Value> {
        match self.take(field) {
            Some(Value::Object(part)) => return part,
            None => self.refuse(field, "is required"),
            Some(_) => self.refuse(field, "expected an object"),
        }
        Map::new()
    }

    /// Rules that were found broken elsewhere.
    pub(super) fn refuse_all(&mut self, violations: Vec<Violation>) {
        self.violations.extend(violations);
    }

    /// A list of short strings.
    pub(super) fn strings(&mut self, field: &str, items_max: usize, chars_max: usize) -> Vec<String> {
        let rule = format!("expected a string of at most {chars_max} characters");
        let fits = |text: &str| text.chars().count() <= chars_max && !text.contains('\0');
        self.list(field, items_max, fits, &rule)
    }

    /// Words without control characters, none of them empty; sorted, each once.
    pub(super) fn words(&mut self, field: &str, items_max: usize, chars_max: usize) -> Vec<String> {
        let rule = one_line(chars_max);
        let mut words = self.list(field, items_max, |text| is_one_line(text, chars_max), &rule);
        words.sort_unstable();
        words.dedup();
        words
    }

    fn list(&mut self, field: &str, items_max: usize, fits: impl Fn(&str) -> bool, rule: &str) -> Vec<String> {
        let Some(value) = self.take(field) else {
            return Vec::new();
        };
        let Value::Array(items) = value else {
            self.refuse(field, "expected an array of strings");
            return Vec::new();
        };
        if items.len() > items_max {
            self.refuse(field, format!("expected at most {items_max} items"));
            return Vec::new();
        }
        let mut strings = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Value::String(text) if fits(&text) => strings.push(text),
                _ => self.refuse(&format!("{field}/{index}"), rule),
            }
        }
        strings
    }

    /// A whole number from 0 to `most`.
    pub(super) fn whole(&mut self, field: &str, most: u64) -> Option<u64> {
        let number = self.take(field)?.as_u64().filter(|number| *number <= most);
        if number.is_none() {
            self.refuse(field, format!("expected a whole number from 0 to {most}"));
        }
        number
    }

    /// A whole number in the range of the setting of the same name.
    pub(super) fn in_place_of(&mut self, field: &str) -> Option<u64> {
        let (least, most) = Setting::find(field).map_or((0, u64::MAX), |setting| setting.range);
        let number = self
            .take(field)?
            .as_u64()
            .filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.refuse(field, format!("expected a whole number from {least} to {most}"));
        }
        number
    }

    /// The same for a span of time in milliseconds.
    pub(super) fn duration_in_place_of(&mut self, field: &str) -> Option<Duration> {
        self.in_place_of(field).map(Duration::from_millis)
    }

    /// A moment.
    pub(super) fn time(&mut self, field: &str) -> Option<Timestamp> {
        let value = self.take(field)?;
        let time = value.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        if time.is_none() {
            self.refuse(field, "expected a time as in RFC 3339, such as 2030-01-31T12:00:00Z");
        }
        time.map(|time| Timestamp(time.timestamp_millis()))
    }

    /// A host that must be there, in the one form that the server uses.
    pub(super) fn host(&mut self, field: &str) -> Option<String> {
        match normalise_host(&self.required(field)?) {
            Ok(host) => Some(host),
            Err(error) => {
                self.refuse(field, error.to_string());
                None
            }
        }
    }

    /// Who does something, for the record; none when the request does not say.
    pub(super) fn by(&mut self) -> Option<String> {
        self.line("by", BY_CHARS_MAX)
    }

    /// A short text for people, in one line.
    pub(super) fn line(&mut self, field: &str, chars_max: usize) -> Option<String> {
        let text = self.string(field)?;
        let fits = is_one_line(&text, chars_max);
        if !fits {
            self.refuse(field, one_line(chars_max));
        }
        fits.then_some(text)
    }

    /// An object of anything, as text.
    pub(super) fn object(&mut self, field: &str, bytes_max: usize) -> Option<String> {
        let value = self.take(field)?;
        let text = value.to_string();
        if holds_nul(&value) {
            self.refuse(field, "a NUL character cannot be stored");
        } else if !value.is_object() {
            self.refuse(field, "expected an object");
        } else if text.len() > bytes_max {
            self.refuse(field, format!("expected at most {bytes_max} bytes"));
        } else {
            return Some(text);
        }
        None
    }
}

fn is_one_line(text: &str, chars_max: usize) -> bool {
    (1..=chars_max).contains(&text.chars().count()) && !text.contains(char::is_control)
}

fn one_line(chars_max: usize) -> String {
    format!("expected 1 to {chars_max} characters, none of them a control character")
}

/// Any other type could be sent by a form of a foreign page without the browser asking first.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
    })
}

/// As deep as a parsed value can be, which is 128 levels.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| name.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
