//! What a check found, where, and what to do about it.

use std::fmt;

/// One finding, printed as `file:line: what: remedy`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// Path from the repository root, with forward slashes.
    pub(crate) file: String,
    /// Counted from 1. A finding about a whole file is at line 1.
    pub(crate) line: usize,
    pub(crate) what: String,
    pub(crate) remedy: String,
}

impl Problem {
    pub(crate) fn new(file: &str, line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            what,
            remedy,
        } = self;
        write!(f, "{file}:{line}: {what}: {remedy}")
    }
}

/// Prints every problem and says whether there was none.
pub(crate) fn report(name: &str, mut problems: Vec<Problem>) -> bool {
    problems.sort();
    for problem in &problems {
        println!("{problem}");
    }
    match problems.len() {
        0 => println!("{name}: ok"),
        1 => println!("{name}: 1 problem"),
        n => println!("{name}: {n} problems"),
    }
    problems.is_empty()
}
