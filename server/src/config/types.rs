//! Values with a type of their own.

use std::fmt;

use super::report::quote;
use super::setting::Setting;
use super::value::{Raw, Value, text, texts, toml_string, word};

/// A set of built-in values for one kind of installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// A developer's machine: quick heartbeats, few connections, verbose, no rate limit. The default.
    Development,
    /// A service for others.
    Production,
    /// Automated tests: nothing outside a temporary directory, quiet.
    Test,
}

impl Profile {
    const WORDS: &[(&str, Self)] = &[
        ("development", Self::Development),
        ("production", Self::Production),
        ("test", Self::Test),
    ];

    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Value for Profile {
    const KIND: &'static str = "development, production or test";

    fn parse(raw: &Raw, _: &Setting) -> Result<Self, String> {
        word(raw, Self::WORDS)
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml_string(self.as_str()))
    }
}

/// How much is logged. API reference, line 329.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything that helps to find a fault.
    Debug,
    /// What an operator wants to know happened.
    Info,
    /// What may need attention.
    Warn,
    /// What failed.
    Error,
}

impl LogLevel {
    const WORDS: &[(&str, Self)] = &[
        ("debug", Self::Debug),
        ("info", Self::Info),
        ("warn", Self::Warn),
        ("error", Self::Error),
    ];

    /// Its name, as log filters spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Value for LogLevel {
    const KIND: &'static str = "debug, info, warn or error";

    fn parse(raw: &Raw, _: &Setting) -> Result<Self, String> {
        word(raw, Self::WORDS)
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml_string(self.as_str()))
    }
}

/// What ends a message on the wire. There is one choice (API reference, line 314), kept as a setting so that a
/// configuration which names it, or names another, gets an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delimiter {
    /// A line feed.
    Newline,
}

impl Value for Delimiter {
    const KIND: &'static str = "newline";

    fn parse(raw: &Raw, _: &Setting) -> Result<Self, String> {
        const WANTED: &str = "a newline, `\\n`";
        match text(raw, WANTED)? {
            // The two characters are how an environment file or a shell tends to pass it.
            "\n" | "\\n" => Ok(Self::Newline),
            other => Err(format!("must be {WANTED}, not {}", quote(other))),
        }
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml_string("\n"))
    }
}

/// Permission bits of a file, at most 0777.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FileMode(u32);

impl FileMode {
    /// The bits, as `chmod` takes them.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileMode({self})")
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl Value for FileMode {
    const KIND: &'static str = "octal text";

    fn parse(raw: &Raw, _: &Setting) -> Result<Self, String> {
        const WANTED: &str = "octal permissions from 0200 to 0777 that let the owner write";
        let given = text(raw, WANTED)?.trim();
        let digits = given.strip_prefix("0o").unwrap_or(given);
        let octal = !digits.is_empty() && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
        match u32::from_str_radix(digits, 8) {
            // Connecting needs the right to write; a socket its own server cannot open serves nobody.
            Ok(bits) if octal && bits <= 0o777 && bits & 0o200 != 0 => Ok(Self(bits)),
            _ => Err(format!("must be {WANTED}, not {}", quote(given))),
        }
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml_string(&self.to_string()))
    }
}

/// A group, by name or number. Whether it exists is found out when the socket is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupName(String);

impl GroupName {
    /// The name or number as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for GroupName {
    const KIND: &'static str = "group name or number";

    fn parse(raw: &Raw, _: &Setting) -> Result<Self, String> {
        const WANTED: &str = "the name or number of a group";
        /// Longer than any system allows a group name to be.
        const LENGTH_MAX: usize = 256;
        let name = text(raw, WANTED)?.trim();
        let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '/' | ',');
        if name.is_empty() || name.len() > LENGTH_MAX || name.contains(odd) {
            return Err(format!("must be {WANTED}, not {}", quote(name)));
        }
        Ok(Self(name.to_owned()))
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml_string(&self.0))
    }
}

/// What a server is called among those that share a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerName(String);

impl ServerName {
    /// The name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for ServerName {
    const KIND: &'static str = "name";

    fn parse(raw: &Raw, _: &Setting) -> Result<Self, String> {
        const WANTED: &str = "a name of at most 200 bytes, without control characters";
        let name = text(raw, WANTED)?.trim();
        if name.is_empty() || name.len() > 200 || name.contains(char::is_control) {
            return Err(format!("must be {WANTED}, not {}", quote(name)));
        }
        Ok(Self(name.to_owned()))
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml_string(&self.0))
    }
}

/// A web origin as browsers send it: scheme, host, and the port where it is not the scheme's own. RFC 6454, section 6.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebOrigin(String);

impl WebOrigin {
    /// In lower case, ready to compare with an `Origin` header.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn from_text(given: &str) -> Option<Self> {
        let lower = given.to_ascii_lowercase();
        let (scheme, rest) = lower.split_once("://")?;
        let own_port = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return None,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let authority = rest.strip_suffix(own_port).unwrap_or(rest);
        let (host, port) = match authority.rsplit_once(':') {
            // A colon inside brackets belongs to an IPv6 address.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port_fits = port
            .is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|n| n > 0));
        let host_fits = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
                !host.is_empty() && host.bytes().all(fits)
            }
        };
        (host_fits && port_fits).then(|| Self(format!("{scheme}://{authority}")))
    }
}

impl Value for Vec<WebOrigin> {
    const KIND: &'static str = "list of origins";

    fn parse(raw: &Raw, _: &Setting) -> Result<Self, String> {
        let given = texts(raw, "a list of origins such as [\"https://app.example.com\"]")?;
        let mut origins = Self::with_capacity(given.len());
        let mut wrong = Vec::new();
        for text in &given {
            match WebOrigin::from_text(text) {
                Some(origin) => origins.push(origin),
                None => wrong.push(quote(text)),
            }
        }
        if wrong.is_empty() {
            return Ok(origins);
        }
        Err(format!(
            "must hold origins such as https://app.example.com, without a path or wildcard; not {}",
            wrong.join(", ")
        ))
    }

    fn to_toml(&self) -> Option<String> {
        let items: Vec<String> = self.iter().map(|origin| toml_string(&origin.0)).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}
