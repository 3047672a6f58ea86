//! Logs: structured, to standard error; colour on terminals only.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogLevel;

/// Starts logging at a level. What libraries say of their inner workings is kept out below a warning; `RUST_LOG` replaces
/// the whole filter.
///
/// # Errors
/// When logging was started before in this process.
pub fn start(level: LogLevel) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let level = level.as_str();
    let own = ["server", "router", "transport", "persistence", "progress", "protocol"]
        .map(|name| format!("crawlwire_{name}={level}"))
        .join(",");
    let ours = format!("warn,crawlwire={level},{own}");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(ours));
    let terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(terminal)
        .with_writer(std::io::stderr)
        .try_init()
}
