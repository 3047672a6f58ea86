//! The command line: what may be typed, and the `config` command.
//!
//! Values of flags stay text here. They are checked with the rest of the configuration, so that a wrong flag is listed
//! together with every other problem.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::client;
use crate::config::Config;
use crate::validate::{Direction, SpokenDialect};

/// Exit status of a command line or configuration that is not valid.
pub const EXIT_INVALID: u8 = 2;

const ABOUT: &str = "A job server for crawlers: queues, assigns, tracks and persists.";

const AFTER_HELP: &str = "\
Settings come from, each above the one before: built-in values, the profile, the file (--config), the environment, these \
flags. `crawlwire config` shows what is in force and where each value comes from; docs/configuration.md lists every \
setting.

Exit status: 0 after a clean stop, 1 after a failure, 2 when the command line or the configuration is not valid.";

/// The whole command line.
#[derive(Debug, Clone, Parser)]
#[command(name = "crawlwire", version, about = ABOUT, after_help = AFTER_HELP)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: ConfigFlags,
}

impl Cli {
    /// The command asked for; `serve` when none is named.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.flags))
    }
}

/// What the program can do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the server; the command when none is named
    #[command(after_help = AFTER_HELP)]
    Serve(ConfigFlags),
    /// Judge recorded messages, one JSON object per line
    Validate(ValidateArgs),
    /// Show every setting, its value and where that comes from, or everything that is wrong
    ///
    /// Changes nothing and connects to nothing, so that a service manager can run it before start and reload.
    #[command(after_help = AFTER_HELP)]
    Config(ConfigFlags),
    /// Make, show and take back the tokens of crawlers
    ///
    /// Works on the configured database, also while servers run on it.
    #[command(subcommand, after_help = AFTER_HELP)]
    Token(TokenCommand),
    #[command(flatten)]
    Client(client::Command),
}

/// What can be done with tokens.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, this once
    Create {
        /// What to call it; each name can be used once
        #[arg(value_parser = token_name)]
        name: String,
        /// What its bearers may do
        #[arg(long, value_enum, default_value_t)]
        role: TokenRole,
        /// Print a JSON object with name, role and token
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        flags: ConfigFlags,
    },
    /// Show all tokens, newest first; not the secrets, which nobody has
    List {
        /// Print a JSON array of objects
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        flags: ConfigFlags,
    },
    /// Take a token back; servers close its connections within a moment
    Revoke {
        /// Its name
        #[arg(value_parser = token_name)]
        name: String,
        #[command(flatten)]
        flags: ConfigFlags,
    },
}

impl TokenCommand {
    /// Flags that say where the database is.
    pub fn flags(&self) -> &ConfigFlags {
        match self {
            Self::Create { flags, .. } | Self::List { flags, .. } | Self::Revoke { flags, .. } => flags,
        }
    }
}

/// What the bearer of a token may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum TokenRole {
    /// Run jobs
    #[default]
    Crawler,
    /// Look on, and run none
    Monitor,
}

impl TokenRole {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crawler => "crawler",
            Self::Monitor => "monitor",
        }
    }
}

/// Longest name of a token, in bytes: that of every name on the wire.
const TOKEN_NAME_BYTES_MAX: usize = 128;

fn token_name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.len() > TOKEN_NAME_BYTES_MAX || text.contains(char::is_control) {
        return Err(format!(
            "a name has 1 to {TOKEN_NAME_BYTES_MAX} bytes and no control characters"
        ));
    }
    Ok(text.to_owned())
}

