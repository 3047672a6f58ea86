//! What may be said on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Crawls the git repositories below a folder for a crawlwire server.
///
/// It connects to the server's Unix socket and needs git 2.33 or later. Give it work by submitting a
/// discover_namespaces job; what that finds comes back as further jobs. Killed and started again with the same --out, it
/// goes on with the jobs it had. It works with servers that only know the base protocol, too.
#[derive(Debug, Clone, Parser)]
#[command(name = "git_crawler", after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// Folder to crawl; nothing outside is ever read
    #[arg(long, value_name = "DIR")]
    pub(crate) root: PathBuf,
    /// The server's Unix socket [default: $SOCKET_PATH, else /tmp/crawler-socket.sock]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Folder for the files it writes; may not lie inside a repository below the root. One crawler at a time may use it,
    /// unless they are told --no-instance
    #[arg(long, value_name = "DIR", default_value_os_t = default_out())]
    pub(crate) out: PathBuf,
    /// Be a new crawler at each start: jobs of an earlier one go to others when their leases end
    #[arg(long)]
    pub(crate) no_instance: bool,
    /// Stop when no assignment came for a while, once there was work and nothing is left in hand
    #[arg(long)]
    pub(crate) once: bool,
    /// How long that while is
    #[arg(long, value_name = "MS", default_value = "5000", value_parser = millis)]
    pub(crate) once_idle_ms: Duration,
    /// Jobs done at the same time
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) jobs: u8,
    /// Time between heartbeats, for a server that only knows the base protocol; others name their own
    #[arg(long, value_name = "MS", default_value = "10000", value_parser = millis)]
    pub(crate) heartbeat_ms: Duration,
    /// Pause after every 100 entities, after every repository, and between kinds of entities
    #[arg(long, value_name = "MS", default_value = "0", value_parser = millis)]
    pub(crate) slow_ms: Duration,
    /// How long to go without a server before giving up
    #[arg(long, value_name = "MS", default_value = "60000", value_parser = millis)]
    pub(crate) patience_ms: Duration,
    /// Print nothing on standard output
    #[arg(long)]
    pub(crate) quiet: bool,
}

const AFTER_HELP: &str = "\
Exit status: 0 when it ended as asked; 1 when it could not begin, when it went without a server for too long or was not \
wanted there, or with --once when a job failed; 2 when the command line is not valid; 130 when it was told to stop twice.";

/// Whole milliseconds, at most a day.
fn millis(text: &str) -> Result<Duration, String> {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    match text.parse() {
        Ok(millis) if millis <= DAY => Ok(Duration::from_millis(millis)),
        _ => Err(format!("expected whole milliseconds from 0 to {DAY}")),
    }
}

/// Not the current folder: that may well be a repository that is to be crawled.
pub(crate) fn default_out() -> PathBuf {
    std::env::temp_dir().join("git_crawler-out")
}
