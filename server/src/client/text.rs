//! Text for a terminal: nothing in it can steer the terminal, and it is as wide as it is said to be.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Text from somewhere else, safe to show: control characters, and those that change the direction of text or cannot be
/// seen, are written out.
pub(crate) fn shown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            '\r' => safe.push_str("\\r"),
            steering if steering.is_control() => {
                // Writing into a string does not fail.
                let _ = write!(safe, "\\x{:02x}", u32::from(steering));
            }
            hidden if is_hidden(hidden) => {
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(hidden));
            }
            plain => safe.push(plain),
        }
    }
    safe
}

/// Characters without a shape of their own: marks of direction, joiners, separators of lines, tags.
fn is_hidden(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Columns of a terminal that a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// A text in this many columns: cut with an ellipsis where it is longer.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut taken = 0;
    for character in text.chars() {
        let wide = character.width().unwrap_or(0);
        if taken + wide + 1 > columns {
            break;
        }
        kept.push(character);
        taken += wide;
    }
    if columns > 0 {
        kept.push('…');
    }
    kept
}

/// A text as a part of a path or query of a URL.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut safe, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            safe.push(char::from(byte));
        } else {
            let _ = write!(safe, "%{byte:02X}");
        }
        safe
    })
}

/// A document of JSON in one line. What could steer a terminal is escaped, which means the same to every reader.
pub(crate) fn json(document: &Value) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Safe);
    // Writing a value into memory does not fail.
    let _ = document.serialize(&mut serializer);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// As compact as the usual one; escapes more.
struct Safe;

impl Formatter for Safe {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, character)) = rest.char_indices().find(|(_, it)| it.is_control() || is_hidden(*it)) {
            CompactFormatter.write_string_fragment(writer, &rest[..at])?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + character.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        for (given, safe) in [
            ("group/project", "group/project"),
            ("\u{1b}]0;title\u{7}", "\\x1b]0;title\\x07"),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\u{9b}31m", "\\x9b31m"),
            ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
            ("a\u{200b}b\u{e0041}", "a\\u{200b}b\\u{e0041}"),
            ("ünï 日本 🦀", "ünï 日本 🦀"),
        ] {
            assert_eq!(shown(given), safe);
        }
    }

    #[test]
    fn what_is_too_wide_is_cut_by_columns() {
        assert_eq!(cut("project", 7), "project");
        assert_eq!(cut("project", 6), "proje…");
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("x", 0), "");
        for columns in 0..12 {
            assert!(width(&cut("a日b本c語d", columns)) <= columns);
        }
    }

    #[test]
    fn json_means_the_same_and_steers_nothing() {
        let document =
            json!({ "a\u{9b}": ["\u{1b}[2J \u{202e} \u{e0041} \" \\ ü", 1.5, null, 18_446_744_073_709_551_615_u64] });
        let text = json(&document);
        assert!(!text.chars().any(|it| it.is_control() || is_hidden(it)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), document);
    }
}
