//! The command line: what may be typed, and the `config` command.
//!
//! Values of flags stay text here. They are checked with the rest of the configuration, so that a wrong flag is listed
//! together with every other problem.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Config;
use crate::validate::Direction;

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
    /// Judge messages of the base protocol, one JSON object per line
    Validate(ValidateArgs),
    /// Show every setting, its value and where that comes from, or everything that is wrong
    ///
    /// Changes nothing and connects to nothing, so that a service manager can run it before start and reload.
    #[command(after_help = AFTER_HELP)]
    Config(ConfigFlags),
}

/// Flags that set something, and the one that names the file.
#[derive(Clone, Default, PartialEq, Eq, Args)]
pub struct ConfigFlags {
    /// Path of the Unix socket that crawlers connect to
    #[arg(long, value_name = "PATH")]
    pub socket: Option<String>,
    /// Also listen on TCP, on this machine only: localhost:8080, tcp://127.0.0.1:8080
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
    fn validate_takes_direction_and_file() {
        let args = |direction, file: Option<&str>| {
            Command::Validate(ValidateArgs {
                direction,
                file: file.map(PathBuf::from),
            })
        };
        assert_eq!(parse("crawlwire validate").unwrap(), args(Direction::Crawler, None));
        assert_eq!(
            parse("crawlwire validate --direction web-app -").unwrap(),
            args(Direction::WebApp, Some("-"))
        );
        assert_eq!(
            parse("crawlwire validate f.ndjson").unwrap(),
            args(Direction::Crawler, Some("f.ndjson"))
        );
    }

    #[test]
    fn what_is_not_on_the_list_exits_with_2() {
        for line in [
            "crawlwire --sokcet /x",
            "crawlwire fly",
            "crawlwire --socket",
            "crawlwire validate --socket /x",
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
