//! The database URL, which may hold a password and therefore shows itself masked.

use std::fmt;
use std::path::Path;

use super::setting::Setting;
use super::value::{Raw, Value, text, toml_string};

/// Longest URL accepted, in bytes: far above any real one.
const LENGTH_MAX: usize = 4096;

/// Parameters whose values may be shown. Any other one may be a secret (`password`, for one).
const PLAIN_PARAMETERS: &[&str] = &[
    "application_name",
    "cache",
    "host",
    "immutable",
    "mode",
    "port",
    "sslmode",
    "vfs",
];

/// Where the database is and how to log in. `Debug` and `Display` mask the password; only [`DatabaseUrl::expose`]
/// gives it away.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The URL with its password, for the database driver alone.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The URL of the SQLite file `crawlwire.db` in a directory.
    pub(super) fn sqlite_in(directory: &Path) -> String {
        let path = directory.join("crawlwire.db");
        let mut escaped = String::new();
        for c in path.to_string_lossy().chars() {
            // The driver splits the URL at `?`, and decodes percent signs.
            if matches!(c, '%' | '?' | '#') || c.is_control() {
                let mut bytes = [0; 4];
                escaped.extend(c.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")));
            } else {
                escaped.push(c);
            }
        }
        format!("sqlite://{escaped}?mode=rwc")
    }

    /// Hides all between the first colon of the login and the last `@`, wherever that stands: a password with
    /// unescaped special characters must not slip through because the URL is malformed.
    fn masked(&self) -> String {
        let (scheme, rest) = match self.0.split_once("://") {
            Some((scheme, rest)) => (format!("{scheme}://"), rest),
            None => (String::new(), self.0.as_str()),
        };
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (format!("{}@", mask_login(login)), place),
            None => (String::new(), rest),
        };
        let Some((place, query)) = place.split_once('?') else {
            return format!("{scheme}{login}{place}");
        };
        let parameters: Vec<String> = query.split('&').map(mask_parameter).collect();
        format!("{scheme}{login}{place}?{}", parameters.join("&"))
    }
}

/// Keeps the user's name, where it is plainly one.
fn mask_login(login: &str) -> String {
    let (user, password) = match login.split_once(':') {
        Some((user, _)) => (user, ":***"),
        None => (login, ""),
    };
    if user.contains(['/', '?', '#']) {
        "***".to_owned()
    } else {
        format!("{user}{password}")
    }
}

/// Whether what stands after the host's colon, if there is one, is a port.
fn has_numeric_port(rest: &str) -> bool {
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let authority = place.split(['/', '?']).next().unwrap_or_default();
    let after_brackets = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    after_brackets
        .split_once(':')
        .is_none_or(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
}

fn mask_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, _)) if PLAIN_PARAMETERS.contains(&name) => parameter.to_owned(),
        Some((name, _)) => format!("{name}=***"),
        None => "***".to_owned(),
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Value for DatabaseUrl {
    const KIND: &'static str = "URL";

    /// No message repeats the value: it is a secret even when it is wrong.
    fn parse(raw: &Raw, _: &Setting) -> Result<Self, String> {
        const WANTED: &str = "a URL that begins with sqlite:, postgres:// or postgresql://";
        let url = text(raw, WANTED)?.trim();
        if url.len() > LENGTH_MAX {
            return Err(format!("must be at most {LENGTH_MAX} bytes long"));
        }
        if url.contains(|c: char| c.is_control()) {
            return Err("must not contain control characters".to_owned());
        }
        let schemes = ["sqlite:", "postgres://", "postgresql://"];
        let Some(rest) = schemes.iter().find_map(|scheme| url.strip_prefix(scheme)) else {
            return Err(format!("must be {WANTED}"));
        };
        if rest.trim_start_matches('/').is_empty() {
            return Err("must name a database after its scheme".to_owned());
        }
        if url.starts_with("postgres") && !has_numeric_port(rest) {
            // Often a login whose `@host` is missing, so that the password stands where the port would.
            return Err("must have a number as port, as in postgresql://user:password@host:5432/name".to_owned());
        }
        Ok(Self(url.to_owned()))
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml_string(&self.masked()))
    }
}
