//! One repository, read with the installed git.
//!
//! Only plumbing commands are run, each with an explicit `--git-dir`, so that a broken repository is never mistaken for
//! the one around it, and in an environment of our own, so that nobody's configuration changes the output. These
//! commands run no hooks, filters or pagers; fetching what a partial clone lacks is forbidden.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use crate::failure::Failure;
use crate::output::Fnv;

/// Longest record kept of git's output: a commit's subject has no limit of its own. The rest of the record is dropped.
const RECORD_BYTES_MAX: usize = 1024 * 1024;

/// How much of what git says on standard error is kept: the first complaint is the one that matters.
const COMPLAINT_BYTES_MAX: u64 = 2048;

/// A commit in one line of fields with NUL between them, which no field can contain. Names and e-mail addresses are as
/// recorded, not as a mailmap would have them.
const COMMIT_FORMAT: &str = "--format=%H%x00%P%x00%an%x00%ae%x00%aI%x00%cn%x00%ce%x00%cI%x00%s";

const BRANCH_FORMAT: &str = "--format=%(refname:strip=2)%00%(objectname)%00%(committerdate:iso-strict)";

const TAG_FORMAT: &str = "--format=%(refname:strip=2)%00%(objectname)%00%(*objectname)%00%(creatordate:iso-strict)";

/// What a folder is to git.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A repository: a working tree with its `.git` folder, or a bare one.
    Repository(Repository),
    /// Part of a repository that lies somewhere else; the reason says so.
    Linked(&'static str),
    /// Just a folder.
    Folder,
}

/// Looks at a folder without asking git.
pub(crate) fn look(folder: &Path) -> Kind {
    let dot_git = folder.join(".git");
    match fs::symlink_metadata(&dot_git) {
        Ok(found) if found.is_dir() => return Kind::Repository(Repository { git_dir: dot_git }),
        Ok(found) if found.is_file() => {
            return Kind::Linked("a linked working tree or submodule: its repository lies elsewhere");
        }
        Ok(_) => return Kind::Linked("its .git is a symbolic link: its repository lies elsewhere"),
        Err(_) => {}
    }
    let is_bare = folder.join("HEAD").is_file() && folder.join("objects").is_dir() && folder.join("refs").is_dir();
    if is_bare {
        Kind::Repository(Repository {
            git_dir: folder.to_owned(),
        })
    } else {
        Kind::Folder
    }
}

/// What is installed, as it calls itself.
///
/// # Errors
/// When git cannot be run.
pub(crate) fn installed() -> io::Result<String> {
    let output = git().arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn git() -> Command {
    let mut command = Command::new("git");
    command.env_clear();
    command.envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
    for (name, value) in [
        ("LC_ALL", "C"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_NO_LAZY_FETCH", "1"),
    ] {
        command.env(name, value);
    }
    command.args(["--no-pager", "-c", "protocol.allow=never"]);
    command.stdin(Stdio::null());
    command
}

/// A repository that looks like one; whether git can read it shows at the first command.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    git_dir: PathBuf,
}

impl Repository {
    /// Commits reachable from any ref or HEAD.
    pub(crate) fn count_commits(&self) -> Result<u64, Failure> {
        let mut records = self.run(&["rev-list", "--count", "--all"], b'\n')?;
        let count = records.next()?.map(|line| text(line).parse());
        records.finish()?;
        match count {
            Some(Ok(count)) => Ok(count),
            _ => Err(Failure::git(&self.git_dir, "the number of commits is no number", false)),
        }
    }

    /// The same commits, newest first; see [`Commit`](crate::record::Commit).
    pub(crate) fn commits(&self) -> Result<Records, Failure> {
        self.rev_list(COMMIT_FORMAT)
    }

    /// The author's e-mail address of each of them.
    pub(crate) fn author_emails(&self) -> Result<Records, Failure> {
        self.rev_list("--format=%ae")
    }

    fn rev_list(&self, format: &str) -> Result<Records, Failure> {
        let arguments = ["rev-list", "--all", "--no-commit-header", "--encoding=UTF-8", format];
        self.run(&arguments, b'\n')
    }

    /// Local branches; branches remembered of other repositories do not count.
    pub(crate) fn branches(&self) -> Result<Records, Failure> {
        self.run(&["for-each-ref", BRANCH_FORMAT, "refs/heads"], b'\n')
    }

    /// Tags of both kinds.
    pub(crate) fn tags(&self) -> Result<Records, Failure> {
        self.run(&["for-each-ref", TAG_FORMAT, "refs/tags"], b'\n')
    }

    /// Files of the commit that HEAD names; none when it names no commit yet.
    pub(crate) fn files(&self) -> Result<Option<Records>, Failure> {
        if self.head()?.is_none() {
            return Ok(None);
        }
        self.run(&["ls-tree", "-r", "-z", "--long", "--full-tree", "HEAD"], 0)
            .map(Some)
    }

    /// The commit that HEAD names, if it does.
    fn head(&self) -> Result<Option<Vec<u8>>, Failure> {
        let output = self
            .command(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])
            .output()
            .map_err(|error| Failure::io("git", &error))?;
        Ok(output.status.success().then_some(output.stdout))
    }

    /// Another text when any ref or HEAD is another one, and with them what there is to crawl.
    pub(crate) fn fingerprint(&self) -> Result<String, Failure> {
        let mut refs = self.run(&["for-each-ref", "--format=%(objectname) %(refname)"], b'\n')?;
        let mut hash = Fnv::default();
        while let Some(line) = refs.next()? {
            hash.add(line);
            hash.add(b"\n");
        }
        hash.add(&self.head()?.unwrap_or_default());
        Ok(hash.to_string())
    }

    /// Bytes that its objects take, to the kibibyte.
    pub(crate) fn size_bytes(&self) -> Result<u64, Failure> {
        let mut records = self.run(&["count-objects", "-v"], b'\n')?;
        let mut kibibytes = 0_u64;
        while let Some(line) = records.next()? {
            if let Some((b"size" | b"size-pack", number)) = split_once(line, b':') {
                kibibytes = kibibytes.saturating_add(text(number).trim().parse().unwrap_or(0));
            }
        }
        Ok(kibibytes.saturating_mul(1024))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = git();
        command.arg("--git-dir").arg(&self.git_dir).args(arguments);
        command.current_dir(&self.git_dir);
        command
    }

    fn run(&self, arguments: &[&str], delimiter: u8) -> Result<Records, Failure> {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| Failure::io("git", &error))?;
        let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Failure::io("git", &io::Error::other("no pipe")));
        };
        // A thread of its own: git would stop at a full pipe that nobody reads.
        let complaint = std::thread::Builder::new()
            .spawn(move || read_complaint(errors))
            .map_err(|error| Failure::io("thread", &error))?;
        Ok(Records {
            git_dir: self.git_dir.clone(),
            child,
            output: BufReader::with_capacity(64 * 1024, output),
            complaint: Some(complaint),
            delimiter,
            record: Vec::new(),
        })
    }
}

