//! The file layer: TOML with flat keys, every problem with its line and column.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;

use toml::de::{DeInteger, DeTable, DeValue};

use super::layers::Layers;
use super::names::suggestion;
use super::report::{ConfigErrors, Origin, quote};
use super::setting::Setting;
use super::value::{Raw, TomlValue};

/// Adds what the file gives. `path` is only for messages.
pub(super) fn read(path: &Path, text: &str, layers: &mut Layers, report: &mut ConfigErrors) {
    let places = Places::new(path, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);

    let mut broken_lines = BTreeSet::new();
    for error in errors {
        let span = error.span().unwrap_or_default();
        let (line, column) = places.line_column(span.start);
        let on_line = entries
            .iter()
            .find(|(key, _)| places.line_column(key.span().start).0 == line);
        // A key given twice is kept where it came first; the error points at the second.
        let name = on_line
            .map(|(key, _)| key.get_ref().as_ref())
            .or_else(|| text.get(span));
        let key = name.and_then(Setting::find);
        broken_lines.insert(line);
        // Not the error's own text, which quotes the line: it may hold a password.
        report.problem(
            places.origin(line, column),
            key.map(|setting| setting.key),
            error.message(),
        );
    }

    for (key, value) in entries {
        let (line, column) = places.line_column(key.span().start);
        match Setting::find(key.get_ref()) {
            // What the parser made of a broken line is a guess, and is already reported.
            _ if broken_lines.contains(&line) => {}
            Some(setting) => {
                let (line, column) = places.line_column(value.span().start);
                layers.add(
                    setting.key,
                    places.origin(line, column),
                    Raw::Toml(owned(value.get_ref())),
                );
            }
            None => {
                report.problem(
                    places.origin(line, column),
                    None,
                    unknown(key.get_ref(), value.get_ref()),
                );
            }
        }
    }
}

/// Reads a file of limited size: the configuration, or a secret.
///
/// # Errors
/// Those of reading; also a file that is not UTF-8 or is larger than `bytes_max`.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    // One byte more than allowed tells a full file from one that is too large.
    std::fs::File::open(path)?
        .take(bytes_max + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {bytes_max} bytes"),
        ));
    }
    Ok(text)
}

fn unknown(key: &str, value: &DeValue<'_>) -> String {
    let nested = value.is_table()
        || value
            .as_array()
            .is_some_and(|list| list.iter().any(|v| v.get_ref().is_table()));
    if nested {
        return format!(
            "unknown table {}: every key stands at the top level, as in `max_connections = 10`",
            quote(key)
        );
    }
    format!(
        "unknown key {}{}",
        quote(key),
        suggestion(key, Setting::all().map(|setting| setting.key))
    )
}

fn owned(value: &DeValue<'_>) -> TomlValue {
    match value {
        DeValue::Integer(number) => TomlValue::Integer(decimal(number)),
        DeValue::Boolean(value) => TomlValue::Boolean(*value),
        DeValue::String(text) => TomlValue::String(text.clone().into_owned()),
        DeValue::Array(list) => {
            let texts = list.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
            let numbers = list.iter().map(|item| match item.get_ref() {
                DeValue::Integer(number) => Some(decimal(number)),
                _ => None,
            });
            let strings = texts.collect::<Option<_>>().map(TomlValue::Strings);
            strings
                .or_else(|| numbers.collect::<Option<_>>().map(TomlValue::Integers))
                .unwrap_or(TomlValue::Other("a list with something other than strings or numbers"))
        }
        DeValue::Float(_) => TomlValue::Other("a number with a fraction"),
        DeValue::Datetime(_) => TomlValue::Other("a date or time"),
        DeValue::Table(_) => TomlValue::Other("a table"),
    }
}

/// A number in decimal digits; as it was written when it is larger than any machine integer.
fn decimal(number: &DeInteger<'_>) -> String {
    match i128::from_str_radix(number.as_str(), number.radix()) {
        Ok(decimal) => decimal.to_string(),
        Err(_) => number.as_str().to_owned(),
    }
}

/// From byte offsets to lines and columns.
struct Places<'a> {
    path: &'a Path,
    text: &'a str,
    /// Offset of the first byte of each line.
    starts: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(path: &'a Path, text: &'a str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self { path, text, starts }
    }

    /// Both count from 1.
    fn line_column(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(start..offset).map_or(0, |text| text.chars().count());
        (line, before + 1)
    }

    fn origin(&self, line: usize, column: usize) -> Origin {
        Origin::File {
            path: self.path.to_owned(),
            line,
            column,
        }
    }
}
