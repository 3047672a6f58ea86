//! The repository's own files in memory, so that every check is a function over strings.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// Every file of the repository: path from the root, with forward slashes, to its text.
///
/// Left out are `.git`, symbolic links, folders called `target`, and what the root `.gitignore` names with a
/// leading slash.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the repository below `root`. Bytes that are not UTF-8 are replaced.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let ignore = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
        let ignored: Vec<&str> = ignore.lines().filter_map(|line| line.strip_prefix('/')).collect();
        let mut tree = Self::default();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(root.join(&folder))
                .with_context(|| format!("cannot list {}", root.join(&folder).display()))?;
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let path = join(&folder, &name).unwrap_or_default();
                let kind = entry.file_type()?;
                if name == ".git" || ignored.contains(&path.as_str()) {
                    continue;
                }
                if kind.is_dir() && name != "target" {
                    folders.push(path);
                } else if kind.is_file() {
                    let bytes =
                        fs::read(entry.path()).with_context(|| format!("cannot read {}", entry.path().display()))?;
                    tree.files.insert(path, String::from_utf8_lossy(&bytes).into_owned());
                }
            }
        }
        Ok(tree)
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether a file or folder of this path exists. The empty path is the root.
    pub(crate) fn exists(&self, path: &str) -> bool {
        let below = format!("{path}/");
        path.is_empty()
            || self.files.contains_key(path)
            || self
                .files
                .range(below.clone()..)
                .next()
                .is_some_and(|(next, _)| next.starts_with(&below))
    }

    /// Paths and texts of all files with this extension, in order of path.
    pub(crate) fn with_extension(&self, extension: &str) -> impl Iterator<Item = (&str, &str)> {
        let ending = format!(".{extension}");
        self.all().filter(move |(path, _)| path.ends_with(&ending))
    }

    /// Paths and texts of all files, in order of path.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

impl<P: Into<String>, T: Into<String>> FromIterator<(P, T)> for Tree {
    fn from_iter<I: IntoIterator<Item = (P, T)>>(files: I) -> Self {
        Self {
            files: files
                .into_iter()
                .map(|(path, text)| (path.into(), text.into()))
                .collect(),
        }
    }
}

/// The folder of a path; the empty string for a file at the root.
pub(crate) fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// `relative` as seen from `folder`, without `.` and `..`. `None` when it leaves the repository.
pub(crate) fn join(folder: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(relative.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_paths_have_no_dots() {
        assert_eq!(join("docs", "../README.md").as_deref(), Some("README.md"));
        assert_eq!(join("", "./a/./b.md").as_deref(), Some("a/b.md"));
        assert_eq!(join("docs/a", "..").as_deref(), Some("docs"));
        assert_eq!(join("docs", "../../secret"), None);
    }

    #[test]
    fn folders_exist_through_their_files() {
        let tree = Tree::from_iter([("docs/a/b.md", ""), ("docs.txt", "")]);
        assert!(tree.exists("docs") && tree.exists("docs/a") && tree.exists("docs/a/b.md"));
        assert!(!tree.exists("doc") && !tree.exists("docs/b.md"));
    }

    #[test]
    fn reading_skips_what_git_ignores() {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [
            (".gitignore", "/out\n"),
            (".git/config", ""),
            ("out/x.md", ""),
            ("a/target/x.rs", ""),
            ("a/src/lib.rs", "//! A."),
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let tree = Tree::read(dir.path()).unwrap();
        assert_eq!(
            tree.all().collect::<Vec<_>>(),
            [(".gitignore", "/out\n"), ("a/src/lib.rs", "//! A.")]
        );
    }
}
