//! The configuration: built-in values, then those of the profile, the file, the environment and the flags, each above
//! the one before.
//!
//! [`Config::resolve`] is pure: environment and file come in as text. It finds everything that is wrong before it
//! answers, and every value remembers where it came from. The list of settings is in `table.rs`; everything else reads
//! that list.

mod checks;
mod database_url;
mod derive;
mod env;
mod file;
mod flags;
mod layers;
mod names;
mod reader;
mod report;
mod setting;
mod table;
#[cfg(test)]
mod tests;
mod types;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use database_url::DatabaseUrl;
pub use reader::Entry;
pub use report::{ConfigErrors, Finding, Origin, Problem, Warning};
pub use setting::{Preset, Setting};
pub use table::{
    Cleanup, Connection, Database, Discovery, General, Heartbeat, Http, Jobs, Logging, Messages, Progress, SECTIONS,
    Security, Shutdown,
};
pub use types::{Delimiter, FileMode, GroupName, LogLevel, Profile, ServerName, WebOrigin};

use layers::Layers;
use reader::Reader;

/// Largest file that holds a secret, in bytes.
const SECRET_BYTES_MAX: u64 = 16 << 10;

/// What a configuration is made from. `Debug` shows names only, for values may be secrets.
#[derive(Clone)]
pub struct Inputs {
    /// Values of command-line flags, by flag with its dashes.
    pub flags: BTreeMap<&'static str, String>,
    /// The environment. Empty variables count as unset.
    pub env: BTreeMap<String, String>,
    /// The configuration file: its path, for messages, and its text.
    pub file: Option<(PathBuf, String)>,
    /// Reads a file that holds a secret. The only way in which resolving touches the world.
    pub read_secret: fn(&Path) -> io::Result<String>,
}

impl Default for Inputs {
    /// No flags, no environment, no file; secrets are read from the file system, up to 16 KiB.
    fn default() -> Self {
        Self {
            flags: BTreeMap::new(),
            env: BTreeMap::new(),
            file: None,
            read_secret: |path| file::read_bounded(path, SECRET_BYTES_MAX),
        }
    }
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs")
            .field("flags", &self.flags.keys())
            .field("env", &self.env.keys())
            .field("file", &self.file.as_ref().map(|(path, _)| path))
            .finish_non_exhaustive()
    }
}

/// The configuration in force. Plain values; the sections stand for the getters of the API reference (lines 256-260).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What concerns the whole server.
    pub general: General,
    /// Where crawlers connect, and how many may.
    pub connection: Connection,
    /// Who may connect as a crawler, and how that is protected.
    pub security: Security,
    /// What may be sent on a connection.
    pub messages: Messages,
    /// How silence is noticed.
    pub heartbeat: Heartbeat,
    /// How jobs are queued, handed out, watched and tried again.
    pub jobs: Jobs,
    /// What is told of how far jobs are.
    pub progress: Progress,
    /// How far discovered jobs may spread.
    pub discovery: Discovery,
    /// What the server tells of itself.
    pub logging: Logging,
    /// Where jobs are kept.
    pub database: Database,
    /// How long what is over is kept.
    pub cleanup: Cleanup,
    /// The HTTP interface.
    pub http: Http,
    /// How the server ends.
    pub shutdown: Shutdown,
    entries: Vec<Entry>,
}