/// Flags that set something, and the one that names the file.
#[derive(Clone, Default, PartialEq, Eq, Args)]
pub struct ConfigFlags {
    /// Path of the Unix socket that crawlers connect to
    #[arg(long, value_name = "PATH")]
    pub socket: Option<String>,
    /// Also listen on TCP: localhost:8080, tcp://127.0.0.1:8080; beyond this machine with TLS only
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Address of the HTTP interface
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<String>,
    /// SQLite or PostgreSQL; give one with a password by file or environment, other users can read flags
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Directory for the server's own files
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Configuration file, in TOML
    #[arg(long, value_name = "FILE")]
    pub config: Option<String>,
    /// Built-in values to start from: development, production or test
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Least important messages to log: debug, info, warn or error
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

impl ConfigFlags {
    /// The flags given, by name with dashes, as [`crate::config::Inputs`] takes them.
    pub fn given(&self) -> BTreeMap<&'static str, String> {
        let all = [
            ("--socket", &self.socket),
            ("--listen", &self.listen),
            ("--http", &self.http),
            ("--database-url", &self.database_url),
            ("--data-dir", &self.data_dir),
            ("--config", &self.config),
            ("--profile", &self.profile),
            ("--log-level", &self.log_level),
        ];
        all.into_iter()
            .filter_map(|(name, value)| value.clone().map(|value| (name, value)))
            .collect()
    }
}

/// Names only: the database URL may hold a password.
impl std::fmt::Debug for ConfigFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ConfigFlags").field(&self.given().keys()).finish()
    }
}

/// Arguments of `validate`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ValidateArgs {
    /// Who sends the messages
    #[arg(long, value_enum, default_value_t = Direction::Crawler)]
    pub direction: Direction,
    /// Which dialect the connection speaks: session when it began with a hello
    #[arg(long, value_enum, default_value_t)]
    pub dialect: SpokenDialect,
    /// File to read; standard input when there is none, or when it is `-`
    pub file: Option<PathBuf>,
}

