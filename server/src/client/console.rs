//! Where output goes, and who may be asked.

use std::io::{self, BufRead, BufWriter, IsTerminal, Write};

use serde_json::Value;

use super::args::Target;
use super::paint::{Colour, Paint};
use super::server::{Refusal, Server, Trouble};
use super::table::Table;
use super::text::{json, shown};
use super::{EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE};

/// What a command works with: the server, both streams, and how output is to look.
pub(crate) struct Console {
    pub(crate) server: Server,
    /// Whether JSON is wanted.
    pub(crate) json: bool,
    pub(crate) paint: Paint,
    pub(crate) out: Box<dyn Write>,
    /// Whether somebody sits there who can be asked.
    attended: bool,
}

impl Console {
    pub(crate) fn new(target: &Target) -> Self {
        Self {
            server: Server::at(&target.server),
            json: target.json,
            paint: Paint::of_stdout(),
            out: Box::new(BufWriter::new(io::stdout())),
            attended: io::stdin().is_terminal() && io::stderr().is_terminal(),
        }
    }

    /// A line of output. What comes from elsewhere must have been made safe.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Trouble> {
        Ok(writeln!(self.out, "{line}")?)
    }

    /// A line with a word in front, as the pages of one thing have them. Its text is made safe here.
    pub(crate) fn field(&mut self, name: &str, text: &str) -> Result<(), Trouble> {
        let name = self.paint.text(&format!("{name:<10}"), Colour::Faint);
        self.line(&format!("{name}  {}", shown(text)))
    }

    pub(crate) fn table(&mut self, table: &mut Table) -> Result<(), Trouble> {
        Ok(table.write(self.paint, &mut self.out)?)
    }

    /// A document, as the API said it or put together from what it said.
    pub(crate) fn document(&mut self, document: &Value) -> Result<(), Trouble> {
        self.line(&json(document))
    }

    /// What is shown at once, since more may take long to come.
    pub(crate) fn flush(&mut self) -> Result<(), Trouble> {
        Ok(self.out.flush()?)
    }

    /// For people beside the output. Nobody may be reading.
    pub(crate) fn note(&self, words: &str) {
        let _ = writeln!(io::stderr(), "{words}");
    }

    /// The same without an end of the line, to be written over.
    pub(crate) fn murmur(&self, words: &str) {
        let _ = write!(io::stderr(), "{words}");
    }

    /// Asks whoever sits there. Where nobody does, the command line has said it.
    pub(crate) fn confirmed(&mut self, question: &str) -> Result<bool, Trouble> {
        if !self.attended {
            return Ok(true);
        }
        self.flush()?;
        write!(io::stderr(), "{question} [y/N] ")?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        let agreed = matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
        if !agreed {
            self.note("Nothing was done.");
        }
        Ok(agreed)
    }

    /// For commands without a server: output could not be written; the exit status.
    pub(crate) fn write_failed(error: &io::Error) -> u8 {
        let _ = writeln!(
            io::stderr(),
            "crawlwire: what there is to say cannot be written: {error}"
        );
        EXIT_FAILED
    }

    /// Says what went wrong and what to do; the exit status.
    pub(crate) fn complain(&mut self, trouble: &Trouble) -> u8 {
        match trouble {
            Trouble::Unreachable { address, reason } => {
                self.note(&format!("crawlwire: no server answers at {address}: {}", shown(reason)));
                self.note("Start one with `crawlwire serve`, or name another one with --server or CRAWLWIRE_SERVER.");
                EXIT_UNREACHABLE
            }
            Trouble::Refused(refusal) => {
                self.refused(refusal);
                EXIT_FAILED
            }
            Trouble::Foreign { address, reason } => {
                self.note(&format!(
                    "crawlwire: what answers at {address} is no crawlwire server: {reason}"
                ));
                EXIT_FAILED
            }
            Trouble::Usage(words) => {
                self.note(&format!("crawlwire: {words}"));
                EXIT_USAGE
            }
            Trouble::Failed(words) => {
                self.note(&format!("crawlwire: {words}"));
                EXIT_FAILED
            }
            Trouble::Output(error) => Self::write_failed(error),
        }
    }

    fn refused(&mut self, refusal: &Refusal) {
        if self.json {
            // Whoever reads JSON wants the code; that nobody reads is not worth another word.
            let _ = self.document(&refusal.document).and_then(|()| self.flush());
        }
        for (number, line) in refusal.lines().into_iter().enumerate() {
            self.note(&if number == 0 {
                format!("crawlwire: {line}")
            } else {
                line
            });
        }
        if let Some(after) = refusal.retry_after {
            self.note(&format!("Try again in {} s.", after.as_secs()));
        }
    }
}
