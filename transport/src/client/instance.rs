//! Which instance of a crawler this is: an id for each start of a process, or one kept in a file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// More than any id with white space around it: a file longer than this is somebody else's.
const FILE_BYTES_MAX: u64 = 256;

/// Why the file of an instance cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another process, or another client of this one, holds the file.
    #[error("{} is held by another crawler", .0.display())]
    Held(PathBuf),
    /// The file holds something that is no instance id. It is left as it is.
    #[error("{} holds no instance id", .0.display())]
    NotAnId(PathBuf),
    /// The file cannot be opened, read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// An instance id, and the file it is kept in. The file is locked as long as this lives.
#[derive(Debug)]
pub(super) struct Instance {
    id: Uuid,
    file: Option<(PathBuf, File)>,
}

impl Instance {
    /// A new instance that ends with the process.
    pub(super) fn fresh() -> Self {
        Self {
            id: Uuid::now_v7(),
            file: None,
        }
    }

    /// An instance whose id is known.
    pub(super) fn named(id: u128) -> Self {
        Self {
            id: Uuid::from_u128(id),
            file: None,
        }
    }

    /// The instance kept in a file, which is made when it is not there. Blocks on the disk.
    pub(super) fn kept(path: &Path) -> Result<Self, InstanceError> {
        let failed = |error| InstanceError::Io {
            path: path.to_owned(),
            error,
        };
        let mut options = OpenOptions::new();
        let mut file = (options.read(true).write(true).create(true).truncate(false))
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(InstanceError::Held(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut text = Vec::new();
        let read = (&mut file).take(FILE_BYTES_MAX).read_to_end(&mut text);
        read.map_err(failed)?;
        let text = text.trim_ascii();
        let mut kept = Self {
            id: Uuid::now_v7(),
            file: Some((path.to_owned(), file)),
        };
        if text.is_empty() {
            kept.write()?;
        } else {
            kept.id = Uuid::try_parse_ascii(text).map_err(|_| InstanceError::NotAnId(path.to_owned()))?;
        }
        Ok(kept)
    }

    pub(super) fn id(&self) -> Uuid {
        self.id
    }

    /// Begins as another instance. Blocks on the disk when there is a file.
    pub(super) fn renew(&mut self) -> Result<(), InstanceError> {
        self.id = Uuid::now_v7();
        self.write()
    }

    fn write(&mut self) -> Result<(), InstanceError> {
        let Some((path, file)) = &mut self.file else {
            return Ok(());
        };
        let text = format!("{}\n", self.id);
        let written = file
            .seek(SeekFrom::Start(0))
            // Shortening first would leave a crash an empty file, which is a new instance too: either order is sound.
            .and_then(|_| file.set_len(0))
            .and_then(|()| file.write_all(text.as_bytes()))
            .and_then(|()| file.sync_all());
        written.map_err(|error| InstanceError::Io {
            path: path.clone(),
            error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_the_instance_and_belongs_to_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("instance");
        let first = Instance::kept(&path).unwrap();
        assert!(matches!(Instance::kept(&path), Err(InstanceError::Held(_))));
        let id = first.id();
        drop(first);
        let mut second = Instance::kept(&path).unwrap();
        assert_eq!(second.id(), id);
        second.renew().unwrap();
        let renewed = second.id();
        assert_ne!(renewed, id);
        drop(second);
        assert_eq!(Instance::kept(&path).unwrap().id(), renewed);
    }

    #[test]
    fn a_file_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        std::fs::write(&path, "buy milk\n").unwrap();
        assert!(matches!(Instance::kept(&path), Err(InstanceError::NotAnId(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "buy milk\n");
        let nowhere = folder.path().join("no/such/folder");
        assert!(matches!(Instance::kept(&nowhere), Err(InstanceError::Io { .. })));
    }
}
