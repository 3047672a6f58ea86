//! Who is at the other end, as the operating system says; nothing a peer claims is here.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UnixStream;

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A local process.
    Unix(UnixPeer),
    /// A host on a network, or this one.
    Tcp(TcpPeer),
    /// A pipe in this process, in tests.
    Memory,
}

/// Who connected over TCP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TcpPeer {
    /// Its address. It identifies nobody.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Whom its certificate names, as in `CN=crawler-7,O=Example` (RFC 4514), where the server asks
    /// for one and so has verified it. `None` also when that has more than 256 bytes.
    pub subject: Option<Arc<str>>,
}

impl TcpPeer {
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            tls: false,
            subject: None,
        }
    }
}

/// Who may connect to a Unix socket, beyond what its file's mode says. A list of nobody admits
/// nobody; to admit everybody there must be no list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerAllow {
    /// User ids, compared with the peer's effective one.
    pub uids: Vec<u32>,
    /// Group ids, compared with the peer's effective one; the system does not tell of which other
    /// groups the peer is a member.
    pub gids: Vec<u32>,
}

impl PeerAllow {
    /// Whether the peer's user or its group is listed. The administrator is no exception.
    pub fn admits(&self, peer: &UnixPeer) -> bool {
        self.uids.contains(&peer.uid) || self.gids.contains(&peer.gid)
    }
}

/// The process that connected, as it was when it connected (SO_PEERCRED).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnixPeer {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Process id. `None` where the system does not say or the process lives in a pid namespace
    /// this one cannot see.
    pub pid: Option<i32>,
    /// When the process started, in clock ticks since boot: with the pid it names one process,
    /// since pids are reused. `None` off Linux, or when the process was gone before we looked.
    pub process_start: Option<u64>,
}

impl UnixPeer {
    /// Asks the system. Read once, right after accepting: a pid reused later must not count.
    pub(crate) fn of(stream: &UnixStream) -> io::Result<Self> {
        let cred = stream.peer_cred()?;
        let pid = cred.pid().filter(|pid| *pid > 0);
        Ok(Self {
            uid: cred.uid(),
            gid: cred.gid(),
            pid,
            process_start: pid.and_then(process_start),
        })
    }
}

#[cfg(target_os = "linux")]
fn process_start(pid: i32) -> Option<u64> {
    // Made by the kernel in memory, so this does not block like a disk would.
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    start_field(&stat)
}

#[cfg(not(target_os = "linux"))]
fn process_start(_pid: i32) -> Option<u64> {
    None
}

/// Field 22 of a stat line. Field 2 is the command in parentheses and may hold anything, also
/// spaces and parentheses, so counting starts after the last one.
#[cfg(any(target_os = "linux", test))]
fn start_field(stat: &[u8]) -> Option<u64> {
    let stat = String::from_utf8_lossy(stat);
    let (_, fields) = stat.rsplit_once(')')?;
    // The first field after the command is the third.
    fields.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(peer) => {
                write!(f, "unix uid={}", peer.uid)?;
                peer.pid.map_or(Ok(()), |pid| write!(f, " pid={pid}"))
            }
            Self::Tcp(peer) => {
                write!(f, "{} {}", if peer.tls { "tls" } else { "tcp" }, peer.address)?;
                peer.subject
                    .as_ref()
                    .map_or(Ok(()), |subject| write!(f, " {subject:?}"))
            }
            Self::Memory => f.write_str("memory"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_may_hold_anything() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21";
        for command in ["(sh)", "(a b) 1 2 (c)", "()) ) )", "(\u{fffd})"] {
            let stat = format!("42 {command} {tail}\n");
            assert_eq!(start_field(stat.as_bytes()), Some(987_654), "{command}");
        }
        assert_eq!(start_field(b"42 (sh) S 1 2"), None);
        assert_eq!(start_field(b""), None);
    }
}
