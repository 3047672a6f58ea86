//! Reading a request body field by field, so that every broken rule is told at once, with its place.

use crawlwire_protocol::explain::Violation;
use serde_json::{Map, Value};

/// Longest string a field takes, in characters. Names and paths are far shorter; the bound keeps rows small.
const STRING_CHARS_MAX: usize = 4096;

/// Longest name, in bytes: names are looked up by, and a database keeps only short ones in an index.
const NAME_BYTES_MAX: usize = 255;

/// A JSON object that is being read. `null` counts as absent, as web applications send it for what they do not have.
pub(super) struct Fields {
    object: Map<String, Value>,
    violations: Vec<Violation>,
}

impl Fields {
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

    pub(super) fn boolean(&mut self, field: &str) -> Option<bool> {
        let found = self.take(field)?.as_bool();
        if found.is_none() {
            self.refuse(field, "expected true or false");
        }
        found
    }

    /// A list of short strings.
    pub(super) fn strings(&mut self, field: &str, items_max: usize, chars_max: usize) -> Vec<String> {
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
                Value::String(text) if text.chars().count() <= chars_max && !text.contains('\0') => strings.push(text),
                _ => self.refuse(
                    &format!("{field}/{index}"),
                    format!("expected a string of at most {chars_max} characters"),
                ),
            }
        }
        strings
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
