//! Colour and width of a terminal, where there is one.

use std::io::IsTerminal;

/// A colour with a meaning; it never is the only sign of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// As the terminal has it.
    None,
    /// What explains or is of little weight.
    Faint,
    /// Well.
    Green,
    /// On its way, or to be looked at.
    Yellow,
    /// Wrong.
    Red,
    /// At work.
    Blue,
}

/// How output is to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    /// Columns there are; none where it is no terminal.
    pub(crate) width: Option<usize>,
    /// Whether colour is wanted.
    pub(crate) colour: bool,
}

impl Paint {
    /// No terminal: whole words, no colour.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self {
            width: None,
            colour: false,
        }
    }

    /// As standard output is.
    pub(crate) fn of_stdout() -> Self {
        let out = std::io::stdout();
        if !out.is_terminal() {
            return Self {
                width: None,
                colour: false,
            };
        }
        let width = terminal_size::terminal_size_of(&out).map(|(width, _)| usize::from(width.0));
        let wanted = |name: &str| std::env::var_os(name).is_none_or(|value| value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            width: width.filter(|columns| *columns > 0),
            colour: wanted("NO_COLOR") && !dumb,
        }
    }

    pub(crate) fn text(self, text: &str, colour: Colour) -> String {
        let code = match colour {
            Colour::None => return text.to_owned(),
            Colour::Faint => 2,
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Red => 31,
            Colour::Blue => 34,
        };
        match self.colour && !text.is_empty() {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }
}

/// The colour of a status, state, activity, severity or verdict.
pub(crate) fn colour_of(word: &str) -> Colour {
    match word {
        "completed" | "healthy" | "ready" | "ok" | "active" => Colour::Green,
        "running" | "assigned" => Colour::Blue,
        "failed" | "lost" | "unhealthy" | "not_ready" | "critical" | "high" | "error" | "problem" => Colour::Red,
        "paused" | "delayed" | "stalled" | "quiet" | "waiting" | "medium" | "warning" | "closing" => Colour::Yellow,
        "cancelled" | "low" | "idle" => Colour::Faint,
        _ => Colour::None,
    }
}
