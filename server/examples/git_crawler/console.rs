//! What people read: results on standard output, troubles on standard error.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write as _};

/// One line on standard output. A closed pipe is no reason to stop crawling.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{}", Plain(line));
}

/// One line on standard error.
pub(crate) fn warn(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "git_crawler: {}", Plain(line));
}

/// Text without control characters: names come from repositories, and a terminal obeys escape sequences.
struct Plain<T>(T);

impl<T: Display> Display for Plain<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let text = self.0.to_string();
        text.chars()
            .map(|character| {
                if character.is_control() {
                    char::REPLACEMENT_CHARACTER
                } else {
                    character
                }
            })
            .try_for_each(|character| formatter.write_char(character))
    }
}
