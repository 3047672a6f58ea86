//! The `crawlwire` binary.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use crawlwire_server::cli::{self, Cli, Command, ConfigFlags, EXIT_INVALID, TokenCommand, ValidateArgs};
use crawlwire_server::config::Config;
use crawlwire_server::token::{self, TokenError};
use crawlwire_server::{Server, client, telemetry, validate};
use tokio::signal::unix::{SignalKind, signal};

/// Exit status when a second signal cuts the stop short, as a shell gives it to an interrupted program.
const EXIT_IMPATIENT: u8 = 130;

/// Exit status when a token was made and could not be shown: unlike after other failures, its name is used up.
const EXIT_UNSEEN: u8 = 3;

/// Exit status when input cannot be read.
const EXIT_UNREADABLE: u8 = 2;

fn main() -> ExitCode {
    let done = match Cli::parse().into_command() {
        Command::Serve(flags) => serve(&flags),
        Command::Validate(args) => judge(&args),
        Command::Config(flags) => show_config(&flags),
        Command::Token(command) => tokens(&command),
        Command::Client(command) => Ok(client::run(&command).into()),
    };
    done.unwrap_or_else(|error| {
        // Nobody may be reading; there is nowhere else to say it.
        let _ = writeln!(io::stderr(), "crawlwire: {}", told(&error));
        ExitCode::FAILURE
    })
}

fn show_config(flags: &ConfigFlags) -> anyhow::Result<ExitCode> {
    match cli::show_config(flags, &mut io::stdout().lock(), &mut io::stderr().lock()) {
        Ok(status) => Ok(status.into()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.into()),
    }
}

fn tokens(command: &TokenCommand) -> anyhow::Result<ExitCode> {
    let config = match Config::load(command.flags().given()) {
        Ok((config, _)) => config,
        Err(errors) => {
            writeln!(io::stderr(), "{errors}")?;
            return Ok(EXIT_INVALID.into());
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    match runtime.block_on(token::run(&config, command, &mut out, &mut err)) {
        Err(TokenError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(unseen @ TokenError::Unseen { .. }) => {
            // Nobody may be reading here either.
            let _ = writeln!(io::stderr(), "crawlwire: {unseen}");
            Ok(EXIT_UNSEEN.into())
        }
        done => done.map(|()| ExitCode::SUCCESS).map_err(anyhow::Error::from),
    }
}

fn judge(args: &ValidateArgs) -> anyhow::Result<ExitCode> {
    let output = io::stdout().lock();
    let (dialect, direction) = (args.dialect.into(), args.direction);
    let run = match args.file.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => File::open(path).and_then(|file| validate::run(dialect, direction, BufReader::new(file), output)),
        None => validate::run(dialect, direction, io::stdin().lock(), output),
    };
    match run {
        Ok(outcome) if outcome.invalid == 0 => Ok(ExitCode::SUCCESS),
        Ok(_) => Ok(ExitCode::FAILURE),
        Err(error) => {
            let name = args.file.clone().unwrap_or_else(|| PathBuf::from("standard input"));
            writeln!(io::stderr(), "crawlwire: cannot read {}: {error}", name.display())?;
            Ok(EXIT_UNREADABLE.into())
        }
    }
}

fn serve(flags: &ConfigFlags) -> anyhow::Result<ExitCode> {
    let (config, warnings) = match Config::load(flags.given()) {
        Ok(loaded) => loaded,
        Err(errors) => {
            writeln!(io::stderr(), "{errors}")?;
            return Ok(EXIT_INVALID.into());
        }
    };
    if let Err(error) = telemetry::start(config.logging.level) {
        writeln!(io::stderr(), "crawlwire: logging could not be started: {error}")?;
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    runtime.block_on(run(config))
}

async fn run(config: Config) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut server = Server::builder(config).start().await?;
    // The server runs whether or not somebody reads this.
    let _ = write!(io::stdout(), "{}", server.welcome());
    let failed = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            _ = hangup.recv() => tracing::warn!("SIGHUP: settings are read at the start only; restart to change them"),
            reason = server.failed() => break Some(reason),
        }
    };
    tracing::info!("stopping");
    tokio::select! {
        () = server.stop() => {}
        _ = terminate.recv() => return Ok(EXIT_IMPATIENT.into()),
        _ = interrupt.recv() => return Ok(EXIT_IMPATIENT.into()),
    }
    match failed {
        None => Ok(ExitCode::SUCCESS),
        Some(reason) => Err(anyhow::anyhow!(reason)),
    }
}

/// An error and its causes, each said once: many quote their cause.
fn told(error: &anyhow::Error) -> String {
    let causes = error.chain().skip(1).map(ToString::to_string);
    causes.fold(error.to_string(), |told, cause| {
        if told.contains(&cause) {
            told
        } else {
            format!("{told}: {cause}")
        }
    })
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::told;

    #[test]
    fn a_cause_is_told_once() {
        let quoted = Err::<(), _>(anyhow!("no such file")).context("data.db: no such file");
        assert_eq!(told(&quoted.unwrap_err()), "data.db: no such file");
        let plain = Err::<(), _>(anyhow!("no such file"))
            .context("reading data.db")
            .context("start");
        assert_eq!(told(&plain.unwrap_err()), "start: reading data.db: no such file");
    }
}
