//! JSON as text: a tree that keeps keys in order, keys that appear twice, and every token as it was spelled.
//!
//! It is written from RFC 8259 and shares nothing with the parser under test, so that it can be held against it.

use serde_json::{Map, Value};

/// Deeper text is not parsed: far beyond the limit of the wire, and safe for the stack of a test.
const DEPTH_MAX: usize = 600;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    /// A literal, a number or a string, as spelled.
    Leaf(String),
    Array(Vec<Json>),
    /// Keys are spelled with their quotes.
    Object(Vec<(String, Json)>),
}

impl Json {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parser = Parser { rest: text, depth: 0 };
        let json = parser.value()?;
        parser.space();
        parser.rest.is_empty().then_some(json)
    }

    /// A string, spelled plainly.
    pub(crate) fn text(text: &str) -> Self {
        Self::Leaf(Value::from(text).to_string())
    }

    pub(crate) fn leaf(token: &str) -> Self {
        Self::Leaf(token.to_owned())
    }

    /// `levels` arrays, one in the other.
    pub(crate) fn nested(levels: usize) -> Self {
        (1..levels).fold(Self::Array(Vec::new()), |inner, _| Self::Array(vec![inner]))
    }

    /// How many levels of objects and arrays.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::Leaf(_) => 0,
            Self::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(members) => 1 + members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
        }
    }

    /// Whether an object anywhere has a key twice.
    pub(crate) fn has_a_key_twice(&self) -> bool {
        match self {
            Self::Leaf(_) => false,
            Self::Array(items) => items.iter().any(Self::has_a_key_twice),
            Self::Object(members) => {
                let mut keys: Vec<_> = members.iter().map(|(key, _)| unescape(key)).collect();
                keys.sort();
                keys.windows(2).any(|pair| pair[0] == pair[1])
                    || members.iter().any(|(_, value)| value.has_a_key_twice())
            }
        }
    }

    pub(crate) fn has_key_with(&self, text: &str) -> bool {
        match self {
            Self::Leaf(_) => false,
            Self::Array(items) => items.iter().any(|item| item.has_key_with(text)),
            Self::Object(members) => {
                let key = |key: &str| unescape(key).is_some_and(|key| key.contains(text));
                members
                    .iter()
                    .any(|(name, value)| key(name) || value.has_key_with(text))
            }
        }
    }

    /// Places in the tree, the root first.
    pub(crate) fn count(&self) -> usize {
        1 + match self {
            Self::Leaf(_) => 0,
            Self::Array(items) => items.iter().map(Self::count).sum(),
            Self::Object(members) => members.iter().map(|(_, value)| value.count()).sum(),
        }
    }

    /// A JSON pointer to every place, in reading order. Keys must be spelled plainly.
    pub(crate) fn pointers(&self) -> Vec<String> {
        let below = |token: &str, value: &Self| {
            let deeper = value.pointers().into_iter();
            deeper.map(|pointer| format!("/{token}{pointer}")).collect::<Vec<_>>()
        };
        let mut pointers = vec![String::new()];
        match self {
            Self::Leaf(_) => {}
            Self::Array(items) => {
                pointers.extend(
                    items
                        .iter()
                        .enumerate()
                        .flat_map(|(index, item)| below(&index.to_string(), item)),
                );
            }
            Self::Object(members) => {
                pointers.extend(
                    members
                        .iter()
                        .flat_map(|(key, value)| below(key.trim_matches('"'), value)),
                );
            }
        }
        pointers
    }

    /// The place with this number, counted in reading order.
    pub(crate) fn at(&mut self, number: usize) -> Option<&mut Self> {
        if number == 0 {
            return Some(self);
        }
        let mut left = number - 1;
        let children: Vec<&mut Self> = match self {
            Self::Leaf(_) => Vec::new(),
            Self::Array(items) => items.iter_mut().collect(),
            Self::Object(members) => members.iter_mut().map(|(_, value)| value).collect(),
        };
        for child in children {
            let count = child.count();
            if left < count {
                return child.at(left);
            }
            left -= count;
        }
        None
    }

    /// As text, with `space` wherever white space may stand.
    pub(crate) fn print(&self, space: &str) -> String {
        let mut text = space.to_owned();
        self.print_to(space, &mut text);
        text
    }

    fn print_to(&self, space: &str, text: &mut String) {
        match self {
            Self::Leaf(token) => text.push_str(token),
            Self::Array(items) => {
                text.push('[');
                for (index, item) in items.iter().enumerate() {
                    text.push_str(if index > 0 { "," } else { "" });
                    text.push_str(space);
                    item.print_to(space, text);
                }
                text.push(']');
            }
            Self::Object(members) => {
                text.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    text.push_str(&[comma, space, key, space, ":", space].concat());
                    value.print_to(space, text);
                }
                text.push('}');
            }
        }
        text.push_str(space);
    }

    /// What a schema is shown. The last of two equal keys counts; a string that is not Unicode, a number beyond a
    /// double and an object with a key that is not Unicode are shown as `null`, since a [`Value`] cannot hold them.
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Leaf(token) => leaf_value(token),
            Self::Array(items) => items.iter().map(Self::value).collect(),
            Self::Object(members) => {
                let members = members.iter().map(|(key, value)| Some((unescape(key)?, value.value())));
                members
                    .collect::<Option<Map<_, _>>>()
                    .map_or(Value::Null, Value::Object)
            }
        }
    }
}

