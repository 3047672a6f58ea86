//! Files of what was read: newline-delimited JSON, one file per kind of entity, one folder per thing crawled.

use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::repository::{Kind, look};

/// Bytes of a folder's name. File systems allow 255; a longer name is cut and ends in a hash of the whole.
const NAME_BYTES_MAX: usize = 160;

/// Where `out` really lies, whether it is there or not.
///
/// # Errors
/// When a part that is not there yet is followed by `..`, which then has no meaning.
pub(crate) fn locate(out: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(out)?;
    let existing = absolute.ancestors().find(|ancestor| ancestor.exists());
    let existing = existing.unwrap_or(Path::new("/"));
    let missing = absolute.strip_prefix(existing).unwrap_or(Path::new(""));
    if missing.components().any(|part| part == Component::ParentDir) {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "a folder on the way is missing",
        ));
    }
    Ok(fs::canonicalize(existing)?.join(missing))
}

/// The repository at or below `root` that `out` would write into.
pub(crate) fn repository_around(out: &Path, root: &Path) -> Option<PathBuf> {
    out.ancestors()
        .take_while(|ancestor| ancestor.starts_with(root))
        .find(|ancestor| !matches!(look(ancestor), Kind::Folder))
        .map(Path::to_owned)
}

/// The folder for all output.
#[derive(Debug)]
pub(crate) struct Output {
    folder: PathBuf,
}

impl Output {
    /// Makes the folder.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn create(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// Where a crawler that is started again finds who it was. Whoever uses it has the folder for itself.
    pub(crate) fn instance_file(&self) -> PathBuf {
        self.folder.join(".instance")
    }

    fn place(&self, kind: &str, name: &str) -> PathBuf {
        self.folder.join(kind).join(safe_name(name))
    }

    /// The file about one thing, once it is finished: `<kind>/<name>/<file>.ndjson`.
    pub(crate) fn finished(&self, kind: &str, name: &str, file: &str) -> Option<String> {
        let path = self.place(kind, name).join(format!("{file}.ndjson"));
        path.is_file().then(|| path.to_string_lossy().into_owned())
    }

    /// Starts a file about one thing.
    pub(crate) fn file(&self, kind: &str, name: &str, file: &str) -> Result<NdjsonFile, Failure> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let folder = self.place(kind, name);
        fs::create_dir_all(&folder).map_err(|error| Failure::io(folder.display(), &error))?;
        loop {
            // A name of its own: the same thing may be crawled by two jobs at once, and nobody should see half a file.
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let part = folder.join(format!(".{file}.{}-{number}.part", std::process::id()));
            match File::create_new(&part).and_then(locked) {
                Ok(created) => return Ok(NdjsonFile::new(&folder, file, part, created)),
                // What an earlier process of this number has left.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Failure::io(part.display(), &error)),
            }
        }
    }

    /// Goes on with a file where it was marked; what came after that is forgotten. `None` when it is not here any more, or
    /// somebody is still at work on it.
    pub(crate) fn go_on(&self, kind: &str, name: &str, file: &str, mark: &Mark) -> Option<NdjsonFile> {
        // The name was kept by the server: it must not lead anywhere else.
        let is_ours = mark.part.starts_with(&format!(".{file}.")) && !mark.part.contains('/');
        let folder = self.place(kind, name);
        let part = folder.join(is_ours.then_some(&mark.part)?);
        let opened = OpenOptions::new().write(true).open(&part).and_then(locked).ok()?;
        // From here on it vanishes when it is of no use.
        let mut begun = NdjsonFile::new(&folder, file, part, opened);
        begun.cut(mark.bytes).ok()?.then_some(begun)
    }
}

/// The file, locked for as long as it is open: a crawler that lost its job may still be at work on it.
fn locked(file: File) -> io::Result<File> {
    file.try_lock()?;
    Ok(file)
}

/// A place in a file to go on from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Mark {
    part: String,
    bytes: u64,
}