impl Config {
    /// Makes the configuration, or says everything that is wrong with it.
    ///
    /// # Errors
    /// All problems of all layers together, and the warnings that came up beside them.
    pub fn resolve(inputs: Inputs) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let mut report = ConfigErrors::default();
        let layers = gather(&inputs, &mut report);
        let config = Self::read(&layers, &mut report);
        checks::not_yet_in_force(&layers, &mut report);
        match config {
            Some(config) if report.problems.is_empty() => Ok((config, report.warnings)),
            _ => Err(report),
        }
    }

    /// Resolves the configuration of this process: its environment, and the file that the flag `--config` names.
    ///
    /// # Errors
    /// Those of [`Config::resolve`]; also a file that cannot be read, and variables that are not UTF-8.
    pub fn load(flags: BTreeMap<&'static str, String>) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let mut unreadable = ConfigErrors::default();
        let file = flags
            .get(flags::CONFIG)
            .and_then(|path| flags::read_config_file(path, &mut unreadable));
        let env = env::collect(std::env::vars_os(), &mut unreadable);
        let resolved = Self::resolve(Inputs {
            flags,
            env,
            file,
            ..Inputs::default()
        });
        if unreadable.problems.is_empty() {
            return resolved;
        }
        match resolved {
            Ok((_, warnings)) => unreadable.warnings = warnings,
            Err(found) => {
                unreadable.problems.extend(found.problems);
                unreadable.warnings = found.warnings;
            }
        }
        Err(unreadable)
    }

    /// Every setting with its value and origin, in the order of the documentation. Secrets are masked.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn read(layers: &Layers, report: &mut ConfigErrors) -> Option<Self> {
        let mut reader = Reader::new(layers, report);
        // Every section is read before any is missed, so that all problems are listed.
        let general = General::read(&mut reader);
        let connection = Connection::read(&mut reader);
        let security = Security::read(&mut reader);
        let messages = Messages::read(&mut reader);
        let heartbeat = Heartbeat::read(&mut reader);
        let jobs = Jobs::read(&mut reader);
        let progress = Progress::read(&mut reader);
        let discovery = Discovery::read(&mut reader);
        let logging = Logging::read(&mut reader);
        let database = Database::read(&mut reader);
        let cleanup = Cleanup::read(&mut reader);
        let http = Http::read(&mut reader);
        let shutdown = Shutdown::read(&mut reader);
        let entries = reader.entries;

        connection
            .iter()
            .for_each(|section| checks::connection(section, layers, report));
        connection
            .iter()
            .zip(&security)
            .for_each(|(connection, section)| checks::security(section, connection, layers, report));
        messages
            .iter()
            .for_each(|section| checks::messages(section, layers, report));
        heartbeat
            .iter()
            .for_each(|section| checks::heartbeat(section, layers, report));
        jobs.iter().for_each(|section| checks::jobs(section, layers, report));
        progress
            .iter()
            .for_each(|section| checks::progress(section, layers, report));
        cleanup
            .iter()
            .for_each(|section| checks::cleanup(section, layers, report));
        http.iter().for_each(|section| checks::http(section, layers, report));
        Some(Self {
            general: general?,
            connection: connection?,
            security: security?,
            messages: messages?,
            heartbeat: heartbeat?,
            jobs: jobs?,
            progress: progress?,
            discovery: discovery?,
            logging: logging?,
            database: database?,
            cleanup: cleanup?,
            http: http?,
            shutdown: shutdown?,
            entries,
        })
    }
}

/// Collects what every layer gives.
fn gather(inputs: &Inputs, report: &mut ConfigErrors) -> Layers {
    let mut layers = Layers::default();
    if let Some((path, text)) = &inputs.file {
        file::read(path, text, &mut layers, report);
    }
    env::read(&inputs.env, &mut layers, report);
    flags::read(&inputs.flags, &mut layers, report);
    // A profile that is not valid is reported when it is read; the default one shows what else is wrong.
    let profile = layers.peek("profile").unwrap_or(Profile::Development);
    derive::presets(profile, inputs, &mut layers);
    derive::derived(inputs, &mut layers, report);
    layers
}

/// The configuration as a file that would give the same one, but for secrets, which are comments: one line for each
/// setting, behind it where the value comes from.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (section, settings) in SECTIONS {
            writeln!(f, "# {section}")?;
            for setting in *settings {
                let Some(entry) = self.entries.iter().find(|entry| entry.key == setting.key) else {
                    continue;
                };
                match &entry.value {
                    Some(value) if setting.secret => writeln!(f, "# {} = {value}  # {}", entry.key, entry.origin)?,
                    Some(value) => writeln!(f, "{} = {value}  # {}", entry.key, entry.origin)?,
                    None => writeln!(f, "# {} is not set", entry.key)?,
                }
            }
        }
        Ok(())
    }
}
