//! From the text or TOML of one layer to a typed value, and back to TOML for display.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crawlwire_progress::track::Milestones;

use super::report::quote;
use super::setting::Setting;

/// A value as a layer gives it. Has no `Debug`: it may be a secret.
#[derive(Clone)]
pub(super) enum Raw {
    /// From the environment, a flag, or the built-in table: any kind, written out.
    Text(String),
    /// From the file, where numbers, booleans, strings and lists are told apart.
    Toml(TomlValue),
}

/// What settings can be in a file. Owned, so that layers do not borrow from the parser.
#[derive(Clone)]
pub(super) enum TomlValue {
    /// Decimal digits with a sign; may be larger than any machine integer.
    Integer(String),
    Boolean(bool),
    String(String),
    Strings(Vec<String>),
    /// Whole numbers as in [`Self::Integer`], one at least.
    Integers(Vec<String>),
    /// No setting takes this; the name of its type.
    Other(&'static str),
}

impl TomlValue {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Integer(_) => "an integer",
            Self::Boolean(_) => "a boolean",
            Self::String(_) => "a string",
            Self::Strings(_) | Self::Integers(_) => "a list",
            Self::Other(name) => name,
        }
    }
}

/// A type that a setting can have.
pub(super) trait Value: Sized {
    /// The kind of value, in the words of the documentation.
    const KIND: &'static str;

    /// Reads a value, checking it against the range of `setting`.
    ///
    /// # Errors
    /// A message for the operator, without the name of the setting, and without the value where it may be secret.
    fn parse(raw: &Raw, setting: &Setting) -> Result<Self, String>;

    /// The value as TOML; `None` when the setting is unset.
    fn to_toml(&self) -> Option<String>;

    /// What a setting has that no layer gives; `None` when it cannot do without.
    fn unset() -> Option<Self> {
        None
    }
}

impl<T: Value> Value for Option<T> {
    const KIND: &'static str = T::KIND;

    fn parse(raw: &Raw, setting: &Setting) -> Result<Self, String> {
        T::parse(raw, setting).map(Some)
    }

    fn to_toml(&self) -> Option<String> {
        self.as_ref().and_then(T::to_toml)
    }

    fn unset() -> Option<Self> {
        Some(None)
    }
}

fn wrong_type(wanted: &str, given: &TomlValue) -> String {
    format!("must be {wanted}, not {}", given.type_name())
}

/// A whole number in the range of the setting. Text takes plain digits only: no unit, sign or separator.
pub(super) fn integer(raw: &Raw, setting: &Setting) -> Result<u64, String> {
    let (min, max) = setting.range;
    let unit = setting.unit();
    let wanted = format!("a whole number from {min} to {max}{unit}");
    let text = match raw {
        Raw::Text(text) => text.trim(),
        Raw::Toml(TomlValue::Integer(digits)) => digits.as_str(),
        Raw::Toml(other) => return Err(wrong_type(&wanted, other)),
    };
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("must be {wanted}, in plain digits, not {}", quote(text)));
    }
    match text.parse::<u64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("must be {wanted}, not {}", quote(text))),
    }
}

/// Text that is not empty.
pub(super) fn text<'a>(raw: &'a Raw, wanted: &str) -> Result<&'a str, String> {
    let text = match raw {
        Raw::Text(text) | Raw::Toml(TomlValue::String(text)) => text.as_str(),
        Raw::Toml(other) => return Err(wrong_type(&format!("{wanted}, in quotes"), other)),
    };
    if text.is_empty() {
        Err(format!("must be {wanted}, not empty"))
    } else {
        Ok(text)
    }
}

/// Texts: a list in the file, separated by commas elsewhere. Empty parts are left out.
pub(super) fn texts(raw: &Raw, wanted: &str) -> Result<Vec<String>, String> {
    let parts: Vec<&str> = match raw {
        Raw::Text(text) => text.split(',').collect(),
        Raw::Toml(TomlValue::Strings(list)) => list.iter().map(String::as_str).collect(),
        Raw::Toml(other) => return Err(wrong_type(wanted, other)),
    };
    Ok(parts
        .into_iter()
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect())
}

/// One of a few words, in any case.
pub(super) fn word<T: Copy>(raw: &Raw, words: &[(&str, T)]) -> Result<T, String> {
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let wanted = format!("one of {}", names.join(", "));
    let given = text(raw, &wanted)?.trim();
    words
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(given))
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("must be {wanted}, not {}", quote(given)))
}

/// A TOML basic string. JSON escapes are TOML escapes, but TOML also wants the delete character escaped.
pub(super) fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