fn leaf_value(token: &str) -> Value {
    match token {
        "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ if token.starts_with('"') => unescape(token).map_or(Value::Null, Value::String),
        _ => {
            let whole = token
                .parse::<u64>()
                .map(Value::from)
                .or_else(|_| token.parse::<i64>().map(Value::from));
            // `Value::from` makes null of what is not finite.
            whole.unwrap_or_else(|_| token.parse::<f64>().map_or(Value::Null, Value::from))
        }
    }
}

/// The text of a string token; `None` when half of a surrogate pair stands alone.
pub(crate) fn unescape(token: &str) -> Option<String> {
    let mut units = Vec::new();
    let mut characters = token[1..token.len() - 1].chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            units.extend(character.encode_utf16(&mut [0; 2]).iter());
            continue;
        }
        units.push(match characters.next()? {
            'b' => 8,
            't' => 9,
            'n' => 10,
            'f' => 12,
            'r' => 13,
            'u' => u16::from_str_radix(&characters.by_ref().take(4).collect::<String>(), 16).ok()?,
            other => other as u16,
        });
    }
    String::from_utf16(&units).ok()
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    /// Skips white space and takes `token` when it is next.
    fn takes(&mut self, token: char) -> bool {
        self.space();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn value(&mut self) -> Option<Json> {
        self.space();
        match self.rest.as_bytes().first()? {
            b'{' => self
                .list('{', '}', |parser| {
                    Some((parser.string()?, parser.takes(':').then_some(())?, parser.value()?))
                })
                .map(|members| Json::Object(members.into_iter().map(|(key, (), value)| (key, value)).collect())),
            b'[' => self.list('[', ']', Self::value).map(Json::Array),
            b'"' => self.string().map(Json::Leaf),
            _ => self.word().map(Json::Leaf),
        }
    }

    fn list<T>(&mut self, open: char, close: char, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        self.depth += 1;
        if self.depth > DEPTH_MAX || !self.takes(open) {
            return None;
        }
        let mut items = Vec::new();
        if !self.takes(close) {
            loop {
                items.push(item(self)?);
                if self.takes(close) {
                    break;
                }
                self.takes(',').then_some(())?;
            }
        }
        self.depth -= 1;
        Some(items)
    }

    fn string(&mut self) -> Option<String> {
        self.space();
        let mut bytes = self.rest.bytes().enumerate().skip(1);
        if !self.rest.starts_with('"') {
            return None;
        }
        let end = loop {
            match bytes.next()? {
                (_, 0..0x20) => return None,
                (index, b'"') => break index + 1,
                (_, b'\\') => match bytes.next()?.1 {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => (0..4).try_for_each(|_| bytes.next()?.1.is_ascii_hexdigit().then_some(()))?,
                    _ => return None,
                },
                _ => {}
            }
        };
        Some(self.cut(end))
    }

    /// A literal or a number.
    fn word(&mut self) -> Option<String> {
        let end = self
            .rest
            .find(|character: char| !character.is_ascii_alphanumeric() && !"+-.".contains(character));
        let word = self.cut(end.unwrap_or(self.rest.len()));
        (["null", "true", "false"].contains(&word.as_str()) || is_number(&word)).then_some(word)
    }

    fn cut(&mut self, end: usize) -> String {
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        token.to_owned()
    }
}

/// RFC 8259, section 6: `[ minus ] int [ frac ] [ exp ]`.
fn is_number(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let word = word.strip_prefix('-').unwrap_or(word);
    let (mantissa, exponent) = word
        .split_once(['e', 'E'])
        .map_or((word, None), |(left, right)| (left, Some(right)));
    let (whole, fraction) = mantissa
        .split_once('.')
        .map_or((mantissa, None), |(left, right)| (left, Some(right)));
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|text| digits(text.strip_prefix(['+', '-']).unwrap_or(text)))
}