fn read_complaint(mut errors: impl Read) -> String {
    let mut kept = Vec::new();
    // What cannot be read here is only a worse explanation.
    let _ = errors.by_ref().take(COMPLAINT_BYTES_MAX).read_to_end(&mut kept);
    let _ = io::copy(&mut errors, &mut io::sink());
    String::from_utf8_lossy(&kept).trim().to_owned()
}

/// Records of a running git, one at a time. Dropping it ends git.
pub(crate) struct Records {
    git_dir: PathBuf,
    child: Child,
    output: BufReader<ChildStdout>,
    complaint: Option<JoinHandle<String>>,
    delimiter: u8,
    record: Vec<u8>,
}

impl Records {
    /// The next record without its delimiter; `None` at the end, once git has ended well.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        let found = read_record(&mut self.output, self.delimiter, &mut self.record)
            .map_err(|error| Failure::io("git's output", &error))?;
        if found {
            return Ok(Some(&self.record));
        }
        self.finish()?;
        Ok(None)
    }

    /// Reads to the end and asks how git ended. Asking twice is fine.
    fn finish(&mut self) -> Result<(), Failure> {
        let ended = io::copy(&mut self.output, &mut io::sink()).and_then(|_| self.child.wait());
        let status = ended.map_err(|error| Failure::io("git", &error))?;
        let complaint = self.complaint.take().and_then(|thread| thread.join().ok());
        if status.success() {
            return Ok(());
        }
        let said = complaint
            .filter(|said| !said.is_empty())
            .unwrap_or_else(|| format!("git ended with {status}"));
        Err(Failure::git(&self.git_dir, &said, status.code().is_none()))
    }

    /// Passes over this many records. Says whether there were as many.
    pub(crate) fn skip(&mut self, count: u64) -> Result<bool, Failure> {
        for _ in 0..count {
            if self.next()?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How many records there are.
    pub(crate) fn count(mut self) -> Result<u64, Failure> {
        let mut count = 0;
        while self.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        // Both fail when git has ended, which is the usual case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads up to and including the delimiter; says whether there was anything.
fn read_record(input: &mut impl BufRead, delimiter: u8, record: &mut Vec<u8>) -> io::Result<bool> {
    record.clear();
    let mut any = false;
    loop {
        let chunk = match input.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = chunk.iter().position(|byte| *byte == delimiter);
        let length = end.unwrap_or(chunk.len());
        let room = RECORD_BYTES_MAX.saturating_sub(record.len());
        record.extend_from_slice(&chunk[..length.min(room)]);
        input.consume(length + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(true);
        }
    }
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The parts before and after the first `separator`.
pub(crate) fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == separator)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}
