//! What git prints about one entity, and what is written about it: one JSON object per line.

use std::borrow::Cow;

use serde::Serialize;

use crate::repository::split_once;

/// A commit. Text that is not UTF-8 comes with replacement characters.
#[derive(Debug, Serialize)]
pub(crate) struct Commit<'a> {
    /// The repository, where one file speaks of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<&'a str>,
    sha: Cow<'a, str>,
    parents: Vec<Cow<'a, str>>,
    pub(crate) author: Person<'a>,
    committer: Person<'a>,
    subject: Cow<'a, str>,
}

/// Who did something, and when (RFC 3339).
#[derive(Debug, Serialize)]
pub(crate) struct Person<'a> {
    name: Cow<'a, str>,
    pub(crate) email: Cow<'a, str>,
    date: Cow<'a, str>,
}

impl<'a> Commit<'a> {
    /// Reads a record of `Repository::commits`. A field that is not there is empty.
    pub(crate) fn read(record: &'a [u8]) -> Self {
        // The subject comes last and takes the rest.
        let mut fields = Fields::of(record, 9);
        Self {
            project: None,
            sha: fields.next(),
            parents: words(fields.next_bytes()),
            author: Person::read(&mut fields),
            committer: Person::read(&mut fields),
            subject: fields.next(),
        }
    }
}

impl<'a> Person<'a> {
    fn read(fields: &mut Fields<'a>) -> Self {
        Self {
            name: fields.next(),
            email: fields.next(),
            date: fields.next(),
        }
    }
}

/// A local branch.
#[derive(Debug, Serialize)]
pub(crate) struct Branch<'a> {
    name: Cow<'a, str>,
    sha: Cow<'a, str>,
    committed_at: Cow<'a, str>,
}

impl<'a> Branch<'a> {
    /// Reads a record of `Repository::branches`.
    pub(crate) fn read(record: &'a [u8]) -> Self {
        let mut fields = Fields::of(record, 3);
        Self {
            name: fields.next(),
            sha: fields.next(),
            committed_at: fields.next(),
        }
    }
}

/// A tag. `target` is what an annotated tag points to, and empty for others.
#[derive(Debug, Serialize)]
pub(crate) struct Tag<'a> {
    name: Cow<'a, str>,
    sha: Cow<'a, str>,
    target: Cow<'a, str>,
    created_at: Cow<'a, str>,
}

impl<'a> Tag<'a> {
    /// Reads a record of `Repository::tags`.
    pub(crate) fn read(record: &'a [u8]) -> Self {
        let mut fields = Fields::of(record, 4);
        Self {
            name: fields.next(),
            sha: fields.next(),
            target: fields.next(),
            created_at: fields.next(),
        }
    }
}

/// A file of a tree. A submodule is a file of the kind `commit`.
#[derive(Debug, Serialize)]
pub(crate) struct File<'a> {
    path: Cow<'a, str>,
    /// The name on disk is not UTF-8, so `path` differs from it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    path_is_lossy: bool,
    mode: Cow<'a, str>,
    kind: Cow<'a, str>,
    sha: Cow<'a, str>,
    /// Bytes; none for a submodule.
    size: Option<u64>,
}

impl<'a> File<'a> {
    /// Reads a record of `Repository::files`: words, a tab, and the path as it is.
    pub(crate) fn read(record: &'a [u8]) -> Self {
        let (about, path) = split_once(record, b'\t').unwrap_or((record, b""));
        let mut about = words(about).into_iter();
        let mut next = || about.next().unwrap_or_default();
        let path = String::from_utf8_lossy(path);
        Self {
            path_is_lossy: matches!(path, Cow::Owned(_)),
            path,
            mode: next(),
            kind: next(),
            sha: next(),
            size: next().parse().ok(),
        }
    }
}

/// The fields of a record, NUL between them.
struct Fields<'a>(std::slice::SplitN<'a, u8, fn(&u8) -> bool>);

impl<'a> Fields<'a> {
    fn of(record: &'a [u8], count: usize) -> Self {
        let is_nul: fn(&u8) -> bool = |byte| *byte == 0;
        Self(record.splitn(count, is_nul))
    }

    fn next_bytes(&mut self) -> &'a [u8] {
        self.0.next().unwrap_or_default()
    }

    fn next(&mut self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.next_bytes())
    }
}

fn words(bytes: &[u8]) -> Vec<Cow<'_, str>> {
    bytes
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty())
        .map(String::from_utf8_lossy)
        .collect()
}