/// Runs `crawlwire config`: the configuration on `out`, warnings or else all problems on `err`. Returns the exit status.
///
/// # Errors
/// Those of writing.
pub fn show_config(flags: &ConfigFlags, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    match Config::load(flags.given()) {
        Ok((config, warnings)) => {
            write!(out, "{config}")?;
            for warning in warnings {
                writeln!(err, "warning: {warning}")?;
            }
            Ok(0)
        }
        Err(errors) => {
            writeln!(err, "{errors}")?;
            Ok(EXIT_INVALID)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split_whitespace()).map(Cli::into_command)
    }

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_command_when_none_is_named() {
        let flags = ConfigFlags {
            socket: Some("/x".to_owned()),
            ..ConfigFlags::default()
        };
        assert_eq!(parse("crawlwire").unwrap(), Command::Serve(ConfigFlags::default()));
        assert_eq!(parse("crawlwire --socket /x").unwrap(), Command::Serve(flags.clone()));
        assert_eq!(
            parse("crawlwire serve --socket /x").unwrap(),
            Command::Serve(flags.clone())
        );
        assert_eq!(parse("crawlwire config --socket /x").unwrap(), Command::Config(flags));
    }

    #[test]
    fn validate_takes_direction_dialect_and_file() {
        let args = |direction, dialect, file: Option<&str>| {
            Command::Validate(ValidateArgs {
                direction,
                dialect,
                file: file.map(PathBuf::from),
            })
        };
        assert_eq!(
            parse("crawlwire validate").unwrap(),
            args(Direction::Crawler, SpokenDialect::Base, None)
        );
        assert_eq!(
            parse("crawlwire validate --direction web-app -").unwrap(),
            args(Direction::WebApp, SpokenDialect::Base, Some("-"))
        );
        assert_eq!(
            parse("crawlwire validate --dialect session f.ndjson").unwrap(),
            args(Direction::Crawler, SpokenDialect::Session, Some("f.ndjson"))
        );
    }

    #[test]
    fn token_takes_an_act_a_name_and_where_the_database_is() {
        let Command::Token(command) = parse("crawlwire token create eu-1 --role monitor --data-dir /d --json").unwrap()
        else {
            panic!("another command");
        };
        assert_eq!(command.flags().data_dir.as_deref(), Some("/d"));
        let TokenCommand::Create { name, role, json, .. } = command else {
            panic!("another act");
        };
        assert_eq!((name.as_str(), role, json), ("eu-1", TokenRole::Monitor, true));
        let Command::Token(TokenCommand::Create { role, json, .. }) = parse("crawlwire token create eu-1").unwrap()
        else {
            panic!("another act");
        };
        assert_eq!((role, json), (TokenRole::Crawler, false));
        let long = "x".repeat(TOKEN_NAME_BYTES_MAX);
        for (name, fits) in [
            ("", false),
            (" ", false),
            ("a\nb", false),
            (&*long, true),
            (&*format!("{long}x"), false),
        ] {
            let parsed = Cli::try_parse_from(["crawlwire", "token", "revoke", name]);
            assert_eq!(parsed.is_ok(), fits, "{name:?}");
        }
    }

    #[test]
    fn what_is_not_on_the_list_exits_with_2() {
        for line in [
            "crawlwire --sokcet /x",
            "crawlwire fly",
            "crawlwire --socket",
            "crawlwire validate --socket /x",
            "crawlwire token",
            "crawlwire token create",
            "crawlwire token create a --role king",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), i32::from(EXIT_INVALID), "{line}");
        }
    }

    #[test]
    fn a_wrong_value_is_left_to_the_configuration() {
        let (out, err, status) = config(&["--log-level", "loud", "--listen", "0.0.0.0:1", "--profile", "x"]);
        assert_eq!((out.as_str(), status), ("", EXIT_INVALID));
        for part in ["--log-level: log_level: ", "--listen: host: ", "--profile: profile: "] {
            assert!(err.contains(part), "{part} is missing in {err}");
        }
    }

    /// What `config` prints on both streams, and its status.
    fn config(line: &[&str]) -> (String, String, u8) {
        let flags = Cli::try_parse_from(["crawlwire", "config"].iter().chain(line))
            .unwrap()
            .into_command();
        let Command::Config(flags) = flags else {
            panic!("another command")
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = show_config(&flags, &mut out, &mut err).unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), status)
    }

    #[test]
    fn config_shows_values_with_their_origin() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.toml");
        let path = path.to_str().unwrap();
        std::fs::write(path, "backlog = 64\nsocket_mode = '0666'\n").unwrap();
        let (out, err, status) = config(&[
            "--config",
            path,
            "--socket",
            "/s",
            "--data-dir",
            "/d",
            "--profile",
            "test",
        ]);
        assert_eq!(status, 0, "{err}");
        assert!(out.contains(&format!("backlog = 64  # {path}:1:11\n")), "{out}");
        assert!(out.contains("socket_path = \"/s\"  # --socket\n"), "{out}");
        assert!(err.contains(&format!("warning: {path}:2:15: socket_mode: ")), "{err}");
    }

    #[test]
    fn an_unreadable_file_is_listed_with_the_other_problems() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("none.toml");
        let large = directory.path().join("large.toml");
        std::fs::write(&large, "#".repeat(300_000)).unwrap();
        for path in [&missing, &large, &directory.path().to_owned()] {
            let (out, err, status) = config(&["--config", path.to_str().unwrap(), "--http", "x"]);
            assert_eq!((out.as_str(), status), ("", EXIT_INVALID));
            assert!(
                err.contains(&format!("error: --config: cannot read {}: ", path.display())),
                "{err}"
            );
            assert!(err.contains("error: --http: http_addr: "), "{err}");
        }
    }

    #[test]
    fn every_flag_of_the_table_exists_and_the_other_way_round() {
        use crate::config::Setting;
        let mut in_table: Vec<&str> = Setting::all().filter_map(|setting| setting.flag).collect();
        in_table.push("--config");
        in_table.sort_unstable();
        in_table.dedup();
        let command = Cli::command();
        let mut in_cli: Vec<String> = command
            .get_arguments()
            .filter_map(|argument| argument.get_long())
            .filter(|name| !matches!(*name, "help" | "version"))
            .map(|name| format!("--{name}"))
            .collect();
        in_cli.sort_unstable();
        assert_eq!(in_cli, in_table);

        // And each of them arrives under its own name.
        for flag in in_cli {
            let Command::Serve(flags) = parse(&format!("crawlwire {flag} value")).unwrap() else {
                panic!("another command");
            };
            assert_eq!(flags.given(), BTreeMap::from([(flag.as_str(), "value".to_owned())]));
        }
    }

    #[test]
    fn debug_output_hides_the_database_password() {
        let cli = Cli::try_parse_from(["crawlwire", "--database-url", "postgres://u:hunter2@h/d"]).unwrap();
        assert!(!format!("{cli:?}").contains("hunter2"));
    }
}