macro_rules! whole_numbers {
    ($($type:ty),+) => {$(
        impl Value for $type {
            const KIND: &'static str = "whole number";

            fn parse(raw: &Raw, setting: &Setting) -> Result<Self, String> {
                let number = integer(raw, setting)?;
                Self::try_from(number).map_err(|_| format!("must be at most {}, not {number}", Self::MAX))
            }

            fn to_toml(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )+};
}
whole_numbers!(u16, u32, u64, usize);

impl Value for Duration {
    const KIND: &'static str = "whole number";

    fn parse(raw: &Raw, setting: &Setting) -> Result<Self, String> {
        integer(raw, setting).map(Self::from_millis)
    }

    fn to_toml(&self) -> Option<String> {
        Some(self.as_millis().to_string())
    }
}

impl Value for bool {
    const KIND: &'static str = "true or false";

    fn parse(raw: &Raw, _: &Setting) -> Result<Self, String> {
        const WORDS: &[(&str, bool)] = &[
            ("true", true),
            ("false", false),
            ("1", true),
            ("0", false),
            ("yes", true),
            ("no", false),
            ("on", true),
            ("off", false),
        ];
        match raw {
            Raw::Text(_) => word(raw, WORDS),
            Raw::Toml(TomlValue::Boolean(value)) => Ok(*value),
            Raw::Toml(other) => Err(wrong_type("true or false", other)),
        }
    }

    fn to_toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "path";

    fn parse(raw: &Raw, _: &Setting) -> Result<Self, String> {
        let path = text(raw, "a path")?;
        if path.contains('\0') {
            return Err("must be a path without a NUL character".to_owned());
        }
        Ok(Self::from(path))
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml_string(&self.to_string_lossy()))
    }
}

impl Value for SocketAddr {
    const KIND: &'static str = "host:port";

    fn parse(raw: &Raw, _: &Setting) -> Result<Self, String> {
        const WANTED: &str = "an IP address or `localhost`, a colon and a port";
        let given = text(raw, WANTED)?.trim();
        let numeric = match given.strip_prefix("localhost:") {
            Some(port) => format!("{}:{port}", Ipv4Addr::LOCALHOST),
            None => given.to_owned(),
        };
        numeric
            .parse()
            .map_err(|_| format!("must be {WANTED}, not {}", quote(given)))
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml_string(&self.to_string()))
    }
}

/// A host to listen on. What other machines can reach has rules of its own, which need other settings.
impl Value for IpAddr {
    const KIND: &'static str = "IP address or `localhost`";

    fn parse(raw: &Raw, _: &Setting) -> Result<Self, String> {
        const WANTED: &str = "`localhost` or an IP address";
        let given = text(raw, WANTED)?.trim();
        if given == "localhost" {
            return Ok(Self::V4(Ipv4Addr::LOCALHOST));
        }
        given
            .parse()
            .map_err(|_| format!("must be {WANTED}, not {}", quote(given)))
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml_string(&self.to_string()))
    }
}

/// Numbers of users or groups.
impl Value for Vec<u32> {
    const KIND: &'static str = "list of numbers";

    fn parse(raw: &Raw, _: &Setting) -> Result<Self, String> {
        numbers(raw, "a list of numbers such as [1000, 1001]")
    }

    fn to_toml(&self) -> Option<String> {
        Some(list(self))
    }
}

/// Parts of the whole that are told when they are passed.
impl Value for Milestones {
    const KIND: &'static str = "list of percent";

    fn parse(raw: &Raw, _: &Setting) -> Result<Self, String> {
        let percents: Vec<u8> = numbers(raw, "a list of percents such as [25, 50, 100]")?;
        Self::try_from(percents).map_err(|error| format!("is not valid: {error}"))
    }

    fn to_toml(&self) -> Option<String> {
        Some(list(self.percents()))
    }
}

/// Numbers: a list in the file, separated by commas elsewhere.
fn numbers<T: FromStr>(raw: &Raw, wanted: &str) -> Result<Vec<T>, String> {
    let given = match raw {
        Raw::Toml(TomlValue::Integers(numbers)) => numbers.clone(),
        Raw::Toml(TomlValue::Strings(list)) if !list.is_empty() => {
            return Err(format!("must be {wanted}, without quotes"));
        }
        _ => texts(raw, wanted)?,
    };
    let number = |text: &String| match text.parse() {
        Ok(number) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
        _ => Err(format!("must be {wanted}; not {}", quote(text))),
    };
    given.iter().map(number).collect()
}

fn list(numbers: &[impl ToString]) -> String {
    let items: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    format!("[{}]", items.join(", "))
}
