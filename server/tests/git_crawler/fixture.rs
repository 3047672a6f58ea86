//! Real repositories, made with the installed git.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

pub(crate) const ANN: &str = "ann@example.com";
pub(crate) const BOB: &str = "bob@example.com";

/// A folder with a root to crawl, a place for output, and room beside both.
pub(crate) struct Fixture {
    directory: TempDir,
}

impl Fixture {
    /// An empty root.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        Self { directory }
    }

    /// Three repositories: `alpha` with everything, `tools & more/beta.git` bare, `tools & more/deep/empty` without a
    /// commit; and a folder without any.
    pub(crate) fn with_three() -> Self {
        let fixture = Self::new();
        let alpha = fixture.root().join("alpha");
        init(&alpha);
        commit(
            &alpha,
            ANN,
            "first",
            &[("read me.txt", "hello"), ("straße/ünï.txt", "x")],
        );
        git(&alpha, &["tag", "light weight".replace(' ', "-").as_str()]);
        git(&alpha, &["checkout", "-q", "-b", "feature/ä"]);
        commit(
            &alpha,
            BOB,
            "on a branch\n\nwith a body\nof two lines",
            &[("tab\there", "1"), ("new\nline", "2")],
        );
        git(&alpha, &["checkout", "-q", "main"]);
        commit(
            &alpha,
            ANN,
            "second \"quoted\" \\ subject",
            &[("read me.txt", "changed")],
        );
        git(
            &alpha,
            &[
                "-c",
                "user.name=Bob",
                "-c",
                "user.email=bob@example.com",
                "tag",
                "-a",
                "-m",
                "a tag",
                "v1.0",
            ],
        );
        git(
            &alpha,
            &[
                "-c",
                "user.name=A",
                "-c",
                "user.email=m@x",
                "merge",
                "-q",
                "--no-edit",
                "feature/ä",
            ],
        );
        // Reachable from a ref that is neither branch nor tag.
        git(&alpha, &["checkout", "-q", "--detach"]);
        commit(&alpha, BOB, "aside", &[("aside", "")]);
        git(&alpha, &["update-ref", "refs/elsewhere/x", "HEAD"]);
        git(&alpha, &["checkout", "-q", "main"]);
        // A mailmap would make one author of two; the crawler does not ask it.
        commit(
            &alpha,
            ANN,
            "mailmap",
            &[(".mailmap", "Ann <ann@example.com> <bob@example.com>\n")],
        );

        let tools = fixture.root().join("tools & more");
        fs::create_dir_all(tools.join("nothing here/really")).unwrap();
        git(&tools, &["clone", "-q", "--bare", alpha.to_str().unwrap(), "beta.git"]);
        init(&tools.join("deep/empty"));
        fixture
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.beside("root")
    }

    /// Unfinished files of a crawler that writes to `out`.
    pub(crate) fn parts(&self) -> Vec<String> {
        let mut parts = Vec::new();
        let mut folders = vec![self.beside("out")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "part") {
                    parts.push(path.to_str().unwrap().to_owned());
                }
            }
        }
        parts
    }

    /// A path next to the root.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A new repository whose first branch is `main`.
pub(crate) fn init(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    git(folder, &["init", "-q", "-b", "main"]);
}

/// Writes files and commits them.
pub(crate) fn commit(repository: &Path, email: &str, message: &str, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = repository.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    git(repository, &["add", "-A"]);
    let name = format!("user.name={email}");
    let email = format!("user.email={email}");
    git(repository, &["-c", &name, "-c", &email, "commit", "-q", "-m", message]);
}

/// A repository with a commit by each of these addresses, one after the other. It has few files: git writes all of their
/// names with each commit.
pub(crate) fn import(folder: &Path, emails: impl Iterator<Item = String>) {
    init(folder);
    let mut stream = String::new();
    for (number, email) in emails.enumerate() {
        writeln!(
            stream,
            "commit refs/heads/main\ncommitter A B <{email}> {} +0200\ndata <<EOT\ncommit {number}\nEOT\n\
             M 100644 inline file-{}\ndata 1\nx",
            1_700_000_000 + number,
            number % 100
        )
        .unwrap();
    }
    let mut child = command(folder, &["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// What git prints.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = command(folder, arguments).output().unwrap();
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// How many lines git prints.
pub(crate) fn git_lines(folder: &Path, arguments: &[&str]) -> u64 {
    git(folder, arguments).lines().count() as u64
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    command
        .args(["-c", "core.quotePath=false", "-C"])
        .arg(folder)
        .args(arguments);
    command
}
