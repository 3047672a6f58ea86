//! Where values come from, and what is wrong with them: findings are collected and shown together, never one at a time.

use std::fmt;
use std::path::{Path, PathBuf};

use super::types::Profile;

/// The layer and place a value comes from. Also names the place a problem is to be mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in, the same in every profile.
    Default,
    /// Built in, for this profile.
    Profile(Profile),
    /// The configuration file. Line and column count from 1; the column counts characters.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// The line of the value, or of the key when the key is at fault.
        line: usize,
        /// The column in that line.
        column: usize,
    },
    /// An environment variable.
    Env(String),
    /// A command-line flag, with its dashes.
    Flag(&'static str),
    /// Worked out from another setting, in the words given.
    Derived(&'static str),
}

impl Origin {
    /// The place of the layer in the order of precedence: a higher one wins.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Profile(_) => 1,
            Self::File { .. } => 2,
            Self::Env(_) => 3,
            Self::Flag(_) => 4,
            Self::Derived(_) => 5,
        }
    }

    /// Whether an operator wrote the value: in the file, the environment or a flag.
    pub fn is_explicit(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Env(_) | Self::Flag(_))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Profile(profile) => write!(f, "profile {profile}"),
            Self::File { path, line, column } => {
                write!(f, "{}:{line}:{column}", printable_path(path))
            }
            Self::Env(name) => f.write_str(&printable(name)),
            Self::Flag(flag) => f.write_str(flag),
            Self::Derived(how) => f.write_str(how),
        }
    }
}

/// One thing to tell the operator about the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where it was found.
    pub origin: Origin,
    /// The setting it is about, when it is about one.
    pub key: Option<&'static str>,
    /// What it is and what to do. Never holds a secret.
    pub message: String,
}

/// A finding that stops the server from starting.
pub type Problem = Finding;

/// A finding that does not.
pub type Warning = Finding;

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if let Some(key) = self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with a configuration, and the warnings that came up beside it.
///
/// `Display` lists all of it, one finding per line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigErrors {
    /// What must be mended. Not empty when the type is returned as an error.
    pub problems: Vec<Problem>,
    /// What would only have been mentioned.
    pub warnings: Vec<Warning>,
}

impl ConfigErrors {
    pub(super) fn problem(&mut self, origin: Origin, key: Option<&'static str>, message: impl Into<String>) {
        self.problems.push(Finding {
            origin,
            key,
            message: message.into(),
        });
    }

    pub(super) fn warn(&mut self, origin: Origin, key: Option<&'static str>, message: impl Into<String>) {
        self.warnings.push(Finding {
            origin,
            key,
            message: message.into(),
        });
    }

    /// Whether a problem with this setting is already listed, so that rules built on it stay silent.
    pub(super) fn blames(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == Some(key))
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => f.write_str("the configuration has 1 problem")?,
            n => write!(f, "the configuration has {n} problems")?,
        }
        for problem in &self.problems {
            write!(f, "\n  error: {problem}")?;
        }
        for warning in &self.warnings {
            write!(f, "\n  warning: {warning}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Text an operator gave, quoted for a message: control characters escaped, cut after 80 characters.
pub(super) fn quote(text: &str) -> String {
    const SHOWN: usize = 80;
    let cut = if text.chars().nth(SHOWN).is_some() { "..." } else { "" };
    let shown: String = text.chars().take(SHOWN).collect();
    format!("`{}{cut}`", printable(&shown))
}

/// Text with its control characters escaped, so that it cannot move the cursor or forge a line.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default())
        } else {
            shown.push(c)
        }
    }
    shown
}

/// A path fit for a message.
pub(super) fn printable_path(path: &Path) -> String {
    printable(&path.to_string_lossy())
}
