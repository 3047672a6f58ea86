//! What shells and `man` want to know of the command line. Neither needs a server.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_mangen::Man;

use super::args::Command;
use super::{EXIT_DONE, EXIT_FAILED};
use crate::cli::Cli;

const NAME: &str = "crawlwire";

/// Prints it; the exit status.
pub(crate) fn run(command: &Command) -> u8 {
    let text = match command {
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), NAME, &mut text);
            Ok(text)
        }
        _ => manual(),
    };
    let printed = text.and_then(|text| {
        let mut out = io::stdout().lock();
        out.write_all(&text)?;
        out.flush()
    });
    match printed {
        Ok(()) => EXIT_DONE,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => EXIT_DONE,
        Err(_) => EXIT_FAILED,
    }
}

/// One page for all commands: the program's own, then a part for each command.
fn manual() -> io::Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    parts(&command, NAME, &mut page)?;
    Ok(page)
}

fn parts(command: &clap::Command, path: &str, page: &mut Vec<u8>) -> io::Result<()> {
    for part in command.get_subcommands().filter(|part| part.get_name() != "help") {
        let path = format!("{path} {}", part.get_name());
        let mut text = Vec::new();
        let man = Man::new(part.clone());
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        if part.get_arguments().any(|argument| !argument.is_hide_set()) {
            man.render_options_section(&mut text)?;
        }
        // A section of a page of its own is a part of a section here.
        let text = String::from_utf8_lossy(&text).replace("\n.SH ", "\n.SS ");
        let text = text
            .strip_prefix(".SH ")
            .map(|rest| format!(".SS {rest}"))
            .unwrap_or(text);
        write!(page, ".SH \"{}\"\n{text}", path.to_uppercase())?;
        parts(part, &path, page)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_every_command() {
        let page = String::from_utf8(manual().unwrap()).unwrap();
        assert_eq!(page.matches("\n.TH ").count(), 1);
        for name in ["SERVE", "TOKEN CREATE", "JOBS", "WATCH", "SUBMIT"] {
            assert!(page.contains(&format!(".SH \"CRAWLWIRE {name}\"\n")), "{name}");
        }
        assert!(page.contains("\\-\\-token\\-file"), "{page}");
    }
}
