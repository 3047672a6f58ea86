//! The file of a Unix socket: who may make it, who may use it, and who may delete it.
//!
//! A socket file outlives its server, so the next one has to decide whether the file it finds is
//! alive. Three things together make that safe. A lock on `<path>.lock` is held for the listener's
//! whole life, so that two servers never decide at once. A trial connection tells a server that
//! does not know the lock from a dead file. And only a socket is ever deleted.
//!
//! There is no moment in which strangers could connect: the mode is set between `bind`, which
//! makes the file, and `listen`, before which every connection is refused. Binding under the final
//! name, rather than renaming a finished socket to it, keeps the rule that nothing that exists is
//! ever overwritten: `bind` fails where `rename` would replace.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixSocket, UnixStream};

use crate::listener::{BindError, ListenOptions};

/// Longest path a socket address takes on this system, without the closing NUL.
const PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Mode of a directory this crate has to make (deployment guide, line 550).
const DIRECTORY_MODE: u32 = 0o750;

/// A live server accepts a trial connection at once, even when it is busy: its backlog does.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The socket file of a running listener. Its drop deletes the file if it is still ours.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode of the file we made.
    identity: (u64, u64),
    /// Held, not read. The lock file itself stays behind: deleting it would let two servers hold
    /// locks on two files of the same name.
    _lock: File,
}

impl SocketFile {
    pub(crate) async fn bind(path: &Path, options: &ListenOptions) -> Result<(UnixListener, Self), BindError> {
        // So that the right file is deleted even if the working directory changes.
        let path = &std::path::absolute(path).map_err(|e| failed("resolve", path, e))?;
        let len = path.as_os_str().len();
        if len > PATH_BYTES_MAX {
            return Err(BindError::PathTooLong {
                path: path.clone(),
                len,
                max: PATH_BYTES_MAX,
            });
        }
        if let Some(parent) = path.parent() {
            make_directories(parent, options).map_err(|e| failed("create the directory", parent, e))?;
        }
        let lock = take_lock(path)?;
        remove_if_stale(path).await?;

        let socket = UnixSocket::new_stream().map_err(|e| failed("create", path, e))?;
        socket.bind(path).map_err(|e| match e.kind() {
            io::ErrorKind::AddrInUse => in_use(path, "something was created there just now"),
            _ => failed("bind", path, e),
        })?;
        let metadata = fs::symlink_metadata(path).map_err(|e| failed("inspect", path, e))?;
        // From here on an early return deletes the file again.
        let file = Self {
            path: path.clone(),
            identity: (metadata.dev(), metadata.ino()),
            _lock: lock,
        };
        restrict(path, options.mode, options.group).map_err(|e| failed("set the permissions of", path, e))?;
        let listener = socket
            .listen(options.backlog.max(1))
            .map_err(|e| failed("listen on", path, e))?;
        Ok((listener, file))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|m| m.file_type().is_socket() && (m.dev(), m.ino()) == self.identity);
        if !ours {
            tracing::warn!(path = %self.path.display(), "socket file was replaced or deleted");
        } else if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "could not delete the socket file");
        }
    }
}

/// Makes `directory` and what is missing above it. What exists is left as it is. The depth is
/// bounded by the length of a socket path.
fn make_directories(directory: &Path, options: &ListenOptions) -> io::Result<()> {
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        make_directories(parent, options)?;
    }
    DirBuilder::new().mode(DIRECTORY_MODE).create(directory)?;
    // The umask may have taken bits the socket's group needs.
    restrict(directory, DIRECTORY_MODE, options.group)
}

/// Group first: a mode that grants something to a group must meet the right group.
fn restrict(path: &Path, mode: u32, group: Option<u32>) -> io::Result<()> {
    if group.is_some() {
        chown(path, None, group)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn take_lock(socket: &Path) -> Result<File, BindError> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    // A link planted in a shared directory must not make us create or lock another file.
    if fs::symlink_metadata(&path).is_ok_and(|m| !m.is_file()) {
        return Err(BindError::NotALockFile { path });
    }
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| failed("open the lock file", &path, e))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(in_use(socket, "another server holds its lock file")),
        Err(TryLockError::Error(e)) => Err(failed("lock", &path, e)),
    }
}

/// Deletes a socket file nobody answers on. Only called under the lock.
async fn remove_if_stale(path: &Path) -> Result<(), BindError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed("inspect", path, e)),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket { path: path.to_owned() });
    }
    match tokio::time::timeout(PROBE_TIMEOUT, UnixStream::connect(path)).await {
        Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => {}
        Ok(Err(e)) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        // A full backlog has somebody behind it.
        Ok(Err(e)) if e.kind() != io::ErrorKind::WouldBlock => {
            return Err(failed("find out who uses", path, e));
        }
        Ok(_) | Err(_) => return Err(in_use(path, "another process answers there")),
    }
    tracing::info!(path = %path.display(), "deleting a stale socket file");
    fs::remove_file(path).map_err(|e| failed("delete the stale socket", path, e))
}

fn in_use(path: &Path, found: &'static str) -> BindError {
    BindError::AddressInUse {
        address: path.display().to_string(),
        found,
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> BindError {
    BindError::Io {
        action,
        address: path.display().to_string(),
        source,
    }
}