/// A file being written. It gets its name when it is finished; dropped before that, it vanishes.
#[derive(Debug)]
pub(crate) struct NdjsonFile {
    path: PathBuf,
    part: PathBuf,
    writer: BufWriter<File>,
    is_left: bool,
}

impl NdjsonFile {
    fn new(folder: &Path, file: &str, part: PathBuf, opened: File) -> Self {
        Self {
            path: folder.join(format!("{file}.ndjson")),
            part,
            writer: BufWriter::new(opened),
            is_left: false,
        }
    }

    /// Makes durable what was written, and says where that ends.
    pub(crate) fn mark(&mut self) -> Result<Mark, Failure> {
        let flushed = self.writer.flush().and_then(|()| self.writer.get_ref().sync_data());
        let bytes = flushed.and_then(|()| self.writer.get_ref().metadata());
        let bytes = bytes.map_err(|error| self.failure(&error))?.len();
        let part = self.part.file_name().unwrap_or_default().to_string_lossy();
        Ok(Mark {
            part: part.into_owned(),
            bytes,
        })
    }

    /// Forgets what comes after so many bytes. Says whether there were as many.
    fn cut(&mut self, bytes: u64) -> io::Result<bool> {
        let file = self.writer.get_mut();
        let is_whole = file.metadata()?.len() >= bytes;
        file.set_len(bytes)?;
        file.seek(SeekFrom::Start(bytes))?;
        Ok(is_whole)
    }

    /// Leaves it unfinished, for somebody to go on with.
    pub(crate) fn leave(mut self) {
        self.is_left = true;
    }

    /// Adds a line.
    pub(crate) fn write(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let written = serde_json::to_writer(&mut self.writer, value).map_err(io::Error::from);
        written
            .and_then(|()| self.writer.write_all(b"\n"))
            .map_err(|error| self.failure(&error))
    }

    /// Gives the file its name and says it.
    pub(crate) fn finish(mut self) -> Result<String, Failure> {
        let finished = self.writer.flush().and_then(|()| fs::rename(&self.part, &self.path));
        finished.map_err(|error| self.failure(&error))?;
        Ok(self.path.to_string_lossy().into_owned())
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::io(self.path.display(), error)
    }
}

impl Drop for NdjsonFile {
    fn drop(&mut self) {
        if !self.is_left {
            // Gone already when the file was finished.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// A name for a folder that says which entity it is about: different entities have different names, and none means
/// anything to a file system or a shell.
fn safe_name(name: &str) -> String {
    if name.is_empty() {
        return "%".to_owned();
    }
    let mut safe = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        let harmless = byte.is_ascii_alphanumeric() || b"-_@+".contains(&byte) || (byte == b'.' && index > 0);
        if harmless {
            safe.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(safe, "%{byte:02X}");
        }
    }
    if safe.len() > NAME_BYTES_MAX {
        safe.truncate(NAME_BYTES_MAX - 17);
        let mut hash = Fnv::default();
        hash.add(name.as_bytes());
        let _ = write!(safe, "~{hash}");
    }
    safe
}

/// FNV-1a, 64 bits: the same in every run and on every machine.
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        self.0 = bytes.iter().fold(self.0, mix);
    }
}

impl fmt::Display for Fnv {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_harmless_and_differ() {
        let long = "a/".repeat(2000);
        let longer = format!("{long}b");
        let names = [
            "", ".", "..", "a/b", "a%2Fb", "a b", "ä", "-x", "a~b", "a\0b", &long, &longer,
        ];
        let mut safe: Vec<String> = names.iter().map(|name| safe_name(name)).collect();
        for name in &safe {
            assert!(
                name.len() <= NAME_BYTES_MAX && !name.starts_with('.') && !name.contains(['/', '\0', ' ']),
                "{name}"
            );
        }
        safe.sort_unstable();
        safe.dedup();
        assert_eq!(safe.len(), names.len());
    }
}
