//! The real binary at somebody's fingertips.

use std::process::Command;

use crawlwire_persistence::testing::TestDatabase;
use serde_json::Value;

use crate::support::server::BINARY;
use crate::support::{DEADLINE, Setup, TestServer};

/// A name that tries everything: colours, the title of the window, a new line, text from right to left.
pub(crate) const HOSTILE: &str = "\u{1b}[31mred\u{1b}]0;title\u{7}\r\nnext\u{202e}gpj\u{9b}2J";

/// The same, harmless.
pub(crate) const HARMLESS: &str = "\\x1b[31mred\\x1b]0;title\\x07\\r\\nnext\\u{202e}gpj\\x9b2J";

pub(crate) fn server() -> TestServer {
    Setup::new(TestDatabase::sqlite()).start()
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        assert_eq!(self.err, "", "{self:?}");
        self.out
    }

    /// The one document it printed.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A command to this server, without the environment of this machine.
pub(crate) fn command(server: &TestServer, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command
        .env_clear()
        .env("CRAWLWIRE_SERVER", format!("http://{}", server.http))
        .env("USER", "ada")
        .args(arguments);
    command
}

#[track_caller]
pub(crate) fn run(server: &TestServer, arguments: &[&str]) -> Said {
    ended(command(server, arguments), "")
}

/// Runs it to its end, with this on its standard input.
#[track_caller]
pub(crate) fn ended(command: Command, input: &str) -> Said {
    let mut command = assert_cmd::Command::from_std(command);
    let output = command
        .timeout(DEADLINE)
        .write_stdin(input)
        .output()
        .expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Said {
        status: output.status.code().expect("an exit"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}
